"""The API over HTTP, and its process's background work."""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from simulators import _webhooks
from simulators._faults import HttpFaults
from simulators._refusals import LostReply, Refused, Unauthorized
from simulators._requests import LARGEST_BODY, page, read_body, read_raw
from simulators._service import Simulator
from simulators._webhooks import WebhookQueue
from simulators.twilio.callbacks import CallbackSender, queue_callback
from simulators.twilio.messages import ENDED, NUMBER, Messages, Wanted, fate_of, open_messages
from simulators.twilio.refusals import TwilioError, answer_to, missing

VERSION = "2010-04-01"
EARLY_S = 10.0
"""How long an answer waits at most until its callbacks have arrived."""
GSM_ONLY_ROOM, OTHER_ROOM = (160, 153), (70, 67)


@dataclass(slots=True)
class TwilioFaults(HttpFaults):
    step_ms: int = 200
    """Between one status of a message and the next."""
    too_many_next: int = 0
    """429 to this many POSTs, which then have done nothing."""
    callbacks_early: bool = False
    """An answer waits until all callbacks of its message have arrived."""
    callbacks_late_ms: int = 0
    """Waited before each callback."""
    callbacks_twice: bool = False
    callbacks_held: bool = False
    """No callback goes out until this is switched off."""
    callbacks_newest_first: bool = False
    """They go out one by one, the newest of those that wait first."""


class TwilioSimulator(Simulator):
    """Asks for the account and one of its auth tokens (HTTP Basic), and refuses in Twilio's form."""

    credentials: tuple[bytes, ...] = ()

    def answer(self, refusal: Refused) -> Response:
        return answer_to(refusal)

    def _check_key(self, scope: Scope) -> None:
        if self.is_open(scope["path"]):
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not any(hmac.compare_digest(given, right) for right in self.credentials):
            raise Unauthorized


class Api:
    def __init__(
        self, account: str, messages: Messages, queue: WebhookQueue, faults: TwilioFaults, inbound_url: str | None
    ) -> None:
        self._account, self._messages, self._queue, self._faults = account, messages, queue, faults
        self._inbound_url = inbound_url

    def routes(self) -> list[Route]:
        account = f"/{VERSION}/Accounts/{{account}}"
        return [
            Route(f"{account}/Messages.json", self.take, methods=["POST"]),
            Route(f"{account}/Messages.json", self.listing, methods=["GET"]),
            Route(f"{account}/Messages/{{sid}}.json", self.show, methods=["GET"]),
            Route(f"/{VERSION}/Accounts/{{account}}.json", self.account, methods=["GET"]),
            Route("/_control/messages/{sid}/status", self.end, methods=["POST"]),
            Route("/_control/messages", self.books, methods=["GET"]),
            Route("/_control/opt-outs", self.opt_out, methods=["POST"]),
            Route("/_control/opt-outs", self.opt_in, methods=["DELETE"]),
            Route("/_control/callbacks", self.callbacks, methods=["GET"]),
            Route("/_control/ledger", self.totals, methods=["GET"]),
        ]

    async def take(self, request: Request) -> JSONResponse:
        self._check_account(request)
        if self._faults.too_many_next:
            self._faults.too_many_next -= 1
            raise TwilioError(429, 20429, "Too Many Requests")
        row = self._messages.take(await wanted(request))
        await self._tell_first(row["sid"])
        reply = fate_of(row["recipient"]).reply
        if reply == "slow":
            await asyncio.sleep(self._faults.slow_ms / 1000)
        if reply == "lost":
            raise LostReply
        return JSONResponse(shown(row, self._account), 201)

    async def _tell_first(self, sid: str) -> None:
        until = time.monotonic() + EARLY_S
        while self._faults.callbacks_early and time.monotonic() < until:
            self._messages.advance(time.time() + 3600)
            if self._messages.get(sid)["due_at"] is None and not self._queue.status()["pending"]:
                return
            await asyncio.sleep(0.01)

    async def listing(self, request: Request) -> JSONResponse:
        self._check_account(request)
        query = request.query_params
        size, number = whole(query.get("PageSize"), 50, 1000), whole(query.get("Page"), 0, 1_000_000)
        rows = self._messages.listed(query.get("To", ""), query.get("From", ""), size + 1, number * size)
        path = f"/{VERSION}/Accounts/{self._account}/Messages.json"
        following = f"{path}?PageSize={size}&Page={number + 1}" if len(rows) > size else None
        return JSONResponse(
            {
                "messages": [shown(row, self._account) for row in rows[:size]],
                "page": number,
                "page_size": size,
                "start": number * size,
                "end": number * size + len(rows[:size]) - 1,
                "uri": f"{path}?PageSize={size}&Page={number}",
                "first_page_uri": f"{path}?PageSize={size}&Page=0",
                "next_page_uri": following,
                "previous_page_uri": f"{path}?PageSize={size}&Page={number - 1}" if number else None,
            }
        )

    async def show(self, request: Request) -> JSONResponse:
        self._check_account(request)
        return JSONResponse(shown(self._messages.get(request.path_params["sid"]), self._account))

    async def account(self, request: Request) -> JSONResponse:
        self._check_account(request)
        return JSONResponse({"sid": self._account, "friendly_name": "Simulated", "status": "active", "type": "Full"})

    def _check_account(self, request: Request) -> None:
        if request.path_params["account"] != self._account:
            raise missing(request.url.path)

    # ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def end(self, request: Request) -> JSONResponse:
        body = await read_body(request)
        status = body.text("status")
        if status not in (*ENDED, "sent"):
            raise TwilioError(422, 20001, f"status: one of {', '.join(ENDED)}, sent")
        error = None if body.document.get("error_code") is None else body.integer("error_code", 0, 99_999)
        return JSONResponse(shown(self._messages.end(request.path_params["sid"], status, error), self._account))

    async def opt_out(self, request: Request) -> JSONResponse:
        number = await number_in(request)
        self._messages.opt_out(number)
        self._tell_of_answer(number, "STOP")
        return JSONResponse({"status": "opted out"})

    async def opt_in(self, request: Request) -> JSONResponse:
        number = await number_in(request)
        self._messages.opt_in(number)
        self._tell_of_answer(number, "START")
        return JSONResponse({"status": "opted in"})

    def _tell_of_answer(self, number: str, word: str) -> None:
        if self._inbound_url:
            fields = incoming(self._account, number, word)
            queue_callback(self._queue, self._inbound_url, fields, wait_s=self._faults.callbacks_late_ms / 1000)

    async def callbacks(self, request: Request) -> JSONResponse:
        return JSONResponse(self._queue.status())

    async def books(self, request: Request) -> JSONResponse:
        limit, cursor = page(request)
        rows = self._messages.kept(cursor, limit)
        following = str(rows[-1]["seq"]) if len(rows) == limit else None
        return JSONResponse({"data": rows, "next_cursor": following})

    async def totals(self, request: Request) -> JSONResponse:
        return JSONResponse(self._messages.totals())


async def wanted(request: Request) -> Wanted:
    raw = await read_raw(request, LARGEST_BODY)
    try:
        fields = dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise TwilioError(400, 20001, "The body is not a form.") from error
    names = {
        "to": "To",
        "sender": "From",
        "service_sid": "MessagingServiceSid",
        "body": "Body",
        "status_callback": "StatusCallback",
    }
    return Wanted(**{field: fields.get(name, "") for field, name in names.items()})


async def number_in(request: Request) -> str:
    number = (await read_body(request)).text("number")
    if not NUMBER.fullmatch(number):
        raise TwilioError(422, 20001, "number: must be in E.164")
    return number


def whole(text: str | None, otherwise: int, most: int) -> int:
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise TwilioError(400, 20001, "Page and PageSize are whole numbers.")
    return int(text)


def shown(row: sqlite3.Row, account: str) -> dict[str, Any]:
    """A message as Twilio shows it."""
    uri = f"/{VERSION}/Accounts/{account}/Messages/{row['sid']}"
    return {
        "account_sid": account,
        "api_version": VERSION,
        "body": row["body"],
        "date_created": mail_time(row["created_at"]),
        "date_sent": mail_time(row["sent_at"]),
        "date_updated": mail_time(row["updated_at"]),
        "direction": "outbound-api",
        "error_code": row["error_code"],
        "error_message": None,
        "from": row["sender"],
        "messaging_service_sid": row["service_sid"],
        "num_media": "0",
        "num_segments": str(parts_of(row["body"])),
        "price": None,
        "price_unit": "USD",
        "sid": row["sid"],
        "status": row["status"],
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": row["recipient"],
        "uri": f"{uri}.json",
    }


def parts_of(body: str) -> int:
    """Nearly: what the network makes of characters of two units at the end of a part is not its sender's to know."""
    units, room = (len(body), GSM_ONLY_ROOM) if body.isascii() else (len(body.encode("utf-16-le")) // 2, OTHER_ROOM)
    return 1 if units <= room[0] else -(-units // room[1])


def mail_time(at: float | None) -> str | None:
    return None if at is None else format_datetime(datetime.fromtimestamp(at, UTC))


def callback_of(row: sqlite3.Row, account: str) -> dict[str, str]:
    """The fields by which a message's status is told."""
    fields = {
        "AccountSid": account,
        "ApiVersion": VERSION,
        "MessageSid": row["sid"],
        "MessageStatus": row["status"],
        "SmsSid": row["sid"],
        "SmsStatus": row["status"],
        "To": row["recipient"],
    }
    for name, column in (("From", "sender"), ("MessagingServiceSid", "service_sid"), ("ErrorCode", "error_code")):
        if row[column] is not None:
            fields[name] = str(row[column])
    if row["status"] in ("delivered", "undelivered"):
        fields["RawDlrDoneDate"] = datetime.now(UTC).strftime("%y%m%d%H%M")
    return fields


def incoming(account: str, number: str, word: str) -> dict[str, str]:
    """The fields by which a message is told that came in, with one of the words that Twilio heeds itself."""
    sid = f"SM{secrets.token_hex(16)}"
    return {
        "AccountSid": account,
        "ApiVersion": VERSION,
        "Body": word.capitalize(),
        "From": number,
        "MessageSid": sid,
        "NumMedia": "0",
        "NumSegments": "1",
        "OptOutType": word,
        "SmsMessageSid": sid,
        "SmsSid": sid,
        "SmsStatus": "received",
    }


def create_app(data_dir: Path, account: str, tokens: tuple[str, ...], inbound_url: str | None = None) -> TwilioSimulator:
    """`tokens`: any of them is taken; the first one signs what is told. `inbound_url`: who is told of answers."""
    ledger = open_messages(data_dir)
    ledger.executescript(_webhooks.SCHEMA)
    faults = TwilioFaults()
    queue = WebhookQueue(ledger, held=lambda: faults.callbacks_held, newest_first=lambda: faults.callbacks_newest_first)

    def announce(row: sqlite3.Row) -> None:
        if not row["status_callback"]:
            return
        for _ in range(2 if faults.callbacks_twice else 1):
            queue_callback(queue, row["status_callback"], callback_of(row, account), wait_s=faults.callbacks_late_ms / 1000)

    messages = Messages(ledger, announce, lambda: faults.step_ms / 1000)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(advance_in_time(messages)), asyncio.create_task(CallbackSender(queue, tokens[0]).run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            ledger.close()

    simulator = TwilioSimulator(
        Api(account, messages, queue, faults, inbound_url).routes(), api_key=None, switches=faults, lifespan=lifespan
    )
    simulator.credentials = tuple(b"Basic " + base64.b64encode(f"{account}:{token}".encode()) for token in tokens)
    return simulator


async def advance_in_time(messages: Messages) -> None:
    """By the recorded times, so that a restart forgets nothing."""
    while True:
        messages.more.clear()
        due_at = messages.next_due_at()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due_at is None else max(0.0, due_at - time.time())):
                await messages.more.wait()
        messages.advance(time.time())

"""A card processor, in the manner of Stripe or Adyen: `python -m simulators.payment_provider`.

| card token               | what happens                                                           |
|--------------------------|------------------------------------------------------------------------|
| `tok_visa`               | charged                                                                |
| `tok_mastercard`         | charged                                                                |
| `tok_declined`           | 402 `card_declined`                                                    |
| `tok_insufficient_funds` | 402 `insufficient_funds`                                               |
| `tok_expired`            | 402 `expired_card`                                                     |
| `tok_incorrect_cvc`      | 402 `incorrect_cvc`                                                    |
| `tok_fraudulent`         | 402 `fraudulent`                                                       |
| `tok_review`             | authorized only, risk `elevated`, even when capture was asked for      |
| `tok_flaky_3`            | 503 to the first three requests of a reference, charged at the fourth  |
| `tok_lost_reply`         | charged, then the connection drops without a reply; repeated: answered |
| `tok_slow`               | charged, then answered after fault switch `slow_ms`; repeated: at once |
| `tok_timeout`            | never charged: 503 after `slow_ms`, every time                         |
| `tok_refund_pending`     | charged; a refund is pending, and succeeds after switch `refund_ms`    |
| `tok_refund_fails`       | charged; a refund is pending, and fails after `refund_ms`              |
| `tok_refund_bounces`     | charged; a refund succeeds, and fails after `refund_ms` all the same   |
| `tok_refund_refused`     | charged; a refund fails at once                                        |
| any other                | 402 `invalid_card_token`                                               |

Each token is one card; with anything after it, `tok_visa_7`, it is another one that does the same.
Amounts are integers in the currency's minor unit. A `reference` names one charge for ever, whatever the key; the `key` of a
capture or a refund names it for ever within its charge.

What a person does in the provider's dashboard (no amount: all of it):

| `POST /_dashboard/…`               | body               | what happens                                              |
|------------------------------------|--------------------|-----------------------------------------------------------|
| `charges/{reference}/refunds`      | `amount`, `reason` | money goes back that the shop did not ask for             |
| `charges/{reference}/disputes`     | `amount`, `reason` | the customer's bank takes it until the dispute is decided |
| `charges/{reference}/expire`       |                    | the hold's time is up                                     |
| `refunds/{id}/succeed`, `…/fail`   |                    | a refund arrives, or does not, also one that had          |
| `disputes/{id}/win`, `…/lose`      |                    | the bank decides                                          |

Webhooks tell of what no answer told: of refunds that end later, of all of the dashboard, of holds that expired.
Environment: PORT, SIMULATOR_DATA_DIR, PAYMENT_PROVIDER_API_KEY, HOST (127.0.0.1).
PAYMENT_WEBHOOK_URL, PAYMENT_WEBHOOK_SECRET: where the shop hears of news; without a URL nothing is sent.
PAYMENT_PROVIDER_HOLD_SECONDS (604800): how long money is held.
PAYMENT_PROVIDER_MULTI_CAPTURE (true): whether what is held can be taken in several captures.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from simulators import _webhooks
from simulators._cards import card_of
from simulators._charges import (
    ChargeRequest,
    Charges,
    News,
    open_charges,
    shown,
    shown_dispute,
    shown_in_full,
    shown_move,
    shown_refund,
)
from simulators._faults import HttpFaults
from simulators._refusals import LostReply, Refused, Unavailable
from simulators._requests import Body, page, path_reference, read_body
from simulators._service import Simulator, data_directory, required, serve
from simulators._webhooks import WebhookQueue, WebhookSender, WebhookTarget, signature

LARGEST_AMOUNT = 10**12
CURRENCY = re.compile("[A-Z]{3}")
SIGNATURE = "X-Payment-Signature"
EARLY_S = 10.0
"""How long an answer waits at most until its webhook has arrived."""
HOLD_S = 7 * 86_400.0


@dataclass(slots=True)
class PaymentFaults(HttpFaults):
    fail_reversals: bool = False
    """503 to every reversal, release and refund, which then has done nothing."""
    refund_ms: int = 2_000
    """How long a refund takes that does not succeed at once, or that fails after it has."""
    webhooks_of_answers: bool = False
    """Webhooks also tell what the answer to a request tells."""
    webhooks_early: bool = False
    """An answer waits until its webhook has arrived. With `webhooks_of_answers`."""
    webhooks_late_ms: int = 0
    """Waited before each webhook."""
    webhooks_twice: bool = False
    webhooks_held: bool = False
    """No webhook goes out until this is switched off."""
    webhooks_newest_first: bool = False
    """They go out one by one, the newest of those that wait first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    webhook: WebhookTarget | None = None
    hold_s: float = HOLD_S
    multi_capture: bool = True


class PaymentProvider:
    def __init__(self, charges: Charges, queue: WebhookQueue, faults: PaymentFaults) -> None:
        self._charges = charges
        self._queue = queue
        self._faults = faults

    def routes(self) -> list[Route]:
        # `:path`, because a reference may hold a slash ("<order id>/<step>"), sent as such or as %2F
        one, dashboard = "/v1/charges/{reference:path}", "/_dashboard/charges/{reference:path}"
        return [
            Route("/v1/charges", self.charge, methods=["POST"]),
            Route("/v1/charges", self.listing, methods=["GET"]),
            Route("/v1/refunds", self.refunds, methods=["GET"]),
            Route("/v1/disputes", self.disputes, methods=["GET"]),
            Route("/v1/movements", self.movements, methods=["GET"]),
            Route(f"{one}/capture", self.capture, methods=["POST"]),
            Route(f"{one}/refunds", self.refund, methods=["POST"]),
            Route(f"{one}/reversals", self.reverse, methods=["POST"]),
            Route(f"{one}/releases", self.release, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(f"{dashboard}/refunds", self.refund_by_hand, methods=["POST"]),
            Route(f"{dashboard}/disputes", self.dispute, methods=["POST"]),
            Route(f"{dashboard}/expire", self.expire, methods=["POST"]),
            Route("/_dashboard/refunds/{id}/{end}", self.end_refund, methods=["POST"]),
            Route("/_dashboard/disputes/{id}/{end}", self.end_dispute, methods=["POST"]),
            Route("/_control/webhooks", self.webhooks, methods=["GET"]),
            Route("/_control/ledger", self.totals, methods=["GET"]),
        ]

    async def charge(self, request: Request) -> JSONResponse:
        key = request.headers.get("idempotency-key", "")
        if not 1 <= len(key) <= 255:
            raise Refused(400, "idempotency_key_required", "Send an Idempotency-Key of 1 to 255 characters.")
        wanted = charge_request(await read_body(request))
        reply = self._charges.charge(key, wanted)
        await self._tell_first()
        if reply.fresh:
            await self._answer_as_the_card_does(wanted.card_token)
        return JSONResponse(reply.content, reply.status)

    async def _answer_as_the_card_does(self, token: str) -> None:
        card = card_of(token)
        if card.reply == "slow" or card.hangs:
            await asyncio.sleep(self._faults.slow_ms / 1000)
        if card.reply == "lost":
            raise LostReply

    async def _tell_first(self) -> None:
        until = time.monotonic() + EARLY_S
        while self._faults.webhooks_early and self._queue.status()["pending"] and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def capture(self, request: Request) -> JSONResponse:
        body = await read_body(request)
        amount, key = optional_amount(body), body.optional_text("key") or "capture"
        is_last = body.flag("is_last", default=True)
        row, moved = self._charges.capture(path_reference(request), amount, key, is_last=is_last)
        await self._tell_first()
        return JSONResponse({**shown(row), "movement": {**shown_move(moved), "state": "succeeded", "failure": None}})

    async def refund(self, request: Request) -> JSONResponse:
        if self._faults.fail_reversals:
            raise Unavailable
        body = await read_body(request)
        amount, key, reason = optional_amount(body), body.text("key"), body.optional_text("reason")
        refund = self._charges.refund(path_reference(request), amount, key, reason)
        await self._tell_first()
        return JSONResponse(shown_refund(refund))

    async def reverse(self, request: Request) -> JSONResponse:
        if self._faults.fail_reversals:
            raise Unavailable
        reason = (await read_body(request)).optional_text("reason")
        row, refund = self._charges.reverse(path_reference(request), reason)
        await self._tell_first()
        return JSONResponse({**shown(row), "movement": shown_refund(refund) if refund is not None else None})

    async def release(self, request: Request) -> JSONResponse:
        if self._faults.fail_reversals:
            raise Unavailable
        row = self._charges.release(path_reference(request))
        await self._tell_first()
        return JSONResponse(shown(row))

    async def show(self, request: Request) -> JSONResponse:
        return JSONResponse(shown_in_full(self._charges.get(path_reference(request))))

    async def listing(self, request: Request) -> JSONResponse:
        limit, cursor = page(request)
        rows = self._charges.listed(limit, cursor)
        following = str(rows[-1]["seq"]) if len(rows) == limit else None
        return JSONResponse({"data": [shown_in_full(row) for row in rows], "next_cursor": following})

    async def refunds(self, request: Request) -> JSONResponse:
        return self._listed(request, "refunds", shown_refund)

    async def disputes(self, request: Request) -> JSONResponse:
        return self._listed(request, "disputes", shown_dispute)

    async def movements(self, request: Request) -> JSONResponse:
        return self._listed(request, "moves", shown_move)

    def _listed(self, request: Request, table: str, view: Callable[[sqlite3.Row], dict[str, Any]]) -> JSONResponse:
        limit, cursor = page(request)
        rows = self._charges.listed_of(table, limit, cursor)
        following = str(rows[-1]["seq"]) if len(rows) == limit else None
        return JSONResponse({"data": [view(row) for row in rows], "next_cursor": following})

    # ── The dashboard ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def refund_by_hand(self, request: Request) -> JSONResponse:
        body, key = await read_body(request), f"dashboard-{secrets.token_hex(6)}"
        reference, reason = path_reference(request), body.optional_text("reason")
        refund = self._charges.refund(reference, optional_amount(body), key, reason, made_by="dashboard")
        return JSONResponse(shown_refund(refund))

    async def dispute(self, request: Request) -> JSONResponse:
        body = await read_body(request)
        dispute = self._charges.dispute(
            path_reference(request), optional_amount(body), body.optional_text("reason") or "fraudulent"
        )
        return JSONResponse(shown_dispute(dispute))

    async def expire(self, request: Request) -> JSONResponse:
        return JSONResponse(shown(self._charges.expire(path_reference(request))))

    async def end_refund(self, request: Request) -> JSONResponse:
        state = one_of(request, {"succeed": "succeeded", "fail": "failed"})
        return JSONResponse(shown_refund(self._charges.end_refund(request.path_params["id"], state)))

    async def end_dispute(self, request: Request) -> JSONResponse:
        state = one_of(request, {"win": "won", "lose": "lost"})
        return JSONResponse(shown_dispute(self._charges.decide(request.path_params["id"], state)))

    async def webhooks(self, request: Request) -> JSONResponse:
        return JSONResponse(self._queue.status())

    async def totals(self, request: Request) -> JSONResponse:
        return JSONResponse(self._charges.totals())


def one_of(request: Request, ends: Mapping[str, str]) -> str:
    state = ends.get(request.path_params["end"])
    if state is None:
        raise Refused(404, "not_found", f"One of {', '.join(ends)}.")
    return state


def optional_amount(body: Body) -> int | None:
    return None if body.document.get("amount") is None else body.integer("amount", 1, LARGEST_AMOUNT)


def charge_request(body: Body) -> ChargeRequest:
    currency = body.text("currency", 3)
    if not CURRENCY.fullmatch(currency):
        raise Refused(422, "invalid_request", "currency: must be an ISO 4217 code")
    return ChargeRequest(
        reference=body.reference(),
        amount=body.integer("amount", 1, LARGEST_AMOUNT),
        currency=currency,
        card_token=body.text("card_token"),
        capture=body.flag("capture", default=True),
        description=body.optional_text("description"),
        metadata=dict(body.part("metadata").document) if body.document.get("metadata") else {},
    )


def create_app(data_dir: Path, api_key: str, options: Options = Options()) -> Simulator:
    ledger = open_charges(data_dir)
    ledger.executescript(_webhooks.SCHEMA)
    faults = PaymentFaults()
    queue = WebhookQueue(ledger, held=lambda: faults.webhooks_held, newest_first=lambda: faults.webhooks_newest_first)

    def announce(news: News) -> None:
        if options.webhook and (faults.webhooks_of_answers or not news.answered):
            # Each under a name of its own: this provider's news is in no order.
            body = queue.add(secrets.token_hex(12), news.content, wait_s=faults.webhooks_late_ms / 1000)
            if faults.webhooks_twice:
                queue.repeat(secrets.token_hex(12), body, wait_s=faults.webhooks_late_ms / 1000)

    charges = Charges(
        ledger,
        multi_capture=options.multi_capture,
        hold_s=options.hold_s,
        refund_s=lambda: faults.refund_ms / 1000,
        announce=announce,
    )

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(settle_in_time(charges))]
        if options.webhook:
            tasks.append(asyncio.create_task(WebhookSender(queue, options.webhook).run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            ledger.close()

    provider = PaymentProvider(charges, queue, faults)
    return Simulator(provider.routes(), api_key=api_key, switches=faults, lifespan=lifespan)


async def settle_in_time(charges: Charges) -> None:
    """By the recorded times, so that a restart forgets nothing."""
    while True:
        charges.more.clear()
        due_at = charges.next_due_at()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due_at is None else max(0.0, due_at - time.time())):
                await charges.more.wait()
        charges.settle()


def read_options(environment: Mapping[str, str]) -> Options:
    url = environment.get("PAYMENT_WEBHOOK_URL")
    secret = required(environment, "PAYMENT_WEBHOOK_SECRET") if url else ""
    return Options(
        webhook=WebhookTarget(url=url, sign=lambda body, at: {SIGNATURE: signature(body, secret, at)}) if url else None,
        hold_s=float(environment.get("PAYMENT_PROVIDER_HOLD_SECONDS") or HOLD_S),
        multi_capture=(environment.get("PAYMENT_PROVIDER_MULTI_CAPTURE") or "true").casefold() == "true",
    )


if __name__ == "__main__":
    key = required(os.environ, "PAYMENT_PROVIDER_API_KEY")
    serve(create_app(data_directory(os.environ), key, read_options(os.environ)))

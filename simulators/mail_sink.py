"""A mail server that takes everything and delivers nothing: `python -m simulators.mail_sink`.

SMTP on SMTP_PORT, and over HTTP what arrived. Fault switches:
- `down`: 421 to every connection and message;
- `defer`: 451 to every recipient;
- `reject_rcpt`: 550 to recipients that match a pattern such as `*@bounce.example`;
- `lose_replies_next`: keep that many messages and drop the connection instead of saying so, which makes an
  honest sender send them again;
- `reports_off`: tell nothing of mails; `reports_late_ms`: waited before each report; `reports_twice`, `reports_held`,
  `reports_newest_first`: as they say.

What becomes of a mail is told later, as its sender asked for by NOTIFY and ENVID (RFC 3461): that it was delivered, unless its
recipient has one of these names, with or without more behind a +, at any domain:

| to            | what is told                                      |
|---------------|---------------------------------------------------|
| `bounce@…`    | failed, 5.1.1: there is no such mailbox           |
| `full@…`      | failed, 5.2.2: the mailbox is full                |
| `delay@…`     | delayed, then delivered                           |
| `complain@…`  | delivered, then a complaint (ARF)                 |

It is told to EMAIL_WEBHOOK_URL, signed with EMAIL_WEBHOOK_SECRET, and kept in a mailbox that IMAP_PORT serves, each if it is set.
To that mailbox log in as `bounces` with IMAP_PASSWORD (mail-sink).

Environment: PORT, SMTP_PORT, SIMULATOR_DATA_DIR, HOST (127.0.0.1), MAIL_SINK_API_KEY (unset: no token asked).
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from simulators import _imap, _webhooks
from simulators._faults import Switches
from simulators._imap import ImapMailbox
from simulators._ledger import now_text, open_ledger, transaction
from simulators._refusals import Refused
from simulators._reports import Envelope as Came
from simulators._reports import reports_of
from simulators._requests import page
from simulators._service import Simulator, data_directory, required, serve
from simulators._webhooks import WebhookQueue, WebhookSender, WebhookTarget, signature

LARGEST_MESSAGE = 1024 * 1024
HOST_NAME = "mail-sink"
SIGNATURE = "X-Email-Signature"
IMAP_USER, IMAP_PASSWORD = "bounces", "mail-sink"
DOWN = "421 4.3.2 Service not available"

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    received_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS recipients (
    address TEXT NOT NULL COLLATE NOCASE,
    message INTEGER NOT NULL,
    PRIMARY KEY (address, message)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipients_of_message ON recipients (message);
"""


@dataclass(slots=True)
class MailFaults(Switches):
    down: bool = False
    defer: bool = False
    reject_rcpt: str = ""
    lose_replies_next: int = 0
    reports_off: bool = False
    reports_late_ms: int = 0
    reports_twice: bool = False
    reports_held: bool = False
    reports_newest_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Where senders hear what became of their mails."""

    webhook: WebhookTarget | None = None
    imap_port: int | None = None
    imap_password: str = IMAP_PASSWORD


class Mailbox:
    def __init__(self, ledger: sqlite3.Connection, tell: Callable[[str], None] = lambda report: None) -> None:
        """`tell` takes what is to be told later, in the transaction that keeps the mail."""
        self._ledger, self._tell = ledger, tell

    def keep(self, sender: str, recipients: list[str], raw: bytes, reports: Sequence[str] = ()) -> None:
        # Not with a modern policy, which parses each header by RFC 5322's whole grammar and takes ten times as long.
        message = message_from_bytes(raw)
        kept = (
            str(message.get("Message-ID", "")).strip(),
            sender,
            plain(str(message.get("Subject", ""))),
            text_of(message),
            now_text(),
        )
        with transaction(self._ledger) as ledger:
            added = ledger.execute(
                "INSERT INTO messages (message_id, sender, subject, text, received_at) VALUES (?, ?, ?, ?, ?)",
                kept,
            )
            ledger.executemany(
                "INSERT OR IGNORE INTO recipients VALUES (?, ?)",
                [(each, added.lastrowid) for each in recipients],
            )
            for report in reports:
                self._tell(report)

    def get(self, number: int) -> dict[str, Any]:
        row = self._ledger.execute("SELECT * FROM messages WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise Refused(404, "not_found", "There is no such message.")
        return self._shown(row)

    def listed(self, to: str | None, limit: int, after: int) -> list[dict[str, Any]]:
        if to:
            rows = self._ledger.execute(
                "SELECT m.* FROM recipients r JOIN messages m ON m.id = r.message"
                " WHERE r.address = ? AND m.id > ? ORDER BY m.id LIMIT ?",
                (to, after, limit),
            )
        else:
            rows = self._ledger.execute("SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [self._shown(row) for row in rows.fetchall()]

    def count(self, to: str | None) -> int:
        if to:
            found = self._ledger.execute("SELECT COUNT(*) FROM recipients WHERE address = ?", (to,))
        else:
            found = self._ledger.execute("SELECT COUNT(*) FROM messages")
        counted: int = found.fetchone()[0]
        return counted

    def clear(self) -> None:
        with transaction(self._ledger) as ledger:
            ledger.execute("DELETE FROM messages")
            ledger.execute("DELETE FROM recipients")

    def totals(self) -> dict[str, int]:
        messages, distinct = self._ledger.execute("SELECT COUNT(*), COUNT(DISTINCT message_id) FROM messages").fetchone()
        return {"messages": messages, "distinct_message_ids": distinct}

    def _shown(self, row: sqlite3.Row) -> dict[str, Any]:
        recipients = self._ledger.execute("SELECT address FROM recipients WHERE message = ?", (row["id"],))
        return {**dict(row), "to": [each["address"] for each in recipients]}


def plain(header: str) -> str:
    """A header's text without its folds and its encoded words."""
    unfolded = re.sub(r"[\r\n]+(?=[ \t])", "", header)
    try:
        return str(make_header(decode_header(unfolded))) if "=?" in unfolded else unfolded
    except (LookupError, ValueError, HeaderParseError):
        return unfolded


def text_of(message: Message) -> str:
    """The first text that is no attachment; plain text, if there is any."""
    for kind in ("text/plain", "text/html"):
        for part in message.walk():
            if part.get_content_type() == kind and not part.get_filename():
                content = part.get_payload(decode=True)
                charset = part.get_content_charset("utf-8")
                try:
                    return content.decode(charset, "replace") if isinstance(content, bytes) else ""
                except LookupError:  # a character set nobody knows is no reason to turn a message away
                    return str(part.get_payload())
    return ""


class Reception:
    """What the SMTP server asks at each step of a delivery."""

    def __init__(self, mailbox: Mailbox, faults: MailFaults) -> None:
        self._mailbox = mailbox
        self._faults = faults

    async def handle_EHLO(  # noqa: N802 - the library looks its hooks up by these names
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-DSN", responses[-1]]

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._faults.down:
            return DOWN
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._faults.defer:
            return "451 4.3.0 Try again later"
        pattern = self._faults.reject_rcpt.casefold()
        if pattern and fnmatchcase(address.casefold(), pattern):
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        came = how_it_came(envelope)
        reports = (
            [] if self._faults.reports_off else [each for to in envelope.rcpt_tos for each in reports_of(came, to, HOST_NAME)]
        )
        self._mailbox.keep(came.sender, envelope.rcpt_tos, envelope.content, reports)
        if self._faults.lose_replies_next and isinstance(server.transport, asyncio.Transport):
            self._faults.lose_replies_next -= 1
            server.transport.abort()
        return "250 OK"


class DsnServer(SMTP):
    """The library's, which refuses what RFC 3461 adds to MAIL and RCPT."""

    def _getparams(self, params: Sequence[str]) -> dict[str, str | bool] | None:
        known: dict[str, str | bool] | None = super()._getparams(params)
        return known and {name: value for name, value in known.items() if name not in ("RET", "ENVID", "NOTIFY", "ORCPT")}


def how_it_came(envelope: Envelope) -> Came:
    """With what its sender asked to be told. The library writes parameters in capitals."""
    asked = dict(each.partition("=")[::2] for each in (*envelope.mail_options, *envelope.rcpt_options))
    content = envelope.content if isinstance(envelope.content, bytes) else b""
    headers = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[0].decode("utf-8", "replace").replace("\r\n", "\n")
    notify = frozenset(filter(None, asked.get("NOTIFY", "").split(",")))
    return Came(envelope.mail_from or "", asked.get("ENVID"), notify, f"{headers}\n")


class Turned421(asyncio.Protocol):
    """The whole conversation of a server that is down for now."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(f"{DOWN}\r\n".encode())
        transport.close()


class MessageRoutes:
    def __init__(self, mailbox: Mailbox, queue: WebhookQueue) -> None:
        self._mailbox, self._queue = mailbox, queue

    def routes(self) -> list[Route]:
        return [
            Route("/messages", self.listing, methods=["GET"]),
            Route("/messages", self.clear, methods=["DELETE"]),
            Route("/messages/{number:int}", self.show, methods=["GET"]),
            Route("/_control/ledger", self.totals, methods=["GET"]),
            Route("/_control/webhooks", self.webhooks, methods=["GET"]),
        ]

    async def listing(self, request: Request) -> JSONResponse:
        limit, cursor = page(request)
        to = request.query_params.get("to")
        found = self._mailbox.listed(to, limit, cursor)
        following = str(found[-1]["id"]) if len(found) == limit else None
        return JSONResponse({"data": found, "count": self._mailbox.count(to), "next_cursor": following})

    async def show(self, request: Request) -> JSONResponse:
        return JSONResponse(self._mailbox.get(request.path_params["number"]))

    async def clear(self, request: Request) -> JSONResponse:
        self._mailbox.clear()
        return JSONResponse(self._mailbox.totals())

    async def totals(self, request: Request) -> JSONResponse:
        return JSONResponse(self._mailbox.totals())

    async def webhooks(self, request: Request) -> JSONResponse:
        return JSONResponse(self._queue.status())


def create_app(data_dir: Path, host: str, smtp_port: int, api_key: str | None = None, telling: Telling = Telling()) -> Simulator:
    ledger = open_ledger(data_dir, "mail_sink", SCHEMA + _webhooks.SCHEMA + _imap.SCHEMA)
    faults = MailFaults()
    queue = WebhookQueue(ledger, held=lambda: faults.reports_held, newest_first=lambda: faults.reports_newest_first)

    def tell(report: str) -> None:
        for _ in range(2 if faults.reports_twice else 1):
            if telling.webhook is not None:
                # Each under a name of its own: reports come in no order.
                queue.repeat(secrets.token_hex(12), report, wait_s=faults.reports_late_ms / 1000)
            if telling.imap_port is not None:
                ledger.execute("INSERT INTO reports (raw) VALUES (?)", (report,))

    mailbox = Mailbox(ledger, tell)
    reception = Reception(mailbox, faults)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def answer() -> asyncio.Protocol:
            if faults.down:
                return Turned421()
            # A host name of our own: the library would ask DNS for one, at every connection.
            return DsnServer(reception, data_size_limit=LARGEST_MESSAGE, hostname=HOST_NAME, ident="ready", loop=loop)

        async with AsyncExitStack() as stack:
            stack.callback(ledger.close)
            stack.callback((await loop.create_server(answer, host, smtp_port)).close)
            if telling.imap_port is not None:
                imap = ImapMailbox(ledger, IMAP_USER, telling.imap_password)
                stack.callback((await asyncio.start_server(imap.serve, host, telling.imap_port)).close)
            if telling.webhook is not None:
                task = asyncio.create_task(WebhookSender(queue, telling.webhook).run())
                stack.push_async_callback(ended, task)
            yield

    return Simulator(MessageRoutes(mailbox, queue).routes(), api_key=api_key, switches=faults, lifespan=lifespan)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def read_telling(environment: Mapping[str, str]) -> Telling:
    url, port = environment.get("EMAIL_WEBHOOK_URL"), environment.get("IMAP_PORT")
    secret = required(environment, "EMAIL_WEBHOOK_SECRET").split(",")[0].strip() if url else ""

    def sign(body: str, at: int) -> Mapping[str, str]:
        return {"Content-Type": "message/rfc822", SIGNATURE: signature(body, secret, at)}

    return Telling(
        webhook=WebhookTarget(url=url, sign=sign) if url else None,
        imap_port=int(port) if port else None,
        imap_password=environment.get("IMAP_PASSWORD") or IMAP_PASSWORD,
    )


if __name__ == "__main__":
    serve(
        create_app(
            data_directory(os.environ),
            os.environ.get("HOST", "127.0.0.1"),
            int(required(os.environ, "SMTP_PORT")),
            os.environ.get("MAIL_SINK_API_KEY"),
            read_telling(os.environ),
        )
    )

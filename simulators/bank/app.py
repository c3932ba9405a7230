"""The bank as an application.

| call                             | what it does                                                                            |
|----------------------------------|-----------------------------------------------------------------------------------------|
| `GET /v1/notifications`          | the oldest camt.054 that was not acknowledged, named by the header `Document-Id`; or 204 |
| `GET /v1/reports`                | the same of pain.002                                                                    |
| `DELETE /v1/notifications/{id}`  | it was received; so with `reports`. Until then it comes again                           |
| `POST /v1/payments`              | a pain.001: 202                                                                         |
| `GET /v1/statements?cursor=`     | all entries of the shop's account as camt.053, page by page; header `Next-Cursor`       |
| `POST /_control/transfers`       | a customer pays: `amount`, `currency`, `reference`, `text`, `iban`, `name`, `account`   |
| `GET /_control/waiting`          | how many documents are still to be fetched, by kind                                     |

`account` says what that customer's account does with money that comes back: `open`, `closed` (the order is refused), or `returns`
(the money goes out and comes back). `reference` is stated as a creditor reference, `text` as free words.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators._faults import HttpFaults
from simulators._refusals import Refused
from simulators._requests import page, read_body, read_raw
from simulators._service import Simulator
from simulators.bank import documents
from simulators.bank.books import OPEN, REFUSES, RETURNS, Books

LARGEST_MESSAGE = 2_000_000
KINDS = ("notifications", "reports")
XML = "application/xml"
AMOUNT = re.compile(r"[0-9]{1,11}(\.[0-9]{1,3})?")
CURRENCY = re.compile(r"[A-Z]{3}")
IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")


@dataclass(slots=True)
class BankFaults(HttpFaults):
    documents_late_ms: int = 0
    """How long news waits before it can be fetched."""
    documents_twice: bool = False
    """What was acknowledged comes once more, as another document."""
    back_ms: int = 0
    """After how long money comes back that an account returns."""
    refuse_next: int = 0
    """So many orders are refused, whatever their account does."""
    return_next: int = 0
    """So many orders are paid, and their money comes back."""


class Bank:
    def __init__(self, books: Books) -> None:
        self._books = books

    def routes(self) -> list[Route]:
        return [
            *(Route(f"/v1/{kind}", self.fetch, methods=["GET"], name=kind) for kind in KINDS),
            *(Route(f"/v1/{kind}/{{id}}", self.acknowledge, methods=["DELETE"], name=kind) for kind in KINDS),
            Route("/v1/payments", self.order, methods=["POST"]),
            Route("/v1/statements", self.statements, methods=["GET"]),
            Route("/_control/transfers", self.pay, methods=["POST"]),
            Route("/_control/waiting", self.waiting, methods=["GET"]),
        ]

    async def fetch(self, request: Request) -> Response:
        kind = _kind(request)
        self._books.settle()
        row = self._books.next_document(kind)
        if row is None:
            return Response(status_code=204)
        name = row["id"]
        if kind == "notifications":
            content = documents.notification(name, self._books.iban, [self._books.entry(row["about"])])
        else:
            order = self._books.order_of(row["about"])
            assert order is not None
            content = documents.report(name, order, row["state"], row["reason"])
        return Response(content, headers={"Document-Id": name}, media_type=XML)

    async def acknowledge(self, request: Request) -> Response:
        if not self._books.acknowledge(_kind(request), request.path_params["id"]):
            raise Refused(404, "not_found", "There is no such document.")
        return Response(status_code=204)

    async def order(self, request: Request) -> Response:
        name, orders = documents.orders_in(await read_raw(request, LARGEST_MESSAGE), self._books.iban)
        self._books.order(name, orders)
        return Response(status_code=202)

    async def statements(self, request: Request) -> Response:
        limit, after = page(request)
        self._books.settle()
        rows = self._books.entries(after, limit)
        is_last = len(rows) < limit
        content = documents.statement(str(after), self._books.iban, rows, is_last=is_last)
        return Response(content, headers={} if is_last else {"Next-Cursor": str(rows[-1]["seq"])}, media_type=XML)

    async def pay(self, request: Request) -> Response:
        body = await read_body(request)
        amount, currency, behaves = body.text("amount"), body.text("currency"), body.optional_text("account") or OPEN
        name = body.optional_text("name", 70) or "Ann Customer"
        iban = body.optional_text("iban", 34) or made_up_iban(f"{name} {behaves}")
        if not AMOUNT.fullmatch(amount) or not float(amount) or not CURRENCY.fullmatch(currency) or not IBAN.fullmatch(iban):
            raise Refused(422, "invalid_request", "amount, currency, iban: 12.50, EUR, an IBAN")
        if behaves not in (OPEN, REFUSES, RETURNS):
            raise Refused(422, "invalid_request", f"account: {OPEN}, {REFUSES} or {RETURNS}")
        reference, words = body.optional_text("reference", 35) or None, body.optional_text("text", 140) or None
        entry = self._books.pay(amount, currency, reference, words, (iban, name), behaves)
        return JSONResponse({"entry_id": entry["id"], "iban": iban}, 201)

    async def waiting(self, request: Request) -> JSONResponse:
        self._books.settle()
        return JSONResponse(self._books.waiting())


def create_app(data_dir: Path, api_key: str, iban: str) -> Simulator:
    faults = BankFaults()

    def fate() -> str | None:
        if faults.refuse_next:
            faults.refuse_next -= 1
            return REFUSES
        if faults.return_next:
            faults.return_next -= 1
            return RETURNS
        return None

    books = Books(
        data_dir,
        iban,
        late_s=lambda: faults.documents_late_ms / 1000,
        twice=lambda: faults.documents_twice,
        back_s=lambda: faults.back_ms / 1000,
        fate=fate,
    )

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        books.ledger.close()

    return Simulator(Bank(books).routes(), api_key=api_key, switches=faults, lifespan=lifespan)


def made_up_iban(of: str) -> str:
    """A German one for somebody: the same for the same, with right check digits."""
    account = f"{int.from_bytes(sha256(of.encode()).digest()[:8]) % 10**18:018}"
    return f"DE{98 - int(account + '131400') % 97:02}{account}"


def _kind(request: Request) -> str:
    return request.url.path.split("/")[2]

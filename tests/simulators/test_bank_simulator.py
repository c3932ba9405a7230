"""The bank: each order is paid once, money that comes in or goes out is booked on both accounts, and news waits until it was
received. What payment makes of it is in tests/services/payment/."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import httpx2
import pytest
import pytest_asyncio
from defusedxml.ElementTree import fromstring

from contracts.money import Money
from services.payment.adapters.iso20022 import initiation
from services.payment.model import TransferAccount
from services.payment.ports import CreditTransfer
from simulators.bank.app import create_app, made_up_iban
from tests.simulators.conftest import API_KEY, Process

pytestmark = pytest.mark.asyncio

IBAN = "DE89370400440532013000"
ACCOUNT = TransferAccount("The Shop", IBAN)
REFERENCE = "RF18539007547034"
Connect = Callable[[Any], httpx2.AsyncClient]
Document = tuple[str, Element, dict[str, str]]
"""Its name at the bank, what it says, and the namespace of its tags."""


@pytest_asyncio.fixture
async def bank(tmp_path: Path, connect: Connect) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(tmp_path, API_KEY, IBAN)
    async with app.running(), connect(app) as client:
        yield client


async def pay(bank: httpx2.AsyncClient, amount: str = "12.50", **more: str) -> dict[str, str]:
    """A customer pays; the entry's id and the customer's account."""
    response = await bank.post("/_control/transfers", json={"amount": amount, "currency": "EUR", "reference": REFERENCE, **more})
    assert response.status_code == 201, response.text
    made: dict[str, str] = response.json()
    return made


async def order(bank: httpx2.AsyncClient, name: str, iban: str, amount: str = "5.00") -> httpx2.Response:
    """The shop wants money to go back, with the document that payment makes."""
    return await bank.post("/v1/payments", content=asked_for(name, iban, amount))


def asked_for(name: str, iban: str, amount: str = "5.00") -> bytes:
    wanted = CreditTransfer(name, Money(amount=Decimal(amount), currency="EUR"), "Ann Customer", iban, "Refund")
    return initiation([wanted], ACCOUNT, f"message-{name}", datetime.now(UTC))


async def waiting(bank: httpx2.AsyncClient, kind: str) -> Document | None:
    response = await bank.get(f"/v1/{kind}")
    if response.status_code == 204:
        return None
    root: Element = fromstring(response.content)
    return response.headers["Document-Id"], root, {"": root.tag[1:].partition("}")[0]}


async def received(bank: httpx2.AsyncClient, kind: str) -> list[Document]:
    """All documents that wait, each of which is acknowledged."""
    found: list[Document] = []
    while (document := await waiting(bank, kind)) is not None:
        found.append(document)
        assert (await bank.delete(f"/v1/{kind}/{document[0]}")).status_code == 204
    return found


def entries_of(document: Element, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Side and amount of each entry."""
    return [
        (entry.findtext("CdtDbtInd", "", dict(names)), entry.findtext("Amt", "", dict(names)))
        for entry in document.iter(f"{{{names['']}}}Ntry")
    ]


async def booked(bank: httpx2.AsyncClient) -> list[tuple[str, str]]:
    """Side and amount of all entries of the shop's account, by its statement."""
    root: Element = fromstring((await bank.get("/v1/statements", params={"limit": "1000"})).content)
    return entries_of(root, {"": root.tag[1:].partition("}")[0]})


async def states(bank: httpx2.AsyncClient) -> list[tuple[str, str, str | None]]:
    """What was told of orders: which, what became of it, and why."""
    part = "CstmrPmtStsRpt/OrgnlPmtInfAndSts/TxInfAndSts"
    return [
        (
            root.findtext(f"{part}/OrgnlEndToEndId", "", names),
            root.findtext(f"{part}/TxSts", "", names),
            root.findtext(f"{part}/StsRsnInf/Rsn/Cd", None, names),
        )
        for _, root, names in await received(bank, "reports")
    ]


# ── What comes in ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_customer_pays_is_told_once_it_is_booked(bank: httpx2.AsyncClient) -> None:
    made = await pay(bank, name="Zoe", text="for the cheese")
    [(_, root, names)] = await received(bank, "notifications")
    assert entries_of(root, names) == [("CRDT", "12.50")]
    [entry] = root.iter(f"{{{names['']}}}Ntry")
    details = "NtryDtls/TxDtls"
    assert entry.findtext("AcctSvcrRef", None, names) == made["entry_id"]
    assert entry.findtext(f"{details}/RmtInf/Strd/CdtrRefInf/Ref", None, names) == REFERENCE
    assert entry.findtext(f"{details}/RmtInf/Ustrd", None, names) == "for the cheese"
    assert entry.findtext(f"{details}/RltdPties/Dbtr/Pty/Nm", None, names) == "Zoe"
    assert entry.findtext(f"{details}/RltdPties/DbtrAcct/Id/IBAN", None, names) == made["iban"]
    assert await booked(bank) == [("CRDT", "12.50")]


async def test_a_document_comes_again_until_it_was_received(bank: httpx2.AsyncClient) -> None:
    await pay(bank, "1.00")
    await pay(bank, "2.00")
    first, again = await waiting(bank, "notifications"), await waiting(bank, "notifications")
    assert first is not None
    assert again is not None
    assert first[0] == again[0]
    assert (await bank.get("/_control/waiting")).json() == {"notifications": 2}
    assert (await bank.delete(f"/v1/reports/{first[0]}")).status_code == 404
    assert [entries_of(root, names) for _, root, names in await received(bank, "notifications")] == [
        [("CRDT", "1.00")],
        [("CRDT", "2.00")],
    ]
    assert (await bank.delete(f"/v1/notifications/{first[0]}")).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [{"amount": "0"}, {"amount": "-1"}, {"currency": "euro"}, {"iban": "123"}, {"account": "frozen"}, {"amount": "1e3"}],
)
async def test_a_payment_that_cannot_be(bank: httpx2.AsyncClient, changes: dict[str, str]) -> None:
    refused = await bank.post("/_control/transfers", json={"amount": "1.00", "currency": "EUR", **changes})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_request")
    assert await booked(bank) == []


async def test_a_made_up_account_has_right_check_digits() -> None:
    iban = made_up_iban("Zoe open")
    assert made_up_iban("Zoe open") == iban != made_up_iban("Ann open")
    number = "".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])
    assert int(number) % 97 == 1


# ── What goes out ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_order_is_paid_once_however_often_it_comes(bank: httpx2.AsyncClient) -> None:
    zoe = (await pay(bank))["iban"]
    answers = await asyncio.gather(*(order(bank, "refund-1", zoe) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert await booked(bank) == [("CRDT", "12.50"), ("DBIT", "5.00")]
    assert await states(bank) == [("refund-1", "ACCP", None), ("refund-1", "ACSC", None)]


async def test_to_an_account_that_is_closed_or_nobodys_nothing_is_paid(bank: httpx2.AsyncClient) -> None:
    closed = (await pay(bank, account="closed"))["iban"]
    await order(bank, "refund-1", closed)
    await order(bank, "refund-2", made_up_iban("nobody"))
    assert await states(bank) == [("refund-1", "RJCT", "AC04"), ("refund-2", "RJCT", "AC04")]
    assert await booked(bank) == [("CRDT", "12.50")]


async def test_money_may_come_back(bank: httpx2.AsyncClient) -> None:
    await order(bank, "refund-1", (await pay(bank, account="returns"))["iban"])
    assert await booked(bank) == [("CRDT", "12.50"), ("DBIT", "5.00"), ("CRDT", "5.00")]
    *_, (_, root, names) = await received(bank, "notifications")
    [entry] = root.iter(f"{{{names['']}}}Ntry")
    assert entry.findtext("NtryDtls/TxDtls/RtrInf/Rsn/Cd", None, names) == "AC04"
    assert entry.findtext("NtryDtls/TxDtls/Refs/EndToEndId", None, names) == "refund-1"
    assert [state for _, state, _ in await states(bank)] == ["ACCP", "ACSC"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda body: b"<Document", 400, "invalid_xml"),
        (lambda body: b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', 400, "invalid_xml"),
        (lambda body: body.replace(b"pain.001.001.09", b"pain.001.001.03"), 422, "invalid_message"),
        (lambda body: body.replace(IBAN.encode(), b"DE02120300000000202051"), 422, "invalid_account"),
        (lambda body: body.replace(b"<NbOfTxs>1<", b"<NbOfTxs>2<"), 422, "invalid_header"),
        (lambda body: body.replace(b"refund-1", b"refund-" + b"1" * 30), 422, "invalid_order"),
        (lambda body: body + b" " * 2_000_000, 413, "request_too_large"),
    ],
    ids=["no XML", "entities", "another version", "another's account", "miscounted", "a long name", "too large"],
)
async def test_an_order_that_is_not_as_it_must_be_pays_nothing(
    bank: httpx2.AsyncClient, change: Callable[[bytes], bytes], status: int, code: str
) -> None:
    zoe = (await pay(bank))["iban"]
    refused = await bank.post("/v1/payments", content=change(asked_for("refund-1", zoe)))
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert await booked(bank) == [("CRDT", "12.50")]


async def test_who_has_no_key_is_told_nothing(bank: httpx2.AsyncClient) -> None:
    for path in ("/v1/notifications", "/v1/statements", "/_control/waiting"):
        assert (await bank.get(path, headers={"Authorization": "Bearer other"})).status_code == 401
    assert (await bank.get("/health/live", headers={"Authorization": ""})).status_code == 200


# ── Statements ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_statement_comes_page_by_page_and_says_which_is_the_last(bank: httpx2.AsyncClient) -> None:
    for amount in ("1.00", "2.00", "3.00"):
        await pay(bank, amount)
    pages, cursor = [], "0"
    while cursor:
        response = await bank.get("/v1/statements", params={"limit": "2", "cursor": cursor})
        root: Element = fromstring(response.content)
        names = {"": root.tag[1:].partition("}")[0]}
        assert root.findtext("BkToCstmrStmt/Stmt/Acct/Id/IBAN", None, names) == IBAN
        pages.append((entries_of(root, names), root.findtext("BkToCstmrStmt/Stmt/StmtPgntn/LastPgInd", None, names)))
        cursor = response.headers.get("Next-Cursor", "")
    assert pages == [([("CRDT", "1.00"), ("CRDT", "2.00")], "false"), ([("CRDT", "3.00")], "true")]


async def test_the_books_add_up_and_cannot_be_changed(bank: httpx2.AsyncClient, tmp_path: Path) -> None:
    await order(bank, "refund-1", (await pay(bank, account="returns"))["iban"])
    await booked(bank)
    with closing(sqlite3.connect(tmp_path / "bank.sqlite", isolation_level=None)) as ledger:
        sides = ledger.execute("SELECT transfer, group_concat(side, ' ') FROM entries GROUP BY transfer").fetchall()
        assert len(sides) == 3
        assert all(sorted(found.split()) == ["CRDT", "DBIT"] for _, found in sides)
        for change in ("UPDATE entries SET amount = '0.01'", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                ledger.execute(change)


# ── Faults on demand ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_bank_that_is_down_has_done_nothing_and_one_whose_answer_is_lost_has(
    bank: httpx2.AsyncClient, start_process: Callable[..., Awaitable[Process]]
) -> None:
    zoe = (await pay(bank))["iban"]
    await bank.post("/_control/faults", json={"fail_next": 1})
    assert (await order(bank, "refund-1", zoe)).status_code == 503
    assert await booked(bank) == [("CRDT", "12.50")]
    process = await start_process("bank", BANK_API_KEY=API_KEY, BANK_IBAN=IBAN)
    await process.http.post("/_control/faults", json={"lose_replies_next": 1})
    with pytest.raises(httpx2.TransportError):
        await order(process.http, "refund-1", zoe)
    assert (await order(process.http, "refund-1", zoe)).status_code == 202
    assert await booked(process.http) == [("CRDT", "12.50"), ("DBIT", "5.00")]


async def test_orders_that_are_refused_and_returned_on_demand(bank: httpx2.AsyncClient) -> None:
    zoe = (await pay(bank))["iban"]
    await bank.post("/_control/faults", json={"refuse_next": 1, "return_next": 1})
    for name in ("refused", "returned", "paid"):
        await order(bank, name, zoe, "1.00")
    assert await booked(bank) == [("CRDT", "12.50"), ("DBIT", "1.00"), ("DBIT", "1.00"), ("CRDT", "1.00")]
    found = {(name, state) for name, state, _ in await states(bank)}
    assert {("refused", "RJCT"), ("returned", "ACSC"), ("paid", "ACSC")} <= found


async def test_news_that_is_late_and_news_that_comes_twice(
    bank: httpx2.AsyncClient, until: Callable[..., Awaitable[Any]]
) -> None:
    await bank.post("/_control/faults", json={"documents_late_ms": 300, "documents_twice": True})
    await pay(bank)
    assert await waiting(bank, "notifications") is None
    assert (await bank.get("/_control/waiting")).json() == {"notifications": 1}
    first = await until(lambda: received(bank, "notifications"))
    again = await until(lambda: received(bank, "notifications"))
    assert [entries_of(root, names) for _, root, names in (*first, *again)] == [[("CRDT", "12.50")]] * 2
    assert first[0][0] != again[0][0]
    assert (await bank.get("/_control/waiting")).json() == {}


# ── Restarts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_all_of_it_outlives_a_kill(start_process: Callable[..., Awaitable[Process]]) -> None:
    process = await start_process("bank", BANK_API_KEY=API_KEY, BANK_IBAN=IBAN)
    zoe = (await pay(process.http))["iban"]
    assert (await order(process.http, "refund-1", zoe)).status_code == 202
    await process.kill()
    await process.start()
    assert (await order(process.http, "refund-1", zoe)).status_code == 202
    assert await booked(process.http) == [("CRDT", "12.50"), ("DBIT", "5.00")]
    assert await states(process.http) == [("refund-1", "ACCP", None), ("refund-1", "ACSC", None)]
    assert len(await received(process.http, "notifications")) == 2

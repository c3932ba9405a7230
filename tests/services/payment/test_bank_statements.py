"""Statements that an admin uploads, and what staff see of the bank's account."""

import httpx2
import pytest

from contracts.identity import Role
from contracts.payments import ProcessPayment
from services.payment.model import creditor_reference
from tests.conftest import TokenMint
from tests.services.payment.conftest import BankSimulator, pay, refund_of

PUBLIC, INTERNAL = "/api/v1/payments", "/internal/v1/payments"


async def asked(client: httpx2.AsyncClient, mint: TokenMint) -> tuple[ProcessPayment, str]:
    """A payment that waits for a transfer, and its reference."""
    payment = pay("bank_transfer")
    body = payment.model_dump(mode="json")
    answer = (await client.post(f"{INTERNAL}/process", json=body, headers=mint.headers(Role.SERVICE))).json()
    assert answer["status"] == "ACTION_REQUIRED"
    return payment, answer["action"]["transfer"]["reference"]


async def test_a_statement_settles_what_it_tells_however_often_it_is_uploaded(
    client: httpx2.AsyncClient, mint: TokenMint, bank_simulator: BankSimulator
) -> None:
    payment, reference = await asked(client, mint)
    assert reference == creditor_reference(f"{payment.order_id}-1")
    entry = await bank_simulator.pay("13.00", reference, name="Ann")
    statement, admin = await bank_simulator.statement(), mint.headers(Role.ADMIN)
    for new in (1, 0):
        answer = await client.post(f"{PUBLIC}/bank-statements", content=statement, headers=admin)
        assert (answer.status_code, answer.json()) == (200, {"entries": 1, "new": new})
    [found] = (await client.get(f"{PUBLIC}?order_id={payment.order_id}", headers=admin)).json()["items"]
    assert found["status"] == "CAPTURED"
    [debt] = (await client.get(f"{PUBLIC}/owed", headers=admin)).json()["items"]
    assert (debt["kind"], debt["amount"]["amount"], debt["order_id"]) == ("overpaid", "0.50", str(payment.order_id))
    support = mint.headers(Role.SUPPORT)
    [row] = (await client.get(f"{PUBLIC}/bank-entries?reference={reference}", headers=support)).json()["items"]
    assert (row["entry_id"], row["name"], row["taken"]["amount"]) == (entry, "Ann", "12.50")
    assert (await client.get(f"{PUBLIC}/bank-entries?reference=RF18539007547034", headers=support)).json()["items"] == []
    body = refund_of(payment).model_dump(mode="json")
    undone = await client.post(f"{INTERNAL}/refund", json=body, headers=mint.headers(Role.SERVICE))
    assert undone.json()["status"] == "REFUNDED"
    [order] = (await client.get(f"{PUBLIC}/bank-orders?state=TO_SEND", headers=support)).json()["items"]
    assert (order["name"], order["amount"]["amount"], order["reference"]) == ("Ann", "12.50", reference)


@pytest.mark.parametrize("body", [b"", b"<a/>", b'{"entries": []}', b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
async def test_what_is_no_statement_is_refused(client: httpx2.AsyncClient, mint: TokenMint, body: bytes) -> None:
    answer = await client.post(f"{PUBLIC}/bank-statements", content=body, headers=mint.headers(Role.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [error["field"] for error in answer.json()["errors"]] == ["body"]


async def test_a_statement_is_bounded(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    answer = await client.post(f"{PUBLIC}/bank-statements", content=1_000_001 * b" ", headers=mint.headers(Role.ADMIN))
    assert answer.status_code == 413


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.SUPPORT, Role.WAREHOUSE])
async def test_only_admins_upload_statements(client: httpx2.AsyncClient, mint: TokenMint, role: Role) -> None:
    answer = await client.post(f"{PUBLIC}/bank-statements", content=b"", headers=mint.headers(role))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    if role != Role.SUPPORT:
        for path in ("bank-entries", "bank-orders"):
            assert (await client.get(f"{PUBLIC}/{path}", headers=mint.headers(role))).status_code == 403

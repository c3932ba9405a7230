"""Payment's API: who sees what, what refusals and faults look like, pages."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from chassis.clients import Answer, Unavailable, failure
from contracts.errors import Refusal
from contracts.identity import Role
from contracts.money import Money
from contracts.payments import CapturePayment, ProcessPayment, RefundPayment
from tests.conftest import TokenMint
from tests.services.payment.conftest import Simulator, capture_of, pay, refund_of

INTERNAL = "/internal/v1/payments"
PUBLIC = "/api/v1/payments"


async def send(client: httpx2.AsyncClient, mint: TokenMint, command: Any, what: str = "process") -> httpx2.Response:
    body = command.model_dump(mode="json")
    return await client.post(f"{INTERNAL}/{what}", json=body, headers=mint.headers(Role.SERVICE))


async def test_only_the_platform_moves_money(client: httpx2.AsyncClient, mint: TokenMint, simulator: Simulator) -> None:
    payment = pay()
    for what, command in (("process", payment), ("capture", capture_of(payment)), ("refund", refund_of(payment))):
        body = command.model_dump(mode="json")
        assert (await client.post(f"{INTERNAL}/{what}", json=body)).json()["code"] == "unauthenticated"
        for role in (Role.CUSTOMER, Role.SUPPORT, Role.ADMIN):
            response = await client.post(f"{INTERNAL}/{what}", json=body, headers=mint.headers(role))
            assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert await simulator.charges() == {}


async def test_pay_hold_capture_and_refund(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    payment = pay(capture=False)
    assert (await send(client, mint, payment)).json()["status"] == "AUTHORIZED"
    assert (await send(client, mint, capture_of(payment), "capture")).json()["status"] == "CAPTURED"
    undone = (await send(client, mint, refund_of(payment), "refund")).json()
    assert (undone["status"], undone["refunded"]) == ("REFUNDED", {"amount": "12.50", "currency": "USD"})
    late = await send(client, mint, payment)
    assert (late.status_code, late.json()["code"]) == (409, "payment_reversed")


async def test_a_decline_is_a_problem_that_the_saga_reads_as_a_refusal(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    response = await send(client, mint, pay("pm_card_visa_chargeDeclinedInsufficientFunds"))
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["detail"]) == ("payment_declined", "Your card has insufficient funds.")
    assert problem["decline_code"] == "insufficient_funds"
    read = failure("payment", Answer(response.status_code, response.content, response.headers))
    assert isinstance(read, Refusal)
    assert read.extra == {"decline_code": "insufficient_funds"}


async def test_an_unknown_outcome_is_a_fault_that_the_saga_repeats(
    client: httpx2.AsyncClient, mint: TokenMint, simulator: Simulator
) -> None:
    payment = pay()
    await simulator.faults(down=True)
    response = await send(client, mint, payment)
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert response.headers["retry-after"] == "1"
    assert isinstance(failure("payment", Answer(response.status_code, response.content, response.headers)), Unavailable)
    await simulator.faults(down=False)
    assert (await send(client, mint, payment)).json()["status"] == "CAPTURED"


@pytest.mark.parametrize(
    ("field", "value"), [("attempt", 0), ("attempt", 21), ("payment_token", "4111 1111 1111 1111"), ("amount", {"amount": "x"})]
)
async def test_a_bad_field_is_named_and_not_echoed(
    client: httpx2.AsyncClient, mint: TokenMint, simulator: Simulator, field: str, value: object
) -> None:
    body = pay().model_dump(mode="json") | {field: value}
    response = await client.post(f"{INTERNAL}/process", json=body, headers=mint.headers(Role.SERVICE))
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    assert response.json()["errors"][0]["field"].startswith(field)
    assert "4111" not in response.text
    assert await simulator.charges() == {}


async def test_a_customer_sees_their_own_payments_and_nobody_else_s(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    mine, theirs = pay(), pay()
    paid = [(await send(client, mint, payment)).json() for payment in (mine, theirs)]
    owner = mint.headers(Role.CUSTOMER, subject=mine.customer_id)
    own, other = (f"{PUBLIC}/{payment['payment_id']}" for payment in paid)
    view = (await client.get(own, headers=owner)).json()
    assert (view["status"], view["amount"]["amount"], view["attempt"]) == ("CAPTURED", "12.50", 1)
    assert [item["payment_id"] for item in await listed(client, owner)] == [paid[0]["payment_id"]]
    assert await listed(client, owner, order_id=str(theirs.order_id)) == []
    for path in (other, f"{other}/movements", f"{other}/transactions", f"{PUBLIC}/{uuid4()}"):
        response = await client.get(path, headers=owner)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    for path in (PUBLIC, own, f"{own}/movements", f"{own}/transactions"):
        assert (await client.get(path)).json()["code"] == "unauthenticated"
    assert len(await listed(client, mint.headers(Role.SUPPORT))) == 2


async def test_a_tombstone_is_for_staff_to_see(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    payment = pay()
    undone = (await send(client, mint, refund_of(payment), "refund")).json()
    assert await listed(client, mint.headers(Role.CUSTOMER, subject=payment.customer_id)) == []
    path = f"{PUBLIC}/{undone['payment_id']}"
    assert (await client.get(path, headers=mint.headers(Role.CUSTOMER))).status_code == 404
    view = (await client.get(path, headers=mint.headers(Role.SUPPORT))).json()
    assert (view["status"], view["amount"]["amount"]) == ("VOIDED", "0.00")


async def test_payments_come_in_pages_newest_first(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    customer = uuid4()
    made = []
    for token in ("pm_card_visa", "pm_card_visa_chargeDeclined", "pm_card_visa"):
        payment = pay(token).model_copy(update={"customer_id": customer})
        await send(client, mint, payment)
        made.append(str(payment.order_id))
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    assert [item["order_id"] for item in await listed(client, headers, limit="2")] == made[::-1]
    [declined] = await listed(client, headers, status="DECLINED")
    assert (declined["order_id"], declined["decline_code"]) == (made[1], "card_declined")
    assert [item["order_id"] for item in await listed(client, headers, order_id=made[0])] == [made[0]]
    bad = await client.get(PUBLIC, params={"cursor": "nonsense"}, headers=headers)
    assert bad.json()["code"] == "invalid_cursor"


async def test_the_ledger_of_a_payment_comes_in_pages_oldest_first(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    payment: ProcessPayment = pay(capture=False)
    paid = (await send(client, mint, payment)).json()
    await send(client, mint, capture_of(payment), "capture")
    await send(client, mint, refund_of(payment), "refund")
    headers = mint.headers(Role.CUSTOMER, subject=payment.customer_id)
    rows = await listed(client, headers, f"{PUBLIC}/{UUID(paid['payment_id'])}/transactions", limit="2")
    assert [row["kind"] for row in rows] == ["authorize", "capture", "refund"]
    assert {row["amount"]["amount"] for row in rows} == {"12.50"}


async def test_a_payment_shows_its_sums_and_movements(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    payment = pay(capture=False)
    paid = (await send(client, mint, payment)).json()
    taken = CapturePayment(order_id=payment.order_id, amount=usd("5.00"), key="parcel-1", is_last=False, purpose="it has left")
    reply = (await send(client, mint, taken, "capture")).json()
    assert (reply["moved"], reply["captured"]) == (2 * ({"amount": "5.00", "currency": "USD"},))
    back = RefundPayment(order_id=payment.order_id, amount=usd("2.00"), key="parcel-1-lost", reason="lost")
    assert (await send(client, mint, back, "refund")).json()["moved"]["amount"] == "2.00"
    headers = mint.headers(Role.CUSTOMER, subject=payment.customer_id)
    view = (await client.get(f"{PUBLIC}/{paid['payment_id']}", headers=headers)).json()
    sums = {name: view[name]["amount"] for name in ("amount", "authorized", "captured", "refunded", "held")}
    assert sums == {"amount": "12.50", "authorized": "12.50", "captured": "5.00", "refunded": "2.00", "held": "7.50"}
    assert view["held_until"] is not None
    rows = [(row["kind"], row["key"], row["amount"]["amount"], row["state"], row["purpose"]) for row in view["movements"]]
    assert rows == [
        ("authorize", "charge", "12.50", "SUCCEEDED", None),
        ("capture", "parcel-1", "5.00", "SUCCEEDED", "it has left"),
        ("refund", "parcel-1-lost", "2.00", "SUCCEEDED", "lost"),
    ]
    assert await listed(client, headers, f"{PUBLIC}/{paid['payment_id']}/movements", limit="2") == view["movements"]


async def test_the_ledger_is_for_admins_and_adds_up(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    payment, other = pay(capture=False), pay()
    paid = (await send(client, mint, payment)).json()
    await send(client, mint, other)
    await send(client, mint, capture_of(payment), "capture")
    await send(client, mint, refund_of(payment), "refund")
    for role in (Role.CUSTOMER, Role.SUPPORT, Role.WAREHOUSE):
        headers = mint.headers(role, subject=payment.customer_id)
        assert (await client.get(f"{PUBLIC}/ledger", headers=headers)).json()["code"] == "forbidden"
    admin = mint.headers(Role.ADMIN)
    rows = await listed(client, admin, f"{PUBLIC}/ledger", limit="3")
    assert [row["entry_id"] for row in rows] == sorted((row["entry_id"] for row in rows), reverse=True)
    assert len(rows) == 8
    assert sum(Decimal(row["amount"]["amount"]) for row in rows) == 0
    own = await listed(client, admin, f"{PUBLIC}/ledger", payment_id=paid["payment_id"], account="provider")
    assert [(row["kind"], row["amount"]["amount"]) for row in own] == [("refund", "-12.50"), ("capture", "12.50")]
    assert {row["order_id"] for row in own} == {str(payment.order_id)}


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount))


async def listed(client: httpx2.AsyncClient, headers: dict[str, str], path: str = PUBLIC, **params: str) -> list[dict[str, Any]]:
    """Every item of a list, page by page."""
    items: list[dict[str, Any]] = []
    while True:
        page = (await client.get(path, params=params, headers=headers)).json()
        items += page["items"]
        if not page["next_cursor"]:
            return items
        params["cursor"] = page["next_cursor"]

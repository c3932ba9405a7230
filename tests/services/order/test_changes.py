"""What may be asked of an order in parts: another card for a declined one, an answer about goods that are out of stock, a
decision about one of several parcels."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
from sqlalchemy import text
from temporalio.client import Client

from chassis.clock import utc_now
from chassis.database import Database
from contracts.errors import ErrorCode
from contracts.identity import Role
from contracts.ids import order_id_for, order_workflow_id
from contracts.orders import AdvanceOrder, OrderState, Outcome
from contracts.parcels import OrderParcel, ParcelLine, ParcelStatus, Trouble
from services.order import commands
from tests.conftest import TokenMint
from tests.services.order.conftest import S
from tests.services.order.test_api import place, script, without_trace

UNTIL = utc_now() + timedelta(minutes=15)
CARD = {"payment_token": "pm_card_mastercard"}


class Due:
    """An order that waits for another card."""

    def __init__(self, client: httpx2.AsyncClient, temporal: Client, mint: TokenMint, database: Database) -> None:
        self.client, self.temporal, self.mint, self.database = client, temporal, mint, database
        self.customer = uuid4()
        self.headers = mint.headers(Role.CUSTOMER, subject=self.customer)
        self.order_id: UUID = order_id_for(self.customer, "k1")
        self.url = f"/api/v1/orders/{self.order_id}"
        self.declined = Outcome(
            order_id=self.order_id,
            status=S.PAYMENT_DUE,
            code=ErrorCode.PAYMENT_DECLINED,
            detail="The card was declined.",
            decline_code="insufficient_funds",
            pay_until=UNTIL,
        )
        self.confirmed = Outcome(
            order_id=self.order_id, status=S.CONFIRMED, tracking_number="T1", warehouse_id="w1", at=utc_now()
        )

    async def place(self) -> httpx2.Response:
        """Place it; its saga tells that its card was declined."""
        placing = asyncio.create_task(place(self.client, self.headers, prefer=""))
        await script(self.temporal, str(self.order_id), outcome=self.declined)
        placed = await placing
        await self.tell(1, S.RESERVED, S.PAYMENT_DUE, outcome=self.declined, pay_until=UNTIL)
        return placed

    async def tell(self, after: int, *path: str, **facts: object) -> None:
        word = {"order_id": self.order_id, "after": after, "path": path, "as_of": utc_now(), **facts}
        await commands.advance_order(self.database, AdvanceOrder.model_validate(word))

    async def pay(self, key: str, card: dict[str, str] | None = None, seen: str | None = None) -> httpx2.Response:
        headers = self.headers | {"Idempotency-Key": key} | ({"If-Match": seen} if seen else {})
        return await self.client.post(f"{self.url}/payments", json=card or CARD, headers=headers)

    async def asked(self) -> list[str]:
        asked: list[str] = await self.temporal.get_workflow_handle(order_workflow_id(self.order_id)).query("asked")
        return asked


async def test_i10_a_declined_order_may_be_paid_with_another_card(
    patient_client: httpx2.AsyncClient, temporal_client: Client, mint: TokenMint, database: Database
) -> None:
    due = Due(patient_client, temporal_client, mint, database)
    placed = await due.place()
    assert (placed.status_code, placed.headers["location"]) == (402, due.url)
    told = placed.json()
    assert (told["code"], told["order_id"], told["decline_code"]) == (
        "payment_declined", str(due.order_id), "insufficient_funds",
    )  # fmt: skip
    assert told["pay_until"] == UNTIL.isoformat().replace("+00:00", "Z")
    for prefer in ("", "respond-async"):
        again = await place(patient_client, due.headers, prefer=prefer)
        assert (again.status_code, without_trace(again)) == (402, without_trace(placed))
    seen = (await patient_client.get(due.url, headers=due.headers)).json()
    assert (seen["status"], seen["pay_until"], seen["code"]) == ("PAYMENT_DUE", told["pay_until"], None)

    await script(temporal_client, str(due.order_id), paid=due.declined)
    assert (await due.pay("p1")).status_code == 402
    await script(temporal_client, str(due.order_id), paid=due.confirmed)
    assert (await due.pay("p1")).status_code == 402  # the same request, the same answer
    paying = await asyncio.gather(*[due.pay("p2") for _ in range(3)])
    assert [paid.status_code for paid in paying] == [201, 201, 201]
    await due.tell(3, S.PAID, S.CONFIRMED, outcome=due.confirmed, warehouse_id="w1", tracking_number="T1")
    paid = await due.pay("p2")
    assert (paid.status_code, paid.json(), paid.headers["idempotent-replayed"]) == (201, paying[0].json(), "true")
    assert (await place(patient_client, due.headers, prefer="")).json() == paid.json()
    assert await due.asked() == ["pay pm_card_mastercard", "pay pm_card_mastercard"]


async def test_i10_a_key_to_pay_names_one_card_and_one_answer(
    patient_client: httpx2.AsyncClient, temporal_client: Client, mint: TokenMint, database: Database
) -> None:
    due = Due(patient_client, temporal_client, mint, database)
    await due.place()
    stale = await due.pay("p1", seen='"1"')
    assert (stale.status_code, stale.json()["current"]["status"]) == (412, "PAYMENT_DUE")
    await script(temporal_client, str(due.order_id), paid=due.confirmed)
    assert (await due.pay("p1")).status_code == 201
    other = await due.pay("p1", {"payment_token": "tok_other"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    await script(temporal_client, str(due.order_id), paid=due.confirmed, refusal=ErrorCode.PAYMENT_NOT_DUE)
    refused = await due.pay("p2")
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_not_due")
    await script(temporal_client, str(due.order_id), paid=due.confirmed)
    assert (await due.pay("p2")).json()["code"] == "payment_not_due"
    stranger = due.headers | mint.headers(Role.CUSTOMER, subject=uuid4()) | {"Idempotency-Key": "p3"}
    assert (await patient_client.post(f"{due.url}/payments", json=CARD, headers=stranger)).status_code == 404
    support = mint.headers(Role.SUPPORT) | {"Idempotency-Key": "p3"}
    assert (await patient_client.post(f"{due.url}/payments", json=CARD, headers=support)).status_code == 201
    async with database.reading() as session:
        for table in ("orders", "idempotency_keys", "outbox"):
            rows = (await session.execute(text(f"select * from {table}"))).all()
            assert rows
            assert "pm_card_mastercard" not in str(rows)


async def test_i10_what_comes_of_a_card_may_take_longer(
    client: httpx2.AsyncClient, patient_client: httpx2.AsyncClient, temporal_client: Client, mint: TokenMint, database: Database
) -> None:
    due = Due(patient_client, temporal_client, mint, database)
    await due.place()
    due.client = client
    late = await due.pay("p1")
    assert (late.status_code, late.json()["status"], late.headers["location"]) == (202, "PAYMENT_DUE", due.url)
    await script(temporal_client, str(due.order_id), paid=due.confirmed)
    due.client = patient_client
    assert (await due.pay("p1")).status_code == 201
    assert await due.asked() == ["pay pm_card_mastercard"]


async def test_i10_no_card_is_taken_of_an_order_without_a_saga(
    client: httpx2.AsyncClient, mint: TokenMint, database: Database, temporal_client: Client
) -> None:
    due = Due(client, temporal_client, mint, database)
    assert (await due.pay("p1")).status_code == 404
    await place(client, due.headers)
    unkeyed = await client.post(f"{due.url}/payments", json=CARD, headers=due.headers)
    assert unkeyed.json()["code"] == "idempotency_key_missing"


async def test_i10_a_customer_says_what_becomes_of_goods_that_are_out_of_stock(
    patient_client: httpx2.AsyncClient, temporal_client: Client, mint: TokenMint, database: Database
) -> None:
    due = Due(patient_client, temporal_client, mint, database)
    await due.place()
    state = OrderState(order_id=due.order_id, status=S.CONFIRMED, waiting_for="goods", stuck_undos=("secret",))
    await script(temporal_client, str(due.order_id), state=state)

    async def answer(choice: str) -> httpx2.Response:
        return await patient_client.post(f"{due.url}/shortage", json={"choice": choice}, headers=due.headers)

    answered = await answer("drop")
    assert (answered.status_code, answered.json()) == (200, {"order_id": str(due.order_id), "status": "CONFIRMED"})
    assert (await answer("ask")).status_code == 422
    await script(temporal_client, str(due.order_id), refusal=ErrorCode.NO_DECISION_PENDING)
    assert (await answer("wait")).json()["code"] == "no_decision_pending"
    assert await due.asked() == ["drop"]


async def test_i10_a_warehouse_splits_what_it_cannot_send_whole(
    patient_client: httpx2.AsyncClient, temporal_client: Client, mint: TokenMint, database: Database
) -> None:
    due = Due(patient_client, temporal_client, mint, database)
    await due.place()
    lines = (ParcelLine(line_id=1, product_id="milk", quantity=2),)
    parcels = (OrderParcel(parcel=1, status=ParcelStatus.BOOKED, lines=lines, warehouse_id="w1", tracking_number="T1"),)
    await due.tell(3, S.PAID, S.CONFIRMED, outcome=due.confirmed, parcels=parcels)
    await script(temporal_client, str(due.order_id), state=OrderState(order_id=due.order_id, status=S.CONFIRMED, waiting_for="x"))
    packer = uuid4()
    body = {"lines": [{"line_id": 1, "quantity": 1}], "reason": "one was broken"}

    async def split(parcel: int = 1, *, warehouse: str = "w1", key: str = "split-1") -> httpx2.Response:
        headers = mint.headers(Role.WAREHOUSE, subject=packer, warehouses=[warehouse]) | {"Idempotency-Key": key}
        return await patient_client.post(f"{due.url}/parcels/{parcel}/split", json=body, headers=headers)

    assert (await split()).json()["status"] == "CONFIRMED"
    assert (await split()).status_code == 200  # the same request again joins the first one
    assert (await split(2)).status_code == 404
    assert (await split(warehouse="w2")).status_code == 404
    assert (await patient_client.post(f"{due.url}/parcels/1/split", json=body, headers=due.headers)).status_code == 403
    await script(temporal_client, str(due.order_id), refusal=ErrorCode.CONFLICT)
    assert (await split(key="split-2")).json()["code"] == "conflict"
    assert await due.asked() == [f"split 1, 1 of line 1, {packer}: one was broken"]


async def test_i10_parcels_are_shown_and_decided_about_one_by_one(
    patient_client: httpx2.AsyncClient, temporal_client: Client, mint: TokenMint, database: Database
) -> None:
    due = Due(patient_client, temporal_client, mint, database)
    await due.place()
    lines = (ParcelLine(line_id=1, product_id="milk", quantity=1),)
    parcels: tuple[Any, ...] = (
        OrderParcel(parcel=1, status=ParcelStatus.SHIPPED, lines=lines, warehouse_id="w1", tracking_number="T1"),
        OrderParcel(parcel=2, status=ParcelStatus.UNDELIVERED, lines=lines, warehouse_id="w2", trouble=Trouble.LOST),
    )
    path = (S.PAID, S.CONFIRMED, S.SHIPPED, S.UNDELIVERED)
    await due.tell(3, *path, outcome=due.confirmed, trouble=Trouble.LOST, parcels=parcels)
    state = OrderState(order_id=due.order_id, status=S.UNDELIVERED, waiting_for="a decision")
    await script(temporal_client, str(due.order_id), state=state)
    mine = (await patient_client.get(due.url, headers=due.headers)).json()["parcels"]
    assert [(parcel["parcel"], parcel["status"], parcel["tracking_number"]) for parcel in mine] == [
        (1, "SHIPPED", "T1"), (2, "UNDELIVERED", None),
    ]  # fmt: skip
    assert mine[0]["lines"] == [{"line_id": 1, "product_id": "milk", "quantity": 1}]
    assert "trouble" not in mine[1]
    support = mint.headers(Role.SUPPORT)
    theirs = (await patient_client.get(due.url, headers=support)).json()["parcels"]
    assert [parcel["trouble"] for parcel in theirs] == [None, "lost"]
    decision = {"choice": "refund", "reason": "gone", "parcel": 2}
    assert (await patient_client.post(f"{due.url}/parcel-decision", json=decision, headers=support)).status_code == 200
    [asked] = await due.asked()
    assert asked.startswith("refund 2 ")

"""Parcels in which returns come back: booked once, called off or handed in and never both, and told of by events of their own."""

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.shipments import CreateReturnLabel, Direction, ShipmentStatus
from services.shipping import commands, queries
from services.shipping.adapters import HttpCarrier
from services.shipping.model import Shipment
from services.shipping.ports import CarrierNews, Parcel, ReturnParcel
from simulators._webhooks import signature
from tests.conftest import ADMIN, TokenMint
from tests.services.shipping.conftest import WEBHOOK_SECRET, CarrierSimulator
from tests.services.shipping.parcels import (
    ADDRESS,
    as_sent,
    envelopes_of,
    events_of,
    label,
    news,
    order,
    return_of,
    shipment_of,
    undo,
    undo_label,
)

S = ShipmentStatus


async def label_of(database: Database, command: CreateReturnLabel) -> Shipment:
    return await shipment_of(database, command.order_id, command.number, Direction.INBOUND)


async def tell(database: Database, command: CreateReturnLabel, *statuses: str, **changes: Any) -> None:
    """What the carrier tells of a return's parcel."""
    for status in statuses:
        told = news(order(), status, reference=return_of(command), **changes)
        await commands.apply_carrier_news(database, told)


def test_the_carrier_is_told_where_to_fetch_it_and_where_to_take_it() -> None:
    command = label()
    assert Shipment.label_to_book(command).as_booked == ReturnParcel(
        reference=return_of(command), service="standard", origin=ADDRESS, depot="367", weight_grams=2500
    )
    assert isinstance(Shipment.to_book(order()).as_booked, Parcel)


async def test_the_same_return_is_booked_once(database: Database, carrier: HttpCarrier, simulator: CarrierSimulator) -> None:
    command = label()
    replies = await asyncio.gather(*[commands.create_return_label(database, carrier, command) for _ in range(8)])
    assert len(set(replies)) == 1
    theirs = await simulator.shipment(return_of(command))
    assert theirs is not None
    assert (theirs["status"], theirs["depot"], theirs["tracking_number"]) == ("booked", "367", replies[0].tracking_number)
    assert (replies[0].order_id, replies[0].number, replies[0].status) == (command.order_id, 1, S.BOOKED)
    assert await events_of(database, command.order_id) == ["ReturnLabelUpdated BOOKED"]


async def test_returns_and_parcels_of_an_order_are_apart(database: Database, carrier: HttpCarrier) -> None:
    parcel = order()
    sent = await commands.create_shipment(database, carrier, parcel)
    labels = [await commands.create_return_label(database, carrier, label(parcel, number)) for number in (1, 2)]
    assert len({sent.tracking_number, *[each.tracking_number for each in labels]}) == 3
    await commands.cancel_return_label(database, carrier, undo_label(label(parcel)))
    assert (await queries.get_shipment_of_order(database, parcel.order_id)).status == S.BOOKED
    await commands.cancel_shipment(database, carrier, undo(parcel))
    assert (await label_of(database, label(parcel, 2))).status == S.BOOKED


@pytest.mark.parametrize(
    ("wrong", "code", "asks"),
    [
        ({"city": "Nowhere"}, ErrorCode.ADDRESS_UNDELIVERABLE, True),
        ({"country": "AQ"}, ErrorCode.ADDRESS_UNDELIVERABLE, False),
        ({"weight_grams": 150_001}, ErrorCode.PARCEL_TOO_HEAVY, False),
        ({"warehouse_id": "nowhere"}, ErrorCode.WAREHOUSE_UNKNOWN, True),
    ],
)
async def test_a_refusal_is_remembered_and_needs_no_undo(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator, wrong: dict[str, Any], code: ErrorCode, asks: bool
) -> None:
    warehouse_id = wrong.pop("warehouse_id", "367")
    command = label(**wrong).model_copy(update={"warehouse_id": warehouse_id})
    await simulator.faults(down=not asks)
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await commands.create_return_label(database, carrier, command)
        assert refused.value.code == code
        await simulator.faults(down=True)  # the second time nobody is asked
    assert (await commands.cancel_return_label(database, carrier, undo_label(command))).status == S.REFUSED
    assert await events_of(database, command.order_id) == []


async def test_a_lost_reply_books_once(database: Database, carrier: HttpCarrier, simulator: CarrierSimulator) -> None:
    command = label(city="Lostville")
    with pytest.raises(Unavailable):
        await commands.create_return_label(database, carrier, command)
    assert (await label_of(database, command)).status == S.PENDING
    theirs = await simulator.shipment(return_of(command))
    booked = await commands.create_return_label(database, carrier, command)
    assert theirs is not None
    assert (booked.status, booked.tracking_number) == (S.BOOKED, theirs["tracking_number"])


async def test_an_undo_that_overtakes_its_step_forbids_it(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    command = label()
    for _ in range(2):
        assert (await commands.cancel_return_label(database, carrier, undo_label(command))).status == S.CANCELLED
    with pytest.raises(Refusal) as refused:
        await commands.create_return_label(database, carrier, command)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert await simulator.shipment(return_of(command)) is None
    assert await events_of(database, command.order_id) == []


async def test_it_is_called_off_once(database: Database, carrier: HttpCarrier, simulator: CarrierSimulator) -> None:
    command = label()
    await commands.create_return_label(database, carrier, command)
    for _ in range(2):
        assert (await commands.cancel_return_label(database, carrier, undo_label(command))).status == S.CANCELLED
    assert await simulator.status(return_of(command)) == "cancelled"
    assert await events_of(database, command.order_id) == ["ReturnLabelUpdated BOOKED", "ReturnLabelUpdated CANCELLED"]


async def test_a_cancel_without_an_answer_is_asked_again(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    command = label()
    await commands.create_return_label(database, carrier, command)
    await simulator.faults(fail_cancels=True)
    with pytest.raises(Unavailable):
        await commands.cancel_return_label(database, carrier, undo_label(command))
    await simulator.repair()
    assert await commands.settle_asked(database, carrier, after=timedelta(0)) >= 1
    assert (await label_of(database, command)).status == S.CANCELLED
    assert await simulator.status(return_of(command)) == "cancelled"


async def test_what_the_customer_has_handed_in_cannot_be_called_off(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    command = label()
    booked = await commands.create_return_label(database, carrier, command)
    await simulator.advance("picked_up", return_of(command))
    with pytest.raises(Refusal) as refused:
        await commands.cancel_return_label(database, carrier, undo_label(command))
    assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    assert refused.value.extra == {"tracking_number": booked.tracking_number}
    assert (await label_of(database, command)).status == S.DISPATCHED


async def test_its_way_is_told_by_events_of_its_own_each_once(database: Database, carrier: HttpCarrier) -> None:
    command = label(number=2)
    booked = await commands.create_return_label(database, carrier, command)
    await tell(database, command, "picked_up", "in_transit", "delivered", "delivered")
    envelopes = await envelopes_of(database, command.order_id)
    assert {each["type"] for each in envelopes} == {"ReturnLabelUpdated"}
    assert [each["data"]["status"] for each in envelopes] == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "DELIVERED"]
    assert {(each["data"]["number"], each["data"]["tracking_number"]) for each in envelopes} == {(2, booked.tracking_number)}
    view = await queries.track(database, ADMIN, booked.tracking_number or "")
    assert (view.direction, view.parcel) == (Direction.INBOUND, 2)
    assert [event.status for event in view.events][:4] == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "DELIVERED"]


async def test_the_same_piece_of_news_is_applied_once(database: Database, carrier: HttpCarrier) -> None:
    command = label()
    await commands.create_return_label(database, carrier, command)
    piece = CarrierNews(id=f"evt {command.order_id}", reference=return_of(command), status="lost", occurred_at=utc_now())
    for _ in range(3):
        await commands.apply_carrier_news(database, piece)
    assert await events_of(database, command.order_id) == [
        "ReturnLabelUpdated BOOKED", "ReturnLabelUpdated DISPATCHED", "ReturnLabelUpdated LOST",
    ]  # fmt: skip


async def test_news_out_of_order_moves_nothing_back(database: Database, carrier: HttpCarrier) -> None:
    command = label()
    await commands.create_return_label(database, carrier, command)
    await tell(database, command, "delivered")
    await tell(database, command, "picked_up", "lost", occurred_at=utc_now() - timedelta(hours=1))
    assert (await label_of(database, command)).status == S.DELIVERED


async def test_staff_cannot_hand_over_what_a_customer_has(database: Database, carrier: HttpCarrier) -> None:
    command = label()
    await commands.create_return_label(database, carrier, command)
    row = await label_of(database, command)
    with pytest.raises(Refusal) as refused:
        await commands.dispatch_shipment(database, carrier, ADMIN, row.shipment_id)
    assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION


async def test_who_sees_it(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcel = order()
    back = label(parcel)
    service = mint.headers(Role.SERVICE)
    for path, body in (("shipments/create", parcel), ("shipping/create-return-label", back)):
        answer = await client.post(f"/internal/v1/{path}", json=body.model_dump(mode="json"), headers=service)
        assert answer.status_code == 200, answer.text
    signed = json.dumps(as_sent(news(parcel, "picked_up", reference=return_of(back))))
    proof = {"Content-Type": "application/json", "X-Carrier-Signature": signature(signed, WEBHOOK_SECRET, int(time.time()))}
    for headers, status in ((proof | {"X-Carrier-Signature": "t=1,v1=00"}, 401), (proof, 204)):
        assert (await client.post("/api/v1/carriers/webhook", content=signed, headers=headers)).status_code == status

    async def seen(headers: dict[str, str], **params: str) -> list[dict[str, Any]]:
        page = await client.get("/api/v1/shipments", params={"order_id": str(parcel.order_id), **params}, headers=headers)
        items: list[dict[str, Any]] = page.json()["items"]
        return items

    owner, stranger = mint.headers(Role.CUSTOMER, subject=parcel.customer_id), mint.headers(Role.CUSTOMER)
    there, elsewhere = (mint.headers(Role.WAREHOUSE, warehouses=[warehouse]) for warehouse in ("367", "410"))
    for headers, expected in ((owner, 1), (there, 1), (mint.headers(Role.SUPPORT), 1), (stranger, 0), (elsewhere, 0)):
        found = await seen(headers, direction="inbound")
        assert len(found) == expected
        for item in found:
            assert (item["direction"], item["parcel"], item["status"], item["warehouse_id"]) == (
                "inbound",
                1,
                "DISPATCHED",
                "367",
            )
            assert (item["ship_to"], item["ship_from"]) == (None, ADDRESS.model_dump())
    for headers in (owner, mint.headers(Role.SUPPORT)):
        assert [item["direction"] for item in await seen(headers)] == ["outbound"]
    cancel = undo_label(back).model_dump(mode="json")
    refused = await client.post("/internal/v1/shipping/cancel-return-label", json=cancel, headers=service)
    assert (refused.status_code, refused.json()["code"]) == (409, "already_dispatched")

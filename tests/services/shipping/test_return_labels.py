"""Parcels in which returns come back: booked once, called off or handed in and never both, and told of by events of their own."""

import asyncio
import json
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
from services.shipping import queries
from services.shipping.commands import parcels
from services.shipping.commands.news import apply_carrier_news
from services.shipping.model import Shipment
from services.shipping.model.packing import BOXES
from services.shipping.sending import SAMPLE, Sending
from tests.conftest import ADMIN, TokenMint
from tests.services.shipping.conftest import WEBHOOK_SECRET, CarrierSimulator
from tests.services.shipping.parcels import (
    ADDRESS,
    envelopes_of,
    events_of,
    label,
    news,
    order,
    return_of,
    shipment_of,
    signed,
    tell,
    undo,
    undo_label,
)

S = ShipmentStatus


async def label_of(database: Database, command: CreateReturnLabel) -> Shipment:
    return await shipment_of(database, command.order_id, command.number, Direction.INBOUND)


def test_the_carrier_is_told_where_to_fetch_it_and_where_to_take_it() -> None:
    for shipment, is_return in ((Shipment.label_to_book(label()), True), (Shipment.to_book(order()), False)):
        [package] = shipment.packed((), BOXES)
        told = shipment.consignment(package, SAMPLE)
        customer, warehouse = (told.origin, told.destination) if is_return else (told.destination, told.origin)
        assert (told.is_return, customer.address, warehouse) == (is_return, ADDRESS, SAMPLE)


async def test_the_same_return_is_booked_once(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    command = label()
    replies = await asyncio.gather(*[parcels.create_return_label(database, sending, command) for _ in range(8)])
    assert len(set(replies)) == 1
    theirs = await simulator.label(return_of(command))
    assert (theirs["is_return"], theirs["tracking_code"]) == (True, replies[0].tracking_number)
    assert (replies[0].order_id, replies[0].number, replies[0].status) == (command.order_id, 1, S.BOOKED)
    assert await events_of(database, command.order_id) == ["ReturnLabelUpdated BOOKED"]


async def test_returns_and_parcels_of_an_order_are_apart(database: Database, sending: Sending) -> None:
    parcel = order()
    sent = await parcels.create_shipment(database, sending, parcel)
    labels = [await parcels.create_return_label(database, sending, label(parcel, number)) for number in (1, 2)]
    assert len({sent.tracking_number, *[each.tracking_number for each in labels]}) == 3
    await parcels.cancel_return_label(database, undo_label(label(parcel)))
    assert (await queries.get_shipment_of_order(database, parcel.order_id)).status == S.BOOKED
    await parcels.cancel_shipment(database, undo(parcel))
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
    database: Database, sending: Sending, simulator: CarrierSimulator, wrong: dict[str, Any], code: ErrorCode, asks: bool
) -> None:
    warehouse_id = wrong.pop("warehouse_id", "367")
    command = label(**wrong).model_copy(update={"warehouse_id": warehouse_id})
    sending = Sending(sending.carriers, warehouses={"367": SAMPLE})
    await simulator.faults(down=not asks)
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await parcels.create_return_label(database, sending, command)
        assert refused.value.code == code
        await simulator.faults(down=True)  # the second time nobody is asked
    assert (await parcels.cancel_return_label(database, undo_label(command))).status == S.REFUSED
    assert await events_of(database, command.order_id) == []


async def test_a_lost_reply_books_once(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    command = label(city="Lostville")
    with pytest.raises(Unavailable):
        await parcels.create_return_label(database, sending, command)
    assert (await label_of(database, command)).status == S.PENDING
    theirs = await simulator.label(return_of(command))
    booked = await parcels.create_return_label(database, sending, command)
    assert (booked.status, booked.tracking_number) == (S.BOOKED, theirs["tracking_code"])


async def test_an_undo_that_overtakes_its_step_forbids_it(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    command = label()
    for _ in range(2):
        assert (await parcels.cancel_return_label(database, undo_label(command))).status == S.CANCELLED
    with pytest.raises(Refusal) as refused:
        await parcels.create_return_label(database, sending, command)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert await simulator.labels(return_of(command)) == []
    assert await events_of(database, command.order_id) == []


async def test_it_is_called_off_once(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    command = label()
    await parcels.create_return_label(database, sending, command)
    for _ in range(2):
        assert (await parcels.cancel_return_label(database, undo_label(command))).status == S.CANCELLED
    assert await events_of(database, command.order_id) == ["ReturnLabelUpdated BOOKED", "ReturnLabelUpdated CANCELLED"]


async def test_what_the_customer_has_handed_in_cannot_be_called_off(database: Database, sending: Sending) -> None:
    command = label()
    booked = await parcels.create_return_label(database, sending, command)
    await tell(database, command, "in_transit")
    with pytest.raises(Refusal) as refused:
        await parcels.cancel_return_label(database, undo_label(command))
    assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    assert refused.value.extra == {"tracking_number": booked.tracking_number}
    assert (await label_of(database, command)).status == S.IN_TRANSIT


async def test_its_way_is_told_by_events_of_its_own_each_once(database: Database, sending: Sending) -> None:
    command = label(number=2)
    booked = await parcels.create_return_label(database, sending, command)
    await tell(database, command, "in_transit", "delivered", "delivered")
    envelopes = await envelopes_of(database, command.order_id)
    assert {each["type"] for each in envelopes} == {"ReturnLabelUpdated"}
    assert [each["data"]["status"] for each in envelopes] == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "DELIVERED"]
    assert {(each["data"]["number"], each["data"]["tracking_number"]) for each in envelopes} == {(2, booked.tracking_number)}
    view = await queries.track(database, ADMIN, booked.tracking_number or "")
    assert (view.direction, view.parcel) == (Direction.INBOUND, 2)
    assert [event.status for event in view.events][:4] == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "DELIVERED"]


async def test_the_same_piece_of_news_is_applied_once(database: Database, sending: Sending) -> None:
    command = label()
    await parcels.create_return_label(database, sending, command)
    piece = await news(database, command, "failure")
    for _ in range(3):
        await apply_carrier_news(database, piece)
    assert await events_of(database, command.order_id) == [
        "ReturnLabelUpdated BOOKED", "ReturnLabelUpdated DISPATCHED", "ReturnLabelUpdated LOST",
    ]  # fmt: skip


async def test_news_out_of_order_moves_nothing_back(database: Database, sending: Sending) -> None:
    command = label()
    await parcels.create_return_label(database, sending, command)
    await tell(database, command, "delivered")
    await tell(database, command, "in_transit", "failure", occurred_at=utc_now() - timedelta(hours=1))
    assert (await label_of(database, command)).status == S.DELIVERED


async def test_staff_cannot_hand_over_what_a_customer_has(database: Database, sending: Sending) -> None:
    command = label()
    await parcels.create_return_label(database, sending, command)
    row = await label_of(database, command)
    with pytest.raises(Refusal) as refused:
        await parcels.dispatch_shipment(database, ADMIN, row.shipment_id)
    assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION


async def test_who_sees_it(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcel = order()
    back = label(parcel)
    service = mint.headers(Role.SERVICE)
    for path, body in (("shipments/create", parcel), ("shipping/create-return-label", back)):
        answer = await client.post(f"/internal/v1/{path}", json=body.model_dump(mode="json"), headers=service)
        assert answer.status_code == 200, answer.text
    booked = answer.json()
    told = json.dumps(
        {
            "id": "evt_1",
            "description": "tracker.updated",
            "result": {"tracking_code": booked["tracking_number"], "status": "in_transit", "updated_at": "2026-11-27T12:00:00Z"},
        }
    )
    for secret, status in (("another secret", 401), (WEBHOOK_SECRET, 204)):
        answer = await client.post("/api/v1/carriers/webhook", content=told, headers=signed(told, secret))
        assert answer.status_code == status

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
                "IN_TRANSIT",
                "367",
            )
            assert (item["ship_to"], item["ship_from"]) == (None, ADDRESS.model_dump())
    for headers in (owner, mint.headers(Role.SUPPORT)):
        assert [item["direction"] for item in await seen(headers)] == ["outbound"]
    cancel = undo_label(back).model_dump(mode="json")
    refused = await client.post("/internal/v1/shipping/cancel-return-label", json=cancel, headers=service)
    assert (refused.status_code, refused.json()["code"]) == (409, "already_dispatched")

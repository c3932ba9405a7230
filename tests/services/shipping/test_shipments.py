"""Parcels on a real database and the real simulator: booked once, cancelled or dispatched and never both."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import SecretStr

from chassis.clients import HttpSession, NotUnderstood, Unavailable
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.shipments import ShipmentStatus
from services.shipping import commands
from services.shipping.adapters import HttpCarrier
from services.shipping.model import Asked, Shipment
from services.shipping.ports import Booking
from tests.conftest import ADMIN, changing
from tests.services.shipping.conftest import API_KEY, CarrierSimulator
from tests.services.shipping.parcels import envelopes_of, events_of, order, reference_of, sent_again, shipment_of, undo

NOW = timedelta(0)


async def test_the_same_order_is_booked_once(database: Database, carrier: HttpCarrier, simulator: CarrierSimulator) -> None:
    parcel = order()
    replies = await asyncio.gather(*[commands.create_shipment(database, carrier, parcel) for _ in range(8)])
    assert len({(reply.shipment_id, reply.tracking_number) for reply in replies}) == 1
    theirs = await simulator.shipment(parcel.order_id)
    assert theirs is not None
    assert (theirs["status"], theirs["tracking_number"]) == ("booked", replies[0].tracking_number)
    shipment = await shipment_of(database, parcel.order_id)
    assert (shipment.status, shipment.carrier_cost and shipment.carrier_cost.minor) == ("BOOKED", theirs["cost"]["amount"])
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated"]


@pytest.mark.parametrize(
    ("wrong", "weight_grams", "code", "asks"),
    [
        ({"city": "Nowhere"}, 1, ErrorCode.ADDRESS_UNDELIVERABLE, True),
        ({"postal_code": "00000"}, 1, ErrorCode.ADDRESS_UNDELIVERABLE, True),
        ({"country": "AQ"}, 1, ErrorCode.ADDRESS_UNDELIVERABLE, False),
        ({}, 150_001, ErrorCode.PARCEL_TOO_HEAVY, False),
        ({}, 5_000_000_000, ErrorCode.PARCEL_TOO_HEAVY, False),
    ],
)
async def test_a_refusal_is_remembered_and_needs_no_undo(
    database: Database,
    carrier: HttpCarrier,
    simulator: CarrierSimulator,
    wrong: dict[str, str],
    weight_grams: int,
    code: ErrorCode,
    asks: bool,
) -> None:
    parcel = order(weight_grams, **wrong)
    await simulator.faults(down=not asks)
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await commands.create_shipment(database, carrier, parcel)
        assert refused.value.code == code
        await simulator.faults(down=True)  # the second time nobody is asked
    undone = await commands.cancel_shipment(database, carrier, undo(parcel))
    assert undone.status == ShipmentStatus.REFUSED
    assert await events_of(database, parcel.order_id) == []


async def test_a_parcel_without_weight_weighs_a_gram(database: Database, carrier: HttpCarrier) -> None:
    assert (await commands.create_shipment(database, carrier, order(0))).status == ShipmentStatus.BOOKED


async def test_a_lost_reply_books_once(database: Database, carrier: HttpCarrier, simulator: CarrierSimulator) -> None:
    parcel = order(city="Lostville")
    with pytest.raises(Unavailable):
        await commands.create_shipment(database, carrier, parcel)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.PENDING
    theirs = await simulator.shipment(parcel.order_id)
    assert theirs is not None
    booked = await commands.create_shipment(database, carrier, parcel)
    assert (booked.status, booked.tracking_number) == (ShipmentStatus.BOOKED, theirs["tracking_number"])
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated"]


async def test_a_slow_carrier_is_an_unknown_outcome(database: Database, simulator: CarrierSimulator) -> None:
    parcel = order()
    await simulator.faults(latency_ms=500)
    async with HttpSession() as http:
        hasty = HttpCarrier(http, simulator.url, SecretStr(API_KEY), timeout_s=0.05)
        with pytest.raises(Unavailable):
            await commands.create_shipment(database, hasty, parcel)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.PENDING


async def test_an_undo_that_overtakes_its_step_forbids_it(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order()
    for _ in range(2):
        assert (await commands.cancel_shipment(database, carrier, undo(parcel))).status == ShipmentStatus.CANCELLED
    with pytest.raises(Refusal) as refused:
        await commands.create_shipment(database, carrier, parcel)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert await simulator.shipment(parcel.order_id) is None
    assert await events_of(database, parcel.order_id) == []


async def test_cancel_undoes_once(database: Database, carrier: HttpCarrier, simulator: CarrierSimulator) -> None:
    parcel = order()
    await commands.create_shipment(database, carrier, parcel)
    for _ in range(2):
        assert (await commands.cancel_shipment(database, carrier, undo(parcel))).status == ShipmentStatus.CANCELLED
    assert await simulator.status(parcel.order_id) == "cancelled"
    with pytest.raises(Refusal) as refused:
        await commands.create_shipment(database, carrier, parcel)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "TrackingUpdated CANCELLED"]


async def test_what_was_booked_with_a_lost_reply_is_cancelled_too(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order(city="Lostville")
    with pytest.raises(Unavailable):
        await commands.create_shipment(database, carrier, parcel)
    await commands.cancel_shipment(database, carrier, undo(parcel))
    assert await simulator.status(parcel.order_id) == "cancelled"


async def test_an_order_being_cancelled_can_no_longer_be_booked_or_dispatched(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order()
    booked = await commands.create_shipment(database, carrier, parcel)
    await simulator.faults(fail_cancels=True)
    with pytest.raises(Unavailable):
        await commands.cancel_shipment(database, carrier, undo(parcel))
    assert (await shipment_of(database, parcel.order_id)).asked == Asked.CANCEL
    with pytest.raises(Refusal) as refused:
        await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    with pytest.raises(Refusal) as refused:
        await commands.create_shipment(database, carrier, parcel)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert await commands.settle_asked(database, carrier, after=NOW) == 1
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.BOOKED
    await simulator.repair()
    assert await commands.settle_asked(database, carrier) == 0  # it was asked for a moment ago
    assert await commands.settle_asked(database, carrier, after=NOW) == 1
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.CANCELLED
    assert await commands.settle_asked(database, carrier, after=NOW) == 0


async def test_what_was_dispatched_cannot_be_cancelled(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order()
    booked = await commands.create_shipment(database, carrier, parcel)
    for _ in range(2):
        dispatched = await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
        assert dispatched.status == ShipmentStatus.DISPATCHED
    with pytest.raises(Refusal) as refused:
        await commands.cancel_shipment(database, carrier, undo(parcel))
    assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    assert await simulator.status(parcel.order_id) == "picked_up"
    assert (await commands.create_shipment(database, carrier, parcel)).status == ShipmentStatus.DISPATCHED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched"]


async def test_a_pickup_that_we_missed_is_learnt_from_the_refused_cancel(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order()
    await commands.create_shipment(database, carrier, parcel)
    assert await simulator.post(parcel.order_id, "pickup") == 200
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await commands.cancel_shipment(database, carrier, undo(parcel))
        assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.DISPATCHED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched"]


async def test_a_cancel_at_the_carrier_that_we_missed_is_learnt_from_the_refused_pickup(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order()
    booked = await commands.create_shipment(database, carrier, parcel)
    assert await simulator.post(parcel.order_id, "cancel") == 200
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
        assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.CANCELLED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "TrackingUpdated CANCELLED"]


async def test_a_cancel_at_the_carrier_that_we_missed_is_learnt_from_the_refused_booking(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order(city="Lostville")
    with pytest.raises(Unavailable):
        await commands.create_shipment(database, carrier, parcel)
    assert await simulator.post(parcel.order_id, "cancel") == 200
    with pytest.raises(Refusal) as refused:
        await commands.create_shipment(database, carrier, parcel)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.CANCELLED
    assert await events_of(database, parcel.order_id) == ["TrackingUpdated CANCELLED"]


async def test_a_pickup_whose_reply_was_lost_is_settled_by_the_job(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order()
    booked = await commands.create_shipment(database, carrier, parcel)
    await simulator.faults(lose_replies_next=1)
    with pytest.raises(Unavailable):
        await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.BOOKED
    assert await commands.settle_asked(database, carrier, after=NOW) == 1
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.DISPATCHED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched"]


async def test_a_cancel_may_overtake_a_dispatch_that_never_reached_the_carrier(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    parcel = order()
    booked = await commands.create_shipment(database, carrier, parcel)
    await simulator.faults(fail_next=1)
    with pytest.raises(Unavailable):
        await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
    assert (await commands.cancel_shipment(database, carrier, undo(parcel))).status == ShipmentStatus.CANCELLED
    assert await commands.settle_asked(database, carrier, after=NOW) == 0
    assert await simulator.status(parcel.order_id) == "cancelled"


async def test_one_parcel_that_the_carrier_does_not_know_does_not_hold_up_the_others(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    unknown, known = order(), order()
    async with changing(database) as work:  # as after a loss of the carrier's books
        shipment = Shipment.to_book(unknown)
        shipment.booked(Booking("TRK-LOST", Money.zero()))
        work.add(shipment)
    booked = await commands.create_shipment(database, carrier, known)
    with pytest.raises(NotUnderstood):
        await commands.dispatch_shipment(database, carrier, ADMIN, shipment.shipment_id)
    await simulator.faults(fail_next=1)
    with pytest.raises(Unavailable):
        await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
    assert await commands.settle_asked(database, carrier, after=NOW, limit=1) == 1
    assert await commands.settle_asked(database, carrier, after=NOW, limit=1) == 1
    assert (await shipment_of(database, known.order_id)).status == ShipmentStatus.DISPATCHED
    assert (await commands.cancel_shipment(database, carrier, undo(unknown))).status == ShipmentStatus.CANCELLED


async def test_delivery_by_hand(database: Database, carrier: HttpCarrier) -> None:
    parcel = order()
    booked = await commands.create_shipment(database, carrier, parcel)
    with pytest.raises(Refusal) as refused:
        await commands.deliver_shipment(database, ADMIN, booked.shipment_id)
    assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION
    await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
    for _ in range(2):
        assert (await commands.deliver_shipment(database, ADMIN, booked.shipment_id)).status == ShipmentStatus.DELIVERED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched", "ShipmentDelivered"]


async def test_s10_a_parcel_that_is_sent_again_has_a_booking_of_its_own(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    first = order()
    second = sent_again(first)
    booked = [await commands.create_shipment(database, carrier, each) for each in (first, second, second)]
    assert [reply.parcel for reply in booked] == [1, 2, 2]
    assert booked[1] == booked[2]
    assert len({(reply.shipment_id, reply.tracking_number) for reply in booked}) == 2
    await commands.dispatch_shipment(database, carrier, ADMIN, booked[0].shipment_id)
    undone = await commands.cancel_shipment(database, carrier, undo(second))
    assert (undone.parcel, undone.status) == (2, ShipmentStatus.CANCELLED)
    assert [await simulator.status(reference_of(each)) for each in (first, second)] == ["picked_up", "cancelled"]
    told = [(each["type"], each["data"]["parcel"]) for each in await envelopes_of(database, first.order_id)]
    assert told == [("ShipmentCreated", 1), ("ShipmentCreated", 2), ("ShipmentDispatched", 1), ("TrackingUpdated", 2)]
    third = sent_again(second)
    tombstone = await commands.cancel_shipment(database, carrier, undo(third))
    assert (tombstone.parcel, tombstone.status) == (3, ShipmentStatus.CANCELLED)
    with pytest.raises(Refusal) as refused:
        await commands.create_shipment(database, carrier, third)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED


@pytest.mark.parametrize("knows", [True, False])
async def test_a_cancel_that_comes_too_late_says_which_parcel_has_left(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator, knows: bool
) -> None:
    parcel = order()
    booked = await commands.create_shipment(database, carrier, parcel)
    if knows:
        await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
    else:
        await simulator.post(parcel.order_id, "pickup")
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await commands.cancel_shipment(database, carrier, undo(parcel))
        assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
        assert refused.value.extra == {"tracking_number": booked.tracking_number}


async def test_the_circuit_opens_for_what_fails_and_not_for_what_is_refused(
    database: Database, simulator: CarrierSimulator
) -> None:
    async with HttpSession() as http:
        carrier = HttpCarrier(http, simulator.url, SecretStr(API_KEY), timeout_s=30, breaker_threshold=2, breaker_seconds=60)
        booked = order()
        await commands.create_shipment(database, carrier, booked)
        for _ in range(4):
            with pytest.raises(Refusal):
                await commands.create_shipment(database, carrier, order(city="Nowhere"))
        await simulator.faults(down=True)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await commands.create_shipment(database, carrier, order())
        await simulator.repair()
        with pytest.raises(Unavailable, match="not asked again yet"):
            await commands.create_shipment(database, carrier, order())
        # Bookings wait; a cancel does not.
        assert (await commands.cancel_shipment(database, carrier, undo(booked))).status == ShipmentStatus.CANCELLED


async def test_a_wrong_key_is_a_fault_of_ours_and_refuses_nobody(database: Database, simulator: CarrierSimulator) -> None:
    async with HttpSession() as http:
        carrier = HttpCarrier(http, simulator.url, SecretStr("not-the-key"), timeout_s=30)
        parcel = order()
        with pytest.raises(NotUnderstood):
            await commands.create_shipment(database, carrier, parcel)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.PENDING

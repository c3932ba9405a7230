"""Parcels on a real database and the real simulator: bought once, cancelled or dispatched and never both."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import SecretStr

from chassis.clients import HttpSession, NotUnderstood, Unavailable
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.shipments import ShipmentStatus
from services.shipping.adapters import EasyPost, OwnFleet
from services.shipping.commands import parcels
from services.shipping.model import LabelRefund, Shipment
from services.shipping.model.choosing import Preference
from services.shipping.ports import Consignment, Offer
from services.shipping.sending import Sending
from tests.conftest import ADMIN
from tests.services.shipping.conftest import API_KEY, CarrierSimulator
from tests.services.shipping.parcels import (
    envelopes_of,
    events_of,
    lines,
    order,
    package_of,
    reference_of,
    sent_again,
    shipment_of,
    undo,
)

HEAVY = 70_000


async def test_the_same_order_is_booked_once(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    parcel = order()
    replies = await asyncio.gather(*[parcels.create_shipment(database, sending, parcel) for _ in range(8)])
    assert len({(reply.shipment_id, reply.tracking_number) for reply in replies}) == 1
    theirs = await simulator.label(parcel.order_id)
    assert theirs["tracking_code"] == replies[0].tracking_number
    shipment = await shipment_of(database, parcel.order_id)
    assert (shipment.status, str(shipment.carrier_cost)) == ("BOOKED", f"{theirs['postage']['amount']} USD")
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated"]


async def test_what_was_offered_and_why_this_was_bought_is_kept(database: Database, sending: Sending) -> None:
    standard, fast = order(), order().model_copy(update={"service": "express"})
    for command in (standard, fast):
        booked = await parcels.create_shipment(database, sending, command)
        package = await package_of(database, booked.shipment_id)
        assert package.rate is not None
        assert (package.carrier, len(package.rates) > 2, package.provider_id is not None) == ("easypost", True, True)
        in_time = [rate for rate in package.buyable if rate.days is not None and rate.days <= (4 if command is standard else 1)]
        best = min(in_time, key=lambda rate: rate.cost.minor if command is standard else (rate.days, rate.cost.minor))
        assert package.rate.cost == best.cost
        assert ("cheapest" if command is standard else "fastest") in (package.choice or "")
    hurried = Sending(sending.carriers, preference=Preference.SPEED)
    booked = await parcels.create_shipment(database, hurried, order())
    package = await package_of(database, booked.shipment_id)
    assert package.rate is not None
    assert package.rate.days == min(rate.days or 99 for rate in package.buyable)


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
    sending: Sending,
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
            await parcels.create_shipment(database, sending, parcel)
        assert refused.value.code == code
        await simulator.faults(down=True)  # the second time nobody is asked
    undone = await parcels.cancel_shipment(database, undo(parcel))
    assert undone.status == ShipmentStatus.REFUSED
    assert await events_of(database, parcel.order_id) == []


async def test_a_parcel_without_weight_weighs_a_gram(database: Database, sending: Sending) -> None:
    assert (await parcels.create_shipment(database, sending, order(0))).status == ShipmentStatus.BOOKED


async def test_a_lost_reply_to_a_purchase_buys_once(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    parcel = order(city="Lostville")
    with pytest.raises(Unavailable):
        await parcels.create_shipment(database, sending, parcel)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.PENDING
    theirs = await simulator.label(parcel.order_id)
    booked = await parcels.create_shipment(database, sending, parcel)
    assert (booked.status, booked.tracking_number) == (ShipmentStatus.BOOKED, theirs["tracking_code"])
    assert len(await simulator.labels(parcel.order_id)) == 1
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated"]


async def test_a_lost_reply_to_an_offer_buys_once(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    parcel = order()
    await simulator.faults(lose_replies_next=1)
    with pytest.raises(Unavailable):
        await parcels.create_shipment(database, sending, parcel)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.PENDING
    assert (await parcels.create_shipment(database, sending, parcel)).status == ShipmentStatus.BOOKED
    assert len(await simulator.labels(parcel.order_id)) == 1
    assert await simulator.shipments(parcel.order_id) == 2  # one was left lying, which costs nothing


async def test_a_purchase_that_fails_for_a_while_is_made_up_for(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    parcel = order(city="Flakytown")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await parcels.create_shipment(database, sending, parcel)
    assert (await parcels.create_shipment(database, sending, parcel)).status == ShipmentStatus.BOOKED
    assert (len(await simulator.labels(parcel.order_id)), await simulator.shipments(parcel.order_id)) == (1, 1)


async def test_a_rate_that_cannot_be_bought_gives_way_to_the_next(
    database: Database, sending: Sending, simulator: CarrierSimulator, carrier: EasyPost
) -> None:
    class Late(EasyPost):
        """The carriers go away between the offer and the purchase."""

        async def offer(self, consignment: Consignment) -> Offer:
            offer = await carrier.offer(consignment)
            await simulator.faults(carriers_down=cheapest)
            return offer

    async with HttpSession() as http:
        late = Late(http, simulator.url, SecretStr(API_KEY), timeout_s=30)
        rates = (await carrier.offer(_consignment(sending))).rates
        cheapest = min((rate for rate in rates if rate.days and rate.days <= 4), key=lambda rate: rate.cost.minor).carrier
        booked = await parcels.create_shipment(database, Sending([late]), order())
    package = await package_of(database, booked.shipment_id)
    assert package.rate is not None
    assert package.rate.carrier != cheapest
    assert {kept["carrier"] for kept in package.rates if kept["refused"]} == {cheapest}


def _consignment(sending: Sending) -> Consignment:
    shipment = Shipment.to_book(order())
    [package] = shipment.packed((), sending.boxes)
    return shipment.consignment(package, sending.place_of("410"))


async def test_a_slow_carrier_is_an_unknown_outcome(database: Database, simulator: CarrierSimulator) -> None:
    parcel = order()
    await simulator.faults(latency_ms=500)
    async with HttpSession() as http:
        hasty = Sending([EasyPost(http, simulator.url, SecretStr(API_KEY), timeout_s=0.05)])
        with pytest.raises(Unavailable):
            await parcels.create_shipment(database, hasty, parcel)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.PENDING


async def test_an_undo_that_overtakes_its_step_forbids_it(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    parcel = order()
    for _ in range(2):
        assert (await parcels.cancel_shipment(database, undo(parcel))).status == ShipmentStatus.CANCELLED
    with pytest.raises(Refusal) as refused:
        await parcels.create_shipment(database, sending, parcel)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert await simulator.labels(parcel.order_id) == []
    assert await events_of(database, parcel.order_id) == []


async def test_an_undo_while_the_carrier_was_away_forbids_it_too(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    parcel = order()
    await simulator.faults(down=True)
    with pytest.raises(Unavailable):
        await parcels.create_shipment(database, sending, parcel)
    await parcels.cancel_shipment(database, undo(parcel))
    await simulator.repair()
    with pytest.raises(Refusal) as refused:
        await parcels.create_shipment(database, sending, parcel)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert await simulator.labels(parcel.order_id) == []


async def test_cancel_undoes_once(database: Database, sending: Sending) -> None:
    parcel = order()
    await parcels.create_shipment(database, sending, parcel)
    for _ in range(2):
        assert (await parcels.cancel_shipment(database, undo(parcel))).status == ShipmentStatus.CANCELLED
    with pytest.raises(Refusal) as refused:
        await parcels.create_shipment(database, sending, parcel)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "TrackingUpdated CANCELLED"]
    shipment = await shipment_of(database, parcel.order_id)
    assert (await package_of(database, shipment.shipment_id)).refund == LabelRefund.DUE


async def test_what_was_dispatched_cannot_be_cancelled(database: Database, sending: Sending) -> None:
    parcel = order()
    booked = await parcels.create_shipment(database, sending, parcel)
    for _ in range(2):
        dispatched = await parcels.dispatch_shipment(database, ADMIN, booked.shipment_id)
        assert dispatched.status == ShipmentStatus.DISPATCHED
    with pytest.raises(Refusal) as refused:
        await parcels.cancel_shipment(database, undo(parcel))
    assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    assert refused.value.extra == {"tracking_number": booked.tracking_number}
    assert (await parcels.create_shipment(database, sending, parcel)).status == ShipmentStatus.DISPATCHED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched"]


async def test_what_was_cancelled_cannot_be_dispatched(database: Database, sending: Sending) -> None:
    parcel = order()
    booked = await parcels.create_shipment(database, sending, parcel)
    await parcels.cancel_shipment(database, undo(parcel))
    with pytest.raises(Refusal) as refused:
        await parcels.dispatch_shipment(database, ADMIN, booked.shipment_id)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED


async def test_delivery_by_hand(database: Database, sending: Sending) -> None:
    parcel = order()
    booked = await parcels.create_shipment(database, sending, parcel)
    with pytest.raises(Refusal) as refused:
        await parcels.deliver_shipment(database, ADMIN, booked.shipment_id)
    assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION
    await parcels.dispatch_shipment(database, ADMIN, booked.shipment_id)
    for _ in range(2):
        assert (await parcels.deliver_shipment(database, ADMIN, booked.shipment_id)).status == ShipmentStatus.DELIVERED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched", "ShipmentDelivered"]


async def test_s10_a_parcel_that_is_sent_again_has_a_booking_of_its_own(database: Database, sending: Sending) -> None:
    first = order()
    second = sent_again(first)
    booked = [await parcels.create_shipment(database, sending, each) for each in (first, second, second)]
    assert [reply.parcel for reply in booked] == [1, 2, 2]
    assert booked[1] == booked[2]
    assert len({(reply.shipment_id, reply.tracking_number) for reply in booked}) == 2
    await parcels.dispatch_shipment(database, ADMIN, booked[0].shipment_id)
    undone = await parcels.cancel_shipment(database, undo(second))
    assert (undone.parcel, undone.status) == (2, ShipmentStatus.CANCELLED)
    told = [(each["type"], each["data"]["parcel"]) for each in await envelopes_of(database, first.order_id)]
    assert told == [("ShipmentCreated", 1), ("ShipmentCreated", 2), ("ShipmentDispatched", 1), ("TrackingUpdated", 2)]
    third = sent_again(second)
    tombstone = await parcels.cancel_shipment(database, undo(third))
    assert (tombstone.parcel, tombstone.status) == (3, ShipmentStatus.CANCELLED)
    with pytest.raises(Refusal) as refused:
        await parcels.create_shipment(database, sending, third)
    assert refused.value.code == ErrorCode.SHIPMENT_CANCELLED


# ── Several packages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_too_heavy_for_a_box_is_several_packages(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    parcel = lines(order(HEAVY), ("stone", 7, 10_000))
    booked = await parcels.create_shipment(database, sending, parcel)
    assert await parcels.create_shipment(database, sending, parcel) == booked
    packages = [await package_of(database, booked.shipment_id, number) for number in (1, 2, 3)]
    references = [reference_of(parcel), *[f"{reference_of(parcel)}/{number}" for number in (2, 3)]]
    assert [package.reference for package in packages] == references
    codes = [(await simulator.label(reference))["tracking_code"] for reference in references]
    assert [package.tracking_number for package in packages] == codes
    assert booked.tracking_number == codes[0]
    assert [[line.quantity for line in package.contents] for package in packages] == [[3], [3], [1]]
    shipment = await shipment_of(database, parcel.order_id)
    costs = [package.cost.minor for package in packages if package.cost]
    assert (len(costs), shipment.carrier_cost and shipment.carrier_cost.minor) == (3, sum(costs))


async def test_it_is_booked_when_all_of_them_are(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    parcel = order(HEAVY, city="Lostville")
    with pytest.raises(Unavailable):
        await parcels.create_shipment(database, sending, parcel)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.PENDING
    assert (await parcels.create_shipment(database, sending, parcel)).status == ShipmentStatus.BOOKED
    for reference in (reference_of(parcel), f"{reference_of(parcel)}/2", f"{reference_of(parcel)}/3"):
        assert len(await simulator.labels(reference)) == 1
    await parcels.cancel_shipment(database, undo(parcel))
    shipment = await shipment_of(database, parcel.order_id)
    for number in (1, 2, 3):
        assert (await package_of(database, shipment.shipment_id, number)).refund == LabelRefund.DUE


# ── Who carries instead ──────────────────────────────────────────────────────────────────────────────────────────────────────


def with_vans(sending: Sending, after: float = 0) -> Sending:
    return Sending([*sending.carriers, OwnFleet()], fallback_after=timedelta(seconds=after))


async def test_our_own_vans_carry_what_nobody_offers_to_carry(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    await simulator.faults(fail_rates=True)
    booked = await parcels.create_shipment(database, with_vans(sending, after=3600), order())
    package = await package_of(database, booked.shipment_id)
    assert (package.carrier, package.provider_id) == ("tariff", f"own-{package.reference}")
    assert (package.choice or "").startswith("easypost offers nothing; ")
    assert (booked.tracking_number or "").startswith("OWN")


async def test_they_wait_while_the_first_one_may_come_back(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    parcel = order()
    await simulator.faults(down=True)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await parcels.create_shipment(database, with_vans(sending, after=3600), parcel)
    booked = await parcels.create_shipment(database, with_vans(sending), parcel)
    package = await package_of(database, booked.shipment_id)
    assert (package.carrier, (package.choice or "").startswith("easypost gives no answer; ")) == ("tariff", True)
    await simulator.repair()
    assert await parcels.create_shipment(database, with_vans(sending), parcel) == booked
    assert await simulator.labels(parcel.order_id) == []


async def test_they_never_carry_what_may_have_been_bought(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    parcel = order(city="Lostville")
    with pytest.raises(Unavailable):
        await parcels.create_shipment(database, with_vans(sending), parcel)
    await simulator.faults(down=True)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await parcels.create_shipment(database, with_vans(sending), parcel)
    await simulator.repair()
    booked = await parcels.create_shipment(database, with_vans(sending), parcel)
    assert booked.tracking_number == (await simulator.label(parcel.order_id))["tracking_code"]


async def test_where_there_is_no_such_address_nobody_goes(database: Database, sending: Sending) -> None:
    with pytest.raises(Refusal) as refused:
        await parcels.create_shipment(database, with_vans(sending), order(city="Nowhere"))
    assert refused.value.code == ErrorCode.ADDRESS_UNDELIVERABLE


async def test_our_own_vans_alone(database: Database) -> None:
    vans = Sending([OwnFleet()])
    parcel = order()
    booked = await parcels.create_shipment(database, vans, parcel)
    assert (booked.status, await parcels.create_shipment(database, vans, parcel)) == (ShipmentStatus.BOOKED, booked)
    shipment = await shipment_of(database, parcel.order_id)
    assert str(shipment.carrier_cost) == "8.30 USD"  # of four kilograms: the box is larger than it is heavy


async def test_without_an_answer_of_a_carrier_that_is_not_used_any_more_somebody_has_to_look(
    database: Database, sending: Sending
) -> None:
    parcel = order(city="Lostville")
    with pytest.raises(Unavailable):
        await parcels.create_shipment(database, sending, parcel)
    with pytest.raises(NotUnderstood):
        await parcels.create_shipment(database, Sending([OwnFleet()]), parcel)

"""The money of labels that are not needed: asked for, asked about, and told of if the carrier keeps it."""

import pytest

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from contracts.shipments import CreateShipment
from services.shipping.adapters import OwnFleet
from services.shipping.commands import parcels
from services.shipping.commands.news import apply_carrier_news
from services.shipping.commands.refunds import rejected_total, settle_refunds
from services.shipping.model import LabelRefund, Package
from services.shipping.ports import RefundNews, RefundState
from services.shipping.sending import Sending
from tests.conftest import changing, eventually
from tests.services.shipping.conftest import CarrierSimulator
from tests.services.shipping.parcels import order, package_of, shipment_of, undo


async def cancelled(database: Database, sending: Sending, city: str = "Dayton") -> CreateShipment:
    parcel = order(city=city)
    if city == "Lostville":
        with pytest.raises(Unavailable):
            await parcels.create_shipment(database, sending, parcel)
    else:
        await parcels.create_shipment(database, sending, parcel)
    await parcels.cancel_shipment(database, undo(parcel))
    return parcel


async def package(database: Database, parcel: CreateShipment) -> Package:
    return await package_of(database, (await shipment_of(database, parcel.order_id)).shipment_id)


async def settle(database: Database, sending: Sending, parcel: CreateShipment) -> Package:
    """Its time has come."""
    found = await package(database, parcel)
    async with changing(database) as work:
        row = await work.get(Package, found.package_id)
        assert row is not None
        assert row.refund_at is not None
        row.refund_at = utc_now()
    while await settle_refunds(database, sending):
        pass
    return await package(database, parcel)


async def test_the_money_comes_back_in_its_time(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    await simulator.faults(refund_ms=60_000)
    parcel = await cancelled(database, sending)
    while await settle_refunds(database, sending):
        pass
    asked = await package(database, parcel)
    assert (asked.refund, (await simulator.label(parcel.order_id))["refund_status"]) == (LabelRefund.SUBMITTED, "submitted")
    assert asked.refund_at is not None
    assert asked.refund_at > utc_now()
    assert (await settle(database, sending, parcel)).refund == LabelRefund.SUBMITTED
    await simulator.ahead(61)

    async def refunded() -> bool:
        return bool((await simulator.label(parcel.order_id))["refund_status"] == "refunded")

    await eventually(refunded, what="the carrier's decision")
    done = await settle(database, sending, parcel)
    assert (done.refund, done.refund_at) == (LabelRefund.REFUNDED, None)


async def test_the_carrier_tells_of_it_by_itself(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    await simulator.faults(refund_ms=60_000)
    parcel = await cancelled(database, sending)
    while await settle_refunds(database, sending):
        pass
    found = await package(database, parcel)
    for _ in range(2):
        await apply_carrier_news(database, RefundNews(f"evt {parcel.order_id}", found.provider_id or "", RefundState.REFUNDED))
    assert (await package(database, parcel)).refund == LabelRefund.REFUNDED


async def test_what_was_bought_with_a_lost_reply_is_given_back_too(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    parcel = await cancelled(database, sending, "Lostville")
    while await settle_refunds(database, sending):
        pass
    found = await package(database, parcel)
    theirs = await simulator.label(parcel.order_id)
    assert (found.refund, found.tracking_number) == (LabelRefund.SUBMITTED, theirs["tracking_code"])
    assert found.label_at is None


async def test_while_the_carrier_is_away_it_stays_due(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    await simulator.faults(fail_cancels=True)
    parcel = await cancelled(database, sending)
    while await settle_refunds(database, sending):
        pass
    assert (await package(database, parcel)).refund == LabelRefund.DUE
    await simulator.repair()
    assert (await settle(database, sending, parcel)).refund == LabelRefund.SUBMITTED


async def test_money_that_the_carrier_keeps_is_told_of(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    parcel = await cancelled(database, sending)
    await simulator.hand_over(parcel.order_id)
    before = rejected_total._value.get()
    while await settle_refunds(database, sending):
        pass
    assert (await package(database, parcel)).refund == LabelRefund.REJECTED
    assert rejected_total._value.get() == before + 1


async def test_a_label_of_our_own_costs_nothing(database: Database) -> None:
    vans = Sending([OwnFleet()])
    parcel = await cancelled(database, vans)
    while await settle_refunds(database, vans):
        pass
    assert (await package(database, parcel)).refund == LabelRefund.NOT_NEEDED

"""What may follow what in a parcel's life."""

from datetime import date, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from chassis.clock import utc_now
from contracts.errors import Refusal
from contracts.events import Event
from contracts.shipments import ShipmentStatus
from services.shipping.model import Package, Shipment, TrackingEvent
from services.shipping.model.package import NO_LABEL_AFTER, LabelRefund, together
from services.shipping.model.packing import BOXES, pack
from services.shipping.model.shipment import HAS_LEFT, NEXT, working_day
from services.shipping.ports import RefundState

STEPS = ("cancel", "cancelled", "dispatch", "delivered", *ShipmentStatus)


def a_package(**fields: Any) -> Package:
    package = Package.of(uuid4(), "reference", 1, pack(1_000, (), BOXES)[0])
    for name, value in fields.items():
        setattr(package, name, value)
    return package


@pytest.mark.parametrize("status", ShipmentStatus)
@pytest.mark.parametrize("step", STEPS)
def test_no_step_leaves_the_transition_table(status: ShipmentStatus, step: str) -> None:
    shipment = Shipment(order_id=uuid4(), reference="r", customer_id=uuid4(), status=status)
    package = a_package()
    events: list[Event] = []
    try:
        match step:
            case ShipmentStatus():
                package.status = step
                events = shipment.reported([package], utc_now())
            case "delivered":
                events = shipment.delivered(utc_now())
            case _:
                events = getattr(shipment, step)()
    except Refusal:
        assert shipment.status == status
    # Each event tells of one move along the table, from the first status to the last.
    passed = [status, *[ShipmentStatus(TrackingEvent.of(shipment.shipment_id, event).status) for event in events]]
    assert all(after in NEXT[before] for before, after in pairwise(passed))
    assert passed[-1] == shipment.status
    assert status not in HAS_LEFT or shipment.status in HAS_LEFT


def test_working_days_leave_out_weekends() -> None:
    friday = date(2026, 11, 27)
    assert [working_day(friday, days).isoformat() for days in (0, 1, 4, 6)] == [
        "2026-11-27", "2026-11-30", "2026-12-03", "2026-12-07",
    ]  # fmt: skip


S = ShipmentStatus


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([None], None),
        ([S.DELIVERED], S.DELIVERED),
        ([None, None], None),
        ([S.IN_TRANSIT, None], S.IN_TRANSIT),
        ([S.DELIVERED, None], S.IN_TRANSIT),
        ([S.DELIVERED, S.DELIVERED], S.DELIVERED),
        ([S.DELIVERED, S.LOST], S.LOST),
        ([S.IN_TRANSIT, S.RETURNED], S.RETURNED),
        ([S.CANCELLED, None], None),
        ([S.CANCELLED, S.CANCELLED], S.CANCELLED),
    ],
)
def test_where_a_parcel_of_several_packages_is(statuses: list[ShipmentStatus | None], expected: ShipmentStatus | None) -> None:
    packages = [a_package(status=status) for status in statuses]
    assert together(packages) == expected


def not_needed() -> Package:
    package = a_package(provider_id="shp_1")
    package.not_needed()
    return package


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (RefundState.SUBMITTED, LabelRefund.SUBMITTED),
        (RefundState.REFUNDED, LabelRefund.REFUNDED),
        (RefundState.REJECTED, LabelRefund.REJECTED),
        (RefundState.NOT_APPLICABLE, LabelRefund.NOT_NEEDED),
        (None, LabelRefund.DUE),
    ],
)
def test_the_money_of_a_label_is_open_until_the_carrier_has_decided(state: RefundState | None, expected: LabelRefund) -> None:
    package = not_needed()
    package.refund_asked(state)
    assert package.refund == expected
    assert (package.refund_at is not None) == (expected in (LabelRefund.DUE, LabelRefund.SUBMITTED))
    before = package.refund
    if package.refund_at is None:
        package.refund_asked(RefundState.SUBMITTED)
        assert package.refund == before


def test_a_label_that_nobody_has_bought_for_a_day_is_not_bought_any_more() -> None:
    package = not_needed()
    assert package.refund_since is not None
    package.refund_since -= NO_LABEL_AFTER + timedelta(seconds=1)
    package.refund_asked(None)
    assert (package.refund, package.refund_at) == (LabelRefund.NOT_NEEDED, None)


def test_of_what_nobody_has_offered_nothing_is_owed() -> None:
    package = a_package()
    package.not_needed()
    assert package.refund == LabelRefund.NONE

"""What may follow what in a parcel's life."""

from itertools import pairwise
from uuid import uuid4

import pytest

from chassis.clock import utc_now
from contracts.errors import Refusal
from contracts.events import Event
from contracts.shipments import ShipmentStatus
from services.shipping.model import Shipment, TrackingEvent
from services.shipping.model.shipment import HAS_LEFT, NEXT

STEPS = ("ask_to_cancel", "cancelled", "ask_to_dispatch", "dispatched", "delivered", *ShipmentStatus)


@pytest.mark.parametrize("status", ShipmentStatus)
@pytest.mark.parametrize("step", STEPS)
def test_no_step_leaves_the_transition_table(status: ShipmentStatus, step: str) -> None:
    shipment = Shipment(order_id=uuid4(), reference="r", customer_id=uuid4(), status=status)
    events: list[Event] = []
    try:
        match step:
            case ShipmentStatus():
                events = shipment.reported(step, utc_now(), "TRK1")
            case "dispatched" | "delivered":
                events = getattr(shipment, step)(utc_now())
            case "cancelled":
                events = shipment.cancelled()
            case _:
                getattr(shipment, step)()
    except Refusal:
        assert shipment.status == status
    # Each event tells of one move along the table, from the first status to the last.
    passed = [status, *[ShipmentStatus(TrackingEvent.of(shipment.shipment_id, event).status) for event in events]]
    assert all(after in NEXT[before] for before, after in pairwise(passed))
    assert passed[-1] == shipment.status
    assert status not in HAS_LEFT or shipment.status in HAS_LEFT

"""What a repair makes of an order's books: what has not left is undone, what has left is followed, and some are refused."""

import pytest
from pydantic import ValidationError

from cli.repair import NO_CARD, OrderBooks, Repair, repair_of
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import ReservationStatus
from contracts.orders import AdvanceOrder, OrderStatus, Outcome
from contracts.parcels import OrderParcel, ParcelLine, ParcelStatus, Trouble
from contracts.shipments import ShipmentStatus
from services.inventory.model import Reservation
from services.order.model import Order
from services.shipping.model import Shipment
from testing.sagas import place_order

S, D, R = OrderStatus, ShipmentStatus, ReservationStatus
WAY = (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.UNDELIVERED)


def books(
    status: OrderStatus,
    *,
    trouble: Trouble | None = None,
    shipments: tuple[ShipmentStatus, ...] = (),
    reservations: tuple[ReservationStatus, ...] = (),
) -> OrderBooks:
    """An order at this status, with these parcels, numbered from 1."""
    placed = place_order()
    order = Order.placed(placed)
    path = WAY[: WAY.index(status) + 1] if status in WAY else ()
    if trouble == Trouble.NOT_PICKED_UP:
        path = tuple(passed for passed in path if passed != S.SHIPPED)
    outcome = Outcome(order_id=placed.order_id, status=S.CONFIRMED) if S.CONFIRMED in path else None
    order.advance(AdvanceOrder(order_id=placed.order_id, after=1, path=path, trouble=trouble, outcome=outcome))
    return OrderBooks(
        order,
        [Shipment(order_id=order.order_id, parcel=n, reference="", status=each) for n, each in enumerate(shipments, 1)],
        [Reservation(order_id=order.order_id, parcel=n, status=each) for n, each in enumerate(reservations, 1)],
    )


def repaired(of: OrderBooks, *, go_on: bool = False) -> Repair:
    return repair_of(of, was_started=True, by="ann", reason="deleted", go_on=go_on)


@pytest.mark.parametrize(
    "lost",
    [
        books(S.PENDING),
        books(S.PENDING, shipments=(D.PENDING,), reservations=(R.RESERVED,)),
        books(S.CONFIRMED, shipments=(D.BOOKED,), reservations=(R.RESERVED,)),
        books(S.UNDELIVERED, trouble=Trouble.NOT_PICKED_UP, shipments=(D.BOOKED,), reservations=(R.RESERVED,)),
    ],
)
def test_what_has_not_left_is_undone(lost: OrderBooks) -> None:
    repair = repaired(lost)
    assert repair.so_far.cancel is not None
    assert (repair.so_far.cancel.requested_by, repair.so_far.cancel.reason) == ("ann", "Its workflow was lost: deleted")
    assert (repair.so_far.status, repair.so_far.reached) == (lost.order.status, len(lost.order.history))
    assert repair.reports == ()


@pytest.mark.parametrize(
    "lost",
    [
        books(S.CONFIRMED, shipments=(D.IN_TRANSIT,), reservations=(R.RESERVED,)),
        books(S.SHIPPED, shipments=(D.DELIVERED,), reservations=(R.SHIPPED,)),
        books(S.UNDELIVERED, trouble=Trouble.RETURNED, shipments=(D.RETURNED,), reservations=(R.SHIPPED,)),
        books(S.UNDELIVERED, trouble=Trouble.LOST, shipments=(D.LOST, D.CANCELLED), reservations=(R.SHIPPED, R.RELEASED)),
    ],
)
def test_what_has_left_is_followed_from_what_the_carrier_said_last(lost: OrderBooks) -> None:
    repair = repaired(lost)
    assert repair.so_far.cancel is None
    assert [(report.parcel, report.status) for report in repair.reports] == [(1, lost.shipments[0].status)]
    assert repair.so_far.outcome == lost.order.kept_outcome
    assert repair.so_far.parcels == len(lost.shipments)


def test_an_order_that_is_not_confirmed_finds_out_by_its_own_undo_whether_the_parcel_has_left() -> None:
    repair = repaired(books(S.PENDING, shipments=(D.DISPATCHED,), reservations=(R.RESERVED,)))
    assert repair.so_far.cancel is not None
    assert len(repair.reports) == 1


@pytest.mark.parametrize("second", [(), (D.BOOKED,)])
def test_a_second_parcel_that_was_being_sent_is_undone(second: tuple[ShipmentStatus, ...]) -> None:
    lost = books(S.UNDELIVERED, trouble=Trouble.LOST, shipments=(D.LOST, *second), reservations=(R.SHIPPED, R.RESERVED))
    repair = repaired(lost)
    assert repair.so_far.cancel is not None
    assert (repair.so_far.parcel, repair.so_far.parcels) == (2, 2)


def test_a_confirmed_order_may_go_on_and_one_that_is_being_placed_may_not() -> None:
    assert repaired(books(S.CONFIRMED, shipments=(D.BOOKED,)), go_on=True).so_far.cancel is None
    with pytest.raises(Refusal, match="leave out --go-on"):
        repaired(books(S.PENDING), go_on=True)


def test_an_order_that_has_ended_is_not_repaired() -> None:
    ended = books(S.PENDING)
    ended.order.status = S.CANCELLED
    with pytest.raises(Refusal, match="has ended") as refused:
        repaired(ended)
    assert refused.value.code == ErrorCode.CONFLICT


def test_an_order_is_made_of_its_row_without_a_card() -> None:
    lost = books(S.CONFIRMED)
    placement = repaired(lost).placement
    assert placement.payment_token == NO_CARD
    assert (placement.total, placement.lines, placement.order_id) == (
        lost.order.total,
        lost.order.order_lines,
        lost.order.order_id,
    )


def test_an_order_that_was_never_started_is_left_to_the_order_service() -> None:
    order = Order.placed(place_order())
    with pytest.raises(Refusal, match="still to be started"):
        repair_of(OrderBooks(order, [], []), was_started=False, by="ann", reason="?", go_on=False)
    placement = repaired(OrderBooks(order, [], [])).placement
    assert placement == order.to_start


@pytest.mark.parametrize("go_on", [True, False])
def test_a_name_is_needed(go_on: bool) -> None:
    with pytest.raises(ValidationError):
        repair_of(books(S.CONFIRMED), was_started=True, by=" ", reason="deleted", go_on=go_on)


def in_parts(
    *statuses: ParcelStatus, shipments: tuple[ShipmentStatus, ...], reservations: tuple[ReservationStatus, ...]
) -> OrderBooks:
    """A confirmed order in several parcels, with these shipments and reservations, each numbered from 1."""
    lost = books(S.CONFIRMED, shipments=shipments, reservations=reservations)
    line = ParcelLine(line_id=1, product_id="milk", quantity=1)
    parcels = tuple(OrderParcel(parcel=n, status=status, lines=(line,)) for n, status in enumerate(statuses, 1))
    order = lost.order
    order.advance(AdvanceOrder(order_id=order.order_id, after=len(order.history), path=(), parcels=parcels))
    return lost


def test_i10_an_order_in_parts_goes_on_from_what_was_told_of_each_since() -> None:
    statuses = (ParcelStatus.BOOKED, ParcelStatus.AWAITED, ParcelStatus.BOOKED)
    lost = in_parts(*statuses, shipments=(D.IN_TRANSIT, D.BOOKED), reservations=(R.RESERVED, R.RESERVED, R.RESERVED))
    repair = repaired(lost)
    assert repair.so_far.cancel is not None  # what has not left is called off, and what has left is followed
    assert [parcel.status for parcel in repair.so_far.all_parcels] == [*statuses]
    assert [(report.parcel, report.status) for report in repair.reports] == [(1, D.IN_TRANSIT)]
    assert [(update.parcel, update.status) for update in repair.filled] == [(2, R.RESERVED)]
    assert repaired(lost, go_on=True).so_far.cancel is None


def test_i10_an_order_all_of_whose_parcels_have_left_is_followed() -> None:
    lost = in_parts(
        *(ParcelStatus.BOOKED, ParcelStatus.SHIPPED, ParcelStatus.RESENT),
        shipments=(D.DISPATCHED, D.DELIVERED, D.LOST),
        reservations=(R.RESERVED, R.SHIPPED, R.SHIPPED),
    )
    repair = repaired(lost)
    assert repair.so_far.cancel is None
    assert [(report.parcel, report.status) for report in repair.reports] == [(1, D.DISPATCHED), (2, D.DELIVERED)]

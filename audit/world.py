"""The books, indexed by order, and the question which orders are at rest.

An order that is on its way from one state to the next is in flight: its books may differ for a moment. One whose workflow was
lost is not at rest either: all that is wrong with it is told at once, by `audit.rules.sagas`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import TypeVar
from uuid import UUID

from audit.books import (
    LISTENERS,
    Books,
    ChargeRow,
    EventRow,
    OrderRow,
    ParcelRow,
    PaymentRow,
    ReservationRow,
    ReturnRow,
    ShipmentRow,
    Source,
    WorkflowRow,
)
from audit.verdict import InFlight
from contracts.ids import parcel_reference, payment_reference, return_reference
from contracts.inventory import ReservationStatus
from contracts.orders import FINAL_STATUSES, OrderStatus
from contracts.parcels import OrderParcel, ParcelStatus, Trouble
from contracts.payments import PaymentStatus
from contracts.returns import FINAL_RETURN_STATUSES, ReturnKind, ReturnStatus
from contracts.shipments import ShipmentStatus

SETTLE = timedelta(seconds=2)
"""What changed so short a time before the look is in flight: the books were not all read in the same instant."""
START_GRACE = timedelta(minutes=1)
"""How long an accepted order may wait until its saga is started: while Temporal was away, the order service starts it later."""
RUNNING, COMPLETED = "RUNNING", "COMPLETED"
ALIVE = frozenset({RUNNING, "CONTINUED_AS_NEW", "PAUSED"})
"""Of a workflow's newest run. One that was continued runs on in a run that is not listed yet."""
_S, _D, _T, _P = OrderStatus, ShipmentStatus, Trouble, ParcelStatus
MOVING = frozenset({_S.PENDING, _S.RESERVED, _S.PAID, _S.DELIVERED, _S.CANCELLING})
"""Statuses in which an order never rests for long."""
BEFORE_DISPATCH = frozenset({_D.PENDING, _D.BOOKED})
NEVER_WENT = frozenset({_D.CANCELLED, _D.REFUSED})
_WENT = frozenset({_D.DISPATCHED, _D.IN_TRANSIT, "in_transit"})
_ARRIVED = frozenset({_D.DELIVERED, "delivered"})
_LOST, _RETURNED = frozenset({_D.LOST, "lost"}), frozenset({_D.RETURNED, "returned"})
NEWS: Mapping[str, frozenset[str]] = {
    _S.CONFIRMED: _WENT | _ARRIVED | _LOST | _RETURNED,
    _P.BOOKED: _WENT | _ARRIVED | _LOST | _RETURNED,
    _S.SHIPPED: _ARRIVED | _LOST | _RETURNED,
    _T.NOT_PICKED_UP: _WENT | _ARRIVED | _LOST | _RETURNED,
    _T.SILENT: _ARRIVED | _LOST | _RETURNED,
    _T.LOST: _WENT | _ARRIVED | _RETURNED,
    _T.RETURNED: _WENT | _ARRIVED | _LOST,
}
"""By the status of an order with one parcel, that of one of several, or a parcel's trouble: which words of our shipment or of the
carrier it has not heard yet."""
_EARLY_RETURN = frozenset({ReturnStatus.REQUESTED, ReturnStatus.APPROVED})
"""Its goods have not come."""
Returned = tuple[UUID, int]
"""An order, and the number of one of its returns."""
_NO_PARCEL = (UUID(int=0), 0)
Row = TypeVar("Row")
ParcelOfOrder = TypeVar("ParcelOfOrder", ReservationRow, ShipmentRow)


class World:
    """The books, indexed by order, and what is in flight."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.orders = {order.order_id: order for order in books.orders}
        self.workflows: dict[UUID, WorkflowRow] = {}
        """The newest run of each."""
        for run in books.workflows:
            if run.order_id is not None:
                newest = self.workflows.get(run.order_id)
                if newest is None or newest.started_at <= run.started_at:
                    self.workflows[run.order_id] = run
        self.payments: dict[UUID, list[PaymentRow]] = _by(books.payments, lambda row: row.order_id)
        self.transfers = {row.reference: row for row in books.payments if row.is_transfer}
        """Our payments by bank transfer, by our reference."""
        self.transferred = {row.reference for row in books.transfers if row.is_captured}
        """The names of those whose money is there."""
        self.charges: dict[UUID, list[ChargeRow]] = _by(books.charges, lambda row: order_of(row.reference))
        self.returned: Counter[UUID] = Counter()
        """What returns gave back of an order's payments, in minor units, as our books say."""
        for refund in books.return_refunds:
            self.returned[refund.order_id] += refund.moved
        self.settling = set(self._settling())
        """Orders of whose payments a return may give back something right now."""
        self.reservations = _parcel_by_parcel(books.reservations)
        self.shipments = _parcel_by_parcel(books.shipments)
        self.carried: dict[UUID, dict[int, ParcelRow]] = defaultdict(dict)
        """At the carrier, by order and number, in the sequence in which they were sent."""
        for row in sorted(books.parcels, key=lambda row: parcel_of(row.reference) or _NO_PARCEL):
            if (parcel := parcel_of(row.reference)) is not None and "/" not in row.reference:
                self.carried[parcel[0]][parcel[1]] = row
        self.returns: dict[Returned, ReturnRow] = {(row.order_id, row.number): row for row in books.returns}
        self.labels_of: dict[UUID, list[ShipmentRow]] = _by(books.labels, lambda row: row.order_id)
        self.labels: dict[Returned, ShipmentRow] = {(row.order_id, row.parcel): row for row in books.labels}
        self.carried_back: dict[Returned, ParcelRow] = {
            key: row for row in books.parcels if (key := return_of(row.reference)) is not None and "/" not in row.reference
        }
        """At the carrier."""
        self.unstarted = {order.order_id for order in books.orders if self._is_unstarted(order)}
        """Accepted, and their saga has not been started."""
        self.lost: dict[UUID, str] = {
            order.order_id: found
            for order in books.orders
            if order.order_id not in self.unstarted and (found := self._found_instead_of_a_saga(order))
        }
        """Orders that nobody works on although they have not ended: what Temporal has instead of a workflow that runs."""
        self.moving: dict[UUID, InFlight] = {
            order.order_id: InFlight(str(order.order_id), why, order.updated_at, order.order_id)
            for order in books.orders
            if (why := self._why_moving(order))
        }
        self.settled = [order for order in books.orders if self.is_at_rest(order.order_id)]

    def _settling(self) -> Iterator[UUID]:
        for row in self.books.returns:
            is_settled_next = row.status == ReturnStatus.APPROVED and row.kind == ReturnKind.CLAIM
            rests = row.status in FINAL_RETURN_STATUSES or (row.status in _EARLY_RETURN and not is_settled_next)
            if not rests or self.is_fresh(row.updated_at):
                yield from (order for order in (row.order_id, row.credit_order_id) if order)

    def is_fresh(self, at: datetime | None) -> bool:
        """Whether it happened so shortly before (or after) the look that the other books may not show it yet."""
        return at is not None and at > self.books.taken_at - SETTLE

    def is_at_rest(self, order_id: UUID) -> bool:
        """Whether all books must agree about it."""
        return order_id not in self.moving and order_id not in self.lost and order_id not in self.unstarted

    def is_running(self, order_id: UUID) -> bool:
        """Whether a saga works on it."""
        workflow = self.workflows.get(order_id)
        return workflow is not None and workflow.status in ALIVE

    def shipment(self, order_id: UUID) -> ShipmentRow | None:
        """The parcel that counts: the last one that was not called off, or the last one if all were."""
        rows = self.shipments.get(order_id, [])
        return next((row for row in reversed(rows) if row.status not in NEVER_WENT), rows[-1] if rows else None)

    def counts(self, shipment: ShipmentRow) -> bool:
        """Whether its order follows it: it is the only one that counts, or one of several that are still on their way."""
        order = self.orders.get(shipment.order_id)
        if order is None or not order.parcels:
            return shipment is self.shipment(shipment.order_id)
        return any(parcel.parcel == shipment.parcel and parcel.counts for parcel in order.parcels)

    def given_up(self, order_id: UUID | None) -> tuple[str, ...]:
        """The order's undos that somebody gave up by hand."""
        workflow = self.workflows.get(order_id) if order_id else None
        return workflow.given_up if workflow else ()

    @cached_property
    def unpublished(self) -> list[InFlight]:
        found = []
        for producer, events in self.books.events.items():
            waiting = [event.created_at for event in events if event.published_at is None]
            if waiting:
                found.append(InFlight(f"{producer} outbox", f"{len(waiting)} events to be published", min(waiting)))
        return found

    @cached_property
    def unapplied(self) -> dict[Source, list[EventRow]]:
        """By listener: events, published or not, that have not had their effect there."""
        found: dict[Source, list[EventRow]] = {}
        for listener in LISTENERS:
            inbox = self.books.inboxes.get(listener, {})
            found[listener] = [event for event in self.heard_by(listener) if event.event_id not in inbox]
        return found

    def heard_by(self, listener: Source) -> Iterator[EventRow]:
        """The events that must have an effect there."""
        kinds = {(kind.topic, kind.__name__) for kind in LISTENERS[listener]}
        for events in self.books.events.values():
            for event in events:
                if (event.topic, event.type) in kinds:
                    yield event

    def _is_unstarted(self, order: OrderRow) -> bool:
        return (
            order.has_placement
            and order.status == _S.PENDING
            and order.order_id not in self.workflows
            and Source.TEMPORAL not in self.books.unreadable
        )

    def _found_instead_of_a_saga(self, order: OrderRow) -> str | None:
        if order.status in FINAL_STATUSES or Source.TEMPORAL in self.books.unreadable or self.is_fresh(order.updated_at):
            return None
        workflow = self.workflows.get(order.order_id)
        if workflow is None:
            return "none"
        if workflow.status in ALIVE or workflow.status == COMPLETED or self.is_fresh(workflow.closed_at):
            return None
        return f"one that is {workflow.status}"

    def _why_moving(self, order: OrderRow) -> str | None:
        workflow = self.workflows.get(order.order_id)
        if order.order_id in self.unstarted:
            young = order.placed_at > self.books.taken_at - START_GRACE
            return f"{order.status}, accepted; its saga is still to be started" if young else None
        if self.is_fresh(order.updated_at):
            return f"{order.status}, changed a moment ago"
        if Source.TEMPORAL in self.books.unreadable:
            return f"{order.status}, and its saga cannot be looked at" if order.status not in FINAL_STATUSES else None
        if workflow and (self.is_fresh(workflow.started_at) or self.is_fresh(workflow.closed_at)):
            return f"{order.status}, its saga has just begun or ended"
        if workflow is None or workflow.status not in ALIVE:
            return None
        if workflow.stuck_undo:
            return f"{order.status}, undos are being retried: {workflow.stuck_undo}"
        if order.status in MOVING:
            return order.status
        if workflow.listed_as == OrderStatus.CANCELLING:
            return f"{order.status}, being cancelled"
        if order.order_id in self.books.busy:
            return f"{order.status}, its saga is at work"
        if order.status == _S.ACTION_REQUIRED and self._has_paid(order.order_id):
            return f"{order.status}, news of its payment is under way"
        if self._goods_have_come(order):
            return f"{order.status}, news of goods that have arrived is under way"
        for state, shipment in self._on_their_way(order):
            carried = self.carried.get(order.order_id, {}).get(shipment.parcel)
            news = NEWS.get(state, frozenset())
            if shipment.status in news or (carried is not None and carried.status in news):
                return f"{order.status}, news of its parcel is under way"
        return None

    def _on_their_way(self, order: OrderRow) -> Iterator[tuple[str, ShipmentRow]]:
        """The order's parcels that were booked, each with its status or trouble, as the order knows it."""
        if not order.parcels:
            shipment = self.shipment(order.order_id)
            if shipment is not None:
                yield by_trouble(order), shipment
            return
        shipments = {row.parcel: row for row in self.shipments.get(order.order_id, ())}
        for parcel in order.parcels:
            if parcel.parcel in shipments:
                yield by_trouble(parcel), shipments[parcel.parcel]

    def _has_paid(self, order_id: UUID) -> bool:
        """Whether its customer has done what the newest payment waits for, or that was given up, and its saga may not know."""
        newest = max(self.payments.get(order_id, ()), key=lambda row: row.attempt, default=None)
        if newest is None:
            return False
        charge = next((row for row in self.charges.get(order_id, ()) if row.reference == newest.reference), None)
        if newest.provider_id in self.transferred:
            return True
        return newest.status != PaymentStatus.ACTION_REQUIRED or (charge is not None and charge.status != "action_required")

    def _goods_have_come(self, order: OrderRow) -> bool:
        """Whether a parcel that waits for goods, as the order knows, has them reserved by now."""
        awaited = {parcel.parcel for parcel in order.parcels if parcel.status == _P.AWAITED}
        reservations = self.reservations.get(order.order_id, ())
        return any(row.parcel in awaited and row.status == ReservationStatus.RESERVED for row in reservations)


def by_trouble(one: OrderRow | OrderParcel) -> str:
    """The status of an order, or of one of its parcels; while somebody has to decide about the parcel, its trouble."""
    return one.trouble or one.status if one.status == _S.UNDELIVERED else one.status


@lru_cache(maxsize=100_000)
def order_of(reference: str) -> UUID | None:
    """The order that a reference at the payment provider belongs to; None if it is none of ours."""
    order_id, attempt = uuid_of(reference[:36]), reference[37:]
    if order_id is None or not (attempt.isascii() and attempt.isdigit()):
        return None
    return order_id if payment_reference(order_id, int(attempt)) == reference else None


@lru_cache(maxsize=100_000)
def parcel_of(reference: str) -> tuple[UUID, int] | None:
    """The order and the number of the parcel that a reference at the carrier belongs to; None if it is none of ours. What stands
    behind a slash numbers its packages."""
    reference = reference.partition("/")[0]
    order_id, number = uuid_of(reference[:36]), reference[37:] or "1"
    if order_id is None or not (number.isascii() and number.isdigit()):
        return None
    return (order_id, int(number)) if parcel_reference(order_id, int(number)) == reference else None


@lru_cache(maxsize=100_000)
def return_of(reference: str) -> Returned | None:
    """The same of a return."""
    reference = reference.partition("/")[0]
    order_id, word, number = uuid_of(reference[:36]), reference[36:44], reference[44:]
    if order_id is None or word != "-return-" or not (number.isascii() and number.isdigit()):
        return None
    return (order_id, int(number)) if return_reference(order_id, int(number)) == reference else None


def uuid_of(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _by(rows: Iterable[Row], key: Callable[[Row], UUID | None]) -> dict[UUID, list[Row]]:
    found: dict[UUID, list[Row]] = defaultdict(list)
    for row in rows:
        order_id = key(row)
        if order_id is not None:
            found[order_id].append(row)
    return found


def _parcel_by_parcel(rows: Iterable[ParcelOfOrder]) -> dict[UUID, list[ParcelOfOrder]]:
    """By order, in the sequence in which they were sent."""
    found = _by(rows, lambda row: row.order_id)
    return {order_id: sorted(of_order, key=lambda row: row.parcel) for order_id, of_order in found.items()}

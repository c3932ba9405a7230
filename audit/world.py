"""The books, indexed by order, and the question which orders are at rest.

An order that is on its way from one state to the next is in flight: its books may differ for a moment.
"""

from collections import defaultdict
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
    ShipmentRow,
    Source,
    WorkflowRow,
)
from audit.verdict import InFlight
from contracts.ids import payment_reference
from contracts.orders import FINAL_STATUSES, OrderStatus
from contracts.shipments import ShipmentStatus

SETTLE = timedelta(seconds=2)
"""What changed so short a time before the look is in flight: the books were not all read in the same instant."""
RUNNING = "RUNNING"
_S, _D = OrderStatus, ShipmentStatus
MOVING = frozenset({_S.PENDING, _S.RESERVED, _S.PAID, _S.DELIVERED, _S.CANCELLING})
"""Statuses in which an order never rests for long."""
JOURNEY: Mapping[str, int] = {
    _S.CONFIRMED: 0, _S.SHIPPED: 1, _S.DELIVERED: 2,
    _D.BOOKED: 0, _D.DISPATCHED: 1, _D.IN_TRANSIT: 1,
    "booked": 0, "picked_up": 1, "in_transit": 1, "returned": 1, "delivered": 2,
}  # fmt: skip
"""How far a parcel is: by its order, by our shipment, by the carrier."""
Row = TypeVar("Row")


class World:
    """The books, indexed by order, and what is in flight."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.orders = {order.order_id: order for order in books.orders}
        self.runs: dict[UUID, set[str]] = defaultdict(set)
        self.workflows: dict[UUID, WorkflowRow] = {}
        """The newest run of each."""
        for run in books.workflows:
            if run.order_id is not None:
                self.runs[run.order_id].add(run.run_id)
                newest = self.workflows.get(run.order_id)
                if newest is None or newest.started_at <= run.started_at:
                    self.workflows[run.order_id] = run
        self.payments: dict[UUID, list[PaymentRow]] = _by(books.payments, lambda row: row.order_id)
        self.charges: dict[UUID, list[ChargeRow]] = _by(books.charges, lambda row: order_of(row.reference))
        self.reservations: dict[UUID, ReservationRow] = {row.order_id: row for row in books.reservations}
        self.shipments: dict[UUID, ShipmentRow] = {row.order_id: row for row in books.shipments}
        self.parcels: dict[UUID, ParcelRow] = {
            order_id: row for row in books.parcels if (order_id := uuid_of(row.reference)) is not None
        }
        self.moving: dict[UUID, InFlight] = {
            order.order_id: InFlight(str(order.order_id), why, order.updated_at, order.order_id)
            for order in books.orders
            if (why := self._why_moving(order))
        }
        self.settled = [order for order in books.orders if order.order_id not in self.moving]

    def is_fresh(self, at: datetime | None) -> bool:
        """Whether it happened so shortly before (or after) the look that the other books may not show it yet."""
        return at is not None and at > self.books.taken_at - SETTLE

    def is_running(self, order_id: UUID) -> bool:
        workflow = self.workflows.get(order_id)
        return workflow is not None and workflow.status == RUNNING

    @property
    def unopened(self) -> list[InFlight]:
        """Running sagas that have not written their order down yet."""
        if Source.ORDER in self.books.unreadable:
            return []
        return [
            InFlight(str(order_id), "its saga has not opened it yet", workflow.started_at, order_id)
            for order_id, workflow in self.workflows.items()
            if order_id not in self.orders and workflow.status == RUNNING
        ]

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

    def _why_moving(self, order: OrderRow) -> str | None:
        workflow = self.workflows.get(order.order_id)
        if self.is_fresh(order.updated_at):
            return f"{order.status}, changed a moment ago"
        if Source.TEMPORAL in self.books.unreadable:
            return f"{order.status}, and its saga cannot be looked at" if order.status not in FINAL_STATUSES else None
        if workflow and (self.is_fresh(workflow.started_at) or self.is_fresh(workflow.closed_at)):
            return f"{order.status}, its saga has just begun or ended"
        if workflow is None or workflow.status != RUNNING:
            return None
        if workflow.stuck_undo:
            return f"{order.status}, undos are being retried: {workflow.stuck_undo}"
        if order.status in MOVING:
            return order.status
        if workflow.listed_as == OrderStatus.CANCELLING:
            return f"{order.status}, being cancelled"
        if order.order_id in self.books.busy:
            return f"{order.status}, its saga is at work"
        shipment, parcel = self.shipments.get(order.order_id), self.parcels.get(order.order_id)
        if shipment and shipment.asked != "nothing":
            return f"{order.status}, the carrier is being asked to {shipment.asked}"
        reached = JOURNEY.get(order.status)
        news = [JOURNEY.get(row.status, 0) for row in (shipment, parcel) if row]
        if reached is not None and news and max(news) > reached:
            return f"{order.status}, news of its parcel is under way"
        return None


@lru_cache(maxsize=100_000)
def order_of(reference: str) -> UUID | None:
    """The order that a reference at the payment provider belongs to; None if it is none of ours."""
    order_id, attempt = uuid_of(reference[:36]), reference[37:]
    if order_id is None or not (attempt.isascii() and attempt.isdigit()):
        return None
    return order_id if payment_reference(order_id, int(attempt)) == reference else None


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

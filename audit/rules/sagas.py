"""Sagas: every order has its workflow until it ends, every workflow its order, and nothing is there without an order."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from audit.books import NO_RESULT, OrderRow, Source
from audit.rule import rule
from audit.rules.words import at, money
from audit.verdict import Check
from audit.world import ALIVE, COMPLETED, RUNNING, START_GRACE, World, parcel_of, return_of
from contracts.inventory import ReservationStatus
from contracts.orders import FINAL_STATUSES, NEXT_STATUS, OrderStatus
from contracts.payments import PaymentStatus
from contracts.shipments import ShipmentStatus

_D = ShipmentStatus
LIVE = frozenset({_D.PENDING, _D.BOOKED, _D.DISPATCHED, _D.IN_TRANSIT, _D.LOST, _D.RETURNED})
"""Shipments that somebody has to follow, or to call off."""
UNDECIDED = frozenset({PaymentStatus.INITIATED, PaymentStatus.ACTION_REQUIRED, PaymentStatus.AUTHORIZED})
"""Payments that somebody has to take, or to undo."""
NEXT = {status.value: following for status, following in NEXT_STATUS.items()}


@rule(
    "Nothing anywhere without an order",
    *(Source.ORDER, Source.PAYMENT, Source.INVENTORY, Source.SHIPPING, Source.CARRIER, Source.NOTIFICATION, Source.ANALYTICS),
)
def nothing_without_an_order(world: World, check: Check) -> None:
    """Each order is written down before anything is done for it; only one that was placed after the look may be missing."""
    books = world.books
    carried = ((parcel_of(row.reference) or return_of(row.reference), row) for row in books.parcels)
    tables: list[tuple[str, Iterable[tuple[UUID | None, str, datetime | None]]]] = [
        ("payment", ((row.order_id, row.status, None) for row in books.payments)),
        ("reservation", ((row.order_id, row.status, row.created_at) for row in books.reservations)),
        ("shipment", ((row.order_id, row.status, row.created_at) for row in books.shipments)),
        ("parcel at the carrier", ((parcel and parcel[0], row.status, row.created_at) for parcel, row in carried)),
        ("mail", ((row.order_id, row.kind, row.created_at) for row in books.notifications if row.order_id)),
        ("analytics' order", ((row.order_id, "known", row.placed_at) for row in books.facts)),
    ]
    for what, rows in tables:
        for order_id, status, time in rows:
            check.compared += 1
            if order_id not in world.orders and not world.is_fresh(time) and not _is_new(world, order_id):
                check.fails(order_id, what, "an order", f"none; {status}", order_id)


@rule("An accepted order's saga is started", Source.ORDER, Source.TEMPORAL)
def accepted_order_starts(world: World, check: Check) -> None:
    for order in world.books.orders:
        check.compared += 1
        if order.order_id in world.unstarted and order.order_id not in world.moving:
            what = f"workflow, {START_GRACE.total_seconds():.0f} s after the order was accepted"
            check.fails(order.order_id, what, "one", f"none since {at(order.placed_at)}", order.order_id)


@rule("An order that goes on has a workflow that runs", Source.ORDER, Source.TEMPORAL)
def workflow_is_not_lost(world: World, check: Check) -> None:
    """One violation says all that a lost workflow leaves behind; no other rule speaks of that order until it is repaired."""
    for order in world.books.orders:
        if order.status in FINAL_STATUSES:
            continue
        check.compared += 1
        if order.order_id in world.lost:
            behind = ", ".join(_left_behind(world, order)) or "nothing"
            found = f"{world.lost[order.order_id]}; left behind: {behind}; see `commerce orders repair {order.order_id}`"
            check.fails(order.order_id, f"{order.status}: workflow", "one that runs", found, order.order_id)


@rule("An order that ended had a workflow", Source.ORDER, Source.TEMPORAL)
def ended_order_had_saga(world: World, check: Check) -> None:
    for order in world.settled:
        if order.status in FINAL_STATUSES and not _is_forgotten(world, order.updated_at):
            check.compared += 1
            if order.order_id not in world.workflows:
                check.fails(order.order_id, "workflow", f"one, for an order that is {order.status}", "none", order.order_id)


@rule("No workflow without an order", Source.ORDER, Source.TEMPORAL)
def saga_has_order(world: World, check: Check) -> None:
    for workflow in world.books.workflows:
        check.compared += 1
        if workflow.order_id is None:
            check.fails(workflow.workflow_id, "workflow id", "that of an order", workflow.workflow_id)
        elif workflow.order_id not in world.orders and not world.is_fresh(workflow.started_at):
            check.fails(workflow.order_id, f"order of a workflow that is {workflow.status}", "one", "none", workflow.order_id)


@rule("An order has ended when its workflow is closed", Source.ORDER, Source.TEMPORAL)
def ends_together(world: World, check: Check) -> None:
    for order in world.settled:
        workflow = world.workflows.get(order.order_id)
        if workflow is None:
            continue
        check.compared += 1
        if (order.status in FINAL_STATUSES) == (workflow.status in ALIVE):
            expected = "closed" if order.status in FINAL_STATUSES else RUNNING
            check.fails(order.order_id, f"{order.status}: workflow", expected, workflow.status, order.order_id)


@rule("A closed workflow completed with a result", Source.TEMPORAL)
def saga_completes(world: World, check: Check) -> None:
    for workflow in world.workflows.values():
        if workflow.status in ALIVE or workflow.order_id in world.lost:
            continue
        subject = workflow.order_id
        check.equal(subject, "closed workflow", COMPLETED, workflow.status, subject)
        if workflow.result == NO_RESULT:
            check.fails(subject, "workflow's result", "an OrderState", NO_RESULT, subject)
    read = sum(workflow.result is not None for workflow in world.workflows.values())
    check.note = f"{read} results read"


@rule("An order went from status to status as it may", Source.ORDER)
def path_is_allowed(world: World, check: Check) -> None:
    for order in world.books.orders:
        check.compared += 1
        path = order.path
        if not path or path[0] != OrderStatus.PENDING or path[-1] != order.status:
            check.fails(order.order_id, "path", f"from PENDING to {order.status}", " → ".join(path) or "none", order.order_id)
        for before, after in pairwise(path):
            if after not in (following := NEXT.get(before, frozenset())):
                expected = " or ".join(sorted(following)) or "nothing"
                check.fails(order.order_id, f"what follows {before}", expected, after, order.order_id)


def _left_behind(world: World, order: OrderRow) -> Iterator[str]:
    """What nobody will undo or follow any more, as far as it could be read."""
    order_id = order.order_id
    for reservation in world.reservations.get(order_id, ()):
        if reservation.status == ReservationStatus.RESERVED:
            yield f"the reservation of parcel {reservation.parcel} ({reservation.lines})"
    ours = {row.parcel: row for row in world.shipments.get(order_id, ())}
    carried = world.carried.get(order_id, {})
    for number in sorted({*ours, *carried}):
        here, there = ours.get(number), carried.get(number)
        if (here and here.status in LIVE) or (there and there.status not in ("cancelled", "delivered")):
            carrier = f"the carrier says {there.status}" if there else "the carrier has none"
            yield f"parcel {number} ({here.status if here else 'unknown to us'}, {carrier})"
    charges = {row.reference: row for row in world.charges.get(order_id, ())}
    for payment in world.payments.get(order_id, ()):
        if payment.reference not in charges:
            net = payment.captured_moved - payment.refunded_moved
            if payment.status in UNDECIDED or net > 0:
                yield f"payment {payment.attempt} ({payment.status} {money(net or payment.amount, payment.currency)})"
    for charge in charges.values():
        currency = charge.currency or order.currency
        if charge.status == "authorized":
            yield f"{money(charge.amount, currency)} held under {charge.reference}"
        elif charge.status == "action_required":
            yield f"{money(charge.amount, currency)} to be confirmed under {charge.reference}"
        elif charge.captured > charge.refunded:
            yield f"{money(charge.captured - charge.refunded, currency)} taken under {charge.reference}"


def _is_forgotten(world: World, time: datetime) -> bool:
    """Whether Temporal may have deleted a workflow that closed then."""
    return time < world.books.taken_at - world.books.workflow_retention + timedelta(hours=1)


def _is_new(world: World, order_id: UUID | None) -> bool:
    """Whether its saga began so late that the order may have been written down after the look."""
    workflow = world.workflows.get(order_id) if order_id else None
    return workflow is not None and world.is_fresh(workflow.started_at)

"""What must always hold (the design's list of that name), as pure functions over the books.

The rules that compare one service's books with another's pass over what is in flight. What one service's books alone must always
say, and what may never happen at all (a double charge, a refund of more than was taken, negative stock), is checked always.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from uuid import UUID

from audit.books import LISTENERS, NO_RESULT, PRODUCERS, Books, ChargeRow, EventRow, OrderRow, PaymentRow, PriceRow, Source
from audit.verdict import Check, InFlight, Judgement, RuleResult, Violation
from audit.world import RUNNING, SETTLE, World, order_of, uuid_of
from contracts.ids import payment_reference
from contracts.inventory import ReservationStatus
from contracts.money import MINOR_DIGITS
from contracts.notifications import NotificationKind
from contracts.orders import FINAL_STATUSES, OrderStatus
from contracts.payments import PaymentStatus
from contracts.shipments import ShipmentStatus

COMPLETED = "COMPLETED"
_S, _R, _D = OrderStatus, ReservationStatus, ShipmentStatus
KEPT = frozenset({_S.CONFIRMED, _S.SHIPPED, _S.DELIVERED, _S.COMPLETED})
UNPAID = frozenset({_S.PENDING, _S.RESERVED, _S.IN_REVIEW, _S.CANCELLED})
LEFT = frozenset({_S.SHIPPED, _S.DELIVERED, _S.COMPLETED})

SHIPMENT_OF: Mapping[str, frozenset[str | None]] = {
    _S.CONFIRMED: frozenset({_D.BOOKED}),
    _S.SHIPPED: frozenset({_D.DISPATCHED, _D.IN_TRANSIT}),
    _S.DELIVERED: frozenset({_D.DELIVERED}),
    _S.COMPLETED: frozenset({_D.DELIVERED}),
    _S.CANCELLED: frozenset({None, _D.CANCELLED, _D.REFUSED}),
    _S.IN_REVIEW: frozenset({None}),
}
"""What our shipment may be at each status at which an order rests."""
PARCEL_OF: Mapping[str, frozenset[str | None]] = {
    _S.CONFIRMED: frozenset({"booked"}),
    _S.SHIPPED: frozenset({"picked_up", "in_transit", "returned"}),
    # A person may have seen it arrive before the carrier said so.
    _S.DELIVERED: frozenset({"picked_up", "in_transit", "delivered"}),
    _S.COMPLETED: frozenset({"picked_up", "in_transit", "delivered"}),
    _S.CANCELLED: frozenset({None, "cancelled"}),
    _S.IN_REVIEW: frozenset({None}),
}
"""The same at the carrier."""
SAME_PARCEL: Mapping[str, frozenset[str | None]] = {
    _D.PENDING: frozenset({None}),
    _D.BOOKED: frozenset({"booked"}),
    _D.DISPATCHED: frozenset({"picked_up"}),
    _D.IN_TRANSIT: frozenset({"in_transit"}),
    _D.DELIVERED: frozenset({"picked_up", "in_transit", "delivered"}),
    _D.CANCELLED: frozenset({"cancelled"}),
    _D.REFUSED: frozenset({None}),
}
"""Our shipment's status, and what the carrier's may be beside it."""
CARRIER_AHEAD: Mapping[str, frozenset[str]] = {
    _D.PENDING: frozenset({"booked", "cancelled"}),
    _D.BOOKED: frozenset({"picked_up", "in_transit", "delivered", "returned", "cancelled"}),
    _D.DISPATCHED: frozenset({"in_transit", "delivered", "returned"}),
    _D.IN_TRANSIT: frozenset({"delivered", "returned"}),
}
"""The carrier decides and we hear of it: so it may be ahead of us for a moment, and we never of it."""
SAME_PAYMENT: Mapping[str, str] = {
    "authorized": PaymentStatus.AUTHORIZED,
    "captured": PaymentStatus.CAPTURED,
    "declined": PaymentStatus.DECLINED,
    "voided": PaymentStatus.VOIDED,
    "refunded": PaymentStatus.REFUNDED,
    "reversed": PaymentStatus.VOIDED,
}
"""The provider's word, and ours for the same."""
PRICE_LAG = timedelta(minutes=1)
"""An order is placed a moment after its prices were read, and by another machine's clock than that of the catalogue."""
Judge = Callable[[World, Check], None]


@dataclass(frozen=True)
class Rule:
    """One thing that must hold."""

    code: str
    title: str
    needs: tuple[Source, ...]
    judge: Judge


RULES: list[Rule] = []


def rule(code: str, title: str, *needs: Source) -> Callable[[Judge], Judge]:
    """Adds a function to the rules. It is left out where a source that it needs could not be read."""

    def add(judge: Judge) -> Judge:
        RULES.append(Rule(code, title, needs, judge))
        return judge

    return add


def judge(books: Books) -> Judgement:
    """Hold every rule against the books."""
    world = World(books)
    results, in_flight = [], [*world.moving.values(), *world.unopened, *world.unpublished]
    for each in RULES:
        missing = [source for source in each.needs if source in books.unreadable or source in books.absent]
        if missing:
            results.append(RuleResult(each.code, each.title, skipped=f"no {', no '.join(missing)}"))
            continue
        check = Check(each.code)
        each.judge(world, check)
        in_flight += check.in_flight
        results.append(RuleResult(each.code, each.title, check.compared, check.violations, check.note))
    return Judgement(results, in_flight)


def unsettled(looks: Sequence[Sequence[InFlight]], began: datetime) -> RuleResult:
    """What moved all the time that we waited and did not get anywhere. `looks`: what was in flight in each look."""
    last = {item.subject: item for item in looks[-1]}
    stuck = set(last).intersection(*({item.subject for item in look} for look in looks[:-1]))
    violations = [
        Violation("settles", item.subject, item.why, "at rest", f"unchanged since {_at(item.since)}", item.order_id)
        for subject, item in last.items()
        if subject in stuck and (item.since is None or item.since <= began)
    ]
    return RuleResult("settles", "Whatever moves came to rest within the wait", len(last), violations)


# ── Money ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@rule("money_in_our_ledger", "Our ledger: captured - refunded = what is owed", Source.ORDER, Source.PAYMENT)
def _money_in_our_ledger(world: World, check: Check) -> None:
    for order, owed in _owing(world):
        rows = world.payments.get(order.order_id, ())
        net = sum(row.captured_moved - row.refunded_moved for row in rows)
        check.equal(order.order_id, f"{order.status}: net of our payments", owed, net, order.order_id, _money_in(order.currency))
        for row in rows:
            if net and row.currency != order.currency:
                check.fails(order.order_id, "currency of our payment", order.currency, row.currency, order.order_id)


@rule("money_at_the_provider", "Provider: captured - refunded = what is owed", Source.ORDER, Source.PROVIDER)
def _money_at_the_provider(world: World, check: Check) -> None:
    for order, owed in _owing(world):
        rows = world.charges.get(order.order_id, ())
        net = sum(row.captured - row.refunded for row in rows)
        check.equal(order.order_id, f"{order.status}: net of its charges", owed, net, order.order_id, _money_in(order.currency))
        for row in rows:
            if row.captured and row.currency != order.currency:
                check.fails(order.order_id, "currency of its charge", order.currency, str(row.currency), order.order_id)


@rule("charge_has_order", "No charge at the provider without an order", Source.ORDER, Source.PROVIDER)
def _charge_has_order(world: World, check: Check) -> None:
    for row in world.books.charges:
        check.compared += 1
        if order_of(row.reference) not in world.orders and not world.is_fresh(row.created_at):
            charged = f"{row.status} {_money(row.captured - row.refunded, row.currency or 'USD')}"
            check.fails(row.reference, "charge at the provider", "an order", f"none; {charged}", order_of(row.reference))


@rule("one_charge", "One charge per attempt, never two holding money", Source.PROVIDER, Source.PAYMENT)
def _one_charge(world: World, check: Check) -> None:
    for reference, count in Counter(row.reference for row in world.books.charges).items():
        check.equal(reference, "charges under one reference", 1, count, order_of(reference))
    for order_id, charges in world.charges.items():
        holding = [row.reference for row in charges if row.captured > row.refunded]
        if len(holding) > 1:
            check.fails(order_id, "charges that hold money", "1 at most", ", ".join(sorted(holding)), order_id)
    for order_id, payments in world.payments.items():
        for attempt, count in Counter(row.attempt for row in payments).items():
            check.equal(order_id, f"our payments of attempt {attempt}", 1, count, order_id)
        for row in payments:
            check.equal(order_id, "our reference", payment_reference(order_id, row.attempt), row.reference, order_id)


@rule("ledgers_agree", "The provider's ledger is ours, row by row", Source.PROVIDER, Source.PAYMENT)
def _ledgers_agree(world: World, check: Check) -> None:
    ours = {row.reference: row for row in world.books.payments}
    theirs = {row.reference: row for row in world.books.charges}
    for reference, payment in ours.items():
        check.compared += 1
        charge = theirs.get(reference)
        moving = payment.order_id in world.moving
        if charge is None:
            if not payment.is_tombstone and not (moving and payment.status == PaymentStatus.INITIATED):
                check.fails(reference, "charge at the provider", payment.status, "none", payment.order_id)
            continue
        # The provider decides, and was read later: while an order moves it may know more than we do, and never less.
        if moving and payment.captured_moved <= charge.captured and payment.refunded_moved <= charge.refunded:
            continue
        if (expected := _as_charged(payment, charge)) != (found := _charged(charge)):
            check.fails(reference, "provider's row (expected: ours)", " ".join(expected), " ".join(found), payment.order_id)
    for reference, charge in theirs.items():
        order_id = order_of(reference)
        if reference not in ours and order_id in world.orders and order_id not in world.moving:
            check.compared += 1
            if not world.is_fresh(charge.created_at):
                check.fails(reference, "our payment", " ".join(_charged(charge)), "none", order_id)


@rule("refunds_within_captures", "Refunded ≤ captured ≤ asked, always", Source.PAYMENT)
def _refunds_within_captures(world: World, check: Check) -> None:
    for row in world.books.payments:
        check.compared += 1
        if not 0 <= row.refunded_moved <= row.captured_moved <= row.amount:
            found = f"{row.refunded_moved} refunded, {row.captured_moved} captured of {row.amount}"
            check.fails(row.order_id, f"payment {row.attempt} (minor units)", "refunded ≤ captured ≤ asked", found, row.order_id)
    for charge in world.books.charges:
        check.compared += 1
        if not 0 <= charge.refunded <= charge.captured <= charge.amount:
            found = f"{charge.refunded} refunded, {charge.captured} captured of {charge.amount}"
            what = "charge (minor units)"
            check.fails(charge.reference, what, "refunded ≤ captured ≤ asked", found, order_of(charge.reference))


@rule("payments_add_up", "A payment's state is its transactions' sum", Source.PAYMENT)
def _payments_add_up(world: World, check: Check) -> None:
    status = PaymentStatus
    for row in world.books.payments:
        taken = row.amount if row.status in (status.CAPTURED, status.REFUNDED) else 0
        back = row.amount if row.status == status.REFUNDED else 0
        what = f"payment {row.attempt}, {row.status}: captured, refunded, said to be refunded (minor units)"
        check.equal(row.order_id, what, (taken, back, back), (row.captured_moved, row.refunded_moved, row.refunded), row.order_id)
        if row.other_currency:
            check.fails(row.order_id, "transactions' currency", row.currency, f"{row.other_currency} others", row.order_id)
        held = row.authorized_moved > 0 and not row.captured_moved and not row.voided_moved
        if held != (row.status == status.AUTHORIZED):
            what = f"payment {row.attempt}, {row.status}: money is held"
            check.fails(row.order_id, what, str(row.status == status.AUTHORIZED), str(held), row.order_id)


@rule("refund_is_told", "An order says what went back to the customer", Source.ORDER, Source.PAYMENT)
def _refund_is_told(world: World, check: Check) -> None:
    for order in world.settled:
        back = sum(row.refunded_moved for row in world.payments.get(order.order_id, ()))
        check.equal(
            order.order_id, "refunded, as the order says", back, order.refunded_minor, order.order_id, _money_in(order.currency)
        )


@rule("total_is_the_lines", "An order's total is the sum of its lines", Source.ORDER)
def _total_is_the_lines(world: World, check: Check) -> None:
    for order in world.books.orders:
        lines = None if order.lines_total is None else _minor(order.lines_total, order.currency)
        check.equal(order.order_id, "total", lines, order.total_minor, order.order_id, _money_in(order.currency))


@rule("price_was_the_catalogues", "Each line has a price that its product had just then", Source.ORDER, Source.CATALOG)
def _price_was_the_catalogues(world: World, check: Check) -> None:
    periods: dict[str, list[PriceRow]] = defaultdict(list)
    for price in world.books.prices:
        periods[price.product_id].append(price)
    for line in world.books.lines:
        order = world.orders.get(line.order_id)
        if order is None or world.is_fresh(order.placed_at):
            continue
        had = {
            _money(_minor(price.amount, price.currency), price.currency)
            for price in periods[line.product_id]
            if price.valid_from - PRICE_LAG <= order.placed_at
            and (price.valid_to is None or order.placed_at <= price.valid_to + PRICE_LAG)
        }
        check.among(
            line.order_id,
            f"price of {line.product_id} at {_at(order.placed_at)}",
            had or {None},
            _money(_minor(line.amount, line.currency), line.currency),
            line.order_id,
        )


def _owing(world: World) -> Iterator[tuple[OrderRow, int]]:
    """The orders at rest, each with what its customer should have paid."""
    for order in world.settled:
        if order.status in KEPT:
            yield order, order.total_minor
        elif order.status in UNPAID:
            yield order, 0


def _as_charged(payment: PaymentRow, charge: ChargeRow) -> tuple[str, ...]:
    """Our row in the provider's words. A charge reversed before it came has no amount there, and no id that we could know."""
    status = charge.status if SAME_PAYMENT.get(charge.status) == payment.status else payment.status
    never_came = charge.status == "reversed"
    amount, currency = (charge.amount, charge.currency) if never_came else (payment.amount, payment.currency)
    provider_id = charge.provider_id if never_came or payment.provider_id is None else payment.provider_id
    return _row(status, amount, currency, payment.captured_moved, payment.refunded_moved, provider_id)


def _charged(charge: ChargeRow) -> tuple[str, ...]:
    return _row(charge.status, charge.amount, charge.currency, charge.captured, charge.refunded, charge.provider_id)


def _row(
    status: str, amount: int, currency: str | None, captured: int, refunded: int, provider_id: str | None
) -> tuple[str, ...]:
    return status, f"{amount} {currency or ''}".strip(), f"captured {captured}", f"refunded {refunded}", str(provider_id)


# ── Stock ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@rule("stock_is_its_movements", "Stock on hand = sum of its movements", Source.INVENTORY)
def _stock_is_its_movements(world: World, check: Check) -> None:
    for row in world.books.stock:
        check.equal(f"{row.warehouse_id}/{row.product_id}", "on hand", row.moved, row.on_hand or 0)


@rule("stock_is_received_less_shipped", "Stock on hand = received - shipped", Source.INVENTORY)
def _stock_is_received_less_shipped(world: World, check: Check) -> None:
    for row in world.books.stock:
        check.equal(f"{row.warehouse_id}/{row.product_id}", "on hand", row.received - row.shipped, row.on_hand or 0)


@rule("reserved_is_the_open_reservations", "Reserved stock = sum of open reservations", Source.INVENTORY)
def _reserved_is_the_open_reservations(world: World, check: Check) -> None:
    for row in world.books.stock:
        check.equal(f"{row.warehouse_id}/{row.product_id}", "reserved", row.promised, row.reserved or 0)


@rule("never_oversold", "0 ≤ reserved ≤ on hand, always", Source.INVENTORY)
def _never_oversold(world: World, check: Check) -> None:
    for row in world.books.stock:
        check.compared += 1
        on_hand, reserved = row.on_hand or 0, row.reserved or 0
        if not 0 <= reserved <= on_hand:
            found = f"{reserved} reserved of {on_hand}"
            check.fails(f"{row.warehouse_id}/{row.product_id}", "stock", "0 ≤ reserved ≤ on hand", found)


@rule("reservation_fits", "A reservation fits its order's status and lines", Source.ORDER, Source.INVENTORY)
def _reservation_fits(world: World, check: Check) -> None:
    for order in world.settled:
        row = world.reservations.get(order.order_id)
        found = row.status if row else None
        if order.status == _S.CANCELLED:
            check.among(order.order_id, "CANCELLED: reservation", (None, _R.RELEASED), found, order.order_id)
        elif order.status in LEFT:
            check.among(order.order_id, f"{order.status}: reservation", (_R.SHIPPED,), found, order.order_id)
        elif order.status in (_S.CONFIRMED, _S.IN_REVIEW):
            check.among(order.order_id, f"{order.status}: reservation", (_R.HELD,), found, order.order_id)
        else:
            continue
        if row is None or order.status == _S.CANCELLED:
            continue
        if row.lines != order.lines:
            check.fails(order.order_id, "reserved lines", str(order.lines), str(row.lines), order.order_id)
        if order.status == _S.CONFIRMED and row.expires_at is not None:
            check.fails(order.order_id, "reservation of a paid order expires", "never", _at(row.expires_at), order.order_id)


# ── Parcels ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@rule("shipment_fits", "A shipment fits its order (cancelled: none lives)", Source.ORDER, Source.SHIPPING)
def _shipment_fits(world: World, check: Check) -> None:
    for order in world.settled:
        if order.status in SHIPMENT_OF:
            row = world.shipments.get(order.order_id)
            what = f"{order.status}: our shipment"
            check.among(order.order_id, what, SHIPMENT_OF[order.status], row.status if row else None, order.order_id)


@rule("parcel_fits", "A parcel at the carrier fits its order", Source.ORDER, Source.CARRIER)
def _parcel_fits(world: World, check: Check) -> None:
    for order in world.settled:
        if order.status in PARCEL_OF:
            row = world.parcels.get(order.order_id)
            what = f"{order.status}: parcel at the carrier"
            check.among(order.order_id, what, PARCEL_OF[order.status], row.status if row else None, order.order_id)


@rule("parcels_agree", "The carrier's ledger is ours, row by row", Source.SHIPPING, Source.CARRIER)
def _parcels_agree(world: World, check: Check) -> None:
    for reference, count in Counter(row.reference for row in world.books.parcels).items():
        check.equal(reference, "parcels under one reference", 1, count, uuid_of(reference))
    for order_id, count in Counter(row.order_id for row in world.books.shipments).items():
        check.equal(order_id, "our shipments of one order", 1, count, order_id)
    for order_id, shipment in world.shipments.items():
        parcel = world.parcels.get(order_id)
        there = parcel.status if parcel else None
        allowed: frozenset[str | None] = SAME_PARCEL.get(shipment.status, frozenset())
        if order_id in world.moving:
            allowed |= CARRIER_AHEAD.get(shipment.status, frozenset())
        if shipment.is_tombstone:
            allowed |= {None}
        check.among(order_id, f"our shipment is {shipment.status}; the carrier's", allowed, there, order_id)
        if parcel and parcel.tracking_number and shipment.tracking_number not in (None, parcel.tracking_number):
            check.fails(order_id, "tracking number", parcel.tracking_number, str(shipment.tracking_number), order_id)
    for row in world.books.parcels:
        if uuid_of(row.reference) not in world.shipments:
            check.compared += 1
            if not world.is_fresh(row.created_at):
                check.fails(row.reference, "our shipment", row.status, "none", uuid_of(row.reference))


# ── Orders and their sagas ───────────────────────────────────────────────────────────────────────────────────────────────


@rule(
    "nothing_without_an_order",
    "Nothing anywhere without an order",
    Source.ORDER,
    Source.PAYMENT,
    Source.INVENTORY,
    Source.SHIPPING,
    Source.CARRIER,
    Source.NOTIFICATION,
    Source.ANALYTICS,
)
def _nothing_without_an_order(world: World, check: Check) -> None:
    books = world.books
    # Each order is opened before anything else is done for it; only an order opened after the look may be missing.
    tables: list[tuple[str, Iterable[tuple[UUID | None, str, datetime | None]]]] = [
        ("payment", ((row.order_id, row.status, None) for row in books.payments)),
        ("reservation", ((row.order_id, row.status, row.created_at) for row in books.reservations)),
        ("shipment", ((row.order_id, row.status, row.created_at) for row in books.shipments)),
        ("parcel at the carrier", ((uuid_of(row.reference), row.status, row.created_at) for row in books.parcels)),
        ("mail", ((row.order_id, row.kind, row.created_at) for row in books.notifications if row.order_id)),
        ("analytics' order", ((row.order_id, "known", row.placed_at) for row in books.facts)),
    ]
    for what, rows in tables:
        for order_id, status, at in rows:
            check.compared += 1
            if order_id not in world.orders and not world.is_fresh(at) and not _is_new(world, order_id):
                check.fails(order_id, what, "an order", f"none; {status}", order_id)


@rule("order_has_saga", "No order without its workflow", Source.ORDER, Source.TEMPORAL)
def _order_has_saga(world: World, check: Check) -> None:
    for order in world.settled:
        check.compared += 1
        runs = world.runs.get(order.order_id)
        if not runs:
            if order.status not in FINAL_STATUSES or not _is_forgotten(world, order.updated_at):
                check.fails(order.order_id, "workflow", f"one, for an order that is {order.status}", "none", order.order_id)
        elif order.workflow_run_id not in runs and not _is_forgotten(world, order.placed_at):
            found = ", ".join(sorted(runs))
            check.fails(order.order_id, "workflow run that opened it", order.workflow_run_id, found, order.order_id)


@rule("saga_has_order", "No workflow without an order", Source.ORDER, Source.TEMPORAL)
def _saga_has_order(world: World, check: Check) -> None:
    for workflow in world.books.workflows:
        check.compared += 1
        if workflow.order_id is None:
            check.fails(workflow.workflow_id, "workflow id", "that of an order", workflow.workflow_id)
        elif (
            workflow.order_id not in world.orders
            and workflow.status != RUNNING
            and not world.is_fresh(workflow.closed_at)
            and not world.is_running(workflow.order_id)
        ):
            check.fails(workflow.order_id, f"order of a workflow that is {workflow.status}", "one", "none", workflow.order_id)


@rule("ends_together", "An order is final when its workflow is closed", Source.ORDER, Source.TEMPORAL)
def _ends_together(world: World, check: Check) -> None:
    for order in world.settled:
        workflow = world.workflows.get(order.order_id)
        if workflow is None:
            continue
        check.compared += 1
        if (order.status in FINAL_STATUSES) == (workflow.status == RUNNING):
            expected = "closed" if order.status in FINAL_STATUSES else RUNNING
            check.fails(order.order_id, f"{order.status}: workflow", expected, workflow.status, order.order_id)


@rule("saga_completes", "A closed workflow completed with a result", Source.TEMPORAL)
def _saga_completes(world: World, check: Check) -> None:
    for workflow in world.workflows.values():
        if workflow.status == RUNNING:
            continue
        subject = workflow.order_id
        check.equal(subject, "closed workflow", COMPLETED, workflow.status, subject)
        if workflow.result == NO_RESULT:
            check.fails(subject, "workflow's result", "an OrderState", NO_RESULT, subject)
    read = sum(workflow.result is not None for workflow in world.workflows.values())
    check.note = f"{read} results read"


@rule("same_status", "An order's status is its workflow's", Source.ORDER, Source.TEMPORAL)
def _same_status(world: World, check: Check) -> None:
    for order in world.settled:
        workflow = world.workflows.get(order.order_id)
        if workflow is None or order.workflow_run_id not in world.runs[order.order_id]:
            continue
        if workflow.listed_as is not None:
            check.equal(order.order_id, "status, as the workflow is listed", workflow.listed_as, order.status, order.order_id)
        if workflow.result not in (None, NO_RESULT):
            check.equal(order.order_id, "status, as the workflow ended", workflow.result, order.status, order.order_id)


def _is_forgotten(world: World, at: datetime) -> bool:
    """Whether Temporal may have deleted a workflow that closed then."""
    return at < world.books.taken_at - world.books.workflow_retention + timedelta(hours=1)


def _is_new(world: World, order_id: UUID | None) -> bool:
    """Whether its saga began so late that the order may have been opened after the look."""
    workflow = world.workflows.get(order_id) if order_id else None
    return workflow is not None and world.is_fresh(workflow.started_at)


# ── Events ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@rule("events_are_published", "Every event in an outbox is published", *PRODUCERS)
def _events_are_published(world: World, check: Check) -> None:
    """What is not yet is in flight (`World.unpublished`); `unsettled` judges it after the wait."""
    check.compared = world.books.outbox_rows
    waiting = sum(event.published_at is None for events in world.books.events.values() for event in events)
    check.note = f"{waiting} waiting" if waiting else ""


@rule("events_keep_their_order", "The events of an aggregate were sent in order", *PRODUCERS)
def _events_keep_their_order(world: World, check: Check) -> None:
    for events in world.books.events.values():
        last: dict[tuple[str, str], EventRow] = {}
        for event in sorted(events, key=lambda row: row.seq):
            if event.offset is None:
                continue
            check.compared += 1
            before = last.get((event.topic, event.key))
            if before and before.offset is not None and before.partition == event.partition and before.offset >= event.offset:
                expected = f"{event.type} after {before.type} (offset {before.offset})"
                check.fails(event.key, f"{event.topic}, partition {event.partition}", expected, f"offset {event.offset}")
            last[event.topic, event.key] = event


@rule("events_are_applied", "Each event had its effect at each listener", *PRODUCERS, Source.ANALYTICS)
def _events_are_applied(world: World, check: Check) -> None:
    """A listener takes the events of a partition in turn. What it passed over will not come again; the rest will."""
    for listener in LISTENERS:
        heard = [event for event in world.heard_by(listener) if event.published_at is not None]
        check.compared += len(heard)
        missing = [event for event in world.unapplied[listener] if event.published_at is not None]
        if not missing:
            continue
        later = _applied_later(heard, world.books.inboxes[listener])
        waiting = []
        for event in missing:
            assert event.published_at is not None
            seen = later(event)
            if seen is not None and seen > event.published_at:
                what = f"{event.type} {event.event_id} at {listener}"
                check.fails(event.key, what, "applied", f"passed over by {_at(seen)}", uuid_of(event.key))
            else:
                waiting.append(event.published_at)
        if waiting:
            check.in_flight.append(InFlight(f"{listener} inbox", f"{len(waiting)} events to be applied", min(waiting)))


@rule("effects_have_events", "No effect without an event", *PRODUCERS, Source.ANALYTICS)
def _effects_have_events(world: World, check: Check) -> None:
    books = world.books
    known = {event.event_id for events in books.events.values() for event in events}
    # An event's id (version 7) begins with its time, so we know whether its outbox must still have it.
    oldest, newest = books.taken_at - books.outbox_retention, books.taken_at - SETTLE
    for listener, inbox in books.inboxes.items():
        for event_id, applied_at in inbox.items():
            if event_id.version != 7:
                continue
            check.compared += 1
            if event_id not in known and oldest.timestamp() < (event_id.int >> 80) / 1000 < newest.timestamp():
                check.fails(event_id, f"event applied at {listener} at {_at(applied_at)}", "in an outbox", "in none")


def _applied_later(heard: Sequence[EventRow], inbox: Mapping[UUID, datetime]) -> Callable[[EventRow], datetime | None]:
    """Tells when, at the latest, the listener applied something behind an event in its partition."""
    places: dict[tuple[str, int | None], list[tuple[int, EventRow]]] = defaultdict(list)
    for event in heard:
        places[event.topic, event.partition].append((event.offset or 0, event))
    latest: dict[UUID, datetime | None] = {}
    for events in places.values():
        seen: datetime | None = None
        for _, event in sorted(events, key=lambda place: place[0], reverse=True):
            latest[event.event_id] = seen
            applied = inbox.get(event.event_id)
            if applied is not None and (seen is None or applied > seen):
                seen = applied
    return lambda event: latest.get(event.event_id)


# ── Reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@rule("reports_know_each_order", "Analytics knows of an order what it says", Source.ORDER, Source.ANALYTICS)
def _reports_know_each_order(world: World, check: Check) -> None:
    facts = {row.order_id: row for row in world.books.facts}
    told_later = {event.key for event in world.unapplied[Source.ANALYTICS]}
    for order in world.settled:
        if str(order.order_id) in told_later:  # that is another rule's business
            continue
        status, row = order.status, facts.get(order.order_id)
        back = order.refunded_minor if status == _S.CANCELLED else 0
        reached = True, order.confirmed_at is not None, status == _S.COMPLETED, status == _S.CANCELLED
        expected = *reached, order.total_minor, back, order.currency
        found = None
        if row is not None:
            total, refunded = _minor(row.total, row.currency), _minor(row.refunded, row.currency)
            reached = row.placed_at is not None, row.is_confirmed, row.is_completed, row.is_cancelled
            found = *reached, total, refunded, row.currency
        check.equal(order.order_id, "analytics' order", expected, found, order.order_id, _fact)


@rule(
    "report_sums_add_up",
    "Analytics' sums are those of its orders",
    Source.ANALYTICS,
)
def _report_sums_add_up(world: World, check: Check) -> None:
    for row in world.books.sums:
        check.equal(f"{row.table} {row.currency}", row.what, row.of_facts.normalize(), row.kept.normalize(), show=_plain)


def _fact(told: object) -> str:
    if not isinstance(told, tuple):
        return "nothing"
    *reached, total, refunded, currency = told
    stages = [stage for stage, is_so in zip(("placed", "confirmed", "completed", "cancelled"), reached, strict=True) if is_so]
    return f"{', '.join(stages)}; total {_money(total, currency)}, refunded {_money(refunded, currency)}"


# ── Mails ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@rule(
    "one_confirmation",
    "A confirmed order has one confirmation mail",
    Source.ORDER,
    Source.NOTIFICATION,
)
def _one_confirmation(world: World, check: Check) -> None:
    confirmations: dict[UUID, list[str]] = defaultdict(list)
    for row in world.books.notifications:
        if row.order_id and row.kind == NotificationKind.ORDER_CONFIRMED:
            confirmations[row.order_id].append(row.status)
    for order in world.settled:
        found = sorted(confirmations.get(order.order_id, ()))
        if order.status in KEPT:
            # SUPPRESSED: the customer has not verified the address.
            check.among(
                order.order_id, "confirmation", ("SENT", "PENDING", "SUPPRESSED"), ", ".join(found) or None, order.order_id
            )
        else:  # one that was cancelled after it was confirmed may have had its mail before
            check.compared += 1
            if len(found) > (order.confirmed_at is not None):
                expected = "one at most" if order.confirmed_at else "none"
                check.fails(order.order_id, f"{order.status}: confirmation", expected, ", ".join(found), order.order_id)


@rule("mails_agree", "The mail server has just what we sent", Source.NOTIFICATION, Source.MAIL_SINK)
def _mails_agree(world: World, check: Check) -> None:
    """The same mail may come twice after a crash; then both copies have one Message-ID."""
    notifications = {row.notification_id: row for row in world.books.notifications}
    received: dict[UUID, datetime] = {}
    for mail in world.books.mails:
        notification_id = uuid_of(mail.message_id.strip("<>").partition("@")[0])
        if notification_id is not None and notification_id in notifications:
            received.setdefault(notification_id, mail.received_at)
        elif not world.is_fresh(mail.received_at):
            check.fails(mail.message_id, "mail at the server", "one that we queued", "unknown here")
        check.compared += 1
    confirmations: dict[UUID, list[str]] = defaultdict(list)
    for notification_id in received:
        row = notifications[notification_id]
        if row.order_id and row.kind == NotificationKind.ORDER_CONFIRMED:
            confirmations[row.order_id].append(str(notification_id))
    for order_id, ids in confirmations.items():
        check.compared += 1
        if len(ids) > 1:
            check.fails(order_id, "confirmations at the mail server", "1", ", ".join(sorted(ids)), order_id)
    if world.books.mails:
        first = min(world.books.mails)
        # If it was emptied since, what came before is not held against it.
        since = None if first.number == 1 else first.received_at + timedelta(minutes=1)
        for row in notifications.values():
            if row.status == "SENT" and row.sent_at and (since is None or row.sent_at > since):
                check.compared += 1
                if row.notification_id not in received:
                    what = f"{row.kind} {row.notification_id}"
                    check.fails(row.order_id or row.kind, what, "at the mail server", "not there", row.order_id)
    copies = len(world.books.mails) - len({mail.message_id for mail in world.books.mails})
    check.note = f"{copies} came more than once" if copies else ""


# ── Small things ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _unit(currency: str) -> Decimal:
    """The currency's smallest coin."""
    return Decimal(1).scaleb(-MINOR_DIGITS.get(currency, 2))


def _minor(amount: Decimal, currency: str) -> int:
    """As `Money.minor`, for amounts of any size: a falsified one may be larger than Money allows."""
    return int((amount / _unit(currency)).to_integral_value(ROUND_HALF_EVEN))


def _money(minor: int, currency: str) -> str:
    return f"{minor * _unit(currency)} {currency}"


def _money_in(currency: str) -> Callable[[object], str]:
    return lambda minor: _money(minor, currency) if isinstance(minor, int) else "nothing"


def _plain(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _at(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "we looked"

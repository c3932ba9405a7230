"""Money: what a customer paid, by our ledger and by the provider's, is what the order owes, and nobody is charged twice."""

from collections import Counter
from collections.abc import Iterator, Mapping

from audit.books import ChargeRow, OrderRow, PaymentRow, Source
from audit.rule import rule
from audit.rules.words import minor, money, money_in
from audit.verdict import Check
from audit.world import World, order_of
from contracts.ids import payment_reference
from contracts.orders import FINAL_STATUSES, OrderStatus
from contracts.payments import PaymentStatus

_S = OrderStatus
OWING = frozenset({_S.CONFIRMED, _S.PARTIALLY_SHIPPED, _S.SHIPPED, _S.UNDELIVERED, _S.DELIVERED, _S.COMPLETED})
"""What is in its parcels is owed: it was shipped, or will be."""
OWING_NOTHING = frozenset({_S.PENDING, _S.RESERVED, _S.PAYMENT_DUE, _S.ACTION_REQUIRED, _S.CANCELLED, _S.REFUNDED})
"""It was not shipped, or it did not arrive."""
SAME_PAYMENT: Mapping[str, str] = {
    "action_required": PaymentStatus.ACTION_REQUIRED,
    "authorized": PaymentStatus.AUTHORIZED,
    "captured": PaymentStatus.CAPTURED,
    "declined": PaymentStatus.DECLINED,
    "voided": PaymentStatus.VOIDED,
    "refunded": PaymentStatus.REFUNDED,
    "reversed": PaymentStatus.VOIDED,
}
"""The provider's word, and ours for the same."""


@rule("Our ledger: captured - refunded = what is owed", Source.ORDER, Source.PAYMENT)
def money_in_our_ledger(world: World, check: Check) -> None:
    for order, owed in _owing(world):
        rows = world.payments.get(order.order_id, ())
        net = sum(row.captured_moved - row.refunded_moved for row in rows)
        check.equal(order.order_id, f"{order.status}: net of our payments", owed, net, order.order_id, money_in(order.currency))
        for row in rows:
            if net and row.currency != order.currency:
                check.fails(order.order_id, "currency of our payment", order.currency, row.currency, order.order_id)


@rule("Provider: captured - refunded = what is owed", Source.ORDER, Source.PROVIDER)
def money_at_the_provider(world: World, check: Check) -> None:
    for order, owed in _owing(world):
        if order.order_id in world.settling:  # the provider was read later than our refunds
            continue
        if any(row.is_transfer for row in world.payments.get(order.order_id, ())):
            continue  # of that the bank knows: see transfers.py
        rows = world.charges.get(order.order_id, ())
        net = sum(row.captured - row.refunded for row in rows)
        check.equal(order.order_id, f"{order.status}: net of its charges", owed, net, order.order_id, money_in(order.currency))
        for row in rows:
            if row.captured and row.currency != order.currency:
                check.fails(order.order_id, "currency of its charge", order.currency, str(row.currency), order.order_id)


@rule("No charge at the provider without an order", Source.ORDER, Source.PROVIDER)
def charge_has_order(world: World, check: Check) -> None:
    for row in world.books.charges:
        check.compared += 1
        if order_of(row.reference) not in world.orders and not world.is_fresh(row.created_at):
            charged = f"{row.status} {money(row.captured - row.refunded, row.currency or 'USD')}"
            check.fails(row.reference, "charge at the provider", "an order", f"none; {charged}", order_of(row.reference))


@rule("One charge per attempt, never more taken than the order costs", Source.ORDER, Source.PROVIDER, Source.PAYMENT)
def one_charge(world: World, check: Check) -> None:
    for reference, count in Counter(row.reference for row in world.books.charges).items():
        check.equal(reference, "charges under one reference", 1, count, order_of(reference))
    for order_id, charges in world.charges.items():
        holding = [row for row in charges if row.captured > row.refunded]
        order = world.orders.get(order_id)
        if order and (taken := sum(row.captured - row.refunded for row in holding)) > order.total_minor:
            found = f"{money(taken, order.currency)} by {', '.join(sorted(row.reference for row in holding))}"
            check.fails(order_id, "what its charges hold", f"{money(order.total_minor, order.currency)} at most", found, order_id)
    for order_id, payments in world.payments.items():
        for attempt, count in Counter(row.attempt for row in payments).items():
            check.equal(order_id, f"our payments of attempt {attempt}", 1, count, order_id)
        for row in payments:
            check.equal(order_id, "our reference", payment_reference(order_id, row.attempt), row.reference, order_id)


@rule("The provider's ledger is ours, row by row", Source.PROVIDER, Source.PAYMENT)
def ledgers_agree(world: World, check: Check) -> None:
    ours = {row.reference: row for row in world.books.payments}
    theirs = {row.reference: row for row in world.books.charges}
    for reference, payment in ours.items():
        check.compared += 1
        charge = theirs.get(reference)
        moving = not world.is_at_rest(payment.order_id)
        if charge is None:
            is_known_there = (
                payment.provider_id is not None and not payment.is_transfer
            )  # of a card that it does not know it keeps no charge
            if is_known_there and not payment.is_tombstone and not (moving and payment.status == PaymentStatus.INITIATED):
                check.fails(reference, "charge at the provider", payment.status, "none", payment.order_id)
            continue
        # The provider decides, and was read later: while an order moves it may know more than we do, and never less.
        if moving and payment.captured_moved <= charge.captured and payment.refunded_moved <= charge.refunded:
            continue
        if (expected := _as_charged(payment, charge)) != (found := _charged(charge)):
            check.fails(reference, "provider's row (expected: ours)", " ".join(expected), " ".join(found), payment.order_id)
    for reference, charge in theirs.items():
        order_id = order_of(reference)
        if reference not in ours and order_id in world.orders and world.is_at_rest(order_id):
            check.compared += 1
            if not world.is_fresh(charge.created_at):
                check.fails(reference, "our payment", " ".join(_charged(charge)), "none", order_id)


@rule("Refunded ≤ captured ≤ authorised ≤ asked, always", Source.PAYMENT)
def refunds_within_captures(world: World, check: Check) -> None:
    for row in world.books.payments:
        check.compared += 1
        captured, authorized = row.captured_moved, row.authorized_moved
        if not (0 <= row.refunded_moved <= captured <= captured + row.voided_moved <= authorized <= row.amount):
            found = f"{row.refunded_moved} refunded, {captured} captured, {row.voided_moved} let go, {authorized} authorised"
            what = f"payment {row.attempt} of {row.amount} (minor units)"
            check.fails(row.order_id, what, "refunded ≤ captured ≤ authorised ≤ asked", found, row.order_id)
    for charge in world.books.charges:
        check.compared += 1
        if not 0 <= charge.refunded <= charge.captured <= charge.amount:
            found = f"{charge.refunded} refunded, {charge.captured} captured of {charge.amount}"
            what = "charge (minor units)"
            check.fails(charge.reference, what, "refunded ≤ captured ≤ asked", found, order_of(charge.reference))


@rule("A payment's state and its ledger are its movements' sums", Source.PAYMENT)
def payments_add_up(world: World, check: Check) -> None:
    for row in world.books.payments:
        what = f"payment {row.attempt}, {row.status} (minor units)"
        said = (row.authorized, row.captured, row.refunded, row.voided)
        moved = (row.authorized_moved, row.captured_moved, row.refunded_moved, row.voided_moved)
        check.equal(row.order_id, f"{what}: authorised, captured, refunded, let go", moved, said, row.order_id)
        ledger = (row.ledger_provider, row.ledger_held)
        expected = (row.captured_moved - row.refunded_moved, row.held_moved)
        check.equal(row.order_id, f"{what}: the ledger's accounts provider, held", expected, ledger, row.order_id)
        if row.unbalanced:
            check.fails(row.order_id, "entries of a movement", "add up to zero", f"{row.unbalanced} do not", row.order_id)
        if row.other_currency:
            check.fails(row.order_id, "movements' currency", row.currency, f"{row.other_currency} others", row.order_id)
        if row.status not in (allowed := _statuses(row)):
            check.fails(row.order_id, f"payment {row.attempt}: its status", " or ".join(allowed), row.status, row.order_id)


@rule("Of every movement it is known what became of it", Source.ORDER, Source.PAYMENT)
def movements_are_answered(world: World, check: Check) -> None:
    for order in world.settled:
        unknown = sum(row.unanswered for row in world.payments.get(order.order_id, ()))
        check.equal(order.order_id, f"{order.status}: movements whose outcome is not known", 0, unknown, order.order_id)


@rule("Nothing is held for an order that is over", Source.ORDER, Source.PAYMENT)
def hold_has_order(world: World, check: Check) -> None:
    for order in world.settled:
        if order.status in FINAL_STATUSES:
            held = sum(row.held_moved for row in world.payments.get(order.order_id, ()))
            check.equal(order.order_id, f"{order.status}: still held", 0, held, order.order_id, money_in(order.currency))


@rule("An order says what went back to the customer", Source.ORDER, Source.PAYMENT)
def refund_is_told(world: World, check: Check) -> None:
    for order in world.settled:
        moved = sum(row.refunded_moved for row in world.payments.get(order.order_id, ()))
        back = moved - world.returned[order.order_id] - order.closed_minor
        check.equal(
            order.order_id, "refunded, as the order says", back, order.refunded_minor, order.order_id, money_in(order.currency)
        )


@rule("An order's total is the sum of its lines", Source.ORDER)
def total_is_the_lines(world: World, check: Check) -> None:
    for order in world.books.orders:
        goods = None if order.lines_total is None else minor(order.lines_total, order.currency)
        shown = money_in(order.currency)
        if order.charges is None:
            check.equal(order.order_id, "total", goods, order.total_minor, order.order_id, shown)
            continue
        charged = [minor(charge, order.currency) for charge in order.charges]
        parts = ("goods", "discount", "shipping", "tax", "total")
        for name, of_lines, of_order in zip(parts, order.amounts, charged, strict=True):
            check.equal(order.order_id, name, of_lines, of_order, order.order_id, shown)
        check.equal(order.order_id, "goods at their prices", goods, charged[0], order.order_id, shown)
        check.equal(order.order_id, "total, as charged", charged[-1], order.total_minor, order.order_id, shown)


def _owing(world: World) -> Iterator[tuple[OrderRow, int]]:
    """The orders at rest, each with what its customer should have paid, less what returns gave back of it; without those that
    wait for another card."""
    for order in world.settled:
        if order.is_due and order.status in OWING:
            continue
        if order.status in OWING:
            yield order, order.owed_minor - world.returned[order.order_id]
        elif order.status in OWING_NOTHING:
            yield order, -world.returned[order.order_id]
        elif order.status == _S.IN_REVIEW:
            yield order, order.owed_minor if _is_taken(world, order) else 0


def _is_taken(world: World, order: OrderRow) -> bool:
    """What the provider flags is taken already while somebody looks at it; what our own rules flag is only held."""
    ours, theirs = world.payments.get(order.order_id, ()), world.charges.get(order.order_id, ())
    return any(row.captured_moved for row in ours) or any(row.captured for row in theirs)


def _statuses(row: PaymentRow) -> tuple[str, ...]:
    """What a payment may be by the sums of its movements."""
    if row.captured_moved > row.refunded_moved:
        return (PaymentStatus.CAPTURED,)
    if row.held_moved:
        return (PaymentStatus.AUTHORIZED,)
    if row.captured_moved:
        return (PaymentStatus.REFUNDED,)
    return PaymentStatus.INITIATED, PaymentStatus.ACTION_REQUIRED, PaymentStatus.DECLINED, PaymentStatus.VOIDED


def _as_charged(payment: PaymentRow, charge: ChargeRow) -> tuple[str, ...]:
    """Our row in the provider's words. A charge reversed before it came has no amount there, and no id that we could know."""
    is_same = SAME_PAYMENT.get(charge.status) == payment.status
    # Some of it may be taken already; there it is authorised as long as any is held.
    is_held = charge.status == "authorized" and payment.held_moved > 0
    status = charge.status if is_same or is_held else payment.status
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

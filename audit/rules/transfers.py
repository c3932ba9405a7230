"""Bank transfers: what came in at the bank is in our books, taken or owed, and what went back was asked for, once."""

from collections import Counter
from decimal import Decimal

from audit.books import BankRow, Source
from audit.rule import rule
from audit.rules.words import minor, money
from audit.verdict import Check
from audit.world import World
from contracts.payments import PaymentStatus


@rule("Each credit at the bank is in our books once, as large as there", Source.BANK, Source.PAYMENT)
def credits_agree(world: World, check: Check) -> None:
    ours = {row.entry_id: row for row in world.books.bank_entries}
    theirs = {row.entry_id: row for row in world.books.bank if row.is_credit}
    for name, row in theirs.items():
        mine = ours.get(name)
        if mine is None and world.is_fresh(row.booked_at):
            continue  # its news is on the way
        found = money(mine.amount, mine.currency) if mine else "none"
        check.equal(name, "credit to the shop's account", money(_minor(row), row.currency), found)
    for name in ours.keys() - theirs.keys():
        check.compared += 1
        check.fails(name, "credit at the bank", money(ours[name].amount, ours[name].currency), "none")


@rule("What came in and is not taken is, or was, on the list of what is owed", Source.PAYMENT)
def rest_is_owed(world: World, check: Check) -> None:
    for entry in world.books.bank_entries:
        owed, listed = (money(minor, entry.currency) for minor in (entry.amount - entry.taken, entry.owed))
        check.equal(entry.entry_id, "owed of what came in", owed, listed)
    for transfer in world.books.transfers:
        wanted = transfer.received if transfer.is_reversed and not transfer.is_captured else 0
        check.equal(transfer.reference, "owed of what came before the order was undone (minor units)", wanted, transfer.owed)


@rule("A transfer has received what its entries say, and its payment has taken that", Source.ORDER, Source.PAYMENT)
def transfers_add_up(world: World, check: Check) -> None:
    came: Counter[str] = Counter()
    for entry in world.books.bank_entries:
        if entry.reference and entry.end_to_end_id is None:
            came[entry.reference] += entry.taken
    payments = {row.provider_id: row for row in world.transfers.values()}
    told_soon = {row.reference for row in world.books.bank_orders if world.is_fresh(row.settled_at)}
    for transfer in world.books.transfers:
        payment = payments.get(transfer.reference)
        order_id = payment.order_id if payment else None
        check.equal(transfer.reference, "received (minor units)", came[transfer.reference], transfer.received, order_id)
        if payment is None or not world.is_at_rest(payment.order_id) or transfer.reference in told_soon:
            continue
        taken = transfer.received if transfer.is_captured else 0
        check.equal(transfer.reference, "taken by its payment (minor units)", taken, payment.captured_moved, order_id)
        check.equal(transfer.reference, "given back by its payment", transfer.refunded, payment.refunded_moved, order_id)
    known = {transfer.reference for transfer in world.books.transfers}
    for name, payment in payments.items():
        if name not in known and payment.status not in (PaymentStatus.DECLINED, PaymentStatus.VOIDED):
            check.fails(name or "", "transfer of the payment", "one", "none", payment.order_id)


@rule("What the bank has paid is what we asked for, once, and what came back is known", Source.BANK, Source.PAYMENT)
def debits_agree(world: World, check: Check) -> None:
    """Debits that name no order of ours are none of our business."""
    orders = {row.end_to_end_id: row for row in world.books.bank_orders}
    paid: dict[str, list[BankRow]] = {}
    back: dict[str, list[BankRow]] = {}
    for row in world.books.bank:
        if row.end_to_end_id in orders:
            (back if row.is_credit and row.came_back else paid).setdefault(row.end_to_end_id, []).append(row)
    for name, order in orders.items():
        rows, returned = paid.get(name, []), back.get(name, [])
        if any(world.is_fresh(row.booked_at) for row in (*rows, *returned)) or world.is_fresh(order.settled_at):
            continue
        check.compared += 1
        went = sum(map(_minor, rows)) - sum(map(_minor, returned))
        wanted = order.amount if order.state == "SUCCEEDED" else 0
        waits = order.state in ("TO_SEND", "SENT")
        if len(rows) > 1 or (went != wanted and not waits) or (waits and rows):
            found = f"{money(went, order.currency)} in {len(rows)} debits, {len(returned)} came back"
            check.fails(name, f"order to the bank, {order.state}", money(wanted, order.currency), found)


def _minor(row: BankRow) -> int:
    return minor(Decimal(row.amount), row.currency)

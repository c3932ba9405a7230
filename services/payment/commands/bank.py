"""What the bank tells of the shop's account, and what it is asked to pay.

A document is acknowledged when all of it is written down, and may come again until then: each entry has its effect once, by the
bank's own reference. What that changes for a payment is told after it, by itself: whatever process dies in between, the next
round finds what is still to be told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Integer, bindparam, or_
from sqlmodel import col, select

from chassis.clients import Unavailable
from chassis.database import Database
from chassis.logs import logger
from chassis.statements import locked, prepared
from chassis.store import UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from contracts.payments import MovementKind, PaymentStatus
from services.payment.commands.news import look_again
from services.payment.commands.payments import movements_of, payment_of_charge, record
from services.payment.model import (
    BankEntry,
    BankOrder,
    Debt,
    LedgerMismatch,
    OrderState,
    Payment,
    Transfer,
    is_creditor_reference,
    reference_in,
)
from services.payment.ports import Bank, Booking, CreditTransfer, OrderReport, PaymentProvider, ProviderMovementState

AT_ONCE = 100
"""Orders in one document, and payments in one round."""
_ENDED = (OrderState.SUCCEEDED, OrderState.FAILED)
_limit = bindparam("limit", type_=Integer)
_UNTOLD_TRANSFERS = prepared(
    select(col(Transfer.reference), col(Transfer.received_minor))
    .join(Payment, col(Payment.provider_id) == col(Transfer.reference))
    .where(col(Transfer.received_minor) != col(Transfer.told_minor), col(Payment.status) != PaymentStatus.INITIATED)
    .order_by(col(Transfer.reference))
    .limit(_limit)
)
_UNTOLD_ORDERS = prepared(
    select(col(BankOrder.end_to_end_id), col(BankOrder.reference))
    .where(col(BankOrder.state) != col(BankOrder.told), or_(*(col(BankOrder.state) == state for state in _ENDED)))
    .order_by(col(BankOrder.end_to_end_id))
    .limit(_limit)
)
_TO_SEND = locked(
    BankOrder, col(BankOrder.state) == OrderState.TO_SEND, order_by=col(BankOrder.created_at), limit=_limit, skip_locked=True
)
_NAMED = prepared(select(col(Payment.payment_id), col(Payment.order_id)).where(col(Payment.provider_id) == bindparam("charge")))
log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Booked:
    """What of a statement was new."""

    entries: int
    new: int


async def take_bookings(database: Database, bank: Bank) -> bool:
    """Book what the next document tells of the account; whether there was one. Raises Unavailable."""
    bookings = await bank.next_bookings()
    if bookings is None:
        return False
    await book(database, bookings.entries)
    await bank.acknowledge(bookings)
    return True


async def take_reports(database: Database, bank: Bank) -> bool:
    """Keep what the next document tells of orders; whether there was one. Raises Unavailable."""
    reports = await bank.next_reports()
    if reports is None:
        return False
    for report in reports.entries:
        await _report(database, report)
    await bank.acknowledge(reports)
    return True


async def send_orders(database: Database, bank: Bank) -> bool:
    """Ask for some of what the bank may not know of; whether there was anything. It knows a repeated one: nobody else need be
    kept from sending it, too. Raises Unavailable."""
    orders = await _to_send(database)
    if orders:
        await bank.send(orders)
        await _sent(database, [order.end_to_end_id for order in orders])
    return bool(orders)


async def book(database: Database, bookings: Sequence[Booking]) -> Booked:
    """Each has its effect once. Refusal: conflict, if one was booked with another amount before."""
    new = [await _book(database, booking) for booking in bookings]
    return Booked(len(new), sum(new))


async def tell_payments(database: Database, provider: PaymentProvider) -> None:
    """Bring payments to where their transfers and orders are."""
    for row in await database.rows(_UNTOLD_TRANSFERS, limit=AT_ONCE):
        try:
            await look_again(database, provider, row["reference"])
            await _told(database, row["reference"], row["received_minor"])
        except (Unavailable, LedgerMismatch) as error:
            log.warning("transfer_not_told", reference=row["reference"], error=str(error))
    for row in await database.rows(_UNTOLD_ORDERS, limit=AT_ONCE):
        try:
            await _tell_order(database, row["end_to_end_id"], row["reference"])
        except LedgerMismatch as error:
            log.warning("bank_order_not_told", end_to_end_id=row["end_to_end_id"], error=str(error))


async def payment_named(work: UnitOfWork, charge_id: str) -> tuple[UUID, UUID] | None:
    """The ids of the attempt to pay that the provider calls so, and of its order."""
    found = await work.rows(_NAMED, charge=charge_id)
    return (found[0]["payment_id"], found[0]["order_id"]) if found else None


# ── The account ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@transaction
async def _book(work: UnitOfWork, booking: Booking) -> bool:
    """Whether it was new. Debits are of orders of ours, or concern nothing here."""
    if not booking.is_credit:
        return await _settle(work, booking.end_to_end_id or "", ProviderMovementState.SUCCEEDED, None)
    entry, is_new = await work.get_or_add(BankEntry.of(booking))
    if entry.amount != booking.amount:
        raise Refusal(ErrorCode.CONFLICT, f"Entry {entry.entry_id} was booked with {entry.amount} before.")
    if not is_new:
        return False
    if booking.came_back is not None:
        await _take_back(work, entry, booking)
    else:
        await _take_in(work, entry, booking)
    return True


async def _take_in(work: UnitOfWork, entry: BankEntry, booking: Booking) -> None:
    stated = _reference_of(booking)
    transfer = await work.get(Transfer, stated) if stated else None
    if transfer is None or transfer.currency != entry.currency:
        why = "other_currency" if transfer else "unknown_reference" if stated else "no_reference"
        await work.get_or_add(Debt.of_entry(entry, stated or booking.reference, why), "kind", "subject")
        return
    why = transfer.why_not_taken()
    entry.reference, entry.taken_minor = transfer.reference, transfer.take(entry.amount_minor)
    if entry.owed_minor:
        payment = await payment_named(work, transfer.reference)
        debt = Debt.of_transfer(payment, transfer, entry.entry_id, entry.owed_minor, why)
        await work.get_or_add(debt, "kind", "subject")


async def _take_back(work: UnitOfWork, entry: BankEntry, booking: Booking) -> None:
    """An order of ours came back: the account is closed, for example."""
    name, reason = booking.end_to_end_id or "", booking.came_back
    order = await work.read(BankOrder, name) if name else None
    if order is not None and order.amount == entry.amount and await _settle(work, name, ProviderMovementState.FAILED, reason):
        entry.end_to_end_id, entry.reference, entry.taken_minor = name, order.reference, entry.amount_minor
    else:
        await work.get_or_add(Debt.of_entry(entry, name or None, "came_back"), "kind", "subject")


def _reference_of(booking: Booking) -> str | None:
    """The creditor reference that the payer stated, wherever it stands."""
    if booking.reference and is_creditor_reference(booking.reference):
        return booking.reference
    written = (booking.reference, booking.words, booking.end_to_end_id)
    return next((found for words in written if words and (found := reference_in(words))), None)


@transaction
async def _told(work: UnitOfWork, reference: str, minor: int) -> None:
    transfer = await work.get(Transfer, reference)
    if transfer is not None:
        transfer.told_minor = max(transfer.told_minor, minor)


# ── Orders ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@transaction
async def _to_send(work: UnitOfWork) -> list[CreditTransfer]:
    return [order.credit for order in await work.all(_TO_SEND, limit=AT_ONCE)]


@transaction
async def _sent(work: UnitOfWork, names: Sequence[str]) -> None:
    for name in sorted(names):
        order = await work.get(BankOrder, name)
        if order is not None:
            order.sent()


@transaction
async def _report(work: UnitOfWork, report: OrderReport) -> None:
    await _settle(work, report.end_to_end_id, report.state, report.reason)


async def _settle(work: UnitOfWork, name: str, state: ProviderMovementState, reason: str | None) -> bool:
    """Whether that is new of an order of ours. A transfer is locked before its orders, as everywhere."""
    order = await work.read(BankOrder, name) if name else None
    if order is None:
        return False
    transfer = await work.get(Transfer, order.reference)
    order = await work.get(BankOrder, name)
    return order is not None and transfer is not None and order.settle(state, reason, transfer)


@transaction
async def _tell_order(work: UnitOfWork, name: str, reference: str) -> None:
    """Settle the refund that an order was made for, once its answer is recorded. Raises LedgerMismatch."""
    payment, order = await payment_of_charge(work, reference), await work.get(BankOrder, name)
    if payment is None or order is None:
        return
    refunds = [row for row in await movements_of(work, payment) if row.kind == MovementKind.REFUND]
    movement = next((row for row in refunds if row.provider_id == name), None)
    if movement is not None:
        await record(work, payment, payment.settle_refund(movement, order.movement))
        order.told = order.state

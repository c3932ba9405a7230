"""What changes payments. Each function is idempotent: one transaction before the provider is asked, one that records its answer.

The provider is never asked inside a transaction. Between the two the row says that money may be moving, and under which
reference; whoever repeats the command, after whatever crash, asks again under the same reference.
"""

from uuid import UUID

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clients import Unavailable
from chassis.database import Database, lock
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.payments import CapturePayment, PaymentStatus, ProcessPayment, RefundPayment
from services.payment.model import Payment, outbox
from services.payment.ports import PaymentProvider, ProviderCharge


async def process_payment(database: Database, provider: PaymentProvider, command: ProcessPayment) -> contract.Payment:
    """Take the money, or hold it. Refusals: payment_declined, payment_reversed, conflict, validation_failed. Fault: Unavailable,
    while the outcome is not known."""
    async with database.transaction() as session:
        await lock(session, command.order_id)
        payment = await _find(session, command.order_id, command.attempt)
        if payment is None:
            payment = Payment.asked(command)
            session.add(payment)
            await outbox.add(session, payment.initiated())
    payment.require_same(command)
    if payment.status != PaymentStatus.INITIATED:
        return payment.taken()
    answer = await provider.charge(payment.charge_request(command))
    return (await _record(database, payment, answer)).taken()


async def capture_payment(database: Database, provider: PaymentProvider, command: CapturePayment) -> contract.Payment:
    """Take what is held. Refusals: payment_declined, payment_reversed, not_found. Fault: Unavailable."""
    async with database.reading() as session:
        payment = await _find(session, command.order_id, command.attempt)
    if payment is None:
        raise Refusal(ErrorCode.NOT_FOUND, "No payment was asked for under this order and attempt.")
    if payment.status == PaymentStatus.INITIATED:
        raise Unavailable("It is not known yet whether the money is held; the charge must be repeated first.")
    if payment.status != PaymentStatus.AUTHORIZED:
        return payment.taken()
    answer = await provider.capture(payment.provider_reference)
    return (await _record(database, payment, answer)).taken()


async def refund_payment(database: Database, provider: PaymentProvider, command: RefundPayment) -> contract.Payment:
    """Undo of pay: refund what was taken, void what is held, forbid what has not arrived. Fault: Unavailable."""
    async with database.transaction() as session:
        await lock(session, command.order_id)
        payment = await _find(session, command.order_id, command.attempt)
        if payment is None:
            # No charge is under way: each leaves its row before the provider is asked.
            payment = Payment.tombstone(command)
            session.add(payment)
    if payment.is_final:
        return payment.reply()
    answer = await provider.reverse(payment.provider_reference, command.reason)
    return (await _record(database, payment, answer)).reply()


async def _record(database: Database, payment: Payment, answer: ProviderCharge) -> Payment:
    """Store what the provider said, unless somebody knew it, or better, before."""
    async with database.transaction() as session:
        await lock(session, payment.order_id)
        current = await session.get_one(Payment, payment.payment_id)
        change = current.settle(answer)
        session.add_all(change.transactions)
        await outbox.add(session, *change.events)
        return current


async def _find(session: AsyncSession, order_id: UUID, attempt: int) -> Payment | None:
    query = select(Payment).where(Payment.order_id == order_id, Payment.attempt == attempt)
    return (await session.exec(query)).one_or_none()

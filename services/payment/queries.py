"""Reads of payment. A customer sees their own payments, staff see all."""

from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import Database
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page
from contracts.payments import PaymentStatus
from services.payment.model import Payment, Transaction
from services.payment.schemas import PaymentView, TransactionView


async def get_payment(database: Database, caller: Principal, payment_id: UUID) -> PaymentView:
    """One payment. Refusal: not_found, also for somebody else's."""
    async with database.reading() as session:
        return PaymentView.of(await _visible(session, caller, payment_id))


async def list_payments(
    database: Database,
    caller: Principal,
    *,
    order_id: UUID | None,
    status: PaymentStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[PaymentView]:
    """Payments, newest first."""
    query = select(Payment).order_by(col(Payment.payment_id).desc()).limit(limit + 1)
    if not caller.is_staff:
        query = query.where(Payment.customer_id == caller.subject)
    before = decode_cursor(cursor, KeyPart.ID)
    if before:
        query = query.where(col(Payment.payment_id) < before[0])
    if order_id:
        query = query.where(Payment.order_id == order_id)
    if status:
        query = query.where(Payment.status == status)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, PaymentView.of, lambda row: (row.payment_id,))


async def list_transactions(
    database: Database, caller: Principal, payment_id: UUID, cursor: str | None, limit: int
) -> Page[TransactionView]:
    """How a payment's money moved, oldest first. Refusal: not_found, also for somebody else's."""
    number = col(Transaction.transaction_id)
    query = select(Transaction).where(Transaction.payment_id == payment_id).order_by(number).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.NUMBER)
    if after:
        query = query.where(number > after[0])
    async with database.reading() as session:
        await _visible(session, caller, payment_id)
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, TransactionView.of, lambda row: (row.transaction_id,))


async def _visible(session: AsyncSession, caller: Principal, payment_id: UUID) -> Payment:
    payment = await session.get(Payment, payment_id)
    if payment is None or not (caller.is_staff or payment.customer_id == caller.subject):
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such payment.")
    return payment

"""Reads of payment."""

from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page
from contracts.payments import PaymentStatus
from services.payment.model import Payment, Transaction
from services.payment.schemas import PaymentView, TransactionView


async def get_payment(database: Database, caller: Grant, payment_id: UUID) -> PaymentView:
    """One payment within the caller's reach. Refusal: not_found."""
    async with database.reading() as session:
        return PaymentView.of(await _visible(session, caller, payment_id))


@may_lag
async def list_payments(
    database: Reader,
    caller: Grant,
    *,
    order_id: UUID | None,
    status: PaymentStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[PaymentView]:
    """Payments within the caller's reach, newest first."""
    query = select(Payment).order_by(col(Payment.payment_id).desc()).limit(limit + 1)
    query = query.where(caller.rows(owner=col(Payment.customer_id)))
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
    database: Database, caller: Grant, payment_id: UUID, cursor: str | None, limit: int
) -> Page[TransactionView]:
    """How the money of a payment within the caller's reach moved, oldest first. Refusal: not_found."""
    number = col(Transaction.transaction_id)
    query = select(Transaction).where(Transaction.payment_id == payment_id).order_by(number).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.NUMBER)
    if after:
        query = query.where(number > after[0])
    async with database.reading() as session:
        await _visible(session, caller, payment_id)
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, TransactionView.of, lambda row: (row.transaction_id,))


async def _visible(session: AsyncSession, caller: Grant, payment_id: UUID) -> Payment:
    payment = await session.get(Payment, payment_id)
    if payment is None or not caller.reaches(owner=payment.customer_id):
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such payment.")
    return payment

"""Reads of payment."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page
from contracts.payments import MovementState, PaymentStatus
from services.payment.model import Account, LedgerEntry, Movement, Payment
from services.payment.schemas import LedgerEntryView, MovementView, PaymentDetail, PaymentView, TransactionView

MOVEMENTS_SHOWN = 100
"""With the payment itself; the list of movements has pages."""


async def get_payment(database: Database, caller: Grant, payment_id: UUID) -> PaymentDetail:
    """One payment within the caller's reach, with its movements. Refusal: not_found."""
    query = select(Movement).where(Movement.payment_id == payment_id).order_by(col(Movement.movement_id)).limit(MOVEMENTS_SHOWN)
    async with database.reading() as session:
        payment = await _visible(session, caller, payment_id)
        movements = [MovementView.of(row) for row in (await session.exec(query)).all()]
    return PaymentDetail(**dict(PaymentView.of(payment)), movements=movements)


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


async def list_movements(
    database: Database, caller: Grant, payment_id: UUID, cursor: str | None, limit: int
) -> Page[MovementView]:
    """How the money of a payment within the caller's reach moves, oldest first. Refusal: not_found."""
    rows = await _movements(database, caller, payment_id, cursor, limit)
    return page_of(rows, limit, MovementView.of, lambda row: (row.movement_id,))


async def list_transactions(
    database: Database, caller: Grant, payment_id: UUID, cursor: str | None, limit: int
) -> Page[TransactionView]:
    """Those movements of a payment within the caller's reach that succeeded, oldest first. Refusal: not_found."""
    succeeded = col(Movement.state) == MovementState.SUCCEEDED
    rows = await _movements(database, caller, payment_id, cursor, limit, succeeded)
    return page_of(rows, limit, TransactionView.of, lambda row: (row.movement_id,))


@may_lag
async def list_ledger(
    database: Reader,
    caller: Grant,
    *,
    payment_id: UUID | None,
    account: Account | None,
    cursor: str | None,
    limit: int,
) -> Page[LedgerEntryView]:
    """The ledger within the caller's reach, newest entries first."""
    number = col(LedgerEntry.entry_id)
    query = (
        select(LedgerEntry, Movement, Payment.order_id)
        .join(Movement, col(Movement.movement_id) == LedgerEntry.movement_id)
        .join(Payment, col(Payment.payment_id) == Movement.payment_id)
        .where(caller.rows(owner=col(Payment.customer_id)))
        .order_by(number.desc())
        .limit(limit + 1)
    )
    before = decode_cursor(cursor, KeyPart.NUMBER)
    if before:
        query = query.where(number < before[0])
    if payment_id:
        query = query.where(Movement.payment_id == payment_id)
    if account:
        query = query.where(LedgerEntry.account == account)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, lambda row: LedgerEntryView.of(*row), lambda row: (row[0].entry_id,))


async def _movements(
    database: Database, caller: Grant, payment_id: UUID, cursor: str | None, limit: int, *which: ColumnElement[bool]
) -> Sequence[Movement]:
    identity = col(Movement.movement_id)
    query = select(Movement).where(Movement.payment_id == payment_id, *which).order_by(identity).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.ID)
    if after:
        query = query.where(identity > after[0])
    async with database.reading() as session:
        await _visible(session, caller, payment_id)
        return (await session.exec(query)).all()


async def _visible(session: AsyncSession, caller: Grant, payment_id: UUID) -> Payment:
    payment = await session.get(Payment, payment_id)
    if payment is None or not caller.reaches(owner=payment.customer_id):
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such payment.")
    return payment

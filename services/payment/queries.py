"""Reads of payment."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
from sqlalchemy import ColumnElement, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from chassis.statements import sql
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page
from contracts.payments import MovementState, PaymentStatus
from services.payment.model import (
    Account,
    BankEntry,
    BankOrder,
    Debt,
    DebtKind,
    Dispute,
    LedgerEntry,
    Movement,
    NewsItem,
    NewsState,
    OrderState,
    Payment,
)
from services.payment.ports import DisputeState
from services.payment.schemas import (
    BankEntryView,
    BankOrderView,
    DebtView,
    DisputeView,
    LedgerEntryView,
    MovementView,
    NewsView,
    PaymentDetail,
    PaymentView,
    TransactionView,
)

MOVEMENTS_SHOWN = 100
"""With the payment itself; the list of movements has pages."""
_DEBTS_OPEN = sql("""
    select kind, currency, count(*) as debts, cast(sum(amount_minor) as bigint) as minor, min(since) as since
    from debts where settled_at is null group by kind, currency
""")
_DISPUTES_OPEN = sql("""
    select currency, count(*) as disputes, cast(sum(amount_minor) as bigint) as minor
    from disputes where closed_at is null group by currency
""")


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


@may_lag
async def list_owed(
    database: Reader, caller: Grant, *, kind: DebtKind | None, settled: bool, cursor: str | None, limit: int
) -> Page[DebtView]:
    """What the shop owes, or has and cannot place, the oldest first; or what was settled."""
    identity = col(Debt.debt_id)
    query = select(Debt).where(caller.rows()).order_by(identity).limit(limit + 1)
    query = query.where(col(Debt.settled_at).is_not(None) if settled else col(Debt.settled_at).is_(None))
    after = decode_cursor(cursor, KeyPart.ID)
    if after:
        query = query.where(identity > after[0])
    if kind:
        query = query.where(Debt.kind == kind)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, DebtView.of, lambda row: (row.debt_id,))


@may_lag
async def list_disputes(
    database: Reader, caller: Grant, *, order_id: UUID | None, state: DisputeState | None, cursor: str | None, limit: int
) -> Page[DisputeView]:
    """Disputes, newest first."""
    identity = col(Dispute.dispute_id)
    query = select(Dispute).where(caller.rows()).order_by(identity.desc()).limit(limit + 1)
    before = decode_cursor(cursor, KeyPart.ID)
    if before:
        query = query.where(identity < before[0])
    if order_id:
        query = query.where(Dispute.order_id == order_id)
    if state:
        query = query.where(Dispute.state == state)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, DisputeView.of, lambda row: (row.dispute_id,))


@may_lag
async def list_news(
    database: Reader, caller: Grant, *, state: NewsState | None, cursor: str | None, limit: int
) -> Page[NewsView]:
    """What the provider told and could not be applied at once, oldest first."""
    received, identity = col(NewsItem.received_at), col(NewsItem.news_id)
    query = select(NewsItem).where(caller.rows()).order_by(received, identity).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TIME, KeyPart.TEXT)
    if after:
        query = query.where(tuple_(received, identity) > tuple_(*after))
    if state:
        query = query.where(NewsItem.state == state)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, NewsView.of, lambda row: (row.received_at, row.news_id))


@may_lag
async def list_bank_entries(
    database: Reader, caller: Grant, *, reference: str | None, cursor: str | None, limit: int
) -> Page[BankEntryView]:
    """What came in at the bank, newest first; of one transfer."""
    booked, identity = col(BankEntry.booked_at), col(BankEntry.entry_id)
    query = select(BankEntry).where(caller.rows()).order_by(booked.desc(), identity.desc()).limit(limit + 1)
    before = decode_cursor(cursor, KeyPart.TIME, KeyPart.TEXT)
    if before:
        query = query.where(tuple_(booked, identity) < tuple_(*before))
    if reference:
        query = query.where(BankEntry.reference == reference)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, BankEntryView.of, lambda row: (row.booked_at, row.entry_id))


@may_lag
async def list_bank_orders(
    database: Reader, caller: Grant, *, state: OrderState | None, cursor: str | None, limit: int
) -> Page[BankOrderView]:
    """What the bank is asked to pay, newest first."""
    asked, identity = col(BankOrder.created_at), col(BankOrder.end_to_end_id)
    query = select(BankOrder).where(caller.rows()).order_by(asked.desc(), identity.desc()).limit(limit + 1)
    before = decode_cursor(cursor, KeyPart.TIME, KeyPart.TEXT)
    if before:
        query = query.where(tuple_(asked, identity) < tuple_(*before))
    if state:
        query = query.where(BankOrder.state == state)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, BankOrderView.of, lambda row: (row.created_at, row.end_to_end_id))


async def debts_open(database: Database) -> Sequence[asyncpg.Record]:
    """For each kind and currency: how many debts are open, their sum, and since when the oldest."""
    return await database.rows(_DEBTS_OPEN)


async def disputes_open(database: Database) -> Sequence[asyncpg.Record]:
    """For each currency: how many disputes are open, and their sum."""
    return await database.rows(_DISPUTES_OPEN)


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

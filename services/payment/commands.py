"""What changes payments. Each function is idempotent: one transaction before the provider is asked, one that records its answer.

The provider is never asked inside a transaction. Between the two the row says that money may be moving, and under which
reference; whoever repeats the command, after whatever crash, asks again under the same reference.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, bindparam, cast, func, literal_column, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database, lock
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.payments import CapturePayment, PaymentStatus, ProcessPayment, RefundPayment
from services.payment.model import NEVER_TAKEN, VELOCITY, Payment, Recent, Subject, Velocity, outbox
from services.payment.ports import PaymentProvider, ProviderCharge


def _newest(subject: Subject, column: Mapped[Any]) -> Select[Any]:
    """The newest payments of a subject that were or may be taken, added up. After as many as are allowed, more change nothing."""
    newest = (
        select(Payment.amount_minor, Payment.currency)
        .where(column == bindparam(subject.value), col(Payment.created_at) > bindparam("since"))
        .where(col(Payment.status).not_in(NEVER_TAKEN), col(Payment.order_id) != bindparam("order"))
        .order_by(col(Payment.created_at).desc())
        .limit(bindparam("enough"))
        .subquery()
    )
    minor = func.sum(newest.c.amount_minor).filter(newest.c.currency == bindparam("currency"))
    columns: Any = (literal_column(f"'{subject}'").label("subject"), func.count().label("orders"), cast(minor, BigInteger))
    summed: Select[Any] = select(*columns).select_from(newest)
    return summed


_RECENT = union_all(
    _newest(Subject.CUSTOMER, col(Payment.customer_id)),
    _newest(Subject.CARD, col(Payment.card_fingerprint)),
    _newest(Subject.ADDRESS, col(Payment.address_fingerprint)),
)


async def process_payment(
    database: Database, provider: PaymentProvider, command: ProcessPayment, *, velocity: Velocity = VELOCITY
) -> contract.Payment:
    """Take the money, or hold it: also where customer, card or address buy more than `velocity` allows.

    Refusals: payment_declined, payment_reversed, conflict, validation_failed. Fault: Unavailable, while the outcome is not known.
    """
    asked = Payment.asked(command, await provider.fingerprint(command.payment_token))
    async with database.transaction() as session:
        asked.review = velocity.reasons(asked.amount, await _recent(session, asked, velocity))
        payment = await _existing_or(session, asked)
        if payment is asked:
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
        # Where the tombstone finds room, no charge is under way: each leaves its row before the provider is asked.
        payment = await _existing_or(session, Payment.tombstone(command))
    if payment.is_final:
        return payment.reply()
    answer = await provider.reverse(payment.provider_reference, command.reason)
    return (await _record(database, payment, answer)).reply()


async def _record(database: Database, payment: Payment, answer: ProviderCharge) -> Payment:
    """Store what the provider said, unless somebody knew it, or better, before."""
    async with database.transaction() as session:
        current = await session.get_one(Payment, payment.payment_id, with_for_update=True)
        change = current.settle(answer)
        session.add_all(change.transactions)
        await outbox.add(session, *change.events)
        return current


async def _recent(session: AsyncSession, payment: Payment, velocity: Velocity) -> dict[Subject, Recent]:
    """What was paid before by the customer, with the card, for the address. Payments that share one of them wait here, each for
    the commit of the one before, so that together they cannot get past a limit that each keeps."""
    subjects = {
        Subject.CUSTOMER: payment.customer_id,
        Subject.CARD: payment.card_fingerprint,
        Subject.ADDRESS: payment.address_fingerprint,
    }
    await lock(session, *[f"{subject} {value}" for subject, value in subjects.items()])
    which = {
        "order": payment.order_id,
        "since": utc_now() - velocity.window,
        "enough": velocity.orders,
        "currency": velocity.total.currency,
    }
    rows = await session.execute(_RECENT, subjects | which)
    return {Subject(subject): Recent(orders, minor or 0) for subject, orders, minor in rows}


async def _existing_or(session: AsyncSession, payment: Payment) -> Payment:
    """The one row of this order and attempt: `payment` itself, unless there is one. Of two that come at once, the second waits
    here for the first one's commit."""
    statement = insert(Payment).values(payment.model_dump()).on_conflict_do_nothing().returning(col(Payment.payment_id))
    if (await session.exec(statement)).one_or_none() is not None:
        return payment
    existing = await _find(session, payment.order_id, payment.attempt)
    assert existing is not None  # a row is never deleted
    return existing


async def _find(session: AsyncSession, order_id: UUID, attempt: int) -> Payment | None:
    query = select(Payment).where(Payment.order_id == order_id, Payment.attempt == attempt)
    return (await session.exec(query)).one_or_none()

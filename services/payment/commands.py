"""What changes payments. Each function is idempotent: one transaction before the provider is asked, one that records its answer.

The provider is never asked inside a transaction. Between the two the row says that money may be moving, and under which
reference; whoever repeats the command, after whatever crash, asks again under the same reference.

What is counted together is locked before the payment is written, and whoever locks a payment waits for nothing else: they never
wait for each other in a circle.
"""

from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, bindparam, cast, func, literal_column, union_all
from sqlalchemy.orm import Mapped
from sqlmodel import col, select

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import locked, prepared
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import OrderForgotten
from contracts.payments import CapturePayment, PaymentStatus, ProcessPayment, RefundPayment
from services.payment import figures
from services.payment.model import NEVER_TAKEN, VELOCITY, Payment, Recent, Subject, Velocity, outbox
from services.payment.ports import PaymentProvider, ProviderCharge


def _newest(subject: Subject, column: Mapped[Any]) -> Select[Any]:
    """The newest payments of a subject that were or may be taken, added up. After as many as are allowed, more change nothing."""
    newest = (
        select(Payment.amount_minor, Payment.currency)
        .where(column == bindparam(subject.value), col(Payment.created_at) > bindparam("since"))
        .where(*[col(Payment.status) != status for status in NEVER_TAKEN], col(Payment.order_id) != bindparam("order"))
        .order_by(col(Payment.created_at).desc())
        .limit(bindparam("enough"))
        .subquery()
    )
    minor = func.sum(newest.c.amount_minor).filter(newest.c.currency == bindparam("currency"))
    columns: Any = (
        literal_column(f"'{subject}'").label("subject"),
        func.count().label("orders"),
        cast(minor, BigInteger).label("minor"),
    )
    summed: Select[Any] = select(*columns).select_from(newest)
    return summed


_RECENT = prepared(
    union_all(
        _newest(Subject.CUSTOMER, col(Payment.customer_id)),
        _newest(Subject.CARD, col(Payment.card_fingerprint)),
        _newest(Subject.ADDRESS, col(Payment.address_fingerprint)),
    )
)
_OF_ATTEMPT = locked(Payment, (col(Payment.order_id) == bindparam("order")) & (col(Payment.attempt) == bindparam("attempt")))

_OF_ORDER = locked(Payment, col(Payment.order_id) == bindparam("order"))


async def process_payment(
    database: Database, provider: PaymentProvider, command: ProcessPayment, *, velocity: Velocity = VELOCITY
) -> contract.Payment:
    """Take the money, or hold it: also where customer, card or address buy more than `velocity` allows.

    Refusals: payment_declined, payment_reversed, conflict, validation_failed. Fault: Unavailable, while the outcome is not known.
    """
    card_fingerprint = await provider.fingerprint(command.payment_token)
    try:
        payment = await _ask(database, command, card_fingerprint, velocity)
    except AlreadyThere:
        payment = await _existing(database, command.order_id, command.attempt)
        payment.require_same(command)
    if payment.status != PaymentStatus.INITIATED:
        return payment.taken()
    answer = await provider.charge(payment.charge_request(command))
    return (await _record(database, payment, answer)).taken()


async def capture_payment(database: Database, provider: PaymentProvider, command: CapturePayment) -> contract.Payment:
    """Take what is held. Refusals: payment_declined, payment_reversed, not_found. Fault: Unavailable."""
    payment = await _existing(database, command.order_id, command.attempt)
    if payment.status == PaymentStatus.INITIATED:
        raise Unavailable("It is not known yet whether the money is held; the charge must be repeated first.")
    if payment.status != PaymentStatus.AUTHORIZED:
        return payment.taken()
    answer = await provider.capture(payment.provider_reference, amount=payment.amount, key=command.key, is_last=True)
    return (await _record(database, payment, answer)).taken()


async def refund_payment(database: Database, provider: PaymentProvider, command: RefundPayment) -> contract.Payment:
    """Undo of pay: refund what was taken, void what is held, forbid what has not arrived. Fault: Unavailable."""
    payment = await _to_undo(database, command)
    if payment.is_final:
        return payment.reply()
    answer = await provider.reverse(payment.provider_reference, command.reason)
    return (await _record(database, payment, answer)).reply()


@transaction
async def _ask(work: UnitOfWork, command: ProcessPayment, card_fingerprint: str, velocity: Velocity) -> Payment:
    """Write down that the money is wanted, and whether it is only to be held. Refusal: validation_failed. Raises AlreadyThere."""
    payment = Payment.asked(command, card_fingerprint)
    payment.review = velocity.reasons(payment.amount, await _recent(work, payment, velocity))
    work.add(payment)
    outbox.add(work, payment.initiated())
    return payment


@transaction
async def _existing(work: UnitOfWork, order_id: UUID, attempt: int) -> Payment:
    """What is known of an attempt to pay. Refusal: not_found."""
    payment = await work.one(_OF_ATTEMPT, order=order_id, attempt=attempt)
    if payment is None:
        raise Refusal(ErrorCode.NOT_FOUND, "No payment was asked for under this order and attempt.")
    return payment


@transaction
async def _to_undo(work: UnitOfWork, command: RefundPayment) -> Payment:
    """Where the tombstone finds room, no charge is under way: each leaves its row before the provider is asked."""
    payment, _ = await work.get_or_add(Payment.tombstone(command), "order_id", "attempt")
    return payment


@transaction
async def _record(work: UnitOfWork, asked: Payment, answer: ProviderCharge) -> Payment:
    """Store what the provider said, unless somebody knew it, or better, before. Raises LedgerMismatch."""
    payment = await work.get_again(asked)
    change = payment.settle(answer)
    work.add(*change.transactions)
    outbox.add(work, *change.events)
    work.when_committed(partial(figures.count, change.transactions))
    return payment


async def _recent(work: UnitOfWork, payment: Payment, velocity: Velocity) -> dict[Subject, Recent]:
    """What was paid before by the customer, with the card, for the address. Payments that share one of them wait here, each for
    the commit of the one before, so that together they cannot get past a limit that each keeps."""
    subjects = {
        Subject.CUSTOMER.value: payment.customer_id,
        Subject.CARD.value: payment.card_fingerprint,
        Subject.ADDRESS.value: payment.address_fingerprint,
    }
    await work.lock(*[f"{subject} {value}" for subject, value in subjects.items()])
    rows = await work.rows(
        _RECENT,
        **subjects,
        order=payment.order_id,
        since=utc_now() - velocity.window,
        enough=velocity.orders,
        currency=velocity.total.currency,
    )
    return {Subject(row["subject"]): Recent(row["orders"], row["minor"] or 0) for row in rows}


async def forget_order(work: UnitOfWork, event: OrderForgotten) -> None:
    """Within the consumer's transaction: blank what the payments of an order know of its customer's card and address."""
    for payment in await work.all(_OF_ORDER, order=event.order_id):
        payment.forget_person()

"""What changes payments. Each function is idempotent: one transaction before the provider is asked, one that records its answer.

The provider is never asked inside a transaction. A charge is opened there before it is written down here, which moves no money.
Whatever moves money comes between the two transactions, while a movement says how much may be moving, and under which key;
whoever repeats the command, after whatever crash, asks again under the same one.

What is counted together is locked before the payment is written, and whoever locks a payment waits for nothing else: they never
wait for each other in a circle.
"""

from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, bindparam, cast, func, literal_column, union_all
from sqlalchemy.orm import Mapped
from sqlmodel import col, select

from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import locked, prepared
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import OrderForgotten
from contracts.payments import CapturePayment, MovementKind, PaymentStatus, ProcessPayment, RefundPayment, ReleaseHold
from services.payment import figures
from services.payment.model import (
    CHARGE,
    NEVER_TAKEN,
    UNDO,
    VELOCITY,
    BankEntry,
    Change,
    Debt,
    DebtKind,
    Dispute,
    Movement,
    Payment,
    Recent,
    Subject,
    Velocity,
    base_of,
    charge_request,
    outbox,
    settle_by_disputes,
)
from services.payment.ports import (
    Capabilities,
    DisputeState,
    Opened,
    PaymentProvider,
    ProviderCharge,
    ProviderMovement,
    ProviderStatus,
)


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
_OF_CHARGE = locked(Payment, col(Payment.provider_id) == bindparam("charge"))
_OF_ORDER = locked(Payment, col(Payment.order_id) == bindparam("order"))
_DEBTS_OF_ORDER = locked(Debt, col(Debt.order_id) == bindparam("order"))
_DEBT = locked(Debt, (col(Debt.kind) == bindparam("kind")) & (col(Debt.subject) == bindparam("subject")))
_FAILED_REFUNDS = locked(
    Debt, (col(Debt.payment_id) == bindparam("payment")) & (col(Debt.kind) == DebtKind.FAILED_REFUND), order_by=col(Debt.debt_id)
)
_LOST = locked(Dispute, (col(Dispute.payment_id) == bindparam("payment")) & (col(Dispute.state) == DisputeState.LOST))
_ENTRIES = locked(BankEntry, col(BankEntry.reference) == bindparam("reference"))
_MOVEMENTS = locked(Movement, col(Movement.payment_id) == bindparam("payment"))


async def process_payment(
    database: Database, provider: PaymentProvider, command: ProcessPayment, *, velocity: Velocity = VELOCITY
) -> contract.Payment:
    """Take the money, or hold it: also where customer, card or address buy more than `velocity` allows.

    Refusals: payment_declined, payment_reversed, conflict, validation_failed. Fault: Unavailable, while the outcome is not known.
    """
    opened = await provider.open(charge_request(command))
    try:
        payment, charge = await _ask(database, command, opened, velocity)
    except AlreadyThere:
        payment, charge = await _asked_before(database, command, opened)
    if charge is None:
        return payment.charged()
    if payment.status == PaymentStatus.ACTION_REQUIRED:
        answer = await provider.look(payment.at_provider)
    else:
        answer = await provider.charge(payment.at_provider, payment.charge_request(command))
    return (await _record_charge(database, payment, charge, answer)).charged()


async def capture_payment(database: Database, provider: PaymentProvider, command: CapturePayment) -> contract.Payment:
    """Take what is held, or some of it.

    Refusals: payment_declined, payment_reversed, not_found, not_held, conflict, validation_failed. Fault: Unavailable."""
    payment, movement = await _to_capture(database, command, provider.capabilities)
    if movement is None:
        return payment.reply()
    if movement.is_unanswered:
        payment, movement = await _capture_asked(database, provider, payment, movement)
    return payment.captured_by(command, movement)


async def refund_payment(database: Database, provider: PaymentProvider, command: RefundPayment) -> contract.Payment:
    """Give back some of what was taken; or, without an amount, undo the payment: refund what was taken and did not go back, void
    what is held, forbid what has not arrived.

    Refusals: refund_failed; with an amount only: not_found, conflict, validation_failed. Fault: Unavailable."""
    if command.amount is None:
        return await _undo(database, provider, command)
    payment, movement = await _to_refund(database, command)
    if movement.is_unanswered:
        payment, movement = await refund_asked(database, provider, payment, movement)
    return payment.refunded_by(movement)


async def release_hold(database: Database, provider: PaymentProvider, command: ReleaseHold) -> contract.Payment:
    """Let go of what is held and not taken.

    Refusal: not_found. Fault: Unavailable."""
    payment, movement = await _to_release(database, command)
    if movement is not None:
        payment, _ = await _release_asked(database, provider, payment, movement)
    return payment.reply()


# ── Before the provider is asked ─────────────────────────────────────────────────────────────────────────────────────────────


@transaction
async def _ask(work: UnitOfWork, command: ProcessPayment, opened: Opened, velocity: Velocity) -> tuple[Payment, Movement | None]:
    """Write down that the money is wanted, what the provider calls it, and whether it is only to be held; nothing more of a card
    that the provider does not take. Refusal: validation_failed. Raises AlreadyThere."""
    payment = Payment.asked(command, opened)
    payment.review = velocity.reasons(payment.amount, await _recent(work, payment, velocity))
    charge = payment.charge(command.capture)
    work.add(payment, charge)
    outbox.add(work, payment.initiated())
    if opened.decline is None:
        return payment, charge
    await record(work, payment, payment.settle_charge(charge, ProviderCharge(ProviderStatus.DECLINED, decline=opened.decline)))
    return payment, None


@transaction
async def _asked_before(work: UnitOfWork, command: ProcessPayment, opened: Opened) -> tuple[Payment, Movement | None]:
    """What is known of an attempt to pay, and its charge as long as the answer is not known. Refusals: not_found, conflict."""
    payment = await _existing(work, command.order_id, command.attempt)
    payment.require_same(command)
    if not payment.is_undecided:
        return payment, None
    # One that a process of the version before has asked for may have neither a name at the provider nor a movement yet.
    payment.provider_id = payment.provider_id or opened.provider_id
    charge = next((row for row in await movements_of(work, payment) if row.key == CHARGE), None)
    if charge is None:
        charge = payment.charge(command.capture)
        work.add(charge)
    return payment, charge


@transaction
async def _to_capture(work: UnitOfWork, command: CapturePayment, can: Capabilities) -> tuple[Payment, Movement | None]:
    payment = await _existing(work, command.order_id, command.attempt)
    movements = await movements_of(work, payment)
    movement = payment.capture(command, movements, can)
    if movement is not None and movement not in movements:
        work.add(movement)
    return payment, movement


@transaction
async def _to_refund(work: UnitOfWork, command: RefundPayment) -> tuple[Payment, Movement]:
    payment = await _existing(work, command.order_id, command.attempt)
    movements = await movements_of(work, payment)
    movement = payment.refund(command, movements)
    if movement not in movements:
        work.add(movement)
    return payment, movement


@transaction
async def _to_release(work: UnitOfWork, command: ReleaseHold) -> tuple[Payment, Movement | None]:
    payment = await _existing(work, command.order_id, command.attempt)
    movements = await movements_of(work, payment)
    movement = payment.release(command, movements)
    if movement is not None and movement not in movements:
        work.add(movement)
    return payment, movement


@transaction
async def _to_undo(work: UnitOfWork, command: RefundPayment) -> tuple[Payment, list[Movement]]:
    """The payment, and those of its movements whose answer is unknown. Where the tombstone finds room, no charge is under way:
    each leaves its row before the provider is asked."""
    payment, _ = await work.get_or_add(Payment.tombstone(command), "order_id", "attempt")
    if payment.is_final:
        return payment, []
    new, unanswered = payment.undo(command, await movements_of(work, payment))
    work.add(*new)
    return payment, unanswered


async def payment_of(work: UnitOfWork, order_id: UUID, attempt: int) -> Payment | None:
    """An attempt to pay, locked."""
    return await work.one(_OF_ATTEMPT, order=order_id, attempt=attempt)


async def _existing(work: UnitOfWork, order_id: UUID, attempt: int) -> Payment:
    """Refusal: not_found."""
    payment = await payment_of(work, order_id, attempt)
    if payment is None:
        raise Refusal(ErrorCode.NOT_FOUND, "No payment was asked for under this order and attempt.")
    return payment


async def payment_of_charge(work: UnitOfWork, charge_id: str) -> Payment | None:
    """The attempt to pay that the provider calls so, locked."""
    return await work.one(_OF_CHARGE, charge=charge_id)


async def attempts_of(work: UnitOfWork, order_id: UUID) -> list[Payment]:
    """All of an order's, locked."""
    return await work.all(_OF_ORDER, order=order_id)


async def movements_of(work: UnitOfWork, payment: Payment) -> list[Movement]:
    """All of a payment's, locked."""
    return await work.all(_MOVEMENTS, payment=payment.payment_id)


# ── The provider is asked ────────────────────────────────────────────────────────────────────────────────────────────────────


async def _undo(database: Database, provider: PaymentProvider, command: RefundPayment) -> contract.Payment:
    payment, unanswered = await _to_undo(database, command)
    if payment.is_final:
        return payment.reply()
    if payment.provider_id is None:  # only a version before asked a bank without having written down the charge's name
        answer = ProviderCharge(ProviderStatus.REVERSED)
    else:
        answer = await provider.reverse(payment.provider_id, command.reason)
    # From here on nothing more is captured or refunded under this reference: who asks again hears what it has come to.
    for movement in unanswered:
        await _ASK[movement.kind](database, provider, payment, movement)
    payment, movements = await _record_undo(database, payment, answer, command)
    return payment.undone(movements, command)


async def undo_again(
    database: Database, provider: PaymentProvider, payment: Payment, movement: Movement
) -> tuple[Payment, Movement]:
    """Ask the provider for the refund of an undo that is written down, and record what it answers. Refusal: refund_failed. Raises
    Unavailable."""
    command = RefundPayment(
        order_id=payment.order_id,
        attempt=payment.attempt,
        key=UNDO,
        currency=payment.currency,
        reason=movement.purpose or "tried again",
    )
    await _undo(database, provider, command)
    return await _as_they_are(database, payment, movement)


@transaction
async def _as_they_are(work: UnitOfWork, payment: Payment, movement: Movement) -> tuple[Payment, Movement]:
    return await work.get_again(payment), await work.get_again(movement)


async def _capture_asked(
    database: Database, provider: PaymentProvider, payment: Payment, movement: Movement
) -> tuple[Payment, Movement]:
    answer = await provider.capture(payment.at_provider, amount=movement.amount, key=movement.key, is_last=movement.is_last)
    return await _record_capture(database, payment, movement, answer)


async def refund_asked(
    database: Database, provider: PaymentProvider, payment: Payment, movement: Movement
) -> tuple[Payment, Movement]:
    """Ask the provider for a refund that is written down, and record what it answers. Raises Unavailable."""
    reason = movement.purpose or ""
    answer = await provider.refund(payment.at_provider, amount=movement.amount, key=movement.key, reason=reason)
    return await _record_refund(database, payment, movement, answer)


async def _release_asked(
    database: Database, provider: PaymentProvider, payment: Payment, movement: Movement
) -> tuple[Payment, Movement]:
    answer = await provider.release(payment.at_provider, movement.purpose or "")
    return await _record_release(database, payment, movement, answer)


_ASK = {MovementKind.CAPTURE: _capture_asked, MovementKind.REFUND: refund_asked, MovementKind.VOID: _release_asked}


# ── Its answer is recorded, unless somebody knew it, or better, before ───────────────────────────────────────────────────────


@transaction
async def _record_charge(work: UnitOfWork, asked: Payment, wanted: Movement, answer: ProviderCharge) -> Payment:
    """Raises LedgerMismatch."""
    payment, charge = await work.get_again(asked), await work.get_again(wanted)
    await record(work, payment, payment.settle_charge(charge, answer))
    return payment


@transaction
async def _record_capture(work: UnitOfWork, asked: Payment, wanted: Movement, answer: ProviderCharge) -> tuple[Payment, Movement]:
    """Raises LedgerMismatch."""
    payment = await work.get_again(asked)
    movements = await movements_of(work, payment)
    movement = next(row for row in movements if row.movement_id == wanted.movement_id)
    await record(work, payment, payment.settle_capture(movement, movements, answer))
    return payment, movement


@transaction
async def _record_refund(work: UnitOfWork, asked: Payment, wanted: Movement, said: ProviderMovement) -> tuple[Payment, Movement]:
    """Raises LedgerMismatch."""
    payment, movement = await work.get_again(asked), await work.get_again(wanted)
    await record(work, payment, payment.settle_refund(movement, said))
    return payment, movement


@transaction
async def _record_release(work: UnitOfWork, asked: Payment, wanted: Movement, answer: ProviderCharge) -> tuple[Payment, Movement]:
    """Raises LedgerMismatch."""
    payment, movement = await work.get_again(asked), await work.get_again(wanted)
    await record(work, payment, payment.settle_release(movement, answer))
    return payment, movement


@transaction
async def _record_undo(
    work: UnitOfWork, asked: Payment, answer: ProviderCharge, command: RefundPayment
) -> tuple[Payment, list[Movement]]:
    """Raises LedgerMismatch."""
    payment = await work.get_again(asked)
    movements = await movements_of(work, payment)
    await record(work, payment, payment.settle_undo(movements, answer, command))
    return payment, movements


async def record(work: UnitOfWork, payment: Payment, change: Change) -> None:
    """Store what an answer, or news, of the provider brought: the movements, the ledger, the events, and what is owed then."""
    work.add(*change.found, *change.entries)
    for movement in change.failed:
        debt, is_new = await work.get_or_add(Debt.of_refund(payment, movement), "kind", "subject")
        if not is_new:
            debt.renewed(movement.amount_minor, movement.failure or "unknown")
    if change.failed:
        await settle_what_banks_gave(work, payment)
    for movement in change.moved:
        if movement.kind == MovementKind.REFUND and base_of(movement.key) != movement.key:  # others have not failed before
            for debt in await work.all(_DEBT, kind=DebtKind.FAILED_REFUND, subject=Debt.of_refund(payment, movement).subject):
                debt.settled(f"refund {movement.key}")
    outbox.add(work, *change.events)
    work.when_committed(partial(figures.count, change.moved))


async def settle_what_banks_gave(work: UnitOfWork, payment: Payment) -> None:
    """Refunds that failed are not owed beside disputes that were lost."""
    if disputes := await work.all(_LOST, payment=payment.payment_id):
        settle_by_disputes(await work.all(_FAILED_REFUNDS, payment=payment.payment_id), disputes)


async def _recent(work: UnitOfWork, payment: Payment, velocity: Velocity) -> dict[Subject, Recent]:
    """What was paid before by the customer, with the card, for the address. Payments that share one of them wait here, each for
    the commit of the one before, so that together they cannot get past a limit that each keeps."""
    subjects = {
        Subject.CUSTOMER.value: payment.customer_id,
        Subject.CARD.value: payment.card_fingerprint,
        Subject.ADDRESS.value: payment.address_fingerprint,
    }
    await work.lock(*[f"{subject} {value}" for subject, value in subjects.items() if value is not None])
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
    """Within the consumer's transaction: blank what the payments of an order know of its customer's card and address,
    who transferred the money, why it moved, and how debts were settled: words in which somebody may have named the customer."""
    for payment in await attempts_of(work, event.order_id):
        payment.forget_person()
        for movement in await movements_of(work, payment):
            movement.forget_person()
        for entry in await work.all(_ENTRIES, reference=payment.provider_id):
            entry.forget_person()
    for debt in await work.all(_DEBTS_OF_ORDER, order=event.order_id):
        debt.forget_person()

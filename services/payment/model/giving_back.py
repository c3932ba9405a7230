"""An amount goes back of an order, whichever of its attempts to pay took it."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from chassis.clients import Unavailable
from contracts.errors import ErrorCode, Refusal
from contracts.payments import GiveBack, MovementKind, PaymentStatus
from services.payment.model.attempt import sum_of, tries_of
from services.payment.model.movements import Movement
from services.payment.model.payments import Payment


def refunds_for(
    command: GiveBack, attempts: Sequence[Payment], movements: Mapping[UUID, Sequence[Movement]]
) -> list[tuple[Payment, Movement]]:
    """The refunds under the command's key, new or as they are: of the newest attempts first, of each as much as is left of it.
    `movements`: all of the attempts', by payment. Pure.

    Refusals: not_found, conflict, validation_failed. Fault: Unavailable, if it depends on what is under way."""
    if not attempts:
        raise Refusal(ErrorCode.NOT_FOUND, "No payment was asked for under this order.")
    wanted = attempts[0].in_its_currency(command.amount)
    newest_first = sorted(attempts, key=lambda payment: payment.attempt, reverse=True)
    earlier = [
        (payment, tries[-1])
        for payment in newest_first
        if (tries := tries_of(MovementKind.REFUND, command.key, movements[payment.payment_id]))
    ]
    if earlier:
        if sum_of(row for _, row in earlier) != wanted:
            raise Refusal(ErrorCode.CONFLICT, f"Another amount than {command.amount} was asked for under the key {command.key}.")
        return earlier
    free = {payment.payment_id: payment.free_to_refund(movements[payment.payment_id]) for payment in attempts}
    if wanted > sum(free.values()):
        raise _too_much(command, wanted, attempts)
    refunds = []
    for payment in newest_first:
        minor = min(wanted, free[payment.payment_id])
        if minor:
            refunds.append((payment, payment.refund_of(minor, command.key, command.reason)))
            wanted -= minor
    return refunds


def _too_much(command: GiveBack, wanted: int, attempts: Sequence[Payment]) -> Refusal | Unavailable:
    """The refusal; or the fault, if it depends on what is under way."""
    if wanted <= sum(payment.refundable_minor for payment in attempts):
        return Unavailable("Other refunds of this order are under way; this one depends on how they end.")
    if any(payment.status == PaymentStatus.INITIATED for payment in attempts):
        return Unavailable("It is not known yet whether more was taken; the charge must be repeated first.")
    return Refusal(ErrorCode.CONFLICT, f"Of what was taken for the order, less than {command.amount} can go back.")

"""Give back an amount of an order, whichever of its attempts to pay took it."""

from uuid import UUID

from chassis.database import Database
from chassis.store import UnitOfWork, transaction
from contracts.money import Money
from contracts.payments import GiveBack, GivenBack
from services.payment.commands.payments import attempts_of, movements_of, refund_asked
from services.payment.model import Movement, Payment, refunds_for
from services.payment.ports import PaymentProvider


async def give_back(database: Database, provider: PaymentProvider, command: GiveBack) -> GivenBack:
    """Refund so much, of the newest attempts first; each of them is asked for one refund under the key.

    Refusals: not_found, conflict, refund_failed, validation_failed. Fault: Unavailable, until each refund is accepted or refused.
    """
    attempts, refunds = await _to_give_back(database, command)
    answered = [
        await refund_asked(database, provider, payment, movement) if movement.is_unanswered else (payment, movement)
        for payment, movement in refunds
    ]
    for payment, movement in answered:
        payment.refunded_by(movement)
    known = attempts | {payment.payment_id: payment for payment, _ in answered}
    refunded = sum(payment.refunded_minor for payment in known.values())
    return GivenBack(
        order_id=command.order_id,
        amount=command.amount,
        refunded=Money.from_minor(refunded, command.amount.currency),
    )


@transaction
async def _to_give_back(work: UnitOfWork, command: GiveBack) -> tuple[dict[UUID, Payment], list[tuple[Payment, Movement]]]:
    """The order's attempts, and the refunds under the key: those that are new are written down."""
    attempts = await attempts_of(work, command.order_id)
    movements = {payment.payment_id: await movements_of(work, payment) for payment in attempts}
    refunds = refunds_for(command, attempts, movements)
    work.add(*[movement for payment, movement in refunds if movement not in movements[payment.payment_id]])
    return {payment.payment_id: payment for payment in attempts}, refunds

"""What people do about what is owed: try a failed refund again, or say how it was settled."""

from uuid import UUID

from chassis.database import Database
from chassis.store import UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from services.payment.commands.payments import movements_of, refund_asked, undo_again
from services.payment.model import UNDO, Debt, Movement, Payment
from services.payment.ports import PaymentProvider


async def refund_again(database: Database, provider: PaymentProvider, payment_id: UUID, key: str) -> Movement:
    """Ask the provider once more for a refund that failed. Asked for twice at once, and after it went well, it is the same one.

    Refusals: not_found, conflict, refund_failed. Fault: Unavailable."""
    payment, movement = await _to_refund_again(database, payment_id, key)
    if movement.is_unanswered:
        # An undo has keys of its own at the provider: asked for in another way, what it gave back would look refused.
        ask = undo_again if key == UNDO else refund_asked
        payment, movement = await ask(database, provider, payment, movement)
    payment.refunded_by(movement)
    return movement


@transaction
async def settle_debt(work: UnitOfWork, debt_id: UUID, seen: int | None, reason: str, by: UUID) -> Debt:
    """A person has settled it outside, e.g. by a bank transfer. Refusals: not_found, conflict, stale_version."""
    debt = await work.get(Debt, debt_id)
    if debt is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such debt.")
    debt.require_version(seen)
    debt.settled_by_hand(reason, by)
    return debt


@transaction
async def _to_refund_again(work: UnitOfWork, payment_id: UUID, key: str) -> tuple[Payment, Movement]:
    payment = await work.get(Payment, payment_id)
    if payment is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such payment.")
    movements = await movements_of(work, payment)
    movement = payment.refund_again(key, movements)
    if movement not in movements:
        work.add(movement)
    return payment, movement

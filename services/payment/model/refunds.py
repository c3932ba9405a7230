"""What was taken of an attempt goes back: a part of it, or all."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

from chassis.clients import Unavailable
from chassis.clock import utc_now
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.payments import MovementKind, MovementState, PaymentStatus, RefundPayment
from services.payment.model.attempt import NOTHING_LEFT, Attempt, Change, LedgerMismatch, asked_under, next_key, sum_of, tries_of
from services.payment.model.movements import CHARGE, PROVIDERS, Movement
from services.payment.ports import ProviderCharge, ProviderMovement, ProviderMovementState, ProviderStatus

MADE_AT_PROVIDER = "made at the provider"
REFUSED_AGAIN_AFTER = timedelta(hours=6)
"""The refund of an undo that the provider refused is asked for again after this: a dispute may have been won meanwhile."""


class Refunds(Attempt):
    def refund(self, command: RefundPayment, movements: Sequence[Movement]) -> Movement:
        """The refund under the command's key, new or as it is. Its amount is given.

        Refusals: conflict (more than was captured and not refunded), validation_failed. Fault: Unavailable."""
        assert command.amount is not None
        if self.status == PaymentStatus.INITIATED:
            raise Unavailable("It is not known yet whether the money was taken; the charge must be repeated first.")
        if earlier := asked_under(command, MovementKind.REFUND, movements):
            return earlier
        minor = self.in_its_currency(command.amount)
        if minor > self.refundable_minor:
            raise Refusal(ErrorCode.CONFLICT, f"Of {self.captured} that were taken, less than {command.amount} can go back.")
        if minor > self.free_to_refund(movements):
            raise Unavailable("Other refunds of this payment are under way; this one depends on how they end.")
        return self.refund_of(minor, command.key, command.reason)

    @property
    def refundable_minor(self) -> int:
        """What was taken and did not go back; nothing if all of it is about to."""
        return 0 if self.undo_asked_at is not None else self.captured_minor - self.refunded_minor

    def free_to_refund(self, movements: Sequence[Movement]) -> int:
        """What of that is left, in minor units, if all refunds that are under way succeed."""
        under_way = sum_of(row for row in movements if row.kind == MovementKind.REFUND and row.is_unanswered)
        return max(0, self.refundable_minor - under_way)

    def refund_of(self, minor: int, key: str, reason: str) -> Movement:
        """A refund that was not asked for yet."""
        return self._movement(MovementKind.REFUND, key, minor, reason)

    def undo(self, command: RefundPayment, movements: Sequence[Movement]) -> tuple[list[Movement], list[Movement]]:
        """All of it is to go back. The movements for that which nobody has written down, and the others whose answer is unknown:
        each of those is to be asked for again, once the provider has reversed the payment.

        Refusal: refund_failed, if that is all there is to do and the provider refused it a short while ago."""
        self.undo_asked_at = self.undo_asked_at or utc_now()
        others = [row for row in movements if row.is_unanswered and row.key != CHARGE and not _is_undo(row, command.key)]
        if self.is_undecided:
            return [], others
        wanted = {
            MovementKind.VOID: self.held_minor - sum_of(row for row in others if row.kind != MovementKind.REFUND),
            MovementKind.REFUND: self.captured_minor
            - self.refunded_minor
            - sum_of(row for row in others if row.kind == MovementKind.REFUND),
        }
        new = []
        for kind, minor in wanted.items():
            if minor > 0 and not any(row.is_unanswered for row in tries_of(kind, command.key, movements)):
                new.append(self._movement(kind, next_key(kind, command.key, movements), minor, command.reason))
        refused = _last_refused(command.key, movements)
        if refused and [row.kind for row in new] == [MovementKind.REFUND] and not others:
            assert refused.settled_at is not None
            if refused.settled_at > utc_now() - REFUSED_AGAIN_AFTER:
                raise _refused(refused)
        return new, others

    def undone(self, movements: Sequence[Movement], command: RefundPayment) -> contract.Payment:
        """The reply to who wanted all of it back. Refusal: refund_failed. Fault: Unavailable."""
        if self.is_final:
            return self.reply()
        if refused := _last_refused(command.key, movements):
            raise _refused(refused)
        raise Unavailable("The payment provider does not give all of it back yet.")

    def settle_refund(self, movement: Movement, said: ProviderMovement) -> Change:
        """Learn what became of a refund, from the provider's answer or, days later, from its news: one that had succeeded may
        fail, and is then owed again. What comes late changes nothing. Raises LedgerMismatch."""
        change = Change()
        if movement.state == MovementState.FAILED:
            return change
        if said.amount != movement.amount:
            raise LedgerMismatch(f"{self.provider_reference}: refund of {movement.amount} here, of {said.amount} there")
        self._settle_refund(change, movement, said)
        return self._concluded(change)

    def settle_undo(self, movements: Sequence[Movement], answer: ProviderCharge, command: RefundPayment) -> Change:
        """Learn what the provider says of a payment that was to be reversed, when all its other movements are settled.
        What comes late changes nothing. Raises LedgerMismatch."""
        if self.is_undecided:
            charge = next((row for row in movements if row.key == CHARGE), None)
            found = charge is None
            charge = charge or self.charge(capture=True)
            change = self.settle_charge(charge, answer, undo_key=command.key)
            if found:
                change.found.insert(0, charge)
            return change
        change = Change()
        if self.is_final:
            return change
        self._require_plausible(answer)
        taken = answer.captured.minor if answer.captured else self.captured_minor
        back = answer.refunded.minor if answer.refunded else taken if answer.status == ProviderStatus.REFUNDED else 0
        if taken > self.captured_minor:
            key = next_key(MovementKind.CAPTURE, command.key, movements)
            self._find(change, MovementKind.CAPTURE, key, taken - self.captured_minor)
        waiting = {row.kind: row for row in movements if row.is_unanswered and _is_undo(row, command.key)}
        key = next_key(MovementKind.VOID, command.key, movements)
        self._settle_as_found(change, waiting.pop(MovementKind.VOID, None), MovementKind.VOID, key, self.held_minor)
        refund, said = waiting.pop(MovementKind.REFUND, None), answer.movement
        if said is not None and said.state == ProviderMovementState.FAILED and back >= taken:
            said = None  # somebody else was faster
        if said is not None and said.state == ProviderMovementState.FAILED and refund:
            self._settle(change, refund, MovementState.FAILED, said)
        else:
            key = next_key(MovementKind.REFUND, command.key, movements)
            self._settle_as_found(change, refund, MovementKind.REFUND, key, back - self.refunded_minor, said)
        if answer.status == ProviderStatus.DECLINED:
            self._decline(answer.decline)
        return self._concluded(change, answer)

    def made_at_provider(self, said: ProviderMovement) -> Change | None:
        """A refund that nobody asked for here, e.g. in the provider's dashboard. None: it cannot be of what we know was taken."""
        change = Change()
        if said.state != ProviderMovementState.FAILED and said.amount.minor > self.captured_minor - self.refunded_minor:
            return None
        if said.amount.currency != self.currency or said.provider_id is None:
            return None
        key = f"{PROVIDERS}{sha256(said.provider_id.encode()).hexdigest()[:16]}"
        self._find(change, MovementKind.REFUND, key, said.amount.minor, said, MADE_AT_PROVIDER)
        return self._concluded(change)

    def refund_again(self, key: str, movements: Sequence[Movement]) -> Movement:
        """The next try of a refund that failed, or the last one as it is, if it did not fail. Refusals: not_found, conflict."""
        tries = tries_of(MovementKind.REFUND, key, movements)
        if not tries:
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such refund.")
        last = tries[-1]
        if last.state != MovementState.FAILED:
            return last
        under_way = sum_of(row for row in movements if row.kind == MovementKind.REFUND and row.is_unanswered)
        if last.amount_minor > self.captured_minor - self.refunded_minor - under_way:
            raise Refusal(ErrorCode.CONFLICT, f"Of {self.captured} that were taken, less than {last.amount} can go back.")
        return self._movement(MovementKind.REFUND, next_key(MovementKind.REFUND, key, movements), last.amount_minor, last.purpose)

    def _settle_as_found(
        self,
        change: Change,
        movement: Movement | None,
        kind: MovementKind,
        key: str,
        minor: int,
        said: ProviderMovement | None = None,
    ) -> None:
        """Settle what an undo was to move with what it came to, which may be more, less, or nothing at all. `key`: of what
        nobody has written down."""
        if movement is None:
            if minor > 0:
                self._find(change, kind, key, minor, said)
        elif minor <= 0:
            self._settle(change, movement, MovementState.FAILED, failure=NOTHING_LEFT)
        else:
            movement.amount_minor = minor
            if said is None:
                self._settle(change, movement, MovementState.SUCCEEDED)
            else:
                self._settle_refund(change, movement, said)

    def refunded_by(self, movement: Movement) -> contract.Payment:
        """The reply to who wanted so much back. Refusal: refund_failed."""
        if movement.state == MovementState.FAILED:
            raise _refused(movement)
        return self.reply(movement)


def _refused(movement: Movement) -> Refusal:
    detail = f"The payment provider does not give {movement.amount} back; it is still owed to the customer."
    return Refusal(ErrorCode.REFUND_FAILED, detail, extra={"failure": movement.failure})


def _last_refused(key: str, movements: Sequence[Movement]) -> Movement | None:
    """The last try of a refund, if the provider refused that."""
    last = next(reversed(tries_of(MovementKind.REFUND, key, movements)), None)
    return last if last and last.state == MovementState.FAILED and last.failure != NOTHING_LEFT else None


def _is_undo(movement: Movement, key: str) -> bool:
    return movement.key == key or movement.key.startswith(f"{key}:")

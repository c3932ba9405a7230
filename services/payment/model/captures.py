"""What is held of an attempt is taken, in parts, or let go."""

from collections.abc import Sequence

from chassis.clients import Unavailable
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.payments import CapturePayment, MovementKind, MovementState, PaymentStatus, ReleaseHold
from services.payment.model.attempt import Attempt, Change, LedgerMismatch, asked_under, reversed_before, sum_of
from services.payment.model.movements import Movement
from services.payment.ports import Capabilities, ProviderCharge, ProviderMovementState, ProviderStatus

RELEASE = "release"
"""The key of what is let go because another attempt holds it now."""


class Captures(Attempt):
    def capture(self, command: CapturePayment, movements: Sequence[Movement], can: Capabilities) -> Movement | None:
        """The movement under the command's key, new or as it is; None if all was taken before, and nothing more was asked for.

        Of a provider without captures in several parts the first one is the last: the rest is let go with it.

        Refusals: payment_declined, payment_reversed, not_held, conflict, validation_failed. Fault: Unavailable."""
        if self.status == PaymentStatus.INITIATED:
            raise Unavailable("It is not known yet whether the money is held; the charge must be repeated first.")
        if self.status == PaymentStatus.ACTION_REQUIRED:
            raise self._not_held()
        if earlier := asked_under(command, MovementKind.CAPTURE, movements):
            return earlier
        if command.amount is None and self.held_minor == 0:
            self.taken()
            return None
        if self.undo_asked_at is not None or self.is_final:
            self.taken()
            raise reversed_before()
        under_way = [row for row in movements if row.kind == MovementKind.CAPTURE and row.is_unanswered]
        free = self.held_minor - sum(row.amount_minor for row in under_way)
        minor = free if command.amount is None else self.in_its_currency(command.amount)
        if minor > self.held_minor:
            raise self._not_held()
        is_let_go = any(row.kind == MovementKind.VOID and row.is_unanswered for row in movements)
        if minor > free or any(row.is_last for row in under_way) or is_let_go or minor == 0:
            raise Unavailable("Others of this payment are under way; this one depends on how they end.")
        if minor < self.held_minor and not can.partial_capture:
            raise Refusal(ErrorCode.CONFLICT, "This provider takes all that is held, or nothing.")
        is_last = command.is_last or not can.multi_capture
        return self._movement(MovementKind.CAPTURE, command.key, minor, command.purpose, is_last=is_last)

    def settle_capture(self, movement: Movement, movements: Sequence[Movement], answer: ProviderCharge) -> Change:
        """Learn what became of a capture, and whether the rest is still held. Raises LedgerMismatch."""
        change, said = Change(), answer.movement
        if not movement.is_unanswered:
            return change
        self._require_plausible(answer)
        if said is None or (said.state == ProviderMovementState.SUCCEEDED and said.amount != movement.amount):
            raise LedgerMismatch(f"{self.provider_reference}: capture of {movement.amount} here, of {said and said.amount} there")
        if said.state == ProviderMovementState.PENDING:
            raise Unavailable("The provider has not taken the money yet.")
        if said.state == ProviderMovementState.SUCCEEDED:
            self._settle(change, movement, MovementState.SUCCEEDED, said)
        else:
            self._settle(change, movement, MovementState.FAILED, said)
        if answer.status != ProviderStatus.AUTHORIZED or self.voided_minor:
            others = [row for row in movements if row is not movement and row.is_unanswered]
            rest = self.held_minor - sum_of(row for row in others if row.kind == MovementKind.CAPTURE)
            if rest > 0:
                undoing = next((row for row in others if row.kind == MovementKind.VOID), None)
                if undoing is None:
                    self._find(change, MovementKind.VOID, movement.key, rest)
                else:
                    undoing.amount_minor = rest
                    self._settle(change, undoing, MovementState.SUCCEEDED)
        if answer.status == ProviderStatus.DECLINED and not self.captured_minor:
            self._decline(answer.decline)
        return self._concluded(change, answer)

    def release(self, command: ReleaseHold, movements: Sequence[Movement]) -> Movement | None:
        """The movement that lets go of what is held and not taken, new or as it is; None if nothing is held.

        Fault: Unavailable, as long as a charge, a capture or an undo of it is under way."""
        if self.status == PaymentStatus.INITIATED:
            raise Unavailable("It is not known yet whether the money is held; the charge must be repeated first.")
        if self.held_minor == 0:
            return None
        if earlier := next((row for row in movements if row.is_of(MovementKind.VOID, RELEASE)), None):
            return earlier
        if self.undo_asked_at is not None or any(row.kind == MovementKind.CAPTURE and row.is_unanswered for row in movements):
            raise Unavailable("Others of this payment are under way; this one depends on how they end.")
        return self._movement(MovementKind.VOID, RELEASE, self.held_minor, command.reason)

    def settle_release(self, movement: Movement, answer: ProviderCharge) -> Change:
        """Learn that nothing is held any more, whoever let go of it. Raises LedgerMismatch."""
        change = Change()
        if not movement.is_unanswered:
            return change
        self._require_plausible(answer)
        if answer.captured is not None and answer.captured != self.captured:
            raise LedgerMismatch(f"{self.provider_reference}: captured {self.captured} here, {answer.captured} there")
        self._settle(change, movement, MovementState.SUCCEEDED)
        return self._concluded(change, answer)

    def captured_by(self, command: CapturePayment, movement: Movement) -> contract.Payment:
        """The reply to who wanted so much. Refusals: payment_declined, payment_reversed, not_held."""
        if movement.state == MovementState.FAILED:
            self.taken()
            raise self._not_held(movement.failure)
        return self.taken() if command.amount is None else self.reply(movement)

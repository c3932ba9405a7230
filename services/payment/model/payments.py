"""Payments: what may follow what, how each answer of the provider changes the sums, and the events that tell of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, CheckConstraint, Column, Index, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, PaymentFailed, PaymentInitiated, PaymentProcessed, RefundProcessed
from contracts.ids import payment_reference
from contracts.money import Money
from contracts.payments import CapturePayment, MovementKind, MovementState, PaymentStatus, ProcessPayment, RefundPayment
from services.payment.model.ledger import LedgerEntry, posted
from services.payment.model.movements import CHARGE, Movement
from services.payment.model.tables import Table
from services.payment.ports import (
    Capabilities,
    ChargeRequest,
    Decline,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderStatus,
)

FINAL = frozenset({PaymentStatus.DECLINED, PaymentStatus.VOIDED, PaymentStatus.REFUNDED})
_KIND_OF_CHARGE = {
    ProviderStatus.AUTHORIZED: MovementKind.AUTHORIZE,
    ProviderStatus.VOIDED: MovementKind.AUTHORIZE,
    ProviderStatus.CAPTURED: MovementKind.CAPTURE,
    ProviderStatus.REFUNDED: MovementKind.CAPTURE,
}
"""What a charge has moved at first, by where the provider says it is. Of others nothing."""
_NEVER_AFTER_A_CAPTURE = frozenset({ProviderStatus.VOIDED, ProviderStatus.DECLINED, ProviderStatus.REVERSED})


class LedgerMismatch(Exception):
    """What the provider says cannot be true of this payment. Nothing is recorded; a person must compare the books."""


@dataclass
class Change:
    """What an answer of the provider brought: to be stored together with the payment and its movements."""

    moved: list[Movement] = field(default_factory=list)
    """Movements that count from now on."""
    found: list[Movement] = field(default_factory=list)
    """Movements that nobody had written down."""
    entries: list[LedgerEntry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Payment(Table, Aggregate, table=True):
    """One attempt to pay one order. Amounts in minor units (cents), as the provider counts.

    A payment reversed before it was asked for (the undo overtook the step) is a VOIDED row of zero without a customer: it forbids
    the late charge.
    """

    __tablename__ = "payments"
    __table_args__ = (
        UniqueConstraint("order_id", "attempt"),
        # Whatever a command got wrong: never taken above what was authorised, never given back above what was taken.
        CheckConstraint(
            "0 <= refunded_minor and refunded_minor <= captured_minor and 0 <= voided_minor"
            " and captured_minor + voided_minor <= authorized_minor and authorized_minor <= amount_minor",
            name="sums_within_bounds",
        ),
        Index("ix_payments_customer_id_payment_id", "customer_id", "payment_id"),
        Index("ix_payments_status_payment_id", "status", "payment_id"),
        Index("ix_payments_customer_recent", "customer_id", "created_at"),
        Index("ix_payments_card_recent", "card_fingerprint", "created_at"),
        Index("ix_payments_address_recent", "address_fingerprint", "created_at"),
    )

    payment_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    """Rises with time, so that it also sorts lists."""
    order_id: UUID
    attempt: int
    customer_id: UUID | None = None
    card_fingerprint: str | None = Field(default=None, max_length=64)
    address_fingerprint: str | None = Field(default=None, max_length=64)
    review: list[str] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    """Why the money is only held until a person has looked at the order. Decided once, when it was first asked for."""
    amount_minor: int = Field(default=0, sa_type=BigInteger)
    authorized_minor: int = Field(default=0, sa_type=BigInteger)
    """What was ever held, or taken at once."""
    captured_minor: int = Field(default=0, sa_type=BigInteger)
    refunded_minor: int = Field(default=0, sa_type=BigInteger)
    """What went back, or is going back: the provider has accepted it."""
    voided_minor: int = Field(default=0, sa_type=BigInteger)
    """What was held and let go."""
    currency: str = Field(max_length=3)
    status: PaymentStatus = Field(sa_column=enum_column(PaymentStatus))
    provider_reference: str = Field(max_length=60)
    provider_id: str | None = Field(default=None, max_length=200)
    decline_code: str | None = Field(default=None, max_length=100)
    decline_reason: str | None = Field(default=None, max_length=500)
    held_until: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When the provider lets go of what it holds, if it said so."""
    undo_asked_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Since when all of it is to go back: nothing more is taken."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    updated_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    # ── Asked for ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def asked(cls, command: ProcessPayment, card_fingerprint: str) -> "Payment":
        """A payment whose outcome is not known yet. Refusal: validation_failed, for an amount that cannot be paid."""
        return cls(
            order_id=command.order_id,
            attempt=command.attempt,
            customer_id=command.customer_id,
            card_fingerprint=card_fingerprint,
            address_fingerprint=command.ship_to_fingerprint,
            amount_minor=_payable(command.amount),
            currency=command.amount.currency,
            status=PaymentStatus.INITIATED,
            provider_reference=payment_reference(command.order_id, command.attempt),
        )

    @classmethod
    def tombstone(cls, command: RefundPayment) -> "Payment":
        """The undo of a payment that has not been asked for: nothing of the order's currency."""
        return cls(
            order_id=command.order_id,
            attempt=command.attempt,
            currency=command.currency,
            status=PaymentStatus.VOIDED,
            provider_reference=payment_reference(command.order_id, command.attempt),
        )

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)

    @property
    def authorized(self) -> Money:
        """What was ever held, or taken at once."""
        return Money.from_minor(self.authorized_minor, self.currency)

    @property
    def captured(self) -> Money:
        """All that was taken; what went back of it is `refunded`."""
        return Money.from_minor(self.captured_minor, self.currency)

    @property
    def refunded(self) -> Money:
        """What went back to the customer, or is on its way."""
        return Money.from_minor(self.refunded_minor, self.currency)

    @property
    def held(self) -> Money:
        """What is still held and not taken."""
        return Money.from_minor(self.held_minor, self.currency)

    @property
    def held_minor(self) -> int:
        return self.authorized_minor - self.captured_minor - self.voided_minor

    @property
    def is_final(self) -> bool:
        """Whether no money is held, taken or to come under it."""
        return self.status in FINAL

    def forget_person(self) -> None:
        """Blank by what its customer's card and address could be known again, once its order has ended. The order, the customer's
        id and the money stay. What is added to a payment later and names a person belongs here."""
        self.card_fingerprint, self.address_fingerprint = None, None

    def initiated(self) -> PaymentInitiated:
        """The event that tells of it."""
        return PaymentInitiated(order_id=self.order_id, payment_id=self.payment_id, amount=self.amount)

    def require_same(self, command: ProcessPayment) -> None:
        """A repeated command must ask for the same. Refusal: conflict."""
        if self.customer_id is not None and (command.customer_id, command.amount) != (self.customer_id, self.amount):
            raise Refusal(ErrorCode.CONFLICT, "This attempt to pay the order was made with another amount or customer.")

    def charge(self, capture: bool) -> Movement:
        """What the charge is to move: all of it is taken, or held."""
        takes = capture and not self.review
        return self._movement(MovementKind.CAPTURE if takes else MovementKind.AUTHORIZE, CHARGE, self.amount_minor, None)

    def charge_request(self, command: ProcessPayment) -> ChargeRequest:
        """What the provider is asked: the same on every retry."""
        capture = command.capture and not self.review
        return ChargeRequest(self.provider_reference, self.amount, command.payment_token, capture, f"Order {self.order_id}")

    # ── Commands: which movement is wanted ───────────────────────────────────────────────────────────────────────────────────

    def capture(self, command: CapturePayment, movements: Sequence[Movement], can: Capabilities) -> Movement | None:
        """The movement under the command's key, new or as it is; None if all was taken before, and nothing more was asked for.

        Of a provider without captures in several parts the first one is the last: the rest is let go with it.

        Refusals: payment_declined, payment_reversed, not_held, conflict, validation_failed. Fault: Unavailable."""
        if self.status == PaymentStatus.INITIATED:
            raise Unavailable("It is not known yet whether the money is held; the charge must be repeated first.")
        if earlier := _under(command, MovementKind.CAPTURE, movements):
            return earlier
        if command.amount is None and self.held_minor == 0:
            self.taken()
            return None
        if self.undo_asked_at is not None or self.is_final:
            self.taken()
            raise _reversed()
        under_way = [row for row in movements if row.kind == MovementKind.CAPTURE and row.is_unanswered]
        free = self.held_minor - sum(row.amount_minor for row in under_way)
        minor = free if command.amount is None else self._of_same_currency(command.amount)
        if minor > self.held_minor:
            raise self._not_held()
        if minor > free or any(row.is_last for row in under_way) or minor == 0:
            raise Unavailable("Other captures of this payment are under way; this one depends on how they end.")
        if minor < self.held_minor and not can.partial_capture:
            raise Refusal(ErrorCode.CONFLICT, "This provider takes all that is held, or nothing.")
        is_last = command.is_last or not can.multi_capture
        return self._movement(MovementKind.CAPTURE, command.key, minor, command.purpose, is_last=is_last)

    def refund(self, command: RefundPayment, movements: Sequence[Movement]) -> Movement:
        """The refund under the command's key, new or as it is. Its amount is given.

        Refusals: conflict (more than was captured and not refunded), validation_failed. Fault: Unavailable."""
        assert command.amount is not None
        if self.status == PaymentStatus.INITIATED:
            raise Unavailable("It is not known yet whether the money was taken; the charge must be repeated first.")
        if earlier := _under(command, MovementKind.REFUND, movements):
            return earlier
        minor = self._of_same_currency(command.amount)
        left = self.captured_minor - self.refunded_minor
        if minor > left or self.undo_asked_at is not None:
            raise Refusal(ErrorCode.CONFLICT, f"Of {self.captured} that were taken, less than {command.amount} can go back.")
        if minor > left - _sum(row for row in movements if row.kind == MovementKind.REFUND and row.is_unanswered):
            raise Unavailable("Other refunds of this payment are under way; this one depends on how they end.")
        return self._movement(MovementKind.REFUND, command.key, minor, command.reason)

    def undo(self, command: RefundPayment, movements: Sequence[Movement]) -> tuple[list[Movement], list[Movement]]:
        """All of it is to go back. The movements for that which nobody has written down, and the others whose answer is unknown:
        each of those is to be asked for again, once the provider has reversed the payment."""
        self.undo_asked_at = self.undo_asked_at or utc_now()
        others = [row for row in movements if row.is_unanswered and row.key != CHARGE and not _is_undo(row, command.key)]
        if self.status == PaymentStatus.INITIATED:
            return [], others
        wanted = {
            MovementKind.VOID: self.held_minor - _sum(row for row in others if row.kind == MovementKind.CAPTURE),
            MovementKind.REFUND: self.captured_minor
            - self.refunded_minor
            - _sum(row for row in others if row.kind == MovementKind.REFUND),
        }
        new = []
        for kind, minor in wanted.items():
            earlier = [row for row in movements if row.kind == kind and _is_undo(row, command.key)]
            if minor > 0 and not any(row.is_unanswered for row in earlier):
                # A refund that the provider refused is tried again as another one.
                key = f"{command.key}:{len(earlier) + 1}" if earlier else command.key
                new.append(self._movement(kind, key, minor, command.reason))
        return new, others

    # ── Answers of the provider ──────────────────────────────────────────────────────────────────────────────────────────────

    def settle_charge(self, charge: Movement, answer: ProviderCharge, *, undo_key: str = "undo") -> Change:
        """Learn what the provider says of a charge. What comes late changes nothing. Raises LedgerMismatch."""
        change = Change()
        if self.status != PaymentStatus.INITIATED:
            return change
        self._require_plausible(answer)
        kind = _KIND_OF_CHARGE.get(answer.status)
        if kind is None:
            self._settle(change, charge, MovementState.FAILED, failure=answer.decline.code if answer.decline else answer.status)
        else:
            charge.kind = kind
            self._settle(change, charge, MovementState.SUCCEEDED)
        if answer.status == ProviderStatus.DECLINED:
            self._decline(answer.decline)
        if answer.status == ProviderStatus.VOIDED:
            self._find(change, MovementKind.VOID, undo_key, self.held_minor)
        if answer.status == ProviderStatus.REFUNDED:
            self._find(change, MovementKind.REFUND, undo_key, self.captured_minor, answer.movement)
        return self._concluded(change, answer)

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
            rest = self.held_minor - _sum(row for row in others if row.kind == MovementKind.CAPTURE)
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
        if self.status == PaymentStatus.INITIATED:
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
            self._find(change, MovementKind.CAPTURE, command.key, taken - self.captured_minor)
        waiting = {row.kind: row for row in movements if row.is_unanswered and _is_undo(row, command.key)}
        self._settle_as_found(change, waiting.pop(MovementKind.VOID, None), MovementKind.VOID, command, self.held_minor)
        refund = waiting.pop(MovementKind.REFUND, None)
        if answer.movement and answer.movement.state == ProviderMovementState.FAILED and refund:
            self._settle(change, refund, MovementState.FAILED, answer.movement)
        else:
            minor = back - self.refunded_minor
            self._settle_as_found(change, refund, MovementKind.REFUND, command, minor, answer.movement)
        if answer.status == ProviderStatus.DECLINED:
            self._decline(answer.decline)
        return self._concluded(change, answer)

    # ── Replies ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def taken(self) -> contract.Payment:
        """The reply to whoever wanted the money. Refusals: payment_declined, payment_reversed."""
        if self.status == PaymentStatus.DECLINED:
            raise Refusal(ErrorCode.PAYMENT_DECLINED, self.decline_reason or "", extra={"decline_code": self.decline_code})
        if self.is_final:
            raise _reversed()
        return self.reply()

    def captured_by(self, command: CapturePayment, movement: Movement) -> contract.Payment:
        """The reply to who wanted so much. Refusals: payment_declined, payment_reversed, not_held."""
        if movement.state == MovementState.FAILED:
            self.taken()
            raise self._not_held(movement.failure)
        return self.taken() if command.amount is None else self.reply(movement)

    def refunded_by(self, movement: Movement) -> contract.Payment:
        """The reply to who wanted so much back. Refusal: refund_failed."""
        if movement.state == MovementState.FAILED:
            detail = f"The payment provider does not give {movement.amount} back; it is still owed to the customer."
            raise Refusal(ErrorCode.REFUND_FAILED, detail, extra={"failure": movement.failure})
        return self.reply(movement)

    def reply(self, movement: Movement | None = None) -> contract.Payment:
        """What it came to, and what a movement did."""
        return contract.Payment(
            payment_id=self.payment_id,
            order_id=self.order_id,
            status=self.status,
            amount=self.amount,
            refunded=self.refunded,
            provider_id=self.provider_id,
            captured=self.captured,
            moved=movement.amount if movement else None,
            held_until=self.held_until if self.held_minor else None,
            review=tuple(self.review),
        )

    # ── How an answer changes it ─────────────────────────────────────────────────────────────────────────────────────────────

    def _movement(self, kind: MovementKind, key: str, minor: int, purpose: str | None, *, is_last: bool = False) -> Movement:
        return Movement(
            payment_id=self.payment_id,
            kind=kind,
            key=key,
            amount_minor=minor,
            currency=self.currency,
            purpose=purpose,
            is_last=is_last,
        )

    def _find(self, change: Change, kind: MovementKind, key: str, minor: int, said: ProviderMovement | None = None) -> None:
        """Record what moved although nobody had written it down."""
        movement = self._movement(kind, key, minor, None)
        change.found.append(movement)
        if kind == MovementKind.REFUND and said is not None:
            self._settle_refund(change, movement, said)
        else:
            self._settle(change, movement, MovementState.SUCCEEDED)

    def _settle_as_found(
        self,
        change: Change,
        movement: Movement | None,
        kind: MovementKind,
        command: RefundPayment,
        minor: int,
        said: ProviderMovement | None = None,
    ) -> None:
        """Settle what an undo was to move with what it came to, which may be more, less, or nothing at all."""
        if movement is None:
            if minor > 0:
                self._find(change, kind, command.key, minor, said)
        elif minor <= 0:
            self._settle(change, movement, MovementState.FAILED, failure="nothing_left")
        else:
            movement.amount_minor = minor
            if said is None:
                self._settle(change, movement, MovementState.SUCCEEDED)
            else:
                self._settle_refund(change, movement, said)

    def _settle_refund(self, change: Change, movement: Movement, said: ProviderMovement) -> None:
        if said.state == ProviderMovementState.PENDING:
            if movement.is_unanswered:
                self._settle(change, movement, MovementState.PENDING, said)
            return
        succeeded = said.state == ProviderMovementState.SUCCEEDED
        self._settle(change, movement, MovementState.SUCCEEDED if succeeded else MovementState.FAILED, said)

    def _settle(
        self,
        change: Change,
        movement: Movement,
        state: MovementState,
        said: ProviderMovement | None = None,
        *,
        failure: str | None = None,
    ) -> None:
        """Bring a movement to a state (PENDING: accepted, under way), and the sums, the ledger and the events with it."""
        if movement.state == state != MovementState.PENDING:
            return
        before, counted = movement.balances(), movement.counts
        movement.state = state
        if state == MovementState.PENDING:
            movement.accepted_at = utc_now()
        else:
            movement.settled_at = utc_now()
        if said is not None:
            movement.provider_id, failure = said.provider_id or movement.provider_id, said.failure
        if state == MovementState.FAILED:
            movement.failure = (failure or "unknown")[:100]
        change.entries += posted(movement.movement_id, movement.currency, before, movement.balances())
        if movement.counts == counted:
            return
        minor = movement.amount_minor if movement.counts else -movement.amount_minor
        if movement.kind == MovementKind.AUTHORIZE or movement.is_of(MovementKind.CAPTURE, CHARGE):
            self.authorized_minor += minor
        if movement.kind == MovementKind.CAPTURE:
            self.captured_minor += minor
        elif movement.kind == MovementKind.REFUND:
            self.refunded_minor += minor
        elif movement.kind == MovementKind.VOID:
            self.voided_minor += minor
        if movement.counts:
            change.moved.append(movement)

    def _decline(self, decline: Decline | None) -> None:
        self.decline_code = decline.code[:100] if decline else "card_declined"
        self.decline_reason = (decline.reason[:500] if decline else "") or "The bank declined the payment."

    def _concluded(self, change: Change, answer: ProviderCharge | None = None) -> Change:
        """The status that follows from the sums, and the events. Every capture is told, also one that was already refunded when
        we heard of it: sums over the events stay right."""
        before, self.status = self.status, self._status()
        self.updated_at = utc_now()
        if answer is not None:
            self.provider_id = answer.provider_id or self.provider_id
            self.held_until = answer.held_until or self.held_until
        for movement in change.moved:
            # What has no name of its own at the provider is found by the charge's.
            movement.provider_id = movement.provider_id or self.provider_id
            told = {
                "order_id": self.order_id,
                "payment_id": self.payment_id,
                "amount": movement.amount,
                "attempt": self.attempt,
                "movement_key": movement.key,
            }
            if movement.kind == MovementKind.CAPTURE:
                change.events.append(PaymentProcessed(**told))
            elif movement.kind == MovementKind.REFUND:
                change.events.append(RefundProcessed(**told))
        if self.status != before:
            nothing = Money.from_minor(0, self.currency)
            if self.status == PaymentStatus.VOIDED:
                change.events.append(
                    RefundProcessed(order_id=self.order_id, payment_id=self.payment_id, amount=nothing, attempt=self.attempt)
                )
            elif self.status == PaymentStatus.DECLINED:
                change.events.append(
                    PaymentFailed(
                        order_id=self.order_id,
                        payment_id=self.payment_id,
                        amount=self.amount,
                        code=ErrorCode.PAYMENT_DECLINED,
                        reason=self.decline_reason or "",
                    )
                )
        return change

    def _status(self) -> PaymentStatus:
        """By the sums: what is kept, what is held, what all went back."""
        if self.captured_minor > self.refunded_minor:
            return PaymentStatus.CAPTURED
        if self.held_minor:
            return PaymentStatus.AUTHORIZED
        if self.captured_minor:
            return PaymentStatus.REFUNDED
        return PaymentStatus.DECLINED if self.decline_code else PaymentStatus.VOIDED

    def _require_plausible(self, answer: ProviderCharge) -> None:
        impossible = (
            answer.status in _NEVER_AFTER_A_CAPTURE
            if self.captured_minor
            else (answer.status == ProviderStatus.REVERSED and self.status != PaymentStatus.INITIATED)
        )
        if impossible or (answer.amount is not None and answer.amount != self.amount):
            raise LedgerMismatch(
                f"{self.provider_reference}: {self.status} of {self.amount} here, {answer.status} of {answer.amount} there"
            )

    def _of_same_currency(self, amount: Money) -> int:
        """In minor units. Refusals: validation_failed, conflict."""
        if amount.currency != self.currency:
            raise Refusal(ErrorCode.CONFLICT, f"The payment is in {self.currency}, and not in {amount.currency}.")
        return _payable(amount)

    def _not_held(self, failure: str | None = None) -> Refusal:
        detail = f"{self.held} are still held under this attempt to pay; more than that must be charged as another attempt."
        return Refusal(ErrorCode.NOT_HELD, detail, extra={"held": self.held.model_dump(mode="json"), "failure": failure})


def _reversed() -> Refusal:
    return Refusal(ErrorCode.PAYMENT_REVERSED, "The payment was reversed; nothing is or will be taken under it.")


def _payable(amount: Money) -> int:
    """In minor units. Refusal: validation_failed."""
    minor = amount.minor
    if minor < 1 or Money.from_minor(minor, amount.currency) != amount:
        raise Refusal(ErrorCode.VALIDATION_FAILED, "The amount must be positive, in whole units of its currency's smallest coin.")
    return minor


def _under(command: CapturePayment | RefundPayment, kind: MovementKind, movements: Sequence[Movement]) -> Movement | None:
    """What was asked for before under the command's key. Refusal: conflict, if that was another amount."""
    found = next((row for row in movements if row.is_of(kind, command.key)), None)
    if found is not None and command.amount is not None and command.amount != found.amount:
        raise Refusal(
            ErrorCode.CONFLICT, f"Under the key {command.key}, {found.amount} were asked for, and not {command.amount}."
        )
    return found


def _is_undo(movement: Movement, key: str) -> bool:
    return movement.key == key or movement.key.startswith(f"{key}:")


def _sum(movements: Iterable[Movement]) -> int:
    return sum(row.amount_minor for row in movements)

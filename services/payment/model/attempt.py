"""An attempt to pay: its sums, how each answer of the provider changes them, and the events that tell of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, PaymentFailed, PaymentInitiated, PaymentProcessed, RefundFailed, RefundOwed, RefundProcessed
from contracts.ids import payment_reference
from contracts.money import Money
from contracts.payments import (
    CapturePayment,
    MovementKind,
    MovementState,
    PaymentAction,
    PaymentStatus,
    ProcessPayment,
    RefundPayment,
)
from services.payment.model.ledger import LedgerEntry, posted
from services.payment.model.movements import CHARGE, Movement, base_of
from services.payment.model.tables import Table
from services.payment.ports import (
    ChargeRequest,
    Decline,
    Opened,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderStatus,
)

UNDECIDED = frozenset({PaymentStatus.INITIATED, PaymentStatus.ACTION_REQUIRED})
"""It is not known yet whether there will be money."""
FINAL = frozenset({PaymentStatus.DECLINED, PaymentStatus.VOIDED, PaymentStatus.REFUNDED})
_KIND_OF_CHARGE = {
    ProviderStatus.AUTHORIZED: MovementKind.AUTHORIZE,
    ProviderStatus.VOIDED: MovementKind.AUTHORIZE,
    ProviderStatus.CAPTURED: MovementKind.CAPTURE,
    ProviderStatus.REFUNDED: MovementKind.CAPTURE,
}
"""What a charge has moved at first, by where the provider says it is. Of others nothing."""
NOTHING_LEFT = "nothing_left"
"""Why a refund failed that found nothing to give back: nothing is owed."""
_BEFORE_ANY_MONEY = frozenset({ProviderStatus.OPEN, ProviderStatus.ACTION_REQUIRED})
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
    failed: list[Movement] = field(default_factory=list)
    """Refunds that failed: they are owed."""
    entries: list[LedgerEntry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Attempt(Table, Aggregate):
    """State and sums of one attempt to pay one order. Amounts in minor units (cents), as the provider counts."""

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
    """The provider's name for the charge: written down before a bank is asked."""
    action: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """What the customer has to do, of one that is ACTION_REQUIRED: a `PaymentAction`."""
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
    def asked(cls, command: ProcessPayment, opened: Opened) -> Self:
        """A payment whose outcome is not known yet. Refusal: validation_failed, for an amount that cannot be paid."""
        return cls(
            order_id=command.order_id,
            attempt=command.attempt,
            customer_id=command.customer_id,
            card_fingerprint=opened.fingerprint,
            address_fingerprint=command.ship_to_fingerprint,
            amount_minor=payable(command.amount),
            currency=command.amount.currency,
            status=PaymentStatus.INITIATED,
            provider_reference=payment_reference(command.order_id, command.attempt),
            provider_id=opened.provider_id,
        )

    @classmethod
    def tombstone(cls, command: RefundPayment) -> Self:
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
    def at_provider(self) -> str:
        """The provider's name for the charge."""
        assert self.provider_id is not None, "asked for before the charge was opened"
        return self.provider_id

    @property
    def is_undecided(self) -> bool:
        """Whether it is not known yet if there will be money."""
        return self.status in UNDECIDED

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
        return replace(charge_request(command), capture=command.capture and not self.review)

    def settle_charge(self, charge: Movement, answer: ProviderCharge, *, undo_key: str = "undo") -> Change:
        """Learn what the provider says of a charge. What comes late changes nothing. Raises LedgerMismatch."""
        change = Change()
        if not self.is_undecided:
            return change
        self._require_plausible(answer)
        if answer.status == ProviderStatus.OPEN:
            raise Unavailable("The provider has not asked the bank yet.")
        if answer.status == ProviderStatus.ACTION_REQUIRED:
            self.status, self.updated_at = PaymentStatus.ACTION_REQUIRED, utc_now()
            self.action = answer.action.model_dump(mode="json") if answer.action else None
            return change
        if answer.review:
            self.review = [*self.review, answer.review]
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

    # ── Replies ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def charged(self) -> contract.Payment:
        """The reply to whoever wanted it charged. Refusals: as `taken`.

        What somebody has to look at first is told as held, though it may be taken: by that alone the sagas of a build before 1.0
        know that they have to wait. Once they may go on they ask for the money, and are told that it is taken. They make one
        attempt; sagas that make more know `review`."""
        reply = self.taken()
        is_told_as_held = self.review and self.attempt == 1 and reply.status == PaymentStatus.CAPTURED
        return reply.model_copy(update={"status": PaymentStatus.AUTHORIZED}) if is_told_as_held else reply

    def taken(self) -> contract.Payment:
        """The reply to whoever wanted the money. Refusals: payment_declined, payment_reversed."""
        if self.status == PaymentStatus.DECLINED:
            raise Refusal(ErrorCode.PAYMENT_DECLINED, self.decline_reason or "", extra={"decline_code": self.decline_code})
        if self.is_final:
            raise reversed_before()
        return self.reply()

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
            action=PaymentAction.model_validate(self.action) if self.action else None,
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

    def _find(
        self,
        change: Change,
        kind: MovementKind,
        key: str,
        minor: int,
        said: ProviderMovement | None = None,
        purpose: str | None = None,
    ) -> None:
        """Record what moved although nobody had written it down."""
        movement = self._movement(kind, key, minor, purpose)
        change.found.append(movement)
        if kind == MovementKind.REFUND and said is not None:
            self._settle_refund(change, movement, said)
        else:
            self._settle(change, movement, MovementState.SUCCEEDED)

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
            if movement.kind == MovementKind.REFUND and failure != NOTHING_LEFT:
                change.failed.append(movement)
                change.events += self._refund_failed(movement, was_processed=counted)
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

    def _refund_failed(self, movement: Movement, *, was_processed: bool) -> list[Event]:
        """A refund that is refused at once is told in the reply; one that had been accepted also by an event for the order. What
        is refused at once when it is tried again has been told before, and stays on the list of what is owed."""
        if not was_processed and base_of(movement.key) != movement.key:
            return []
        failed = RefundFailed(
            order_id=self.order_id,
            payment_id=self.payment_id,
            amount=movement.amount,
            attempt=self.attempt,
            movement_key=movement.key,
            failure=movement.failure or "",
            was_processed=was_processed,
        )
        if not was_processed or movement.is_made_at_provider:
            return [failed]
        owed = RefundOwed(
            order_id=self.order_id,
            attempt=self.attempt,
            movement_key=base_of(movement.key),
            amount=movement.amount,
            failure=failed.failure,
        )
        return [failed, owed]

    def _decline(self, decline: Decline | None) -> None:
        self.decline_code = decline.code[:100] if decline else "card_declined"
        self.decline_reason = (decline.reason[:500] if decline else "") or "The bank declined the payment."

    def _concluded(self, change: Change, answer: ProviderCharge | None = None) -> Change:
        """The status that follows from the sums, and the events. Every capture is told, also one that was already refunded when
        we heard of it: sums over the events stay right."""
        before, self.status = self.status, self._status()
        self.updated_at, self.action = utc_now(), None
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
            else (answer.status == ProviderStatus.REVERSED and not self.is_undecided)
        )
        never_asked = answer.status in _BEFORE_ANY_MONEY and not self.is_undecided
        if impossible or never_asked or (answer.amount is not None and answer.amount != self.amount):
            raise LedgerMismatch(
                f"{self.provider_reference}: {self.status} of {self.amount} here, {answer.status} of {answer.amount} there"
            )

    def in_its_currency(self, amount: Money) -> int:
        """In minor units. Refusals: validation_failed, conflict."""
        if amount.currency != self.currency:
            raise Refusal(ErrorCode.CONFLICT, f"The payment is in {self.currency}, and not in {amount.currency}.")
        return payable(amount)

    def _not_held(self, failure: str | None = None) -> Refusal:
        detail = f"{self.held} are still held under this attempt to pay; more than that must be charged as another attempt."
        return Refusal(ErrorCode.NOT_HELD, detail, extra={"held": self.held.model_dump(mode="json"), "failure": failure})


def charge_request(command: ProcessPayment) -> ChargeRequest:
    """What the provider is to know of it. Refusal: validation_failed, for an amount that cannot be paid."""
    payable(command.amount)
    return ChargeRequest(
        reference=payment_reference(command.order_id, command.attempt),
        amount=command.amount,
        card_token=command.payment_token,
        capture=command.capture,
        customer_id=command.customer_id,
        return_url=command.return_url,
    )


def reversed_before() -> Refusal:
    return Refusal(ErrorCode.PAYMENT_REVERSED, "The payment was reversed; nothing is or will be taken under it.")


def payable(amount: Money) -> int:
    """In minor units. Refusal: validation_failed."""
    minor = amount.minor
    if minor < 1 or Money.from_minor(minor, amount.currency) != amount:
        raise Refusal(ErrorCode.VALIDATION_FAILED, "The amount must be positive, in whole units of its currency's smallest coin.")
    return minor


def sum_of(movements: Iterable[Movement]) -> int:
    return sum(row.amount_minor for row in movements)


def asked_under(command: CapturePayment | RefundPayment, kind: MovementKind, movements: Iterable[Movement]) -> Movement | None:
    """What was asked for before under the command's key. Refusal: conflict, if that was another amount."""
    found = next(reversed(tries_of(kind, command.key, movements)), None)
    if found is not None and command.amount is not None and command.amount != found.amount:
        raise Refusal(
            ErrorCode.CONFLICT, f"Under the key {command.key}, {found.amount} were asked for, and not {command.amount}."
        )
    return found


def tries_of(kind: MovementKind, key: str, movements: Iterable[Movement]) -> list[Movement]:
    """What was to move under a key, the oldest first: a refund that failed may have been tried again."""
    return sorted((row for row in movements if row.kind == kind and base_of(row.key) == key), key=lambda row: row.movement_id)


def next_key(kind: MovementKind, key: str, movements: Iterable[Movement]) -> str:
    """Of the next try of what moves under a key."""
    tries = len(tries_of(kind, key, movements))
    return f"{key}:{tries + 1}" if tries else key

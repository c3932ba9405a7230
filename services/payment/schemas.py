"""Bodies of payment's public endpoints."""

from datetime import datetime
from typing import TYPE_CHECKING, Self
from uuid import UUID

from pydantic import ConfigDict

from contracts.base import Contract
from contracts.money import Money
from contracts.payments import MovementKind, MovementState, PaymentStatus

if TYPE_CHECKING:
    from services.payment.model import LedgerEntry, Movement, Payment


class PaymentView(Contract):
    """One attempt to pay one order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "payment_id": "01982f6a-0d0e-7c4e-9d56-0a5b1f3c7e21",
                    "order_id": "1c8f7f3a-4b7b-5a53-8d0e-6e6a2c1b9f10",
                    "attempt": 1,
                    "status": "DECLINED",
                    "amount": {"amount": "24.90", "currency": "USD"},
                    "authorized": {"amount": "0.00", "currency": "USD"},
                    "captured": {"amount": "0.00", "currency": "USD"},
                    "refunded": {"amount": "0.00", "currency": "USD"},
                    "held": {"amount": "0.00", "currency": "USD"},
                    "held_until": None,
                    "decline_code": "insufficient_funds",
                    "decline_reason": "The card has insufficient funds.",
                    "provider_reference": "1c8f7f3a-4b7b-5a53-8d0e-6e6a2c1b9f10-1",
                    "provider_id": None,
                    "created_at": "2026-03-01T12:00:00Z",
                    "updated_at": "2026-03-01T12:00:01Z",
                }
            ]
        }
    )

    payment_id: UUID
    order_id: UUID
    attempt: int
    status: PaymentStatus
    amount: Money
    authorized: Money
    """What was ever held, or taken at once."""
    captured: Money
    """All that was taken; what went back of it is `refunded`."""
    refunded: Money
    """What went back, or is on its way."""
    held: Money
    """What is still held and not taken."""
    held_until: datetime | None
    """When the provider lets go of what it holds, if it said so."""
    decline_code: str | None
    decline_reason: str | None
    provider_reference: str
    """Our name for it at the provider, as it stands on the provider's statements."""
    provider_id: str | None
    """The provider's own name for it."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, payment: "Payment") -> Self:
        return cls(
            payment_id=payment.payment_id,
            order_id=payment.order_id,
            attempt=payment.attempt,
            status=payment.status,
            amount=payment.amount,
            authorized=payment.authorized,
            captured=payment.captured,
            refunded=payment.refunded,
            held=payment.held,
            held_until=payment.held_until if payment.held_minor else None,
            decline_code=payment.decline_code,
            decline_reason=payment.decline_reason,
            provider_reference=payment.provider_reference,
            provider_id=payment.provider_id,
            created_at=payment.created_at,
            updated_at=payment.updated_at,
        )


class MovementView(Contract):
    """Some money of an attempt to pay that was to be held, taken, given back or let go."""

    movement_id: UUID
    kind: MovementKind
    key: str
    """Names it within its attempt: however often it was asked for, the money moved once."""
    amount: Money
    state: MovementState
    purpose: str | None
    """Why, in plain words."""
    provider_id: str | None
    """The provider's own name for it, or for the charge if it has none for the movement."""
    failure: str | None
    """The provider's code for why it failed."""
    asked_at: datetime
    accepted_at: datetime | None
    """When the provider said that it is under way, e.g. a refund that takes days."""
    settled_at: datetime | None

    @classmethod
    def of(cls, movement: "Movement") -> Self:
        return cls(
            movement_id=movement.movement_id,
            kind=movement.kind,
            key=movement.key,
            amount=movement.amount,
            state=movement.state,
            purpose=movement.purpose,
            provider_id=movement.provider_id,
            failure=movement.failure,
            asked_at=movement.asked_at,
            accepted_at=movement.accepted_at,
            settled_at=movement.settled_at,
        )


class PaymentDetail(PaymentView):
    """One attempt to pay, with the movements of its money."""

    movements: list[MovementView]
    """Oldest first; the first hundred. `/movements` has all of them."""


class TransactionView(Contract):
    """A movement of a payment's money that succeeded."""

    kind: str
    """`authorize`, `capture`, `refund` or `void`."""
    amount: Money
    provider_id: str | None
    at: datetime

    @classmethod
    def of(cls, movement: "Movement") -> Self:
        at = movement.settled_at or movement.asked_at
        return cls(kind=movement.kind, amount=movement.amount, provider_id=movement.provider_id, at=at)


class LedgerEntryView(Contract):
    """One side of a movement. All entries of a movement add up to zero."""

    entry_id: int
    movement_id: UUID
    payment_id: UUID
    order_id: UUID
    account: str
    """`customer`, `held`, `provider` or `refunding`."""
    amount: Money
    """What the account has more; below zero, less."""
    kind: MovementKind
    key: str
    at: datetime

    @classmethod
    def of(cls, entry: "LedgerEntry", movement: "Movement", order_id: UUID) -> Self:
        assert entry.entry_id is not None
        return cls(
            entry_id=entry.entry_id,
            movement_id=movement.movement_id,
            payment_id=movement.payment_id,
            order_id=order_id,
            account=entry.account,
            amount=entry.amount,
            kind=movement.kind,
            key=movement.key,
            at=entry.at,
        )

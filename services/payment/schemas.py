"""Bodies of payment's public endpoints."""

from datetime import datetime
from typing import TYPE_CHECKING, Self
from uuid import UUID

from pydantic import ConfigDict

from contracts.base import Contract
from contracts.money import Money
from contracts.payments import PaymentStatus

if TYPE_CHECKING:
    from services.payment.model import Payment, Transaction


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
                    "refunded": {"amount": "0.00", "currency": "USD"},
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
    refunded: Money
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
            refunded=payment.refunded,
            decline_code=payment.decline_code,
            decline_reason=payment.decline_reason,
            provider_reference=payment.provider_reference,
            provider_id=payment.provider_id,
            created_at=payment.created_at,
            updated_at=payment.updated_at,
        )


class TransactionView(Contract):
    """One movement of a payment's money."""

    kind: str
    """`authorize`, `capture`, `refund` or `void`."""
    amount: Money
    provider_id: str | None
    at: datetime

    @classmethod
    def of(cls, transaction: "Transaction") -> Self:
        return cls(kind=transaction.kind, amount=transaction.amount, provider_id=transaction.provider_id, at=transaction.at)

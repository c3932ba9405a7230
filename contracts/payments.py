"""Commands of the saga to payment, and its replies."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from contracts.base import Command, Contract, Told
from contracts.money import Currency, Money
from contracts.orders import PaymentToken

Attempt = Annotated[int, Field(ge=1, le=20)]


class PaymentStatus(StrEnum):
    """INITIATED: asked, answer unknown. AUTHORIZED: held at the bank, not taken. VOIDED: nothing was or will be taken."""

    INITIATED = "INITIATED"
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    VOIDED = "VOIDED"
    REFUNDED = "REFUNDED"


class ProcessPayment(Command):
    """Take the money. Only hold it with `capture` false, or if customer, card or address buy too much in a short time.
    Idempotent by order and attempt.

    Refusals: payment_declined, payment_reversed (the undo came first). An unknown outcome is a fault, and is asked again under
    the same reference."""

    order_id: UUID
    attempt: Attempt = 1
    customer_id: UUID
    amount: Money
    payment_token: PaymentToken
    ship_to_fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Of the address that the order goes to."""
    capture: bool = True


class CapturePayment(Command):
    """Take the money that is held. Refusals: payment_declined, payment_reversed."""

    order_id: UUID
    attempt: Attempt = 1


class RefundPayment(Command):
    """Undo of pay: refund what was captured, void what is held, forbid what has not arrived yet."""

    order_id: UUID
    attempt: Attempt = 1
    currency: Currency = "USD"
    """Of the order, for one of which no payment has arrived yet."""
    reason: Told


class Payment(Contract):
    """Reply to each of the commands above."""

    payment_id: UUID
    order_id: UUID
    status: PaymentStatus
    amount: Money
    refunded: Money
    provider_id: str | None = None
    review: tuple[str, ...] = ()
    """Why it is only held although it should have been taken, in plain words for operators; none if the provider held it."""

"""Commands of the saga to payment, and its replies."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from contracts.base import Command, Contract, Timestamp, Told
from contracts.money import Currency, Money
from contracts.orders import PaymentToken, ReturnUrl
from contracts.payment_actions import ActionKind as ActionKind
from contracts.payment_actions import PaymentAction as PaymentAction
from contracts.payment_actions import TransferDetails as TransferDetails

Attempt = Annotated[int, Field(ge=1, le=20)]


class PaymentStatus(StrEnum):
    """INITIATED: asked, answer unknown. ACTION_REQUIRED: the customer has to do something first, e.g. confirm at the bank.
    AUTHORIZED: held at the bank, not taken. VOIDED: nothing was or will be taken."""

    INITIATED = "INITIATED"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    VOIDED = "VOIDED"
    REFUNDED = "REFUNDED"


class MovementKind(StrEnum):
    """How money moves: held, taken, given back, or let go."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    REFUND = "refund"
    VOID = "void"


class MovementState(StrEnum):
    """PENDING: asked of the provider, answer unknown; or accepted there and still under way, as a refund may be for days."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


MovementKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,59}$")]
"""Names one capture or one refund of an attempt for ever, e.g. `parcel-2-lost`: however often it is asked for, the money moves
once."""


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
    return_url: Annotated[ReturnUrl | None, Field(exclude_if=lambda url: url is None)] = None
    """Where the customer's browser goes to when the bank has asked. None: the customer is not there, and a card that has to be
    confirmed is declined. Left out if there is none: builds before 1.0 refuse what they do not know."""


class CapturePayment(Command):
    """Take the money that is held, or some of it. Idempotent by order, attempt and key.

    A provider that cannot capture in several parts takes the first part and lets go of the rest; the next capture of the attempt
    is then refused as `not_held`, and can be charged as another attempt.

    Refusals: payment_declined, payment_reversed, not_found, not_held (less is held, or nothing any more), conflict (another
    amount under this key). Fault: others of this attempt are under way, on which it depends."""

    order_id: UUID
    attempt: Attempt = 1
    amount: Money | None = None
    """None: all that is held and not taken."""
    key: MovementKey = "capture"
    is_last: bool = True
    """Whether the rest that is held is let go."""
    purpose: Told | None = None
    """Why, in plain words, e.g. "parcel 2 has left"."""


class RefundPayment(Command):
    """Undo of pay: refund what was captured and not refunded, void what is held, forbid what has not arrived yet. Or, with an
    amount, give back so much of what was captured. Idempotent by order, attempt and key.

    Refusals: refund_failed (the provider does not give it back, e.g. as long as it is disputed; it is still owed); with an amount
    only: not_found, conflict (more than was captured and not refunded, or another amount under this key)."""

    order_id: UUID
    attempt: Attempt = 1
    amount: Money | None = None
    """None: all of it."""
    key: MovementKey = "undo"
    currency: Currency = "USD"
    """Of the order, for one of which no payment has arrived yet."""
    reason: Told


class ReleaseHold(Command):
    """Let go of what is held and not taken, because another attempt holds it now. What was taken stays. Idempotent by order and
    attempt. Refusal: not_found. Fault: others of this attempt are under way, on which it depends."""

    order_id: UUID
    attempt: Attempt
    reason: Told


class GiveBack(Command):
    """Give back so much of what was captured for an order, whichever of its attempts took it: of the newest first, each with a
    refund under this key. Idempotent by order and key.

    Refusals: not_found, conflict (more than was captured and not refunded, or another amount under this key), refund_failed (the
    provider does not give it back, until somebody tries it again; it is still owed)."""

    order_id: UUID
    amount: Money
    key: MovementKey
    reason: Told


class GivenBack(Contract):
    """Reply to GiveBack."""

    order_id: UUID
    amount: Money
    """What this key gave back."""
    refunded: Money
    """All that went back of the order so far."""


class FailedRefund(Contract):
    """Argument of the order workflow's `refund_failed` signal: money that was given back has not arrived, and is still owed."""

    attempt: Attempt
    key: MovementKey
    amount: Money
    failure: Told
    """The provider's word."""


class AnsweredPayment(Contract):
    """An attempt to pay has moved on that waited for its customer: the order's saga may ask again."""

    attempt: Attempt


class Payment(Contract):
    """Reply to each of the commands that name an attempt."""

    payment_id: UUID
    order_id: UUID
    status: PaymentStatus
    amount: Money
    refunded: Money
    provider_id: str | None = None
    captured: Money | None = None
    """All that was taken; what went back of it is `refunded`."""
    moved: Money | None = None
    """What the command's own movement came to, if it had an amount: what was captured, or went back or is going back."""
    held_until: Timestamp | None = None
    """When the provider lets go of what is held, if it says so."""
    review: tuple[str, ...] = ()
    """Why somebody has to look at the order first, in plain words for operators. What velocity found is only held; what the
    provider found may be taken already (`captured`); of an order's first attempt that is told as AUTHORIZED by ProcessPayment."""
    action: Annotated[PaymentAction | None, Field(exclude_if=lambda action: action is None)] = None
    """What the customer has to do, while the status is ACTION_REQUIRED. Only a command with `return_url` is answered so."""

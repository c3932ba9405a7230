"""What payment needs of a payment provider, whoever that is, and of the shop's own bank."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from contracts.money import Money
from contracts.payments import PaymentAction


class ProviderStatus(StrEnum):
    """Where the provider says a charge is. OPEN: it knows of it, and has not asked the bank. ACTION_REQUIRED: the customer has to
    do something first. AUTHORIZED: money is held, some of it may be taken already. CAPTURED: what was wanted
    is taken, and nothing more is held. VOIDED: let go, by us or because the hold expired. REFUNDED: all that was taken went back,
    or is going back. REVERSED: nothing was ever taken under this reference, and nothing will be."""

    OPEN = "open"
    ACTION_REQUIRED = "action_required"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    VOIDED = "voided"
    REFUNDED = "refunded"
    REVERSED = "reversed"


class ProviderMovementState(StrEnum):
    """PENDING: accepted, and under way. SUCCEEDED is not for ever: a refund may still fail days later."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do with what it holds."""

    multi_capture: bool
    """Take it in several captures. Without: the first capture is the last, and the rest is let go."""
    partial_capture: bool
    """Take less than is held."""


@dataclass(frozen=True, slots=True)
class Decline:
    """Why the bank said no: the provider's code, and the same in plain words."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """`reference` is ours: it names one charge for ever."""

    reference: str
    amount: Money
    card_token: str
    capture: bool
    """Whether the money is taken, or only held."""
    customer_id: UUID
    """Ours. Who holds money with a card for long may have to hold it again, in the same customer's name."""
    return_url: str | None = None
    """Where the customer's browser goes when the bank has asked; None: nobody is there to be asked."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A charge that the provider knows of; no bank was asked yet."""

    provider_id: str | None
    """The provider's own name for it; None if it takes none of it, see `decline`."""
    fingerprint: str | None
    """What tells the card from others, and does not give it away: the same for the same card, whatever its token. At most 64
    characters; None for what is paid without a card."""
    decline: Decline | None = None
    """Why the provider will not even ask the bank, e.g. no such card."""


@dataclass(frozen=True, slots=True)
class ProviderMovement:
    """What became of one capture or refund that the provider was asked for."""

    provider_id: str | None
    """The provider's own name for it; None if it did not take it on at all, or has no name for captures."""
    state: ProviderMovementState
    amount: Money
    failure: str | None = None
    """The provider's code for why it failed, e.g. `not_capturable`, `expired_or_canceled_card`, `charge_disputed`."""


@dataclass(frozen=True, slots=True)
class ProviderCharge:
    """What the provider says of one reference."""

    status: ProviderStatus
    provider_id: str | None = None
    amount: Money | None = None
    decline: Decline | None = None
    action: PaymentAction | None = None
    """What the customer has to do, of one that is ACTION_REQUIRED."""
    review: str | None = None
    """Why the provider wants a person to look at it, in plain words, if it does; it may be taken already."""
    captured: Money | None = None
    """All that was taken; what went back of it is `refunded`."""
    refunded: Money | None = None
    """All that went back or is going back; what failed is not in it."""
    held_until: datetime | None = None
    """When the provider lets go of what it holds, if it holds something and says so."""
    movement: ProviderMovement | None = None
    """What the call itself moved: the capture under its key, FAILED if nothing is held any more; or the refund that `reverse`
    made of what was taken, None if there was nothing to give back."""


class NewsKind(StrEnum):
    """What a provider tells of without being asked."""

    CHARGE = "charge"
    """A charge is in another state: `state` is a `ProviderStatus`."""
    REFUND = "refund"
    """A refund, whoever made it: `state` is a `ProviderMovementState`."""
    DISPUTE = "dispute"
    """The customer's bank wants the money back: `state` is a `DisputeState`."""


class DisputeState(StrEnum):
    """OPEN: the bank has taken `amount` from us until it is decided. WON: it came back to us. LOST: it did not."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class ProviderNews:
    """What a webhook tells. News may come twice, late, in any order, and before the answer to the call that caused it."""

    id: str
    """Of this piece of news; repeated news has the same."""
    kind: NewsKind
    reference: str | None
    """Our reference of the charge, as we asked for it; None for a charge that was not made by us."""
    charge_id: str
    """The provider's own name for the charge."""
    movement_id: str | None
    """The provider's own name for the refund or the dispute; None where it is about the charge itself."""
    key: str | None
    """Of the refund, as we asked for it; None if it was made at the provider, e.g. in its dashboard."""
    amount: Money
    """Of the refund or the dispute; of the charge: what is taken of it."""
    state: str
    occurred_at: datetime
    """When the state came to be. The later of two counts, whichever is told first."""
    reason: str | None = None
    """The provider's code for why a refund failed, or why the customer disputes the charge."""


class PaymentProvider(Protocol):
    """Each call gives a definite answer or raises `Unavailable`: then it may or may not have been done, and may be repeated.

    A charge is opened first, which moves no money; what the provider calls it is written down before a bank is asked. A
    movement's `key` names it for ever within its charge: however often it is sent, the money moves once.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    async def open(self, request: ChargeRequest) -> Opened:
        """Make a charge known, or find the one of this reference again. Asks no bank, moves no money."""

    async def charge(self, provider_id: str, request: ChargeRequest) -> ProviderCharge:
        """Take the money, or hold it. ACTION_REQUIRED only if there is a `return_url`, until the customer has acted."""

    async def capture(self, provider_id: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        """Take some of what is held, and let go of the rest if it is the last: only if it is not, the answer is AUTHORIZED.
        Whether it was taken says the answer's `movement`; if it was, the status may still be any, e.g. REFUNDED meanwhile."""

    async def refund(self, provider_id: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        """Give back some of what was taken. FAILED is a definite no, for ever under this key."""

    async def reverse(self, provider_id: str, reason: str) -> ProviderCharge:
        """Refund what was taken and did not go back, void what is held, or forbid the charge if no bank was asked yet. Never
        OPEN, ACTION_REQUIRED or AUTHORIZED, and CAPTURED only with a `movement` that FAILED: the refund was refused, e.g. while
        a dispute is open."""

    async def release(self, provider_id: str, reason: str) -> ProviderCharge:
        """Let go of what is held and not taken; what was taken stays. Never AUTHORIZED. However often it is asked for, and if the
        hold had ended before, e.g. with the last capture, the answer is where the charge is then."""

    async def look(self, provider_id: str) -> ProviderCharge:
        """Where a charge is. Moves no money."""

    def news(self, body: bytes) -> ProviderNews | None:
        """What a webhook tells whose signature is genuine; None if that concerns nothing of ours. Raises NotUnderstood."""


# ── The bank with the shop's account ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Booking:
    """One entry that the bank has booked on the shop's account."""

    id: str
    """The bank's own reference: whatever statement tells of the entry has the same. At most 100 characters."""
    amount: Money
    is_credit: bool
    booked_at: datetime
    reference: str | None = None
    """The creditor reference that the payer stated, if it was stated as such."""
    words: str | None = None
    """What else the payer wrote; at most 500 characters."""
    name: str | None = None
    """Of the payer; at most 140 characters."""
    iban: str | None = None
    end_to_end_id: str | None = None
    """Of a debit, or of what came back: how the order of ours was named."""
    came_back: str | None = None
    """The bank's code for why an order of ours came back, if it is that."""


@dataclass(frozen=True, slots=True)
class CreditTransfer:
    """What the bank is asked to pay. `end_to_end_id` names it for ever: it is paid once, however often it is sent."""

    end_to_end_id: str
    amount: Money
    name: str
    iban: str
    words: str
    """What the customer reads."""


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What the bank says of an order."""

    end_to_end_id: str
    state: ProviderMovementState
    reason: str | None = None
    """The bank's code, of one that FAILED."""


@dataclass(frozen=True, slots=True)
class Bookings:
    """What the bank tells of the account."""

    document_id: str
    entries: Sequence[Booking]


@dataclass(frozen=True, slots=True)
class Reports:
    """What the bank tells of orders."""

    document_id: str
    entries: Sequence[OrderReport]


class Statements(Protocol):
    """Reads what a bank tells of the shop's account, also what a person has downloaded there."""

    def bookings(self, document: bytes) -> Sequence[Booking]:
        """The entries that are booked. Raises NotUnderstood, if it is no statement, or of another account."""


class Bank(Protocol):
    """Each call raises `Unavailable`. A document comes again until its receipt is acknowledged."""

    async def next_bookings(self) -> Bookings | None:
        """The oldest document about the account whose receipt was not acknowledged. Raises NotUnderstood."""

    async def next_reports(self) -> Reports | None:
        """The oldest document about orders whose receipt was not acknowledged. Raises NotUnderstood."""

    async def acknowledge(self, document: Bookings | Reports) -> None:
        """Its effects are written down: it need not come again."""

    async def send(self, orders: Sequence[CreditTransfer]) -> None:
        """Ask for these. What becomes of each is told later."""

"""Bank transfers: what a customer is asked to transfer, what came in at the bank, and what the bank is asked to pay.

A transfer is taken when enough has come in, and not in parts. Whatever comes beside that is kept apart, and owed to whoever sent
it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.money import Money
from contracts.payments import ActionKind, PaymentAction, TransferDetails
from services.payment.model.tables import Table
from services.payment.ports import (
    Booking,
    ChargeRequest,
    CreditTransfer,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderStatus,
)

REVERSAL = "reversal"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no letter is taken for a digit."""
_DRAWN = 16
"""Characters of a reference that are drawn from the charge's own; 80 bits."""
_LENGTH = 4 + _DRAWN
_FORM = re.compile(r"RF[0-9]{2}[A-Z0-9]{1,21}")


# ── References ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def creditor_reference(charge: str) -> str:
    """The reference (ISO 11649) under which a charge is paid by transfer: the same for the same charge."""
    drawn = int.from_bytes(sha256(charge.encode()).digest()[:10])
    body = "".join(_ALPHABET[drawn >> 5 * place & 31] for place in range(_DRAWN))
    return f"RF{98 - _remainder(body + 'RF00'):02}{body}"


def is_creditor_reference(reference: str) -> bool:
    """Whether it is in that form, and its check digits are right."""
    return bool(_FORM.fullmatch(reference)) and _remainder(reference[4:] + reference[:4]) == 1


def reference_in(words: str) -> str | None:
    """A reference of ours within what somebody wrote, however it is spaced; None if there is none."""
    packed = re.sub(r"[^A-Z0-9]", "", words.upper())
    found = (packed[at.start() : at.start() + _LENGTH] for at in re.finditer(r"(?=RF[0-9]{2})", packed))
    return next((reference for reference in found if len(reference) == _LENGTH and is_creditor_reference(reference)), None)


def _remainder(packed: str) -> int:
    return int("".join(str(int(character, 36)) for character in packed)) % 97


# ── What is asked of a customer ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TransferAccount:
    """The shop's account, to which customers transfer."""

    recipient: str
    iban: str


class Transfer(Table, Aggregate, table=True):
    """One charge that is paid by transfer. Amounts in minor units."""

    __tablename__ = "transfers"
    __table_args__ = (
        CheckConstraint("0 <= refunded_minor and refunded_minor <= received_minor", name="sums_within_bounds"),
        CheckConstraint("received_minor <= amount_minor", name="takes_what_was_asked"),
        Index("ix_transfers_untold", "reference", postgresql_where=text("received_minor <> told_minor")),
    )

    reference: str = Field(max_length=25, primary_key=True)
    """To be stated by the customer; the charge's name at this provider."""
    charge: str = Field(max_length=60, unique=True)
    """Our reference of it."""
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    recipient: str = Field(max_length=70)
    iban: str = Field(max_length=34)
    """The account that its customer was told."""
    received_minor: int = Field(default=0, sa_type=BigInteger)
    """What has come in for it; what is above the amount, or too late, is not in it."""
    told_minor: int = Field(default=0, sa_type=BigInteger)
    """How much of that its payment knows."""
    refunded_minor: int = Field(default=0, sa_type=BigInteger)
    """What goes back of it, or went."""
    captured_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When enough was there."""
    reversed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Since when nothing more is taken under it."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @classmethod
    def asked(cls, request: ChargeRequest, account: TransferAccount) -> "Transfer":
        return cls(
            reference=creditor_reference(request.reference),
            charge=request.reference,
            amount_minor=request.amount.minor,
            currency=request.amount.currency,
            recipient=account.recipient,
            iban=account.iban,
        )

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)

    @property
    def received(self) -> Money:
        return Money.from_minor(self.received_minor, self.currency)

    @property
    def left_minor(self) -> int:
        """What was taken and does not go back."""
        return self.received_minor - self.refunded_minor if self.captured_at else 0

    @property
    def status(self) -> ProviderStatus:
        if self.captured_at:
            return ProviderStatus.REFUNDED if self.refunded_minor == self.received_minor else ProviderStatus.CAPTURED
        return ProviderStatus.REVERSED if self.reversed_at else ProviderStatus.ACTION_REQUIRED

    def take(self, minor: int) -> int:
        """How much of what has come in is for it; the rest is owed to whoever sent it."""
        if self.captured_at or self.reversed_at:
            return 0
        taken = min(minor, self.amount_minor - self.received_minor)
        self.received_minor += taken
        if self.received_minor == self.amount_minor:
            self.captured_at = utc_now()
        return taken

    def why_not_taken(self) -> str:
        """Why some of what has come in is not for it."""
        return "too_late" if self.reversed_at else "too_much"

    def forbid(self) -> bool:
        """Take nothing more under it, unless all was there. Returns whether something had come that is owed now."""
        if self.captured_at or self.reversed_at:
            return False
        self.reversed_at = utc_now()
        return self.received_minor > 0

    def told(self, movement: ProviderMovement | None = None) -> ProviderCharge:
        """Where it is, in the words of the port."""
        status = self.status
        taken = self.received_minor if self.captured_at else 0
        return ProviderCharge(
            status,
            self.reference,
            self.amount,
            action=self._action() if status == ProviderStatus.ACTION_REQUIRED else None,
            captured=Money.from_minor(taken, self.currency),
            refunded=Money.from_minor(self.refunded_minor, self.currency),
            movement=movement,
        )

    def _action(self) -> PaymentAction:
        received = self.received if self.received_minor else None
        details = TransferDetails(recipient=self.recipient, iban=self.iban, reference=self.reference, received=received)
        return PaymentAction(kind=ActionKind.TRANSFER, transfer=details)


# ── What the bank is asked to pay ────────────────────────────────────────────────────────────────────────────────────────────


class OrderState(StrEnum):
    """TO_SEND: the bank may not know of it. SENT: it has it. SUCCEEDED may still become FAILED: it came back."""

    TO_SEND = "TO_SEND"
    SENT = "SENT"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


_MOVEMENT: Mapping[OrderState, ProviderMovementState] = {
    OrderState.TO_SEND: ProviderMovementState.PENDING,
    OrderState.SENT: ProviderMovementState.PENDING,
    OrderState.SUCCEEDED: ProviderMovementState.SUCCEEDED,
    OrderState.FAILED: ProviderMovementState.FAILED,
}


class BankOrder(Table, Aggregate, table=True):
    """An order to the bank to give back some of a transfer."""

    __tablename__ = "bank_orders"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="moves_something"),
        Index("ix_bank_orders_reference", "reference"),
        Index("ix_bank_orders_to_send", "created_at", postgresql_where=text("state = 'TO_SEND'")),
        Index(
            "ix_bank_orders_untold", "end_to_end_id", postgresql_where=text("state <> told and state in ('SUCCEEDED', 'FAILED')")
        ),
    )

    end_to_end_id: str = Field(max_length=35, primary_key=True)
    """Made from the movement's key: the bank knows a repeated one by it."""
    reference: str = Field(max_length=25, foreign_key="transfers.reference")
    key: str = Field(max_length=80)
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    name: str | None = Field(default=None, max_length=140)
    """Of whom gets it, as the account's; kept until the bank has the order, as the next is."""
    iban: str | None = Field(default=None, max_length=34)
    state: OrderState = Field(default=OrderState.TO_SEND, sa_column=enum_column(OrderState))
    told: OrderState = Field(default=OrderState.TO_SEND, sa_column=enum_column(OrderState))
    """What its payment knows."""
    failure: str | None = Field(default=None, max_length=100)
    """The bank's code for why it was refused or came back, e.g. `AC04`: the account is closed."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    sent_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    settled_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))

    @classmethod
    def of(cls, transfer: Transfer, key: str, minor: int, payer: "BankEntry | None") -> "BankOrder":
        """To whoever paid. One that cannot be, because less is left or nobody knows the account, has failed from the start."""
        order = cls(
            end_to_end_id=order_name(transfer.reference, key),
            reference=transfer.reference,
            key=key,
            amount_minor=minor,
            currency=transfer.currency,
        )
        if minor > transfer.left_minor:
            order._end(OrderState.FAILED, "amount_too_large")
        elif payer is None or payer.iban is None:
            order._end(OrderState.FAILED, NO_ACCOUNT)
        else:
            order.name, order.iban = payer.name, payer.iban
            transfer.refunded_minor += minor
        order.told = order.state
        return order

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)

    @property
    def movement(self) -> ProviderMovement:
        """What became of it, in the words of the port."""
        return ProviderMovement(self.end_to_end_id, _MOVEMENT[self.state], self.amount, self.failure)

    @property
    def credit(self) -> CreditTransfer:
        """As the bank is asked for it."""
        assert self.iban is not None
        return CreditTransfer(self.end_to_end_id, self.amount, self.name or "-", self.iban, self.reference)

    def sent(self) -> None:
        """The bank has it."""
        if self.state == OrderState.TO_SEND:
            self.state, self.sent_at, self.name, self.iban = OrderState.SENT, utc_now(), None, None

    def settle(self, state: ProviderMovementState, failure: str | None, transfer: Transfer) -> bool:
        """What the bank says of it. It may fail after it succeeded, and then stays so. Returns whether that is new."""
        if state == ProviderMovementState.FAILED and self.state != OrderState.FAILED:
            transfer.refunded_minor -= self.amount_minor
            self._end(OrderState.FAILED, failure or "unknown")
            return True
        if state == ProviderMovementState.SUCCEEDED and self.state in (OrderState.TO_SEND, OrderState.SENT):
            self._end(OrderState.SUCCEEDED, None)
            return True
        return False

    def _end(self, state: OrderState, failure: str | None) -> None:
        self.state, self.failure, self.settled_at = state, failure and failure[:100], utc_now()
        self.name = self.iban = None


NO_ACCOUNT = "no_account"
"""Why an order failed whose payer's account no statement has told."""


def order_name(reference: str, key: str) -> str:
    """The EndToEndId of what goes back of a transfer under a key: for ever the same."""
    return sha256(f"{reference} {key}".encode()).hexdigest()[:32]


# ── What came in ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class BankEntry(Table, table=True):
    """A credit to the shop's account, once, however often statements tell it."""

    __tablename__ = "bank_entries"
    __table_args__ = (
        CheckConstraint("0 <= taken_minor and taken_minor <= amount_minor", name="takes_what_came"),
        Index("ix_bank_entries_reference", "reference"),
    )

    entry_id: str = Field(max_length=100, primary_key=True)
    """The bank's own reference (AcctSvcrRef)."""
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    reference: str | None = Field(default=None, max_length=25)
    """Of the transfer that it is for, if there is one of that name."""
    end_to_end_id: str | None = Field(default=None, max_length=35)
    """Of the order of ours that came back with it, if it is that."""
    taken_minor: int = Field(default=0, sa_type=BigInteger)
    """What of it is for the transfer, or for the order that came back; the rest is on the list of what is owed."""
    name: str | None = Field(default=None, max_length=140)
    iban: str | None = Field(default=None, max_length=34)
    words: str | None = Field(default=None, max_length=500)
    """What the payer wrote."""
    booked_at: datetime = Field(sa_column=time_column())
    seen_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @classmethod
    def of(cls, booking: Booking) -> "BankEntry":
        return cls(
            entry_id=booking.id,
            amount_minor=booking.amount.minor,
            currency=booking.amount.currency,
            name=booking.name,
            iban=booking.iban,
            words=booking.words,
            booked_at=booking.booked_at,
        )

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)

    @property
    def owed_minor(self) -> int:
        """What of it is not ours to keep, or cannot be placed."""
        return self.amount_minor - self.taken_minor

    def forget_person(self) -> None:
        """Blank who paid, once the customer of its order is forgotten."""
        self.name = self.iban = self.words = None

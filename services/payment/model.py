"""Payments and their ledger: what may follow what, and the events that tell of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, NamedTuple
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, CheckConstraint, Column, Index, MetaData, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, new_metadata, time_column
from chassis.inbox import Inbox
from chassis.outbox import Outbox
from chassis.statements import Record
from chassis.store import Aggregate
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, PaymentFailed, PaymentInitiated, PaymentProcessed, RefundProcessed
from contracts.ids import payment_reference
from contracts.money import Money
from contracts.payments import PaymentStatus, ProcessPayment, RefundPayment
from services.payment.ports import ChargeRequest, ProviderCharge, ProviderStatus

metadata = new_metadata()
outbox = Outbox("payment", metadata)
inbox = Inbox(metadata)

FINAL = frozenset({PaymentStatus.DECLINED, PaymentStatus.VOIDED, PaymentStatus.REFUNDED})


class Table(Record):
    metadata: ClassVar[MetaData] = metadata


class TransactionKind(StrEnum):
    """How money moves: held, taken, given back, or let go."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    REFUND = "refund"
    VOID = "void"


_S, _P, _T = PaymentStatus, ProviderStatus, TransactionKind
NEXT: Mapping[tuple[PaymentStatus, ProviderStatus], tuple[PaymentStatus, tuple[TransactionKind, ...]]] = {
    (_S.INITIATED, _P.AUTHORIZED): (_S.AUTHORIZED, (_T.AUTHORIZE,)),
    (_S.INITIATED, _P.CAPTURED): (_S.CAPTURED, (_T.CAPTURE,)),
    (_S.INITIATED, _P.DECLINED): (_S.DECLINED, ()),
    (_S.INITIATED, _P.VOIDED): (_S.VOIDED, (_T.AUTHORIZE, _T.VOID)),
    (_S.INITIATED, _P.REFUNDED): (_S.REFUNDED, (_T.CAPTURE, _T.REFUND)),
    (_S.INITIATED, _P.REVERSED): (_S.VOIDED, ()),
    (_S.AUTHORIZED, _P.CAPTURED): (_S.CAPTURED, (_T.CAPTURE,)),
    (_S.AUTHORIZED, _P.DECLINED): (_S.DECLINED, (_T.VOID,)),
    (_S.AUTHORIZED, _P.VOIDED): (_S.VOIDED, (_T.VOID,)),
    (_S.AUTHORIZED, _P.REFUNDED): (_S.REFUNDED, (_T.CAPTURE, _T.REFUND)),
    (_S.CAPTURED, _P.REFUNDED): (_S.REFUNDED, (_T.REFUND,)),
}
"""What we know and what the provider says → what we know then, and the movements that we had not recorded."""
STALE = frozenset({(_S.AUTHORIZED, _P.AUTHORIZED), (_S.CAPTURED, _P.AUTHORIZED), (_S.CAPTURED, _P.CAPTURED)})
"""Answers that were true when they were given, and tell nothing new."""
NEVER_TAKEN = frozenset({PaymentStatus.DECLINED, PaymentStatus.VOIDED})
"""Payments that do not count as bought."""


class Subject(StrEnum):
    """Whose payments are counted together."""

    CUSTOMER = "customer"
    CARD = "card"
    ADDRESS = "address"


class Recent(NamedTuple):
    """Payments within the window."""

    orders: int
    """At most as many as the velocity allows: it is all the same how many more there are."""
    minor: int
    """Sum of those in the velocity's currency, in minor units."""


@dataclass(frozen=True)
class Velocity:
    """How much one customer, one card, one address may buy within `window` before a person looks at it."""

    window: timedelta
    orders: int
    total: Money

    def reasons(self, amount: Money, recent: Mapping[Subject, Recent]) -> list[str]:
        """Why a payment of `amount` must be looked at, in plain words; none if it need not. `recent`: the payments before it."""
        within = f"within {self.window // timedelta(hours=1)} hours"
        reasons = []
        for subject, before in recent.items():
            if before.orders >= self.orders:
                reasons.append(f"{subject}: more than {self.orders} orders {within}")
            elif amount.currency == self.total.currency and before.minor + amount.minor > self.total.minor:
                reasons.append(f"{subject}: more than {self.total} {within}")
        return reasons


VELOCITY = Velocity(timedelta(hours=24), orders=20, total=Money(amount=Decimal(500)))


class LedgerMismatch(Exception):
    """What the provider says cannot be true of this payment. Nothing is recorded; a person must compare the books."""


class Transaction(Table, table=True):
    """One movement of a payment's money; rows are only ever added. Net of a payment = captures - refunds."""

    __tablename__ = "transactions"
    # The database itself refuses to move the same money twice.
    __table_args__ = (UniqueConstraint("payment_id", "kind"),)

    transaction_id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True))
    payment_id: UUID = Field(foreign_key="payments.payment_id")
    kind: TransactionKind = Field(sa_column=enum_column(TransactionKind))
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    provider_id: str | None = Field(default=None, max_length=200)
    at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)


@dataclass(frozen=True)
class Change:
    """What an answer of the provider brought: to be stored together with the payment."""

    transactions: list[Transaction]
    events: list[Event]


class Payment(Table, Aggregate, table=True):
    """One attempt to pay one order. Amounts in minor units (cents), as the provider counts.

    A payment reversed before it was asked for (the undo overtook the step) is a VOIDED row of zero without a customer: it forbids
    the late charge.
    """

    __tablename__ = "payments"
    __table_args__ = (
        UniqueConstraint("order_id", "attempt"),
        CheckConstraint("0 <= refunded_minor and refunded_minor <= amount_minor", name="refunded_at_most_once"),
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
    refunded_minor: int = Field(default=0, sa_type=BigInteger)
    currency: str = Field(max_length=3)
    status: PaymentStatus = Field(sa_column=enum_column(PaymentStatus))
    provider_reference: str = Field(max_length=60)
    provider_id: str | None = Field(default=None, max_length=200)
    decline_code: str | None = Field(default=None, max_length=100)
    decline_reason: str | None = Field(default=None, max_length=500)
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    updated_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @classmethod
    def asked(cls, command: ProcessPayment, card_fingerprint: str) -> "Payment":
        """A payment whose outcome is not known yet. Refusal: validation_failed, for an amount that cannot be paid."""
        minor, currency = command.amount.minor, command.amount.currency
        if minor < 1 or Money.from_minor(minor, currency) != command.amount:
            raise Refusal(
                ErrorCode.VALIDATION_FAILED, "The amount must be positive, in whole units of its currency's smallest coin."
            )
        return cls(
            order_id=command.order_id,
            attempt=command.attempt,
            customer_id=command.customer_id,
            card_fingerprint=card_fingerprint,
            address_fingerprint=command.ship_to_fingerprint,
            amount_minor=minor,
            currency=currency,
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
    def refunded(self) -> Money:
        """What went back to the customer."""
        return Money.from_minor(self.refunded_minor, self.currency)

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

    def charge_request(self, command: ProcessPayment) -> ChargeRequest:
        """What the provider is asked: the same on every retry."""
        capture = command.capture and not self.review
        return ChargeRequest(self.provider_reference, self.amount, command.payment_token, capture, f"Order {self.order_id}")

    def settle(self, answer: ProviderCharge) -> Change:
        """Learn what the provider says. An answer that comes late changes nothing. Raises LedgerMismatch."""
        if self.is_final or (self.status, answer.status) in STALE:
            return Change([], [])
        following = NEXT.get((self.status, answer.status))
        if following is None or (answer.amount is not None and answer.amount != self.amount):
            raise LedgerMismatch(
                f"{self.provider_reference}: {self.status} of {self.amount} here, {answer.status} of {answer.amount} there"
            )
        self.status, kinds = following
        self.updated_at = utc_now()
        self.provider_id = answer.provider_id or self.provider_id
        if self.status == PaymentStatus.DECLINED:
            self.decline_code = answer.decline.code[:100] if answer.decline else "card_declined"
            self.decline_reason = (answer.decline.reason[:500] if answer.decline else "") or "The bank declined the payment."
        if TransactionKind.REFUND in kinds:
            self.refunded_minor = self.amount_minor
        return Change([self._transaction(kind) for kind in kinds], self._events(kinds))

    def taken(self) -> contract.Payment:
        """The reply to whoever wanted the money. Refusals: payment_declined, payment_reversed."""
        if self.status == PaymentStatus.DECLINED:
            raise Refusal(ErrorCode.PAYMENT_DECLINED, self.decline_reason or "", extra={"decline_code": self.decline_code})
        if self.is_final:
            raise Refusal(ErrorCode.PAYMENT_REVERSED, "The payment was reversed; nothing is or will be taken under it.")
        return self.reply()

    def reply(self) -> contract.Payment:
        return contract.Payment(
            payment_id=self.payment_id,
            order_id=self.order_id,
            status=self.status,
            amount=self.amount,
            refunded=self.refunded,
            provider_id=self.provider_id,
            review=tuple(self.review),
        )

    def _transaction(self, kind: TransactionKind) -> Transaction:
        return Transaction(
            payment_id=self.payment_id,
            kind=kind,
            amount_minor=self.amount_minor,
            currency=self.currency,
            provider_id=self.provider_id,
        )

    def _events(self, kinds: tuple[TransactionKind, ...]) -> list[Event]:
        """Every capture is told, also one that was already refunded when we heard of it: sums over the events stay right."""
        order_id, payment_id = self.order_id, self.payment_id
        events: list[Event] = []
        if TransactionKind.CAPTURE in kinds:
            events.append(PaymentProcessed(order_id=order_id, payment_id=payment_id, amount=self.amount))
        if self.status in (PaymentStatus.VOIDED, PaymentStatus.REFUNDED):
            events.append(RefundProcessed(order_id=order_id, payment_id=payment_id, amount=self.refunded))
        if self.status == PaymentStatus.DECLINED:
            events.append(
                PaymentFailed(
                    order_id=order_id,
                    payment_id=payment_id,
                    amount=self.amount,
                    code=ErrorCode.PAYMENT_DECLINED,
                    reason=self.decline_reason or "",
                )
            )
        return events

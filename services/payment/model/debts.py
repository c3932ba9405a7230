"""What the shop owes, or has and cannot place: each is on a list until it is settled, by a movement or by a person."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.address import FORGOTTEN
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from services.payment.model.disputes import Dispute
from services.payment.model.movements import Movement, base_of
from services.payment.model.news import NewsItem
from services.payment.model.payments import Payment
from services.payment.model.tables import Table
from services.payment.model.transfers import BankEntry, Transfer


class DebtKind(StrEnum):
    """FAILED_REFUND: the customer did not get what was to go back. LOST_DISPUTE: the bank has given the customer money that our
    books still call taken. UNMATCHED: the provider, or the bank, tells of money that belongs to no payment of ours. OVERPAID: a
    customer transferred more than was asked for, or not in time."""

    FAILED_REFUND = "failed_refund"
    LOST_DISPUTE = "lost_dispute"
    UNMATCHED = "unmatched"
    OVERPAID = "overpaid"


class Debt(Table, Aggregate, table=True):
    """One entry of the list: who is owed how much, since when, and why."""

    __tablename__ = "debts"
    __table_args__ = (
        UniqueConstraint("kind", "subject"),
        Index("ix_debts_open", "debt_id", postgresql_where=text("settled_at is null")),
    )

    debt_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    """Rises with time, so that it also sorts the list."""
    kind: DebtKind = Field(sa_column=enum_column(DebtKind))
    subject: str = Field(max_length=200)
    """What it is about: however often that is told, it is one debt."""
    payment_id: UUID | None = Field(default=None, foreign_key="payments.payment_id")
    order_id: UUID | None = None
    key: str | None = Field(default=None, max_length=80)
    """Of the refund that failed, without the number of its tries."""
    reference: str | None = Field(default=None, max_length=200)
    """Of the charge at the provider, as it names it."""
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    why: str = Field(max_length=100)
    """The provider's code: why the refund failed, why the customer disputed, or what is unmatched."""
    since: datetime = Field(default_factory=utc_now, sa_column=time_column())
    settled_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    settled_by: UUID | None = None
    """The person; None: it was settled by a movement, or by what the provider told later."""
    settled_how: str | None = Field(default=None, max_length=500)

    @classmethod
    def of_refund(cls, payment: Payment, movement: Movement) -> "Debt":
        base = base_of(movement.key)
        return cls(
            kind=DebtKind.FAILED_REFUND,
            subject=f"{payment.payment_id} {base}",
            payment_id=payment.payment_id,
            order_id=payment.order_id,
            key=base,
            reference=payment.provider_reference,
            amount_minor=movement.amount_minor,
            currency=movement.currency,
            why=movement.failure or "unknown",
        )

    @classmethod
    def of_dispute(cls, payment: Payment, dispute: Dispute) -> "Debt":
        return cls(
            kind=DebtKind.LOST_DISPUTE,
            subject=dispute.provider_id,
            payment_id=payment.payment_id,
            order_id=payment.order_id,
            reference=payment.provider_reference,
            amount_minor=dispute.amount_minor,
            currency=dispute.currency,
            why=dispute.reason or "unknown",
        )

    @classmethod
    def of_unmatched(cls, item: NewsItem) -> "Debt":
        return cls(
            kind=DebtKind.UNMATCHED,
            subject=item.movement_id or item.charge_id,
            reference=item.reference or item.charge_id,
            amount_minor=item.amount_minor,
            currency=item.currency,
            why=f"{item.kind} {item.told}"[:100],
        )

    @classmethod
    def of_transfer(cls, payment: tuple[UUID, UUID] | None, transfer: Transfer, subject: str, minor: int, why: str) -> "Debt":
        """What came in for a transfer and is not taken. `payment`: its id, and its order's."""
        payment_id, order_id = payment or (None, None)
        return cls(
            kind=DebtKind.OVERPAID,
            subject=subject,
            payment_id=payment_id,
            order_id=order_id,
            reference=transfer.reference,
            amount_minor=minor,
            currency=transfer.currency,
            why=why,
        )

    @classmethod
    def of_entry(cls, entry: BankEntry, stated: str | None, why: str) -> "Debt":
        """What came in and is for nothing that we know. `stated`: the reference that the payer gave."""
        return cls(
            kind=DebtKind.UNMATCHED,
            subject=entry.entry_id,
            reference=stated,
            amount_minor=entry.owed_minor,
            currency=entry.currency,
            why=why,
        )

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)

    def renewed(self, minor: int, why: str) -> None:
        """It is owed again, or still."""
        if self.settled_at is not None:
            self.since = utc_now()
        self.amount_minor, self.why = minor, why
        self.settled_at = self.settled_by = self.settled_how = None

    def settled(self, how: str, by: UUID | None = None) -> None:
        """Nothing more is owed. Settled twice, the first time counts."""
        if self.settled_at is None:
            self.settled_at, self.settled_how, self.settled_by = utc_now(), how[:500], by

    def forget_person(self) -> None:
        """Blank what the person who settled it has written, once its order's customer is forgotten."""
        if self.settled_by is not None:
            self.settled_how = FORGOTTEN

    def settled_by_hand(self, reason: str, by: UUID) -> None:
        """Refusal: conflict, if it was settled otherwise before."""
        if self.settled_at is not None and (self.settled_how, self.settled_by) != (reason, by):
            raise Refusal(ErrorCode.CONFLICT, f"It was settled before: {self.settled_how}.")
        self.settled(reason, by)


def settle_by_disputes(refunds: Sequence[Debt], lost: Sequence[Dispute]) -> None:
    """Of a payment's refunds that failed, those whose money its customer has by a dispute are not owed any more."""
    for dispute in lost:
        how = f"the bank gave it back: dispute {dispute.provider_id}"
        left = dispute.amount_minor - sum(debt.amount_minor for debt in refunds if debt.settled_how == how)
        for debt in refunds:
            if debt.settled_at is None and debt.amount_minor <= left:
                debt.settled(how)
                left -= debt.amount_minor

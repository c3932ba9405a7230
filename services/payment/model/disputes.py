"""Disputes: a customer's bank takes back what was paid, until it has decided whose the money is."""

from datetime import datetime
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.events import DisputeClosed, Event, PaymentDisputed
from contracts.money import Money
from services.payment.model.payments import Payment
from services.payment.model.tables import Table
from services.payment.ports import DisputeState, ProviderNews


class Dispute(Table, Aggregate, table=True):
    """One of them. OPEN until the bank has decided; WON and LOST, by the shop, are its ends."""

    __tablename__ = "disputes"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="is_about_something"),
        Index("ix_disputes_payment_id", "payment_id"),
        Index("ix_disputes_open", "opened_at", postgresql_where=text("closed_at is null")),
    )

    dispute_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    provider_id: str = Field(max_length=200, unique=True)
    """The provider's own name for it."""
    payment_id: UUID = Field(foreign_key="payments.payment_id")
    order_id: UUID
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    reason: str | None = Field(default=None, max_length=100)
    """The provider's code for why the customer disputes the charge."""
    state: DisputeState = Field(default=DisputeState.OPEN, sa_column=enum_column(DisputeState))
    opened_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    closed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))

    @classmethod
    def told(cls, payment: Payment, news: ProviderNews) -> "Dispute":
        assert news.movement_id is not None
        return cls(
            provider_id=news.movement_id,
            payment_id=payment.payment_id,
            order_id=payment.order_id,
            amount_minor=news.amount.minor,
            currency=news.amount.currency,
            reason=news.reason,
            opened_at=news.occurred_at,
        )

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)

    def opened(self) -> Event:
        return PaymentDisputed(
            order_id=self.order_id,
            payment_id=self.payment_id,
            amount=self.amount,
            dispute_id=self.dispute_id,
            reason=self.reason,
        )

    def decided(self, news: ProviderNews) -> list[Event]:
        """What the bank has decided. An end is for ever: what is told after it changes nothing."""
        state = DisputeState(news.state)
        if self.state != DisputeState.OPEN or state == DisputeState.OPEN:
            return []
        self.state, self.closed_at = state, news.occurred_at
        return [
            DisputeClosed(
                order_id=self.order_id,
                payment_id=self.payment_id,
                amount=self.amount,
                dispute_id=self.dispute_id,
                won=state == DisputeState.WON,
            )
        ]

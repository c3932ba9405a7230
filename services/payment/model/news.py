"""What the provider told and could not be applied at once: of a charge whose answer has not come yet, or of none of ours."""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.money import Money
from services.payment.model.tables import Table
from services.payment.ports import NewsKind, ProviderNews

LONGEST_WAIT = timedelta(minutes=1)


class NewsState(StrEnum):
    """WAITING: tried again, and the provider is asked. APPLIED: it has its effect, or needs none. UNMATCHED: it fits nothing that
    we know, and a person has to look."""

    WAITING = "WAITING"
    APPLIED = "APPLIED"
    UNMATCHED = "UNMATCHED"


class NewsItem(Table, Aggregate, table=True):
    """One piece of it."""

    __tablename__ = "provider_news"
    __table_args__ = (Index("ix_provider_news_due", "look_at", postgresql_where=text("state = 'WAITING'")),)

    news_id: str = Field(max_length=200, primary_key=True)
    kind: NewsKind = Field(sa_column=enum_column(NewsKind))
    reference: str | None = Field(default=None, max_length=200)
    charge_id: str = Field(max_length=200)
    movement_id: str | None = Field(default=None, max_length=200)
    key: str | None = Field(default=None, max_length=100)
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    told: str = Field(max_length=40)
    """The state that the provider told."""
    reason: str | None = Field(default=None, max_length=100)
    occurred_at: datetime = Field(sa_column=time_column())
    state: NewsState = Field(default=NewsState.WAITING, sa_column=enum_column(NewsState))
    received_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    look_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    """When it is tried again."""
    looks: int = 0

    @classmethod
    def of(cls, news: ProviderNews) -> "NewsItem":
        return cls(
            news_id=news.id,
            kind=news.kind,
            reference=news.reference,
            charge_id=news.charge_id,
            movement_id=news.movement_id,
            key=news.key,
            amount_minor=news.amount.minor,
            currency=news.amount.currency,
            told=news.state,
            reason=news.reason,
            occurred_at=news.occurred_at,
        )

    @property
    def as_told(self) -> ProviderNews:
        return ProviderNews(
            id=self.news_id,
            kind=self.kind,
            reference=self.reference,
            charge_id=self.charge_id,
            movement_id=self.movement_id,
            key=self.key,
            amount=Money.from_minor(self.amount_minor, self.currency),
            state=self.told,
            occurred_at=self.occurred_at,
            reason=self.reason,
        )

    def taken_up(self) -> None:
        """Somebody tries it now; the new time keeps others, and the next round, from doing so at once."""
        self.looks += 1
        self.look_at = utc_now() + min(timedelta(seconds=2 ** min(self.looks, 10)), LONGEST_WAIT)

    def is_old(self, after: timedelta) -> bool:
        return utc_now() - self.received_at >= after

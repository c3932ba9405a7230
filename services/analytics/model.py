"""What analytics keeps: one row of facts per order, and sums per day, product and customer.

Every sum is a function of the set of events, whatever their order: each fact of an order is taken in once, in the same statement
that adds it to the sums. Sums are per currency, in its minor units; nothing here ever converts money.
"""

from datetime import date, datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Computed, Index, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.database import new_metadata, time_column
from chassis.inbox import Inbox
from chassis.statements import Record
from contracts.orders import OrderStatus

metadata = new_metadata()
inbox = Inbox(metadata)


def amount_column() -> "Column[int]":
    """An amount of money in minor units (cents)."""
    return Column(BigInteger, nullable=False, server_default=text("0"))


class Table(Record):
    metadata: ClassVar[MetaData] = metadata


class OrderFact(Table, table=True):
    """What is known of one order so far. A time is null until its event has come; they may come in any order."""

    __tablename__ = "orders"
    __table_args__ = (
        Index("ix_orders_customer_id", "customer_id", "placed_at"),
        Index("ix_orders_cancelled_at", "cancelled_at", postgresql_where=text("cancelled_at is not null")),
    )

    order_id: UUID = Field(primary_key=True)
    customer_id: UUID
    currency: str = Field(max_length=3)
    total_minor: int = Field(sa_column=amount_column())
    refunded_minor: int = Field(default=0, sa_column=amount_column())
    """What went back when it was cancelled, also of an order that had not been confirmed, or because it or parts of it did not
    arrive or were called off. Known once it has ended."""
    placed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    confirmed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    completed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    cancelled_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    refunded_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When it ended because its parcel did not arrive."""
    cancel_code: str | None = Field(default=None, max_length=40)
    lines: list[dict[str, Any]] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """What was sold: line_id, product_id, name, quantity, revenue_minor. Known once it is confirmed. Those of
    before lines had ids are counted from 1."""
    less: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb"))
    )
    """Units that are not sold any more, each once: line_id, start (the first of them in its line, from 0), units, is_returned
    (by a completed return or claim; else they were cancelled), amended (by which amendment its line was left so, if by any)."""
    amendments: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb"))
    )
    """Each once: number, at, gain (what it changed the total by, in minor units), lines (as `lines` has them)."""

    @property
    def status(self) -> OrderStatus:
        """The furthest that it is known to have come."""
        if self.cancelled_at:
            return OrderStatus.CANCELLED
        if self.refunded_at:
            return OrderStatus.REFUNDED
        if self.completed_at:
            return OrderStatus.COMPLETED
        return OrderStatus.CONFIRMED if self.confirmed_at else OrderStatus.PENDING


class SalesDay(Table, table=True):
    """One UTC day in one currency. Each event counts on the day on which it happened: a refund on the day of the refund."""

    __tablename__ = "sales_by_day"

    currency: str = Field(primary_key=True, max_length=3)
    day: date = Field(primary_key=True)
    placed: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    confirmed: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    cancelled: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    completed: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    undelivered: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Orders that ended because their parcel did not arrive."""
    returned: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Returns and claims that were completed."""
    gross_minor: int = Field(default=0, sa_column=amount_column())
    """Totals of the orders confirmed."""
    refunds_minor: int = Field(default=0, sa_column=amount_column())
    """What went back of orders that had been confirmed; of parts of an order, on the day on which the order was completed. And
    what went back by returns and claims, on the day on which they were completed."""
    returned_minor: int = Field(default=0, sa_column=amount_column())
    """How much of that by returns and claims."""


class ProductDay(Table, table=True):
    """What was sold of one product to orders confirmed on one UTC day, and neither cancelled, refunded nor returned since."""

    __tablename__ = "products_by_day"

    currency: str = Field(primary_key=True, max_length=3)
    day: date = Field(primary_key=True)
    product_id: str = Field(primary_key=True, max_length=40)
    name: str
    quantity: int
    revenue_minor: int = Field(sa_column=amount_column())
    returned: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Units of it that were sold, and for which a return or claim was completed since; they are not in `quantity` any more."""


class ReturnFact(Table, table=True):
    """A return or claim that was completed."""

    __tablename__ = "returns"

    order_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    customer_id: UUID
    currency: str = Field(max_length=3)
    kind: str = Field(max_length=40)
    completed_at: datetime = Field(sa_column=time_column())
    refunded_minor: int = Field(default=0, sa_column=amount_column())
    reasons: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """How many units for which reason: reason, units."""


class ReturnsDay(Table, table=True):
    """Returns or claims that were completed on one UTC day, by why units of them were returned."""

    __tablename__ = "returns_by_day"

    currency: str = Field(primary_key=True, max_length=3)
    """Of their orders."""
    day: date = Field(primary_key=True)
    kind: str = Field(primary_key=True, max_length=40)
    reason: str = Field(primary_key=True, max_length=40)
    returns: int
    """Those with any unit returned for this reason; one with several reasons counts under each."""
    units: int


class CustomerValue(Table, table=True):
    """One customer's orders in one currency: what they are worth to the shop."""

    __tablename__ = "customers"
    __table_args__ = (Index("ix_customers_value", "currency", text("value_minor desc"), "customer_id"),)

    customer_id: UUID = Field(primary_key=True)
    currency: str = Field(primary_key=True, max_length=3)
    orders: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Orders placed."""
    revenue_minor: int = Field(default=0, sa_column=amount_column())
    refunds_minor: int = Field(default=0, sa_column=amount_column())
    value_minor: int = Field(default=0, sa_column=Column(BigInteger, Computed("revenue_minor - refunds_minor", persisted=True)))
    first_order_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    last_order_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))

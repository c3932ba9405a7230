"""Reports, as staff see them. Amounts are in the row's currency, with its digits."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from contracts.base import Contract
from contracts.money import MINOR_DIGITS
from contracts.orders import OrderStatus
from contracts.returns import ReturnKind, ReturnReason


class ProductOrder(StrEnum):
    """What makes a product a top product."""

    REVENUE = "revenue"
    QUANTITY = "quantity"


class _Report(Contract):
    currency: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """A report from a row of the database, whose amounts (`…_minor`) are in minor units: as `Money`, but of any size."""
        digits = MINOR_DIGITS.get(row["currency"], 2)
        amounts = {
            name.removesuffix("_minor"): None if value is None else Decimal(value).scaleb(-digits)
            for name, value in row.items()
            if name.endswith("_minor")
        }
        return cls(**dict(row) | amounts)


class Sales(_Report):
    """What was sold in one currency."""

    placed: int
    confirmed: int
    cancelled: int
    completed: int
    undelivered: int
    """Orders that ended because their parcel did not arrive."""
    returned: int
    """Returns and claims that were completed."""
    gross: Decimal
    """Totals of the orders that were confirmed. What an order was paid with by the credit of an exchange is not in its total."""
    refunds: Decimal
    """What went back of confirmed orders that were cancelled or did not arrive, and for parts of orders, on the day on which the
    order ended; and by returns and claims, on the day on which they were completed."""
    returned_amount: Decimal
    """How much of the refunds by returns and claims."""
    net: Decimal
    """Gross less refunds."""


class SalesDayReport(Sales):
    """Sales of one UTC day. Each event counts on the day on which it happened."""

    day: date


class ProductReport(_Report):
    """What was sold of a product to orders that were confirmed, and neither cancelled nor refunded: less units that were
    cancelled, and units for which a return or claim was completed. All of it counts on the day on which its order was confirmed.
    """

    product_id: str
    name: str
    """At the latest sale."""
    quantity: int
    """Units that are still sold."""
    revenue: Decimal
    """What these were sold for: their price less discount, without shipping. What the shop kept of a return, e.g. for restocking,
    is not in it."""
    returned: int
    """Units for which a return or claim was completed."""
    return_rate: Decimal | None
    """Returned / (quantity + returned), from 0 to 1, with four digits; null if there is neither."""


class CustomerReport(_Report):
    """What a customer's orders are worth to the shop. Returns and claims take off what went back by them."""

    customer_id: UUID
    orders: int
    """Orders placed, whatever became of them."""
    revenue: Decimal
    refunds: Decimal
    value: Decimal
    """Revenue less refunds."""
    first_order_at: datetime | None
    last_order_at: datetime | None


class OrderReport(_Report):
    """One order, as far as its events have come."""

    order_id: UUID
    status: OrderStatus
    total: Decimal
    refunded: Decimal
    placed_at: datetime | None
    cancel_code: str | None
    """Why it was cancelled."""
    returned: Decimal
    """What went back by its returns and claims; it is not in `refunded`."""


class CustomerDetail(Contract):
    """One customer: the value in each currency, and the latest orders."""

    customer_id: UUID
    values: list[CustomerReport]
    recent_orders: list[OrderReport]


class SalesSummary(Sales):
    """Sales of a period in one currency."""

    average_order: Decimal | None
    """Gross divided by orders confirmed; null if there were none."""


class Cancellations(Contract):
    """How many orders were cancelled for one reason."""

    code: str | None
    orders: int


class ReturnReasons(Contract):
    """How many returns, or claims, were completed for one reason."""

    kind: ReturnKind
    reason: ReturnReason
    returns: int
    """Those with any unit returned for it; one with several reasons counts under each."""
    units: int


class Summary(Contract):
    """A period at a glance."""

    first_day: date
    last_day: date
    sales: list[SalesSummary]
    cancellations: list[Cancellations]
    returns: list[ReturnReasons]

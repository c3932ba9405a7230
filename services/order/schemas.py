"""Bodies of the public endpoints, beside those in `contracts.orders`."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

from chassis.tokens import Principal
from contracts.address import Address
from contracts.base import Contract, Reason, Request
from contracts.errors import ErrorCode
from contracts.money import Money
from contracts.orders import OrderLine, OrderStatus, PlaceOrder, TimelineEntry

if TYPE_CHECKING:
    from services.order.model import Order

PLACE_EXAMPLES: Any = {
    "two products": {
        "value": {
            "lines": [{"product_id": "1029743", "quantity": 2}, {"product_id": "1082185", "quantity": 1}],
            "ship_to": {
                "name": "Ada Lovelace",
                "line1": "1 Market Street",
                "city": "San Francisco",
                "region": "CA",
                "postal_code": "94105",
                "country": "US",
            },
            "payment_token": "tok_visa",
        }
    },
    "from one store": {
        "value": {
            "lines": [{"product_id": "1029743", "quantity": 1}],
            "ship_to": {
                "name": "Ada Lovelace",
                "line1": "Unter den Linden 1",
                "city": "Berlin",
                "postal_code": "10117",
                "country": "DE",
            },
            "payment_token": "tok_visa",
            "warehouse_id": "367",
        }
    },
}


class ReasonBody(Request):
    """Why an order is cancelled, approved or rejected."""

    reason: Reason


CANCEL_EXAMPLES: Any = {"changed mind": {"value": {"reason": "Ordered by mistake"}}}
DECISION_EXAMPLES: Any = {"known customer": {"value": {"reason": "Known customer, called back"}}}


class OrderView(Contract):
    """An order as its customer and staff see it."""

    order_id: UUID
    customer_id: UUID
    status: OrderStatus
    lines: tuple[OrderLine, ...]
    total: Money
    refunded: Money
    """What went back to the customer."""
    ship_to: Address
    warehouse_id: str | None = None
    code: ErrorCode | None = None
    """Why it ended, if it was refused or cancelled."""
    detail: str | None = None
    """The same in plain words, or what it waits for."""
    review_reason: str | None = None
    """Why it was held for review: for staff, and not about an order of their own."""
    tracking_number: str | None = None
    placed_at: datetime
    confirmed_at: datetime | None = None
    updated_at: datetime

    @classmethod
    def of(cls, order: "Order", reader: Principal) -> Self:
        return cls(
            order_id=order.order_id,
            customer_id=order.customer_id,
            status=order.status,
            lines=order.order_lines,
            total=order.total,
            refunded=order.refunded,
            ship_to=Address.model_validate(order.ship_to),
            warehouse_id=order.warehouse_id,
            code=ErrorCode(order.code) if order.code else None,
            detail=order.detail,
            review_reason=order.review_reason if reader.is_staff and reader.subject != order.customer_id else None,
            tracking_number=order.tracking_number,
            placed_at=order.placed_at,
            confirmed_at=order.confirmed_at,
            updated_at=order.updated_at,
        )

    @classmethod
    def of_placed(cls, order: PlaceOrder) -> Self:
        """The order before its saga has written it down."""
        return cls(
            order_id=order.order_id,
            customer_id=order.customer_id,
            status=OrderStatus.PENDING,
            lines=order.lines,
            total=order.total,
            refunded=Money.zero(order.total.currency),
            ship_to=order.ship_to,
            warehouse_id=order.warehouse_id,
            placed_at=order.placed_at,
            updated_at=order.placed_at,
        )


class OrderSummary(Contract):
    """An order in a list."""

    order_id: UUID
    customer_id: UUID
    status: OrderStatus
    total: Money
    refunded: Money
    code: ErrorCode | None = None
    tracking_number: str | None = None
    placed_at: datetime
    updated_at: datetime


class OrderTimeline(Contract):
    """What happened to an order, oldest first."""

    order_id: UUID
    source: Literal["workflow", "history"]
    """Who told it: the saga itself, in full; or, when it cannot be asked, the order's record."""
    entries: tuple[TimelineEntry, ...]

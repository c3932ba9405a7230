"""The order: what a client asks for, what the saga carries, what comes back."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from contracts.address import Address
from contracts.base import (
    Command,
    Contract,
    ProductId,
    Quantity,
    Reason,
    Request,
    ShortText,
    Timestamp,
    Told,
    WarehouseId,
    Weight,
)
from contracts.errors import ErrorCode
from contracts.money import Money

PaymentToken = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{4,100}$")]
"""The provider's token for a card. Card numbers never reach the platform."""


class OrderStatus(StrEnum):
    """Where an order is. The one transition table is NEXT_STATUS."""

    PENDING = "PENDING"
    RESERVED = "RESERVED"
    IN_REVIEW = "IN_REVIEW"
    PAID = "PAID"
    CONFIRMED = "CONFIRMED"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"
    COMPLETED = "COMPLETED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


_S = OrderStatus
NEXT_STATUS: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    _S.PENDING: frozenset({_S.RESERVED, _S.CANCELLING}),
    _S.RESERVED: frozenset({_S.IN_REVIEW, _S.PAID, _S.CANCELLING}),
    _S.IN_REVIEW: frozenset({_S.PAID, _S.CANCELLING}),
    _S.PAID: frozenset({_S.CONFIRMED, _S.CANCELLING}),
    _S.CONFIRMED: frozenset({_S.SHIPPED, _S.CANCELLING}),
    _S.SHIPPED: frozenset({_S.DELIVERED}),
    _S.DELIVERED: frozenset({_S.COMPLETED}),
    _S.COMPLETED: frozenset(),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.CANCELLED: frozenset(),
}
FINAL_STATUSES = frozenset(status for status, following in NEXT_STATUS.items() if not following)


class LineRequest(Request):
    """One product and how many of it."""

    product_id: ProductId
    quantity: Annotated[int, Field(ge=1, le=1000, strict=True)]


class PlaceOrderRequest(Request):
    """Body of `POST /api/v1/orders`. It has no prices: they come from the catalogue."""

    lines: Annotated[list[LineRequest], Field(min_length=1, max_length=100)]
    ship_to: Address
    payment_token: PaymentToken
    warehouse_id: WarehouseId | None = None
    """The store that serves the order. Without it, any one warehouse that has every line."""

    @model_validator(mode="after")
    def _each_product_once(self) -> Self:
        products = [line.product_id for line in self.lines]
        if len(set(products)) != len(products):
            raise ValueError("each product may stand on one line only; add up the quantities")
        return self


class OrderLine(Contract):
    """A line at the catalogue's name and price at the time of the order."""

    product_id: ProductId
    name: Told
    quantity: Quantity
    unit_price: Money
    weight_grams: Weight = 0

    @property
    def total(self) -> Money:
        return self.unit_price * self.quantity


class PlaceOrder(Contract):
    """The order as its workflow receives it: complete, so that the saga asks nobody what was ordered."""

    order_id: UUID
    customer_id: UUID
    lines: Annotated[tuple[OrderLine, ...], Field(max_length=100)]
    total: Money
    ship_to: Address
    payment_token: PaymentToken
    warehouse_id: WarehouseId | None = None
    needs_review: bool = False
    """Hold for an operator before the money is taken: the total reached the review threshold."""
    review_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 86_400
    """How long a held order waits for a decision before it is cancelled."""
    placed_at: Timestamp
    fingerprint: Annotated[str, Field(max_length=64)] | None = None
    """Hash of the request body: tells whether a later request under the same key is the same one."""


class OpenOrder(Command):
    """Command of the saga's first step. `workflow_run_id` tells a retry of this step from a second saga for the same order."""

    order: PlaceOrder
    workflow_run_id: Annotated[str, Field(max_length=100)]


class AdvanceOrder(Command):
    """The saga tells the order where it is. `path` lists the statuses passed since the last word, oldest first."""

    order_id: UUID
    path: Annotated[tuple[OrderStatus, ...], Field(max_length=20)]
    detail: Told | None = None
    """Why, in plain words; shown to the customer and the operator."""
    code: ErrorCode | None = None
    """The refusal that led here, if one did."""
    review_reason: Told | None = None
    """Why it is held for review, in plain words; for staff only."""
    warehouse_id: WarehouseId | None = None
    tracking_number: Annotated[Told, Field(max_length=100)] | None = None
    refunded: Money | None = None


class OrderProgress(Contract):
    """Reply of the order's record to the saga: where it is now."""

    order_id: UUID
    status: OrderStatus


class CancelRequest(Request):
    """Argument of the workflow's `cancel` update."""

    reason: Reason
    requested_by: ShortText = "operator"


class CancelReply(Contract):
    """What a cancel settled."""

    order_id: UUID
    status: OrderStatus
    refunded: Money
    """What went back to the customer; zero if nothing had been taken."""
    detail: str


class Decision(Request):
    """Argument of the workflow's `approve` and `reject` signals."""

    by: ShortText
    reason: Reason

    def is_by(self, user_id: UUID) -> bool:
        """Whether `by`, which a terminal may fill with anything, names this user, however the id is written."""
        return user_id.hex in self.by.replace("-", "").lower()


class Outcome(Contract):
    """Answer of the `place` update: how far the order got while the client waited."""

    order_id: UUID
    status: OrderStatus
    code: ErrorCode | None = None
    """Why it was refused; None if it was not."""
    detail: str | None = None
    extra: dict[str, object] = Field(default_factory=dict)
    """Further members of the problem details, e.g. `lines` of an out_of_stock."""
    tracking_number: str | None = None


class TimelineEntry(Contract):
    """One thing that happened to an order."""

    at: datetime
    what: str
    """E.g. "Reserved 3 lines at warehouse 410"."""
    status: OrderStatus
    detail: str | None = None


class OrderState(Contract):
    """Answer of the workflow's `status` query."""

    order_id: UUID
    status: OrderStatus
    waiting_for: str
    """In plain words, e.g. "the payment provider (retrying)" or "the carrier to deliver"."""
    stuck_undos: tuple[str, ...] = ()
    code: ErrorCode | None = None
    detail: str | None = None

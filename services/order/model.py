"""The order's record: its state, the one way through its statuses, and the events that tell of a change."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from chassis.clock import utc_now
from chassis.database import enum_column, new_metadata, time_column
from chassis.inbox import Inbox
from chassis.outbox import Outbox
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated
from contracts.money import Money
from contracts.orders import NEXT_STATUS, AdvanceOrder, OpenOrder, OrderLine, OrderProgress, OrderStatus, TimelineEntry

metadata = new_metadata()
outbox = Outbox("order", metadata)
inbox = Inbox(metadata)

WHAT_HAPPENED = {
    OrderStatus.PENDING: "Order received",
    OrderStatus.RESERVED: "Goods reserved",
    OrderStatus.IN_REVIEW: "Held for review",
    OrderStatus.PAID: "Payment taken",
    OrderStatus.CONFIRMED: "Order confirmed",
    OrderStatus.SHIPPED: "Parcel dispatched",
    OrderStatus.DELIVERED: "Parcel delivered",
    OrderStatus.COMPLETED: "Order completed",
    OrderStatus.CANCELLING: "Cancellation started",
    OrderStatus.CANCELLED: "Order cancelled",
}


class Table(SQLModel):
    metadata: ClassVar[MetaData] = metadata


class Order(Table, table=True):
    """What the saga has told of one order. The saga decides; this record is what customers and lists read."""

    __tablename__ = "orders"
    __table_args__ = (
        Index("ix_orders_customer", "customer_id", "placed_at", "order_id"),
        Index("ix_orders_placed", "placed_at", "order_id"),
        Index("ix_orders_status", "status", "placed_at", "order_id"),
    )

    order_id: UUID = Field(primary_key=True)
    customer_id: UUID
    workflow_run_id: str = Field(max_length=100)
    """The saga that opened it."""
    fingerprint: str | None = Field(default=None, max_length=64)
    """Hash of the request that placed it."""
    status: OrderStatus = Field(sa_column=enum_column(OrderStatus))
    lines: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """OrderLine each."""
    currency: str = Field(max_length=3)
    total_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    refunded_minor: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    ship_to: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    """Address."""
    warehouse_id: str | None = Field(default=None, max_length=40)
    needs_review: bool = False
    review_reason: str | None = None
    """Why it was held for review; for staff only."""
    code: str | None = Field(default=None, max_length=60)
    """The refusal that ended it, if one did: an ErrorCode."""
    detail: str | None = None
    tracking_number: str | None = Field(default=None, max_length=100)
    history: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """Each status it reached, once, oldest first: `status`, `at`, `detail`. Kept in the row, because every change writes both."""
    placed_at: datetime = Field(sa_column=time_column())
    confirmed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    updated_at: datetime = Field(sa_column=time_column())

    @classmethod
    def opened(cls, command: OpenOrder) -> Self:
        """A new order, PENDING."""
        order, now = command.order, utc_now()
        return cls(
            order_id=order.order_id,
            customer_id=order.customer_id,
            workflow_run_id=command.workflow_run_id,
            fingerprint=order.fingerprint,
            status=OrderStatus.PENDING,
            lines=[line.model_dump(mode="json") for line in order.lines],
            currency=order.total.currency,
            total_minor=order.total.minor,
            refunded_minor=0,
            ship_to=order.ship_to.model_dump(mode="json"),
            warehouse_id=order.warehouse_id,
            needs_review=order.needs_review,
            history=[_entry(OrderStatus.PENDING, now, None)],
            placed_at=order.placed_at,
            updated_at=now,
        )

    @property
    def total(self) -> Money:
        return Money.from_minor(self.total_minor, self.currency)

    @property
    def refunded(self) -> Money:
        return Money.from_minor(self.refunded_minor, self.currency)

    @property
    def order_lines(self) -> tuple[OrderLine, ...]:
        return tuple(map(OrderLine.model_validate, self.lines))

    def created(self) -> OrderCreated:
        """The event that tells of it."""
        return OrderCreated(order_id=self.order_id, customer_id=self.customer_id, lines=self.order_lines, total=self.total)

    def require_opened_by(self, workflow_run_id: str) -> None:
        """Refusal: order_exists, if another saga opened it."""
        if self.workflow_run_id != workflow_run_id:
            raise Refusal(ErrorCode.ORDER_EXISTS, "Another saga has opened this order.")

    def advance(self, command: AdvanceOrder) -> list[Event]:
        """Walk the path, as far as it is new, and note what came with it. Refusal: illegal_transition.

        A path that was walked before is a late retry: it changes nothing, so that it cannot overwrite what came after it.
        """
        ahead = self._ahead(command.path)
        if command.path and not ahead:
            return []
        now = utc_now()
        for status in ahead:
            self._become(status, now, command.detail if status == ahead[-1] else None)
        self._note(command, moved=bool(ahead))
        self.updated_at = now
        return [event for status in ahead if (event := self._event_of(status))]

    def timeline(self) -> list[TimelineEntry]:
        """What happened to it, oldest first."""
        return [
            TimelineEntry(at=entry["at"], what=WHAT_HAPPENED[status], status=status, detail=entry["detail"])
            for entry in self.history
            if (status := OrderStatus(entry["status"]))
        ]

    def progress(self) -> OrderProgress:
        return OrderProgress(order_id=self.order_id, status=self.status)

    def _ahead(self, path: Sequence[OrderStatus]) -> Sequence[OrderStatus]:
        """The path without the beginning that was walked before."""
        reached = {entry["status"] for entry in self.history}
        first_new = next((index for index, status in enumerate(path) if status not in reached), len(path))
        return path[first_new:]

    def _become(self, status: OrderStatus, now: datetime, detail: str | None) -> None:
        if status not in NEXT_STATUS[self.status]:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, f"An order that is {self.status} cannot become {status}.")
        self.status = status
        self.history = [*self.history, _entry(status, now, detail)]
        if status == OrderStatus.CONFIRMED:
            self.confirmed_at = now

    def _note(self, command: AdvanceOrder, *, moved: bool) -> None:
        # Words belong to the status they came with; only why an order ended stays.
        if command.detail is not None or (moved and self.code is None):
            self.detail = command.detail
        self.code = command.code or self.code
        self.review_reason = command.review_reason or self.review_reason
        self.warehouse_id = command.warehouse_id or self.warehouse_id
        self.tracking_number = command.tracking_number or self.tracking_number
        if command.refunded is not None:
            self.refunded_minor = (Money.zero(self.currency) + command.refunded).minor

    def _event_of(self, status: OrderStatus) -> Event | None:
        """The event that tells of reaching a status, if others are told of it."""
        who = {"order_id": self.order_id, "customer_id": self.customer_id, "total": self.total}
        if status == OrderStatus.CONFIRMED:
            return OrderConfirmed(**who, lines=self.order_lines, warehouse_id=self.warehouse_id)
        if status == OrderStatus.CANCELLED:
            return OrderCancelled(
                **who,
                refunded=self.refunded,
                was_confirmed=self.confirmed_at is not None,
                code=ErrorCode(self.code) if self.code else None,
                reason=self.detail,
            )
        if status == OrderStatus.COMPLETED:
            return OrderCompleted(**who)
        return None


def _entry(status: OrderStatus, at: datetime, detail: str | None) -> dict[str, Any]:
    return {"status": status.value, "at": at.isoformat(), "detail": detail}

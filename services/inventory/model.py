"""Stock and reservations: their state, their rules, and the events that tell of a change."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from chassis.clock import utc_now
from chassis.database import enum_column, new_metadata, time_column
from chassis.idempotency import Idempotency
from chassis.outbox import Outbox
from contracts import inventory as contract
from contracts.base import LARGEST_QUANTITY
from contracts.errors import ErrorCode, Refusal
from contracts.events import InventoryReleased, InventoryReserved, LowStockAlert, StockLevelChanged
from contracts.inventory import ReservationStatus, ShortLine, StockLine

metadata = new_metadata()
outbox = Outbox("inventory", metadata)
idempotency = Idempotency(metadata)

UNPAID_UNITS = 100
"""Of one product, so many units at most are kept for one customer who has not paid them yet."""
OPEN = frozenset({ReservationStatus.RESERVED, ReservationStatus.HELD})


class Table(SQLModel):
    metadata: ClassVar[MetaData] = metadata


class Warehouse(Table, table=True):
    """A place with stock; in the shops of the data, a store."""

    __tablename__ = "warehouses"

    warehouse_id: str = Field(primary_key=True, max_length=40)
    name: str = Field(max_length=200)


class Stock(Table, table=True):
    """One product at one warehouse. `on_hand` = received - shipped; `reserved` of it belongs to open reservations."""

    __tablename__ = "stock"
    __table_args__ = (CheckConstraint("0 <= reserved and reserved <= on_hand", name="never_oversold"),)

    warehouse_id: str = Field(primary_key=True, foreign_key="warehouses.warehouse_id", max_length=40)
    product_id: str = Field(primary_key=True, max_length=40)
    on_hand: int = 0
    reserved: int = 0
    low_stock_threshold: int = 0

    @property
    def available(self) -> int:
        """What can still be promised."""
        return self.on_hand - self.reserved

    def reserve(self, quantity: int) -> LowStockAlert | None:
        """Promise some. The alert tells of the moment in which the threshold is crossed. Refusal: out_of_stock."""
        if quantity > self.available:
            raise out_of_stock([ShortLine(product_id=self.product_id, requested=quantity, available=self.available)])
        before = self.available
        self.reserved += quantity
        if not self.available <= self.low_stock_threshold < before:
            return None
        return LowStockAlert(
            warehouse_id=self.warehouse_id,
            product_id=self.product_id,
            on_hand=self.on_hand,
            available=self.available,
            threshold=self.low_stock_threshold,
        )

    def release(self, quantity: int) -> None:
        """Take a promise back."""
        self.reserved -= quantity

    def ship(self, quantity: int) -> StockLevelChanged:
        """Some of what was promised leaves."""
        self.reserved -= quantity
        return self._change(-quantity)

    def receive(self, quantity: int) -> StockLevelChanged:
        """Some arrives. Refusal: conflict, if that is more than a shelf can hold."""
        if self.on_hand + quantity > LARGEST_QUANTITY:
            raise Refusal(ErrorCode.CONFLICT, f"No more than {LARGEST_QUANTITY} of a product can be at one warehouse.")
        return self._change(quantity)

    def _change(self, change: int) -> StockLevelChanged:
        self.on_hand += change
        return StockLevelChanged(warehouse_id=self.warehouse_id, product_id=self.product_id, on_hand=self.on_hand, change=change)


class Movement(Table, table=True):
    """Ledger of what came and went; `on_hand` is the sum of it."""

    __tablename__ = "stock_movements"
    __table_args__ = (Index("ix_stock_movements_place", "warehouse_id", "product_id"),)

    movement_id: int | None = Field(default=None, primary_key=True)
    warehouse_id: str = Field(max_length=40)
    product_id: str = Field(max_length=40)
    change: int
    reference: str = Field(max_length=200)
    """Why: `order <id>`, or the reference of a receipt."""
    at: datetime = Field(default_factory=utc_now, sa_column=time_column())


class Reservation(Table, table=True):
    """What one order has been promised. RESERVED and HELD with `expires_at` end by themselves; HELD without it lasts until it is
    shipped or released.

    A reservation released before it was made (the undo overtook the step) is a row without lines: it forbids the late step.
    """

    __tablename__ = "reservations"
    __table_args__ = (
        Index("ix_reservations_expires_at", "expires_at", postgresql_where=text("expires_at is not null")),
        Index("ix_reservations_unpaid", "customer_id", postgresql_where=text("expires_at is not null")),
    )

    order_id: UUID = Field(primary_key=True)
    customer_id: UUID | None = None
    warehouse_id: str | None = Field(default=None, max_length=40)
    status: ReservationStatus = Field(sa_column=enum_column(ReservationStatus))
    lines: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    """StockLine each."""
    expires_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @property
    def is_open(self) -> bool:
        """Whether stock is promised to it."""
        return self.status in OPEN

    @property
    def stock_lines(self) -> tuple[StockLine, ...]:
        return tuple(map(StockLine.model_validate, self.lines))

    def reserved(self) -> InventoryReserved:
        """The event that tells of it."""
        return InventoryReserved(order_id=self.order_id, warehouse_id=self.warehouse_id or "", lines=self.stock_lines)

    def hold(self, until: datetime | None) -> None:
        """Keep it, until a time or for good. The caller has made sure that its stock is promised."""
        self.status, self.expires_at = ReservationStatus.HELD, until

    def end(self, status: ReservationStatus, reason: str) -> InventoryReleased | None:
        """Give the promise back (RELEASED or EXPIRED); the event, if stock was promised. Refusal: reservation_shipped."""
        if self.status == ReservationStatus.SHIPPED:
            raise Refusal(ErrorCode.RESERVATION_SHIPPED, "The goods have left; they can only be returned.")
        was_open = self.is_open
        self.status, self.expires_at = status, None
        if not was_open or self.warehouse_id is None:
            return None
        return InventoryReleased(order_id=self.order_id, warehouse_id=self.warehouse_id, lines=self.stock_lines, reason=reason)

    def ship(self) -> None:
        """The goods leave. Refusal: reservation_released."""
        if not self.is_open:
            raise released()
        self.status, self.expires_at = ReservationStatus.SHIPPED, None

    def reply(self) -> contract.Reservation:
        return contract.Reservation(
            order_id=self.order_id,
            warehouse_id=self.warehouse_id,
            status=self.status,
            lines=self.stock_lines,
            expires_at=self.expires_at,
        )


def out_of_stock(short: Sequence[ShortLine]) -> Refusal:
    """The refusal that names the lines which cannot be filled."""
    return Refusal(
        ErrorCode.OUT_OF_STOCK,
        f"Not enough in stock of: {', '.join(line.product_id for line in short)}.",
        extra={"lines": [line.model_dump() for line in short]},
    )


def require_within_limit(lines: Sequence[StockLine], unpaid: Mapping[str, int], limit: int) -> None:
    """`unpaid`: units of each product that other orders of the customer hold and have not paid. Refusal: purchase_limit, naming
    the lines with which that becomes more than `limit`."""
    over = [
        ShortLine(product_id=line.product_id, requested=line.quantity, available=available)
        for line in lines
        if line.quantity > (available := max(limit - unpaid.get(line.product_id, 0), 0))
    ]
    if over:
        raise Refusal(
            ErrorCode.PURCHASE_LIMIT,
            f"More than {limit} units, with other unpaid orders, of: {', '.join(line.product_id for line in over)}.",
            extra={"lines": [line.model_dump() for line in over]},
        )


def released() -> Refusal:
    return Refusal(ErrorCode.RESERVATION_RELEASED, "The reservation was released; nothing is promised any more.")


def missing_lines(lines: Sequence[StockLine], stock: Mapping[str, Stock]) -> list[ShortLine]:
    """The lines that this stock cannot fill; none if it can fill all."""
    return [
        ShortLine(product_id=line.product_id, requested=line.quantity, available=available)
        for line in lines
        if line.quantity > (available := stock[line.product_id].available if line.product_id in stock else 0)
    ]

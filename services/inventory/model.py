"""Stock and reservations: their state, their rules, and the events that tell of a change."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, new_metadata, time_column
from chassis.idempotency import Idempotency
from chassis.outbox import Outbox
from chassis.statements import Record
from chassis.store import Aggregate
from contracts import inventory as contract
from contracts.base import LARGEST_QUANTITY
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, InventoryReleased, InventoryReserved, InventoryRestocked, LowStockAlert, StockLevelChanged
from contracts.ids import parcel_reference
from contracts.inventory import MovementKind, ReleaseInventory, ReservationStatus, ReserveInventory, ShortLine, StockLine

metadata = new_metadata()
outbox = Outbox("inventory", metadata)
idempotency = Idempotency(metadata)

PROMISED_UNITS = 100
"""Of one product, so many units at most are promised to one customer and not yet shipped, in all orders together."""
HAS_LEFT = frozenset({ReservationStatus.SHIPPED, ReservationStatus.RESTOCKED})
"""The goods have left, whether or not they came back."""


class Table(Record):
    metadata: ClassVar[MetaData] = metadata


class Warehouse(Table, Aggregate, table=True):
    """A place with stock; in the shops of the data, a store."""

    __tablename__ = "warehouses"

    warehouse_id: str = Field(primary_key=True, max_length=40)
    name: str = Field(max_length=200)


@dataclass(frozen=True)
class Cause:
    """Why stock moves: what the ledger and the event say of it. A person who adjusts, counts or transfers gives a reason."""

    kind: MovementKind
    reference: str | None = None
    reason: str | None = None
    actor: UUID | None = None
    other_warehouse_id: str | None = None


@dataclass(frozen=True)
class Moved:
    """What came of a movement: its line in the ledger, and the events that tell of it."""

    movement: "Movement"
    events: tuple[Event, ...]


class Stock(Table, Aggregate, table=True):
    """One product at one warehouse. `on_hand` = the sum of its movements; `reserved` of it belongs to open reservations."""

    __tablename__ = "stock"
    __table_args__ = (
        CheckConstraint("0 <= reserved and reserved <= on_hand", name="never_oversold"),
        Index("ix_stock_product_id", "product_id"),
    )

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
        return self._change(reserved=quantity)

    def release(self, quantity: int) -> None:
        """Take a promise back."""
        self._change(reserved=-quantity)

    def ship(self, quantity: int, cause: Cause) -> Moved:
        """Some of what was promised leaves."""
        return self._moved(-quantity, cause, self._change(on_hand=-quantity, reserved=-quantity))

    def move(self, change: int, cause: Cause) -> Moved:
        """Some arrives, or (a negative change) some of what is promised to nobody leaves.

        Refusals: stock_promised; conflict, if that is more than a shelf can hold."""
        if self.on_hand + change > LARGEST_QUANTITY:
            raise Refusal(ErrorCode.CONFLICT, f"No more than {LARGEST_QUANTITY} of a product can be at one warehouse.")
        require_unpromised([(self, change)])
        return self._moved(change, cause, self._change(on_hand=change))

    def _change(self, *, on_hand: int = 0, reserved: int = 0) -> LowStockAlert | None:
        before = self.available
        self.on_hand += on_hand
        self.reserved += reserved
        if not self.available <= self.low_stock_threshold < before:
            return None
        return LowStockAlert(
            warehouse_id=self.warehouse_id,
            product_id=self.product_id,
            on_hand=self.on_hand,
            available=self.available,
            threshold=self.low_stock_threshold,
        )

    def _moved(self, change: int, cause: Cause, alert: LowStockAlert | None) -> Moved:
        place: dict[str, Any] = {"warehouse_id": self.warehouse_id, "product_id": self.product_id}
        movement = Movement(**place, change=change, **vars(cause))
        if not change:  # a count that found what was expected
            return Moved(movement, ())
        event = StockLevelChanged(
            **place, on_hand=self.on_hand, change=change, kind=cause.kind, reason=cause.reason, actor=cause.actor
        )
        return Moved(movement, (event, alert) if alert else (event,))


class Movement(Table, table=True):
    """Ledger of what came and went, and of what was counted; `on_hand` is the sum of it."""

    __tablename__ = "stock_movements"
    __table_args__ = (
        CheckConstraint(
            "kind in ('RECEIPT', 'SHIPMENT', 'RETURN') or (reason is not null and actor is not null)", name="says_who_and_why"
        ),
        Index("ix_stock_movements_place", "warehouse_id", "product_id", "movement_id"),
    )

    movement_id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True))
    warehouse_id: str = Field(max_length=40)
    product_id: str = Field(max_length=40)
    change: int
    """Zero for a count that found what was expected."""
    kind: MovementKind = Field(sa_column=enum_column(MovementKind))
    reference: str | None = Field(default=None, max_length=200)
    """`order <id>`, `return of order <id>`, or what the person who did it calls it, e.g. the number of a delivery note."""
    reason: str | None = Field(default=None, max_length=500)
    """What that person said why; always there for adjustments, counts and transfers."""
    actor: UUID | None = None
    """The person who did it; None: an order's saga, or a receipt of before this was written down."""
    other_warehouse_id: str | None = Field(default=None, max_length=40)
    """Of a transfer: where it went, or came from."""
    at: datetime = Field(default_factory=utc_now, sa_column=time_column())


class Reservation(Table, Aggregate, table=True):
    """What one parcel of an order has been promised. It lasts until it is released or shipped.

    A reservation released before it was made (the undo overtook the step) is a row without lines: it forbids the late step.
    """

    __tablename__ = "reservations"
    __table_args__ = (Index("ix_reservations_promised", "customer_id", postgresql_where=text("status = 'RESERVED'")),)

    order_id: UUID = Field(primary_key=True)
    parcel: int = Field(default=1, primary_key=True)
    customer_id: UUID | None = None
    warehouse_id: str | None = Field(default=None, max_length=40)
    status: ReservationStatus = Field(sa_column=enum_column(ReservationStatus))
    lines: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    """StockLine each."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @classmethod
    def asked(cls, command: ReserveInventory) -> "Reservation":
        """What a command asks for; its warehouse is still to be chosen if the command names none."""
        return cls(
            order_id=command.order_id,
            parcel=command.parcel,
            customer_id=command.customer_id,
            warehouse_id=command.warehouse_id,
            status=ReservationStatus.RESERVED,
            lines=[line.model_dump() for line in command.lines],
        )

    @classmethod
    def tombstone(cls, command: ReleaseInventory) -> "Reservation":
        """Remembers a release that came before anything was reserved."""
        return cls(order_id=command.order_id, parcel=command.parcel, status=ReservationStatus.RELEASED)

    @property
    def stock_lines(self) -> tuple[StockLine, ...]:
        return tuple(map(StockLine.model_validate, self.lines))

    @property
    def reference(self) -> str:
        """The parcel's name in the ledger of movements."""
        return f"order {parcel_reference(self.order_id, self.parcel)}"

    def require_not_released(self) -> None:
        """Refusal: reservation_released."""
        if self.status == ReservationStatus.RELEASED:
            raise Refusal(ErrorCode.RESERVATION_RELEASED, "The reservation was released; nothing is promised any more.")

    def reserved(self) -> InventoryReserved:
        """The event that tells of it."""
        return InventoryReserved(**self._common_fields())

    def release(self, reason: str) -> InventoryReleased | None:
        """Give the promise back; None if that was done. Refusal: reservation_shipped."""
        if self.status in HAS_LEFT:
            raise Refusal(ErrorCode.RESERVATION_SHIPPED, "The goods have left; they can only be returned.")
        if self.status == ReservationStatus.RELEASED:
            return None
        self.status = ReservationStatus.RELEASED
        return InventoryReleased(**self._common_fields(), reason=reason)

    def ship(self) -> bool:
        """The goods leave; False if they had left before. Refusal: reservation_released."""
        self.require_not_released()
        if self.status in HAS_LEFT:
            return False
        self.status = ReservationStatus.SHIPPED
        return True

    def restock(self, reason: str) -> InventoryRestocked | None:
        """The goods are back on the shelf; None if they were before. Refusal: conflict, if they had not left."""
        if self.status == ReservationStatus.RESTOCKED:
            return None
        if self.status != ReservationStatus.SHIPPED:
            raise Refusal(ErrorCode.CONFLICT, "These goods have not left; they cannot come back.")
        self.status = ReservationStatus.RESTOCKED
        return InventoryRestocked(**self._common_fields(), reason=reason)

    def reply(self) -> contract.Reservation:
        return contract.Reservation(
            order_id=self.order_id,
            parcel=self.parcel,
            warehouse_id=self.warehouse_id,
            status=self.status,
            lines=self.stock_lines,
        )

    def _common_fields(self) -> dict[str, Any]:
        return {
            "order_id": self.order_id,
            "parcel": self.parcel,
            "warehouse_id": self.warehouse_id or "",
            "lines": self.stock_lines,
        }


def out_of_stock(short: Sequence[ShortLine]) -> Refusal:
    """The refusal that names the lines which cannot be filled."""
    return Refusal(
        ErrorCode.OUT_OF_STOCK,
        f"Not enough in stock of: {', '.join(line.product_id for line in short)}.",
        extra={"lines": [line.model_dump() for line in short]},
    )


def require_unpromised(changes: Iterable[tuple[Stock, int]]) -> None:
    """What is taken away must not be promised to anybody. Refusal: stock_promised, naming each product of which too little would
    be left."""
    over = [stock for stock, change in changes if stock.on_hand + change < stock.reserved]
    if over:
        raise Refusal(
            ErrorCode.STOCK_PROMISED,
            f"Less would be left than orders were promised, of: {', '.join(stock.product_id for stock in over)}.",
            extra={"lines": [stock.model_dump(include={"warehouse_id", "product_id", "on_hand", "reserved"}) for stock in over]},
        )


def require_within_limit(lines: Sequence[StockLine], promised: Mapping[str, int], limit: int) -> None:
    """`promised`: units of each product that other reservations of the customer keep. Refusal: purchase_limit, naming the lines
    with which that becomes more than `limit`."""
    over = [
        ShortLine(product_id=line.product_id, requested=line.quantity, available=available)
        for line in lines
        if line.quantity > (available := max(limit - promised.get(line.product_id, 0), 0))
    ]
    if over:
        raise Refusal(
            ErrorCode.PURCHASE_LIMIT,
            f"More than {limit} units, with other orders not yet shipped, of: {', '.join(line.product_id for line in over)}.",
            extra={"lines": [line.model_dump() for line in over]},
        )


def unknown_warehouse(warehouse_id: str) -> Refusal:
    return Refusal(ErrorCode.WAREHOUSE_UNKNOWN, f"There is no warehouse {warehouse_id}.")


def no_such_warehouse() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such warehouse.")


def unknown_reservation() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "Nothing was ever reserved for this parcel.")


def missing_lines(lines: Sequence[StockLine], stock: Mapping[str, Stock]) -> list[ShortLine]:
    """The lines that this stock cannot fill; none if it can fill all."""
    return [
        ShortLine(product_id=line.product_id, requested=line.quantity, available=available)
        for line in lines
        if line.quantity > (available := stock[line.product_id].available if line.product_id in stock else 0)
    ]

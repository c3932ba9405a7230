"""Warehouses and their stock: state, rules, and the events that tell of a change."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, MetaData
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, new_metadata, time_column
from chassis.idempotency import Idempotency
from chassis.outbox import Outbox
from chassis.statements import Record
from chassis.store import Aggregate
from contracts.base import LARGEST_QUANTITY
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, LowStockAlert, StockLevelChanged
from contracts.inventory import MovementKind, Place, ShortLine, StockLine

metadata = new_metadata()
outbox = Outbox("inventory", metadata)
idempotency = Idempotency(metadata)


class Table(Record):
    metadata: ClassVar[MetaData] = metadata


class Warehouse(Table, Aggregate, table=True):
    """A place with stock; in the shops of the data, a store."""

    __tablename__ = "warehouses"

    warehouse_id: str = Field(primary_key=True, max_length=40)
    name: str = Field(max_length=200)
    country: str | None = Field(default=None, max_length=2)
    region: str | None = Field(default=None, max_length=500)
    postal_code: str = Field(default="", max_length=16)

    @property
    def place(self) -> Place | None:
        """Where it is; None: nobody has said."""
        return place_of(self.country, self.region, self.postal_code)


def place_of(country: str | None, region: str | None, postal_code: str) -> Place | None:
    """The place that columns of a warehouse say."""
    return Place(country=country, region=region, postal_code=postal_code) if country else None


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
        self._require_room(change)
        require_unpromised([(self, change)])
        return self._moved(change, cause, self._change(on_hand=change))

    def take_back(self, good: int, damaged: int, reference: str) -> list[Moved]:
        """Some has come back from a customer; what of it is damaged is written off at once. Refusal: conflict, as `move`."""
        self._require_room(good + damaged)
        self.on_hand += good + damaged
        moved = [self._moved(good + damaged, Cause(MovementKind.RETURN, reference), None)]
        if damaged:  # no alert: less is there than a moment ago, and no less than before that
            self.on_hand -= damaged
            moved.append(self._moved(-damaged, Cause(MovementKind.WRITE_OFF, reference, "It came back damaged."), None))
        return moved

    def _require_room(self, change: int) -> None:
        if self.on_hand + change > LARGEST_QUANTITY:
            raise Refusal(ErrorCode.CONFLICT, f"No more than {LARGEST_QUANTITY} of a product can be at one warehouse.")

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
            "kind in ('RECEIPT', 'SHIPMENT', 'RETURN', 'WRITE_OFF') or (reason is not null and actor is not null)",
            name="says_who_and_why",
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
    """`order <id>`, `return of order <id>`, `return <number> of order <id>`, or what the person who did it calls it, e.g. the
    number of a delivery note."""
    reason: str | None = Field(default=None, max_length=500)
    """What that person said why; always there for adjustments, counts and transfers."""
    actor: UUID | None = None
    """The person who did it; None: an order's saga, or a receipt of before this was written down."""
    other_warehouse_id: str | None = Field(default=None, max_length=40)
    """Of a transfer: where it went, or came from."""
    at: datetime = Field(default_factory=utc_now, sa_column=time_column())


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


def unknown_warehouse(warehouse_id: str) -> Refusal:
    return Refusal(ErrorCode.WAREHOUSE_UNKNOWN, f"There is no warehouse {warehouse_id}.")


def no_such_warehouse() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such warehouse.")


def missing_lines(lines: Sequence[StockLine], stock: Mapping[str, Stock]) -> list[ShortLine]:
    """The lines that this stock cannot fill; none if it can fill all."""
    return [
        ShortLine(product_id=line.product_id, requested=line.quantity, available=available)
        for line in lines
        if line.quantity > (available := stock[line.product_id].available if line.product_id in stock else 0)
    ]

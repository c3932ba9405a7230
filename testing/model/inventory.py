"""Stock and what is promised of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from contracts.errors import ErrorCode, Refusal
from contracts.inventory import (
    ReleaseInventory,
    Reservation,
    ReservationStatus,
    ReserveInventory,
    RestockInventory,
    ShipInventory,
    ShortLine,
    StockLine,
)

PROMISED_UNITS = 100
"""Of one product, so many units at most are promised to one customer at a time."""
OPEN = frozenset({ReservationStatus.RESERVED})


@dataclass
class Shelf:
    """One product at one warehouse. `received` and `shipped` add up all that ever came and went; what came back was received."""

    received: int = 0
    shipped: int = 0
    restocked: int = 0
    reserved: int = 0

    @property
    def on_hand(self) -> int:
        return self.received - self.shipped + self.restocked

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


@dataclass
class Promise:
    """What was promised to one parcel of an order. Without a warehouse it is a release that came first."""

    status: ReservationStatus
    warehouse_id: str | None = None
    lines: tuple[StockLine, ...] = ()
    customer_id: UUID | None = None


class Inventory:
    """All warehouses."""

    def __init__(self) -> None:
        self.shelves: dict[str, dict[str, Shelf]] = {}
        self.promises: dict[tuple[UUID, int], Promise] = {}

    def receive(self, warehouse_id: str, **quantities: int) -> None:
        """Put goods on the shelf."""
        shelves = self.shelves.setdefault(warehouse_id, {})
        for product_id, quantity in quantities.items():
            shelves.setdefault(product_id, Shelf()).received += quantity

    def reserve(self, command: ReserveInventory) -> Reservation:
        """Refusals: out_of_stock, warehouse_unknown, reservation_released."""
        key = (command.order_id, command.parcel)
        existing = self.promises.get(key)
        if existing is not None:
            if existing.status == ReservationStatus.RELEASED:
                raise _released()
            return self._reply(key)
        warehouse_id = command.warehouse_id or self._warehouse_with(command.lines)
        if warehouse_id not in self.shelves:
            raise Refusal(ErrorCode.WAREHOUSE_UNKNOWN, f"There is no warehouse {warehouse_id}.")
        if short := self._missing(warehouse_id, command.lines):
            raise _out_of_stock(short)
        if command.parcel == 1:
            self._require_within_limit(command)
        for line in command.lines:
            self.shelves[warehouse_id][line.product_id].reserved += line.quantity
        self.promises[key] = Promise(ReservationStatus.RESERVED, warehouse_id, command.lines, command.customer_id)
        return self._reply(key)

    def release(self, command: ReleaseInventory) -> Reservation:
        """Refusal: reservation_shipped."""
        key = (command.order_id, command.parcel)
        promise = self.promises.setdefault(key, Promise(ReservationStatus.RELEASED))
        if promise.status in (ReservationStatus.SHIPPED, ReservationStatus.RESTOCKED):
            raise Refusal(ErrorCode.RESERVATION_SHIPPED, "The goods have left; they can only be returned.")
        if promise.status in OPEN:
            for shelf, line in self._of(promise):
                shelf.reserved -= line.quantity
            promise.status = ReservationStatus.RELEASED
        return self._reply(key)

    def ship(self, command: ShipInventory) -> Reservation:
        """Refusals: reservation_released, not_found."""
        key = (command.order_id, command.parcel)
        promise = self._promise(key)
        if promise.status in (ReservationStatus.SHIPPED, ReservationStatus.RESTOCKED):
            return self._reply(key)
        if promise.status not in OPEN:
            raise _released()
        for shelf, line in self._of(promise):
            shelf.reserved -= line.quantity
            shelf.shipped += line.quantity
        promise.status = ReservationStatus.SHIPPED
        return self._reply(key)

    def restock(self, command: RestockInventory) -> Reservation:
        """Refusals: not_found, conflict."""
        key = (command.order_id, command.parcel)
        promise = self._promise(key)
        if promise.status == ReservationStatus.RESTOCKED:
            return self._reply(key)
        if promise.status != ReservationStatus.SHIPPED:
            raise Refusal(ErrorCode.CONFLICT, "Only what was shipped can come back.")
        for shelf, line in self._of(promise):
            shelf.restocked += line.quantity
        promise.status = ReservationStatus.RESTOCKED
        return self._reply(key)

    def _promise(self, key: tuple[UUID, int]) -> Promise:
        promise = self.promises.get(key)
        if promise is None:
            raise Refusal(ErrorCode.NOT_FOUND, "Nothing was ever reserved for this parcel.")
        return promise

    def _require_within_limit(self, command: ReserveInventory) -> None:
        """Refusal: purchase_limit."""
        theirs = [promise for promise in self.promises.values() if promise.customer_id == command.customer_id]
        promised = [line for promise in theirs if promise.status in OPEN for line in promise.lines]
        for line in command.lines:
            before = sum(other.quantity for other in promised if other.product_id == line.product_id)
            if before + line.quantity > PROMISED_UNITS:
                raise Refusal(ErrorCode.PURCHASE_LIMIT, f"More than {PROMISED_UNITS} units of: {line.product_id}.")

    def _of(self, promise: Promise) -> list[tuple[Shelf, StockLine]]:
        return [(self.shelves[promise.warehouse_id or ""][line.product_id], line) for line in promise.lines]

    def _missing(self, warehouse_id: str, lines: Sequence[StockLine]) -> list[ShortLine]:
        shelves = self.shelves.get(warehouse_id, {})
        return [
            ShortLine(product_id=line.product_id, requested=line.quantity, available=available)
            for line in lines
            if line.quantity > (available := shelves.get(line.product_id, Shelf()).available)
        ]

    def _warehouse_with(self, lines: Sequence[StockLine]) -> str:
        """The first that has every line. Refusal: out_of_stock, measured at the warehouse that has most lines."""
        short, warehouse_id = min(
            ((self._missing(warehouse_id, lines), warehouse_id) for warehouse_id in sorted(self.shelves)),
            key=lambda option: (len(option[0]), option[1]),
            default=(self._missing("", lines), ""),
        )
        if short:
            raise _out_of_stock(short)
        return warehouse_id

    def _reply(self, key: tuple[UUID, int]) -> Reservation:
        promise = self.promises[key]
        order_id, parcel = key
        return Reservation(
            order_id=order_id, parcel=parcel, warehouse_id=promise.warehouse_id, status=promise.status, lines=promise.lines
        )


def _out_of_stock(short: Sequence[ShortLine]) -> Refusal:
    return Refusal(
        ErrorCode.OUT_OF_STOCK,
        f"Not enough in stock of: {', '.join(line.product_id for line in short)}.",
        extra={"lines": [line.model_dump() for line in short]},
    )


def _released() -> Refusal:
    return Refusal(ErrorCode.RESERVATION_RELEASED, "The reservation was released; nothing is promised any more.")

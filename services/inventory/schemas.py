"""Bodies of inventory's public endpoints."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Self, TypedDict, TypeVar
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from contracts.base import LARGEST_QUANTITY, Contract, Day, ProductId, Quantity, Reason, Request, ShortText, WarehouseId
from contracts.inventory import MovementKind, Place, StockLine

if TYPE_CHECKING:
    from services.inventory.model import ExpectedReceipt, Movement, Reservation, Stock, Warehouse


class WarehouseView(Contract):
    """A place with stock."""

    warehouse_id: str
    name: str
    place: Place | None
    """Where it is; absent: nobody has said, and it counts as far from everywhere."""
    version: int
    """Also its ETag."""

    @classmethod
    def of(cls, warehouse: "Warehouse") -> Self:
        return cls(warehouse_id=warehouse.warehouse_id, name=warehouse.name, place=warehouse.place, version=warehouse.version)


def _not_zero(change: int) -> int:
    if not change:
        raise ValueError("must not be 0")
    return change


class _Line(Request):
    """What changes of the stock of one product."""

    product_id: ProductId
    version: Annotated[int, Field(ge=1, le=LARGEST_QUANTITY)] | None = None
    """The version of this stock that you have seen (its ETag; of a transfer, where the product leaves). If somebody has changed
    it since, the whole request is refused as `stale_version`. Without a version it is changed whatever it is now."""


class ReceiptLine(_Line, StockLine):
    """One product of a delivery."""

    expected_receipt_id: UUID | None = None
    """What announced it: then that much less of it is expected, or nothing any more."""


class AdjustmentLine(_Line):
    """How many more of a product there are, or how many fewer."""

    change: Annotated[int, Field(ge=-100_000, le=100_000, examples=[-2]), AfterValidator(_not_zero)]
    """Units: positive for what was found, negative for what was lost or damaged."""


class CountLine(_Line):
    """How many of a product were counted."""

    counted: Quantity
    """Units, with those that are packed for an order and have not left."""


class TransferLine(_Line, StockLine):
    """How many of a product go to the other warehouse."""


Line = TypeVar("Line", bound=_Line)


def _each_product_once(lines: list[Line]) -> list[Line]:
    if len({line.product_id for line in lines}) != len(lines):
        raise ValueError("each product may stand on one line only")
    return lines


Lines = Annotated[list[Line], Field(min_length=1, max_length=1000), AfterValidator(_each_product_once)]


class ReceiptRequest(Request):
    """Goods that arrived at a warehouse."""

    warehouse_id: WarehouseId
    reference: ShortText
    """Of the delivery note."""
    lines: Lines[ReceiptLine]
    low_stock_threshold: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Alert when no more than this is left of one of these products; unchanged if absent."""


class AdjustmentRequest(Request):
    """What was found, lost or damaged at a warehouse."""

    warehouse_id: WarehouseId
    reason: Reason
    reference: ShortText | None = None
    """What you know it by, e.g. the number of a report."""
    lines: Lines[AdjustmentLine]


class CountRequest(Request):
    """What was counted at a warehouse; products without a line were not counted, and stay as they are."""

    warehouse_id: WarehouseId
    reason: Reason
    reference: ShortText | None = None
    """What you know it by, e.g. the number of the counting sheet."""
    lines: Lines[CountLine]


class TransferRequest(Request):
    """What goes from one warehouse to another."""

    from_warehouse_id: WarehouseId
    to_warehouse_id: WarehouseId
    reason: Reason
    reference: ShortText | None = None
    """What you know it by, e.g. the number of the transfer note."""
    lines: Lines[TransferLine]

    @model_validator(mode="after")
    def _is_between_two(self) -> Self:
        if self.from_warehouse_id == self.to_warehouse_id:
            raise ValueError("from_warehouse_id and to_warehouse_id must differ")
        return self


def versions_seen(lines: Sequence[_Line]) -> dict[str, int]:
    """By product, where a line says so."""
    return {line.product_id: line.version for line in lines if line.version is not None}


class Why(TypedDict):
    """What the commands that change stock by hand ask beside what changes."""

    reason: str
    reference: str | None
    seen: dict[str, int]


def announced(lines: Sequence[ReceiptLine]) -> dict[str, UUID]:
    """By product: the expected receipt that has arrived."""
    return {line.product_id: line.expected_receipt_id for line in lines if line.expected_receipt_id is not None}


def why(request: AdjustmentRequest | CountRequest | TransferRequest) -> Why:
    """What a person said of a change, and the versions that it is based on."""
    return Why(reason=request.reason, reference=request.reference, seen=versions_seen(request.lines))


class AnnouncementRequest(Request):
    """Goods that should arrive at a warehouse."""

    warehouse_id: WarehouseId
    product_id: ProductId
    quantity: Annotated[int, Field(ge=1, le=100_000)]
    expected_on: Day
    """Orders that wait are promised this day; once it is past, nothing, until it is moved."""
    reference: ShortText
    """What you know it by, e.g. the number of the purchase order."""


class MovedReceipt(Request):
    """Announced goods that come on another day."""

    expected_on: Day


class ExpectedReceiptView(Contract):
    """Goods that a supplier has announced."""

    receipt_id: UUID
    warehouse_id: str
    product_id: str
    announced: int
    quantity: int
    """What of it has not arrived yet."""
    expected_on: date
    reference: str
    status: str
    """EXPECTED, RECEIVED or CANCELLED."""
    actor: UUID
    created_at: datetime
    version: int
    """Also its ETag."""

    @classmethod
    def of(cls, receipt: "ExpectedReceipt") -> Self:
        return cls.model_validate(receipt, from_attributes=True)


class BackorderView(Contract):
    """A parcel of an order that waits for goods."""

    order_id: UUID
    parcel: int
    warehouse_id: str | None
    """The only warehouse that it may come from; absent: any."""
    lines: tuple[StockLine, ...]
    waiting_since: datetime
    expected_on: date | None
    """When it should be filled, by what is announced; absent: nobody knows."""

    @classmethod
    def of(cls, reservation: "Reservation") -> Self:
        return cls(
            order_id=reservation.order_id,
            parcel=reservation.parcel,
            warehouse_id=reservation.warehouse_id,
            lines=reservation.stock_lines,
            waiting_since=reservation.created_at,
            expected_on=reservation.expected_on,
        )


class OutlookView(Contract):
    """When there will be some of a product, at any warehouse."""

    product_id: str
    available: int
    """Units that can be promised now."""
    waiting: int
    """Parcels that wait for it."""
    awaited: int
    """Units that they wait for."""
    expected: int
    """Units that are announced and not overdue."""
    next_on: date | None
    """When there will be one that is promised to nobody yet; today, if there is one now; absent: nobody knows."""


class StockView(Contract):
    """The level of one product at one warehouse."""

    warehouse_id: str
    product_id: ProductId
    on_hand: int
    reserved: int
    available: int
    version: int
    """Also its ETag."""

    @classmethod
    def of(cls, stock: "Stock") -> Self:
        return cls(
            warehouse_id=stock.warehouse_id,
            product_id=stock.product_id,
            on_hand=stock.on_hand,
            reserved=stock.reserved,
            available=stock.available,
            version=stock.version,
        )


class MovementView(Contract):
    """One line of the ledger: what came or went, why, and who did it."""

    movement_id: int
    warehouse_id: str
    product_id: str
    change: int
    """Units; 0 for a count that found what was expected."""
    kind: MovementKind
    reference: str | None
    """An order, or what the person who did it calls it, e.g. the number of a delivery note."""
    reason: str | None
    actor: UUID | None
    """The person; absent where an order's saga did it."""
    other_warehouse_id: str | None
    """Of a transfer: where it went, or came from."""
    at: datetime

    @classmethod
    def of(cls, movement: "Movement") -> Self:
        return cls.model_validate(movement, from_attributes=True)

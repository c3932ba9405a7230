"""Bodies of inventory's public endpoints."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from contracts.base import Contract, ProductId, Request, ShortText, WarehouseId
from contracts.inventory import StockLine

if TYPE_CHECKING:
    from services.inventory.model import Stock, Warehouse


class WarehouseView(Contract):
    """A place with stock."""

    warehouse_id: str
    name: str

    @classmethod
    def of(cls, warehouse: "Warehouse") -> Self:
        return cls(warehouse_id=warehouse.warehouse_id, name=warehouse.name)


class ReceiptLine(Request, StockLine):
    """One product of a delivery."""


class ReceiptRequest(Request):
    """Goods that arrived at a warehouse."""

    warehouse_id: WarehouseId
    reference: ShortText
    """Of the delivery note."""
    lines: Annotated[list[ReceiptLine], Field(min_length=1, max_length=1000)]
    low_stock_threshold: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Alert when no more than this is left of one of these products; unchanged if absent."""

    @model_validator(mode="after")
    def _each_product_once(self) -> Self:
        if len({line.product_id for line in self.lines}) != len(self.lines):
            raise ValueError("each product may stand on one line only")
        return self


class StockView(Contract):
    """The level of one product at one warehouse."""

    warehouse_id: str
    product_id: ProductId
    on_hand: int
    reserved: int
    available: int

    @classmethod
    def of(cls, stock: "Stock") -> Self:
        return cls(
            warehouse_id=stock.warehouse_id,
            product_id=stock.product_id,
            on_hand=stock.on_hand,
            reserved=stock.reserved,
            available=stock.available,
        )

"""Commands of the saga to inventory, and its replies."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from contracts.base import Command, Contract, ParcelNumber, ProductId, Quantity, Told, WarehouseId


class StockLine(Contract):
    product_id: ProductId
    quantity: Annotated[int, Field(ge=1, le=100_000)]


class ShortLine(Contract):
    """A line that cannot be filled: how many were asked for and how many this customer could have."""

    product_id: ProductId
    requested: Quantity
    available: Quantity


class ReservationStatus(StrEnum):
    """RESERVED lasts until its saga releases or ships it. RESTOCKED: shipped, came back, is on the shelf again."""

    RESERVED = "RESERVED"
    RELEASED = "RELEASED"
    SHIPPED = "SHIPPED"
    RESTOCKED = "RESTOCKED"


class MovementKind(StrEnum):
    """Why what is on hand changed: goods arrived from a supplier, left for a customer, came back from one; were found, lost or
    damaged; were counted; went from one warehouse to another."""

    RECEIPT = "RECEIPT"
    SHIPMENT = "SHIPMENT"
    RETURN = "RETURN"
    ADJUSTMENT = "ADJUSTMENT"
    COUNT = "COUNT"
    TRANSFER = "TRANSFER"


class ReserveInventory(Command):
    """Reserve every line at one warehouse, or none. Idempotent by order and parcel. Refusals: out_of_stock, warehouse_unknown,
    purchase_limit (not of a parcel that is sent again), reservation_released (the undo came first)."""

    order_id: UUID
    parcel: ParcelNumber = 1
    customer_id: UUID
    lines: Annotated[tuple[StockLine, ...], Field(min_length=1, max_length=100)]
    warehouse_id: WarehouseId | None = None


class ReleaseInventory(Command):
    """Undo of reserve. Does nothing but remember itself if nothing was reserved. Refusal: reservation_shipped."""

    order_id: UUID
    parcel: ParcelNumber = 1
    reason: Told


class ShipInventory(Command):
    """The parcel has left: take the reserved stock off the shelf. Refusal: reservation_released."""

    order_id: UUID
    parcel: ParcelNumber = 1


class RestockInventory(Command):
    """What was shipped has come back whole: put it on the shelf again. Refusals: not_found, conflict (it was not shipped)."""

    order_id: UUID
    parcel: ParcelNumber = 1
    reason: Told


class Reservation(Contract):
    """Reply to each of the commands above."""

    order_id: UUID
    parcel: ParcelNumber = 1
    warehouse_id: WarehouseId | None
    """None only where nothing was ever reserved."""
    status: ReservationStatus
    lines: tuple[StockLine, ...] = ()

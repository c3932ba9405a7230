"""Commands of the saga to shipping, its replies, and what a carrier reports."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from contracts.address import Address
from contracts.base import Command, Contract, Told, WarehouseId, Weight


class ShipmentStatus(StrEnum):
    """PENDING: asked of the carrier, answer unknown. BOOKED is the last state that can be cancelled."""

    PENDING = "PENDING"
    BOOKED = "BOOKED"
    DISPATCHED = "DISPATCHED"
    IN_TRANSIT = "IN_TRANSIT"
    DELIVERED = "DELIVERED"
    CANCELLED = "CANCELLED"
    REFUSED = "REFUSED"


class CreateShipment(Command):
    """Book a parcel with the carrier. Idempotent by `order_id`. Refusals: address_undeliverable, parcel_too_heavy,
    shipment_cancelled (the undo came first)."""

    order_id: UUID
    customer_id: UUID
    warehouse_id: WarehouseId
    ship_to: Address
    weight_grams: Weight


class CancelShipment(Command):
    """Undo of create. Does nothing but remember itself if nothing was booked. Refusal: already_dispatched."""

    order_id: UUID
    reason: Told


class Shipment(Contract):
    """Reply to each of the commands above."""

    shipment_id: UUID
    order_id: UUID
    status: ShipmentStatus
    tracking_number: str | None = None


class ShipmentUpdate(Contract):
    """Argument of the workflow's `shipment_updated` signal."""

    status: ShipmentStatus
    occurred_at: datetime | None = None
    tracking_number: str | None = None

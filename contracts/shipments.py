"""Commands of the saga to shipping, its replies, and what a carrier reports."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from contracts.address import Address
from contracts.base import Command, Contract, ParcelNumber, Told, WarehouseId, Weight


class ShipmentStatus(StrEnum):
    """PENDING: asked of the carrier, answer unknown. BOOKED is the last state that can be cancelled. LOST, RETURNED: so the
    carrier says of a parcel that had left; a lost one may still turn up."""

    PENDING = "PENDING"
    BOOKED = "BOOKED"
    DISPATCHED = "DISPATCHED"
    IN_TRANSIT = "IN_TRANSIT"
    DELIVERED = "DELIVERED"
    LOST = "LOST"
    RETURNED = "RETURNED"
    CANCELLED = "CANCELLED"
    REFUSED = "REFUSED"


class CreateShipment(Command):
    """Book a parcel with the carrier. Idempotent by order and parcel. Refusals: address_undeliverable, parcel_too_heavy,
    shipment_cancelled (the undo came first)."""

    order_id: UUID
    parcel: ParcelNumber = 1
    customer_id: UUID
    warehouse_id: WarehouseId
    ship_to: Address
    weight_grams: Weight
    service: Annotated[Told, Field(max_length=40)] = "standard"
    """How fast: a service level of the tariff."""
    parcels: ParcelNumber = 1
    """How many the order is sent in, for the mails about them."""


class CancelShipment(Command):
    """Undo of create. Does nothing but remember itself if nothing was booked. Refusal: already_dispatched, with its
    `tracking_number`."""

    order_id: UUID
    parcel: ParcelNumber = 1
    reason: Told


class Shipment(Contract):
    """Reply to each of the commands above."""

    shipment_id: UUID
    order_id: UUID
    parcel: ParcelNumber = 1
    status: ShipmentStatus
    tracking_number: str | None = None


class ShipmentUpdate(Contract):
    """Argument of the workflow's `shipment_updated` signal."""

    parcel: ParcelNumber = 1
    status: ShipmentStatus
    occurred_at: datetime | None = None
    tracking_number: str | None = None

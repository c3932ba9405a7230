"""Commands of the saga to shipping, its replies, and what a carrier reports."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StringConstraints

from contracts.address import Address
from contracts.base import Command, Contract, ParcelNumber, ProductId, Quantity, ReturnNumber, Told, WarehouseId, Weight
from contracts.money import Money


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


class Direction(StrEnum):
    """Which way a parcel travels."""

    OUTBOUND = "outbound"
    """From a warehouse to a customer."""
    INBOUND = "inbound"
    """From a customer to a warehouse: a return comes back in it."""


class ShipmentLine(Contract):
    """Units of one product in a parcel: for the pick list, the packing slip and customs."""

    product_id: ProductId
    name: Told
    quantity: Quantity
    unit_price: Money
    """What customs is told that one of them is worth."""
    weight_grams: Weight = 0
    """Of one of them; 0: nobody knows."""
    hs_code: Annotated[str, StringConstraints(pattern=r"^[0-9.]{4,14}$")] | None = None
    """Of the Harmonized System, if known."""
    origin_country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = None
    """Where it was made; None: where it is sent from."""


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
    lines: Annotated[tuple[ShipmentLine, ...], Field(max_length=100, exclude_if=lambda lines: not lines)] = ()
    """What is in it; none: nobody has said."""


class CancelShipment(Command):
    """Undo of create. Does nothing but remember itself if nothing was booked. Refusal: already_dispatched, with its
    `tracking_number`."""

    order_id: UUID
    parcel: ParcelNumber = 1
    reason: Told


class CreateReturnLabel(Command):
    """Book the parcel in which goods of an order come back. Idempotent by order and number. Refusals: address_undeliverable (no
    carrier fetches there), parcel_too_heavy, warehouse_unknown, shipment_cancelled (the undo came first)."""

    order_id: UUID
    number: ReturnNumber
    customer_id: UUID
    ship_from: Address
    warehouse_id: WarehouseId
    weight_grams: Weight


class CancelReturnLabel(Command):
    """Undo of create. Does nothing but remember itself if nothing was booked. Refusal: already_dispatched."""

    order_id: UUID
    number: ReturnNumber
    reason: Told


class ReturnLabel(Contract):
    """Reply to both."""

    order_id: UUID
    number: ReturnNumber
    status: ShipmentStatus
    tracking_number: str | None = None


class LookUpTariff(Command):
    """Body of `POST /internal/v1/shipping/tariff`: what do parcels to a place cost? All that a tariff may depend on, so that few
    questions cover all addresses."""

    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    region: Annotated[Told, Field(max_length=120)] | None = None
    postal_prefix: Annotated[Told, Field(max_length=3)] = ""
    """The first three characters of its postal code, in capitals, spaces left out."""

    @classmethod
    def to(cls, country: str, region: str | None, postal_code: str) -> Self:
        """The question about an address."""
        return cls(country=country, region=region, postal_prefix=postal_code.replace(" ", "").upper()[:3])


class ServiceTariff(Contract):
    """What a parcel costs by one service level: the first kilogram and each further one begun."""

    service: Annotated[Told, Field(max_length=40)]
    """E.g. `standard`."""
    first_kilogram: Money
    further_kilogram: Money
    days: Annotated[int, Field(ge=0, le=365)]
    """Working days until delivery, at most."""

    def price(self, weight_grams: int) -> Money:
        """What a parcel of this weight costs."""
        return self.first_kilogram + self.further_kilogram * max(0, -(-weight_grams // 1000) - 1)


class Tariff(Contract):
    """Reply: what parcels to that place cost."""

    services: Annotated[tuple[ServiceTariff, ...], Field(max_length=20)] = ()
    """None: no parcel of ours goes there."""


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

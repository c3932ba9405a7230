"""Bodies of shipping's public endpoints."""

from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from contracts.address import Address, Line
from contracts.base import NO_CONTROLS, Command, Contract, Request, Timestamp, WarehouseId
from contracts.errors import ErrorCode, FieldError
from contracts.money import Money
from contracts.shipments import Direction, ShipmentStatus
from services.shipping.model.rates import Rate, Zone
from services.shipping.ports import CarrierNews

if TYPE_CHECKING:
    from services.shipping.model import Shipment, TrackingEvent

Text = Annotated[str, StringConstraints(max_length=200, pattern=NO_CONTROLS)]
TrackingNumber = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{4,100}$")]


class Destination(Request):
    """Where to. Country and postal code are enough for a price; a whole address may be given."""

    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$"), Field(examples=["US"])]
    postal_code: Annotated[str, StringConstraints(min_length=1, max_length=16, strip_whitespace=True), Field(examples=["94043"])]
    region: Annotated[Line | None, Field(examples=["CA"])] = None
    city: Line | None = None
    line1: Line | None = None
    line2: Line | None = None
    name: Line | None = None


class RatesRequest(Request):
    """What would it cost to send this much there?"""

    ship_to: Destination
    weight_grams: Annotated[int, Field(ge=1, le=10_000_000, strict=True, examples=[2500])]
    warehouse_id: Annotated[WarehouseId | None, Field(examples=["410"])] = None
    """The warehouse that sends it. All of them share one tariff."""


class RatesView(Contract):
    """Every way to send it, cheapest first."""

    zone: Zone
    rates: list[Rate]


class AddressDraft(Request):
    """An address as somebody typed it."""

    name: Annotated[Text | None, Field(examples=["A. Customer"])] = None
    line1: Annotated[Text | None, Field(examples=["1600 Amphitheatre Pkwy"])] = None
    line2: Text | None = None
    city: Annotated[Text | None, Field(examples=["Mountain View"])] = None
    region: Annotated[Text | None, Field(examples=["California"])] = None
    postal_code: Annotated[Text | None, Field(examples=["94043"])] = None
    country: Annotated[Text | None, Field(examples=["US"])] = None
    """ISO 3166-1 alpha-2."""


class AddressCheckRequest(Request):
    """Can a parcel get there?"""

    address: AddressDraft


class AddressCheckView(Contract):
    """`address` is the one to order with, as the post of its country writes it; `errors` say what to mend."""

    deliverable: bool
    address: Address | None = None
    zone: Zone | None = None
    errors: list[FieldError] = Field(default_factory=list)


class CarrierNewsRequest(Command):
    """What the carrier tells of a parcel. Fields that we do not know are its own business."""

    id: Annotated[
        str,
        StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROLS),
        Field(examples=["evt_5f1d6c0a9b3e4d2f8a7b6c5d"]),
    ]
    """Of this piece of news; repeated news has the same."""
    reference: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROLS)]
    """Our reference of the parcel, as we booked it."""
    tracking_number: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROLS)] | None = None
    status: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]{1,40}$"), Field(examples=["in_transit", "delivered"])]
    occurred_at: Timestamp

    @property
    def news(self) -> CarrierNews:
        return CarrierNews(**dict(self))


class ShipmentView(Contract):
    """One parcel."""

    shipment_id: UUID
    order_id: UUID
    parcel: int
    """1, and the next number each time the order is sent again; of an inbound one the number of the return."""
    direction: Direction
    """Whether it goes to the customer, or comes back to a warehouse."""
    customer_id: UUID | None
    warehouse_id: str | None
    status: ShipmentStatus
    tracking_number: str | None
    ship_to: Address | None
    """Absent of an inbound one: that goes to its warehouse."""
    ship_from: Address | None
    """Of an inbound one: where it is fetched."""
    weight_grams: int
    refusal: ErrorCode | None
    """Why it was not taken; only with status REFUSED."""
    carrier_cost: Money | None
    """What the carrier charges us; shown to staff only."""
    created_at: AwareDatetime
    version: int

    @classmethod
    def of(cls, shipment: "Shipment", *, for_staff: bool) -> Self:
        return cls(
            shipment_id=shipment.shipment_id,
            order_id=shipment.order_id,
            parcel=shipment.parcel,
            direction=shipment.direction,
            customer_id=shipment.customer_id,
            warehouse_id=shipment.warehouse_id,
            status=shipment.status,
            tracking_number=shipment.tracking_number,
            ship_to=Address.model_validate(shipment.ship_to) if shipment.ship_to else None,
            ship_from=Address.model_validate(shipment.ship_from) if shipment.ship_from else None,
            weight_grams=shipment.weight_grams,
            refusal=ErrorCode(shipment.refusal_code) if shipment.refusal_code else None,
            carrier_cost=shipment.carrier_cost if for_staff else None,
            created_at=shipment.created_at,
            version=shipment.version,
        )


class TrackingEntry(Contract):
    """One thing that happened to a parcel."""

    status: str
    """A shipment's status, or the carrier's own word in capitals, e.g. OUT_FOR_DELIVERY."""
    occurred_at: AwareDatetime

    @classmethod
    def of(cls, event: "TrackingEvent") -> Self:
        return cls(status=event.status, occurred_at=event.occurred_at)


class TrackingView(Contract):
    """Where a parcel is, and how it got there: its latest 100 events, oldest first."""

    tracking_number: str
    order_id: UUID
    direction: Direction
    parcel: int
    """Of an inbound one: the number of the return."""
    shipment_id: UUID
    status: ShipmentStatus
    events: list[TrackingEntry]

"""Bodies of shipping's public endpoints."""

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from contracts.address import Address, Line
from contracts.base import NO_CONTROLS, Contract, Request, WarehouseId
from contracts.errors import ErrorCode, FieldError
from contracts.money import Money
from contracts.shipments import Direction, ShipmentLine, ShipmentStatus
from services.shipping.model.package import LabelRefund
from services.shipping.model.rates import Rate, Zone

if TYPE_CHECKING:
    from services.shipping.model import Package, Shipment, TrackingEvent
    from services.shipping.model.package import KeptRate

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


class CheckedBy(StrEnum):
    """Whose word it is."""

    CARRIER = "carrier"
    """It knows whether there is such an address."""
    SHOP = "shop"
    """Its form is that of its country, and parcels of ours go there."""


class AddressCheckView(Contract):
    """`address` is the one to order with, as the post of its country writes it; `errors` say what to mend."""

    deliverable: bool
    address: Address | None = None
    zone: Zone | None = None
    errors: list[FieldError] = Field(default_factory=list)
    checked_by: CheckedBy = CheckedBy.SHOP
    """`shop`, though a carrier is asked otherwise: it gave no answer."""


class RateView(Contract):
    """What a service of a carrier asked for a package."""

    carrier: str
    service: str
    price: Money
    days: int | None
    """Working days until delivery; absent: the carrier does not say."""
    chosen: bool
    refused: bool
    """It could not be bought after all."""


class PackageView(Contract):
    """One package of a parcel, with a label of its own."""

    number: int
    tracking_number: str | None
    weight_grams: int
    """With its box."""
    carrier: str | None
    """Who carries it, e.g. `USPS`."""
    service: str | None
    sold_by: str | None
    """Of whom the label was bought: `easypost`, or `tariff`, our own vans. This and all that follows is shown to staff only."""
    box: str | None
    billed_grams: int | None
    """What the carrier bills: its weight, or what its room stands for."""
    cost: Money | None
    choice: str | None
    """Why this rate was bought."""
    rates: list[RateView]
    refund: LabelRefund | None
    """What becomes of the money for a label that is not needed."""

    @classmethod
    def of(cls, package: "Package", *, for_staff: bool) -> Self:
        rate = package.rate if package.label or for_staff else None
        return cls(
            number=package.number,
            tracking_number=package.tracking_number,
            weight_grams=package.weight_grams,
            carrier=rate.carrier if rate else None,
            service=rate.service if rate else None,
            sold_by=package.carrier if for_staff else None,
            box=package.box if for_staff else None,
            billed_grams=package.billed_grams if for_staff else None,
            cost=package.cost if for_staff else None,
            choice=package.choice if for_staff else None,
            rates=[_rate_view(kept, package.rate_id) for kept in package.rates] if for_staff else [],
            refund=package.refund if for_staff else None,
        )


def _rate_view(kept: "KeptRate", chosen: str | None) -> RateView:
    return RateView(
        carrier=kept["carrier"],
        service=kept["service"],
        price=Money.from_minor(kept["cost"], kept["currency"]),
        days=kept["days"],
        chosen=kept["id"] == chosen,
        refused=kept["refused"],
    )


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
    promised_on: date
    """Until when it should arrive."""
    strayed: bool | None
    """It was called off, and a carrier has it all the same; shown to staff only."""
    packages: list[PackageView]
    """None, of one that has no label yet, or of before there were packages."""
    created_at: AwareDatetime
    version: int

    @classmethod
    def of(cls, shipment: "Shipment", packages: "Sequence[Package]", *, for_staff: bool) -> Self:
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
            promised_on=shipment.promised_on,
            strayed=shipment.strayed if for_staff else None,
            packages=[PackageView.of(package, for_staff=for_staff) for package in packages],
            created_at=shipment.created_at,
            version=shipment.version,
        )


class ToDispatchView(Contract):
    """A parcel that a warehouse has to hand over."""

    shipment_id: UUID
    order_id: UUID
    parcel: int
    warehouse_id: str | None
    promised_on: date
    service: str
    ship_to: Address | None
    tracking_numbers: list[str]
    """Of its packages."""
    carriers: list[str]
    lines: list[ShipmentLine]
    """What is in it; none: nobody has said."""
    version: int

    @classmethod
    def of(cls, shipment: "Shipment", packages: "Sequence[Package]") -> Self:
        return cls(
            shipment_id=shipment.shipment_id,
            order_id=shipment.order_id,
            parcel=shipment.parcel,
            warehouse_id=shipment.warehouse_id,
            promised_on=shipment.promised_on,
            service=shipment.service,
            ship_to=Address.model_validate(shipment.ship_to) if shipment.ship_to else None,
            tracking_numbers=[package.tracking_number for package in packages if package.tracking_number],
            carriers=sorted({rate.carrier for package in packages if (rate := package.rate)}),
            lines=[line for package in packages for line in package.contents],
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

"""Parcels: their state, their rules, and the events that tell of a change. Those in which returns come back are among them.

Who wins when a cancel meets a dispatch is decided by the parcel's row, which both change: carriers know no hand-over, and
take a label back that they have not seen (ADR 42). A label that was bought, or may have been, and is not needed is money owed to
us: see package.py.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, Boolean, Column, Date, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.access import Grant
from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts import shipments as contract
from contracts.address import Address
from contracts.errors import ErrorCode, Refusal
from contracts.events import (
    Event,
    ReturnLabelUpdated,
    ShipmentCreated,
    ShipmentDelivered,
    ShipmentDispatched,
    ShipmentLost,
    ShipmentReturned,
    TrackingUpdated,
)
from contracts.ids import parcel_reference, return_reference
from contracts.money import Money
from contracts.shipments import (
    CancelReturnLabel,
    CancelShipment,
    CreateReturnLabel,
    CreateShipment,
    Direction,
    ShipmentLine,
    ShipmentStatus,
)
from services.shipping.model import packing, rates
from services.shipping.model.base import Table
from services.shipping.model.package import Package, together
from services.shipping.model.packing import Box
from services.shipping.ports import Consignment, Place

_S = ShipmentStatus
NEXT: Mapping[ShipmentStatus, frozenset[ShipmentStatus]] = {
    _S.PENDING: frozenset({_S.BOOKED, _S.REFUSED, _S.CANCELLED}),
    _S.BOOKED: frozenset({_S.DISPATCHED, _S.CANCELLED}),
    _S.DISPATCHED: frozenset({_S.IN_TRANSIT, _S.DELIVERED, _S.LOST, _S.RETURNED}),
    _S.IN_TRANSIT: frozenset({_S.DELIVERED, _S.LOST, _S.RETURNED}),
    _S.LOST: frozenset({_S.IN_TRANSIT, _S.DELIVERED, _S.RETURNED}),
    _S.DELIVERED: frozenset(),
    _S.RETURNED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.REFUSED: frozenset(),
}
"""The one transition table; `Shipment._move` raises on anything else. A lost parcel may turn up."""
NOT_DISPATCHED = frozenset({_S.PENDING, _S.BOOKED})
"""The parcel is still ours to cancel."""
HAS_LEFT = frozenset({_S.DISPATCHED, _S.IN_TRANSIT, _S.DELIVERED, _S.LOST, _S.RETURNED})
"""The carrier has it, or had it."""


class Shipment(Table, Aggregate, table=True):
    """One parcel of an order: the first, one that was sent again, or one in which a return comes back.

    Without a customer it is a tombstone: the undo overtook the step, and the late step is refused.
    """

    __tablename__ = "shipments"
    __table_args__ = (
        UniqueConstraint("order_id", "direction", "parcel"),
        Index("ix_shipments_customer", "customer_id", "shipment_id"),
        Index("ix_shipments_warehouse", "warehouse_id", "shipment_id"),
        Index("ix_shipments_status", "status", "shipment_id"),
        Index(
            "ix_shipments_to_dispatch",
            *("warehouse_id", "promised_on", "shipment_id"),
            postgresql_where=text("status = 'BOOKED' and direction = 'outbound'"),
        ),
        Index("ix_shipments_strayed", "shipment_id", postgresql_where=text("strayed")),
    )

    shipment_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    order_id: UUID
    direction: Direction = Field(
        default=Direction.OUTBOUND, sa_column=enum_column(Direction, server_default=Direction.OUTBOUND.value)
    )
    parcel: int = 1
    """Of what is INBOUND: the number of the return."""
    parcels: int = 1
    """How many the order is sent in, as far as was known when it was booked."""
    reference: str = Field(max_length=60, unique=True)
    """The carrier's name for it, made of the three: one parcel, whatever is repeated."""
    customer_id: UUID | None = None
    warehouse_id: str | None = Field(default=None, max_length=40)
    """Where it comes from, or, if it is INBOUND, goes to."""
    ship_to: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """The customer's Address; None if it is INBOUND."""
    ship_from: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """The customer's Address; None if it is OUTBOUND."""
    weight_grams: int = Field(default=0, sa_type=BigInteger)
    service: str = Field(default=rates.ServiceLevel.STANDARD, max_length=40, sa_column_kwargs={"server_default": "standard"})
    """How fast it travels: a ServiceLevel."""
    status: ShipmentStatus = Field(sa_column=enum_column(ShipmentStatus))
    promised_on: date = Field(
        default_factory=lambda: utc_now().date(), sa_column=Column(Date, nullable=False, server_default=func.current_date())
    )
    """Until when it should arrive, by our tariff."""
    strayed: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    """It was called off, and a carrier has it all the same: somebody has to look where the goods are."""
    tracking_number: str | None = Field(default=None, max_length=100, index=True)
    carrier_cost_minor: int | None = Field(default=None, sa_type=BigInteger)
    carrier_currency: str | None = Field(default=None, max_length=3)
    refusal_code: str | None = Field(default=None, max_length=40)
    """An ErrorCode; None exactly when it is not REFUSED."""
    refusal_detail: str | None = Field(default=None, max_length=500)
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @classmethod
    def to_book(cls, command: CreateShipment) -> "Shipment":
        """The parcel that a command asks for: PENDING, or REFUSED at once where our own tariff has no price for it."""
        shipment = cls(
            order_id=command.order_id,
            parcel=command.parcel,
            parcels=command.parcels,
            reference=parcel_reference(command.order_id, command.parcel),
            customer_id=command.customer_id,
            warehouse_id=command.warehouse_id,
            ship_to=command.ship_to.model_dump(),
            weight_grams=max(command.weight_grams, 1),
            service=command.service,
            status=ShipmentStatus.PENDING,
        )
        shipment._refuse_what_has_no_price(command.ship_to)
        return shipment

    @classmethod
    def label_to_book(cls, command: CreateReturnLabel) -> "Shipment":
        """The parcel in which a return comes back: PENDING, or REFUSED as `to_book` says."""
        label = cls(
            order_id=command.order_id,
            direction=Direction.INBOUND,
            parcel=command.number,
            reference=return_reference(command.order_id, command.number),
            customer_id=command.customer_id,
            warehouse_id=command.warehouse_id,
            ship_from=command.ship_from.model_dump(),
            weight_grams=max(command.weight_grams, 1),
            status=ShipmentStatus.PENDING,
        )
        label._refuse_what_has_no_price(command.ship_from)
        return label

    @classmethod
    def tombstone(cls, command: CancelShipment) -> "Shipment":
        """Remembers a cancel that came before anything was booked."""
        return cls(
            order_id=command.order_id,
            parcel=command.parcel,
            reference=parcel_reference(command.order_id, command.parcel),
            status=ShipmentStatus.CANCELLED,
        )

    @classmethod
    def label_tombstone(cls, command: CancelReturnLabel) -> "Shipment":
        """As `tombstone`."""
        return cls(
            order_id=command.order_id,
            direction=Direction.INBOUND,
            parcel=command.number,
            reference=return_reference(command.order_id, command.number),
            status=ShipmentStatus.CANCELLED,
        )

    @property
    def customers_address(self) -> Address:
        """Where it goes, or where a return is fetched."""
        return Address.model_validate(self.ship_from if self.direction == Direction.INBOUND else self.ship_to)

    def packed(self, lines: Sequence[ShipmentLine], boxes: Sequence[Box]) -> list[Package]:
        """Its packages. One that is too much for twenty is REFUSED, and has none."""
        if self.status != ShipmentStatus.PENDING:
            return []
        try:
            packed = packing.pack(self.weight_grams, lines, boxes)
        except Refusal as refusal:
            self.refused(refusal)
            return []
        return [Package.of(self.shipment_id, self.reference, number, one) for number, one in enumerate(packed, start=1)]

    def consignment(self, package: Package, warehouse: Place) -> Consignment:
        """One of its packages as a carrier is told of it."""
        customer, is_return = Place(self.customers_address), self.direction == Direction.INBOUND
        return Consignment(
            reference=package.reference,
            origin=customer if is_return else warehouse,
            destination=warehouse if is_return else customer,
            size=package.size,
            weight_grams=package.weight_grams,
            service=self.service,
            is_return=is_return,
            lines=package.contents,
        )

    @property
    def promised_days(self) -> int | None:
        """What our tariff promises, in working days."""
        address = self.customers_address
        return rates.days_of(rates.zone_of(address.country, address.region, address.postal_code), self.service)

    @property
    def carrier_cost(self) -> Money | None:
        """What the carrier charges us."""
        if self.carrier_cost_minor is None or self.carrier_currency is None:
            return None
        return Money.from_minor(self.carrier_cost_minor, self.carrier_currency)

    def forget_person(self) -> None:
        """Blank where it went or was fetched, and what the carrier said of that, once its order has ended. The order, the
        customer's id, the status, the weight, the tracking number and the country stay. What is added to a parcel later and
        names a person belongs here."""
        if self.ship_to is not None:
            self.ship_to = Address.model_validate(self.ship_to).without_person().model_dump()
        if self.ship_from is not None:
            self.ship_from = Address.model_validate(self.ship_from).without_person().model_dump()
        self.refusal_detail = None

    def is_within(self, caller: Grant) -> bool:
        """Whether the caller reaches it: its customer, its warehouse."""
        return caller.reaches(owner=self.customer_id, warehouse=self.warehouse_id)

    def require_not_undone(self) -> None:
        """Refusals: shipment_cancelled, or what it was refused for."""
        self._require_no_cancel()
        if self.refusal_code is not None:
            raise Refusal(ErrorCode(self.refusal_code), self.refusal_detail or "")

    def booked(self, packages: Sequence[Package]) -> list[Event]:
        """The labels of all its packages were bought. Changes nothing if that was known, or if it was cancelled."""
        if self.status != ShipmentStatus.PENDING:
            return []
        self._knows_labels(packages)
        return self._advance_to(ShipmentStatus.BOOKED, utc_now())

    def refused(self, refusal: Refusal) -> list[Event]:
        """No carrier takes it."""
        if self.status == ShipmentStatus.PENDING:
            self._move(ShipmentStatus.REFUSED)
            self.refusal_code, self.refusal_detail = refusal.code, refusal.detail
        return []

    def cancel(self) -> list[Event]:
        """It shall not leave; nothing if there is nothing to cancel (any more). Refusal: already_dispatched."""
        if self.status in HAS_LEFT:
            raise self.already_dispatched()
        return self.cancelled()

    def already_dispatched(self) -> Refusal:
        """The refusal of a cancel that comes too late, with what finds the parcel."""
        is_return = self.direction == Direction.INBOUND
        return Refusal(
            ErrorCode.ALREADY_DISPATCHED,
            "The carrier has the parcel." if is_return else "The parcel has left; it can only be returned.",
            extra={"tracking_number": self.tracking_number},
        )

    def cancelled(self) -> list[Event]:
        """It will not leave, or its label counts no more. Refusal: illegal_transition, if it has left."""
        if self.status in (ShipmentStatus.CANCELLED, ShipmentStatus.REFUSED):
            return []
        self._move(ShipmentStatus.CANCELLED)
        return [self._event_of_status(utc_now())] if self.customer_id else []

    def dispatch(self) -> list[Event]:
        """It is handed over; nothing if it has left. Refusals: shipment_cancelled, illegal_transition (also of what comes back:
        that its customer hands over)."""
        if self.direction == Direction.INBOUND:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, "The customer hands over what comes back; the carrier tells of it.")
        if self.status not in HAS_LEFT:
            self._require_no_cancel()
            self._require_next(ShipmentStatus.DISPATCHED)
        return self._advance_to(ShipmentStatus.DISPATCHED, utc_now())

    def delivered(self, at: datetime) -> list[Event]:
        """It is at the door, says a person. Refusal: illegal_transition, if it has not left."""
        if self.status != ShipmentStatus.DELIVERED:
            self._require_next(ShipmentStatus.DELIVERED)
        return self._advance_to(ShipmentStatus.DELIVERED, at)

    def reported(self, packages: Sequence[Package], at: datetime) -> list[Event]:
        """The carrier tells where its packages are. Stages that we missed are made up for. Of one that was called off and travels
        all the same, it is noted that it has strayed."""
        status = together(packages)
        if self.status in (ShipmentStatus.CANCELLED, ShipmentStatus.REFUSED):
            self.strayed = self.strayed or status in HAS_LEFT
            return []
        self._knows_labels(packages)
        if status == ShipmentStatus.CANCELLED:
            return self.cancelled() if self.status in NOT_DISPATCHED else []
        return self._advance_to(ShipmentStatus(status), at) if status in HAS_LEFT else []

    def reply(self) -> contract.Shipment:
        return contract.Shipment(
            shipment_id=self.shipment_id,
            order_id=self.order_id,
            parcel=self.parcel,
            status=self.status,
            tracking_number=self.tracking_number,
        )

    def label_reply(self) -> contract.ReturnLabel:
        """`reply` of what is INBOUND."""
        return contract.ReturnLabel(
            order_id=self.order_id, number=self.parcel, status=self.status, tracking_number=self.tracking_number
        )

    def _knows_labels(self, packages: Sequence[Package]) -> None:
        """The first package's number stands for all of them; the cost is that of those in the first one's currency."""
        in_order = sorted(packages, key=lambda package: package.number)
        labels = [label for package in in_order if (label := package.label)]
        if labels and self.tracking_number is None:
            self.tracking_number, self.carrier_currency = labels[0].tracking_number, labels[0].cost.currency
        if labels:
            same = [label.cost.minor for label in labels if label.cost.currency == self.carrier_currency]
            self.carrier_cost_minor = sum(same)

    def _refuse_what_has_no_price(self, address: Address) -> None:
        if rates.zone_of(address.country, address.region, address.postal_code) is None:
            self.refused(rates.not_served())
        elif self.weight_grams > rates.HEAVIEST_GRAMS:
            self.refused(rates.too_heavy())
        elif self.promised_days is not None:
            self.promised_on = working_day(self.created_at.date(), self.promised_days)

    def _advance_to(self, to: ShipmentStatus, at: datetime) -> list[Event]:
        """Go on to where the carrier has it, through the stages before that; nothing if it is past that. Refusal:
        illegal_transition, if it will never leave."""
        if self.status in (ShipmentStatus.CANCELLED, ShipmentStatus.REFUSED):
            self._require_next(to)
        events: list[Event] = []
        for stage in (ShipmentStatus.BOOKED, ShipmentStatus.DISPATCHED, to):
            if self.status != to and stage in NEXT[self.status]:
                self._move(stage)
                events.append(self._event_of_status(at))
        return events

    def _event_of_status(self, at: datetime) -> Event:
        if self.direction == Direction.INBOUND:
            return ReturnLabelUpdated(
                order_id=self.order_id,
                number=self.parcel,
                status=self.status,
                tracking_number=self.tracking_number,
                occurred_at=at,
            )
        match self.status:
            case ShipmentStatus.BOOKED:
                return ShipmentCreated(**self._common_fields(), warehouse_id=self.warehouse_id or "")
            case ShipmentStatus.DISPATCHED:
                return ShipmentDispatched(**self._common_fields(), parcels=self.parcels, occurred_at=at)
            case ShipmentStatus.DELIVERED:
                return ShipmentDelivered(**self._common_fields(), parcels=self.parcels, occurred_at=at)
            case ShipmentStatus.LOST:
                return ShipmentLost(**self._common_fields(), occurred_at=at)
            case ShipmentStatus.RETURNED:
                return ShipmentReturned(**self._common_fields(), occurred_at=at)
            case other:
                return TrackingUpdated(**self._common_fields(), status=other, occurred_at=at)

    def _common_fields(self) -> dict[str, Any]:
        return {
            "order_id": self.order_id,
            "shipment_id": self.shipment_id,
            "parcel": self.parcel,
            "customer_id": self.customer_id,
            "tracking_number": self.tracking_number,
        }

    def _require_no_cancel(self) -> None:
        if self.status == ShipmentStatus.CANCELLED:
            raise Refusal(ErrorCode.SHIPMENT_CANCELLED, "The shipment was cancelled.")

    def _move(self, to: ShipmentStatus) -> None:
        self._require_next(to)
        self.status = to

    def _require_next(self, to: ShipmentStatus) -> None:
        if to not in NEXT[self.status]:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, f"A parcel that is {self.status} cannot become {to}.")


class TrackingEvent(Table, table=True):
    """One thing that happened to a parcel, as its customer reads it."""

    __tablename__ = "tracking_events"

    tracking_event_id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    shipment_id: UUID = Field(foreign_key="shipments.shipment_id", index=True)
    status: str = Field(max_length=40)
    """A ShipmentStatus, or the carrier's own word in capitals."""
    occurred_at: datetime = Field(sa_column=time_column())

    @classmethod
    def of(cls, shipment_id: UUID, event: Event) -> "TrackingEvent":
        """The history's line for an event that a shipment returned."""
        match event:
            case ShipmentCreated():
                status, at = str(ShipmentStatus.BOOKED), utc_now()
            case ShipmentDispatched():
                status, at = str(ShipmentStatus.DISPATCHED), event.occurred_at
            case ShipmentDelivered():
                status, at = str(ShipmentStatus.DELIVERED), event.occurred_at
            case ShipmentLost():
                status, at = str(ShipmentStatus.LOST), event.occurred_at
            case ShipmentReturned():
                status, at = str(ShipmentStatus.RETURNED), event.occurred_at
            case TrackingUpdated() | ReturnLabelUpdated():
                status, at = event.status, event.occurred_at
            case _:
                raise TypeError(f"{type(event).__name__} is not about a parcel")
        return cls(shipment_id=shipment_id, status=status, occurred_at=at)


def working_day(start: date, days: int) -> date:
    """So many working days later: Saturdays and Sundays are none."""
    day = start
    while days:
        day += timedelta(days=1)
        days -= day.weekday() < 5
    return day


def unknown_shipment() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such shipment.")

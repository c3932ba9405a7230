"""Packages of a parcel: one label each, bought of a carrier, and what becomes of its money if it is not needed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypedDict
from uuid import UUID

import uuid_utils.compat as uuids
from pydantic_core import from_json, to_json
from sqlalchemy import Column, Index, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.money import Money
from contracts.shipments import ShipmentLine, ShipmentStatus
from services.shipping.model.base import Table
from services.shipping.model.choosing import Offered
from services.shipping.model.packing import Packed, billed
from services.shipping.ports import Label, Picture, Rate, RefundState, Size, TrackerNews

NO_LABEL_AFTER = timedelta(days=1)
"""So long after a parcel was called off, a label that was not bought will not be: whoever was about to has died."""
ASK_FOR = timedelta(days=60)
"""So long a carrier is asked where a package is of which it tells nothing."""
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=6)


class LabelRefund(StrEnum):
    """The money of a label that is not needed."""

    NONE = "none"
    """It is needed."""
    DUE = "due"
    """It is to be asked for, if the label was bought."""
    SUBMITTED = "submitted"
    """It was asked for: the carrier owes us an answer, or the money."""
    REFUNDED = "refunded"
    REJECTED = "rejected"
    """The carrier keeps it: somebody has to look why."""
    NOT_NEEDED = "not_needed"
    """No label was bought, or its carrier is paid for those that are used."""


OPEN_REFUNDS = frozenset({LabelRefund.DUE, LabelRefund.SUBMITTED})
_REFUND_OF = {
    RefundState.SUBMITTED: LabelRefund.SUBMITTED,
    RefundState.REFUNDED: LabelRefund.REFUNDED,
    RefundState.REJECTED: LabelRefund.REJECTED,
    RefundState.NOT_APPLICABLE: LabelRefund.NOT_NEEDED,
}
_ENDS = frozenset({ShipmentStatus.DELIVERED, ShipmentStatus.RETURNED})


class KeptRate(TypedDict):
    """A rate as it is kept."""

    id: str
    carrier: str
    service: str
    cost: int
    """In minor units."""
    currency: str
    days: int | None
    refused: bool
    """It could not be bought."""


class Package(Table, Aggregate, table=True):
    """One box of a parcel, with a label of its own."""

    __tablename__ = "packages"
    __table_args__ = (
        UniqueConstraint("shipment_id", "number"),
        Index("ix_packages_label_at", "label_at", postgresql_where=text("label_at is not null")),
        Index("ix_packages_refund_at", "refund_at", postgresql_where=text("refund_at is not null")),
        Index("ix_packages_ask_at", "ask_at", postgresql_where=text("ask_at is not null")),
    )

    package_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    shipment_id: UUID = Field(foreign_key="shipments.shipment_id")
    number: int
    """Of the parcel's packages, from 1."""
    reference: str = Field(max_length=70)
    """Our name for it at the carrier."""
    box: str = Field(max_length=40)
    length_mm: int
    width_mm: int
    height_mm: int
    weight_grams: int
    """With the box."""
    lines: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    """What is in it: ShipmentLines."""
    carrier: str | None = Field(default=None, max_length=40)
    """Who sells the label; None: nobody has offered it yet."""
    provider_id: str | None = Field(default=None, max_length=100, unique=True)
    """The carrier's name for it: written down before anything is bought."""
    offers: str = Field(default="[]", sa_column=Column(Text, nullable=False))
    """What was offered: `KeptRate`s as JSON. Text, because each change of a row copies what is in it, and this seldom changes."""
    rate_id: str | None = Field(default=None, max_length=100)
    """Which of them is bought."""
    choice: str | None = Field(default=None, max_length=300)
    """Why, in plain words."""
    tracking_number: str | None = Field(default=None, max_length=100, index=True)
    """None until its label was bought."""
    label_url: str | None = Field(default=None, max_length=1000)
    label_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When its label is fetched next; None: it is here, or there is none."""
    status: ShipmentStatus | None = Field(default=None, sa_column=enum_column(ShipmentStatus, nullable=True))
    """Where the carrier has it; None: it has not."""
    reported_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Of the carrier's latest news, by the carrier's clock."""
    ask_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When the carrier is asked where it is, if it tells nothing until then; None: never."""
    refund: LabelRefund = Field(default=LabelRefund.NONE, sa_column=enum_column(LabelRefund))
    refund_since: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    refund_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When the carrier is asked about it next; None exactly when nothing is open."""

    @classmethod
    def of(cls, shipment_id: UUID, reference: str, number: int, packed: Packed) -> "Package":
        size = packed.box.size
        return cls(
            shipment_id=shipment_id,
            number=number,
            reference=reference if number == 1 else f"{reference}/{number}",
            box=packed.box.name,
            length_mm=size.length,
            width_mm=size.width,
            height_mm=size.height,
            weight_grams=packed.weight_grams,
            lines=[line.model_dump(mode="json", exclude_none=True) for line in packed.lines],
        )

    @property
    def size(self) -> Size:
        return Size(self.length_mm, self.width_mm, self.height_mm)

    @property
    def contents(self) -> tuple[ShipmentLine, ...]:
        return tuple(ShipmentLine.model_validate(line) for line in self.lines)

    @property
    def rates(self) -> list[KeptRate]:
        """What was offered."""
        kept: list[KeptRate] = from_json(self.offers)
        return kept

    @property
    def rate(self) -> Rate | None:
        """The one that is, or was, bought."""
        return next((_rate(kept) for kept in self.rates if kept["id"] == self.rate_id), None)

    @property
    def cost(self) -> Money | None:
        """What the carrier charges us, once it was bought."""
        label = self.label
        return label.cost if label else None

    @property
    def billed_grams(self) -> int | None:
        """By the rule of whoever carries it."""
        rate = self.rate
        return billed(self.weight_grams, self.size, rate.carrier) if rate else None

    @property
    def is_bought(self) -> bool:
        """Whether its label was bought."""
        return self.tracking_number is not None

    @property
    def label(self) -> Label | None:
        """None until it was bought."""
        rate = self.rate if self.is_bought else None
        return Label(self.tracking_number or "", rate.carrier, rate.service, rate.cost, self.label_url) if rate else None

    def offered(self, offered: Offered) -> None:
        """A carrier offers to take it. Changes nothing if one did before: something may have been bought there."""
        if self.provider_id is None:
            self.carrier, self.provider_id = offered.carrier, offered.offer.provider_id
            self._keep([_kept(rate) for rate in offered.offer.rates])
            self.rate_id, self.choice = offered.choice.rate.id, offered.choice.reason[:300]

    @property
    def next_rate(self) -> Rate | None:
        """Which one to try to buy: the one that was chosen, or, if it could not be bought before, any other."""
        left = [kept for kept in self.rates if not kept["refused"]]
        return next((_rate(kept) for kept in left if kept["id"] == self.rate_id), None) or (_rate(left[0]) if left else None)

    @property
    def buyable(self) -> list[Rate]:
        return [_rate(kept) for kept in self.rates if not kept["refused"]]

    def purchased(self, label: Label | None, refused: Sequence[Rate] = (), *, ask_after: timedelta | None) -> None:
        """What came of an attempt to buy its label: rates that cannot be bought, and the label, if it was not known."""
        gone = {rate.id for rate in refused}
        if gone:
            self._keep([{**kept, "refused": kept["refused"] or kept["id"] in gone} for kept in self.rates])
        if label is None or self.is_bought:
            return
        now = utc_now()
        self.tracking_number, self.label_url = label.tracking_number, label.url
        self.rate_id = self._rate_of(label)
        if self.refund == LabelRefund.NONE:
            self.label_at, self.ask_at = now, now + ask_after if ask_after else None

    def _rate_of(self, label: Label) -> str:
        """Which of its rates was bought: what was bought counts, whoever has chosen it. One that was not offered is added."""
        cost, currency = label.cost.minor, label.cost.currency
        for kept in self.rates:
            if (kept["carrier"], kept["service"], kept["cost"], kept["currency"]) == (
                label.carrier,
                label.service,
                cost,
                currency,
            ):
                return kept["id"]
        rate = Rate(f"bought-{self.reference}"[:100], label.carrier, label.service, label.cost)
        self._keep([*self.rates, _kept(rate)])
        return rate.id

    def _keep(self, rates: Sequence[KeptRate]) -> None:
        self.offers = to_json(rates).decode()

    def asked_where(self, *, ask_after: timedelta) -> None:
        """Its carrier is asked where it is, and is asked again later, unless that has gone on for months."""
        now = utc_now()
        self.ask_at = now + ask_after if now - self.created_at < ASK_FOR else None

    def not_needed(self) -> None:
        """Its parcel is not sent: what was paid for its label, or may have been, is owed to us."""
        self.label_at = self.ask_at = None
        if self.refund == LabelRefund.NONE and self.provider_id is not None:
            now = utc_now()
            self.refund, self.refund_since, self.refund_at = LabelRefund.DUE, now, now

    def refund_asked(self, state: RefundState | None) -> None:
        """What the carrier says of its money; None: that no label was bought, which may still happen for a while."""
        if self.refund not in OPEN_REFUNDS or self.refund_since is None:
            return
        now = utc_now()
        if state is not None:
            self.refund = _REFUND_OF[state]
        elif now - self.refund_since > NO_LABEL_AFTER:
            self.refund = LabelRefund.NOT_NEEDED
        self.refund_at = next_time(self.refund_since, now) if self.refund in OPEN_REFUNDS else None

    def told(self, news: TrackerNews, *, ask_after: timedelta) -> bool:
        """The carrier says where it is; whether that is later than what it said before."""
        if self.ask_at is not None:
            self.ask_at = utc_now() + ask_after
        if self.reported_at is not None and news.occurred_at < self.reported_at:
            return False
        self.reported_at = news.occurred_at
        if news.status is not None and self.status not in _ENDS:
            self.status = news.status
        if self.status in _ENDS:
            self.ask_at = None
        return True

    def forget_person(self) -> None:
        """Blank what names its customer: the label is deleted, and can be fetched no more."""
        self.label_url = self.label_at = None


class LabelPicture(Table, table=True):
    """A label as it is printed."""

    __tablename__ = "labels"

    package_id: UUID = Field(foreign_key="packages.package_id", primary_key=True)
    content_type: str = Field(max_length=40)
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))

    @classmethod
    def of(cls, package_id: UUID, picture: Picture) -> "LabelPicture":
        return cls(package_id=package_id, content_type=picture.content_type, content=picture.content)


def together(packages: Sequence[Package]) -> ShipmentStatus | None:
    """Where a parcel is whose packages are there: it has arrived when all have, and is lost or back when one is. None: the
    carrier has none of them."""
    statuses = {package.status for package in packages}
    if len(statuses) == 1:
        return next(iter(statuses))
    for one_is_enough in (ShipmentStatus.LOST, ShipmentStatus.RETURNED):
        if one_is_enough in statuses:
            return one_is_enough
    return ShipmentStatus.IN_TRANSIT if statuses - {None, ShipmentStatus.CANCELLED} else None


def next_time(since: datetime, now: datetime) -> datetime:
    """When something that lasts is looked at again: after as long as it has lasted, within bounds."""
    return now + min(max(now - since, _FIRST_PAUSE), _LONGEST_PAUSE)


def _kept(rate: Rate) -> KeptRate:
    cost = rate.cost
    return KeptRate(
        id=rate.id,
        carrier=rate.carrier,
        service=rate.service,
        cost=cost.minor,
        currency=cost.currency,
        days=rate.days,
        refused=False,
    )


def _rate(kept: KeptRate) -> Rate:
    cost = Money.from_minor(kept["cost"], kept["currency"])
    return Rate(kept["id"], kept["carrier"], kept["service"], cost, kept["days"])

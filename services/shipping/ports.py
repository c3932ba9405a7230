"""What shipping needs of a carrier, or of who buys labels of many carriers.

A label is bought in two steps: `offer` creates a shipment there, which costs nothing and may be left lying; `buy` buys one of its
rates. A shipment is bought once at most, so that whoever knows its id can ask `find` whether that has happened (ADR 42).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from contracts.address import Address
from contracts.errors import FieldError
from contracts.money import Money
from contracts.shipments import ShipmentLine, ShipmentStatus


@dataclass(frozen=True, slots=True)
class Place:
    """An address as a carrier is told it."""

    address: Address
    company: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """Of a package, outside, in millimetres."""

    length: int
    width: int
    height: int

    @property
    def millilitres(self) -> int:
        return self.length * self.width * self.height // 1000


@dataclass(frozen=True, slots=True)
class Consignment:
    """What one label is for: a package. `reference` is ours."""

    reference: str
    origin: Place
    """Where it leaves from; of a return, where it is fetched."""
    destination: Place
    size: Size
    weight_grams: int
    service: str
    """How fast: a service level of the tariff."""
    is_return: bool = False
    lines: Sequence[ShipmentLine] = ()
    """What is in it, for customs; empty where nobody has said."""

    @property
    def crosses_a_border(self) -> bool:
        return self.origin.address.country != self.destination.address.country


@dataclass(frozen=True, slots=True)
class Rate:
    """What one service of one carrier asks for a package."""

    id: str
    carrier: str
    """E.g. `USPS`."""
    service: str
    """E.g. `GroundAdvantage`."""
    cost: Money
    days: int | None = None
    """Working days until delivery; None: the carrier does not say."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A shipment that can be bought."""

    provider_id: str
    rates: Sequence[Rate]
    messages: Sequence[str] = ()
    """Why carriers offer nothing, in their words: for staff."""


class RefundState(StrEnum):
    """What became of the money for a label that is not needed, by the carrier's word."""

    SUBMITTED = "submitted"
    """Asked for; the carrier takes days to answer."""
    REFUNDED = "refunded"
    REJECTED = "rejected"
    """The carrier keeps the money, e.g. because the label was used."""
    NOT_APPLICABLE = "not_applicable"
    """The label is paid for when it is used."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label that was bought."""

    tracking_number: str
    carrier: str
    service: str
    cost: Money
    url: str | None = None
    """Where its picture is fetched; None: whoever made it draws it."""
    refund: RefundState | None = None
    """None: its money was not asked back."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A label to print."""

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """What the carrier says of an address."""

    address: Address | None
    """As it writes it; None: no parcel gets there."""
    errors: Sequence[FieldError] = ()


@dataclass(frozen=True, slots=True)
class TrackerNews:
    """Where a package is, told by the carrier without being asked, or when it was."""

    id: str
    """Of this piece of news; repeated news has the same."""
    provider_id: str | None
    tracking_number: str
    status: ShipmentStatus | None
    """What that means for us; None: it moves nothing. CANCELLED: the label counts no more, though we did not say so."""
    word: str
    """In the carrier's own words, in capitals, e.g. `OUT_FOR_DELIVERY`."""
    occurred_at: datetime
    """By the carrier's clock: what is told later of it has a later one."""


@dataclass(frozen=True, slots=True)
class RefundNews:
    """What became of a label's money."""

    id: str
    provider_id: str
    state: RefundState


News = TrackerNews | RefundNews


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a carrier does beside carrying."""

    refunds: bool
    """Labels are paid for when they are bought, and the money of one that is not used comes back."""
    tracks: bool
    """It tells where packages are."""


class Carrier(Protocol):
    """Who carries packages, or sells labels of others who do.

    A definite "no" is a Refusal; Unavailable means that nobody knows whether it was done.
    """

    name: str
    capabilities: Capabilities

    async def offer(self, consignment: Consignment) -> Offer:
        """What carrying it would cost. May be repeated: nothing is bought. Refusals: address_undeliverable, parcel_too_heavy."""

    async def buy(self, provider_id: str, rate: Rate) -> Label:
        """Not to be repeated without asking `find`. Refusal conflict: this rate cannot be bought, or one was bought before."""

    async def find(self, provider_id: str) -> Label | None:
        """The label that was bought; None: none was."""

    async def refund(self, provider_id: str) -> RefundState:
        """Ask for the money of a label back. May be repeated."""

    async def picture(self, consignment: Consignment, label: Label) -> Picture:
        """The label to print."""

    async def track(self, provider_id: str) -> TrackerNews | None:
        """Where the package is; None: nobody tracks it."""

    async def verify(self, address: Address) -> Verified | None:
        """What it says of an address; None: it does not look at addresses."""

    def news(self, headers: Mapping[str, str], body: bytes) -> News | None:
        """What a webhook tells; None: nothing that concerns us. Refusals: invalid_signature, validation_failed."""

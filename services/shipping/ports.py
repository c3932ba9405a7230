"""What shipping needs of a carrier."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from contracts.address import Address
from contracts.money import Money


@dataclass(frozen=True)
class Parcel:
    """What is to be carried. `reference` is ours: the carrier knows one parcel by it, for ever."""

    reference: str
    service: str
    to: Address
    weight_grams: int


@dataclass(frozen=True)
class ReturnParcel:
    """What is to be carried back. `reference` as of a Parcel."""

    reference: str
    service: str
    origin: Address
    """Where it is fetched, or who hands it in."""
    depot: str
    """The warehouse that it goes to, by the id that the carrier knows it by too."""
    weight_grams: int


@dataclass(frozen=True)
class Booking:
    """What the carrier made of it."""

    tracking_number: str
    cost: Money


@dataclass(frozen=True)
class CarrierNews:
    """What the carrier tells of a parcel without being asked."""

    id: str
    """Of this piece of news; repeated news has the same."""
    reference: str
    """Our reference of the parcel, as we booked it."""
    status: str
    """In the carrier's words, e.g. `in_transit`."""
    occurred_at: datetime
    tracking_number: str | None = None


class Carrier(Protocol):
    """A company that moves parcels. Each call may be repeated; of pickup and cancel of one reference it allows one.

    A definite "no" is a Refusal; Unavailable means that nobody knows whether it was done.
    """

    async def book(self, parcel: Parcel | ReturnParcel) -> Booking:
        """Refusals: address_undeliverable, parcel_too_heavy, shipment_cancelled; warehouse_unknown of a return."""

    async def cancel(self, reference: str) -> None:
        """Also of a reference that it does not know: then it will not book it any more. Refusal: already_dispatched."""

    async def pick_up(self, reference: str) -> None:
        """The parcel is handed over. Refusal: shipment_cancelled."""

"""The parcels of an order: where each of them is, what may be in its way, and what can be done about that."""

from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from contracts.base import Contract, ParcelNumber, ProductId, Timestamp, Told, WarehouseId

LineId = Annotated[int, Field(ge=1, le=1000)]
"""Of an order's lines: the first is 1. Ids are never given twice, whatever is amended."""
Units = Annotated[int, Field(ge=1, le=1000)]


class Trouble(StrEnum):
    """Why a parcel does not arrive."""

    NOT_PICKED_UP = "not_picked_up"
    """Booked, but never handed over to the carrier."""
    SILENT = "silent"
    """The carrier has told nothing of it for too long."""
    LOST = "lost"
    RETURNED = "returned"
    """Back at the warehouse that sent it."""


class ParcelChoice(StrEnum):
    """What can be done about it."""

    WAIT = "wait"
    RESEND = "resend"
    """Reserve the goods again, and send another parcel."""
    REFUND = "refund"
    """Give the money back; the goods are gone, or have not left yet."""
    REFUND_AND_RESTOCK = "refund_and_restock"
    """Give the money back, and put the goods that came back on the shelf."""


CHOICES: Mapping[Trouble, tuple[ParcelChoice, ...]] = {
    Trouble.NOT_PICKED_UP: (ParcelChoice.WAIT, ParcelChoice.REFUND),
    Trouble.SILENT: (ParcelChoice.WAIT, ParcelChoice.RESEND, ParcelChoice.REFUND),
    Trouble.LOST: (ParcelChoice.REFUND, ParcelChoice.RESEND, ParcelChoice.WAIT),
    Trouble.RETURNED: (ParcelChoice.REFUND_AND_RESTOCK, ParcelChoice.RESEND, ParcelChoice.WAIT),
}
"""What may be decided about each trouble; the first is what happens when nobody decides in time."""


class ParcelStatus(StrEnum):
    """Where one parcel of an order is."""

    AWAITED = "AWAITED"
    """Its goods are out of stock; it waits for them."""
    RESERVED = "RESERVED"
    """Its goods are kept for it; it is not booked with the carrier yet."""
    BOOKED = "BOOKED"
    SHIPPED = "SHIPPED"
    UNDELIVERED = "UNDELIVERED"
    """It is lost, came back, was never handed over, or is silent for too long: somebody has to decide."""
    DELIVERED = "DELIVERED"
    RESENT = "RESENT"
    """An end: it did not arrive, and another parcel took its place."""
    REFUNDED = "REFUNDED"
    """An end: it did not arrive, and its share of the money went back."""
    CANCELLED = "CANCELLED"
    """An end: it never left."""


HAS_LEFT = frozenset({ParcelStatus.SHIPPED, ParcelStatus.DELIVERED})
ENDED = frozenset({ParcelStatus.DELIVERED, ParcelStatus.RESENT, ParcelStatus.REFUNDED, ParcelStatus.CANCELLED})
CAME_TO_NOTHING = frozenset({ParcelStatus.RESENT, ParcelStatus.REFUNDED, ParcelStatus.CANCELLED})


class ParcelLine(Contract):
    """Units of one line of the order that are in a parcel."""

    line_id: LineId
    product_id: ProductId
    quantity: Units
    first: Annotated[int, Field(ge=0, le=1000)] = 0
    """Which unit of its line is the first of them, from 0: each unit has its own share of what the line cost."""


class OrderParcel(Contract):
    """One parcel of an order, as its saga tells of it."""

    parcel: ParcelNumber
    status: ParcelStatus
    lines: Annotated[tuple[ParcelLine, ...], Field(max_length=100)] = ()
    warehouse_id: WarehouseId | None = None
    """None while its goods are awaited."""
    tracking_number: Annotated[Told, Field(max_length=100)] | None = None
    trouble: Trouble | None = None
    """Why it does not arrive, while it is UNDELIVERED."""
    expected_on: date | None = None
    """When its goods should be in stock, while they are awaited; None then: nobody knows."""
    resent_as: ParcelNumber | None = None
    delivered_at: Timestamp | None = None

    @property
    def counts(self) -> bool:
        """Whether it is, or may still be, on its way or with the customer."""
        return self.status not in CAME_TO_NOTHING


def numbers_of(parcels: Iterable[OrderParcel], *statuses: ParcelStatus) -> tuple[int, ...]:
    """The numbers of the parcels that are in one of these states."""
    return tuple(parcel.parcel for parcel in parcels if parcel.status in statuses)

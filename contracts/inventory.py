"""Commands of the saga to inventory, and its replies."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from contracts.base import Command, Contract, ParcelNumber, ProductId, Quantity, ReturnNumber, Told, WarehouseId


class StockLine(Contract):
    product_id: ProductId
    quantity: Annotated[int, Field(ge=1, le=100_000)]


class ShortLine(Contract):
    """A line that cannot be filled: how many were asked for and how many this customer could have."""

    product_id: ProductId
    requested: Quantity
    available: Quantity


class ReservationStatus(StrEnum):
    """RESERVED lasts until its saga releases or ships it. RESTOCKED: shipped, came back, is on the shelf again. AWAITED: out of
    stock; it becomes RESERVED when goods arrive, those that wait longest first."""

    AWAITED = "AWAITED"
    RESERVED = "RESERVED"
    RELEASED = "RELEASED"
    SHIPPED = "SHIPPED"
    RESTOCKED = "RESTOCKED"


class MovementKind(StrEnum):
    """Why what is on hand changed: goods arrived from a supplier, left for a customer, came back from one, and were written off
    because they came back damaged; were found, lost or damaged; were counted; went from one warehouse to another."""

    RECEIPT = "RECEIPT"
    SHIPMENT = "SHIPMENT"
    RETURN = "RETURN"
    WRITE_OFF = "WRITE_OFF"
    ADJUSTMENT = "ADJUSTMENT"
    COUNT = "COUNT"
    TRANSFER = "TRANSFER"


class WhenShort(StrEnum):
    """What becomes of what is out of stock."""

    REFUSE = "refuse"
    """Nothing is reserved at all."""
    DROP = "drop"
    """It is left out of the order; nothing is reserved only if nothing is left."""
    WAIT = "wait"
    """It waits until goods arrive."""
    ASK = "ask"
    """The customer is asked, and the goods are waited for meanwhile."""


class Place(Contract):
    """Where goods go to, as far as it matters for which warehouse sends them."""

    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    region: Told | None = None
    postal_code: Annotated[str, StringConstraints(max_length=16)] = ""


class ReserveInventory(Command):
    """Reserve every line, or none but for `when_short`. Idempotent by order and parcel.

    Refusals: out_of_stock, warehouse_unknown, purchase_limit (not of a parcel that is sent again), reservation_released (the undo
    came first)."""

    order_id: UUID
    parcel: ParcelNumber = 1
    """The first that is planned; others get the numbers after it."""
    customer_id: UUID
    lines: Annotated[tuple[StockLine, ...], Field(min_length=1, max_length=100)]
    warehouse_id: WarehouseId | None = None
    """The only warehouse that may send it."""
    may_split: bool = False
    """Whether it may come from several warehouses, in a parcel each, if no single one has all."""
    when_short: WhenShort = WhenShort.REFUSE
    day_by_day: bool = False
    """Whether what waits comes in a parcel for each day on which it should arrive; else all of it in one."""
    ship_to: Place | None = None
    is_more: bool = False
    """Whether it is more than the order had before: it counts against the purchase limit, as a first parcel does."""


class ReleaseInventory(Command):
    """Undo of reserve. Does nothing but remember itself if nothing was reserved. Refusal: reservation_shipped."""

    order_id: UUID
    parcel: ParcelNumber = 1
    planned: bool = False
    """Also of all parcels that were planned together with this one and have not left. Refused only if this one has."""
    reason: Told


class ShipInventory(Command):
    """The parcel has left: take the reserved stock off the shelf.

    Refusals: not_found, reservation_released, conflict (it waits for its goods)."""

    order_id: UUID
    parcel: ParcelNumber = 1


class RestockInventory(Command):
    """What was shipped has come back whole: put it on the shelf again. Refusals: not_found, conflict (it was not shipped, or some
    of it has come back by a return)."""

    order_id: UUID
    parcel: ParcelNumber = 1
    reason: Told


class SplitReservation(Command):
    """Some of what a parcel was promised goes in a parcel of its own, from the same warehouse: there was less on the shelf than
    planned, or some of it is to be cancelled. Of a parcel that waits for its goods, the new one waits in the same place of the
    queue, until the same day. Idempotent by order and `into`.

    The reply is about the new parcel. Refusals: not_found, reservation_released, reservation_shipped, conflict (it has not so
    many, or nothing would be left; or there is another parcel with this number)."""

    order_id: UUID
    parcel: ParcelNumber
    into: ParcelNumber
    lines: Annotated[tuple[StockLine, ...], Field(min_length=1, max_length=100)]
    """What the new parcel gets."""


class MoveReservation(Command):
    """What a parcel was promised is promised to another number, at the same warehouse: its label was called off, and a number is
    booked with the carrier once only. Idempotent by order and `into`.

    The reply is about the new parcel. Refusals: not_found, reservation_released, reservation_shipped, conflict (it waits for its
    goods; or there is another parcel with this number)."""

    order_id: UUID
    parcel: ParcelNumber
    into: ParcelNumber


class ReturnedLine(Contract):
    """What came back of a product."""

    product_id: ProductId
    good: Quantity
    """Goes on the shelf again."""
    damaged: Quantity
    """Does not; it is written off."""


class ReceiveReturn(Command):
    """Goods of an order have come back, by one of its returns. Idempotent by order and number.

    Refusals: warehouse_unknown, conflict (other lines under this number, or more than was shipped and has not come back)."""

    order_id: UUID
    number: ReturnNumber
    warehouse_id: WarehouseId
    """Where they came to."""
    lines: Annotated[tuple[ReturnedLine, ...], Field(min_length=1, max_length=100)]


class ReturnReceived(Contract):
    """Reply."""

    order_id: UUID
    number: ReturnNumber
    warehouse_id: WarehouseId
    lines: tuple[ReturnedLine, ...]


class ReservedParcel(Contract):
    """One parcel of a plan."""

    parcel: ParcelNumber
    status: ReservationStatus
    warehouse_id: WarehouseId | None = None
    """None while it is awaited anywhere. Where an order may not be split, the rest is awaited at the warehouse that sends what
    there is."""
    lines: tuple[StockLine, ...]
    expected_on: date | None = None
    """While it is awaited: when goods that were not promised to others should arrive; None: nobody knows."""


class Reservation(Contract):
    """Reply to each of the commands above."""

    order_id: UUID
    parcel: ParcelNumber = 1
    warehouse_id: WarehouseId | None
    """None only where nothing was ever reserved."""
    status: ReservationStatus
    lines: tuple[StockLine, ...] = ()
    parcels: tuple[ReservedParcel, ...] = ()
    """Reply to reserve, to a release of all that were `planned`, and to split: all that were planned together, in the order of
    their numbers, this one among them. None: it is this one alone."""
    dropped: tuple[ShortLine, ...] = ()
    """What was left out because it is out of stock."""


class StockUpdate(Contract):
    """Argument of the workflow's `stock_updated` signal: goods have arrived for an awaited parcel, or their date has moved."""

    parcel: ParcelNumber
    status: ReservationStatus
    warehouse_id: WarehouseId | None = None
    expected_on: date | None = None

"""Who waits for goods, and what is announced of them: who is served first, and when it will be. Without I/O but for the table of
what is announced."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import StockLine
from services.inventory.model.planning import Available
from services.inventory.model.stock import Table

ParcelKey = tuple[UUID, int]
"""Order, and number of the parcel."""


class ExpectedStatus(StrEnum):
    """RECEIVED: all that was announced has arrived."""

    EXPECTED = "EXPECTED"
    RECEIVED = "RECEIVED"
    CANCELLED = "CANCELLED"


class ExpectedReceipt(Table, Aggregate, table=True):
    """Goods that a supplier has announced to a warehouse."""

    __tablename__ = "expected_receipts"
    __table_args__ = (
        CheckConstraint("0 <= quantity and quantity <= announced", name="no_more_than_announced"),
        Index("ix_expected_receipts_open", "product_id", postgresql_where=text("status = 'EXPECTED'")),
        Index("ix_expected_receipts_by_day", "expected_on", "receipt_id"),
    )

    receipt_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    warehouse_id: str = Field(foreign_key="warehouses.warehouse_id", max_length=40)
    product_id: str = Field(max_length=40)
    announced: int
    quantity: int
    """What of it has not arrived yet."""
    expected_on: date
    reference: str = Field(max_length=200)
    """What whoever announced it calls it, e.g. the number of the purchase order."""
    status: ExpectedStatus = Field(default=ExpectedStatus.EXPECTED, sa_column=enum_column(ExpectedStatus))
    actor: UUID
    """Who announced it."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    def move(self, expected_on: date) -> None:
        """It will arrive on another day. Refusal: conflict, if nothing of it is expected any more."""
        self._require_expected()
        self.expected_on = expected_on

    def cancel(self) -> None:
        """It will not arrive. Refusal: conflict, if all of it has."""
        if self.status == ExpectedStatus.RECEIVED:
            self._require_expected()
        self.status = ExpectedStatus.CANCELLED

    def receive(self, warehouse_id: str, product_id: str, quantity: int) -> None:
        """Some of it has arrived, or more than all of it. Refusal: conflict, if it is not expected, or other goods elsewhere."""
        self._require_expected()
        if (self.warehouse_id, self.product_id) != (warehouse_id, product_id):
            raise Refusal(ErrorCode.CONFLICT, f"{self.product_id} is expected at {self.warehouse_id} by this announcement.")
        self.quantity = max(0, self.quantity - quantity)
        if not self.quantity:
            self.status = ExpectedStatus.RECEIVED

    def _require_expected(self) -> None:
        if self.status != ExpectedStatus.EXPECTED:
            raise Refusal(ErrorCode.CONFLICT, f"Nothing is expected of it any more: it is {self.status}.")


def unknown_receipt() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "Nobody has announced this receipt.")


@dataclass(frozen=True)
class Awaiting:
    """A parcel that waits."""

    key: ParcelKey
    lines: Sequence[StockLine]
    warehouse_id: str | None = None
    """The only warehouse that it may come from."""


@dataclass(frozen=True)
class Announced:
    """Units of a product that should arrive."""

    warehouse_id: str
    product_id: str
    quantity: int
    expected_on: date


def filled(queue: Sequence[Awaiting], available: Available) -> list[tuple[Awaiting, str]]:
    """Which parcels can be filled, and from which warehouse. `queue`: those that have waited longest first.

    A parcel is filled whole from one warehouse; from the first by id if several have everything. Who cannot be filled waits on,
    and keeps nothing back from those behind it: goods that it alone does not suffice for would lie there for nobody."""
    free = {warehouse: dict(stock) for warehouse, stock in sorted(available.items())}
    found = []
    for parcel in queue:
        for warehouse in [parcel.warehouse_id] if parcel.warehouse_id else free:
            stock = free.get(warehouse, {})
            if all(stock.get(line.product_id, 0) >= line.quantity for line in parcel.lines):
                for line in parcel.lines:
                    stock[line.product_id] -= line.quantity
                found.append((parcel, warehouse))
                break
    return found


def expected_days(
    queue: Sequence[Awaiting], available: Available, announced: Iterable[Announced], today: date
) -> Mapping[ParcelKey, date | None]:
    """When each parcel can be filled by what is announced, if it arrives as it is announced: what is promised to one is not to
    another. `queue`: those that have waited longest first. None: never, as far as anybody knows; what is overdue counts for
    nothing until its day is moved."""
    supply: dict[str, dict[str, list[tuple[date, int]]]] = {}
    for warehouse, stock in available.items():
        for product, units in stock.items():
            supply.setdefault(warehouse, {}).setdefault(product, []).append((today, units))
    for one in sorted(announced, key=lambda one: one.expected_on):
        if one.expected_on >= today:
            supply.setdefault(one.warehouse_id, {}).setdefault(one.product_id, []).append((one.expected_on, one.quantity))
    days: dict[ParcelKey, date | None] = {}
    for parcel in queue:
        places = [parcel.warehouse_id] if parcel.warehouse_id else sorted(supply)
        found = [(day, place) for place in places if (day := _day_of(parcel.lines, supply.get(place, {}))) is not None]
        days[parcel.key] = None
        if found:
            days[parcel.key], place = min(found)
            for line in parcel.lines:
                supply[place][line.product_id] = _less(supply[place][line.product_id], line.quantity)
    return days


def _day_of(lines: Sequence[StockLine], supply: Mapping[str, Sequence[tuple[date, int]]]) -> date | None:
    """When all of the lines are there."""
    days = []
    for line in lines:
        there = 0
        for day, units in supply.get(line.product_id, ()):
            there += units
            if there >= line.quantity:
                days.append(day)
                break
        else:
            return None
    return max(days)


def _less(supply: Sequence[tuple[date, int]], quantity: int) -> list[tuple[date, int]]:
    """What is left of it, the first to arrive taken first."""
    left = []
    for day, units in supply:
        taken = min(units, quantity)
        quantity -= taken
        if units > taken:
            left.append((day, units - taken))
    return left

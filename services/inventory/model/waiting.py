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
    supply = _Supply(available, announced, today)
    return {parcel.key: supply.promise(parcel.lines, parcel.warehouse_id) for parcel in queue}


def by_day(
    lines: Sequence[StockLine],
    queue: Sequence[Awaiting],
    available: Available,
    announced: Iterable[Announced],
    today: date,
    *,
    warehouse_id: str | None = None,
    most: int,
) -> list[list[StockLine]]:
    """In which parcels the lines should come that begin to wait behind the queue, each of another product: together comes what
    one warehouse should have on the same day, and all of which nobody knows the day. Those that come first are first; if there
    would be more parcels than `most`, the last has everything that comes later."""
    supply = _Supply(available, announced, today)
    for before in queue:
        supply.promise(before.lines, before.warehouse_id)
    days = {line.product_id: supply.day_of([line], warehouse_id) for line in lines}
    parcels: list[list[StockLine]] = []
    for line in sorted(lines, key=lambda line: days[line.product_id] or date.max):
        day = days[line.product_id]
        for parcel in parcels:
            if days[parcel[0].product_id] == day == supply.day_of([*parcel, line], warehouse_id):
                parcel.append(line)
                break
        else:
            parcels.append([line])
    if len(parcels) > most:
        parcels[most - 1 :] = [[line for parcel in parcels[most - 1 :] for line in parcel]]
    return parcels


class _Supply:
    """What can be promised of what there is and of what is announced: at each warehouse, what arrives first is first."""

    def __init__(self, available: Available, announced: Iterable[Announced], today: date) -> None:
        self._at: dict[str, dict[str, list[tuple[date, int]]]] = {}
        for warehouse, stock in available.items():
            for product, units in stock.items():
                self._of(warehouse, product).append((today, units))
        for one in sorted(announced, key=lambda one: one.expected_on):
            if one.expected_on >= today:
                self._of(one.warehouse_id, one.product_id).append((one.expected_on, one.quantity))

    def day_of(self, lines: Sequence[StockLine], warehouse_id: str | None) -> date | None:
        """When all of the lines are at one warehouse, this one or any; None: never."""
        found = self._first(lines, warehouse_id)
        return found[0] if found else None

    def promise(self, lines: Sequence[StockLine], warehouse_id: str | None) -> date | None:
        """The same, and take them away."""
        found = self._first(lines, warehouse_id)
        if found is None:
            return None
        day, warehouse = found
        for line in lines:
            self._at[warehouse][line.product_id] = _less(self._of(warehouse, line.product_id), line.quantity)
        return day

    def _first(self, lines: Sequence[StockLine], warehouse_id: str | None) -> tuple[date, str] | None:
        """Where they are first, and when."""
        places = [warehouse_id] if warehouse_id else sorted(self._at)
        found = [(day, place) for place in places if (day := self._day_at(place, lines)) is not None]
        return min(found, default=None)

    def _day_at(self, warehouse_id: str, lines: Sequence[StockLine]) -> date | None:
        days = []
        for line in lines:
            there = 0
            for day, units in self._of(warehouse_id, line.product_id):
                there += units
                if there >= line.quantity:
                    days.append(day)
                    break
            else:
                return None
        return max(days)

    def _of(self, warehouse_id: str, product_id: str) -> list[tuple[date, int]]:
        return self._at.setdefault(warehouse_id, {}).setdefault(product_id, [])


def _less(supply: Sequence[tuple[date, int]], quantity: int) -> list[tuple[date, int]]:
    """What is left of it, the first to arrive taken first."""
    left = []
    for day, units in supply:
        taken = min(units, quantity)
        quantity -= taken
        if units > taken:
            left.append((day, units - taken))
    return left

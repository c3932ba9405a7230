"""Reservations: what parcels of orders are promised, or wait for; their rules, and the events that tell of a change."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts import inventory as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import (
    BackorderDelayed,
    BackorderFilled,
    InventoryReleased,
    InventoryReserved,
    InventoryRestocked,
    ReservationSplit,
)
from contracts.ids import parcel_reference
from contracts.inventory import (
    ReleaseInventory,
    ReservationStatus,
    ReservedParcel,
    ReserveInventory,
    ShortLine,
    SplitReservation,
    StockLine,
)
from services.inventory.model.stock import Table

PROMISED_UNITS = 100
"""Of one product, so many units at most are promised to one customer and not yet shipped, in all orders together."""
HAS_LEFT = frozenset({ReservationStatus.SHIPPED, ReservationStatus.RESTOCKED})
"""The goods have left, whether or not they came back."""


class Reservation(Table, Aggregate, table=True):
    """What one parcel of an order has been promised. It lasts until it is released or shipped. While it is AWAITED, nothing is
    promised to it: it waits for goods, at its warehouse if it has one, else at any.

    A reservation released before it was made (the undo overtook the step) is a row without lines: it forbids the late step.
    """

    __tablename__ = "reservations"
    __table_args__ = (
        Index("ix_reservations_promised", "customer_id", postgresql_where=text("status in ('RESERVED', 'AWAITED')")),
        Index("ix_reservations_awaited", "created_at", "order_id", "parcel", postgresql_where=text("status = 'AWAITED'")),
    )

    order_id: UUID = Field(primary_key=True)
    parcel: int = Field(default=1, primary_key=True)
    customer_id: UUID | None = None
    warehouse_id: str | None = Field(default=None, max_length=40)
    status: ReservationStatus = Field(sa_column=enum_column(ReservationStatus))
    lines: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    """StockLine each."""
    plan: int | None = None
    """The number of the first parcel that was planned together with this one; None: it was planned alone, and the reply to who
    asked for it tells of no others."""
    dropped: list[dict[str, Any]] | None = Field(default=None, sa_column=Column(JSONB))
    """ShortLine each, of the first parcel of a plan: what was left out."""
    split_from: int | None = None
    """The parcel that its goods were promised to before."""
    expected_on: date | None = None
    """While it is AWAITED: when goods that were not promised to others should be there; None: nobody knows."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @classmethod
    def asked(cls, command: ReserveInventory) -> "Reservation":
        """What a command asks for; its warehouse is still to be chosen if the command names none."""
        return cls(
            order_id=command.order_id,
            parcel=command.parcel,
            customer_id=command.customer_id,
            warehouse_id=command.warehouse_id,
            status=ReservationStatus.RESERVED,
            lines=[line.model_dump() for line in command.lines],
        )

    @classmethod
    def tombstone(cls, command: ReleaseInventory) -> "Reservation":
        """Remembers a release that came before anything was reserved."""
        return cls(order_id=command.order_id, parcel=command.parcel, status=ReservationStatus.RELEASED)

    @classmethod
    def beside(cls, first: "Reservation", parcel: int) -> "Reservation":
        """Another parcel of the same order; its lines are still to be said."""
        return cls(
            order_id=first.order_id,
            parcel=parcel,
            customer_id=first.customer_id,
            plan=first.plan,
            status=ReservationStatus.RESERVED,
        )

    def promise(self, warehouse_id: str, lines: Sequence[StockLine]) -> None:
        """It gets these lines from this warehouse."""
        self.warehouse_id, self.lines = warehouse_id, [line.model_dump() for line in lines]

    def wait(self, warehouse_id: str | None, lines: Sequence[StockLine], expected_on: date | None) -> None:
        """It waits for these lines, at this warehouse or at any."""
        self.status = ReservationStatus.AWAITED
        self.warehouse_id, self.lines = warehouse_id, [line.model_dump() for line in lines]
        self.expected_on = expected_on

    @property
    def stock_lines(self) -> tuple[StockLine, ...]:
        return tuple(map(StockLine.model_validate, self.lines))

    @property
    def reference(self) -> str:
        """The parcel's name in the ledger of movements."""
        return f"order {parcel_reference(self.order_id, self.parcel)}"

    def require_not_released(self) -> None:
        """Refusal: reservation_released."""
        if self.status == ReservationStatus.RELEASED:
            raise Refusal(ErrorCode.RESERVATION_RELEASED, "The reservation was released; nothing is promised any more.")

    def reserved(self) -> InventoryReserved:
        """The event that tells of it."""
        return InventoryReserved(**self._common_fields())

    def release(self, reason: str) -> InventoryReleased | None:
        """Give the promise back; None if there is none any more, or it was only waited for. Refusal: reservation_shipped."""
        self.require_not_left()
        before, self.status = self.status, ReservationStatus.RELEASED
        if before == ReservationStatus.AWAITED:
            self.expected_on = None
        if before != ReservationStatus.RESERVED:
            return None
        return InventoryReleased(**self._common_fields(), reason=reason)

    def require_not_left(self) -> None:
        """Refusal: reservation_shipped."""
        if self.status in HAS_LEFT:
            raise Refusal(ErrorCode.RESERVATION_SHIPPED, "The goods have left; they can only be returned.")

    def require_arrived(self) -> None:
        """Refusal: conflict, while it is awaited."""
        if self.status == ReservationStatus.AWAITED:
            raise Refusal(ErrorCode.CONFLICT, "The goods are awaited; nothing is promised to this parcel yet.")

    def fill(self, warehouse_id: str) -> BackorderFilled | None:
        """The goods that it waited for are there, and promised to it; None if it waits no more."""
        if self.status != ReservationStatus.AWAITED:
            return None
        self.status, self.warehouse_id, self.expected_on = ReservationStatus.RESERVED, warehouse_id, None
        return BackorderFilled(**self._common_fields())

    def expect(self, on: date | None) -> BackorderDelayed | None:
        """Its goods should be there on another day than was said, or nobody knows when; None if nothing is new."""
        if self.status != ReservationStatus.AWAITED or on == self.expected_on:
            return None
        before, self.expected_on = self.expected_on, on
        return BackorderDelayed(order_id=self.order_id, parcel=self.parcel, expected_on=on, was_expected_on=before)

    def split(self, command: SplitReservation, new: "Reservation") -> ReservationSplit:
        """Some of what it was promised, or waits for, goes to `new` instead.

        Refusals: reservation_released, reservation_shipped, conflict (it has not so many, or nothing would be left)."""
        self.require_not_released()
        self.require_not_left()
        left = {line.product_id: line.quantity for line in self.stock_lines}
        for line in command.lines:
            left[line.product_id] = left.get(line.product_id, 0) - line.quantity
        if any(quantity < 0 for quantity in left.values()) or not any(left.values()):
            raise Refusal(ErrorCode.CONFLICT, "A parcel is split into two that both have something, and no more than it had.")
        self.lines = [line for line in self.lines if left[line["product_id"]]]
        self.lines = [line | {"quantity": left[line["product_id"]]} for line in self.lines]
        self.plan = new.plan = self.plan or self.parcel
        new.split_from = self.parcel
        if self.status == ReservationStatus.AWAITED:
            new.wait(self.warehouse_id, command.lines, self.expected_on)
            new.created_at = self.created_at  # it has waited as long
        else:
            new.promise(self.warehouse_id or "", command.lines)
        return ReservationSplit(**self._common_fields() | {"lines": new.stock_lines}, into=new.parcel)

    def move(self, new: "Reservation") -> tuple[InventoryReleased, InventoryReserved]:
        """All that it was promised goes to `new` instead.

        Refusals: reservation_released, reservation_shipped, conflict (it waits)."""
        self.require_not_released()
        self.require_not_left()
        self.require_arrived()
        self.status, new.split_from = ReservationStatus.RELEASED, self.parcel
        new.promise(self.warehouse_id or "", self.stock_lines)
        released = InventoryReleased(**self._common_fields(), reason=f"promised to parcel {new.parcel} instead")
        return released, new.reserved()

    def ship(self) -> bool:
        """The goods leave; False if they had left before. Refusals: reservation_released, conflict (it waits for them)."""
        self.require_not_released()
        self.require_arrived()
        if self.status in HAS_LEFT:
            return False
        self.status = ReservationStatus.SHIPPED
        return True

    def restock(self, reason: str) -> InventoryRestocked | None:
        """The goods are back on the shelf; None if they were before. Refusal: conflict, if they had not left."""
        if self.status == ReservationStatus.RESTOCKED:
            return None
        if self.status != ReservationStatus.SHIPPED:
            raise Refusal(ErrorCode.CONFLICT, "These goods have not left; they cannot come back.")
        self.status = ReservationStatus.RESTOCKED
        return InventoryRestocked(**self._common_fields(), reason=reason)

    def reply(self, planned: Sequence[ReservedParcel] = ()) -> contract.Reservation:
        """`planned`: all that were planned together."""
        return contract.Reservation(
            order_id=self.order_id,
            parcel=self.parcel,
            warehouse_id=self.warehouse_id,
            status=self.status,
            lines=self.stock_lines,
            parcels=tuple(planned),
            dropped=tuple(map(ShortLine.model_validate, self.dropped or ())),
        )

    def as_parcel(self) -> ReservedParcel:
        """As one of those that were planned together."""
        return ReservedParcel(
            parcel=self.parcel,
            status=self.status,
            warehouse_id=self.warehouse_id,
            lines=self.stock_lines,
            expected_on=self.expected_on,
        )

    def _common_fields(self) -> dict[str, Any]:
        return {
            "order_id": self.order_id,
            "parcel": self.parcel,
            "warehouse_id": self.warehouse_id or "",
            "lines": self.stock_lines,
        }


def unknown_reservation() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "Nothing was ever reserved for this parcel.")


def require_within_limit(lines: Sequence[StockLine], promised: Mapping[str, int], limit: int) -> None:
    """`promised`: units of each product that other reservations of the customer keep. Refusal: purchase_limit, naming the lines
    with which that becomes more than `limit`."""
    over = [
        ShortLine(product_id=line.product_id, requested=line.quantity, available=available)
        for line in lines
        if line.quantity > (available := max(limit - promised.get(line.product_id, 0), 0))
    ]
    if over:
        raise Refusal(
            ErrorCode.PURCHASE_LIMIT,
            f"More than {limit} units, with other orders not yet shipped, of: {', '.join(line.product_id for line in over)}.",
            extra={"lines": [line.model_dump() for line in over]},
        )

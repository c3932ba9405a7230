"""Goods that came back by returns: the rules, and the event that tells of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from contracts import inventory as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import ReturnShelved
from contracts.inventory import ReceiveReturn, ReservationStatus, ReturnedLine
from services.inventory.model.reservation import Reservation
from services.inventory.model.stock import Table


class ReceivedReturn(Table, table=True):
    """What came back of an order by one of its returns."""

    __tablename__ = "received_returns"

    order_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    """Of the order's returns."""
    warehouse_id: str = Field(foreign_key="warehouses.warehouse_id", max_length=40)
    lines: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """ReturnedLine each."""
    received_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @classmethod
    def of(cls, command: ReceiveReturn) -> "ReceivedReturn":
        return cls(
            order_id=command.order_id,
            number=command.number,
            warehouse_id=command.warehouse_id,
            lines=[line.model_dump() for line in command.lines],
        )

    @property
    def returned_lines(self) -> tuple[ReturnedLine, ...]:
        return tuple(map(ReturnedLine.model_validate, self.lines))

    @property
    def reference(self) -> str:
        """Its name in the ledger of movements."""
        return f"return {self.number} of order {self.order_id}"

    def require_same(self, command: ReceiveReturn) -> None:
        """Refusal: conflict, if the command says other goods, or another warehouse."""
        if (self.warehouse_id, self.returned_lines) != (command.warehouse_id, command.lines):
            raise Refusal(ErrorCode.CONFLICT, f"Other goods were received by return {self.number} before.")

    def shelved(self) -> ReturnShelved:
        """The event that tells of it."""
        return ReturnShelved(
            order_id=self.order_id, number=self.number, warehouse_id=self.warehouse_id, lines=self.returned_lines
        )

    def reply(self) -> contract.ReturnReceived:
        return contract.ReturnReceived(
            order_id=self.order_id, number=self.number, warehouse_id=self.warehouse_id, lines=self.returned_lines
        )


def require_still_out(back: Mapping[str, int], reservations: Iterable[Reservation], earlier: Iterable[ReceivedReturn]) -> None:
    """What comes back, in units by product, was shipped for its order and has not come back: neither with its parcel, whole, nor
    by a return. `reservations`, `earlier`: all of that order. Refusal: conflict, naming the products of which it is too much."""
    out: Counter[str] = Counter()
    for reservation in reservations:
        if reservation.status == ReservationStatus.SHIPPED:
            for sent in reservation.stock_lines:
                out[sent.product_id] += sent.quantity
    for one in earlier:
        out.subtract(units_of(one.returned_lines))
    if too_many := sorted(product for product, units in back.items() if units > out[product]):
        raise Refusal(
            ErrorCode.CONFLICT,
            f"More would have come back than was shipped for this order, of: {', '.join(too_many)}.",
        )


def units_of(lines: Iterable[ReturnedLine]) -> Counter[str]:
    """What came back, good and damaged, by product."""
    units: Counter[str] = Counter()
    for line in lines:
        units[line.product_id] += line.good + line.damaged
    return units

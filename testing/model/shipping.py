"""Parcels, by order and number, and those in which returns come back; the carrier's word is part of it."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid5

from contracts.errors import ErrorCode, Refusal
from contracts.ids import ORDERS
from contracts.shipments import (
    CancelReturnLabel,
    CancelShipment,
    CreateReturnLabel,
    CreateShipment,
    ReturnLabel,
    Shipment,
    ShipmentStatus,
)

_S = ShipmentStatus
NOT_DISPATCHED = frozenset({_S.PENDING, _S.BOOKED})
"""Can still be cancelled."""
ENDED = frozenset({_S.CANCELLED, _S.REFUSED})
NEXT = {
    _S.BOOKED: frozenset({_S.DISPATCHED}),
    _S.DISPATCHED: frozenset({_S.IN_TRANSIT, _S.DELIVERED, _S.LOST, _S.RETURNED}),
    _S.IN_TRANSIT: frozenset({_S.DELIVERED, _S.LOST, _S.RETURNED}),
    _S.LOST: frozenset({_S.IN_TRANSIT, _S.DELIVERED, _S.RETURNED}),
}
"""How a parcel moves once it is booked: the warehouse hands it over, and the carrier does the rest."""


@dataclass
class Parcel:
    """One parcel."""

    status: ShipmentStatus
    refused: Refusal | None = None
    tracking_number: str | None = None

    @property
    def has_left(self) -> bool:
        return self.status not in NOT_DISPATCHED | ENDED


Watcher = Callable[[UUID, int, ShipmentStatus], None]


class Shipping:
    """The shipping service with its carrier. `watchers` are told what the carrier does to a parcel, `label_watchers` what it does
    to one in which a return comes back."""

    def __init__(self) -> None:
        self.parcels: dict[tuple[UUID, int], Parcel] = {}
        self.labels: dict[tuple[UUID, int], Parcel] = {}
        """By order and number of the return."""
        self.watchers: list[Watcher] = []
        self.label_watchers: list[Watcher] = []
        self.refuses: ErrorCode | None = None
        """What the carrier says to the next new parcel, instead of "yes"."""

    def ask(self, command: CreateShipment) -> Parcel:
        """The parcel's row, written before the carrier is asked. Refusals: shipment_cancelled, or what it was refused for."""
        return _to_book(self.parcels, (command.order_id, command.parcel))

    def create(self, command: CreateShipment) -> Shipment:
        """Refusals: address_undeliverable, parcel_too_heavy, shipment_cancelled."""
        parcel = self.ask(command)
        if self._book(parcel, f"TRK{command.parcel}"):
            self._tell(command.order_id, command.parcel)
        return self._reply(command.order_id, command.parcel)

    def cancel(self, command: CancelShipment) -> Shipment:
        """Refusal: already_dispatched."""
        _call_off(self.parcels, (command.order_id, command.parcel))
        return self._reply(command.order_id, command.parcel)

    def create_label(self, command: CreateReturnLabel) -> ReturnLabel:
        """Refusals: address_undeliverable, parcel_too_heavy, warehouse_unknown, shipment_cancelled."""
        key = (command.order_id, command.number)
        if self._book(_to_book(self.labels, key), f"RET{command.number}"):
            self._tell_of_label(*key)
        return self._label(*key)

    def cancel_label(self, command: CancelReturnLabel) -> ReturnLabel:
        """Refusal: already_dispatched."""
        key = (command.order_id, command.number)
        if _call_off(self.labels, key):
            self._tell_of_label(*key)
        return self._label(*key)

    def move_label(self, order_id: UUID, number: int, to: ShipmentStatus) -> bool:
        """As `move`; DISPATCHED: its customer has handed it in."""
        label = self.labels.get((order_id, number))
        if label is None or to not in NEXT.get(label.status, frozenset()):
            return False
        label.status = to
        self._tell_of_label(order_id, number)
        return True

    def move(self, order_id: UUID, number: int, to: ShipmentStatus) -> bool:
        """What the carrier does to a parcel; False if it cannot, because the parcel is not where that begins."""
        parcel = self.parcels.get((order_id, number))
        if parcel is None or to not in NEXT.get(parcel.status, frozenset()):
            return False
        parcel.status = to
        self._tell(order_id, number)
        return True

    def _book(self, parcel: Parcel, tracking_number: str) -> bool:
        """Whether the carrier takes it now; False: it has before. Raises what it says instead."""
        if parcel.status != ShipmentStatus.PENDING:
            return False
        if self.refuses:
            parcel.status, parcel.refused = (
                ShipmentStatus.REFUSED,
                Refusal(self.refuses, f"The carrier says: {self.refuses}."),
            )
            raise parcel.refused
        parcel.status, parcel.tracking_number = ShipmentStatus.BOOKED, tracking_number
        return True

    def _tell_of_label(self, order_id: UUID, number: int) -> None:
        for watcher in self.label_watchers:
            watcher(order_id, number, self.labels[order_id, number].status)

    def _label(self, order_id: UUID, number: int) -> ReturnLabel:
        label = self.labels[order_id, number]
        return ReturnLabel(order_id=order_id, number=number, status=label.status, tracking_number=label.tracking_number)

    def _tell(self, order_id: UUID, number: int) -> None:
        for watcher in self.watchers:
            watcher(order_id, number, self.parcels[order_id, number].status)

    def _reply(self, order_id: UUID, number: int) -> Shipment:
        parcel = self.parcels[order_id, number]
        return Shipment(
            shipment_id=uuid5(ORDERS, f"shipment {order_id} {number}"),
            order_id=order_id,
            parcel=number,
            status=parcel.status,
            tracking_number=parcel.tracking_number,
        )


def _to_book(parcels: dict[tuple[UUID, int], Parcel], key: tuple[UUID, int]) -> Parcel:
    """The parcel of an order and a number, PENDING if it is new. Refusals: shipment_cancelled, or what it was refused for."""
    parcel = parcels.setdefault(key, Parcel(ShipmentStatus.PENDING))
    if parcel.status == ShipmentStatus.CANCELLED:
        raise Refusal(ErrorCode.SHIPMENT_CANCELLED, "The shipment was cancelled.")
    if parcel.refused:
        raise parcel.refused
    return parcel


def _call_off(parcels: dict[tuple[UUID, int], Parcel], key: tuple[UUID, int]) -> bool:
    """Whether there was something to cancel. Refusal: already_dispatched."""
    parcel = parcels.setdefault(key, Parcel(ShipmentStatus.CANCELLED))
    if parcel.has_left:
        extra = {"tracking_number": parcel.tracking_number}
        raise Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel has left.", extra=extra)
    if parcel.status not in NOT_DISPATCHED:
        return False
    parcel.status = ShipmentStatus.CANCELLED
    return True

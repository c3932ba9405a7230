"""Parcels, by order and number; the carrier's word is part of it."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid5

from contracts.errors import ErrorCode, Refusal
from contracts.ids import ORDERS
from contracts.shipments import CancelShipment, CreateShipment, Shipment, ShipmentStatus

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
"""How a parcel moves once it is booked: the carrier decides."""


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
    """The shipping service with its carrier. `watchers` are told what the carrier does to a parcel."""

    def __init__(self) -> None:
        self.parcels: dict[tuple[UUID, int], Parcel] = {}
        self.watchers: list[Watcher] = []
        self.refuses: ErrorCode | None = None
        """What the carrier says to the next new parcel, instead of "yes"."""

    def ask(self, command: CreateShipment) -> Parcel:
        """The parcel's row, written before the carrier is asked. Refusals: shipment_cancelled, or what it was refused for."""
        parcel = self.parcels.setdefault((command.order_id, command.parcel), Parcel(ShipmentStatus.PENDING))
        if parcel.status == ShipmentStatus.CANCELLED:
            raise Refusal(ErrorCode.SHIPMENT_CANCELLED, "The shipment was cancelled.")
        if parcel.refused:
            raise parcel.refused
        return parcel

    def create(self, command: CreateShipment) -> Shipment:
        """Refusals: address_undeliverable, parcel_too_heavy, shipment_cancelled."""
        parcel = self.ask(command)
        if parcel.status == ShipmentStatus.PENDING:
            if self.refuses:
                parcel.status, parcel.refused = (
                    ShipmentStatus.REFUSED,
                    Refusal(self.refuses, f"The carrier says: {self.refuses}."),
                )
                raise parcel.refused
            parcel.status, parcel.tracking_number = ShipmentStatus.BOOKED, f"TRK{command.parcel}"
            self._tell(command.order_id, command.parcel)
        return self._reply(command.order_id, command.parcel)

    def cancel(self, command: CancelShipment) -> Shipment:
        """Refusal: already_dispatched."""
        parcel = self.parcels.setdefault((command.order_id, command.parcel), Parcel(ShipmentStatus.CANCELLED))
        if parcel.has_left:
            extra = {"tracking_number": parcel.tracking_number}
            raise Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel has left; it can only be returned.", extra=extra)
        if parcel.status in NOT_DISPATCHED:
            parcel.status = ShipmentStatus.CANCELLED
        return self._reply(command.order_id, command.parcel)

    def move(self, order_id: UUID, number: int, to: ShipmentStatus) -> bool:
        """What the carrier does to a parcel; False if it cannot, because the parcel is not where that begins."""
        parcel = self.parcels.get((order_id, number))
        if parcel is None or to not in NEXT.get(parcel.status, frozenset()):
            return False
        parcel.status = to
        self._tell(order_id, number)
        return True

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

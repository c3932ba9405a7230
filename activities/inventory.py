"""Stock: reserve, release, split, ship, restock, and what customers return."""

from temporalio import activity

from activities.calls import ServiceActivities
from contracts.inventory import (
    MoveReservation,
    ReceiveReturn,
    ReleaseInventory,
    Reservation,
    ReserveInventory,
    RestockInventory,
    ReturnReceived,
    ShipInventory,
    SplitReservation,
)


class InventoryActivities(ServiceActivities):
    service = "inventory"

    @activity.defn(name="ReserveInventory")
    async def reserve(self, command: ReserveInventory) -> Reservation:
        """Reserve every line, or none."""
        return await self._calls.post("/internal/v1/reservations", command, Reservation)

    @activity.defn(name="ReleaseInventory")
    async def release(self, command: ReleaseInventory) -> Reservation:
        """Undo of reserve."""
        return await self._calls.post("/internal/v1/reservations/release", command, Reservation)

    @activity.defn(name="SplitReservation")
    async def split(self, command: SplitReservation) -> Reservation:
        """Some of what a parcel was promised goes in another one."""
        return await self._calls.post("/internal/v1/reservations/split", command, Reservation)

    @activity.defn(name="MoveReservation")
    async def move(self, command: MoveReservation) -> Reservation:
        """What a parcel was promised goes under another number."""
        return await self._calls.post("/internal/v1/reservations/move", command, Reservation)

    @activity.defn(name="ShipInventory")
    async def ship(self, command: ShipInventory) -> Reservation:
        """What was reserved has left."""
        return await self._calls.post("/internal/v1/reservations/ship", command, Reservation)

    @activity.defn(name="RestockInventory")
    async def restock(self, command: RestockInventory) -> Reservation:
        """What was shipped has come back."""
        return await self._calls.post("/internal/v1/reservations/restock", command, Reservation)

    @activity.defn(name="ReceiveReturn")
    async def receive_return(self, command: ReceiveReturn) -> ReturnReceived:
        """What a customer has sent back: what is good goes on the shelf."""
        return await self._calls.post("/internal/v1/inventory/receive-return", command, ReturnReceived)

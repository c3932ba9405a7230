"""Stock: reserve, hold, release, ship."""

from temporalio import activity

from activities.calls import Calls
from contracts.inventory import HoldReservation, ReleaseInventory, Reservation, ReserveInventory, ShipInventory


class InventoryActivities:
    """Commands to the inventory service."""

    def __init__(self, inventory: Calls) -> None:
        self._inventory = inventory

    @activity.defn(name="ReserveInventory")
    async def reserve(self, command: ReserveInventory) -> Reservation:
        """Reserve every line, or none."""
        return await self._inventory.post("/internal/v1/reservations", command, Reservation)

    @activity.defn(name="HoldInventory")
    async def hold(self, command: HoldReservation) -> Reservation:
        """Keep what is reserved."""
        return await self._inventory.post("/internal/v1/reservations/hold", command, Reservation)

    @activity.defn(name="ReleaseInventory")
    async def release(self, command: ReleaseInventory) -> Reservation:
        """Undo of reserve."""
        return await self._inventory.post("/internal/v1/reservations/release", command, Reservation)

    @activity.defn(name="ShipInventory")
    async def ship(self, command: ShipInventory) -> Reservation:
        """What was reserved has left."""
        return await self._inventory.post("/internal/v1/reservations/ship", command, Reservation)

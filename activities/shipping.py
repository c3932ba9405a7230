"""Parcels: book, cancel."""

from temporalio import activity

from activities.calls import ServiceActivities
from contracts.shipments import CancelShipment, CreateShipment, Shipment


class ShippingActivities(ServiceActivities):
    service = "shipping"

    @activity.defn(name="CreateShipment")
    async def create(self, command: CreateShipment) -> Shipment:
        """Book a parcel with the carrier."""
        return await self._calls.post("/internal/v1/shipments/create", command, Shipment)

    @activity.defn(name="CancelShipment")
    async def cancel(self, command: CancelShipment) -> Shipment:
        """Undo of create; refused once the parcel has left."""
        return await self._calls.post("/internal/v1/shipments/cancel", command, Shipment)

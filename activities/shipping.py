"""Parcels, to customers and back: book, cancel."""

from temporalio import activity

from activities.calls import ServiceActivities
from contracts.shipments import CancelReturnLabel, CancelShipment, CreateReturnLabel, CreateShipment, ReturnLabel, Shipment


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

    @activity.defn(name="CreateReturnLabel")
    async def create_return_label(self, command: CreateReturnLabel) -> ReturnLabel:
        """Book the parcel in which a return comes back."""
        return await self._calls.post("/internal/v1/shipping/create-return-label", command, ReturnLabel)

    @activity.defn(name="CancelReturnLabel")
    async def cancel_return_label(self, command: CancelReturnLabel) -> ReturnLabel:
        """Undo of it; refused once the carrier has the parcel."""
        return await self._calls.post("/internal/v1/shipping/cancel-return-label", command, ReturnLabel)

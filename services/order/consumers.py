"""What shipping tells of parcels goes on to the order's saga.

The saga is signalled before the inbox row is committed: a signal may come twice, which is harmless, and is never lost.
"""

from typing import Protocol
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.consumer import Subscription
from chassis.logs import logger
from contracts.events import SHIPPING, CloudEvent, ShipmentDelivered, ShipmentDispatched, TrackingUpdated
from contracts.shipments import ShipmentStatus, ShipmentUpdate

log = logger(__name__)


class ShipmentSignals(Protocol):
    """What of `temporal.orders.OrderSagas` is needed here."""

    async def shipment_updated(self, order_id: UUID, update: ShipmentUpdate) -> bool:
        """Tell an order's saga; False if none runs. Raises Unavailable."""
        ...


def subscription(sagas: ShipmentSignals) -> Subscription:
    """The shipping events that a saga waits for."""

    async def tell(event: ShipmentDispatched | ShipmentDelivered | TrackingUpdated, status: ShipmentStatus) -> None:
        update = ShipmentUpdate(status=status, occurred_at=event.occurred_at, tracking_number=event.tracking_number)
        if not await sagas.shipment_updated(event.order_id, update):
            log.info("shipment_update_without_saga", order_id=str(event.order_id), status=status)

    async def on_dispatched(session: AsyncSession, event: ShipmentDispatched, envelope: CloudEvent) -> None:
        await tell(event, ShipmentStatus.DISPATCHED)

    async def on_delivered(session: AsyncSession, event: ShipmentDelivered, envelope: CloudEvent) -> None:
        await tell(event, ShipmentStatus.DELIVERED)

    async def on_tracking(session: AsyncSession, event: TrackingUpdated, envelope: CloudEvent) -> None:
        if event.status != ShipmentStatus.CANCELLED:  # that is the saga's own doing
            await tell(event, ShipmentStatus(event.status))

    return Subscription(
        topics=(SHIPPING,),
        handlers={ShipmentDispatched: on_dispatched, ShipmentDelivered: on_delivered, TrackingUpdated: on_tracking},
    )

"""What shipping tells of parcels, inventory of goods that they wait for, and payment of what a customer has confirmed and of
refunds that failed late, goes on to the order's saga; whom identity has forgotten, the orders are to forget.

The saga is signalled before the inbox row is committed, and outside of any transaction: a signal may come twice, which is
harmless, and is never lost.
"""

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

from chassis.consumer import Subscription
from chassis.logs import logger
from chassis.store import UnitOfWork
from contracts.base import told
from contracts.events import (
    BACKORDER,
    IDENTITY,
    OWED,
    SHIPPING,
    BackorderDelayed,
    BackorderFilled,
    CloudEvent,
    CustomerForgotten,
    Event,
    PaymentAnswered,
    RefundOwed,
    ReturnLabelUpdated,
    ShipmentDelivered,
    ShipmentDispatched,
    ShipmentLost,
    ShipmentReturned,
    TrackingUpdated,
)
from contracts.inventory import ReservationStatus, StockUpdate
from contracts.payments import AnsweredPayment, FailedRefund
from contracts.returns import ReturnLabelUpdate
from contracts.shipments import ShipmentStatus, ShipmentUpdate
from services.order import commands

ParcelEvent = ShipmentDispatched | ShipmentDelivered | ShipmentLost | ShipmentReturned
STATUS: Mapping[type[Event], ShipmentStatus] = {
    ShipmentDispatched: ShipmentStatus.DISPATCHED,
    ShipmentDelivered: ShipmentStatus.DELIVERED,
    ShipmentLost: ShipmentStatus.LOST,
    ShipmentReturned: ShipmentStatus.RETURNED,
}
"""What each event says of a parcel."""
log = logger(__name__)


class ParcelSignals(Protocol):
    """What of `temporal.orders.OrderSagas` is needed here."""

    async def shipment_updated(self, order_id: UUID, update: ShipmentUpdate) -> bool:
        """Tell an order's saga; False if none runs. Raises Unavailable."""
        ...

    async def stock_updated(self, order_id: UUID, update: StockUpdate) -> bool:
        """Tell an order's saga; False if none runs. Raises Unavailable."""
        ...

    async def refund_failed(self, order_id: UUID, refund: FailedRefund) -> bool:
        """Tell an order's saga; False if none runs. Raises Unavailable."""
        ...

    async def payment_answered(self, order_id: UUID, payment: AnsweredPayment) -> bool:
        """Tell an order's saga; False if none runs. Raises Unavailable."""
        ...


class LabelSignals(Protocol):
    """What of `temporal.returns.ReturnSagas` is needed here."""

    async def label_updated(self, order_id: UUID, number: int, update: ReturnLabelUpdate) -> bool:
        """Tell a return's saga; False if none runs. Raises Unavailable."""
        ...


async def on_customer_forgotten(work: UnitOfWork, event: CustomerForgotten, _: CloudEvent) -> None:
    await commands.wish_to_forget(work, event)


def subscription(sagas: ParcelSignals, returns: LabelSignals) -> Subscription:
    """What the sagas of orders and returns wait for of shipping, inventory and payment, and who is to be forgotten."""

    async def signal(order_id: UUID, update: ShipmentUpdate) -> None:
        is_told = await sagas.shipment_updated(order_id, update)
        action = "saga_told" if is_told else "shipment_update_without_saga"
        log.info(action, order_id=order_id, status=update.status, parcel=update.parcel)

    async def on_parcel(event: ParcelEvent, _: CloudEvent) -> None:
        await signal(event.order_id, _update(event, STATUS[type(event)]))

    async def on_tracking(event: TrackingUpdated, _: CloudEvent) -> None:
        if event.status != ShipmentStatus.CANCELLED:  # that is the saga's own doing
            await signal(event.order_id, _update(event, ShipmentStatus(event.status)))

    async def on_stock(order_id: UUID, update: StockUpdate) -> None:
        is_told = await sagas.stock_updated(order_id, update)
        action = "saga_told" if is_told else "stock_update_without_saga"
        log.info(action, order_id=order_id, status=update.status, parcel=update.parcel)

    async def on_filled(event: BackorderFilled, _: CloudEvent) -> None:
        update = StockUpdate(parcel=event.parcel, status=ReservationStatus.RESERVED, warehouse_id=event.warehouse_id)
        await on_stock(event.order_id, update)

    async def on_delayed(event: BackorderDelayed, _: CloudEvent) -> None:
        update = StockUpdate(parcel=event.parcel, status=ReservationStatus.AWAITED, expected_on=event.expected_on)
        await on_stock(event.order_id, update)

    async def on_owed(event: RefundOwed, _: CloudEvent) -> None:
        refund = FailedRefund(attempt=event.attempt, key=event.movement_key, amount=event.amount, failure=told(event.failure))
        is_told = await sagas.refund_failed(event.order_id, refund)
        action = "saga_told" if is_told else "refund_failed_without_saga"  # the list of debts has it in any case
        log.info(action, order_id=event.order_id, attempt=event.attempt)

    async def on_answered(event: PaymentAnswered, _: CloudEvent) -> None:
        is_told = await sagas.payment_answered(event.order_id, AnsweredPayment(attempt=event.attempt))
        action = "saga_told" if is_told else "payment_answered_without_saga"
        log.info(action, order_id=event.order_id, attempt=event.attempt)

    async def on_label(event: ReturnLabelUpdated, _: CloudEvent) -> None:
        if event.status == ShipmentStatus.CANCELLED:  # that is the saga's own doing
            return
        update = ReturnLabelUpdate(status=event.status, occurred_at=event.occurred_at)
        is_told = await returns.label_updated(event.order_id, event.number, update)
        action = "saga_told" if is_told else "label_update_without_saga"
        log.info(action, order_id=event.order_id, status=update.status, return_number=event.number)

    return Subscription(
        topics=(IDENTITY, SHIPPING, BACKORDER, OWED),
        handlers={CustomerForgotten: on_customer_forgotten},
        forward={
            **dict.fromkeys(STATUS, on_parcel),
            TrackingUpdated: on_tracking,
            BackorderFilled: on_filled,
            BackorderDelayed: on_delayed,
            RefundOwed: on_owed,
            PaymentAnswered: on_answered,
            ReturnLabelUpdated: on_label,
        },
    )


def _update(event: ParcelEvent | TrackingUpdated, status: ShipmentStatus) -> ShipmentUpdate:
    return ShipmentUpdate(
        parcel=event.parcel, status=status, occurred_at=event.occurred_at, tracking_number=event.tracking_number
    )

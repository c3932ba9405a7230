"""What notification does on other services' events: it queues mails."""

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.consumer import Subscription
from contracts.events import (
    IDENTITY,
    ORDER,
    SHIPPING,
    AccountMailRequested,
    CloudEvent,
    EmailVerified,
    OrderCancelled,
    OrderRefunded,
    OrderUndelivered,
    ShipmentDelivered,
    ShipmentDispatched,
)
from contracts.ids import parcel_reference
from contracts.notifications import NotificationKind
from contracts.orders import Trouble
from services.notification import commands

TROUBLES_MAILED = frozenset({Trouble.LOST, Trouble.RETURNED})
"""The customer is told of these; what the other troubles are, nobody knows yet."""


async def on_account_mail(session: AsyncSession, event: AccountMailRequested, _: CloudEvent) -> None:
    await commands.queue_account_mail(session, event)


async def on_verified(session: AsyncSession, event: EmailVerified, _: CloudEvent) -> None:
    await commands.send_suppressed(session, event.customer_id)


async def on_dispatched(session: AsyncSession, event: ShipmentDispatched, _: CloudEvent) -> None:
    await _queue_of_shipment(session, NotificationKind.ORDER_SHIPPED, event)


async def on_delivered(session: AsyncSession, event: ShipmentDelivered, _: CloudEvent) -> None:
    await _queue_of_shipment(session, NotificationKind.ORDER_DELIVERED, event)


async def on_cancelled(session: AsyncSession, event: OrderCancelled, _: CloudEvent) -> None:
    """An order that was refused at once needs no mail: its customer got the answer."""
    if not event.was_confirmed and not event.refunded.amount:
        return
    await commands.queue(
        session,
        NotificationKind.ORDER_CANCELLED,
        about=str(event.order_id),
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={
            "total": str(event.total),
            "refunded": str(event.refunded) if event.refunded.amount else "",
        },
    )


async def on_undelivered(session: AsyncSession, event: OrderUndelivered, envelope: CloudEvent) -> None:
    """An order that is sent again may get lost again: each time is told."""
    if event.trouble not in TROUBLES_MAILED:
        return
    await commands.queue(
        session,
        NotificationKind.ORDER_UNDELIVERED,
        about=f"{event.order_id}:{envelope.id}",
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={"trouble": event.trouble},
    )


async def on_refunded(session: AsyncSession, event: OrderRefunded, _: CloudEvent) -> None:
    await commands.queue(
        session,
        NotificationKind.ORDER_REFUNDED,
        about=str(event.order_id),
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={"total": str(event.total), "refunded": str(event.refunded)},
    )


async def _queue_of_shipment(
    session: AsyncSession, kind: NotificationKind, event: ShipmentDispatched | ShipmentDelivered
) -> None:
    await commands.queue(
        session,
        kind,
        about=parcel_reference(event.order_id, event.parcel),
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={"tracking_number": event.tracking_number or ""},
    )


subscription = Subscription(
    (IDENTITY, ORDER, SHIPPING),
    {
        AccountMailRequested: on_account_mail,
        EmailVerified: on_verified,
        ShipmentDispatched: on_dispatched,
        ShipmentDelivered: on_delivered,
        OrderCancelled: on_cancelled,
        OrderUndelivered: on_undelivered,
        OrderRefunded: on_refunded,
    },
)

"""What notification does on other services' events: it queues mails, and forgets whom they went to."""

from chassis.consumer import Subscription
from chassis.store import UnitOfWork
from contracts.events import (
    IDENTITY,
    ORDER,
    SHIPPING,
    AccountMailRequested,
    CloudEvent,
    CustomerForgotten,
    EmailVerified,
    OrderAmended,
    OrderCancelled,
    OrderDelayed,
    OrderPartCancelled,
    OrderPaymentDue,
    OrderRefunded,
    OrderUndelivered,
    ReturnApproved,
    ReturnCompleted,
    ReturnExpired,
    ReturnReceived,
    ReturnRejected,
    ReturnReminded,
    ShipmentDelivered,
    ShipmentDispatched,
)
from contracts.ids import parcel_reference
from contracts.notifications import NotificationKind
from contracts.parcels import Trouble
from contracts.returns import Resolution, ReturnKind
from services.notification import commands

ReturnEvent = ReturnApproved | ReturnRejected | ReturnReminded | ReturnReceived | ReturnCompleted | ReturnExpired
TROUBLES_MAILED = frozenset({Trouble.LOST, Trouble.RETURNED})
"""The customer is told of these; what the other troubles are, nobody knows yet."""


async def on_account_mail(work: UnitOfWork, event: AccountMailRequested, _: CloudEvent) -> None:
    commands.queue_account_mail(work, event)


async def on_verified(work: UnitOfWork, event: EmailVerified, _: CloudEvent) -> None:
    await commands.send_suppressed(work, event.customer_id)


async def on_customer_forgotten(work: UnitOfWork, event: CustomerForgotten, _: CloudEvent) -> None:
    await commands.forget_customer(work, event.customer_id)


async def on_dispatched(work: UnitOfWork, event: ShipmentDispatched, _: CloudEvent) -> None:
    is_part = event.parcels > 1
    _queue_of_shipment(work, NotificationKind.PART_SHIPPED if is_part else NotificationKind.ORDER_SHIPPED, event)


async def on_delivered(work: UnitOfWork, event: ShipmentDelivered, _: CloudEvent) -> None:
    is_part = event.parcels > 1
    _queue_of_shipment(work, NotificationKind.PART_DELIVERED if is_part else NotificationKind.ORDER_DELIVERED, event)


async def on_payment_due(work: UnitOfWork, event: OrderPaymentDue, _: CloudEvent) -> None:
    """Of a confirmed order it may happen more than once: each time is told."""
    until = {"pay_until": f"{event.pay_until:%Y-%m-%d %H:%M} UTC"}
    again = event.was_confirmed
    commands.queue(
        work,
        NotificationKind.CARD_NEEDED if again else NotificationKind.PAYMENT_DUE,
        about=f"{event.order_id} {event.pay_until.isoformat()}" if again else str(event.order_id),
        order_id=event.order_id,
        customer_id=event.customer_id,
        values=until if again else {"total": str(event.total), **until},
    )


async def on_delayed(work: UnitOfWork, event: OrderDelayed, envelope: CloudEvent) -> None:
    """A date may be moved more than once: each time is told."""
    commands.queue(
        work,
        NotificationKind.GOODS_DELAYED,
        about=f"{event.order_id}:{envelope.id}",
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={
            "expected_on": str(event.expected_on) if event.expected_on else "",
            "was_expected_on": str(event.was_expected_on),
        },
    )


async def on_amended(work: UnitOfWork, event: OrderAmended, _: CloudEvent) -> None:
    commands.queue(
        work,
        NotificationKind.ORDER_AMENDED,
        about=f"{event.order_id}:{event.number}",
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={
            "total": str(event.total),
            "charged": str(event.charged) if event.charged.minor else "",
            "refunded": str(event.given_back) if event.given_back.minor else "",
        },
    )


async def on_cancelled(work: UnitOfWork, event: OrderCancelled, _: CloudEvent) -> None:
    """An order that was refused at once needs no mail: its customer got the answer."""
    if not event.was_confirmed and not event.refunded.amount:
        return
    commands.queue(
        work,
        NotificationKind.ORDER_CANCELLED,
        about=str(event.order_id),
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={
            "total": str(event.total),
            "refunded": str(event.refunded) if event.refunded.amount else "",
        },
    )


async def on_undelivered(work: UnitOfWork, event: OrderUndelivered, envelope: CloudEvent) -> None:
    """An order that is sent again may get lost again: each time is told."""
    if event.trouble not in TROUBLES_MAILED:
        return
    commands.queue(
        work,
        NotificationKind.ORDER_UNDELIVERED,
        about=f"{event.order_id}:{envelope.id}",
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={"trouble": event.trouble},
    )


async def on_refunded(work: UnitOfWork, event: OrderRefunded, _: CloudEvent) -> None:
    commands.queue(
        work,
        NotificationKind.ORDER_REFUNDED,
        about=str(event.order_id),
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={"total": str(event.total), "refunded": str(event.refunded)},
    )


def _queue_of_shipment(work: UnitOfWork, kind: NotificationKind, event: ShipmentDispatched | ShipmentDelivered) -> None:
    commands.queue(
        work,
        kind,
        about=parcel_reference(event.order_id, event.parcel),
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={"tracking_number": event.tracking_number or ""} | _place_of(event),
    )


def _place_of(event: ShipmentDispatched | ShipmentDelivered) -> dict[str, str]:
    """Which of how many; of one that is sent in place of another, only that there are several."""
    if event.parcels == 1:
        return {}
    return {"parcel": str(event.parcel) if event.parcel <= event.parcels else "", "parcels": str(event.parcels)}


async def on_part_cancelled(work: UnitOfWork, event: OrderPartCancelled, envelope: CloudEvent) -> None:
    """More than one part may be cancelled: each time is told."""
    commands.queue(
        work,
        NotificationKind.PART_CANCELLED,
        about=f"{event.order_id}:{envelope.id}",
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={
            "units": str(sum(line.quantity for line in event.lines)),
            "refunded": str(event.refunded) if event.refunded.amount else "",
        },
    )


async def on_approved(work: UnitOfWork, event: ReturnApproved, _: CloudEvent) -> None:
    values = {
        "tracking_number": event.tracking_number or "",
        "warehouse": event.warehouse_id or "",
        "until": f"{event.due_at:%Y-%m-%d}" if event.due_at else "",
    }
    _queue_of_return(work, NotificationKind.RETURN_APPROVED, event, values)


async def on_rejected(work: UnitOfWork, event: ReturnRejected, _: CloudEvent) -> None:
    _queue_of_return(work, NotificationKind.RETURN_REJECTED, event)


async def on_reminded(work: UnitOfWork, event: ReturnReminded, _: CloudEvent) -> None:
    _queue_of_return(work, NotificationKind.RETURN_REMINDER, event, {"until": f"{event.due_at:%Y-%m-%d}"})


async def on_received(work: UnitOfWork, event: ReturnReceived, _: CloudEvent) -> None:
    """Of a parcel in which nothing was, the last mail tells."""
    if event.came:
        _queue_of_return(work, NotificationKind.RETURN_RECEIVED, event)


async def on_completed(work: UnitOfWork, event: ReturnCompleted, _: CloudEvent) -> None:
    values = {
        "refunded": str(event.refunded) if event.refunded.amount else "",
        "replacement_id": str(event.replacement_id or ""),
        "is_resend": "yes" if event.resolution == Resolution.RESEND else "",
    }
    _queue_of_return(work, NotificationKind.RETURN_COMPLETED, event, values)


async def on_expired(work: UnitOfWork, event: ReturnExpired, _: CloudEvent) -> None:
    _queue_of_return(work, NotificationKind.RETURN_EXPIRED, event)


def _queue_of_return(work: UnitOfWork, kind: NotificationKind, event: ReturnEvent, values: dict[str, str] | None = None) -> None:
    """One mail of a kind about each return."""
    commands.queue(
        work,
        kind,
        about=f"{event.order_id}:return-{event.number}",
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={"number": str(event.number), "is_claim": "yes" if event.kind == ReturnKind.CLAIM else ""} | (values or {}),
    )


subscription = Subscription(
    (IDENTITY, ORDER, SHIPPING),
    {
        AccountMailRequested: on_account_mail,
        EmailVerified: on_verified,
        CustomerForgotten: on_customer_forgotten,
        ShipmentDispatched: on_dispatched,
        ShipmentDelivered: on_delivered,
        OrderPaymentDue: on_payment_due,
        OrderDelayed: on_delayed,
        OrderAmended: on_amended,
        OrderCancelled: on_cancelled,
        OrderUndelivered: on_undelivered,
        OrderRefunded: on_refunded,
        OrderPartCancelled: on_part_cancelled,
        ReturnApproved: on_approved,
        ReturnRejected: on_rejected,
        ReturnReminded: on_reminded,
        ReturnReceived: on_received,
        ReturnCompleted: on_completed,
        ReturnExpired: on_expired,
    },
)

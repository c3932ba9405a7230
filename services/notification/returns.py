"""Mails about returns and claims, and about parts of an order that were cancelled."""

from collections.abc import Mapping

from chassis.consumer import Handler
from chassis.store import UnitOfWork
from contracts.events import (
    CloudEvent,
    Event,
    OrderPartCancelled,
    ReturnApproved,
    ReturnCompleted,
    ReturnExpired,
    ReturnReceived,
    ReturnRejected,
    ReturnReminded,
)
from contracts.notifications import NotificationKind
from contracts.returns import Resolution, ReturnKind
from services.notification import commands

ReturnEvent = ReturnApproved | ReturnRejected | ReturnReminded | ReturnReceived | ReturnCompleted | ReturnExpired


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
    _queue(work, NotificationKind.RETURN_APPROVED, event, values)


async def on_rejected(work: UnitOfWork, event: ReturnRejected, _: CloudEvent) -> None:
    _queue(work, NotificationKind.RETURN_REJECTED, event)


async def on_reminded(work: UnitOfWork, event: ReturnReminded, _: CloudEvent) -> None:
    _queue(work, NotificationKind.RETURN_REMINDER, event, {"until": f"{event.due_at:%Y-%m-%d}"})


async def on_received(work: UnitOfWork, event: ReturnReceived, _: CloudEvent) -> None:
    """Of a parcel in which nothing was, the last mail tells."""
    if event.came:
        _queue(work, NotificationKind.RETURN_RECEIVED, event)


async def on_completed(work: UnitOfWork, event: ReturnCompleted, _: CloudEvent) -> None:
    values = {
        "refunded": str(event.refunded) if event.refunded.amount else "",
        "replacement_id": str(event.replacement_id or ""),
        "is_resend": "yes" if event.resolution == Resolution.RESEND else "",
    }
    _queue(work, NotificationKind.RETURN_COMPLETED, event, values)


async def on_expired(work: UnitOfWork, event: ReturnExpired, _: CloudEvent) -> None:
    _queue(work, NotificationKind.RETURN_EXPIRED, event)


def _queue(work: UnitOfWork, kind: NotificationKind, event: ReturnEvent, values: dict[str, str] | None = None) -> None:
    """One mail of a kind about each return."""
    commands.queue(
        work,
        kind,
        about=f"{event.order_id}:return-{event.number}",
        order_id=event.order_id,
        customer_id=event.customer_id,
        values={"number": str(event.number), "is_claim": "yes" if event.kind == ReturnKind.CLAIM else ""} | (values or {}),
    )


HANDLERS: Mapping[type[Event], Handler] = {
    OrderPartCancelled: on_part_cancelled,
    ReturnApproved: on_approved,
    ReturnRejected: on_rejected,
    ReturnReminded: on_reminded,
    ReturnReceived: on_received,
    ReturnCompleted: on_completed,
    ReturnExpired: on_expired,
}

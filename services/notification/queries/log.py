"""Reads of what became of notifications."""

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from sqlmodel import col, select

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page
from services.notification.model import Attempt, Delivery, DeliveryStatus, Notification
from services.notification.schemas import NotificationDetail, NotificationView


@may_lag
async def list_notifications(
    database: Reader,
    caller: Grant,
    *,
    order_id: UUID | None,
    status: DeliveryStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[NotificationView]:
    """What was told within the caller's reach, newest first. `status`: those of which a delivery has it."""
    query = select(Notification).order_by(col(Notification.notification_id).desc()).limit(limit + 1)
    if before := decode_cursor(cursor, KeyPart.ID):
        query = query.where(col(Notification.notification_id) < before[0])
    query = query.where(caller.rows(owner=col(Notification.customer_id)))
    if order_id:
        query = query.where(Notification.order_id == order_id)
    if status:
        has_it = select(Delivery.delivery_id).where(
            col(Delivery.notification_id) == col(Notification.notification_id), col(Delivery.status) == status
        )
        query = query.where(has_it.exists())
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
        ids = [row.notification_id for row in rows]
        deliveries = await _deliveries_of(database, ids)
    return page_of(
        rows, limit, lambda row: NotificationView.of(row, deliveries[row.notification_id]), lambda row: (row.notification_id,)
    )


async def get_notification(database: Database, caller: Grant, notification_id: UUID) -> NotificationDetail:
    """One notification within the caller's reach, with each attempt. Refusal: not_found."""
    async with database.reading() as session:
        notification = await session.get(Notification, notification_id)
        if notification is None or not caller.reaches(owner=notification.customer_id):
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such notification.")
        deliveries = (await _deliveries_of(database, [notification_id]))[notification_id]
        ids = [delivery.delivery_id for delivery in deliveries]
        tried = select(Attempt).where(col(Attempt.delivery_id).in_(ids)).order_by(col(Attempt.number))
        attempts = (await session.exec(tried)).all()
    return NotificationDetail.with_attempts(notification, deliveries, attempts)


async def _deliveries_of(database: Reader, ids: Collection[UUID]) -> dict[UUID, list[Delivery]]:
    """By notification, the oldest first."""
    found: dict[UUID, list[Delivery]] = defaultdict(list)
    async with database.reading() as session:
        query = select(Delivery).where(col(Delivery.notification_id).in_(ids)).order_by(col(Delivery.delivery_id))
        for delivery in await session.exec(query):
            found[delivery.notification_id].append(delivery)
    return found

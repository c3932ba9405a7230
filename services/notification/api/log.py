"""What became of notifications."""

from uuid import UUID

from chassis.access import Caller
from chassis.dependencies import Db
from chassis.freshness import MayLag
from chassis.paging import Cursor, Limit
from contracts.paging import Page
from services.notification.access import ACCESS
from services.notification.model import DeliveryStatus
from services.notification.queries import log as queries
from services.notification.schemas import NotificationDetail, NotificationView

log = ACCESS.router(prefix="/api/v1/notifications", tags=["notification"])


@log.get("", summary="List notifications with their deliveries, newest first")
async def list_notifications(
    db: MayLag,
    caller: Caller,
    order_id: UUID | None = None,
    status: DeliveryStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[NotificationView]:
    return await queries.list_notifications(db, caller, order_id=order_id, status=status, cursor=cursor, limit=limit)


@log.get("/{notification_id}", summary="What became of one notification, with each attempt to send it")
async def get_notification(db: Db, caller: Caller, notification_id: UUID) -> NotificationDetail:
    return await queries.get_notification(db, caller, notification_id)

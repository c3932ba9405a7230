"""Where the saga asks that a customer be told."""

from chassis.dependencies import Db
from contracts.notifications import NotificationQueued, SendNotification
from services.notification import commands
from services.notification.access import ACCESS
from services.notification.api.dependencies import Wake

internal = ACCESS.router(prefix="/internal/v1", tags=["internal"])


@internal.post("/notifications", summary="Tell a customer")
async def send_notification(db: Db, wake: Wake, command: SendNotification) -> NotificationQueued:
    queued = await commands.send_notification(db, command)
    wake.set()
    return queued

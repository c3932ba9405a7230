"""Mails to the customer."""

from temporalio import activity

from activities.calls import Calls
from contracts.notifications import NotificationQueued, SendNotification


class NotificationActivities:
    """Commands to the notification service."""

    def __init__(self, notification: Calls) -> None:
        self._notification = notification

    @activity.defn(name="SendNotification")
    async def send(self, command: SendNotification) -> NotificationQueued:
        """Queue a mail."""
        return await self._notification.post("/internal/v1/notifications", command, NotificationQueued)

"""Mails to the customer."""

from temporalio import activity

from activities.calls import ServiceActivities
from contracts.notifications import NotificationQueued, SendNotification


class NotificationActivities(ServiceActivities):
    service = "notification"

    @activity.defn(name="SendNotification")
    async def send(self, command: SendNotification) -> NotificationQueued:
        """Queue a mail."""
        return await self._calls.post("/internal/v1/notifications", command, NotificationQueued)

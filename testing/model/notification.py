"""Mails, by key."""

from uuid import uuid5

from contracts.ids import ORDERS
from contracts.notifications import NotificationQueued, SendNotification


class Notifications:
    """The notification service's queue."""

    def __init__(self) -> None:
        self.mails: dict[str, SendNotification] = {}

    def send(self, command: SendNotification) -> NotificationQueued:
        self.mails.setdefault(command.key, command)
        return NotificationQueued(notification_id=uuid5(ORDERS, f"mail {command.key}"))

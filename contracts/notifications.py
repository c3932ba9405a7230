"""Command of the saga to notification, and its reply."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from contracts.base import Command, Contract, Told


class NotificationKind(StrEnum):
    """Which template is used."""

    ORDER_CONFIRMED = "order_confirmed"
    ORDER_SHIPPED = "order_shipped"
    ORDER_DELIVERED = "order_delivered"
    ORDER_CANCELLED = "order_cancelled"


class SendNotification(Command):
    """Queue one mail to a customer. Idempotent by `key`. contact_unknown is a fault: it may still come."""

    key: Annotated[str, Field(max_length=200)]
    """Same key, same mail: it is sent once."""
    kind: NotificationKind
    customer_id: UUID
    order_id: UUID
    values: Annotated[dict[Annotated[str, Field(max_length=40)], Told], Field(max_length=20)]
    """What the template may name, e.g. `total`, `tracking_number`."""


class NotificationQueued(Contract):
    notification_id: UUID

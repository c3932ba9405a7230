"""Bodies of notification's public endpoints."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

from pydantic import ConfigDict, Field

from contracts.base import LINES, NO_CONTROLS, Contract, Request
from contracts.notifications import NotificationKind
from services.notification.templates import LONGEST_BODY, LONGEST_SUBJECT, SAMPLES

if TYPE_CHECKING:
    from services.notification.model import Notification, Template


class NotificationView(Contract):
    """One mail in the delivery log."""

    notification_id: UUID
    order_id: UUID | None
    """None for a mail about an account."""
    customer_id: UUID | None
    kind: NotificationKind
    status: str
    """PENDING, SENT (the mail server took it), FAILED, or SUPPRESSED (not to be sent, e.g. to an unverified address)."""
    attempts: int
    reason: str | None = None
    """Why the last try failed, or why it is not to be sent."""
    created_at: datetime
    sent_at: datetime | None = None

    @classmethod
    def of(cls, notification: "Notification") -> Self:
        return cls.model_validate(notification.model_dump())


class TemplateRequest(Request):
    """A mail's text, in Jinja2 without loops, calls and assignments."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "subject": "Your order is on its way",
                    "body": "Hello,\n\nOrder {{ order_id }} has left.\n"
                    "{% if tracking_number %}Follow it: {{ tracking_number }}\n{% endif %}",
                }
            ]
        }
    )

    subject: Annotated[str, Field(min_length=1, max_length=LONGEST_SUBJECT, pattern=NO_CONTROLS)]
    body: Annotated[str, Field(min_length=1, max_length=LONGEST_BODY, pattern=LINES)]


class TemplateView(Contract):
    """The text of one kind of mail."""

    kind: NotificationKind
    subject: str
    body: str
    values: list[str]
    """What the text may name."""
    updated_at: datetime
    version: int
    """Also the ETag; send it back as If-Match."""

    @classmethod
    def of(cls, template: "Template") -> Self:
        return cls.model_validate(template.model_dump() | {"values": sorted(SAMPLES[template.kind])})

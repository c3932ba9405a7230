"""Templates and notifications: their state, their rules, and the events that tell of a change."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import Column, Index, MetaData, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, new_metadata, time_column
from chassis.inbox import Inbox
from chassis.outbox import Outbox
from chassis.statements import Record
from chassis.store import Aggregate
from chassis.telemetry import trace_headers
from contracts.events import Event, NotificationFailed, NotificationSent
from contracts.notifications import NotificationKind
from services.notification import templates

metadata = new_metadata()
outbox = Outbox("notification", metadata)
inbox = Inbox(metadata)

LONGEST_PAUSE = timedelta(minutes=15)
SUPPRESSED_FOR = timedelta(days=1)
"""A customer who verifies the address within this time gets the mails after all."""


class Table(Record):
    metadata: ClassVar[MetaData] = metadata


class NotificationStatus(StrEnum):
    """PENDING: to be sent, or to be tried again. SENT: the mail server took it. FAILED: given up. SUPPRESSED: not to be sent."""

    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"
    SUPPRESSED = "SUPPRESSED"


WAITING = frozenset({NotificationStatus.PENDING, NotificationStatus.SUPPRESSED})
"""What has not been sent, and may yet be."""


class Outcome(StrEnum):
    """What became of one try to send a mail."""

    SENT = "sent"
    DEFERRED = "deferred"
    """It may go through later."""
    REFUSED = "refused"
    """It never will."""
    SUPPRESSED = "suppressed"
    """It is not to be sent."""
    UNTRIED = "untried"
    """Identity or the mail server could not be asked: no fault of this mail."""


class Template(Table, Aggregate, table=True):
    """The text of one kind of mail. Admins edit it."""

    __tablename__ = "templates"

    kind: NotificationKind = Field(sa_column=enum_column(NotificationKind, primary_key=True))
    subject: str = Field(max_length=templates.LONGEST_SUBJECT)
    body: str = Field(max_length=templates.LONGEST_BODY)
    updated_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    def edit(self, subject: str, body: str) -> None:
        """Replace the text. Refusal: template_invalid."""
        templates.check(self.kind, subject, body)
        self.subject, self.body, self.updated_at = subject, body, utc_now()


class Notification(Table, Aggregate, table=True):
    """One mail to one customer: about an order, or one that identity wants sent. Identity says where to, at the time of sending.

    `due_at` is when it is to be tried next. Who claims it moves `due_at` into the future: that is the lease. A claimer that dies
    never reports, so the mail becomes due again; one that comes back late is known by its outdated lease.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        Index("ix_notifications_due_at", "due_at", postgresql_where=text("due_at is not null")),
        Index("ix_notifications_customer_id", "customer_id", "notification_id"),
        Index("ix_notifications_order_id", "order_id", "notification_id"),
    )

    notification_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    """Rises with time; also in the mail's Message-ID, so that a second copy of it can be recognised."""
    key: str = Field(max_length=200, unique=True)
    """Same key, same mail."""
    kind: NotificationKind = Field(sa_column=enum_column(NotificationKind))
    customer_id: UUID | None = None
    """None where it would tell whether an address has an account."""
    order_id: UUID | None = None
    request_id: UUID | None = None
    """Identity's, of a mail about an account."""
    values: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSONB, nullable=False))
    status: NotificationStatus = Field(default=NotificationStatus.PENDING, sa_column=enum_column(NotificationStatus))
    attempts: int = 0
    due_at: datetime | None = Field(default_factory=utc_now, sa_column=time_column(nullable=True))
    reason: str | None = Field(default=None, max_length=500)
    """Why the last try failed, or why it is not to be sent."""
    traceparent: str | None = Field(default_factory=lambda: trace_headers().get("traceparent"), sa_column=Column(Text))
    """The trace of what asked for it (W3C Trace Context); what becomes of the mail is told there."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    sent_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))

    def claim(self, until: datetime) -> None:
        """Nobody else sends it before `until`."""
        self.due_at = until

    def address_verified(self) -> None:
        """The customer can be reached now: what was held back is due, unless it is too old to be of use.

        So is what is being tried at this moment, which may not know it yet; its try no longer counts."""
        if self.created_at > utc_now() - SUPPRESSED_FOR and self.status in WAITING:
            self.status, self.due_at, self.reason = NotificationStatus.PENDING, utc_now(), None

    def forget_person(self) -> None:
        """What was not sent never is, and the mail server's words are blanked, which may repeat an address. The address and the
        text of a mail are not kept anyway. What is added to a mail later and names a person belongs here."""
        if self.status in WAITING:
            self.status, self.due_at = NotificationStatus.SUPPRESSED, None
        self.reason = None

    def report(self, lease: datetime, outcome: Outcome, reason: str | None, *, attempts_allowed: int) -> Event | None:
        """Take in what became of a try that was made under `lease`; the event, if that was the end of it."""
        if self.status is not NotificationStatus.PENDING:
            return None
        if outcome is Outcome.SENT:
            self.attempts += 1
            self.status, self.due_at, self.reason, self.sent_at = NotificationStatus.SENT, None, None, utc_now()
            if self.order_id is None:
                return None
            return NotificationSent(order_id=self.order_id, notification_id=self.notification_id, kind=self.kind)
        if self.due_at != lease:
            return None  # the lease ran out and somebody else is at it
        if outcome is Outcome.UNTRIED:
            self.due_at = utc_now()
            return None
        self.reason = reason[:500] if reason else None
        if outcome is Outcome.SUPPRESSED:
            self.status, self.due_at = NotificationStatus.SUPPRESSED, None
            return None
        self.attempts += 1
        if outcome is Outcome.DEFERRED and self.attempts < attempts_allowed:
            self.due_at = utc_now() + pause_after(self.attempts)
            return None
        self.status, self.due_at = NotificationStatus.FAILED, None
        if self.order_id is None:
            return None
        # The server's own words stay here: they may repeat an address or a name, which stand in no event.
        words = "The mail server refused it." if outcome is Outcome.REFUSED else f"Given up after {self.attempts} tries."
        return NotificationFailed(order_id=self.order_id, notification_id=self.notification_id, kind=self.kind, reason=words)


def pause_after(attempts: int) -> timedelta:
    """How long to wait after the n-th failure: 1, 2, 4 … seconds, at most a quarter of an hour."""
    return min(timedelta(seconds=2 ** min(attempts - 1, 20)), LONGEST_PAUSE)

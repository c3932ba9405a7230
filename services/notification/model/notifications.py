"""Notifications and their deliveries: what somebody is told, and what becomes of it by each channel."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import Column, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from chassis.telemetry import trace_headers
from contracts.events import EmailDelivered, Event, NotificationFailed, NotificationSent
from contracts.notifications import NotificationKind
from services.notification.channels import Channel, DeliveryState
from services.notification.model.tables import Table

LONGEST_PAUSE = timedelta(minutes=15)
LONGEST_WISH = timedelta(days=1)
"""How long a provider may put off a message's next try."""
SUPPRESSED_FOR = timedelta(days=1)
"""A customer who verifies the address within this time gets the mails after all."""
DEFAULT_LANGUAGE = "en"


class Audience(StrEnum):
    """Whom a notification is for: one customer, or all of the staff who do this work."""

    CUSTOMER = "customer"
    WAREHOUSE = "warehouse"
    FINANCE = "finance"
    SUPPORT = "support"


class DeliveryStatus(StrEnum):
    """PENDING: to be sent, or to be tried again. WAITING: held until quiet hours end. SENT: the provider took it. DELIVERED: it
    arrived, as the provider was told. BOUNCED: it came back. FAILED: refused, or given up. SUPPRESSED: not to be sent."""

    PENDING = "PENDING"
    WAITING = "WAITING"
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    BOUNCED = "BOUNCED"
    FAILED = "FAILED"
    SUPPRESSED = "SUPPRESSED"


TO_SEND = frozenset({DeliveryStatus.PENDING, DeliveryStatus.WAITING})
UNSENT = TO_SEND | {DeliveryStatus.SUPPRESSED}
"""What has not been sent, and may yet be."""
IN_VAIN = frozenset({DeliveryStatus.BOUNCED, DeliveryStatus.FAILED, DeliveryStatus.SUPPRESSED})
"""Then another channel is tried, if the kind says so."""


class Outcome(StrEnum):
    """What became of one try to send a message."""

    SENT = "sent"
    DEFERRED = "deferred"
    """It may go through later."""
    REFUSED = "refused"
    """It never will."""
    SUPPRESSED = "suppressed"
    """It is not to be sent."""
    HELD = "held"
    """Not now: the person has quiet hours."""
    UNTRIED = "untried"
    """Identity or the provider could not be asked: no fault of this message."""


COUNTED = frozenset({Outcome.SENT, Outcome.DEFERRED, Outcome.REFUSED})
"""These are attempts: a provider was asked."""


class Notification(Table, table=True):
    """What a customer, or the staff who do some work, are told: about an order, or what identity wants told. It never changes.

    Where to, identity says at the time of sending. In the in-app inbox it stands by itself: nothing is sent there.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        Index("ix_notifications_customer_id", "customer_id", "notification_id"),
        Index("ix_notifications_order_id", "order_id", "notification_id"),
        Index("ix_notifications_audience", "audience", "notification_id", postgresql_where=text("audience <> 'customer'")),
    )

    notification_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    """Rises with time."""
    key: str = Field(max_length=200, unique=True)
    """Same key, same notification."""
    kind: NotificationKind = Field(sa_column=enum_column(NotificationKind))
    audience: Audience = Field(default=Audience.CUSTOMER, sa_column=enum_column(Audience, server_default="customer"))
    warehouse_id: str | None = Field(default=None, max_length=40)
    """Of a warehouse's staff: only those who work there; None: of all warehouses."""
    customer_id: UUID | None = None
    """None for staff, and where it would tell whether an address has an account."""
    order_id: UUID | None = None
    request_id: UUID | None = None
    """Identity's, of a mail about an account."""
    values: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSONB, nullable=False))
    language: str = Field(default=DEFAULT_LANGUAGE, max_length=20)
    is_in_inbox: bool = False
    """Whether it is shown in the in-app inbox."""
    is_planned: bool = True
    """Whether it has its deliveries. Not those that a build before this one has queued, until they are taken over."""
    traceparent: str | None = Field(default_factory=lambda: trace_headers().get("traceparent"), sa_column=Column(Text))
    """The trace of what asked for it (W3C Trace Context); what becomes of it is told there."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())


class Delivery(Table, Aggregate, table=True):
    """A notification on its way by one channel, to one address.

    `due_at` is when it is to be tried next. Who claims it moves `due_at` into the future: that is the lease. A claimer that dies
    never reports, so it becomes due again; one that comes back late is known by its outdated lease.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_due", "channel", "due_at", postgresql_where=text("due_at is not null")),
        Index("ix_deliveries_notification_id", "notification_id"),
        Index("ix_deliveries_provider_id", "channel", "provider_id", postgresql_where=text("provider_id is not null")),
    )

    delivery_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    """The message's id, so that a second copy of it can be recognised. A notification's first mail has the notification's own."""
    notification_id: UUID
    channel: Channel = Field(sa_column=enum_column(Channel))
    target: str = Field(default="", max_length=320)
    """Which of several: the id of a browser's subscription, or an address of the staff. Empty: the person's own address."""
    status: DeliveryStatus = Field(default=DeliveryStatus.PENDING, sa_column=enum_column(DeliveryStatus))
    attempts: int = 0
    due_at: datetime | None = Field(default_factory=utc_now, sa_column=time_column(nullable=True))
    reason: str | None = Field(default=None, max_length=500)
    """Why the last try failed, why it is not to be sent, or what the provider told of it later."""
    provider_id: str | None = Field(default=None, max_length=200)
    """The provider's own name for it."""
    sent_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    settled_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When it arrived or came back, as the provider told."""

    def claim(self, until: datetime) -> None:
        """Nobody else sends it before `until`."""
        self.due_at = until

    def address_verified(self) -> None:
        """The customer can be reached now: what was held back is due.

        So is what is being tried at this moment, which may not know it yet; its try no longer counts."""
        if self.status in UNSENT:
            self.status, self.due_at, self.reason = DeliveryStatus.PENDING, utc_now(), None

    def forget_person(self) -> None:
        """What was not sent never is, and the provider's words are blanked, which may repeat an address. The address and the text
        of a message are not kept anyway. What is added later and names a person belongs here."""
        if self.status in UNSENT:
            self.status, self.due_at = DeliveryStatus.SUPPRESSED, None
        self.reason = None

    def report(
        self,
        about: Notification,
        lease: datetime,
        outcome: Outcome,
        reason: str | None = None,
        *,
        attempts_allowed: int,
        provider_id: str | None = None,
        held_until: datetime | None = None,
        pause: timedelta = timedelta(),
    ) -> Event | None:
        """Take in what became of a try that was made under `lease`; the event, if that was the end of it. `pause`: how long the
        provider wants us to wait; no longer than a day, whatever it says."""
        if outcome is Outcome.SENT and self.sent_at is None and self.status in (DeliveryStatus.DELIVERED, DeliveryStatus.BOUNCED):
            # The provider's news was faster than its receipt.
            self.attempts, self.sent_at, self.provider_id = self.attempts + 1, utc_now(), provider_id
            return None
        if self.status not in TO_SEND:
            return None
        if outcome is Outcome.SENT:
            self.attempts += 1
            self.status, self.due_at, self.reason, self.sent_at = DeliveryStatus.SENT, None, None, utc_now()
            self.provider_id = provider_id
            return _told(about, NotificationSent, channel=self.channel)
        if self.due_at != lease:
            return None  # the lease ran out and somebody else is at it
        if outcome is Outcome.UNTRIED:
            self.due_at = utc_now()
            return None
        self.reason = reason[:500] if reason else None
        if outcome is Outcome.HELD:
            self.status, self.due_at = DeliveryStatus.WAITING, held_until
            return None
        if outcome is Outcome.SUPPRESSED:
            self.status, self.due_at = DeliveryStatus.SUPPRESSED, None
            return None
        self.attempts += 1
        if outcome is Outcome.DEFERRED and self.attempts < attempts_allowed:
            wait = max(pause_after(self.attempts), min(pause, LONGEST_WISH))
            self.status, self.due_at = DeliveryStatus.PENDING, utc_now() + wait
            return None
        self.status, self.due_at = DeliveryStatus.FAILED, None
        who = "The mail server" if self.channel is Channel.EMAIL else "The provider"
        # The provider's own words stay here: they may repeat an address or a name, which stand in no event.
        words = f"{who} refused it." if outcome is Outcome.REFUSED else f"Given up after {self.attempts} tries."
        return _told(about, NotificationFailed, channel=self.channel, reason=words)

    def hear(self, about: Notification, state: DeliveryState, reason: str | None, occurred_at: datetime) -> list[Event]:
        """Take in what the provider tells of it later; the events, if that is news. What was told never goes back: a mail that
        arrived may still come back, and one that came back did not arrive. What arrived before its receipt was recorded was
        sent all the same, and that is told first."""
        told = reason[:500] if reason else None
        is_over = self.status in (DeliveryStatus.BOUNCED, DeliveryStatus.SUPPRESSED)
        if state is DeliveryState.BOUNCED and not is_over:
            self.status, self.due_at, self.reason, self.settled_at = DeliveryStatus.BOUNCED, None, told, occurred_at
            return _present(_told(about, NotificationFailed, channel=self.channel, reason="It came back."))
        if (
            state in (DeliveryState.DELIVERED, DeliveryState.COMPLAINED)
            and not is_over
            and self.status is not DeliveryStatus.DELIVERED
        ):
            # Who complains of it has it.
            sent = _told(about, NotificationSent, channel=self.channel) if self.status in TO_SEND else None
            self.status, self.due_at, self.reason, self.settled_at = DeliveryStatus.DELIVERED, None, None, occurred_at
            return _present(sent, _told(about, EmailDelivered) if self.channel is Channel.EMAIL else None)
        if state is DeliveryState.DELAYED and self.status is DeliveryStatus.SENT:
            self.reason = told
        return []


class Attempt(Table, table=True):
    """One try to send a delivery's message."""

    __tablename__ = "attempts"

    delivery_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    outcome: Outcome = Field(sa_column=enum_column(Outcome))
    reason: str | None = Field(default=None, max_length=500)
    at: datetime = Field(default_factory=utc_now, sa_column=time_column())


def _told(
    about: Notification, kind: type[NotificationSent] | type[NotificationFailed] | type[EmailDelivered], **facts: str
) -> Event | None:
    """The event of what became of a notification; None of one that is about no order, or for the staff."""
    if about.order_id is None or about.audience is not Audience.CUSTOMER:
        return None
    return kind(order_id=about.order_id, notification_id=about.notification_id, kind=about.kind, **facts)


def _present(*events: Event | None) -> list[Event]:
    return [event for event in events if event is not None]


def first_delivery(notification: Notification, channel: Channel, target: str = "") -> Delivery:
    """A mail to a customer has the notification's own id: that is what its Message-ID has always been."""
    if channel is Channel.EMAIL and not target:
        return Delivery(delivery_id=notification.notification_id, notification_id=notification.notification_id, channel=channel)
    return Delivery(notification_id=notification.notification_id, channel=channel, target=target)


def next_channel(fallback: Sequence[Channel], tried: Sequence[tuple[Channel, DeliveryStatus]]) -> Channel | None:
    """The channel that a notification takes next, if all those that it took have failed for good."""
    if any(status not in IN_VAIN for _, status in tried):
        return None
    taken = {channel for channel, _ in tried}
    return next((channel for channel in fallback if channel not in taken), None)


def pause_after(attempts: int) -> timedelta:
    """How long to wait after the n-th failure: 1, 2, 4 … seconds, at most a quarter of an hour."""
    return min(timedelta(seconds=2 ** min(attempts - 1, 20)), LONGEST_PAUSE)

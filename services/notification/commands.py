"""What changes notification. A function marked so is one transaction, others are a part of the consumer's; each is idempotent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam
from sqlmodel import col, or_

from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import locked
from chassis.store import AlreadyThere, UnitOfWork, transaction
from chassis.telemetry import RequestContext
from contracts.errors import ErrorCode, Refusal
from contracts.events import AccountMailRequested
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from services.notification.model import WAITING, Notification, Outcome, Template, outbox

_DUE = locked(
    Notification,
    col(Notification.due_at) <= bindparam("now"),
    order_by=col(Notification.due_at),
    limit=bindparam("limit"),
    skip_locked=True,
)
_THESE = locked(Notification, col(Notification.notification_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))
_WAITING = locked(
    Notification,
    (col(Notification.customer_id) == bindparam("customer"))
    & col(Notification.order_id).is_not(None)
    & or_(*[col(Notification.status) == status for status in sorted(WAITING)]),
)
"""Mails about a customer's orders that have not been sent."""
_NAMING = locked(
    Notification,
    (col(Notification.customer_id) == bindparam("customer"))
    & or_(col(Notification.reason).is_not(None), *[col(Notification.status) == status for status in sorted(WAITING)]),
)
"""Mails to a customer that may yet be sent, or of which a mail server said something."""


@dataclass(frozen=True)
class ClaimedMail:
    """A mail that this process may send until its lease ends."""

    notification: Notification
    lease: datetime


@dataclass(frozen=True)
class Report:
    """What became of a claimed mail."""

    claimed: ClaimedMail
    outcome: Outcome
    reason: str | None = None


async def send_notification(database: Database, command: SendNotification) -> NotificationQueued:
    """Queue a mail; the saga waits for this, so it is one statement, unless the mail has been queued before."""
    try:
        return await _queue_new(database, command)
    except AlreadyThere:
        return await _queue_once(database, command)


@transaction
async def _queue_new(work: UnitOfWork, command: SendNotification) -> NotificationQueued:
    notification = Notification(**dict(command))
    work.add(notification)
    return NotificationQueued(notification_id=notification.notification_id)


@transaction
async def _queue_once(work: UnitOfWork, command: SendNotification) -> NotificationQueued:
    notification, _ = await work.get_or_add(Notification(**dict(command)), "key")
    return NotificationQueued(notification_id=notification.notification_id)


def queue(
    work: UnitOfWork, kind: NotificationKind, *, about: str, order_id: UUID, customer_id: UUID, values: dict[str, str]
) -> None:
    """Queue a mail about an order within the consumer's transaction. `about`: names the order, the parcel or the event that the
    mail is about, which has one mail of a kind."""
    key = f"{about}:{kind}"
    work.add_missing(Notification(key=key, kind=kind, order_id=order_id, customer_id=customer_id, values=values))


def queue_account_mail(work: UnitOfWork, event: AccountMailRequested) -> None:
    """Queue a mail that identity wants sent."""
    work.add_missing(Notification(key=f"account:{event.request_id}", **dict(event)))


async def send_suppressed(work: UnitOfWork, customer_id: UUID) -> None:
    """The customer's address is verified now: what was held back of late is due."""
    for notification in await work.all(_WAITING, customer=customer_id):
        notification.address_verified()


async def forget_customer(work: UnitOfWork, customer_id: UUID) -> None:
    """Send a customer nothing any more, and blank what mail servers said of earlier mails."""
    for notification in await work.all(_NAMING, customer=customer_id):
        notification.forget_person()


@transaction
async def edit_template(work: UnitOfWork, kind: NotificationKind, *, subject: str, body: str, seen: int) -> Template:
    """Replace the text of one kind of mail. Refusals: stale_version, template_invalid, not_found."""
    template = await work.get(Template, kind)
    if template is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such template.")
    template.require_version(seen)
    template.edit(subject, body)
    return template


@transaction
async def claim_due(work: UnitOfWork, *, limit: int, lease: timedelta) -> list[ClaimedMail]:
    """Take mails that are due, the longest waiting first; no other process gets them while the lease lasts."""
    now = utc_now()
    notifications = await work.all(_DUE, now=now, limit=limit)
    for notification in notifications:
        notification.claim(now + lease)
    return [ClaimedMail(notification, now + lease) for notification in notifications]


@transaction
async def record(work: UnitOfWork, reports: Sequence[Report], *, attempts_allowed: int) -> None:
    """Write down what became of claimed mails."""
    by_id = {report.claimed.notification.notification_id: report for report in reports}
    events, causes = [], []
    for notification in await work.all(_THESE, ids=list(by_id)):
        report = by_id[notification.notification_id]
        event = notification.report(report.claimed.lease, report.outcome, report.reason, attempts_allowed=attempts_allowed)
        if event is not None:
            events.append(event)
            causes.append(RequestContext(notification.traceparent, None))
    outbox.add(work, *events, causes=causes)

"""What changes notification. Each function is one transaction, or a part of the consumer's; each is idempotent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clock import utc_now
from chassis.database import Database
from contracts.events import AccountMailRequested
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from services.notification.model import SUPPRESSED_FOR, Notification, NotificationStatus, Outcome, Template, outbox

_ADD = insert(Notification).on_conflict_do_nothing(index_elements=[col(Notification.key)])
"""Built once: it is on the path of every order."""


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
    """Queue a mail; the saga waits for this, so it does no more."""
    notification = Notification(**dict(command))
    async with database.transaction() as session:
        added = await session.execute(_ADD.returning(col(Notification.notification_id)), notification.model_dump())
        if added.first() is None:
            same = select(Notification.notification_id).where(Notification.key == command.key)
            return NotificationQueued(notification_id=(await session.exec(same)).one())
        return NotificationQueued(notification_id=notification.notification_id)


async def queue(
    session: AsyncSession, kind: NotificationKind, *, about: str, order_id: UUID, customer_id: UUID, values: dict[str, str]
) -> None:
    """Queue a mail about an order within the consumer's transaction. `about`: names the order, the parcel or the event that the
    mail is about, which has one mail of a kind."""
    key = f"{about}:{kind}"
    notification = Notification(key=key, kind=kind, order_id=order_id, customer_id=customer_id, values=values)
    await session.execute(_ADD, notification.model_dump())


async def queue_account_mail(session: AsyncSession, event: AccountMailRequested) -> None:
    """Queue a mail that identity wants sent."""
    notification = Notification(key=f"account:{event.request_id}", **dict(event))
    await session.execute(_ADD, notification.model_dump())


async def send_suppressed(session: AsyncSession, customer_id: UUID) -> None:
    """The customer's address is verified now: what was held back of late is due.

    So is what is being tried at this moment, which may not know it yet; its try no longer counts."""
    waiting = col(Notification.status).in_([NotificationStatus.SUPPRESSED, NotificationStatus.PENDING])
    recent = col(Notification.created_at) > utc_now() - SUPPRESSED_FOR
    theirs = (col(Notification.customer_id) == customer_id) & col(Notification.order_id).is_not(None)
    due = {"status": NotificationStatus.PENDING, "due_at": utc_now(), "reason": None}
    await session.exec(update(Notification).where(theirs, waiting, recent).values(due))


async def edit_template(database: Database, kind: NotificationKind, *, subject: str, body: str, version: int) -> Template:
    """Replace the text of one kind of mail. Refusals: stale_version, template_invalid."""
    async with database.transaction() as session:
        template = await session.get_one(Template, kind, with_for_update=True)
        template.edit(subject, body, version=version)
        await session.flush()
        return template


async def claim_due(database: Database, *, limit: int, lease: timedelta) -> list[ClaimedMail]:
    """Take mails that are due, the longest waiting first; no other process gets them while the lease lasts."""
    async with database.transaction() as session:
        now = utc_now()
        due = (
            select(Notification)
            .where(col(Notification.due_at) <= now)
            .order_by(col(Notification.due_at))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        notifications = (await session.exec(due)).all()
        for notification in notifications:
            notification.claim(now + lease)
        return [ClaimedMail(notification, now + lease) for notification in notifications]


async def record(database: Database, reports: Sequence[Report], *, attempts_allowed: int) -> None:
    """Write down what became of claimed mails."""
    by_id = {report.claimed.notification.notification_id: report for report in reports}
    async with database.transaction() as session:
        wanted = col(Notification.notification_id).in_(by_id)
        query = select(Notification).where(wanted).order_by(col(Notification.notification_id)).with_for_update()
        events, traceparents = [], []
        for notification in (await session.exec(query)).all():
            report = by_id[notification.notification_id]
            event = notification.report(report.claimed.lease, report.outcome, report.reason, attempts_allowed=attempts_allowed)
            if event is not None:
                events.append(event)
                traceparents.append(notification.traceparent)
        await outbox.add(session, *events, traceparents=traceparents)

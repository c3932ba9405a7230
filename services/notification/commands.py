"""What changes notification. Each function is one transaction, or a part of the consumer's; each is idempotent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import literal_column
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, exists, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clock import utc_now
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from services.notification import queries
from services.notification.model import Contact, Notification, Outcome, Template, new_notification, outbox
from services.notification.schemas import TemplateRequest, TemplateView

# Built once: they are on the path of every order.
_ADD = insert(Notification).on_conflict_do_nothing(index_elements=[col(Notification.key)])
_ADD_IF_KNOWN = _ADD.returning(exists().where(col(Contact.customer_id) == literal_column("notifications.customer_id")))


@dataclass(frozen=True)
class Letter:
    """A mail that this process may send until its lease ends."""

    notification: Notification
    lease: datetime
    contact: Contact | None
    template: Template


@dataclass(frozen=True)
class Report:
    """What became of a letter."""

    letter: Letter
    outcome: Outcome
    reason: str | None = None


async def send_notification(database: Database, command: SendNotification) -> NotificationQueued:
    """Queue a mail; the saga waits for this, so it does no more. Fault: contact_unknown (identity's event is still to come)."""
    notification = new_notification(**dict(command))
    async with database.transaction() as session:
        known = (await session.execute(_ADD_IF_KNOWN, notification.model_dump())).scalar()
        if known is None:
            same = select(Notification.notification_id).where(Notification.key == command.key)
            return NotificationQueued(notification_id=(await session.exec(same)).one())
        if not known:
            raise Refusal(ErrorCode.CONTACT_UNKNOWN, "Nobody has told yet how this customer is reached.")
        return NotificationQueued(notification_id=notification.notification_id)


async def queue(
    session: AsyncSession, kind: NotificationKind, *, order_id: UUID, customer_id: UUID, values: dict[str, str]
) -> None:
    """Queue a mail within the consumer's transaction, whether or not the contact is known: it is looked up when it is sent."""
    key = f"{order_id}:{kind}"
    notification = new_notification(key=key, kind=kind, order_id=order_id, customer_id=customer_id, values=values)
    await session.execute(_ADD, notification.model_dump())


async def remember_contact(session: AsyncSession, contact: Contact) -> None:
    """Keep how a customer is reached."""
    added = insert(Contact).values(contact.model_dump())
    changed = {"email": added.excluded.email, "name": added.excluded.name}
    await session.execute(added.on_conflict_do_update(index_elements=[col(Contact.customer_id)], set_=changed))


async def edit_template(database: Database, kind: NotificationKind, request: TemplateRequest, *, version: int) -> TemplateView:
    """Replace the text of one kind of mail. Refusals: stale_version, template_invalid."""
    async with database.transaction() as session:
        template = await session.get_one(Template, kind, with_for_update=True)
        template.edit(request.subject, request.body, version=version)
        await session.flush()
        return queries.template_view(template)


async def claim_due(database: Database, *, limit: int, lease: timedelta) -> list[Letter]:
    """Take mails that are due, the longest waiting first; no other process gets them while the lease lasts."""
    async with database.transaction() as session:
        now = utc_now()
        due = (
            select(Notification, Contact, Template)
            .join(Template, col(Template.kind) == Notification.kind)
            .outerjoin(Contact, col(Contact.customer_id) == Notification.customer_id)
            .where(col(Notification.due_at) <= now)
            .order_by(col(Notification.due_at))
            .limit(limit)
            .with_for_update(of=Notification, skip_locked=True)
        )
        rows = (await session.exec(due)).all()
        for notification, _, _ in rows:
            notification.claim(now + lease)
        return [Letter(notification, now + lease, contact, template) for notification, contact, template in rows]


async def record(database: Database, reports: Sequence[Report], *, attempts_allowed: int) -> None:
    """Write down what became of letters."""
    by_id = {report.letter.notification.notification_id: report for report in reports}
    async with database.transaction() as session:
        wanted = col(Notification.notification_id).in_(by_id)
        query = select(Notification).where(wanted).order_by(col(Notification.notification_id)).with_for_update()
        events = []
        for notification in (await session.exec(query)).all():
            report = by_id[notification.notification_id]
            event = notification.report(report.letter.lease, report.outcome, report.reason, attempts_allowed=attempts_allowed)
            if event is not None:
                events.append(event)
        await outbox.add(session, *events)

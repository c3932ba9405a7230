"""Reads of notification."""

from uuid import UUID

from sqlmodel import col, select

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from chassis.statements import prepared
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind
from contracts.paging import Page
from services.notification.model import Notification, NotificationStatus, Template
from services.notification.schemas import NotificationView, TemplateView
from services.notification.templates import Text

_TEXTS = prepared(select(col(Template.kind), col(Template.subject), col(Template.body)))


@may_lag
async def list_notifications(
    database: Reader,
    caller: Grant,
    *,
    order_id: UUID | None,
    status: NotificationStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[NotificationView]:
    """The delivery log within the caller's reach, newest first."""
    query = select(Notification).order_by(col(Notification.notification_id).desc()).limit(limit + 1)
    before = decode_cursor(cursor, KeyPart.ID)
    if before:
        query = query.where(col(Notification.notification_id) < before[0])
    query = query.where(caller.rows(owner=col(Notification.customer_id)))
    if order_id:
        query = query.where(Notification.order_id == order_id)
    if status:
        query = query.where(Notification.status == status)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, NotificationView.of, lambda row: (row.notification_id,))


async def get_notification(database: Database, caller: Grant, notification_id: UUID) -> NotificationView:
    """One mail within the caller's reach. Refusal: not_found."""
    async with database.reading() as session:
        notification = await session.get(Notification, notification_id)
    if notification is None or not caller.reaches(owner=notification.customer_id):
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such notification.")
    return NotificationView.of(notification)


async def texts(database: Database) -> dict[NotificationKind, Text]:
    """The templates with which mails are written now."""
    rows = await database.rows(_TEXTS)
    return {NotificationKind(kind): Text(subject, body) for kind, subject, body in rows}


@may_lag
async def list_templates(database: Reader, cursor: str | None, limit: int) -> Page[TemplateView]:
    """Templates by kind."""
    query = select(Template).order_by(col(Template.kind)).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TEXT)
    if after:
        query = query.where(col(Template.kind) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, TemplateView.of, lambda row: (row.kind,))


async def get_template(database: Database, kind: NotificationKind) -> TemplateView:
    """The text of one kind of mail."""
    async with database.reading() as session:
        return TemplateView.of(await session.get_one(Template, kind))

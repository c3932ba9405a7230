"""Reads of the in-app inbox: of one's own, and of the staff whose work one does."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, false, func, or_
from sqlmodel import col, select

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.logs import logger
from chassis.paging import KeyPart, decode_cursor, page_of
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from services.notification import messages
from services.notification.channels import Channel
from services.notification.model import Audience, InboxReader, Notification, ReadMark
from services.notification.queries.templates import live_texts
from services.notification.schemas import InboxItem, InboxPage

MOST_COUNTED = 1000
log = logger(__name__)
READ_BY = {
    Audience.WAREHOUSE: frozenset({Role.WAREHOUSE, Role.ADMIN}),
    Audience.SUPPORT: frozenset({Role.SUPPORT, Role.ADMIN}),
    Audience.FINANCE: frozenset({Role.ADMIN}),
}
"""Whose inbox it stands in too."""


def is_for(caller: Grant, notification: Notification) -> bool:
    """Whether a notification stands in the caller's inbox."""
    if not notification.is_in_inbox:
        return False
    if notification.audience is Audience.CUSTOMER:
        return notification.customer_id == caller.subject
    roles, warehouses = caller.principal.roles, caller.principal.warehouses
    if not roles & READ_BY[notification.audience]:
        return False
    is_of_all = notification.warehouse_id is None or warehouses is None or Role.ADMIN in roles
    return notification.audience is not Audience.WAREHOUSE or is_of_all or notification.warehouse_id in (warehouses or ())


def _in_inbox_of(caller: Grant) -> ColumnElement[bool]:
    """The same as a condition."""
    roles, warehouses = caller.principal.roles, caller.principal.warehouses
    own = and_(col(Notification.audience) == Audience.CUSTOMER, col(Notification.customer_id) == caller.subject)
    found: list[ColumnElement[bool]] = [own]
    for audience, readers in READ_BY.items():
        if not roles & readers:
            continue
        theirs: ColumnElement[bool] = col(Notification.audience) == audience
        if audience is Audience.WAREHOUSE and warehouses is not None and Role.ADMIN not in roles:
            of_these = col(Notification.warehouse_id).is_(None) | col(Notification.warehouse_id).in_(sorted(warehouses))
            theirs = and_(theirs, of_these)
        found.append(theirs)
    return and_(col(Notification.is_in_inbox), or_(false(), *found))


def _is_unread(caller: Grant) -> ColumnElement[bool]:
    up_to = select(InboxReader.read_up_to).where(InboxReader.person_id == caller.subject).scalar_subquery()
    is_marked = exists().where(
        col(ReadMark.person_id) == caller.subject, col(ReadMark.notification_id) == col(Notification.notification_id)
    )
    return and_(or_(up_to.is_(None), col(Notification.notification_id) > up_to), ~is_marked)


async def list_inbox(database: Database, caller: Grant, *, unread: bool, cursor: str | None, limit: int) -> InboxPage:
    """What stands in the caller's inbox, newest first, and how much of it is unread."""
    is_unread = _is_unread(caller)
    query = select(Notification, is_unread).where(_in_inbox_of(caller))
    query = query.order_by(col(Notification.notification_id).desc()).limit(limit + 1)
    if before := decode_cursor(cursor, KeyPart.ID):
        query = query.where(col(Notification.notification_id) < before[0])
    if unread:
        query = query.where(is_unread)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    items = await items_of(database, [notification for notification, _ in rows])
    shown = {item.notification_id: item for item in items}
    page = page_of(
        rows,
        limit,
        lambda row: shown[row[0].notification_id].model_copy(update={"is_read": not row[1]}),
        lambda row: (row[0].notification_id,),
    )
    return InboxPage(items=page.items, next_cursor=page.next_cursor, unread=await count_unread(database, caller))


async def count_unread(database: Reader, caller: Grant) -> int:
    """At most MOST_COUNTED."""
    some = select(Notification.notification_id).where(_in_inbox_of(caller), _is_unread(caller)).limit(MOST_COUNTED).subquery()
    async with database.reading() as session:
        return (await session.exec(select(func.count()).select_from(some))).one()


async def in_inbox(database: Database, caller: Grant, notification_id: UUID) -> Notification:
    """A notification that stands in the caller's inbox. Refusal: not_found."""
    async with database.reading() as session:
        notification = await session.get(Notification, notification_id)
    if notification is None or not is_for(caller, notification):
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such notification in your inbox.")
    return notification


async def newest(database: Database, caller: Grant) -> UUID | None:
    """The newest that stands in the caller's inbox."""
    query = select(Notification.notification_id).where(_in_inbox_of(caller))
    async with database.reading() as session:
        return (await session.exec(query.order_by(col(Notification.notification_id).desc()).limit(1))).first()


async def since(database: Database, caller: Grant, after: UUID, limit: int) -> Sequence[Notification]:
    """What came into the caller's inbox after this, oldest first."""
    query = select(Notification).where(_in_inbox_of(caller), col(Notification.notification_id) > after)
    async with database.reading() as session:
        return (await session.exec(query.order_by(col(Notification.notification_id)).limit(limit))).all()


async def all_since(database: Database, people: Sequence[UUID], after: UUID, limit: int) -> Sequence[Notification]:
    """What came after this into the inboxes of these people, or of any staff, oldest first."""
    theirs = col(Notification.customer_id).in_(people) | (col(Notification.audience) != Audience.CUSTOMER)
    query = select(Notification).where(col(Notification.is_in_inbox), theirs, col(Notification.notification_id) > after)
    async with database.reading() as session:
        return (await session.exec(query.order_by(col(Notification.notification_id)).limit(limit))).all()


async def items_of(database: Database, notifications: Sequence[Notification]) -> list[InboxItem]:
    """How notifications are shown, in their own languages. One whose text does not render is shown by its kind's name alone."""
    known = await live_texts(database, {notification.kind for notification in notifications}) if notifications else {}
    found = []
    for one in notifications:
        values = one.values | ({"order_id": str(one.order_id)} if one.order_id else {})
        try:
            text = messages.written(known, one.kind, Channel.INBOX, one.language, values)
            title, body = text.subject, text.body.strip()
        except Exception as error:  # a text that somebody spoilt must not close the inbox
            log.error("inbox_text_failed", kind=one.kind, exc_info=error)
            title, body = one.kind.replace("_", " ").capitalize(), ""
        found.append(
            InboxItem(
                notification_id=one.notification_id,
                kind=one.kind,
                audience=one.audience,
                order_id=one.order_id,
                warehouse_id=one.warehouse_id,
                title=title,
                text=body,
                created_at=one.created_at,
            )
        )
    return found

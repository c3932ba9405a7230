"""Reads of identity."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam
from sqlmodel import col, select

from chassis.access import Grant
from chassis.clock import utc_now
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from chassis.sessions import REMEMBERED_FOR
from chassis.statements import prepared, sql
from contracts.accounts import Contact, Contacts
from contracts.paging import Page
from services.identity.ended import Ends
from services.identity.model import SecurityEvent, SecurityRecord, Session, User, unknown_user
from services.identity.schemas import SecurityRecordView, SessionView, UserView

_CONTACTS = prepared(
    select(col(User.user_id), col(User.email)).where(
        col(User.user_id) == any_(bindparam("ids", type_=ARRAY(Uuid))), col(User.email_verified_at).is_not(None)
    )
)


async def get_user(database: Database, caller: Grant, user_id: UUID) -> UserView:
    """One user within the caller's reach. Refusal: not_found."""
    async with database.reading() as session:
        user = await session.get(User, user_id)
    if user is None or not caller.reaches(owner=user_id):
        raise unknown_user()
    return UserView.of(user)


async def contacts(database: Database, user_ids: Collection[UUID]) -> Contacts:
    """Where these users are reached, as far as their addresses are verified."""
    rows = await database.rows(_CONTACTS, ids=user_ids)
    return Contacts(contacts=tuple(Contact(customer_id=user_id, email=email) for user_id, email in rows))


@may_lag
async def list_users(database: Reader, cursor: str | None, limit: int) -> Page[UserView]:
    """Users, oldest first."""
    query = select(User).order_by(col(User.user_id)).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.ID)
    if after:
        query = query.where(col(User.user_id) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, UserView.of, lambda user: (user.user_id,))


async def list_sessions(
    database: Database, user_id: UUID, current: UUID | None, cursor: str | None, limit: int
) -> Page[SessionView]:
    """The live sessions of a user, newest first."""
    query = select(Session).order_by(col(Session.session_id).desc()).limit(limit + 1)
    query = query.where(Session.user_id == user_id, col(Session.ended_at).is_(None), Session.expires_at > utc_now())
    before = decode_cursor(cursor, KeyPart.ID)
    if before:
        query = query.where(col(Session.session_id) < before[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()

    def view(login: Session) -> SessionView:
        return SessionView.model_validate({**login.model_dump(), "is_current": login.session_id == current})

    return page_of(rows, limit, view, lambda login: (login.session_id,))


@dataclass(frozen=True)
class SecurityFilter:
    """Which records of the security log; None is any."""

    kind: SecurityEvent | None = None
    user_id: UUID | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_security_log(
    database: Database, wanted: SecurityFilter, cursor: str | None, limit: int
) -> Page[SecurityRecordView]:
    """Records, newest first."""
    query = select(SecurityRecord).order_by(col(SecurityRecord.record_id).desc()).limit(limit + 1)
    for column, value in (
        (SecurityRecord.kind, wanted.kind),
        (SecurityRecord.user_id, wanted.user_id),
        (SecurityRecord.address, wanted.address),
    ):
        if value is not None:
            query = query.where(col(column) == value)
    if wanted.since is not None:
        query = query.where(SecurityRecord.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(SecurityRecord.at < wanted.until)
    before = decode_cursor(cursor, KeyPart.ID)
    if before:
        query = query.where(col(SecurityRecord.record_id) < before[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, lambda row: SecurityRecordView.model_validate(row.model_dump()), lambda row: (row.record_id,))


_ENDED = sql(
    """select cast(cast(pg_snapshot_xmin(pg_current_snapshot()) as text) as bigint), session_id, ended_in
       from (select) as now left join sessions on ended_at > :since_then and ended_in >= :since"""
)


async def ended_sessions(database: Database, since: int) -> Ends:
    """The sessions ended by transactions from `since` on, of those that still matter. The position to go on from is the oldest
    transaction that has not committed yet, so that none is missed; a session may be told twice."""
    rows = await database.rows(_ENDED, since=since, since_then=utc_now() - REMEMBERED_FOR)
    return Ends(rows[0][0], {session_id: ended_in for _, session_id, ended_in in rows if session_id is not None})

"""Reads of identity."""

from uuid import UUID

from sqlalchemy import text
from sqlmodel import col, select

from chassis.clock import utc_now
from chassis.database import Database
from chassis.paging import decode_cursor, page_of
from chassis.sessions import MATTERS_FOR
from contracts.errors import ErrorCode, Refusal
from contracts.identity import EndedSessionList
from contracts.paging import Page
from services.identity.model import User
from services.identity.schemas import UserView


async def get_user(database: Database, user_id: UUID) -> UserView:
    """One user. Refusal: not_found."""
    async with database.reading() as session:
        user = await session.get(User, user_id)
    if user is None:
        raise unknown_user()
    return UserView.of(user)


async def list_users(database: Database, cursor: str | None, limit: int) -> Page[UserView]:
    """Users, oldest first."""
    query = select(User).order_by(col(User.user_id)).limit(limit + 1)
    after = decode_cursor(cursor, UUID)
    if after:
        query = query.where(col(User.user_id) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, UserView.of, lambda user: (user.user_id,))


_ENDED = text(
    """select cast(cast(pg_snapshot_xmin(pg_current_snapshot()) as text) as bigint),
              array(select session_id from sessions where ended_at > :since_then and ended_in >= :since)"""
)


async def ended_sessions(database: Database, since: int) -> EndedSessionList:
    """The sessions ended by transactions from `since` on, of those that still matter. The position to go on from is the oldest
    transaction that has not committed yet, so that none is missed; a session may be told twice."""
    async with database.reading() as session:
        row = (await session.execute(_ENDED, {"since": since, "since_then": utc_now() - MATTERS_FOR})).one()
    return EndedSessionList(position=row[0], session_ids=row[1])


def unknown_user() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such user.")

"""Reads of identity."""

from uuid import UUID

from sqlmodel import col, select

from chassis.database import Database
from chassis.paging import KeyPart, decode_cursor, page_of
from contracts.errors import ErrorCode, Refusal
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
    after = decode_cursor(cursor, KeyPart.ID)
    if after:
        query = query.where(col(User.user_id) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, UserView.of, lambda user: (user.user_id,))


def unknown_user() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such user.")

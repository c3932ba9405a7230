"""Reads of identity."""

from collections.abc import Collection
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import Database
from chassis.paging import decode_cursor, page_of
from contracts.accounts import Contact, Contacts
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


async def holder_of(session: AsyncSession, email: str) -> User | None:
    """Whose address it is, proven by a link."""
    query = select(User).where(User.email == email, col(User.email_verified_at).is_not(None))
    return (await session.exec(query)).one_or_none()


async def contacts(database: Database, user_ids: Collection[UUID]) -> Contacts:
    """Where these users are reached, as far as their addresses are verified."""
    query = select(User.user_id, User.email).where(col(User.user_id).in_(user_ids), col(User.email_verified_at).is_not(None))
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return Contacts(contacts=tuple(Contact(customer_id=user_id, email=email) for user_id, email in rows))


async def list_users(database: Database, cursor: str | None, limit: int) -> Page[UserView]:
    """Users, oldest first."""
    query = select(User).order_by(col(User.user_id)).limit(limit + 1)
    after = decode_cursor(cursor, UUID)
    if after:
        query = query.where(col(User.user_id) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, UserView.of, lambda user: (user.user_id,))


def unknown_user() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such user.")

"""Aggregates as a command needs them: locked until its transaction ends."""

from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from services.identity.model import User
from services.identity.queries import unknown_user


async def locked_user(session: AsyncSession, user_id: UUID) -> User:
    """The user. Refusal: not_found."""
    user = await session.get(User, user_id, with_for_update=True)
    if user is None:
        raise unknown_user()
    return user

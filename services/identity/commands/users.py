"""Users as commands need them: by their proven address, or locked until the transaction ends."""

from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from services.identity.model import Session, User, unknown_user


async def holder_of(session: AsyncSession, email: str) -> User | None:
    """Who holds this address: the one account whose owner has proven, by a link, to read it. Not locked."""
    query = select(User).where(User.email == email, col(User.email_verified_at).is_not(None))
    return (await session.exec(query)).one_or_none()


async def locked_user(session: AsyncSession, user_id: UUID) -> User:
    """The user. Refusal: not_found."""
    user = await session.get(User, user_id, with_for_update=True)
    if user is None:
        raise unknown_user()
    return user


async def locked_by_admin(session: AsyncSession, user_id: UUID, admin: Principal) -> User:
    """The user, for somebody who is an admin now, whatever the token says. Refusals: forbidden, not_found.

    Both are locked, always in the same order: two admins who demote each other take turns, and the second is none any more."""
    both = select(User).where(col(User.user_id).in_({user_id, admin.subject})).order_by(col(User.user_id))
    users = {user.user_id: user for user in (await session.exec(both.with_for_update())).all()}
    acting = users.get(admin.subject)
    login = await session.get(Session, admin.session_id) if admin.session_id else None
    if acting is None or not acting.is_admin or login is None or not login.is_live:
        raise Refusal(ErrorCode.FORBIDDEN, "You are no admin any more.")
    if user_id not in users:
        raise unknown_user()
    return users[user_id]

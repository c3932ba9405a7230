"""Users as commands need them: by their proven address, or locked until the transaction ends."""

from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, select
from sqlmodel import col

from chassis.statements import locked, prepared
from chassis.store import UnitOfWork
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from services.identity.model import Session, User, unknown_user

_HOLDER = prepared(
    select(col(User.user_id)).where(col(User.email) == bindparam("email"), col(User.email_verified_at).is_not(None))
)
_USERS = locked(User, col(User.user_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))
_SESSIONS = locked(
    Session,
    (col(Session.session_id) == bindparam("acting"))
    | ((col(Session.user_id) == bindparam("user")) & col(Session.ended_at).is_(None)),
)
"""The one that acts, and those that may have to end: together, since they are locked in the order of their keys."""


async def holder_of(work: UnitOfWork, email: str) -> UUID | None:
    """Who holds this address: the one account whose owner has proven, by a link, to read it. Not locked."""
    found = await work.rows(_HOLDER, email=email)
    return found[0]["user_id"] if found else None


async def locked_user(work: UnitOfWork, user_id: UUID) -> User:
    """The user. Refusal: not_found, also for one who is forgotten: a token may be good for a moment longer."""
    user = await work.get(User, user_id)
    if user is None or user.is_forgotten:
        raise unknown_user()
    return user


async def locked_by_admin(work: UnitOfWork, user_id: UUID, admin: Principal) -> User:
    """The user, for somebody who is an admin now, whatever the token says. Refusals: forbidden, not_found.

    Both are locked, always in the same order: two admins who demote each other take turns, and the second is none any more. So is
    the session that acts, and with it those of the user: what ends it takes turns with this, too."""
    users = {user.user_id: user for user in await work.all(_USERS, ids=[user_id, admin.subject])}
    acting = users.get(admin.subject)
    sessions = await work.all(_SESSIONS, acting=admin.session_id, user=user_id)
    login = next((one for one in sessions if one.session_id == admin.session_id), None)
    if acting is None or not acting.is_admin or login is None or not login.is_live:
        raise Refusal(ErrorCode.FORBIDDEN, "You are no admin any more.")
    if user_id not in users:
        raise unknown_user()
    return users[user_id]

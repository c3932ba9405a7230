"""Erasure: an account ends for good, and its person is forgotten. What other services keep follows the event (docs/adr/0029)."""

from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import bindparam, delete
from sqlmodel import col

from chassis.database import Database
from chassis.origin import Origin
from chassis.statements import locked, prepared
from chassis.store import UnitOfWork, transaction
from chassis.tokens import Principal
from services.identity.commands.ending import end_sessions, forget_devices, sessions_of
from services.identity.commands.guessing import Guesses
from services.identity.commands.security import SecurityLog
from services.identity.commands.sessions import prove_password
from services.identity.commands.users import locked_by_admin, locked_user
from services.identity.model import (
    AccountLink,
    EndReason,
    LinkPurpose,
    SecurityEvent,
    SecurityRecord,
    Session,
    User,
    outbox,
    unknown_user,
)
from services.identity.passwords import Passwords

_FORGET_LINKS = prepared(delete(AccountLink).where(col(AccountLink.user_id) == bindparam("user")))
_FORGET_UNSENT_RESET = prepared(
    delete(AccountLink).where(
        col(AccountLink.purpose) == LinkPurpose.PASSWORD_RESET,
        col(AccountLink.subject) == bindparam("email"),
        col(AccountLink.user_id).is_(None),
    )
)
_SESSIONS = locked(Session, col(Session.user_id) == bindparam("user"))
_RECORDS = locked(
    SecurityRecord,
    (col(SecurityRecord.user_id) == bindparam("user"))
    | ((col(SecurityRecord.account) == bindparam("email")) & col(SecurityRecord.user_id).is_(None)),
)


async def erase_oneself(
    database: Database,
    passwords: Passwords,
    security: SecurityLog,
    caller: Principal,
    origin: Origin,
    *,
    current_password: SecretStr,
) -> User:
    """End one's own account. Refusals: invalid_credentials, rate_limited, not_found, conflict (an admin)."""
    seen = await prove_password(database, passwords, security, caller, current_password, origin)
    return await _erase_oneself(database, caller, seen)


@transaction
async def _erase_oneself(work: UnitOfWork, caller: Principal, seen: User) -> User:
    await Guesses.in_session(caller.session_id).forgive(work)
    await _forget_unsent_reset(work, seen)
    user = await locked_user(work, caller.subject)
    email = user.email
    event = user.end(seen.password_hash)
    if event is not None:
        outbox.add(work, event)
        await _forget_all_of(work, user.user_id, email)
        work.add(SecurityRecord(kind=SecurityEvent.USER_FORGOTTEN, user_id=user.user_id))
    return user


@transaction
async def erase_user(work: UnitOfWork, user_id: UUID, reason: str, *, by: Principal) -> User:
    """End the account of a user. To repeat it changes nothing. Refusals: forbidden, not_found, conflict (oneself)."""
    seen = await work.read(User, user_id)
    if seen is None:
        raise unknown_user()
    await _forget_unsent_reset(work, seen)
    user = await locked_by_admin(work, user_id, by)
    email = user.email
    event = user.forget_person(by=by.subject)
    if event is not None:
        outbox.add(work, event)
        await _forget_all_of(work, user_id, email)
        work.add(SecurityRecord(kind=SecurityEvent.USER_FORGOTTEN, user_id=user_id, by=by.subject, detail=reason[:500]))
    return user


async def _forget_unsent_reset(work: UnitOfWork, seen: User) -> None:
    """A link to reset the password of which no mail was sent. It goes before the user is locked, since whoever sends its mail
    locks it first and the user after it; those that were sent go with the user's others."""
    if seen.is_verified:
        await work.rows(_FORGET_UNSENT_RESET, email=seen.email)


async def _forget_all_of(work: UnitOfWork, user_id: UUID, email: str) -> None:
    """What lies beside the user, who is locked. `email` is the address until now."""
    await end_sessions(work, await sessions_of(work, user_id), EndReason.USER_FORGOTTEN)
    for session in await work.all(_SESSIONS, user=user_id):
        session.forget_person()
    await work.rows(_FORGET_LINKS, user=user_id)
    await forget_devices(work, user_id)
    for record in await work.all(_RECORDS, user=user_id, email=email):
        record.forget_person()

"""Rights: what a user may do, and whether at all."""

from uuid import UUID

from sqlmodel import col

from chassis.database import Database
from chassis.origin import Origin
from chassis.tokens import Principal
from contracts.identity import Role
from services.identity.commands.ending import end_sessions
from services.identity.commands.users import locked_by_admin
from services.identity.model import EndReason, SecurityEvent, SecurityRecord, Session, User, outbox


async def set_roles(
    database: Database,
    user_id: UUID,
    roles: frozenset[Role],
    warehouses: frozenset[str] | None = None,
    *,
    by: Principal,
    origin: Origin,
    version: int,
) -> User:
    """What a user may do; ends their sessions, if it changes. Refusals: forbidden, not_found, stale_version, conflict."""
    async with database.transaction() as session:
        user = await locked_by_admin(session, user_id, by)
        event = user.set_roles(roles, warehouses, by=by.subject, version=version)
        if event is not None:
            await outbox.add(session, event)
            await end_sessions(session, col(Session.user_id) == user_id, EndReason.ROLES_CHANGED)
            scopes = "" if event.warehouses is None else f"; warehouses: {', '.join(event.warehouses)}"
            detail = f"roles: {', '.join(event.roles)}{scopes}"
            session.add(_record(SecurityEvent.ROLES_CHANGED, user_id, by, origin, detail))
        await session.flush()
        return user


async def disable(database: Database, user_id: UUID, reason: str, *, by: Principal, origin: Origin) -> User:
    """Nobody logs in to this account any more, and who is in is out. Refusals: forbidden, not_found, conflict."""
    async with database.transaction() as session:
        user = await locked_by_admin(session, user_id, by)
        event = user.disable(reason, by=by.subject)
        if event is not None:
            await outbox.add(session, event)
            await end_sessions(session, col(Session.user_id) == user_id, EndReason.USER_DISABLED)
            session.add(_record(SecurityEvent.USER_DISABLED, user_id, by, origin, reason))
        await session.flush()
        return user


async def enable(database: Database, user_id: UUID, *, by: Principal, origin: Origin) -> User:
    """The account can be used again. Refusals: forbidden, not_found."""
    async with database.transaction() as session:
        user = await locked_by_admin(session, user_id, by)
        event = user.enable(by=by.subject)
        if event is not None:
            await outbox.add(session, event)
            session.add(_record(SecurityEvent.USER_ENABLED, user_id, by, origin))
        await session.flush()
        return user


async def end_sessions_of(
    database: Database, user_id: UUID, session_id: UUID | None = None, *, by: Principal, origin: Origin
) -> None:
    """End one session of a user, or all. Ended already, or no such session: nothing to do. Refusals: forbidden, not_found."""
    which = col(Session.user_id) == user_id
    if session_id is not None:
        which = (col(Session.session_id) == session_id) & which
    async with database.transaction() as session:
        await locked_by_admin(session, user_id, by)
        count = await end_sessions(session, which, EndReason.ENDED_BY_ADMIN)
        if count:
            session.add(_record(SecurityEvent.SESSIONS_ENDED, user_id, by, origin, f"sessions: {count}"))


def _record(kind: SecurityEvent, user_id: UUID, by: Principal, origin: Origin, detail: str = "") -> SecurityRecord:
    return SecurityRecord(kind=kind, user_id=user_id, by=by.subject, address=origin.address, detail=detail[:500])

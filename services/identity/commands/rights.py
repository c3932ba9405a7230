"""Rights: what a user may do, and whether at all."""

from uuid import UUID

from chassis.origin import Origin
from chassis.store import UnitOfWork, transaction
from chassis.tokens import Principal
from contracts.identity import Role
from services.identity.commands.ending import end_sessions, sessions_of
from services.identity.commands.users import locked_by_admin
from services.identity.model import EndReason, SecurityEvent, SecurityRecord, User, outbox


@transaction
async def set_roles(
    work: UnitOfWork,
    user_id: UUID,
    roles: frozenset[Role],
    warehouses: frozenset[str] | None = None,
    *,
    by: Principal,
    origin: Origin,
    version: int,
) -> User:
    """What a user may do; ends their sessions, if it changes. Refusals: forbidden, not_found, stale_version, conflict."""
    user = await locked_by_admin(work, user_id, by)
    user.require_version(version)
    event = user.set_roles(roles, warehouses, by=by.subject)
    if event is not None:
        outbox.add(work, event)
        await end_sessions(work, await sessions_of(work, user_id), EndReason.ROLES_CHANGED)
        scopes = "" if event.warehouses is None else f"; warehouses: {', '.join(event.warehouses)}"
        detail = f"roles: {', '.join(event.roles)}{scopes}"
        work.add(_record(SecurityEvent.ROLES_CHANGED, user_id, by, origin, detail))
    return user


@transaction
async def disable(
    work: UnitOfWork, user_id: UUID, reason: str, *, by: Principal, origin: Origin, version: int | None = None
) -> User:
    """Nobody logs in to this account any more, and who is in is out. Refusals: forbidden, not_found, stale_version, conflict."""
    user = await locked_by_admin(work, user_id, by)
    user.require_version(version)
    event = user.disable(by=by.subject)
    if event is not None:
        outbox.add(work, event)
        await end_sessions(work, await sessions_of(work, user_id), EndReason.USER_DISABLED)
        work.add(_record(SecurityEvent.USER_DISABLED, user_id, by, origin, reason))
    return user


@transaction
async def enable(work: UnitOfWork, user_id: UUID, *, by: Principal, origin: Origin, version: int | None = None) -> User:
    """The account can be used again. Refusals: forbidden, not_found, stale_version."""
    user = await locked_by_admin(work, user_id, by)
    user.require_version(version)
    event = user.enable(by=by.subject)
    if event is not None:
        outbox.add(work, event)
        work.add(_record(SecurityEvent.USER_ENABLED, user_id, by, origin))
    return user


@transaction
async def end_sessions_of(
    work: UnitOfWork, user_id: UUID, session_id: UUID | None = None, *, by: Principal, origin: Origin
) -> None:
    """End one session of a user, or all. Ended already, or no such session: nothing to do. Refusals: forbidden, not_found."""
    await locked_by_admin(work, user_id, by)
    ending = [session for session in await sessions_of(work, user_id) if session_id in (None, session.session_id)]
    count = await end_sessions(work, ending, EndReason.ENDED_BY_ADMIN)
    if count:
        work.add(_record(SecurityEvent.SESSIONS_ENDED, user_id, by, origin, f"sessions: {count}"))


def _record(kind: SecurityEvent, user_id: UUID, by: Principal, origin: Origin, detail: str = "") -> SecurityRecord:
    return SecurityRecord(kind=kind, user_id=user_id, by=by.subject, address=origin.address, detail=detail[:500])

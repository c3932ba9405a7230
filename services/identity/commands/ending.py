"""How a session ends, within the transaction that has a reason for it."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, delete
from sqlmodel import col

from chassis.statements import locked, prepared, sql
from chassis.store import UnitOfWork
from services.identity.model import Device, EndReason, Session, outbox

_NOT_ENDED = col(Session.ended_at).is_(None)
_SESSIONS = locked(Session, (col(Session.session_id) == any_(bindparam("ids", type_=ARRAY(Uuid)))) & _NOT_ENDED)
_SESSIONS_OF = locked(Session, (col(Session.user_id) == bindparam("user")) & _NOT_ENDED)
_TRANSACTION = sql("select cast(cast(pg_current_xact_id() as text) as bigint) as id")
_FORGET_DEVICES = prepared(delete(Device).where(col(Device.user_id) == bindparam("user")))


async def sessions_by_id(work: UnitOfWork, *session_ids: UUID) -> list[Session]:
    """Those of these sessions that have not ended; locked."""
    return await work.all(_SESSIONS, ids=session_ids)


async def sessions_of(work: UnitOfWork, user_id: UUID) -> list[Session]:
    """The sessions of a user that have not ended; locked."""
    return await work.all(_SESSIONS_OF, user=user_id)


async def end_sessions(work: UnitOfWork, sessions: Iterable[Session], reason: EndReason) -> int:
    """End those that have not ended yet, and say how many: within two seconds every process refuses their tokens."""
    ending = [session for session in sessions if session.ended_at is None]
    if ending:
        [transaction] = await work.rows(_TRANSACTION)
        outbox.add(work, *[session.end(reason, transaction["id"]) for session in ending])
    return len(ending)


async def forget_devices(work: UnitOfWork, user_id: UUID) -> None:
    """Every device's right to be known. The user is locked."""
    await work.rows(_FORGET_DEVICES, user=user_id)


async def end_sessions_and_forget_devices(work: UnitOfWork, user_id: UUID) -> None:
    """Every session of the user, and every device's right to be known. The user is locked."""
    await end_sessions(work, await sessions_of(work, user_id), EndReason.PASSWORD_CHANGED)
    await forget_devices(work, user_id)

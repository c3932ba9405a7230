"""How a session ends, within the transaction that has a reason for it."""

from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Text, cast, func
from sqlmodel import col, delete, update
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clock import utc_now
from contracts.events import SessionEnded
from services.identity.model import Device, EndReason, Session, outbox


async def end_sessions(session: AsyncSession, which: ColumnElement[bool], reason: EndReason) -> int:
    """End those that have not ended yet, and say how many: within two seconds every process refuses their tokens."""
    transaction = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
    ended = await session.execute(
        update(Session)
        .where(which, col(Session.ended_at).is_(None))
        .values(ended_at=utc_now(), ended_in=transaction)
        .returning(col(Session.user_id), col(Session.session_id))
        .execution_options(synchronize_session=False)
    )
    events = [SessionEnded(customer_id=user_id, session_id=session_id, reason=reason) for user_id, session_id in ended.all()]
    await outbox.add(session, *events)
    return len(events)


async def end_sessions_and_forget_devices(session: AsyncSession, user_id: UUID) -> None:
    """Every session of the user, and every device's right to be known. The user is locked."""
    await end_sessions(session, col(Session.user_id) == user_id, EndReason.PASSWORD_CHANGED)
    await session.exec(delete(Device).where(col(Device.user_id) == user_id))

"""Inbox: an event's id is recorded in the same commit as its effect, so that a second delivery has none."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, MetaData, Table, func, text
from sqlalchemy.dialects.postgresql import UUID as PgUuid
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.dead_letters import dead_letters_table
from chassis.statements import sql
from chassis.store import UnitOfWork

_CLAIM = sql("insert into inbox (event_id) select unnest(cast(:ids as uuid[])) on conflict do nothing returning event_id")
_KNOWN = text("select event_id from inbox where event_id = any(:ids)")
_FORGET = sql(
    """with gone as (
         delete from inbox where event_id in (
           select event_id from inbox where applied_at < :before order by applied_at limit :limit) returning 1)
       select count(*) from gone"""
)


class Inbox:
    """The ids of events that this service has applied. Its dead letters lie beside them: who has the one has the other."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "inbox",
            metadata,
            Column("event_id", PgUuid(as_uuid=True), primary_key=True),
            Column("applied_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
        )
        dead_letters_table(metadata)

    async def claim(self, work: UnitOfWork, event_ids: Iterable[UUID]) -> set[UUID]:
        """Those of the ids that nobody applied before. A rollback gives them back.

        They are written in one fixed order, so that two consumers with overlapping batches can never wait for each other.
        """
        return {row["event_id"] for row in await work.rows(_CLAIM, ids=sorted(event_ids))}

    async def known(self, session: AsyncSession, event_ids: Iterable[UUID]) -> set[UUID]:
        """Those of the ids that were applied before."""
        return set((await session.execute(_KNOWN, {"ids": list(event_ids)})).scalars())

    async def forget(self, work: UnitOfWork, before: datetime, limit: int = 5000) -> bool:
        """Delete some of the ids applied before a time; returns whether there may be more."""
        [gone] = await work.rows(_FORGET, before=before, limit=limit)
        return bool(gone["count"] == limit)

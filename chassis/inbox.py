"""Inbox: an event's id is recorded in the same commit as its effect, so that a second delivery has none."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Column, DateTime, MetaData, Table, func
from sqlalchemy.dialects.postgresql import UUID as PgUuid
from sqlalchemy.dialects.postgresql import insert
from sqlmodel.ext.asyncio.session import AsyncSession


class Inbox:
    """The ids of events that this service has applied."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "inbox",
            metadata,
            Column("event_id", PgUuid(as_uuid=True), primary_key=True),
            Column("applied_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
        )

    async def claim(self, session: AsyncSession, event_ids: Iterable[UUID]) -> set[UUID]:
        """Those of the ids that nobody applied before. A rollback gives them back."""
        statement = (
            insert(self.table)
            .values([{"event_id": event_id} for event_id in event_ids])
            .on_conflict_do_nothing()
            .returning(self.table.c.event_id)
        )
        return set((await session.execute(statement)).scalars())

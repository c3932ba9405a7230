"""The outboxes as an archive: gives events of an order or a period to one consumer again; rebuilds what is made of events alone.

A service keeps its published events for OUTBOX_RETENTION_HOURS. What is older is gone, and nothing here can bring it back.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import typer
from sqlalchemy import MetaData

from chassis import dead_letters
from chassis.consumer import Subscription
from chassis.statements import sql
from chassis.store import UnitOfWork, in_transaction
from cli.databases import chosen, opened, with_table
from cli.dead_letters import outcome
from cli.topics import printed
from contracts.events import CloudEvent

MOST_EVENTS = 100_000
"""Events of one rewind. They lie in the consumer's database until it has applied them."""
PAGE = 2_000
_EVENTS = """
    select event_id, topic, key, envelope::text as envelope, envelope->>'type' as type, created_at from outbox
    where ($1::text is null or key = $1 or envelope #>> '{data,order_id}' = $1)
      and ($2::timestamptz is null or created_at >= $2) and ($3::timestamptz is null or created_at < $3)
      and ($4::text[] is null or envelope->>'type' = any($4)) and ($5::text[] is null or topic = any($5))
    order by seq"""


class Archived(NamedTuple):
    """An event as it stands in its producer's outbox."""

    created_at: datetime
    event_id: UUID
    topic: str
    key: str
    envelope: str
    type: str


@dataclass(frozen=True)
class Wanted:
    """Which events are meant."""

    order: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    types: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[Any, ...]:
        order = str(self.order) if self.order else None
        return order, self.since, self.until, list(self.types) or None, list(self.topics) or None


class Refused(Exception):
    """It cannot be done; the text says why."""


async def rewind(urls: Mapping[str, str], consumer: str, wanted: Wanted, *, again: bool, wait_s: float) -> int:
    """Hand archived events to one consumer; returns the exit code. Those that it has applied are left out, unless `again`."""
    [consumer] = chosen(await with_table(urls, "dead_letters"), consumer, "consumer")
    found: list[Archived] = []
    for producer in await with_table(urls, "outbox"):
        async with _archive(urls[producer]) as connection:
            begins_at = await connection.fetchval("select created_at from outbox order by seq limit 1")
            if wanted.since and (begins_at is None or wanted.since < begins_at):
                begins = f"begins at {begins_at:%Y-%m-%d %H:%M:%S} UTC" if begins_at else "is empty"
                typer.echo(f"The archive of {producer} {begins}; what was before is gone.", err=True)
            async for page in _pages(connection, wanted):
                found += page
        if len(found) > MOST_EVENTS:
            typer.echo(f"More than {MOST_EVENTS} events: choose a shorter period, or a --type.", err=True)
            return 2
    found.sort(key=lambda event: event.created_at)  # a stable sort: the events of one producer stay in sequence
    events = [(event.topic, event.key.encode(), event.envelope.encode()) for event in found]
    async with opened(urls[consumer]) as database:
        new = await dead_letters.rewind(database, events, again=again)
    printed(f"{len(found)} events in the archive; {len(found) - len(new)} of them were applied already")
    return await outcome(urls, {consumer: new}, wait_s=wait_s)


@asynccontextmanager
async def _archive(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A producer's outbox as it is at one moment."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        await connection.close()


async def _pages(connection: asyncpg.Connection, wanted: Wanted) -> AsyncIterator[list[Archived]]:
    cursor = await connection.cursor(_EVENTS, *wanted.arguments)
    while rows := await cursor.fetch(PAGE):
        yield [Archived(*(row[name] for name in Archived._fields)) for row in rows]


@dataclass(frozen=True)
class Rebuildable:
    """A consumer whose tables hold nothing but what its handlers make of events; so they can be made anew."""

    subscription: Subscription
    metadata: MetaData

    @property
    def tables(self) -> list[str]:
        return [table.name for table in self.metadata.sorted_tables if table.name not in ("inbox", "dead_letters")]


def _analytics() -> Rebuildable:
    from services.analytics.consumers import subscription
    from services.analytics.model import metadata

    return Rebuildable(subscription, metadata)


REBUILDABLE: Mapping[str, Callable[[], Rebuildable]] = {"analytics": _analytics}


@dataclass(frozen=True)
class Difference:
    """One table before and after. `lost` rows have no successor with their key; `changed` have one that differs."""

    table: str
    before: int
    after: int
    lost: int
    changed: int


async def rebuild(urls: Mapping[str, str], consumer: str, *, dry_run: bool) -> int:
    """Empty a consumer's tables and apply every archived event, in one transaction; compare; returns the exit code.

    Nothing changes if the archive lacks an event that was applied, or a row would be lost.
    """
    [consumer] = chosen(set(REBUILDABLE) & set(urls), consumer, "consumer that can be rebuilt")
    one = REBUILDABLE[consumer]()
    producers = [urls[name] for name in await with_table(urls, "outbox")]
    try:
        async with opened(urls[consumer]) as database:
            count = await in_transaction(database, lambda work: _rebuilt(work, one, producers, dry_run=dry_run))
    except _DryRun as done:
        count = done.count
    except Refused as reason:
        typer.echo(f"Not rebuilt: {reason}. Nothing was changed.", err=True)
        return 1
    printed(f"{count} events applied{'; this was a dry run, and nothing was changed' if dry_run else ''}")
    return 0


class _DryRun(Exception):
    """All went well, and must not stay."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


async def _rebuilt(work: UnitOfWork, one: Rebuildable, producers: Sequence[str], *, dry_run: bool) -> int:
    """How many events were applied. Raises Refused, and _DryRun."""
    count, differences = await _made_anew(work, one, producers)
    for row in differences:
        printed(f"{row.table}: {row.before} rows before, {row.after} after, {row.changed} differ, {row.lost} are missing")
    if lost := sum(row.lost for row in differences):
        raise Refused(f"the archive does not reach back far enough: {lost} rows would be lost")
    if dry_run:
        raise _DryRun(count)
    return count


async def _made_anew(work: UnitOfWork, one: Rebuildable, producers: Sequence[str]) -> tuple[int, list[Difference]]:
    # The consumer waits at the inbox until we are through; reports can be read meanwhile.
    await work.rows(sql("lock table inbox in exclusive mode"))
    await work.rows(sql("create temp table archived (event_id uuid primary key) on commit drop"))
    for table in one.tables:
        await work.rows(sql(f"create temp table {_before(table)} on commit drop as select * from {table}"))  # noqa: S608
    for table in reversed(one.tables):
        await work.rows(sql(f"delete from {table}"))  # noqa: S608
    count = 0
    wanted = Wanted(types=tuple(kind.__name__ for kind in one.subscription.kinds), topics=one.subscription.topics)
    for url in producers:
        async with _archive(url) as connection:
            async for page in _pages(connection, wanted):
                await work.rows(_ARCHIVED, ids=[event.event_id for event in page])
                envelopes = [CloudEvent.model_validate_json(event.envelope) for event in page]
                events = [(one.subscription.event_of(envelope), envelope) for envelope in envelopes]
                await one.subscription.apply(work, [(event, envelope) for event, envelope in events if event])
                count += len(page)
    missing = "from inbox where not exists (select from archived where archived.event_id = inbox.event_id)"
    [(gone, last)] = await work.rows(sql(f"select count(*), max(applied_at) {missing}"))
    if gone:
        until = f"{last:%Y-%m-%d %H:%M:%S} UTC"
        raise Refused(
            f"the archive does not reach back far enough: {gone} events that were applied until {until} are in no outbox any more"
        )
    await work.rows(sql("insert into inbox (event_id) select event_id from archived on conflict do nothing"))
    return count, [await _difference(work, one.metadata, table) for table in one.tables]


async def _difference(work: UnitOfWork, metadata: MetaData, table: str) -> Difference:
    key = ", ".join(column.name for column in metadata.tables[table].primary_key)
    before = _before(table)
    lost = f"(select {key} from {before} except select {key} from {table})"  # noqa: S608
    other = f"(select * from {before} except select * from {table})"  # noqa: S608
    query = f"""select (select count(*) from {before}), (select count(*) from {table}),
                       (select count(*) from {lost} as lost), (select count(*) from {other} as other)"""  # noqa: S608
    [(count, after, missing, differing)] = await work.rows(sql(query))
    return Difference(table, count, after, missing, differing - missing)


_ARCHIVED = sql("insert into archived select unnest(cast(:ids as uuid[]))")


def _before(table: str) -> str:
    return f"{table}_before"

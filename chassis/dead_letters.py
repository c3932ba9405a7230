"""Dead letters: what a consumer could not handle, in its own database, until somebody puts it back or drops it.

A letter's id is that of its event, or made of where a record stands and what is in it: if the same record fails again, it is the
same letter with one attempt more. What is put back goes to this consumer alone. A rewound event is a letter that never failed; it
leaves no trace once it is applied.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from aiokafka import ConsumerRecord
from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Integer, LargeBinary, MetaData, Table, Text, func, text
from sqlalchemy.dialects.postgresql import UUID as PgUuid
from sqlalchemy.engine import RowMapping
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.statements import sql
from chassis.store import UnitOfWork, transaction
from contracts.base import told
from contracts.events import CloudEvent

KEPT_BYTES = 256 * 1024
"""A record that is larger than this is kept by reference only. No event of ours is: the outbox refuses it."""
_OF_RECORDS = UUID("5d1f6f0e-3a37-4c62-9f5e-7b1d1c5a1f10")


class LetterState(StrEnum):
    """OPEN: somebody has to decide. REPLAY: to be handed to the consumer. APPLIED: it had its effect. DROPPED: it never will."""

    OPEN = "OPEN"
    REPLAY = "REPLAY"
    APPLIED = "APPLIED"
    DROPPED = "DROPPED"


def dead_letters_table(metadata: MetaData) -> Table:
    """Adds the dead letters to a consumer's tables.

    `value` is null for a record that is kept by reference: it is at `topic`, `partition` and `offset` for as long as the broker
    keeps it, and `digest` tells whether it is still the same. `attempts` counts how often it was given up.
    """
    table = Table(
        "dead_letters",
        metadata,
        Column("letter_id", PgUuid(as_uuid=True), primary_key=True),
        Column("seq", BigInteger, Identity(always=True), nullable=False),
        Column("state", Text, nullable=False),
        Column("topic", Text, nullable=False),
        Column("partition", Integer),
        Column("offset", BigInteger),
        Column("key", LargeBinary),
        Column("value", LargeBinary),
        Column("size", Integer, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("type", Text),
        Column("subject", Text),
        Column("event_time", DateTime(timezone=True)),
        Column("error", Text),
        Column("attempts", Integer, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("failed_at", DateTime(timezone=True)),
        Column("settled_at", DateTime(timezone=True)),
        Column("reason", Text),
        Column("taken_until", DateTime(timezone=True)),
    )
    Index("ix_dead_letters_unsettled", table.c.seq, postgresql_where=text("state in ('OPEN', 'REPLAY')"))
    Index("ix_dead_letters_settled_at", table.c.settled_at, postgresql_where=text("settled_at is not null"))
    return table


_PARK = sql(
    """insert into dead_letters as known (letter_id, state, topic, "partition", "offset", key, value, size, digest,
                                          type, subject, event_time, error, attempts, failed_at)
       values (:letter_id, 'OPEN', :topic, :partition, :offset, :key, :value, :size, :digest,
               :type, :subject, :event_time, :error, 1, now())
       on conflict (letter_id) do update
       set state = case when known.state = 'DROPPED' then 'DROPPED' else 'OPEN' end, error = excluded.error,
           attempts = known.attempts + 1, failed_at = now(), taken_until = null,
           settled_at = case when known.state = 'DROPPED' then known.settled_at end"""
)
_COUNT = text("select topic, state, count(*) from dead_letters where state in ('OPEN', 'REPLAY') group by topic, state")
_IS_TAKEN = sql("select exists (select from dead_letters where state = 'REPLAY' and taken_until > now())")
_TAKE = sql(
    """update dead_letters set taken_until = now() + :lease
       where letter_id in (select letter_id from dead_letters where state = 'REPLAY' order by seq limit :limit)
       returning letter_id, seq, topic, "partition", "offset", key, value, size, digest"""
)
_RELEASE = sql("update dead_letters set taken_until = null where letter_id = any(:ids) and state = 'REPLAY'")
_DELETE_REWOUND = sql("delete from dead_letters where letter_id = any(:ids) and attempts = 0")
_SETTLE = sql(
    """update dead_letters set state = 'APPLIED', settled_at = now(), taken_until = null
       where letter_id = any(:ids) and state in ('OPEN', 'REPLAY')"""
)
_FORGET = sql("delete from dead_letters where settled_at < :before")
_SELECTED = """
    state = any(cast(:states as text[])) and (cast(:letters as uuid[]) is null or letter_id = any(cast(:letters as uuid[])))
    and (cast(:order as text) is null or subject = cast(:order as text) or key = convert_to(cast(:order as text), 'UTF8'))
    and (cast(:type as text) is null or type = cast(:type as text))
    and (cast(:since as timestamptz) is null or coalesce(failed_at, created_at) >= cast(:since as timestamptz))
    and (cast(:until as timestamptz) is null or coalesce(failed_at, created_at) < cast(:until as timestamptz))"""
_LIST = text(f"select * from dead_letters where {_SELECTED} order by coalesce(failed_at, created_at), seq limit :limit")  # noqa: S608
_HAND_BACK = sql(f"update dead_letters set state = 'REPLAY', taken_until = null where {_SELECTED} returning letter_id")  # noqa: S608
# Whoever is handed a dropped event again passes over it.
_DROP = sql(
    f"""with dropped as (
          update dead_letters set state = 'DROPPED', settled_at = now(), reason = cast(:reason as text) where {_SELECTED}
          returning letter_id, type),
        known as (
          insert into inbox (event_id) select letter_id from dropped where type is not null order by letter_id
          on conflict do nothing)
        select count(*) from dropped"""  # noqa: S608
)
_STATES = text("select letter_id, state, error from dead_letters where letter_id = any(:ids)")
_UNAPPLY = sql("delete from inbox where event_id = any(cast(:ids as uuid[]))")
_APPLIED = sql("select event_id from inbox where event_id = any(cast(:ids as uuid[]))")
_REWIND = sql(
    """insert into dead_letters as known (letter_id, state, topic, key, value, size, digest, type, subject, event_time, attempts)
       select letter_id, 'REPLAY', topic, key, value, length(value), digest, type, subject, event_time, 0
       from unnest(cast(:letter_id as uuid[]), cast(:topic as text[]), cast(:key as bytea[]), cast(:value as bytea[]),
                   cast(:digest as bytea[]), cast(:type as text[]), cast(:subject as text[]), cast(:event_time as timestamptz[]))
            with ordinality as event (letter_id, topic, key, value, digest, type, subject, event_time, n)
       order by n
       on conflict (letter_id) do update set state = 'REPLAY', settled_at = null, taken_until = null"""
)
REWOUND_AT_ONCE = 2_000


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which letters of a consumer are meant. `since` and `until` are about when a letter failed last."""

    letters: tuple[UUID, ...] = ()
    order: UUID | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    states: tuple[LetterState, ...] = (LetterState.OPEN,)

    @property
    def values(self) -> dict[str, Any]:
        """As the statements take it."""
        return {
            "states": [str(state) for state in self.states],
            "letters": list(self.letters) or None,
            "order": str(self.order) if self.order else None,
            "type": self.type,
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True)
class Letter:
    """A letter that this process may hand to its consumer until its lease ends."""

    letter_id: UUID
    topic: str
    partition: int | None
    offset: int | None
    key: bytes | None
    value: bytes | None
    size: int
    digest: bytes

    @property
    def is_reference(self) -> bool:
        return self.value is None

    def record(self, value: bytes | None = None) -> ConsumerRecord:
        """As the broker handed it out."""
        value = self.value if value is None else value
        key, place = self.key, (self.topic, self.partition or 0, self.offset or 0)
        return ConsumerRecord(*place, 0, 0, key, value, None, len(key or b""), len(value or b""), ())


def letter_id(record: ConsumerRecord, envelope: CloudEvent | None) -> UUID:
    """The event's own id, or one that is made of the record."""
    if envelope is not None:
        return envelope.id
    return uuid5(_OF_RECORDS, f"{record.topic}/{record.partition}/{record.offset}/{digest_of(record.value).hex()}")


def digest_of(value: bytes | None) -> bytes:
    """SHA-256 of a record's value; a record without one counts as empty."""
    return hashlib.sha256(value or b"").digest()


@transaction
async def park(
    work: UnitOfWork, identity: UUID, record: ConsumerRecord, envelope: CloudEvent | None, error: str, *, by_reference: bool
) -> None:
    """Add a letter, or one more attempt to it. With `by_reference` nothing is stored that comes from the record itself."""
    value, key = record.value or b"", record.key
    values: dict[str, Any] = {
        "letter_id": identity,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": None if by_reference or len(key or b"") > KEPT_BYTES else key,
        "value": None if by_reference or len(value) > KEPT_BYTES else value,
        "size": len(value),
        "digest": digest_of(value),
        "type": None,
        "subject": None,
        "event_time": None,
        "error": told(error, 2000),
    }
    if envelope is not None and not by_reference:
        values |= {"type": told(envelope.type, 200), "subject": told(envelope.subject, 200), "event_time": envelope.time}
    await work.rows(_PARK, **values)


async def counts(session: AsyncSession) -> dict[tuple[str, LetterState], int]:
    """How many letters are open, and how many are to be handed back, by topic."""
    return {(topic, LetterState(state)): count for topic, state, count in (await session.execute(_COUNT)).all()}


@transaction
async def take(work: UnitOfWork, *, limit: int, lease: timedelta) -> list[Letter]:
    """The letters that are to be handed back next, oldest first. Nobody else gets any while the lease lasts: that keeps their
    sequence."""
    await work.lock("dead_letters")
    [is_taken] = await work.rows(_IS_TAKEN)
    if is_taken["exists"]:
        return []
    rows = await work.rows(_TAKE, limit=limit, lease=lease)
    ordered = sorted(map(dict, rows), key=lambda row: row["seq"])
    return [Letter(**{name: value for name, value in row.items() if name != "seq"}) for row in ordered]


@transaction
async def release(work: UnitOfWork, ids: Iterable[UUID]) -> None:
    """Give back what was taken and not tried."""
    await work.rows(_RELEASE, ids=list(ids))


async def settle(work: UnitOfWork, ids: Sequence[UUID]) -> None:
    """These events have had their effect, in this transaction or before."""
    await work.rows(_DELETE_REWOUND, ids=list(ids))
    await work.rows(_SETTLE, ids=list(ids))


@transaction
async def forget(work: UnitOfWork, before: datetime) -> None:
    """Delete letters that were settled before a time."""
    await work.rows(_FORGET, before=before)


async def selected(session: AsyncSession, selection: Selection, *, limit: int) -> Sequence[RowMapping]:
    """The first of these letters, whole; those that failed first at first."""
    return (await session.execute(_LIST, {**selection.values, "limit": limit})).mappings().all()


async def states(session: AsyncSession, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """What has become of letters: letter_id, state, error."""
    return (await session.execute(_STATES, {"ids": list(ids)})).mappings().all()


@transaction
async def hand_back(work: UnitOfWork, selection: Selection) -> list[UUID]:
    """Let the consumer try these letters again; their ids."""
    return [row["letter_id"] for row in await work.rows(_HAND_BACK, **selection.values)]


@transaction
async def drop(work: UnitOfWork, selection: Selection, reason: str) -> int:
    """Settle these letters without their effect; how many they are. The reason is kept."""
    [dropped] = await work.rows(_DROP, **selection.values, reason=reason)
    return int(dropped["count"])


@transaction
async def rewind(work: UnitOfWork, events: Sequence[tuple[str, bytes, bytes]], *, again: bool) -> list[UUID]:
    """Hand events, each with its topic, key and record, to the consumer; the ids of those that are handed to it. Events that it
    has applied are passed over, unless `again`."""
    letters: list[dict[str, Any]] = []
    for topic, key, value in events:
        envelope = CloudEvent.model_validate_json(value)
        about = {"type": envelope.type, "subject": envelope.subject, "event_time": envelope.time}
        place = {"letter_id": envelope.id, "topic": topic, "key": key, "value": value, "digest": digest_of(value)}
        letters.append(place | about)
    ids = [letter["letter_id"] for letter in letters]
    if again:
        await work.rows(_UNAPPLY, ids=ids)
    applied = {row["event_id"] for row in await work.rows(_APPLIED, ids=ids)}
    new = [letter for letter in letters if letter["letter_id"] not in applied]
    for start in range(0, len(new), REWOUND_AT_ONCE):
        page = new[start : start + REWOUND_AT_ONCE]
        await work.rows(_REWIND, **{name: [letter[name] for letter in page] for name in page[0]})
    return [letter["letter_id"] for letter in new]

"""The aggregate store: the one way in which anything is changed. A command is one transaction and one unit of work.

    @transaction
    async def release_inventory(work: UnitOfWork, command: ReleaseInventory) -> Released:
        reservation, _ = await work.get_or_add(Reservation.tombstone(command))
        event = reservation.release(command.reason)
        ...
        outbox.add(work, event)

Whoever calls it passes the service's database: `await release_inventory(database, command)`. What was got for a change nobody
else changes until the transaction ends; what has become of it is written when the function returns, and a `version` rises. If
others were in the way (a deadlock, a lock that did not come), the function runs again, so it changes nothing but its `work`.

Most commands get one row that nobody else wants, and write. So the first row that a command gets is locked only when a second
statement follows; if what is written follows at once, that is done only if the row's version is still the same. If it is not, the
function runs again, and then locks whatever it gets.

Statements are SQLAlchemy's; asyncpg executes them. SQLAlchemy's own sessions cost several times as much (docs/adr/0022).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from hashlib import blake2b
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import asyncpg
from sqlalchemy.sql import Executable
from sqlmodel import Field, SQLModel

from chassis.database import Database, is_lock_fault, without_values
from chassis.statements import (
    NOT_ALL,
    Locked,
    Prepared,
    Record,
    Row,
    RowTable,
    Write,
    all_or_nothing,
    all_together,
    prepared,
    table_of,
)
from contracts.budgets import TRY_AGAIN_S
from contracts.errors import ErrorCode, Refusal

PAUSE_S = 0.02
"""The longest pause before the second try of a transaction that others were in the way of; it doubles with each try."""
TRIES = 10
"""How often `get_or_add` looks and adds, since what was in its way may be deleted in between."""
AlreadyThere = asyncpg.UniqueViolationError
"""Somebody has added a row with this key before."""

P = ParamSpec("P")
Reply = TypeVar("Reply")


class Aggregate(Record):
    """What clients change: its version rises with every change, and is its ETag."""

    version: int = Field(default=1)

    def require_version(self, seen: int | None) -> None:
        """Go on only if it is still what the caller has seen; None: whatever it is. Refusal: stale_version."""
        if seen is not None and seen != self.version:
            raise StaleVersion(self)


class StaleVersion(Refusal):
    """Somebody else changed it first. `chassis.etags.showing` adds what it is now."""

    def __init__(self, aggregate: Aggregate, current: Mapping[str, Any] | None = None) -> None:
        self.aggregate = aggregate
        extra = {"current_version": aggregate.version} | ({"current": current} if current is not None else {})
        super().__init__(ErrorCode.STALE_VERSION, "Somebody else changed it first; read it again and retry.", extra=extra)


def transaction(
    change: Callable[Concatenate["UnitOfWork", P], Awaitable[Reply]],
) -> Callable[Concatenate[Database, P], Coroutine[Any, Any, Reply]]:
    """Makes a function a command: it commits when it returns, and leaves nothing behind when it raises."""

    @wraps(change)
    async def run(database: Database, /, *args: P.args, **kwargs: P.kwargs) -> Reply:
        return await in_transaction(database, lambda work: change(work, *args, **kwargs))

    return run


async def in_transaction(database: Database, change: Callable[["UnitOfWork"], Awaitable[Reply]]) -> Reply:
    """The same for a function that is made on the spot. Do no network call inside it."""
    began = time.monotonic()
    pause, locks_first = PAUSE_S, False
    while True:
        try:
            async with database._writing() as connection:
                work = UnitOfWork(connection, locks_first=locks_first)
                try:
                    reply = await change(work)
                    await work._commit()
                    return reply
                except BaseException:
                    await work._roll_back()
                    raise
        except _Overtaken:
            locks_first = True
            continue
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            without_values(error)
            if not is_lock_fault(error) or time.monotonic() - began > TRY_AGAIN_S:
                raise
        await asyncio.sleep(pause * random.random())  # noqa: S311 - by chance, so that two do not meet again
        pause *= 2


class _Overtaken(Exception):
    """Somebody else has changed the row that was not locked."""


@dataclass
class _Seen:
    """A row of this transaction, and what the database has of it."""

    table: RowTable
    row: Any
    values: Mapping[str, Any]
    has_own_version: bool = False
    """Whether its version is this transaction's already: it was made here, or has risen."""


class UnitOfWork:
    """What one transaction reads for a change, changes and adds.

    All of it is written by one statement when the command returns, or before a statement is executed that might ask for what was
    changed. A command that only adds needs no other statement, and no BEGIN and COMMIT around it.
    """

    def __init__(self, connection: asyncpg.Connection, *, locks_first: bool = False) -> None:
        """`locks_first`: the first row is locked when it is got, as all others are."""
        self._connection = connection
        self._has_begun = False
        self._locks_first = locks_first
        self._unlocked: list[tuple[_Seen, Write]] = []
        """The first row, and those that were got again with it, as long as they are not locked; what locks each as it was got."""
        self._is_unread = False
        """Whether they were never read here: then they must be looked at even if nothing comes to be written."""
        self._seen: dict[tuple[Any, ...], _Seen] = {}
        self._added: list[tuple[SQLModel, bool]] = []
        """And whether each is to be passed over if it is there already."""
        self._last: list[Write] = []
        self._when_committed: list[Callable[[], None]] = []

    # ── To read for a change ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, kind: type[Row], *key: Any) -> Row | None:
        """The row with this primary key, for a change."""
        table = table_of(kind)
        if self._is_first(table):
            found = await self._connection.fetch(table.read, *table.encoded_key(key))
            return self._take_unlocked(table, *table.made(found[0])) if found else None
        if self._added:
            await self.write()
        found = await self._statement(table.get, *table.encoded_key(key))
        return self._remember(table, found[0]) if found else None

    async def get_again(self, row: Row) -> Row:
        """A row that an earlier command has returned, for another change: as it was then, if nobody has changed it since, which
        costs no statement, nor do others that are got again right after it. LookupError: it was deleted."""
        table = table_of(type(row))
        if self._is_first(table) or (table.version and self._are_unread):
            self._is_unread = True
            return cast(Row, self._take_unlocked(table, *table.copied(row)))
        found = await self.get(type(row), *(getattr(row, name) for name in table.key))
        if found is None:
            raise LookupError(f"{table.name}: the row was deleted")
        return found

    async def get_or_add(self, new: Row, *by: str) -> tuple[Row, bool]:
        """The row with the primary key of `new` (or what else is unique: the columns `by`), locked; whether `new` itself was
        added, because there was none. Of two who come at once, the second waits for the first one's commit."""
        if self._added or by:
            await self.write()
        table = table_of(type(new))
        values = table.encoded(new)
        adding, names = table.adding_if_new(new), by or table.key
        for _ in range(TRIES):
            if added := await self._statement(adding.sql, *adding.arguments(values)):
                for name, given in zip(table.key, added[0], strict=True):
                    if values[name] is None:
                        setattr(new, name, given)
                self._seen[table, *added[0]] = _Seen(table, new, table.encoded(new), has_own_version=True)
                return new, True
            if found := await self._statement(table.getting(names), *(values[name] for name in names)):
                return self._remember(table, found[0]), False
            # What was in the way was deleted between the two statements: there is room for the new one.
        raise LookupError(f"{table.name}: a new row is in the way of another, but not by {', '.join(names)}")

    async def get_or_add_all(self, new: Sequence[Row]) -> list[tuple[Row, bool]]:
        """The same for several rows of one kind, by their primary keys, in as few statements as for one. Of two of `new` with the
        same key the first is added."""
        await self.write()
        if not new:
            return []
        table = table_of(type(new[0]))
        keys = [tuple(table.encoded_key([getattr(row, name) for name in table.key])) for row in new]
        wanted = dict(zip(reversed(keys), reversed(new), strict=True))
        found: dict[tuple[Any, ...], Row] = {}
        is_new: set[int] = set()
        for _ in range(TRIES):
            missing = sorted(key for key in wanted if key not in found)
            if not missing:
                return [(found[key], id(row) in is_new) for key, row in zip(keys, new, strict=True)]
            for added in await self._statement(*table.adding_all_if_new([table.encoded(wanted[key]) for key in missing])):
                row = found[tuple(added)] = wanted[tuple(added)]
                self._seen[table, *added] = _Seen(table, row, table.encoded(row), has_own_version=True)
                is_new.add(id(row))
            if others := [key for key in missing if key not in found]:
                for record in await self._statement(*table.getting_all(others)):
                    row = self._remember(table, record)
                    found[tuple(table.encoded_key([getattr(row, name) for name in table.key]))] = row
        raise LookupError(f"{table.name}: what is in the way of new rows comes and goes")

    async def add_new(self, new: Sequence[Row]) -> list[Row]:
        """Add those rows of one kind of which nothing that is unique is there yet, and of two alike the first; which those were.
        For rows that others are then added beside."""
        await self.write()
        if not new:
            return []
        table = table_of(type(new[0]))
        encoded = [table.encoded(row) for row in new]
        rows: dict[tuple[Any, ...], Row] = {}
        for row, values in zip(new, encoded, strict=True):
            rows.setdefault(tuple(values[name] for name in table.key), row)
        return [rows[tuple(key)] for key in await self._statement(*table.adding_all_if_new(encoded))]

    async def all(self, wanted: Locked[Row], **values: Any) -> list[Row]:
        """The rows that are wanted, locked in the order of their keys, so that two commands never wait for each other."""
        await self.write()
        found = await self._statement(wanted.statement.sql, *wanted.statement.arguments(values))
        return [self._remember(wanted.table, row) for row in found]

    async def one(self, wanted: Locked[Row], **values: Any) -> Row | None:
        """The one row that is wanted, locked, or None."""
        found = await self.all(wanted, **values)
        if len(found) > 1:
            raise LookupError(f"{wanted.table.name}: there are {len(found)}")
        return found[0] if found else None

    async def lock(self, *keys: object) -> None:
        """Let one transaction at a time work on each of `keys`, for what no row stands for (e.g. all orders of a customer).

        Several are taken in one fixed order, so that two transactions can never wait for each other."""
        numbers = sorted({int.from_bytes(blake2b(str(key).encode(), digest_size=8).digest(), signed=True) for key in keys})
        locks = [f"select pg_advisory_xact_lock({number})" for number in numbers]
        if self._has_begun:
            await self._connection.execute("; ".join(locks))
        else:
            await self._begin(*locks)

    # ── To read beside it, and to write without reading ──────────────────────────────────────────────────────────────────────

    async def rows(self, statement: Executable | Prepared, **values: Any) -> list[asyncpg.Record]:
        """Execute a statement as it is; the rows that it returns. It does not change what was got before."""
        await self.write()
        if not isinstance(statement, Prepared):
            statement = prepared(statement)
        return await self._statement(statement.sql, *statement.arguments(values))

    async def read(self, kind: type[Row], *key: Any) -> Row | None:
        """The row with this primary key as it is now, not locked: to look at, and not to change."""
        await self.write()
        table = table_of(kind)
        found = await self._statement(table.read, *table.encoded_key(key))
        return table.made(found[0])[0] if found else None

    async def read_all(self, kind: type[Row], keys: Iterable[Any]) -> list[Row]:
        """The rows with these primary keys of one column each, as `read` does it; in no order."""
        table = table_of(kind)
        wanted = [tuple(table.encoded_key([key])) for key in keys]
        await self.write()
        return [table.made(found)[0] for found in await self._statement(*table.reading_all(wanted))] if wanted else []

    # ── To change ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, *new: SQLModel) -> None:
        """Add rows. Raises AlreadyThere at the commit, if there is one of that key. A row whose key the database gives is written
        as it is at the next statement, and not changed after."""
        self._added.extend((row, False) for row in new)

    def add_missing(self, *new: SQLModel) -> None:
        """Add those rows of which nothing that is unique is there yet."""
        self._added.extend((row, True) for row in new)

    async def delete(self, *rows: SQLModel) -> None:
        """Delete rows that were got or added before."""
        if not rows:
            return
        await self.write()
        by_table: dict[RowTable, list[tuple[Any, ...]]] = {}
        for row in rows:
            table = table_of(type(row))
            by_table.setdefault(table, []).append(tuple(table.encoded_key([getattr(row, name) for name in table.key])))
        for table, keys in by_table.items():
            for key in keys:
                del self._seen[table, *key]
            await self._statement(*table.deleting_all(keys))

    def at_last(self, write: Write) -> None:
        """Write this with all else that is written at the end. The outbox's way."""
        self._last.append(write)

    def when_committed(self, tell: Callable[[], None]) -> None:
        """Call this once all of it is committed. It must not fail."""
        self._when_committed.append(tell)

    # ── The transaction ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_first(self, table: RowTable) -> bool:
        """Whether a row of this table that is got now need not be locked yet."""
        return bool(table.version) and not (self._locks_first or self._has_begun or self._seen or self._added)

    @property
    def _are_unread(self) -> bool:
        """Whether nothing was done yet but to get rows again."""
        return self._is_unread and not self._has_begun and not self._added and len(self._seen) == len(self._unlocked)

    def _take_unlocked(self, table: RowTable, row: Any, values: Mapping[str, Any]) -> Any:
        seen = self._seen[table, *(values[name] for name in table.key)] = _Seen(table, row, values)
        self._unlocked.append((seen, table.holding(values)))
        return row

    async def _begin(self, *at_once: str) -> None:
        """Begin the transaction, and lock what is not locked yet. `at_once`: what is executed with the BEGIN."""
        if self._has_begun:
            return
        self._has_begun = True  # even if it fails: then there is perhaps something to roll back
        await self._connection.execute("; ".join(("begin", *at_once)))
        unlocked, self._unlocked = self._unlocked, []
        for _, lock in unlocked:
            if not await self._connection.fetch(lock.sql, *lock.arguments):
                raise _Overtaken

    async def _statement(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Every statement but the first and the last one goes through here."""
        await self._begin()
        return list(await self._connection.fetch(sql, *arguments))

    async def write(self) -> None:
        """Write what has become of the rows so far. Their versions are from then on those that will be committed, which is what a
        reply has to say that is kept for retries."""
        writes = [*self._updates(), *self._inserts()]
        if writes:
            together = all_together(writes)
            together.check(await self._statement(together.sql, *together.arguments))

    async def _commit(self) -> None:
        writes = [*self._updates(), *self._inserts(), *self._last]
        if self._unlocked and (writes or self._is_unread):
            # Those that are not changed themselves: what is written depends on them.
            writes += [lock for seen, lock in self._unlocked if not seen.has_own_version]
            together = all_or_nothing(writes)
            try:
                await self._connection.fetch(together.sql, *together.arguments)
            except (NOT_ALL, asyncpg.IntegrityConstraintViolationError) as error:
                raise _Overtaken from error  # perhaps: what is in the way may be what somebody else has made of the row
        elif writes:
            together = all_together(writes)
            together.check(await self._connection.fetch(together.sql, *together.arguments))
        if self._has_begun:
            self._has_begun = False  # even a commit that fails ends it
            await self._connection.execute("commit")
        for tell in self._when_committed:
            tell()

    async def _roll_back(self) -> None:
        if self._has_begun and not self._connection.is_closed():
            await self._connection.execute("rollback")

    def _updates(self) -> Iterator[Write]:
        changes: dict[tuple[RowTable, tuple[str, ...], bool], list[Mapping[str, Any]]] = {}
        for seen in self._seen.values():
            now = seen.table.encoded(seen.row)
            changed = tuple(name for name, value in now.items() if value != seen.values[name])
            if changed:
                rises = not seen.has_own_version
                changes.setdefault((seen.table, changed, rises), []).append(now)
                risen = {name: now[name] + 1 for name in seen.table.version if rises}
                seen.values, seen.has_own_version = {**now, **risen}, True
                for name, version in risen.items():
                    setattr(seen.row, name, version)
        for (table, changed, rises), rows in changes.items():
            yield from table.updates(changed, rows, rises=rises)

    def _inserts(self) -> Iterator[Write]:
        alike: dict[tuple[RowTable, bool, bool], list[Mapping[str, Any]]] = {}
        for row, if_missing in self._added:
            table = table_of(type(row))
            values = table.encoded(row)
            is_numbered = table.is_numbered(row)
            alike.setdefault((table, is_numbered, if_missing), []).append(values)
            if not (is_numbered or if_missing):
                self._seen[table, *(values[name] for name in table.key)] = _Seen(table, row, values, has_own_version=True)
        self._added = []
        for (table, is_numbered, if_missing), rows in alike.items():
            yield from table.inserts(rows, is_numbered=is_numbered, if_missing=if_missing)

    def _remember(self, table: RowTable, found: asyncpg.Record) -> Any:
        """A row that is read twice stays one object, with what was changed of it."""
        row, values = table.made(found)
        return self._seen.setdefault((table, *(values[name] for name in table.key)), _Seen(table, row, values)).row

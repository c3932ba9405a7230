"""The aggregate store: the one way in which anything is changed. A command is one transaction and one unit of work.

    @transaction
    async def release_inventory(work: UnitOfWork, command: ReleaseInventory) -> Released:
        reservation, _ = await work.get_or_add(Reservation.tombstone(command))
        event = reservation.release(command.reason)
        ...
        outbox.add(work, event)

Whoever calls it passes the service's database: `await release_inventory(database, command)`. What was got for a change is locked
until the transaction ends; what has become of it is written when the function returns, and a `version` rises with it. If others
were in the way (a deadlock, a lock that did not come), the whole function runs again: so it changes nothing but its `work`.

Statements are SQLAlchemy's; asyncpg executes them. SQLAlchemy's own sessions cost several times as much (docs/adr/0022).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy.sql import Executable
from sqlmodel import Field, SQLModel

from chassis.database import Database, is_lock_fault
from chassis.statements import Locked, Prepared, Row, RowTable, prepared, table_of
from contracts.budgets import LOCK_WAIT_S
from contracts.errors import ErrorCode, Refusal

PAUSE_S = 0.02
"""The longest pause before the second try of a transaction that others were in the way of; it doubles with each try."""
_LOCK = "select pg_advisory_xact_lock(hashtextextended(key, 0)) from unnest($1::text[]) as key"

P = ParamSpec("P")
Reply = TypeVar("Reply")


class Aggregate(SQLModel):
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
    pause = PAUSE_S
    while True:
        try:
            async with database._writing() as connection:
                work = UnitOfWork(connection)
                reply = await change(work)
                await work.finish()
                return reply
        except asyncpg.PostgresError as error:
            error.detail = None  # it repeats the row's values, which are not for the log
            if not is_lock_fault(error) or time.monotonic() - began > LOCK_WAIT_S:
                raise
        await asyncio.sleep(pause * random.random())  # noqa: S311 - by chance, so that two do not meet again
        pause *= 2


@dataclass
class _Seen:
    """A row of this transaction, and what the database has of it."""

    table: RowTable
    row: Any
    values: dict[str, Any]


class UnitOfWork:
    """What one transaction reads for a change, changes and adds. It writes when the command returns, or before a statement is
    executed that might ask for what was changed."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._seen: dict[tuple[Any, ...], _Seen] = {}
        self._added: list[SQLModel] = []
        self._last: list[tuple[str, Sequence[Any]]] = []

    # ── To read for a change ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, kind: type[Row], *key: Any) -> Row | None:
        """The row with this primary key, locked."""
        table = table_of(kind)
        found = await self._connection.fetchrow(table.get, *table.encoded_key(key))
        return self._remember(table, found) if found else None

    async def get_or_add(self, new: Row, *by: str) -> tuple[Row, bool]:
        """The row with the primary key of `new` (or what else is unique: the columns `by`), locked; whether `new` itself was
        added, because there was none. Of two who come at once, the second waits for the first one's commit."""
        table = table_of(type(new))
        values = table.encoded(new)
        adding = table.adding(new, or_ignore=True)
        if (await self._connection.execute(adding.sql, *adding.of(values))).endswith(" 1"):
            self._seen[table, *(values[name] for name in table.key)] = _Seen(table, new, values)
            return new, True
        names = by or table.key
        getting = table.getting(names)
        found = await self._connection.fetchrow(getting, *(values[name] for name in names))
        if found is None:
            raise LookupError(f"{table.name}: what was in the way of a new row is gone")
        return self._remember(table, found), False

    async def all(self, wanted: Locked[Row], **values: Any) -> list[Row]:
        """The rows that are wanted, locked in the order of their keys, so that two commands never wait for each other."""
        await self.write()
        found = await self._connection.fetch(wanted.statement.sql, *wanted.statement.arguments(values))
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
        await self._connection.execute(_LOCK, sorted(map(str, keys)))

    # ── To read beside it, and to write without reading ──────────────────────────────────────────────────────────────────────

    async def rows(self, statement: Executable | Prepared, **values: Any) -> list[asyncpg.Record]:
        """Execute a statement as it is; the rows that it returns. It does not change what was got before."""
        await self.write()
        if not isinstance(statement, Prepared):
            statement = prepared(statement)
        return list(await self._connection.fetch(statement.sql, *statement.arguments(values)))

    async def read(self, kind: type[Row], *key: Any) -> Row | None:
        """The row with this primary key as it is now, not locked: to look at, and not to change."""
        table = table_of(kind)
        found = await self._connection.fetchrow(table.read, *table.encoded_key(key))
        return table.made(found)[0] if found else None

    # ── To change ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, *new: SQLModel) -> None:
        """Add rows, in this order."""
        self._added.extend(new)

    async def delete(self, *rows: SQLModel) -> None:
        """Delete rows that were got before."""
        for row in rows:
            table = table_of(type(row))
            key = table.encoded_key([getattr(row, name) for name in table.key])
            del self._seen[table, *key]
            await self._connection.execute(table.delete, *key)

    def at_last(self, sql: str, *arguments: Any) -> None:
        """Execute this after everything else has been written. The outbox's way."""
        self._last.append((sql, arguments))

    async def write(self) -> None:
        """Write what has become of the rows so far. Their versions are from then on those that will be committed, which is what a
        reply has to say that is kept for retries."""
        await self._update()
        await self._insert()

    async def finish(self) -> None:
        """Write what is not written yet, as the last thing before the commit."""
        await self.write()
        last, self._last = self._last, []
        for sql, arguments in last:
            await self._connection.execute(sql, *arguments)

    async def _update(self) -> None:
        changes: dict[tuple[RowTable, tuple[str, ...]], list[tuple[_Seen, dict[str, Any]]]] = {}
        for seen in self._seen.values():
            now = seen.table.encoded(seen.row)
            changed = tuple(name for name, value in now.items() if value != seen.values[name])
            if changed:
                changes.setdefault((seen.table, changed), []).append((seen, now))
        for (table, changed), rows in changes.items():
            updating = table.updating(changed)
            arguments = [[now[name] for name in (*changed, *table.key, *table.version)] for _, now in rows]
            done = await self._connection.fetchmany(updating, arguments)
            if len(done) != len(rows):
                raise AssertionError(f"{table.name}: a locked row was changed by others")
            for seen, now in rows:
                for name in table.version:
                    setattr(seen.row, name, now[name] + 1)
                    now[name] += 1
                seen.values = now

    async def _insert(self) -> None:
        added, self._added = self._added, []
        while added:
            table, adding = table_of(type(added[0])), table_of(type(added[0])).adding(added[0])
            alike = []
            while added and type(added[0]) is table.kind and table.adding(added[0]) is adding:
                row = added.pop(0)
                values = table.encoded(row)
                if not adding.is_numbered:
                    self._seen[table, *(values[name] for name in table.key)] = _Seen(table, row, values)
                alike.append(adding.of(values))
            if len(alike) == 1:
                await self._connection.execute(adding.sql, *alike[0])
            else:
                await self._connection.executemany(adding.sql, alike)

    def _remember(self, table: RowTable, found: asyncpg.Record) -> Any:
        """A row that is read twice stays one object, with what was changed of it."""
        row, values = table.made(found)
        return self._seen.setdefault((table, *(values[name] for name in table.key)), _Seen(table, row, values)).row

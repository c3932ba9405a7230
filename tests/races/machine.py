"""Commands race on a real PostgreSQL, one statement at a time, in an order that a seed decides.

Each command of a race stops before every statement, before its commit and after it. When all have stopped, or wait for a lock
that another one of them holds (PostgreSQL says so), the seed chooses who goes on. So the same seed plays the same race again.

What may come of a race is what comes of the same commands one after the other, in any order, from the same beginning: the same
replies and refusals, the same rows, the same events. Beside that, the service's invariants hold, and nobody deadlocks. Only the
latter is demanded of commands that are several transactions, because they ask an outside company in between.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import permutations
from random import Random
from typing import Any, Generic, TypeVar
from uuid import UUID

import asyncpg
from pydantic_core import to_jsonable_python
from sqlalchemy.exc import DBAPIError
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clients import Unavailable
from chassis.database import Database, sqlstate
from contracts.errors import Refusal

World = TypeVar("World")
Command = Callable[[Database], Awaitable[Any]]
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""All rows of a service, by table."""

POLL_S = 0.003
"""How long a racer has to come back before PostgreSQL is asked whether it waits for a lock."""
STUCK_S = 120.0
TRIES = 60
"""How often a command that meets a fault is repeated, as a saga repeats it."""
_SEED_UUID = 0x5EED << 112
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(?:Z|[+-]\d\d:\d\d)?")


def seeded_uuid(random: Random) -> UUID:
    """An id that is the same in every run of a scenario; others are not compared."""
    return UUID(int=_SEED_UUID | random.getrandbits(112))


MANY_COMMANDS = 20


@dataclass(frozen=True)
class Subject(Generic[World]):
    """A service whose commands race."""

    service: str
    prepare: Callable[[Database, Random], Awaitable[World]]
    """Make the world in which they race, with the service's own commands, on empty tables."""
    commands: Mapping[str, Callable[[World, Random], Command]]
    """Each with arguments of its own for the same few things."""
    broken: Callable[[Rows, World], Sequence[str]]
    """The invariants that do not hold when all commands have ended, in words."""
    loose: frozenset[str] = frozenset()
    """Commands that are several transactions, or that pass over what others work on: no sequence need come to the same."""
    conflicts: frozenset[str] = frozenset()
    """PostgreSQL's codes that the service's endpoints answer with 409: who meets one has done nothing."""
    by_chance: frozenset[str] = frozenset()
    """Columns of which only is compared whether there is something: hashes of random tokens."""
    save: Callable[[World], Any] = lambda world: None
    """What is beside the database, e.g. the ledger of an outside company."""
    restore: Callable[[World, Any], None] = lambda world, saved: None

    def worlds(self, seeds: int) -> int:
        """In how many worlds each pair of commands races: where there are many pairs, in half as many."""
        return seeds if len(self.commands) < MANY_COMMANDS else max(1, seeds // 2)


@dataclass(eq=False)
class Racer:
    """One command in a race."""

    name: str
    race: "Race"
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    at: str = ""
    """Where it has stopped, waiting for its turn; empty while it runs."""
    pid: int | None = None
    """Of the PostgreSQL process that works for it, while it has one."""
    has_ended: bool = False
    deadlocks: int = 0

    async def stop(self, where: str) -> None:
        self.at = where
        self.race.changed.set()
        await self.turn.wait()
        self.turn.clear()


RACER: ContextVar[Racer | None] = ContextVar("racer", default=None)


async def stop(where: str) -> None:
    """Let others go first, if a race is on. For what stands in for an outside company."""
    if (racer := RACER.get()) is not None:
        await racer.stop(where)


class RacingDatabase(Database):
    """A database whose connections stop before each statement of a racer."""

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Any]:
        racer = RACER.get()
        async with super()._writing() as connection:
            if racer is None:
                yield connection
                return
            # How long one waits is the schedule's doing, and a deadlock should show at once.
            await connection.execute("set lock_timeout = 0; set deadlock_timeout = '20ms'")
            racer.pid = connection.get_server_pid()
            try:
                yield _Connection(connection, racer)
            finally:
                racer.pid = None
        await racer.stop("committed")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        await stop("query")
        async with super().reading() as session:
            yield session


class _Connection:
    """What the store uses of a connection."""

    def __init__(self, connection: asyncpg.Connection, racer: Racer) -> None:
        self._connection, self._racer = connection, racer

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        await self._racer.stop(" ".join(sql.split())[:110])
        try:
            return await self._connection.fetch(sql, *arguments)
        except asyncpg.DeadlockDetectedError:
            self._racer.deadlocks += 1
            raise

    async def execute(self, sql: str) -> None:
        if sql not in ("begin", "rollback"):
            await self._racer.stop(sql)
        try:
            await self._connection.execute(sql)
        except asyncpg.DeadlockDetectedError:
            self._racer.deadlocks += 1
            raise

    def is_closed(self) -> bool:
        return bool(self._connection.is_closed())


class Race:
    """Several commands at once, in an order that `random` decides."""

    def __init__(self, random: Random, monitor: asyncpg.Connection) -> None:
        self._random, self._monitor = random, monitor
        self.changed = asyncio.Event()
        self.racers: list[Racer] = []
        self.steps: list[str] = []
        """Who went on, and with what."""

    async def run(self, commands: Sequence[tuple[str, Callable[[], Awaitable[str]]]]) -> list[str]:
        """What came of each."""
        self.racers = [Racer(f"{'ABCDEF'[number]} {name}", self) for number, (name, _) in enumerate(commands)]
        pairs = zip(self.racers, commands, strict=True)
        tasks = [asyncio.ensure_future(self._race(racer, command)) for racer, (_, command) in pairs]
        try:
            async with asyncio.timeout(STUCK_S):
                await self._conduct()
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _race(self, racer: Racer, command: Callable[[], Awaitable[str]]) -> str:
        RACER.set(racer)
        try:
            await racer.stop("begin")
            return await command()
        finally:
            racer.has_ended = True
            self.changed.set()

    async def _conduct(self) -> None:
        while ready := await self._all_stopped():
            chosen = self._random.choice(ready)
            self.steps.append(f"{chosen.name}: {chosen.at}")
            chosen.at = ""
            chosen.turn.set()

    async def _all_stopped(self) -> list[Racer]:
        """Wait until each racer has stopped, has ended or waits for a lock of another; those that have stopped."""
        while True:
            self.changed.clear()
            under_way = [racer for racer in self.racers if not racer.has_ended]
            running = [racer for racer in under_way if not racer.at]
            ready = [racer for racer in under_way if racer.at]
            if not running:
                return ready
            try:
                async with asyncio.timeout(POLL_S):
                    await self.changed.wait()
                continue
            except TimeoutError:
                pass
            # If nobody is ready, all wait for each other, and PostgreSQL will end that.
            if ready and all([await self._waits(racer) for racer in running]) and not self.changed.is_set():
                return ready

    async def _waits(self, racer: Racer) -> bool:
        """Whether it waits for a lock that another racer has."""
        if racer.pid is None:
            return False
        others = [other.pid for other in self.racers if other is not racer and other.pid is not None]
        return bool(await self._monitor.fetchval("select pg_blocking_pids($1) && $2::int[]", racer.pid, others))


@dataclass(frozen=True)
class Outcome:
    """What came of a race, or of a sequence."""

    replies: tuple[str, ...]
    """Of each command."""
    state: str
    """All rows, without times and without ids made by chance."""


class Arena:
    """One service's database, in which its commands race."""

    def __init__(self, url: str, subject: Subject[Any], admin: asyncpg.Connection, tables: Mapping[str, "_Table"]) -> None:
        self.database = RacingDatabase(url, pool_size=6)
        self.subject, self._admin, self._tables = subject, admin, tables
        self.last_steps: list[str] = []
        """Of the last race."""

    @classmethod
    async def opened(cls, url: str, subject: Subject[Any]) -> "Arena":
        admin = await asyncpg.connect(url.replace("+asyncpg", ""), server_settings={"synchronous_commit": "off"})
        # What is kept is copied back without its foreign keys and triggers being looked at.
        await admin.execute("set session_replication_role = replica; create schema kept; create schema initial")
        tables = {}
        for row in await admin.fetch(_COLUMNS):
            columns = json.loads(row["columns"])
            names = ", ".join(f'"{column["name"]}"' for column in columns if not column["generated"])
            tables[row["table_name"]] = _Table(names, frozenset(column["name"] for column in columns if column["by_chance"]))
            for schema in ("kept", "initial"):
                await admin.execute(f'create unlogged table {schema}."{row["table_name"]}" as table public."{row["table_name"]}"')
        return cls(url, subject, admin, tables)

    async def close(self) -> None:
        await self.database.close()
        await self._admin.close()

    async def play(self, names: Sequence[str], seed: int, *, interleavings: int = 3) -> list[str]:
        """Let these commands race in a world of this seed; what was wrong, as stories."""
        random = Random(f"{self.subject.service} {names} {seed}")
        await self.clear()
        world = await self.subject.prepare(self.database, random)
        if random.random() < 0.5:
            names = [*names, random.choice(names)]
        commands = [(name, self.subject.commands[name](world, random)) for name in names]
        saved = self.subject.save(world)
        await self._save()
        sequences: dict[tuple[int, ...], set[Outcome]] = {}
        for number in range(interleavings):
            await self._restore(world, saved)
            race = Race(Random(f"{self.subject.service} {names} {seed} {number}"), self._admin)
            told = await race.run([(name, lambda command=command: self._told(command)) for name, command in commands])  # type: ignore[misc]
            self.last_steps = race.steps
            rows = await self.rows()
            wrong = [f"invariant: {broken}" for broken in self.subject.broken(rows, world)]
            wrong += [f"deadlock: {racer.name}" for racer in race.racers if racer.deadlocks]
            wrong += [f"error: {reply}" for reply in told if reply.startswith("error")]
            is_strict = not self.subject.loose.intersection(names)
            # Who was told to look again has done nothing.
            done = tuple(number for number, reply in enumerate(told) if reply != "conflict")
            if is_strict and done not in sequences:
                sequences[done] = await self._sequences(world, saved, [commands[number] for number in done])
            outcome = Outcome(tuple(told[number] for number in done), self._state(rows))
            if is_strict and not wrong and outcome not in sequences[done]:
                wrong = [f"no sequence comes to that: {_compared(outcome, sequences[done])}"]
            if wrong:
                heading = f"{self.subject.service}: {', '.join(names)}; seed {seed}, interleaving {number}"
                return ["\n".join([heading, *wrong, *(f"  {step}" for step in race.steps), f"  told: {told}"])]
        return []

    async def _sequences(self, world: Any, saved: Any, commands: Sequence[tuple[str, Command]]) -> set[Outcome]:
        """What comes of the commands one after the other, in each order."""
        outcomes = set()
        for order in permutations(range(len(commands))):
            await self._restore(world, saved)
            told = {number: await self._told(commands[number][1]) for number in order}
            outcomes.add(Outcome(tuple(told[number] for number in range(len(commands))), self._state(await self.rows())))
        return outcomes

    async def _told(self, command: Command) -> str:
        for _ in range(TRIES):
            try:
                return _plain(json.dumps(to_jsonable_python(await command(self.database), fallback=str), sort_keys=True))
            except Refusal as refusal:
                return f"refused: {refusal.code}"
            except Unavailable:
                await stop("repeat")
            except (asyncpg.PostgresError, DBAPIError) as error:
                return "conflict" if sqlstate(error) in self.subject.conflicts else f"error {type(error).__name__}: {error}"
            except Exception as error:
                return f"error {type(error).__name__}: {error}"
        return "error: it does not get through"

    async def clear(self) -> None:
        """Leave the rows that a migration has made, and no others."""
        await self._copy("initial")

    async def _save(self) -> None:
        copied = [f'insert into kept."{name}" select * from public."{name}"' for name in self._tables]
        await self._admin.execute("; ".join([*(f'delete from kept."{name}"' for name in self._tables), *copied]))

    async def _restore(self, world: Any, saved: Any) -> None:
        self.subject.restore(world, saved)
        await self._copy("kept")

    async def _copy(self, schema: str) -> None:
        statements = []
        for name, table in self._tables.items():
            statements.append(f'delete from public."{name}"')
            columns = table.columns
            statements.append(
                f'insert into public."{name}" ({columns}) overriding system value select {columns} from {schema}."{name}"'
            )
        await self._admin.execute("; ".join(statements))

    async def rows(self) -> Rows:
        """All rows; the events in their order."""
        parts = [f"select '{name}' as name, to_jsonb(row) as row from public.\"{name}\" as row" for name in self._tables]
        rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in self._tables}
        for found in await self._admin.fetch(" union all ".join(parts)):
            rows[found["name"]].append(json.loads(found["row"]))
        if "outbox" in rows:  # analytics tells nothing
            rows["outbox"].sort(key=lambda row: row["seq"])
        return rows

    def _state(self, rows: Rows) -> str:
        found = []
        told: Counter[str] = Counter()
        for name, table in self._tables.items():
            for row in rows[name]:
                shown: dict[str, Any] = {key: value for key, value in row.items() if key not in table.by_chance}
                shown |= {key: shown[key] is not None for key in self.subject.by_chance & shown.keys()}
                if name == "outbox":  # the sequence of the events about one thing is part of the state
                    told[row["key"]] += 1
                    shown["number"] = told[row["key"]]
                    shown["envelope"] = {key: shown["envelope"][key] for key in ("type", "data")}
                found.append(f"{name} {_plain(json.dumps(shown, sort_keys=True))}")
        return "\n".join(sorted(found))


@dataclass(frozen=True)
class _Table:
    columns: str
    by_chance: frozenset[str]
    """Columns with times, and with numbers that the database gives."""


_COLUMNS = """
    select t.table_name, jsonb_agg(jsonb_build_object(
        'name', column_name, 'generated', is_generated = 'ALWAYS',
        'by_chance', data_type like 'timestamp%' or is_identity = 'YES' or column_default like 'nextval%'
      ) order by c.ordinal_position) as columns
    from information_schema.tables t join information_schema.columns c using (table_schema, table_name)
    where t.table_schema = 'public' and t.table_type = 'BASE TABLE' and t.table_name <> 'alembic_version'
    group by t.table_name
"""


def _plain(text: str) -> str:
    """Without what differs by chance."""
    text = _UUID.sub(lambda match: match[0] if match[0].startswith("5eed") else "<id>", text)
    return _TIME.sub("<time>", text)


def _compared(outcome: Outcome, sequences: set[Outcome]) -> str:
    """How it differs from what it is most like."""

    def difference(other: Outcome) -> list[str]:
        ours, theirs = set(outcome.state.split("\n")), set(other.state.split("\n"))
        replies = [f"{a} instead of {b}" for a, b in zip(outcome.replies, other.replies, strict=True) if a != b]
        return [*replies, *(f"+ {row}" for row in sorted(ours - theirs)), *(f"- {row}" for row in sorted(theirs - ours))]

    nearest: list[str] = min([difference(other) for other in sequences], key=len)
    return "\n".join(nearest)

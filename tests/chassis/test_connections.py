"""Connections to PostgreSQL: none is opened before it is needed, and none is kept that is not."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import text

from chassis import database as module
from chassis.database import Database
from tests.conftest import Databases, changing, eventually

AT_ONCE = 4


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("inventory"), pool_size=AT_ONCE)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def observer(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.asyncpg_dsn)
    yield connection
    await connection.close()


async def backends(observer: asyncpg.Connection) -> list[int]:
    """The processes of PostgreSQL that serve the database, without the observer's."""
    mine = "datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()"
    return [row["pid"] for row in await observer.fetch(f"select pid from pg_stat_activity where {mine}")]


async def use_all(database: Database, queries: int = AT_ONCE, commands: int = AT_ONCE) -> None:
    """So many queries and commands at the same time."""
    all_there = asyncio.Barrier(queries + commands)

    async def query() -> None:
        async with database.reading() as session:
            await session.execute(text("select 1"))
            await all_there.wait()

    async def command() -> None:
        async with changing(database) as work:
            await work.lock(id(asyncio.current_task()))  # of its own
            await all_there.wait()

    await asyncio.gather(*(query() for _ in range(queries)), *(command() for _ in range(commands)))


async def test_connections_are_opened_when_they_are_needed_and_closed_when_they_are_not(
    database: Database, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.2)
    assert await backends(observer) == []
    await use_all(database)
    assert len(await backends(observer)) <= 2 * AT_ONCE

    async def none_is_left() -> bool:
        return await backends(observer) == []

    await eventually(none_is_left)
    await use_all(database)  # and it goes on


async def test_one_connection_does_for_whoever_comes_one_after_the_other(
    database: Database, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a rush has left are closed, although the pool is in use."""
    monkeypatch.setattr(module, "IDLE_S", 0.5)
    await use_all(database, commands=0)
    assert len(await backends(observer)) == AT_ONCE

    async def one_is_left() -> bool:
        await use_all(database, queries=1, commands=0)
        return len(await backends(observer)) == 1

    await eventually(one_is_left)


async def test_no_query_fails_because_the_server_has_closed_idle_connections(
    database: Database, observer: asyncpg.Connection
) -> None:
    await use_all(database)
    await observer.fetch("select pg_terminate_backend(pid, 10000) from unnest($1::int[]) as pid", await backends(observer))
    await use_all(database)

"""Inventory on a fresh database."""

from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from chassis.database import Database
from services.inventory.app import InventorySettings, build
from tests.conftest import PATIENCE_S, Databases, TokenMint, eventually, running_api


@pytest_asyncio.fixture
async def database(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """No test may ever make two commands wait for each other in a circle. The store tries again then, so that only the server
    knows of it. That many wait for one row for long is no defect: the machine may be slow."""
    monkeypatch.setattr("chassis.database.LOCK_WAIT_S", PATIENCE_S)
    database = Database(await databases.new("inventory"), pool_size=20)
    yield database
    await database.close()
    assert await deadlocks(database.asyncpg_dsn) == 0


async def deadlocks(dsn: str) -> int:
    """How many there have been in a database of which all connections were closed: they count when they are gone."""
    connection = await asyncpg.connect(dsn)
    others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"

    async def is_alone() -> bool:
        return bool(await connection.fetchval(others) == 0)

    await eventually(is_alone, what="the end of all connections")
    found: int = await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    await connection.close()
    return found


@pytest_asyncio.fixture
async def client(databases: Databases, mint: TokenMint) -> AsyncIterator[httpx2.AsyncClient]:
    settings = InventorySettings(database_url=await databases.new("inventory"))
    async with running_api(build(settings), mint) as client:
        yield client

"""Inventory on a fresh database."""

from collections.abc import AsyncIterator

import httpx2
import pytest_asyncio

from chassis.database import Database
from services.inventory.app import InventorySettings, build
from tests.conftest import Databases, TokenMint, running_api


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("inventory"), pool_size=20)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def client(databases: Databases, mint: TokenMint) -> AsyncIterator[httpx2.AsyncClient]:
    settings = InventorySettings(database_url=await databases.new("inventory"))
    async with running_api(build(settings), mint) as client:
        yield client

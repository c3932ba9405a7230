"""The order service's table of keys on a real database, and what reads and writes with it."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest_asyncio

from chassis.clients import Unavailable
from chassis.database import Database
from cli import secrets
from contracts.keys import WrappedKey
from services.order.commands import StoredKeys
from temporal.keys import EnvironmentMasterKeys, OwnDataKeys
from tests.conftest import Databases

MASTER = EnvironmentMasterKeys.parse(secrets.master_key("key-1"))


class CountedKeys:
    """The table, noting what is asked of it; it cannot be asked while it is `away`."""

    def __init__(self, database: Database) -> None:
        self._stored = StoredKeys(database)
        self.asked: list[Sequence[UUID]] = []
        self.away = False

    async def find(self, customer_ids: Sequence[UUID]) -> Sequence[WrappedKey]:
        self.asked.append(customer_ids)
        if self.away:
            raise Unavailable("the order service is away")
        return await self._stored.find(customer_ids)

    async def add(self, key: WrappedKey) -> WrappedKey:
        return await self._stored.add(key)

    async def customer_of(self, order_id: UUID) -> UUID | None:
        return await self._stored.customer_of(order_id)


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("order"), pool_size=20)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def stored(database: Database) -> CountedKeys:
    return CountedKeys(database)


@pytest_asyncio.fixture
async def own(stored: CountedKeys) -> OwnDataKeys:
    """As the order service has them."""
    return OwnDataKeys(stored, MASTER)

"""A row that is deleted while somebody waits for it: then there is none, and theirs is added."""

import asyncio

import asyncpg

from chassis.database import Database
from chassis.store import UnitOfWork, transaction
from services.inventory.model import Warehouse
from tests.conftest import Databases, changing, eventually


@transaction
async def ensure(work: UnitOfWork, name: str) -> bool:
    _, is_new = await work.get_or_add(Warehouse(warehouse_id="w1", name=name))
    return is_new


async def test_what_was_in_the_way_of_a_new_row_and_is_gone_is_added(databases: Databases) -> None:
    url = await databases.new("inventory")
    database = Database(url)
    assert await ensure(database, "first")
    observer = await asyncpg.connect(url.replace("+asyncpg", ""))
    async with changing(database) as work:
        first = await work.get(Warehouse, "w1")
        assert first is not None
        waiting = asyncio.ensure_future(ensure(database, "second"))

        async def waits() -> bool:
            query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            return waiting.done() or await observer.fetchval(query) > 0

        await eventually(waits, what="the other one at the lock")
        await work.delete(first)
    assert await waiting
    async with changing(database) as work:
        found = await work.get(Warehouse, "w1")
        assert found is not None
        assert found.name == "second"
    await observer.close()
    await database.close()

"""A warehouse is chosen for an order that names none: "out of stock" is only said if it is true of all of them at one moment."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text

from chassis.database import Database
from chassis.store import UnitOfWork
from contracts.errors import ErrorCode, Refusal
from services.inventory.commands import reservations
from services.inventory.model import Stock
from tests.conftest import changing, eventually
from tests.services.inventory.goods import level, order, release, ship, stock

AT_ONE_PLACE, ANYWHERE = "where stock.warehouse_id =.*for update", "where stock.product_id =.*for update"
PLACES = ("w0", "w1", "w2", "w3", "w4")


@pytest.mark.parametrize("round_", range(3))
async def test_i3_what_is_left_elsewhere_is_found_by_all_who_come_too_late_here(database: Database, round_: int) -> None:
    await stock(database, "w0", milk=1)
    await stock(database, "w1", milk=1000)
    buys = [order(None, milk=1) for _ in range(10)]
    told = await asyncio.gather(*[reservations.reserve_inventory(database, buy) for buy in buys], return_exceptions=True)
    assert [answer for answer in told if isinstance(answer, BaseException)] == []
    assert await level(database, "w0", "milk") == (1, 1)
    assert await level(database, "w1", "milk") == (1000, 9)


@pytest.mark.parametrize("seed", range(3))
async def test_i3_who_finds_nothing_is_told_the_truth(database: Database, seed: int) -> None:
    """There are as many baskets as buyers, each at any warehouse, and no buyer ever keeps more than one or lets it go before
    another is there. So somewhere there is always one for who looks, and nobody may be told that there is none."""
    chance = random.Random(seed)
    for place in PLACES:
        await stock(database, place, milk=1, bread=1)

    async def buyer() -> None:
        for _ in range(6):
            buy = order(None, milk=1, bread=1) if chance.random() < 0.5 else order(None, bread=1, milk=1)
            await reservations.reserve_inventory(database, buy)
            if chance.random() < 0.5:
                await reservations.release_inventory(database, release(buy))
            else:
                await reservations.ship_inventory(database, ship(buy))
                # Some of these had no stock before: then the rows are new ones.
                await stock(database, chance.choice([*PLACES, f"new-{chance.randrange(9)}"]), milk=1, bread=1)

    await asyncio.gather(*[buyer() for _ in PLACES])


async def take(work: UnitOfWork, place: str) -> None:
    """Take the last one, and keep the row locked."""
    found = await work.get(Stock, place, "milk")
    assert found is not None
    found.reserve(1)
    await work.write()


async def waits(database: Database, query: str) -> bool:
    """Whether somebody's statement of this kind waits for a lock."""
    async with database.reading() as session:
        who = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ~* :query"
        return (await session.execute(text(who), {"query": query})).first() is not None


async def test_i3_stock_that_is_new_to_a_warehouse_is_seen_by_who_holds_all_others(database: Database) -> None:
    """At each moment one of the three has some: w1 until long after w2 has got its first."""
    await stock(database, "w0", milk=1)
    await stock(database, "w1", milk=1)
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await take(await first.enter_async_context(changing(database)), "w0")
        await take(await second.enter_async_context(changing(database)), "w1")
        buying = asyncio.create_task(reservations.reserve_inventory(database, order(None, milk=1)))
        await eventually(lambda: waits(database, AT_ONE_PLACE), what="a buyer who chose w0")
        await first.aclose()
        await eventually(lambda: waits(database, ANYWHERE), what="a buyer who locks all warehouses")
        await stock(database, "w2", milk=1)
        await second.aclose()
        assert (await buying).warehouse_id == "w2"


async def test_i3_out_of_stock_is_said_when_it_is_true(database: Database) -> None:
    await stock(database, "w0", milk=1, bread=1)
    await stock(database, "w1", milk=2)
    with pytest.raises(Refusal) as refused:
        await reservations.reserve_inventory(database, order(None, milk=2, bread=1))
    assert refused.value.code == ErrorCode.OUT_OF_STOCK
    assert refused.value.extra["lines"] == [{"product_id": "milk", "requested": 2, "available": 1}]

"""What runs out is gathered and told to each warehouse once a day."""

import asyncio
from datetime import UTC, date, datetime, time, timedelta

import pytest
from sqlalchemy import update

from chassis.clock import utc_now
from chassis.database import Database
from contracts.events import LowStockAlert
from services.notification import commands
from services.notification.commands import Staff
from services.notification.model import LowStock, last_digest, listed
from tests.conftest import changing
from tests.services.notification.conftest import deliveries, notifications
from tests.services.notification.test_queue import STAFF, consume


def alert(product: str, available: int, warehouse: str = "410", threshold: int = 5) -> LowStockAlert:
    return LowStockAlert(
        warehouse_id=warehouse, product_id=product, on_hand=available + 1, available=available, threshold=threshold
    )


async def a_day_passes(database: Database) -> None:
    async with changing(database) as work:
        await work.rows(update(LowStock).values(told_at=utc_now() - timedelta(days=1)))


async def test_each_product_is_told_once_with_its_newest_figures(database: Database) -> None:
    await consume(database, alert("milk", 4), alert("cheese", 1), alert("milk", 2), alert("tea", 0, "411", 9))
    at = (utc_now() - timedelta(minutes=1)).time()
    assert await commands.send_digests(database, STAFF, at) == 0  # what came after the hour is for the next day
    await a_day_passes(database)
    await consume(database, alert("butter", 3))
    assert await commands.send_digests(database, STAFF, at) == 2
    told = await notifications(database)
    assert [(row.audience, row.warehouse_id, row.values) for row in told] == [
        ("warehouse", "410", {
            "warehouse": "410", "count": "2", "products": "cheese: 1 left of 5 wanted\nmilk: 2 left of 5 wanted",
        }),
        ("warehouse", "411", {"warehouse": "411", "count": "1", "products": "tea: 0 left of 9 wanted"}),
    ]  # fmt: skip
    assert [row.target for row in await deliveries(database)] == ["goods@shop.example"] * 2
    assert await commands.send_digests(database, STAFF, at) == 0  # nothing is told of nothing


async def test_of_many_processes_one_tells(database: Database) -> None:
    await consume(database, alert("milk", 4), alert("cheese", 1))
    await a_day_passes(database)
    await asyncio.gather(*[commands.send_digests(database, Staff(), time(0)) for _ in range(6)])
    assert len(await notifications(database)) == 1


def test_a_list_of_thousands_is_cut_and_says_so() -> None:
    products = [LowStock(warehouse_id="410", product_id=f"p{n:04}", available=n, threshold=5) for n in range(1234)]
    lines = listed(products).split("\n")
    assert (lines[0], lines[-1], len(lines)) == ("p0000: 0 left of 5 wanted", "and 1034 more", 201)


@pytest.mark.parametrize(("now", "day"), [("06:00:00", 2), ("05:59:59", 1), ("23:00:00", 2)])
def test_the_last_digest_is_todays_or_yesterdays(now: str, day: int) -> None:
    at = datetime.combine(date(2026, 12, 2), time.fromisoformat(now), UTC)
    assert last_digest(time(6), at) == datetime(2026, 12, day, 6, tzinfo=UTC)

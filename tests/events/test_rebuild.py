"""`commerce events rebuild analytics`: from nothing but archived events, all or nothing."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest_asyncio
from aiokafka import ConsumerRecord
from typer.testing import Result

from chassis.consumer import Consumer
from chassis.database import Database
from chassis.settings import ServiceSettings
from contracts.events import Event, event_of
from services.analytics.consumers import subscription
from services.analytics.model import inbox
from services.order.model import outbox
from tests.conftest import Databases, changing
from tests.events.test_cli import invoked
from tests.services.analytics.test_events import a_month

TABLES = ("orders", "sales_by_day", "products_by_day", "customers")


@dataclass
class Shop:
    """The order service's outbox and analytics, each in its own database, migrated as they are."""

    order: Database
    analytics: Database

    async def happen(self, *events: Event) -> None:
        async with changing(self.order) as work:
            outbox.add(work, *events)

    async def consume(self) -> None:
        """What the broker would bring: each event once."""
        rows = await self.rows(self.order, "select topic, key, envelope::text as envelope from outbox order by seq")
        records = [
            ConsumerRecord(row["topic"], 0, 0, 0, 0, row["key"].encode(), row["envelope"].encode(), None, 0, 0, ())
            for row in rows
        ]
        settings = ServiceSettings(database_url=self.analytics.url, kafka_bootstrap_servers="127.0.0.1:1")
        await Consumer("analytics", subscription, self.analytics, inbox, settings).apply(records)

    async def rows(self, database: Database, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(database.asyncpg_dsn)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def tables(self) -> dict[str, list[tuple[object, ...]]]:
        """All that analytics has."""
        found: dict[str, list[tuple[object, ...]]] = {}
        for name in TABLES:
            rows = await self.rows(self.analytics, f"select * from {name}")
            found[name] = sorted((tuple(row) for row in rows), key=repr)
        return found

    async def rebuild(self, *options: str) -> Result:
        urls = {"DATABASE_URL_ORDER": self.order.url, "DATABASE_URL_ANALYTICS": self.analytics.url}
        return await invoked("", "rebuild", "analytics", *options, **urls)


@pytest_asyncio.fixture
async def shop(databases: Databases) -> AsyncIterator[Shop]:
    order, analytics = Database(await databases.new("order")), Database(await databases.new("analytics"))
    yield Shop(order, analytics)
    await order.close()
    await analytics.close()


async def test_analytics_is_rebuilt_as_it_was(shop: Shop) -> None:
    await shop.happen(*[event_of(envelope) for envelope in a_month()])
    await shop.consume()
    before = await shop.tables()
    assert all(before.values())
    result = await shop.rebuild()
    assert result.exit_code == 0, result.output
    for name in TABLES:
        assert f"{name}: {len(before[name])} rows before, {len(before[name])} after, 0 differ, 0 are missing" in result.stdout
    assert f"{len(a_month())} events applied" in result.stdout
    assert await shop.tables() == before
    await shop.consume()  # what comes from the broker as well has no second effect
    assert await shop.tables() == before


async def test_a_rebuild_mends_what_was_wrong_and_a_dry_run_only_tells(shop: Shop) -> None:
    await shop.happen(*[event_of(envelope) for envelope in a_month()])
    await shop.consume()
    right = await shop.tables()
    await shop.rows(shop.analytics, "update sales_by_day set gross_minor = gross_minor + 1")
    await shop.rows(shop.analytics, "delete from products_by_day")
    wrong = await shop.tables()
    dry = await shop.rebuild("--dry-run")
    days = len(right["sales_by_day"])
    assert f"sales_by_day: {days} rows before, {days} after, {days} differ, 0 are missing" in dry.stdout
    assert "dry run" in dry.stdout
    assert await shop.tables() == wrong
    assert (await shop.rebuild()).exit_code == 0
    assert await shop.tables() == right


async def test_a_rebuild_is_refused_if_the_archive_does_not_reach_back_far_enough(shop: Shop) -> None:
    await shop.happen(*[event_of(envelope) for envelope in a_month()])
    await shop.consume()
    before = await shop.tables()
    await shop.rows(shop.order, "delete from outbox where seq <= 2")
    for inbox_too in (False, True):
        if inbox_too:  # the inbox forgets as well, later
            await shop.rows(shop.analytics, "delete from inbox")
        result = await shop.rebuild()
        assert result.exit_code == 1
        assert "the archive does not reach back far enough" in result.stderr
        assert "Nothing was changed" in result.stderr
        assert await shop.tables() == before
    unknown = await invoked("", "rebuild", "notification", DATABASE_URL_ANALYTICS=shop.analytics.url)
    assert unknown.exit_code == 2

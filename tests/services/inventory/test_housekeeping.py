"""What inventory does by itself, and how its tables came to be."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import asyncpg
from sqlalchemy import insert, select

from chassis import migrations
from chassis.clock import utc_now
from chassis.database import Database
from embedded.postgres import PostgresServer
from services.inventory.app import InventorySettings, build
from services.inventory.model import idempotency
from tests.conftest import ROOT, Databases, changing, eventually


async def test_i7_the_service_forgets_old_idempotency_keys(databases: Databases) -> None:
    settings = InventorySettings(database_url=await databases.new("inventory"))
    service = build(settings)
    keys = idempotency.table
    async with service.opened():
        async with changing(service.database) as work:
            for key, days in (("old", 1), ("new", -1)):
                at = utc_now() - timedelta(days=settings.idempotency_retention_days + days)
                await work.rows(insert(keys).values(scope="s", key=key, fingerprint="f", created_at=at))

        async def only_the_new_one_is_left() -> bool:
            async with service.database.reading() as session:
                return (await session.execute(select(keys.c.key))).scalars().all() == ["new"]

        [job] = service._housekeeping()
        task = asyncio.ensure_future(job())
        await eventually(only_the_new_one_is_left, what="an old key that is forgotten")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_i7_movements_of_before_say_of_what_kind_they_are(postgres: PostgresServer) -> None:
    """Also those that the version before writes while the new one starts."""
    name = f"inventory_{uuid4().hex}"
    folder, url = ROOT / "services" / "inventory" / "migrations", postgres.url(name)
    server = await asyncpg.connect(Database(postgres.url("postgres")).asyncpg_dsn)
    await server.execute(f'create database "{name}"')
    await server.close()
    await asyncio.to_thread(migrations.upgrade, folder, url, "0004")
    connection = await asyncpg.connect(Database(url).asyncpg_dsn)
    add = "insert into stock_movements (warehouse_id, product_id, change, reference, at) values ('w1', 'milk', 1, $1, now())"
    references = ["order 5f", "return of order 5f", "d1"]
    await connection.executemany(add, [(reference,) for reference in references])
    await asyncio.to_thread(migrations.upgrade, folder, url)
    await connection.executemany(add, [(reference,) for reference in references])
    kinds = await connection.fetch("select kind from stock_movements order by movement_id")
    assert [row["kind"] for row in kinds] == ["SHIPMENT", "RETURN", "RECEIPT"] * 2
    await connection.close()

"""What a replica is used for, and what happens when it cannot be used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chassis.database import Database, Reader
from chassis.replica import Replica, may_lag
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from services.inventory.app import InventorySettings, build
from services.inventory.commands.warehousing import put_warehouse
from services.inventory.model import Warehouse
from tests.conftest import ADMIN, TokenMint, eventually, running_api
from tests.replicas.conftest import Replicated

Client = httpx2.AsyncClient
NEVER_TOO_FAR = 300.0


@asynccontextmanager
async def inventory(servers: Replicated, mint: TokenMint, max_lag_s: float = NEVER_TOO_FAR) -> AsyncIterator[Client]:
    """Its API, which uses the replica."""
    url = await servers.databases.new("inventory")
    settings = InventorySettings(
        database_url=url,
        database_read_url=servers.read_url(url),
        database_replica_max_lag_seconds=max_lag_s,
        database_pool_size=4,
    )
    async with running_api(build(settings), mint) as client:
        client.headers.update(mint.headers(Role.ADMIN))
        await eventually(lambda: uses_the_replica(client), what="use of the replica")
        yield client


async def warehouses(client: Client, cache_control: str = "") -> tuple[set[str], bool]:
    """Those that are listed, and whether by the replica."""
    response = await client.get("/api/v1/warehouses", headers={"Cache-Control": cache_control} if cache_control else {})
    assert response.status_code == 200, response.text
    assert int(response.headers.get("Age", "1")) >= 1
    return {item["warehouse_id"] for item in response.json()["items"]}, "Age" in response.headers


async def uses_the_replica(client: Client) -> bool:
    return (await warehouses(client))[1]


async def add_warehouse(client: Client, name: str) -> None:
    response = await client.put(f"/api/v1/warehouses/{name}", params={"name": name})
    assert response.status_code == 200, response.text


async def health_of_the_replica(client: Client) -> str:
    response = await client.get("/health/ready")
    said: str = response.json()["checks"]["replica"]
    assert (response.status_code, response.json()["status"]) == (200, "ready" if said == "ok" else "degraded")
    return said


def value(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


async def test_lists_may_lag_and_what_was_just_written_does_not(servers: Replicated, mint: TokenMint) -> None:
    async with inventory(servers, mint) as client:
        await add_warehouse(client, "before")

        async def is_replicated() -> bool:
            return await warehouses(client) == ({"before"}, True)

        await eventually(is_replicated)
        async with servers.paused():
            await add_warehouse(client, "after")
            assert await warehouses(client) == ({"before"}, True)
            assert await warehouses(client, "max-age=300") == ({"before"}, True)
            for fresh in ("no-cache", "max-age=0", "private, No-Cache", "max-age=x"):
                assert await warehouses(client, fresh) == ({"before", "after"}, False)

            lines = [{"product_id": "milk", "quantity": 2}]
            receipt = {"warehouse_id": "after", "reference": "1", "lines": lines}
            key = {"Idempotency-Key": uuid4().hex}
            assert (await client.post("/api/v1/stock/receipts", json=receipt, headers=key)).status_code == 201
            order = {"order_id": str(uuid4()), "customer_id": str(uuid4()), "lines": lines}
            saga = mint.headers(Role.SERVICE)
            reserved = await client.post("/internal/v1/reservations", json=order, headers=saga)
            assert reserved.status_code == 200, reserved.text
            read = await client.get(f"/internal/v1/reservations/{order['order_id']}", headers=saga)
            assert (read.json(), read.headers.get("Age")) == (reserved.json(), None)

        async def has_caught_up() -> bool:
            return await warehouses(client) == ({"before", "after"}, True)

        await eventually(has_caught_up)


async def test_a_replica_too_far_behind_is_not_used(servers: Replicated, mint: TokenMint) -> None:
    async with inventory(servers, mint, max_lag_s=4) as client:
        async with servers.paused():
            await add_warehouse(client, "new")

            async def is_passed_over() -> bool:
                return await warehouses(client) == ({"new"}, False)

            await eventually(is_passed_over)
            assert (await health_of_the_replica(client)).endswith(" s behind")
            assert value("database_replica_lag_seconds") > 4

        async def is_well() -> bool:
            return await uses_the_replica(client) and await health_of_the_replica(client) == "ok"

        await eventually(is_well)


async def test_a_dead_replica_costs_nothing_but_its_help(servers: Replicated, mint: TokenMint) -> None:
    async with inventory(servers, mint) as client:
        await add_warehouse(client, "one")
        stopping = asyncio.create_task(servers.supervisor.stop("replica"))
        while not stopping.done():
            await asyncio.gather(*(warehouses(client) for _ in range(8)))  # each is answered with 200

        async def is_away() -> bool:
            return await health_of_the_replica(client) == "away"

        await eventually(is_away)
        passed_over = value("database_replica_reads_total", outcome="unfit")
        assert await warehouses(client) == ({"one"}, False)
        assert value("database_replica_reads_total", outcome="unfit") == passed_over + 1  # it is not even tried
        assert value("database_replica_lag_seconds") == float("inf")
        await servers.supervisor.start("replica")
        await eventually(lambda: uses_the_replica(client))


async def test_a_replica_that_hangs_is_given_up(servers: Replicated, mint: TokenMint) -> None:
    async with inventory(servers, mint) as client:
        await add_warehouse(client, "one")
        with servers.hanging():
            answers = await asyncio.gather(*(warehouses(client) for _ in range(8)))
            assert answers == [({"one"}, False)] * 8
        await eventually(lambda: uses_the_replica(client))


async def test_nothing_can_be_written_on_a_replica(servers: Replicated) -> None:
    url = await servers.databases.new("inventory")
    database = Database(url)
    replica = Replica(servers.read_url(url), database, pool_size=1, max_lag_s=10)

    async def is_replicated() -> bool:
        try:
            async with replica.reading() as session:
                return bool((await session.execute(text("select count(*) = 0 from warehouses"))).scalar_one())
        except (DBAPIError, asyncpg.PostgresError):
            return False

    await eventually(is_replicated)
    async with replica.reading() as session:
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await session.execute(text("insert into warehouses (warehouse_id, name) values ('w', 'W')"))
    async with replica.reading() as session:
        with pytest.raises(DBAPIError, match="read-write mode during recovery"):
            await session.execute(text("set transaction read write"))
    await replica.close()
    await database.close()


async def test_a_server_that_follows_nobody_is_no_replica(servers: Replicated) -> None:
    """One that has been promoted, or the primary itself."""
    database = Database(await servers.databases.new("inventory"))
    replica = Replica(database.url, database, pool_size=1, max_lag_s=10)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="follows nobody"):
            await replica._look()
        assert replica.trouble() == "away"
    await replica.close()
    await database.close()


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param("select pg_terminate_backend(pg_backend_pid())", id="it ended the query because of what it had to apply"),
        pytest.param("select no_such_column from warehouses", id="it lacks a column that a migration has just added"),
    ],
)
async def test_a_query_that_fails_on_the_replica_is_asked_of_the_primary(servers: Replicated, failing: str) -> None:
    url = await servers.databases.new("inventory")
    database = Database(url)
    replica = Replica(servers.read_url(url), database, pool_size=2, max_lag_s=NEVER_TOO_FAR)

    @may_lag
    async def answered_by(reader: Reader, *, first: str) -> str:
        async with reader.reading() as session:
            if reader is replica:
                await session.execute(text(first))
            return "replica" if (await session.execute(text("select pg_is_in_recovery()"))).scalar_one() else "primary"

    async def is_fit() -> bool:
        return replica.trouble() is None

    told: list[float] = []
    async with replica.following():
        await eventually(is_fit)
        assert await answered_by(replica.within(NEVER_TOO_FAR, told.append), first=failing) == "primary"
        assert told == []
        await eventually(is_fit)
        assert await answered_by(replica.within(NEVER_TOO_FAR, told.append), first="select 1") == "replica"
        assert len(told) == 1
        assert await answered_by(database, first=failing) == "primary"
    await database.close()


async def test_a_replica_is_not_believed_that_something_does_not_exist(servers: Replicated) -> None:
    url = await servers.databases.new("inventory")
    database = Database(url)
    replica = Replica(servers.read_url(url), database, pool_size=2, max_lag_s=NEVER_TOO_FAR)

    @may_lag
    async def name_of(reader: Reader, warehouse_id: str) -> str:
        async with reader.reading() as session:
            warehouse = await session.get(Warehouse, warehouse_id)
        if warehouse is None:
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such warehouse.")
        return warehouse.name

    async def is_fit() -> bool:
        return replica.trouble() is None

    told: list[float] = []
    async with replica.following():
        await eventually(is_fit)
        async with servers.paused():
            await put_warehouse(database, ADMIN, "new", "New")
            assert await name_of(replica.within(NEVER_TOO_FAR, told.append), "new") == "New"
            with pytest.raises(Refusal):
                await name_of(replica.within(NEVER_TOO_FAR, told.append), "none")
    assert told == []
    await database.close()

"""The cache of products on a real Valkey: what changed is never shown again, and without Redis nothing is missing but speed."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal

import pytest
import pytest_asyncio
import redis.asyncio as redis

from chassis.cache import BLOCKED_SECONDS, Cache, redis_client
from chassis.database import Database
from contracts.errors import Refusal
from contracts.money import Money
from embedded.ports import free_port
from services.catalog import commands, queries
from services.catalog.cache import PREFIX, ProductCache
from services.catalog.schemas import ProductView
from tests.conftest import emptied
from tests.services.catalog.conftest import load, product


async def shown(database: Database, cache: ProductCache, product_id: str) -> ProductView:
    return ProductView.model_validate_json((await queries.get_product(database, cache, product_id)).json)


@pytest_asyncio.fixture
async def away() -> AsyncIterator[Database]:
    """A database that nobody answers for."""
    database = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/none")
    yield database
    await database.close()


async def forget_markers(connection: "redis.Redis") -> None:
    """As if the seconds in which a changed value is not cached were over."""
    await emptied(connection)


async def test_a_hit_needs_no_database(
    database: Database, cache: ProductCache, redis_connection: "redis.Redis", away: Database
) -> None:
    await load(database, cache, product("1"), product("2"))
    await forget_markers(redis_connection)
    first = await queries.get_product(database, cache, "1")
    assert await queries.get_product(away, cache, "1") == first
    with pytest.raises(OSError, match="Connect call failed"):
        await queries.get_product(away, cache, "3")


async def times_asked(connection: "redis.Redis") -> int:
    calls: int = (await connection.info("commandstats"))["cmdstat_mget"]["calls"]
    return calls


async def test_readers_at_the_same_time_share_round_trips(
    database: Database, cache: ProductCache, redis_connection: "redis.Redis"
) -> None:
    ids = [str(n) for n in range(50)]
    await load(database, cache, *map(product, ids))
    await forget_markers(redis_connection)
    for product_id in ids:
        await shown(database, cache, product_id)
    before = await times_asked(redis_connection)
    reads = [asyncio.create_task(shown(database, cache, ids[n % 50])) for n in range(300)]
    await asyncio.sleep(0)
    reads[7].cancel()  # one that goes away takes nothing from the others
    views = await asyncio.gather(*reads, return_exceptions=True)
    assert isinstance(views.pop(7), asyncio.CancelledError)
    expected = [ids[n % 50] for n in range(300) if n != 7]
    assert [view.product_id for view in views if isinstance(view, ProductView)] == expected
    assert await times_asked(redis_connection) - before < 10


async def test_every_change_is_seen_at_once(database: Database, cache: ProductCache, redis_connection: "redis.Redis") -> None:
    await load(database, cache, product("1"))

    async def cached_then(change: object) -> ProductView:
        await forget_markers(redis_connection)
        before = await shown(database, cache, "1")
        assert await redis_connection.get(f"{PREFIX}1")
        await change  # type: ignore[misc]
        after = await shown(database, cache, "1")
        assert after.version == before.version + 1
        return after

    price = Money(amount=Decimal("7.00"))
    assert (await cached_then(commands.set_price(database, cache, "1", price))).price == price
    assert (await cached_then(commands.change_product(database, cache, "1", {"name": "Brie"}))).name == "Brie"
    assert (await cached_then(load(database, cache, product("1", "Gouda")))).name == "Gouda"
    rename = commands.change_category(database, cache, "grocery.cheese", "Fromage", "grocery")
    assert (await cached_then(rename)).category == "Fromage"
    await forget_markers(redis_connection)
    await shown(database, cache, "1")
    await commands.delete_product(database, cache, "1")
    with pytest.raises(Refusal):
        await shown(database, cache, "1")
    assert (await queries.look_up_products(database, ["1"])).missing == ["1"]


class SlowReader(Cache):
    """Waits between its look at the database and its put, until it is told to go on."""

    def __init__(self, client: "redis.Redis") -> None:
        super().__init__(client, PREFIX, 60)
        self.has_read, self.may_put = asyncio.Event(), asyncio.Event()

    async def put_many(self, values: Mapping[str, bytes]) -> None:
        self.has_read.set()
        await self.may_put.wait()
        await super().put_many(values)


async def test_a_slow_reader_does_not_bring_the_old_price_back(
    database: Database, cache: ProductCache, redis_connection: "redis.Redis"
) -> None:
    await load(database, cache, product("1", price="2.00"))
    await forget_markers(redis_connection)
    slow = SlowReader(redis_connection)
    reading = asyncio.create_task(shown(database, ProductCache(slow), "1"))
    await slow.has_read.wait()
    await commands.set_price(database, cache, "1", Money(amount=Decimal("3.00")))
    slow.may_put.set()
    assert (await reading).price.amount == 2  # it asked before the change
    assert (await shown(database, cache, "1")).price.amount == 3


async def test_what_changed_is_cached_again_after_a_while(
    database: Database, cache: ProductCache, redis_connection: "redis.Redis"
) -> None:
    await load(database, cache, product("1"))
    key = f"{PREFIX}1"
    assert await redis_connection.get(key) == b""
    assert 0 < await redis_connection.ttl(key) <= BLOCKED_SECONDS
    await shown(database, cache, "1")
    assert await redis_connection.get(key) == b""
    await forget_markers(redis_connection)
    await shown(database, cache, "1")
    assert await redis_connection.get(key)
    assert 0 < await redis_connection.ttl(key) <= 60


async def test_readers_and_writers_at_once_end_with_the_last_price(
    database: Database, cache: ProductCache, redis_connection: "redis.Redis"
) -> None:
    await load(database, cache, product("1"))
    await forget_markers(redis_connection)
    prices = [Money(amount=Decimal(n)) for n in range(1, 20)]

    async def write() -> None:
        for price in prices:
            await commands.set_price(database, cache, "1", price)
            # Whoever has changed a price sees it, whatever others read meanwhile.
            assert (await shown(database, cache, "1")).price.amount == price.amount

    async def read() -> None:
        for _ in range(60):
            await queries.get_product(database, cache, "1")

    await asyncio.gather(write(), *[read() for _ in range(8)])
    assert (await shown(database, cache, "1")).price.amount == 19


async def test_without_redis_reads_and_changes_go_on(database: Database) -> None:
    async with redis_client(f"redis://127.0.0.1:{free_port()}/0") as nobody:
        cache = ProductCache(Cache(nobody, PREFIX, 60))
        began = time.monotonic()
        await load(database, cache, product("1"))
        for n in range(1, 6):
            await commands.set_price(database, cache, "1", Money(amount=Decimal(n)))
            assert (await shown(database, cache, "1")).price.amount == n
        assert time.monotonic() - began < 5


async def test_g8_an_order_pays_the_database_price_whatever_redis_says(
    database: Database, cache: ProductCache, redis_connection: "redis.Redis"
) -> None:
    await load(database, cache, product("1", price="2.09"))
    await forget_markers(redis_connection)
    true = await shown(database, cache, "1")
    forged = true.model_copy(update={"price": Money(amount=Decimal("0.01"))})
    await redis_connection.set(f"{PREFIX}1", b'"1"\n' + forged.model_dump_json().encode())
    assert await shown(database, cache, "1") == forged
    found = await queries.look_up_products(database, ["1"])
    assert [item.price for item in found.products] == [true.price]

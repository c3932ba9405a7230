"""The relay: at least once and in order per aggregate, whatever fails and whoever dies."""

import asyncio
import random
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from prometheus_client import REGISTRY

from chassis import relay as relay_module
from chassis.clock import utc_now
from contracts.events import CloudEvent
from tests.conftest import ROOT, eventually
from tests.events.conftest import World, in_background, stop

SEED = 20_261_122
RELAYS = "select pid from pg_stat_activity where datname = current_database() and application_name = 'relay'"
LOCKS = "select granted from pg_locks where locktype = 'advisory' and pid in (" + RELAYS + ")"


async def writes(
    world: World,
    orders: list[UUID],
    each: int,
    *,
    chance: random.Random,
    pause_s: float = 0.0,
    is_over: asyncio.Event | None = None,
) -> None:
    """So many events of each order, or fewer once it `is_over`: the orders side by side, some events in one transaction."""

    async def write(order: UUID) -> None:
        number = 0
        while number < each and not (is_over and is_over.is_set()):
            count = min(chance.choice((1, 1, 1, 3)), each - number)
            await world.record(order, *range(number, number + count))
            number += count
            await asyncio.sleep(pause_s)

    await asyncio.gather(*map(write, orders))


async def test_what_is_published_stands_at_the_broker_where_the_outbox_says(world: World) -> None:
    orders = [uuid4() for _ in range(7)]
    async with in_background(world.relay()):
        for number in range(3):
            await asyncio.gather(*[world.record(order, number) for order in orders])
        await world.until_published()
    log = {(record.partition, record.offset): record for record in await world.log()}
    rows = await world.rows("""select event_id, key, "partition", "offset" from outbox""")
    assert len(log) == len(rows) == 21
    for row in rows:
        record = log[row["partition"], row["offset"]]
        assert CloudEvent.model_validate_json(record.value).id == row["event_id"]
        assert record.key == row["key"].encode()
        assert dict(record.headers) == {"content-type": b"application/cloudevents+json; charset=utf-8"}


async def test_order_per_aggregate_is_kept_under_concurrency(world: World) -> None:
    orders = [uuid4() for _ in range(12)]
    async with in_background(world.relay()):
        await writes(world, orders, 25, chance=random.Random(SEED))
        await world.until_published()
    assert await world.published() == {order: list(range(25)) for order in orders}
    assert len(await world.log()) == 12 * 25  # nobody failed, so there is no second copy


async def test_order_per_aggregate_is_kept_though_sends_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth send fails: before anything was sent, or after it was, in turn."""
    send_batch, sends = AIOKafkaProducer.send_batch, 0

    async def unlucky(self: AIOKafkaProducer, *arguments: Any, **options: Any) -> "asyncio.Future[Any]":
        nonlocal sends
        sends += 1
        result: asyncio.Future[Any]
        if sends % 4 or sends > 16:
            result = await send_batch(self, *arguments, **options)
            return result
        if sends % 8 == 0:
            await (await send_batch(self, *arguments, **options))
        result = asyncio.get_running_loop().create_future()
        result.set_exception(KafkaTimeoutError())
        return result

    monkeypatch.setattr(AIOKafkaProducer, "send_batch", unlucky)
    orders = [uuid4() for _ in range(8)]
    async with in_background(world.relay()):
        await writes(world, orders, 40, chance=random.Random(SEED), pause_s=0.02)
        await world.until_published()
    assert sends > 8
    assert await world.published() == {order: list(range(40)) for order in orders}


async def test_a_batch_that_is_full_leaves_the_rest_to_the_next_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "BATCH_BYTES", 2_000)  # four events or so
    monkeypatch.setattr(relay_module, "BATCH", 50)
    hot, cold = uuid4(), [uuid4() for _ in range(5)]
    await world.record(hot, *range(120))
    for order in cold:
        await world.record(order, *range(10))
    async with in_background(world.relay()):
        await world.until_published()
    assert await world.published() == {hot: list(range(120)), **{order: list(range(10)) for order in cold}}
    assert len(await world.log()) == 170


@asynccontextmanager
async def relay_process(world: World) -> AsyncIterator[Process]:
    """A relay in a process of its own; killed with -9 at the end of the block, if not before."""
    settings = world.settings
    environment = {
        "PATH": "",
        "DATABASE_URL": settings.database_url,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_ENABLE_IDEMPOTENCE": str(settings.kafka_enable_idempotence),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.events.relay_process", env=environment, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_relay_killed_between_send_and_mark_publishes_again(world: World) -> None:
    first, second = uuid4(), uuid4()
    await world.record(first, 1, 2)
    holder = await asyncpg.connect(world.dsn)
    try:
        async with holder.transaction():
            await holder.execute("select 1 from outbox for update")  # nobody can mark them now

            async def sent() -> bool:
                return await world.published() == {first: [1, 2]}

            async def forgotten() -> bool:
                return not await world.rows("select pg_terminate_backend(pid), pid from (" + RELAYS + ") as relay")

            async with relay_process(world) as process:
                await eventually(sent)
                process.kill()
            await eventually(forgotten)  # the server would have carried out what it was told before
    finally:
        await holder.close()
    assert len(await world.rows("select 1 from outbox where published_at is null")) == 2
    await world.record(first, 3)
    await world.record(second, 1)
    async with in_background(world.relay()):
        await world.until_published()
    assert await world.published() == {first: [1, 2, 3], second: [1]}
    assert len(await world.log()) == 6  # two of them twice: that is what consumers have an inbox for


async def test_no_event_is_lost_by_relays_killed_at_random_moments(world: World) -> None:
    chance = random.Random(SEED)
    orders = [uuid4() for _ in range(6)]
    is_over = asyncio.Event()
    writing = asyncio.create_task(writes(world, orders, 10_000, chance=chance, pause_s=0.02, is_over=is_over))
    published = 0
    for _ in range(4):
        wanted = published + chance.randrange(1, 100)

        async def enough(wanted: int = wanted) -> bool:
            [row] = await world.rows("select count(*) as count from outbox where published_at is not null")
            return int(row["count"]) >= wanted

        async with relay_process(world) as process:
            await eventually(enough)
            process.kill()
        [row] = await world.rows("select count(*) as count from outbox where published_at is not null")
        published = int(row["count"])
    is_over.set()
    await writing
    async with in_background(world.relay()):
        await world.until_published()
    assert await world.published() == await world.states()


async def test_of_two_relays_one_publishes_and_the_other_takes_over(world: World) -> None:
    async def one_of_them_holds_the_lock() -> bool:
        return len(await world.rows(RELAYS)) == 2 and [row["granted"] for row in await world.rows(LOCKS)] == [True]

    order = uuid4()
    first = asyncio.create_task(world.relay().run())
    await world.record(order, 0)
    await world.until_published()
    second = asyncio.create_task(world.relay().run())
    try:
        await eventually(one_of_them_holds_the_lock)
        for number in range(1, 50):
            await world.record(order, number)
        await world.until_published()
        assert len(await world.log()) == 50
        await stop(first)
        await world.record(order, 50)
        await world.until_published()
    finally:
        await stop(first)
        await stop(second)
    assert await world.published() == {order: list(range(51))}
    assert len(await world.log()) == 51


async def test_a_relay_that_loses_its_database_connection_gets_another(world: World) -> None:
    order = uuid4()
    async with in_background(world.relay()):
        for number in range(3):
            await world.record(order, number)
            await world.until_published()
            [row] = await world.rows(RELAYS)
            await world.rows("select pg_terminate_backend($1)", row["pid"])
        await world.record(order, 3)
        await world.until_published()
    assert await world.published() == {order: list(range(4))}


async def test_old_published_rows_are_deleted_and_no_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "FORGET_SECONDS", 0.0)
    monkeypatch.setattr(relay_module, "FORGET_BATCH", 4)
    order = uuid4()
    await world.record(order, *range(10))
    long_ago = utc_now() - timedelta(hours=world.settings.outbox_retention_hours + 1)
    await world.rows("update outbox set published_at = $1 where seq <= 6", long_ago)

    async def gone() -> bool:
        return not await world.rows("select 1 from outbox where published_at <= $1", long_ago)

    async with in_background(world.relay()):
        await world.until_published()
        for number in range(10, 15):  # each wakes it once more
            await world.record(order, number)
            await world.until_published()
        await eventually(gone)
    assert len(await world.rows("select 1 from outbox")) == 4 + 5


async def test_the_backlog_can_be_seen_while_the_broker_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def backlog() -> float:
        return REGISTRY.get_sample_value("outbox_backlog_seconds") or 0.0

    async def seen() -> bool:
        return backlog() > 100

    async def over() -> bool:
        return backlog() == 0

    await world.record(uuid4(), 1)
    await world.rows("update outbox set created_at = now() - interval '2 minutes'")
    nowhere = world.settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    async with in_background(relay_module.Relay(world.dsn, nowhere)):
        await eventually(seen)
    async with in_background(world.relay()):
        await eventually(over)

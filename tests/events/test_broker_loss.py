"""A broker that goes away, comes back with nothing, or with other partitions: each event has its effect once, in order."""

import asyncio
import random
from uuid import UUID, uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from structlog.testing import capture_logs

from chassis import relay
from tests.conftest import eventually
from tests.events.conftest import World, in_background
from tests.events.test_relay import SEED, writes


async def settled(world: World) -> None:
    """Wait until all that happened is published and has had its effect; it must be there once, in order."""
    await world.until_published()
    happened = await world.states()
    await world.until_applied(sum(map(len, happened.values())))
    assert await world.effects() == happened


async def test_a_broker_that_loses_everything_while_events_flow(own_world: World) -> None:
    chance = random.Random(SEED)
    orders, is_over = [uuid4() for _ in range(5)], asyncio.Event()
    applied = 0
    async with in_background(own_world.relay(), own_world.consumer()):
        writing = asyncio.create_task(writes(own_world, orders, 100_000, chance=chance, pause_s=0.02, is_over=is_over))
        for _ in range(2):
            applied += chance.randrange(20, 120)
            await own_world.until_applied(applied)
            await own_world.broker.lose_everything()
            applied = sum(map(len, (await own_world.effects()).values()))
        await own_world.until_applied(applied + 20)
        is_over.set()
        await writing
        await settled(own_world)


async def test_no_event_overtakes_one_that_the_broker_lost(own_world: World) -> None:
    """What was under way when the broker went must not stand in the new log before the older events, which nobody has read."""
    orders, is_over = [uuid4() for _ in range(4)], asyncio.Event()
    async with in_background(own_world.relay()):
        writing = asyncio.create_task(
            writes(own_world, orders, 100_000, chance=random.Random(SEED), pause_s=0.005, is_over=is_over)
        )
        for count in (100, 300, 500):

            async def enough(count: int = count) -> bool:
                return bool(await own_world.rows("select 1 from outbox where published_at is not null offset $1 limit 1", count))

            await eventually(enough)
            await own_world.broker.lose_everything()
        is_over.set()
        await writing
        await own_world.until_published()
    assert await own_world.published() == await own_world.states()


async def test_a_consumer_does_not_go_on_in_the_middle_of_a_new_log(own_world: World) -> None:
    """The new log is another one: it lacks the events that the outbox no longer keeps."""
    order = uuid4()
    async with in_background(own_world.consumer()):
        async with in_background(own_world.relay()):
            await own_world.record(order, *range(10))
            await own_world.until_applied(10)
        await own_world.rows("delete from outbox")
        await own_world.record(order, *range(10, 30))
        await own_world.broker.lose_everything()
        async with in_background(own_world.relay()):
            await settled(own_world)


async def test_a_broker_that_loses_everything_while_nothing_happens(own_world: World) -> None:
    order, other = uuid4(), uuid4()
    async with in_background(own_world.relay(), own_world.consumer()):
        await own_world.record(order, *range(30))
        await settled(own_world)
        await own_world.broker.lose_everything()

        async def all_there_again() -> bool:
            return await own_world.published() == {order: list(range(30))}

        await eventually(all_there_again)
        # The new events stand behind the old ones, where no position of before can hide them.
        await own_world.record(other, *range(3))
        await own_world.record(order, 30)
        await settled(own_world)


async def test_a_broker_that_is_away_for_a_while(own_world: World) -> None:
    order, supervisor = uuid4(), own_world.broker.supervisor

    async with in_background(own_world.relay(), own_world.consumer()):
        await own_world.record(order, 0)
        await settled(own_world)
        with capture_logs() as logs:

            async def both_have_tried_again() -> bool:
                tries = [entry["event"] for entry in logs]
                return min(tries.count("relay_interrupted"), tries.count("consumer_interrupted")) > 3

            await supervisor.kill("kafka")
            await supervisor.stop("kafka")  # and it is not started again
            await own_world.record(order, 1, 2)
            await eventually(both_have_tried_again)
        assert not [entry for entry in logs if entry["log_level"] == "error"]
        await supervisor.start("kafka")
        await own_world.record(order, 3)
        await settled(own_world)


async def test_what_was_lost_while_no_relay_ran_is_found_at_its_start(own_world: World) -> None:
    order = uuid4()
    async with in_background(own_world.relay()):
        await own_world.record(order, *range(10))
        await own_world.until_published()
    await own_world.broker.lose_everything()
    await own_world.record(order, *range(10, 15))
    async with in_background(own_world.relay()):
        await own_world.until_published()
    assert await own_world.published() == {order: list(range(15))}


async def test_nothing_is_published_again_without_need(own_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of many events and of one, a look at the broker after each, and many starts of the relay."""
    monkeypatch.setattr(relay, "CHECK_SECONDS", 0.0)
    with capture_logs() as logs:
        for number in range(4):
            async with in_background(own_world.relay()):
                await own_world.record(uuid4(), *range(1 + 5 * number))
                await own_world.until_published()
                await own_world.record(uuid4(), 1)
                await own_world.until_published()
        async with in_background(own_world.relay()):
            await own_world.until_published()
    assert not [entry for entry in logs if entry["event"] == "broker_lost_events"]
    assert len(await own_world.log()) == 1 + 6 + 11 + 16 + 4


async def made_anew(world: World, partitions: int) -> None:
    """Somebody deletes the topic and creates it again, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=world.broker.bootstrap)
    await admin.start()

    async def created() -> bool:
        response = await admin.create_topics([NewTopic(world.topic, partitions, 1)])
        return bool(response.topic_errors[0][1] == 0)

    try:
        await admin.delete_topics([world.topic])
        await eventually(created)
    finally:
        await admin.close()


async def test_a_topic_that_comes_back_with_fewer_partitions(own_world: World) -> None:
    async def partitions() -> int:
        [row] = await own_world.rows("""select count(distinct "partition") as partitions from outbox""")
        return int(row["partitions"])

    orders: list[UUID] = []
    async with in_background(own_world.relay()):
        while await partitions() < 3:
            orders.append(uuid4())
            await own_world.record(orders[-1], *range(3))
            await own_world.until_published()
    await made_anew(own_world, partitions=1)
    async with in_background(own_world.relay()):
        await own_world.record(orders[0], 3)
        await own_world.until_published()
    assert {record.partition for record in await own_world.log()} == {0}
    assert await own_world.published() == {order: list(range(4 if order == orders[0] else 3)) for order in orders}


async def test_a_topic_that_began_anew_is_noticed_by_where_the_next_event_goes(own_world: World) -> None:
    """No connection broke and it is not yet time for a look at the broker."""
    orders = [uuid4() for _ in range(12)]
    async with in_background(own_world.relay()):
        for order in orders:
            await own_world.record(order, *range(3))
        await own_world.until_published()
        await made_anew(own_world, partitions=3)
        await own_world.record(orders[0], 3)

        async def all_there() -> bool:
            found = await own_world.published()
            return {order: sorted(numbers) for order, numbers in found.items()} == await own_world.states()

        await eventually(all_there)

"""The consumer on a real broker and a real database: each effect once, in order; what cannot be handled is parked, not lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from sqlalchemy import Column, Identity, Integer, Table, Text, func, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.consumer import Consumer, Handler, Subscription
from chassis.database import Database, new_metadata
from chassis.inbox import Inbox
from chassis.settings import ServiceSettings
from chassis.store import UnitOfWork
from contracts.errors import ErrorCode, Refusal
from contracts.events import CloudEvent, OrderCompleted, OrderCreated
from contracts.money import Money
from embedded import kafka
from embedded.kafka import KafkaBroker
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from embedded.supervisor import Supervisor
from tests.conftest import eventually

metadata = new_metadata()
inbox = Inbox(metadata)
effects = Table("effects", metadata, Column("seq", Integer, Identity(), primary_key=True), Column("what", Text, nullable=False))


async def note(work: UnitOfWork, what: str) -> None:
    await work.rows(insert(effects).values(what=what))


async def on_completed(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
    """The effect of the tests: the event's amount is written down."""
    await note(work, str(event.total.amount))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaBroker]:
    async with kafka.running(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@dataclass
class World:
    """A topic of its own, a database of its own, and a consumer between them."""

    bootstrap: str
    database: Database
    producer: AIOKafkaProducer
    topic: str

    @property
    def settings(self) -> ServiceSettings:
        return ServiceSettings(
            database_url=self.database.url,
            kafka_bootstrap_servers=self.bootstrap,
            kafka_enable_idempotence=False,
            consumer_attempts=3,
        )

    def consumer(self, handler: Handler = on_completed) -> Consumer:
        subscription = Subscription((self.topic,), {OrderCompleted: handler})
        return Consumer(f"group-{self.topic}", subscription, self.database, inbox, self.settings)

    @asynccontextmanager
    async def consuming(self, handler: Handler = on_completed) -> AsyncIterator[None]:
        task = asyncio.create_task(self.consumer(handler).run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def records(self, *envelopes: CloudEvent) -> list[ConsumerRecord]:
        """Records as a broker would hand them out."""
        result = []
        for offset, envelope in enumerate(envelopes):
            key, value = envelope.partitionkey.encode(), envelope.model_dump_json().encode()
            result.append(ConsumerRecord(self.topic, 0, offset, 0, 0, key, value, None, len(key), len(value), ()))
        return result

    async def publish(self, *envelopes: CloudEvent) -> None:
        for envelope in envelopes:
            await self.send(envelope.model_dump_json().encode(), envelope.partitionkey.encode())

    async def send(self, value: bytes, key: bytes) -> None:
        await self.producer.send_and_wait(self.topic, value, key=key)

    async def committed(self) -> int:
        """How many records of the topic its group has behind it."""
        reader = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=f"group-{self.topic}", enable_auto_commit=False)
        await reader.start()
        try:
            partitions = [TopicPartition(self.topic, number) for number in range(3)]
            reader.assign(partitions)
            return sum([int(await reader.committed(partition) or 0) for partition in partitions])
        finally:
            await reader.stop()

    async def noted(self) -> list[str]:
        async with self.database.reading() as session:
            return list((await session.execute(select(effects.c.what).order_by(effects.c.seq))).scalars())

    async def applied(self) -> int:
        async with self.database.reading() as session:
            count: int = (await session.execute(select(func.count()).select_from(inbox.table))).scalar_one()
            return count

    async def until(self, *wanted: str) -> None:
        """Wait until exactly these effects are there, in any order."""

        async def there() -> bool:
            return sorted(await self.noted()) == sorted(wanted)

        await eventually(there, what=f"effects {wanted}")

    async def dead_letters(self) -> list[asyncpg.Record]:
        """What could not be handled, as it was parked."""
        connection = await asyncpg.connect(self.database.asyncpg_dsn)
        try:
            return list(await connection.fetch("select * from dead_letters order by seq"))
        finally:
            await connection.close()


async def new_database(server: PostgresServer) -> Database:
    name = f"consumer_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(server.url("postgres", driver="postgresql"))
    await connection.execute(f'create database "{name}"')
    await connection.close()
    engine = create_async_engine(server.url(name))
    async with engine.begin() as begun:
        await begun.run_sync(metadata.create_all)
    await engine.dispose()
    return Database(server.url(name))


@asynccontextmanager
async def world_on(bootstrap: str, server: PostgresServer) -> AsyncIterator[World]:
    topic = f"test-{uuid4().hex[:12]}"
    await kafka.ensure_topics(bootstrap, [topic])
    database = await new_database(server)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False)
    await producer.start()
    try:
        yield World(bootstrap, database, producer, topic)
    finally:
        await producer.stop()
        await database.close()


@pytest_asyncio.fixture
async def world(broker: KafkaBroker, postgres: PostgresServer) -> AsyncIterator[World]:
    async with world_on(broker.bootstrap, postgres) as world:
        yield world


def completed(amount: int, order_id: UUID | None = None) -> CloudEvent:
    event = OrderCompleted(order_id=order_id or uuid4(), customer_id=uuid4(), total=Money(amount=amount))
    return envelope_of(event.key, type(event).__name__, event.model_dump(mode="json"))


def envelope_of(key: str, kind: str, data: dict[str, object]) -> CloudEvent:
    return CloudEvent(id=uuid4(), source="/test", type=kind, subject=key, time=utc_now(), partitionkey=key, data=data)


# What `apply` does with records, without a consumer group: the embedded broker takes five seconds to form one.


async def test_an_effect_and_its_inbox_row_are_one_commit(world: World) -> None:
    async def half_done(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        await on_completed(work, event, envelope)
        if event.total.amount == 13:
            raise RuntimeError("after the effect was written")

    await world.consumer(half_done).apply(world.records(completed(1), completed(13), completed(2)))
    assert await world.noted() == ["1", "2"]
    assert await world.applied() == 2
    [letter] = await world.dead_letters()
    assert letter["error"] == "RuntimeError: after the effect was written"


async def test_an_event_that_comes_again_has_no_second_effect(world: World) -> None:
    twice, last = completed(1), completed(2)
    await world.consumer().apply(world.records(twice, twice))
    await world.consumer().apply(world.records(twice, last, twice))
    assert await world.noted() == ["1", "2"]


async def test_one_bad_event_does_not_hold_up_its_batch_and_is_parked_as_it_came(world: World) -> None:
    tries = 0

    async def refuses_13(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        nonlocal tries
        if event.total.amount == 13:
            tries += 1
            raise Refusal(ErrorCode.CONFLICT, "thirteen is not welcome")
        await on_completed(work, event, envelope)

    bad = completed(13)
    before, record, *after = world.records(completed(1), bad, completed(2), completed(3))
    await world.consumer(refuses_13).apply([before, record, *after])
    assert await world.noted() == ["1", "2", "3"]
    assert tries == 1 + world.settings.consumer_attempts  # once in the batch, then alone
    [letter] = await world.dead_letters()
    assert (letter["value"], letter["key"], letter["letter_id"]) == (record.value, record.key, bad.id)
    assert (letter["topic"], letter["partition"], letter["offset"]) == (world.topic, 0, 1)
    assert (letter["type"], letter["subject"], letter["event_time"]) == ("OrderCompleted", bad.subject, bad.time)
    assert (letter["state"], letter["error"], letter["attempts"]) == ("OPEN", "Refusal: thirteen is not welcome", 1)
    assert letter["failed_at"] <= utc_now()


@pytest.mark.parametrize(
    ("value", "key"),
    [(b"not json", b"k"), (b'{"type": "OrderCompleted"}', b"k"), (b"\xff\xfe", None), (None, b"k"), (b"", None), (None, None)],
    ids=["not JSON", "no envelope", "no text", "tombstone", "empty", "nothing at all"],
)
async def test_what_is_no_event_is_parked_and_the_rest_goes_on(world: World, value: bytes | None, key: bytes | None) -> None:
    first, second = world.records(completed(0), completed(1))
    await world.consumer().apply([replace(first, value=value, key=key), second])
    assert await world.noted() == ["1"]
    [letter] = await world.dead_letters()
    assert (letter["value"], letter["key"]) == (value or b"", key)


async def test_data_that_do_not_fit_are_parked_without_telling_what_they_were(world: World) -> None:
    unfit = envelope_of("k", "OrderCompleted", {"order_id": "zoe@example.org"})
    await world.consumer().apply(world.records(unfit, completed(1)))
    assert await world.noted() == ["1"]
    [letter] = await world.dead_letters()
    assert "order_id" in letter["error"]
    assert "zoe" not in letter["error"]


async def test_types_that_nobody_here_handles_are_passed_over(world: World) -> None:
    created = OrderCreated(order_id=uuid4(), customer_id=uuid4(), lines=(), total=Money.zero())
    others = [
        envelope_of(created.key, "OrderCreated", created.model_dump(mode="json")),
        envelope_of("k", "SomethingFromNextYear", {"new": True}),
    ]
    await world.consumer().apply(world.records(*others, completed(1)))
    assert await world.noted() == ["1"]
    assert await world.applied() == 1
    assert await world.dead_letters() == []


async def test_a_platform_service_that_is_away_is_not_the_events_fault(world: World) -> None:
    tries = 0

    async def asks_somebody(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        nonlocal tries
        tries += 1
        if tries <= world.settings.consumer_attempts + 2:
            raise Unavailable("temporal cannot be reached")
        await on_completed(work, event, envelope)

    await world.consumer(asks_somebody).apply(world.records(completed(1)))
    assert await world.noted() == ["1"]
    assert await world.dead_letters() == []


async def test_while_the_database_is_away_the_consumer_waits(broker: KafkaBroker, tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "postgres", free_port(), ())
    async with Supervisor(tmp_path, [server.spec()]) as supervisor, world_on(broker.bootstrap, server) as world:
        away = asyncio.Event()

        async def loses_its_database(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
            await on_completed(work, event, envelope)
            if not away.is_set():
                away.set()
                await supervisor.stop("postgres")  # under the open transaction

        with capture_logs() as logs:

            async def waited_longer_than_any_event_may_fail() -> bool:
                waits = [entry for entry in logs if entry["event"] == "consumer_waits"]
                return len(waits) > world.settings.consumer_attempts

            applying = asyncio.create_task(world.consumer(loses_its_database).apply(world.records(completed(1), completed(2))))
            await eventually(waited_longer_than_any_event_may_fail)
            assert not applying.done()
            await supervisor.start("postgres")
            await applying
            assert await world.noted() == ["1", "2"]

            # kill -9 instead of an orderly end: while it recovers it answers, but takes nobody in.
            await supervisor.kill("postgres")
            await world.consumer().apply(world.records(*[completed(number) for number in range(10, 20)]))
        assert not [entry for entry in logs if entry["event"] in ("event_failed", "event_dead_lettered")]
        # Each once; in any order, since they are of different keys.
        assert sorted(map(int, await world.noted())) == [1, 2, *range(10, 20)]
        assert await world.applied() == 12
        assert await world.dead_letters() == []


async def test_i5_a_lock_that_does_not_come_in_time_is_not_the_events_fault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changes the table for longer than the event's tries last (review 1, I5)."""
    monkeypatch.setattr("chassis.store.TRY_AGAIN_S", 0)
    holder = await asyncpg.connect(world.database.asyncpg_dsn)

    async def impatient(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        await work.rows(text("set local lock_timeout = '50ms'"))
        await on_completed(work, event, envelope)

    with capture_logs() as logs:

        async def waited_longer_than_any_event_may_fail() -> bool:
            return len([entry for entry in logs if entry["event"] == "consumer_waits"]) > world.settings.consumer_attempts

        async with holder.transaction():
            await holder.execute("lock table effects in access exclusive mode")
            applying = asyncio.create_task(world.consumer(impatient).apply(world.records(completed(1))))
            await eventually(waited_longer_than_any_event_may_fail)
        await applying
    await holder.close()
    assert await world.noted() == ["1"]
    assert await world.dead_letters() == []


async def test_overlapping_batches_of_two_consumers_apply_once_and_do_not_deadlock(world: World) -> None:
    records = world.records(*[completed(number) for number in range(100)])
    batches = [records, records[::-1], records[50:] + records[:50], records[::2] + records[1::2]]
    with capture_logs() as logs:
        await asyncio.gather(*[world.consumer().apply(batch) for batch in batches])
    assert sorted(map(int, await world.noted())) == list(range(100))
    assert not [entry for entry in logs if entry["event"] == "batch_failed"]


async def test_i6_others_are_told_outside_of_any_transaction_and_the_inbox_row_comes_after(world: World) -> None:
    told: list[int] = []
    first, second, third = completed(1), completed(2), completed(3)

    async def tell(event: OrderCompleted, envelope: CloudEvent) -> None:
        activity = "select count(*) from pg_stat_activity where datname = current_database() and state ~ 'in transaction'"
        observer = await asyncpg.connect(world.database.asyncpg_dsn)
        try:
            assert await observer.fetchval(activity) == 0
            assert await observer.fetchval("select count(*) from inbox where event_id = $1", envelope.id) == 0
        finally:
            await observer.close()
        if event.total.amount == 2 and told.count(2) == 0:
            told.append(2)
            raise Unavailable("temporal cannot be reached")
        told.append(int(event.total.amount))

    subscription = Subscription((world.topic,), forward={OrderCompleted: tell})
    consumer = Consumer(f"group-{world.topic}", subscription, world.database, inbox, world.settings)
    await consumer.apply(world.records(first, second, third, first))
    assert told == [1, 2, 2, 3]  # the first was told, so the failure of the second does not tell it again
    await consumer.apply(world.records(first, second, third))
    assert told == [1, 2, 2, 3]
    assert await world.applied() == 3
    fourth = completed(4)
    await consumer.apply(world.records(fourth, fourth))
    assert told == [1, 2, 2, 3, 4]


# The whole of it, through a consumer group of a real broker.


async def test_events_of_several_partitions_arrive_once_and_in_order_per_aggregate(world: World) -> None:
    orders = [uuid4() for _ in range(6)]
    envelopes = [completed(100 * number + step, order) for step in range(40) for number, order in enumerate(orders)]
    wanted = [str(100 * number + step) for number in range(6) for step in range(40)]
    async with world.consuming():
        await world.publish(*envelopes[:120])
        await world.send(b"not json", b"k")
        await world.publish(*envelopes[120:], *envelopes[:10])
        await world.until(*wanted)
        [letter] = await world.dead_letters()

        async def remembered() -> bool:
            return await world.committed() == 120 + 1 + 120 + 10

        await eventually(remembered, what="the group remembers where it was")
    assert letter["value"] == b"not json"
    noted = [int(what) for what in await world.noted()]
    for number in range(6):
        assert [what for what in noted if what // 100 == number] == [100 * number + step for step in range(40)]


async def test_a_broker_that_lost_everything_is_read_from_its_start(postgres: PostgresServer, tmp_path: Path) -> None:
    broker = KafkaBroker(free_port())
    async with Supervisor(tmp_path, [broker.spec()]) as supervisor, world_on(broker.bootstrap, postgres) as world:
        old = [completed(number) for number in range(5)]
        new = [completed(number) for number in range(10, 13)]
        async with world.consuming():
            await world.publish(*old)
            await world.until(*map(str, range(5)))
            await supervisor.kill("kafka")
            await supervisor.wait_ready("kafka")
            await kafka.ensure_topics(broker.bootstrap, [world.topic])
            await world.publish(
                *new, *old
            )  # as the relay does when it finds the broker empty; the new ones stand where old ones were
            await world.until(*map(str, range(5)), "10", "11", "12")
        assert await world.applied() == 8

"""Producers, relay, broker and consumers for real: PostgreSQL and a Kafka broker, Tansu or (`--kafka=apache`) Apache Kafka."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, Connection, Identity, Integer, Table, func, insert, select
from sqlalchemy.dialects.postgresql import UUID as PgUuid
from sqlalchemy.ext.asyncio import create_async_engine

from chassis.consumer import Consumer, Handler, Subscription
from chassis.database import Database, new_metadata
from chassis.inbox import Inbox
from chassis.kafka import ensure_topics
from chassis.migrations import notify_on_insert_into_outbox
from chassis.outbox import Outbox
from chassis.relay import Relay
from chassis.settings import ServiceSettings
from chassis.store import UnitOfWork
from contracts.events import ORDER, TOPICS, CloudEvent, OrderCompleted
from contracts.money import Money
from embedded.apache_kafka import ApacheKafka
from embedded.kafka import KafkaBroker
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from embedded.supervisor import Supervisor
from tests.conftest import PATIENCE_S, changing, eventually

metadata = new_metadata()
outbox, inbox = Outbox("order", metadata), Inbox(metadata)
states = Table(
    "states",
    metadata,
    Column("order_id", PgUuid(as_uuid=True), primary_key=True),
    Column("number", Integer, primary_key=True),
)
"""What the producer changes: one row for each event."""
effects = Table(
    "effects",
    metadata,
    Column("seq", BigInteger, Identity(), primary_key=True),
    Column("order_id", PgUuid(as_uuid=True), nullable=False),
    Column("number", Integer, nullable=False),
)
"""What the consumer does on an event: one row each time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kafka", choices=("tansu", "apache"), default="tansu", help="The broker of the event tests.")


@pytest.fixture(scope="session")
def is_apache(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--kafka", "tansu") == "apache")


@dataclass
class Broker:
    """One broker process, with ways to harm it."""

    server: KafkaBroker | ApacheKafka
    supervisor: Supervisor
    is_apache: bool
    log_dirs: list[Path] = field(default_factory=list)

    @property
    def bootstrap(self) -> str:
        return self.server.bootstrap

    async def lose_everything(self) -> None:
        """kill -9, and nothing is left: the embedded broker keeps nothing anyway, Apache's disk is wiped."""
        await self.supervisor.kill("kafka")
        if self.is_apache:
            await self.supervisor.stop("kafka")
            for directory in self.log_dirs:
                shutil.rmtree(directory)
            await self.supervisor.start("kafka")
        await self.supervisor.wait_ready("kafka")


@asynccontextmanager
async def running_broker(directory: Path, is_apache: bool) -> AsyncIterator[Broker]:
    server: KafkaBroker | ApacheKafka = KafkaBroker(free_port(), TOPICS)
    if is_apache:
        server = ApacheKafka(directory / "kafka", free_port(), free_port(), TOPICS)
    async with Supervisor(directory / "logs", [server.spec()]) as supervisor:
        yield Broker(server, supervisor, is_apache, [directory / "kafka" / "log"])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_broker(tmp_path_factory: pytest.TempPathFactory, is_apache: bool) -> AsyncIterator[Broker]:
    """For tests that leave it alone; each uses a topic of its own."""
    async with running_broker(tmp_path_factory.mktemp("broker"), is_apache) as broker:
        yield broker


@pytest_asyncio.fixture
async def own_broker(tmp_path: Path, is_apache: bool) -> AsyncIterator[Broker]:
    """For tests that harm it."""
    async with running_broker(tmp_path, is_apache) as broker:
        yield broker


@dataclass
class World:
    """A producer's database, a topic, and the way from the one through the other to an effect."""

    broker: Broker
    database: Database
    topic: str

    @cached_property
    def _happened(self) -> type[OrderCompleted]:
        return type("OrderCompleted", (OrderCompleted,), {"topic": self.topic})

    @property
    def settings(self) -> ServiceSettings:
        return ServiceSettings(
            database_url=self.database.url,
            kafka_bootstrap_servers=self.broker.bootstrap,
            kafka_enable_idempotence=self.broker.is_apache,
            kafka_session_timeout_ms=6000 if self.broker.is_apache else 2000,  # Tansu lets a group wait for half of it
            consumer_attempts=2,
        )

    @property
    def dsn(self) -> str:
        return self.database.asyncpg_dsn

    @property
    def group(self) -> str:
        return f"group-{self.database.url.rsplit('_', 1)[-1]}"

    def event(self, order_id: UUID, number: int) -> OrderCompleted:
        """The number-th event of an order, on this world's topic."""
        return self._happened(order_id=order_id, customer_id=order_id, total=Money(amount=number))

    async def record(self, order_id: UUID, *numbers: int) -> None:
        """What a command does: change the state and tell of it, in one transaction."""
        async with changing(self.database) as work:
            await work.lock(order_id)
            for number in numbers:
                await work.rows(insert(states).values(order_id=order_id, number=number))
            outbox.add(work, *(self.event(order_id, number) for number in numbers))

    def relay(self) -> Relay:
        return Relay(self.dsn, self.settings)

    def consumer(self, handler: Handler | None = None, database: Database | None = None, group: str | None = None) -> Consumer:
        """On the world's own database and as its group, unless another is given."""
        subscription = Subscription((self.topic,), {OrderCompleted: handler or take_effect})
        return Consumer(group or self.group, subscription, database or self.database, inbox, self.settings)

    async def rows(self, query: str, *arguments: Any, database: Database | None = None) -> list[asyncpg.Record]:
        connection = await asyncpg.connect((database or self.database).asyncpg_dsn)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def until_published(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until nothing in the outbox is unpublished."""

        async def none_left() -> bool:
            return not await self.rows("select 1 from outbox where published_at is null limit 1")

        await eventually(none_left, timeout_s=timeout_s, what="an outbox without unpublished events")

    async def until_applied(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until there are so many effects, or more."""

        async def enough() -> bool:
            async with self.database.reading() as session:
                found: int = (await session.execute(select(func.count()).select_from(effects))).scalar_one()
            return found >= count

        await eventually(enough, timeout_s=timeout_s, what=f"{count} effects")

    async def effects(self) -> dict[UUID, list[int]]:
        """The effects of each order, in the sequence in which they came about."""
        found: dict[UUID, list[int]] = {}
        for row in await self.rows("select order_id, number from effects order by seq"):
            found.setdefault(row["order_id"], []).append(row["number"])
        return found

    async def states(self) -> dict[UUID, list[int]]:
        """What happened, by order, in its sequence."""
        found: dict[UUID, list[int]] = {}
        for row in await self.rows("select order_id, number from states order by order_id, number"):
            found.setdefault(row["order_id"], []).append(row["number"])
        return found

    async def log(self, topic: str | None = None) -> list[ConsumerRecord]:
        """All that the topic holds, partition after partition."""
        reader = AIOKafkaConsumer(
            topic or self.topic, bootstrap_servers=self.broker.bootstrap, fetch_max_wait_ms=50, auto_offset_reset="earliest"
        )
        await reader.start()
        try:
            ends = await reader.end_offsets(reader.assignment())
            records: list[ConsumerRecord] = []
            # Tansu takes the first record of the last batch for the end; the rest of that batch comes along with it.
            while any([await reader.position(partition) < end for partition, end in ends.items()]):
                for batch in (await reader.getmany(timeout_ms=1000)).values():
                    records += batch
            for batch in (await reader.getmany(timeout_ms=0)).values():
                records += batch
            return sorted(records, key=lambda record: (record.partition, record.offset))
        finally:
            await reader.stop()

    async def published(self) -> dict[UUID, list[int]]:
        """The numbers of each order's events as they stand in the topic, the second and later copies left out."""
        found: dict[UUID, list[int]] = {}
        for record in await self.log():
            event = OrderCompleted.model_validate(CloudEvent.model_validate_json(record.value).data)
            numbers = found.setdefault(event.order_id, [])
            if (number := int(event.total.amount)) not in numbers:
                numbers.append(number)
        return found


async def take_effect(work: UnitOfWork, event: OrderCompleted, _: CloudEvent) -> None:
    """The effect of the tests."""
    await work.rows(insert(effects).values(order_id=event.order_id, number=int(event.total.amount)))


@asynccontextmanager
async def in_background(*works: Any) -> AsyncIterator[None]:
    """Relays and consumers run for the time of the block."""
    tasks = [asyncio.create_task(work.run()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            await stop(task)


async def stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def new_database(server: PostgresServer) -> Database:
    name = f"events_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(server.url("postgres", driver="postgresql"))
    await connection.execute(f'create database "{name}"')
    await connection.close()
    engine = create_async_engine(server.url(name))
    async with engine.begin() as begun:
        await begun.run_sync(_create_tables)
    await engine.dispose()
    return Database(server.url(name), pool_size=20)


def _create_tables(connection: Connection) -> None:
    metadata.create_all(connection)
    with Operations.context(MigrationContext.configure(connection)):
        notify_on_insert_into_outbox()


@asynccontextmanager
async def new_world(broker: Broker, server: PostgresServer, topic: str) -> AsyncIterator[World]:
    database = await new_database(server)
    world = World(broker, database, topic)
    await ensure_topics(world.settings, [topic])
    try:
        yield world
    finally:
        await database.close()


@pytest_asyncio.fixture
async def world(shared_broker: Broker, postgres: PostgresServer) -> AsyncIterator[World]:
    """On the shared broker, with a topic of its own."""
    async with new_world(shared_broker, postgres, f"order-{uuid4().hex[:12]}") as world:
        yield world


@pytest_asyncio.fixture
async def own_world(own_broker: Broker, postgres: PostgresServer) -> AsyncIterator[World]:
    """On a broker that the test may harm; its topic is the platform's own, which the relay creates again."""
    async with new_world(own_broker, postgres, ORDER) as world:
        yield world

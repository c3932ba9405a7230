"""Many things at once: events that take their effect in one call, and rows that may be there already in one statement."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
import pytest_asyncio
from aiokafka import ConsumerRecord
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, select
from structlog.testing import capture_logs

from chassis.clock import utc_now
from chassis.consumer import BatchHandler, Consumer, Subscription
from chassis.database import Database, new_metadata
from chassis.inbox import Inbox
from chassis.settings import ServiceSettings
from chassis.store import UnitOfWork
from contracts.events import CloudEvent, Event, OrderCompleted, OrderRefunded, UserRegistered
from contracts.money import Money
from contracts.parcels import Trouble
from embedded.postgres import PostgresServer
from tests.conftest import changing

metadata = new_metadata()
inbox = Inbox(metadata)


class Effect(SQLModel, table=True):
    metadata: ClassVar[MetaData] = metadata

    effect_id: UUID = Field(primary_key=True, default_factory=uuid4)
    what: str = Field(unique=True)


@pytest_asyncio.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[Database]:
    name = f"batches_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres.url("postgres", driver="postgresql"))
    await connection.execute(f'create database "{name}"')
    await connection.close()
    engine = create_async_engine(postgres.url(name))
    async with engine.begin() as begun:
        await begun.run_sync(metadata.create_all)
    await engine.dispose()
    database = Database(postgres.url(name))
    yield database
    await database.close()


async def effects(database: Database) -> set[str]:
    async with database.reading() as session:
        return set((await session.exec(select(Effect.what))).all())


async def consume(database: Database, batch: BatchHandler, *events: Event, twice: bool = False) -> None:
    async def alone(work: UnitOfWork, event: Any, _: CloudEvent) -> None:
        work.add(Effect(what=f"alone {event.key}"))

    subscription = Subscription((), {UserRegistered: alone}, batch={OrderCompleted: batch, OrderRefunded: batch})
    settings = ServiceSettings(database_url=database.url, kafka_bootstrap_servers="127.0.0.1:1", consumer_attempts=1)
    records = [_record(event) for event in events]
    await Consumer("batches", subscription, database, inbox, settings).apply([*records, *(records if twice else [])])


def _record(event: Event) -> ConsumerRecord:
    envelope = CloudEvent(
        id=uuid4(), source="/test", type=type(event).__name__, subject=event.key, time=utc_now(), partitionkey=event.key,
        data=event.model_dump(mode="json"),
    )  # fmt: skip
    value = envelope.model_dump_json().encode()
    return ConsumerRecord(event.topic, 0, 0, 0, 0, event.key.encode(), value, None, 0, len(value), ())


def completed() -> OrderCompleted:
    return OrderCompleted(order_id=uuid4(), customer_id=uuid4(), total=Money(amount=1))


def refunded() -> OrderRefunded:
    total = Money(amount=1)
    return OrderRefunded(order_id=uuid4(), customer_id=uuid4(), total=total, refunded=total, trouble=Trouble.LOST)


async def test_a_batch_handler_gets_the_new_events_of_all_its_types_in_one_call(database: Database) -> None:
    calls: list[list[str]] = []

    async def together(work: UnitOfWork, events: Sequence[tuple[Any, CloudEvent]]) -> None:
        calls.append([event.key for event, _ in events])
        work.add(*(Effect(what=event.key) for event, _ in events))

    customer = UserRegistered(customer_id=uuid4())
    orders = [completed(), refunded(), completed()]
    await consume(database, together, orders[0], customer, *orders[1:], twice=True)
    assert calls == [[order.key for order in orders]]
    assert await effects(database) == {f"alone {customer.key}", *(order.key for order in orders)}


async def test_one_event_that_a_batch_handler_cannot_take_does_not_keep_the_others_from_their_effect(database: Database) -> None:
    wrong = completed()

    async def together(work: UnitOfWork, events: Sequence[tuple[Any, CloudEvent]]) -> None:
        work.add(*(Effect(what=event.key) for event, _ in events))
        if wrong in [event for event, _ in events]:
            raise ValueError("this one")

    others = [completed(), refunded()]
    with capture_logs() as logs:
        await consume(database, together, others[0], wrong, others[1])
    assert await effects(database) == {order.key for order in others}
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["event_dead_lettered"]


async def test_a_consumer_may_read_only_a_part_of_an_event(database: Database) -> None:
    class OrderCompleted(Event):
        order_id: UUID

    async def on_completed(work: UnitOfWork, event: OrderCompleted, _: CloudEvent) -> None:
        work.add(Effect(what=f"part {event.order_id}"))

    order = completed()
    settings = ServiceSettings(database_url=database.url, kafka_bootstrap_servers="127.0.0.1:1", consumer_attempts=1)
    consumer = Consumer("batches", Subscription((), {OrderCompleted: on_completed}), database, inbox, settings)
    await consumer.apply([_record(order)])
    assert await effects(database) == {f"part {order.order_id}"}


async def test_rows_that_are_there_already_are_passed_over(database: Database) -> None:
    async with changing(database) as work:
        work.add(Effect(what="old"))
    async with changing(database) as work:
        work.add_missing(Effect(what="old"), Effect(what="new"), Effect(what="new"))
        work.add(Effect(what="other"))
        assert len(await work.rows(select(Effect))) == 3  # written before it is asked for
        work.add_missing(Effect(what="other"))
    assert await effects(database) == {"old", "new", "other"}

"""What cannot be handled stops nobody (E1), belongs to the consumer that failed, and is put back to that one alone (E2)."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from prometheus_client import REGISTRY
from typer.testing import Result

from chassis import consumer as consumer_module
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.consumer import Consumer
from chassis.database import Database
from chassis.dead_letters import digest_of
from chassis.store import UnitOfWork
from contracts.events import CloudEvent, OrderCompleted
from embedded.postgres import PostgresServer
from tests.conftest import eventually
from tests.events.conftest import World, in_background, new_database, take_effect
from tests.events.test_cli import invoked

pytestmark = pytest.mark.timeout(300)
PARKED = "select * from dead_letters order by seq"


def envelope(order_id: UUID, **changed: Any) -> dict[str, Any]:
    """An event of the tests as JSON, with some of its fields changed."""
    data = {"order_id": str(order_id), "customer_id": str(order_id), "total": {"amount": "1", "currency": "USD"}}
    whole: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/services/order",
        "type": "OrderCompleted",
        "subject": str(order_id),
        "time": "2026-01-02T03:04:05Z",
        "partitionkey": str(order_id),
        "data": data,
    }
    return whole | changed


def poison(order_id: UUID) -> list[bytes]:
    """Records that cannot be handled, each for another reason."""
    return [
        b"\xff\xfe no text",
        b"[" * 100_000,
        json.dumps(envelope(order_id, data={"order_id": "\x00 \ud800"})).encode(),
        json.dumps(envelope(order_id, subject="\x00\x1b[2J", data={})).encode(),
        json.dumps(envelope(order_id, subject="\ud800", data={})).encode(),
        json.dumps(envelope(order_id, time="2026-01-02T03:04:05")).encode(),
        json.dumps(envelope(order_id, data={"order_id": "x" * 1_500_000})).encode(),
        b"\x00" * 1_500_000,
    ]


def metric(name: str, world: World, group: str | None = None) -> float:
    """A gauge of the world's consumer, over all topics."""
    families = [family for family in REGISTRY.collect() if family.name == name]
    samples = [sample for family in families for sample in family.samples]
    return sum(sample.value for sample in samples if sample.labels["consumer"] == (group or world.group))


async def send(world: World, key: bytes | None, *values: bytes | None) -> None:
    """Whatever it is; a broker that refuses large records is told to take them."""
    if world.broker.is_apache:
        admin = AIOKafkaAdminClient(bootstrap_servers=world.broker.bootstrap)
        await admin.start()
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, world.topic, {"max.message.bytes": "4000000"})])
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=world.broker.bootstrap, max_request_size=4_000_000)
    await producer.start()
    for value in values:
        await producer.send_and_wait(world.topic, value, key=key)
    await producer.stop()


async def test_e1_no_record_of_any_size_or_content_stops_the_others(world: World) -> None:
    """On its own partition and on the others."""
    bad, good = uuid4(), [uuid4() for _ in range(10)]

    async def always_raises_for_the_bad_one(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        if event.order_id == bad:
            raise RuntimeError("\x00 \ud800 a bug")
        await take_effect(work, event, envelope)

    unheard_of = json.dumps(envelope(bad, type="OrderCompleted\x00")).encode()
    poisoned = [*poison(bad), json.dumps(envelope(bad)).encode(), b""]
    elsewhere = poison(bad)
    await send(world, str(bad).encode(), *poisoned[:-1], None, unheard_of)
    await send(world, None, *elsewhere)
    poisoned += elsewhere
    for order in good:
        await world.record(order, 1)
    async with in_background(world.relay(), world.consumer(always_raises_for_the_bad_one)):
        await world.until_applied(len(good), timeout_s=60)

        async def all_behind() -> bool:
            return len(await world.rows(PARKED)) >= len(poisoned) and metric("consumer_records_behind", world) == 0

        await eventually(all_behind, timeout_s=60)
    assert await world.effects() == {order: [1] for order in good}
    letters = await world.rows(PARKED)
    assert sorted(letter["digest"] for letter in letters) == sorted(map(digest_of, poisoned))
    for letter in letters:
        assert letter["state"] == "OPEN"
        assert letter["error"]
        assert letter["value"] is None if letter["size"] > 1_000_000 else digest_of(letter["value"]) == letter["digest"]


async def test_e1_a_fault_that_only_one_event_meets_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it is alone it waits, since the fault may be everybody's; once others get through, it is parked."""
    monkeypatch.setattr(consumer_module, "PATIENCE_SECONDS", 0.0)
    bad, tries = uuid4(), 0

    async def is_away_for_the_bad_one(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        nonlocal tries
        if event.order_id == bad:
            tries += 1
            raise Unavailable("it answers 500")
        await take_effect(work, event, envelope)

    async def tried(count: int) -> bool:
        return tries > count

    async def parked() -> bool:
        return bool(await world.rows(PARKED))

    await world.record(bad, 1, 2)
    async with in_background(world.relay(), world.consumer(is_away_for_the_bad_one)):
        await eventually(lambda: tried(5), what="five tries of one event", timeout_s=60)
        assert not await parked()
        while not await parked():
            await world.record(uuid4(), 1)
            await eventually(lambda count=tries: tried(count), timeout_s=60)  # type: ignore[misc]
    letters = await world.rows(PARKED)
    assert {letter["error"] for letter in letters} == {"Unavailable: it answers 500"}
    assert bad not in await world.effects()


@dataclass
class Listener:
    """A consumer with a database of its own, as `commerce` knows it, and a handler that can be broken and mended."""

    name: str
    world: World
    database: Database
    broken: set[int] = field(default_factory=set)
    error: str = "the handler has a bug"

    async def _handle(self, work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        if int(event.total.amount) in self.broken:
            raise RuntimeError(self.error)
        await take_effect(work, event, envelope)

    def consumer(self) -> Consumer:
        return self.world.consumer(self._handle, self.database, f"{self.name}-{self.world.topic}")

    async def letters(self) -> list[asyncpg.Record]:
        return await self.world.rows(PARKED, database=self.database)

    async def until_parked(self, *attempts: int) -> None:
        """Wait until there are so many open letters, with so many attempts each."""

        async def there() -> bool:
            return [row["attempts"] for row in await self.letters() if row["state"] == "OPEN"] == list(attempts)

        await eventually(there, what=f"letters of {self.name} with {attempts} attempts", timeout_s=60)

    async def effects(self) -> list[int]:
        rows = await self.world.rows("select number from effects order by seq", database=self.database)
        return [row["number"] for row in rows]


@asynccontextmanager
async def two_listeners(world: World, postgres: PostgresServer) -> AsyncIterator[tuple[Listener, Listener]]:
    """Of the same topic: the order service in the world's database, and notification in one of its own."""
    other = await new_database(postgres)
    try:
        yield Listener("order", world, world.database), Listener("notification", world, other)
    finally:
        await other.close()


async def letters_command(*listeners: Listener, arguments: Sequence[str]) -> Result:
    """Run `commerce events` on the listeners' databases; what waits for a consumer does so for long, on a busy machine."""
    urls = {f"DATABASE_URL_{listener.name.upper()}": listener.database.url for listener in listeners}
    waits = {"replay", "rewind"} & set(arguments) and "--wait" not in arguments
    return await invoked("", *arguments, *(("--wait", "120") if waits else ()), **urls)


async def test_e2_replaying_never_multiplies_and_concerns_nobody_else(world: World, postgres: PostgresServer) -> None:
    """Two consumers cannot handle the same event; the letters of one are put back again and again."""
    order = uuid4()
    await world.record(order, 1, 2, 3)
    async with two_listeners(world, postgres) as (first, second):
        first.broken, second.broken = {2}, {2}
        async with in_background(world.relay(), first.consumer(), second.consumer()):
            await first.until_parked(1)
            await second.until_parked(1)
            for number in range(3):
                first.error = f"bug number {number}"
                again = await letters_command(first, second, arguments=["dead-letters", "replay", "--consumer", "order"])
                assert again.exit_code == 1
                assert "order: 0 applied, 1 failed again, 0 still to be tried" in again.stdout
                assert f"bug number {number}" in again.stdout
            await first.until_parked(4)
            await second.until_parked(1)
            assert len(await world.log()) == 3  # nothing went through the broker

            first.broken, second.broken = set(), set()
            mended = await letters_command(first, second, arguments=["dead-letters", "replay", "--order", str(order)])
            assert mended.exit_code == 0, mended.output
            again = await letters_command(first, second, arguments=["dead-letters", "replay", "--all"])
            assert again.stdout == "Nothing to hand back.\n"
        for listener in (first, second):
            assert await listener.effects() == [1, 3, 2]
            assert [row["state"] for row in await listener.letters()] == ["APPLIED"]


async def test_e2_what_is_delivered_again_is_the_same_letter(world: World, postgres: PostgresServer) -> None:
    """The relay publishes again what the broker lost, and so do others; a letter that gets through that way is settled."""
    order = uuid4()
    await world.record(order, 1, 2)
    await send(world, b"k", b"not json")
    async with two_listeners(world, postgres) as (listener, _):
        listener.broken = {2}
        again = 'update outbox set published_at = null, "partition" = null, "offset" = null'
        async with in_background(world.relay(), listener.consumer()):
            await listener.until_parked(1, 1)
            await world.rows(again)
            await world.rows("notify outbox")

            async def failed_again() -> bool:
                return sorted(row["attempts"] for row in await listener.letters()) == [1, 2]

            await eventually(failed_again, timeout_s=60)
            listener.broken = set()
            await world.rows(again)
            await world.rows("notify outbox")

            async def settled() -> bool:
                return sorted(row["state"] for row in await listener.letters()) == ["APPLIED", "OPEN"]

            await eventually(settled, timeout_s=60)
        assert await listener.effects() == [1, 2]


async def test_e2_what_is_dropped_keeps_the_reason_and_never_has_an_effect(world: World, postgres: PostgresServer) -> None:
    await world.record(uuid4(), 1, 2)
    async with two_listeners(world, postgres) as (listener, _):
        listener.broken = {2}
        async with in_background(world.relay(), listener.consumer()):
            await listener.until_parked(1)
            assert (await letters_command(listener, arguments=["dead-letters", "drop", "--all"])).exit_code == 2
            assert (await letters_command(listener, arguments=["dead-letters", "drop", "--reason", "why"])).exit_code == 2
            dropped = await letters_command(
                listener, arguments=["dead-letters", "drop", "--type", "OrderCompleted", "--reason", "a test order"]
            )
            assert dropped.stdout == "order: 1 dropped\n"
            listener.broken = set()
            await world.rows('update outbox set published_at = null, "partition" = null, "offset" = null')
            await world.record(uuid4(), 3)

            async def after_it() -> bool:
                return await listener.effects() == [1, 3]

            await eventually(after_it, timeout_s=60)
        [letter] = await listener.letters()
        assert (letter["state"], letter["reason"]) == ("DROPPED", "a test order")
        listed = await letters_command(listener, arguments=["dead-letters", "list", "--all"])
        assert "dropped: a test order" in listed.stdout


async def test_e2_a_letter_that_is_kept_by_reference_is_fetched_from_the_broker(world: World, postgres: PostgresServer) -> None:
    orders = [uuid4(), uuid4()]
    async with two_listeners(world, postgres) as (listener, _):
        listener.broken = {1}
        for order in orders:
            await send(world, str(order).encode(), json.dumps(envelope(order, padding="x" * 500_000)).encode())
        async with in_background(listener.consumer()):
            await listener.until_parked(1, 1)
            assert [row["value"] for row in await listener.letters()] == [None, None]
            listener.broken = set()
            await world.rows('update dead_letters set "offset" = 99999 where subject = $1', str(orders[1]))
            replayed = await letters_command(listener, arguments=["dead-letters", "replay", "--all"])
            assert "order: 1 applied, 1 failed again" in replayed.stdout, replayed.output
            assert "LookupError" in replayed.stdout
        assert await listener.effects() == [1]


async def test_e2_letters_are_found_by_consumer_order_type_and_time(world: World, postgres: PostgresServer) -> None:
    orders = [uuid4() for _ in range(5)]
    for order in orders:
        await world.record(order, 1)
    await send(world, b"k", b"mail zoe@example.org \x1b[2J")
    async with two_listeners(world, postgres) as (first, second):
        first.broken = {1}
        async with in_background(world.relay(), first.consumer(), second.consumer()):
            await first.until_parked(*[1] * 6)
            await second.until_parked(1)

        async def found(*arguments: str) -> list[dict[str, Any]]:
            result = await letters_command(first, second, arguments=["dead-letters", "list", "--json", *arguments])
            assert result.exit_code == 0, result.output
            return [json.loads(line) for line in result.stdout.splitlines()]

        assert len(await found()) == 7
        assert len(await found("--consumer", "order")) == 6
        assert [letter["consumer"] for letter in await found("--consumer", "notification")] == ["notification"]
        assert [letter["subject"] for letter in await found("--order", str(orders[3]))] == [str(orders[3])]
        assert len(await found("--type", "OrderCompleted")) == 5
        assert await found("--until", (utc_now() - timedelta(hours=1)).isoformat()) == []
        assert len(await found("--since", (utc_now() - timedelta(hours=1)).isoformat())) == 7
        pages = [await found("--limit", "3", "--page", str(page)) for page in (1, 2, 3)]
        assert [len(page) for page in pages] == [3, 3, 1]
        assert len({(letter["consumer"], letter["letter_id"]) for page in pages for letter in page}) == 7
        [no_event] = await found("--consumer", "notification")
        shown = await letters_command(first, second, arguments=["dead-letters", "show", no_event["letter_id"]])
        assert "***" in shown.stdout
        assert "zoe" not in shown.stdout
        assert "\x1b" not in shown.stdout
        nobody = await letters_command(first, second, arguments=["dead-letters", "list", "--consumer", "payment"])
        assert nobody.exit_code == 2
        assert "There are: notification, order" in nobody.stderr

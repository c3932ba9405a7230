"""The relay publishes the outbox to Kafka: at least once, in order per aggregate, woken by NOTIFY.

- One relay per service is active at a time (an advisory lock); a second one waits to take over.
- Only one event of an aggregate is under way at a time, so a failed send can never be overtaken by a later event.
- A row stays, with the place where it was published, for the retention time. If the broker turns out to hold less than was
  published (the embedded broker keeps nothing over a restart; a real one may lose its disks), the rows are published again.
  The inbox of each consumer makes that harmless.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Counter, Gauge

from chassis.clock import utc_now
from chassis.kafka import ensure_topics
from chassis.logs import logger
from chassis.outbox import CHANNEL
from chassis.settings import ServiceSettings

BATCH = 500
CHECK_SECONDS = 2.0
"""The longest sleep; then the relay looks whether the broker still has what it was given."""
FORGET_SECONDS = 600.0
_LOCK = 0x0B0C5
_HEADERS = [("content-type", b"application/cloudevents+json; charset=utf-8")]

_UNSENT = """select seq, topic, key, envelope::text as envelope, created_at from outbox
             where published_at is null order by seq limit $1"""
_SENT = """update outbox set published_at = now(), "partition" = sent.p, "offset" = sent.o
           from unnest($1::bigint[], $2::int[], $3::bigint[]) as sent(seq, p, o) where outbox.seq = sent.seq"""
_PLACES = """select topic, "partition", max("offset") as high from outbox
             where "partition" is not null group by topic, "partition" """
_UNSEND = 'update outbox set published_at = null, "partition" = null, "offset" = null where published_at is not null'
_FORGET = "delete from outbox where published_at < $1"

log = logger(__name__)
published_total = Counter("outbox_published_total", "Events published to Kafka.", ["topic"])
republished_total = Counter("outbox_republished_total", "Events published again because the broker had lost them.")
backlog_seconds = Gauge("outbox_backlog_seconds", "Age of the oldest event not yet published.")


class Relay:
    """Runs until cancelled; survives the broker and the database going away."""

    def __init__(self, dsn: str, settings: ServiceSettings) -> None:
        self._dsn, self._settings = dsn, settings
        self._wake = asyncio.Event()
        self._high: dict[TopicPartition, int] = {}
        """The highest offset at which something was published."""

    async def run(self) -> None:
        """Publish for ever."""
        pause = 0.05
        while True:
            try:
                await self._run_once()
            except (OSError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("relay_interrupted", error=repr(error), retry_in_s=pause)
            except Exception as error:  # a bug must not end publishing for good: it is logged and tried again
                log.error("relay_failed", exc_info=error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _run_once(self) -> None:
        database = await asyncpg.connect(self._dsn, timeout=5, command_timeout=30)
        try:
            await database.execute("select pg_advisory_lock($1)", _LOCK, timeout=None)
            await database.add_listener(CHANNEL, lambda *_: self._wake.set())
            database.add_termination_listener(lambda *_: self._wake.set())
            async with _Producer(self._settings) as producer:
                await self._load_places(database)
                await self._publish_for_ever(database, producer)
        finally:
            with suppress(Exception):
                await database.close(timeout=2)

    async def _publish_for_ever(self, database: asyncpg.Connection, producer: AIOKafkaProducer) -> None:
        await self._check_broker(database)
        loop = asyncio.get_running_loop()
        checked_at = forgot_at = loop.time()
        while not database.is_closed():
            self._wake.clear()
            while await self._publish_batch(database, producer):
                pass
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._wake.wait()
            if loop.time() - checked_at > CHECK_SECONDS:
                await self._check_broker(database)
                checked_at = loop.time()
            if loop.time() - forgot_at > FORGET_SECONDS:
                await database.execute(_FORGET, utc_now() - timedelta(hours=self._settings.outbox_retention_hours))
                forgot_at = loop.time()

    async def _publish_batch(self, database: asyncpg.Connection, producer: AIOKafkaProducer) -> int:
        """Publish up to BATCH rows, oldest first; returns how many there were."""
        rows = await database.fetch(_UNSENT, BATCH)
        backlog_seconds.set((utc_now() - rows[0]["created_at"]).total_seconds() if rows else 0)
        for wave in waves(rows):
            await self._publish_wave(database, producer, wave)
        return len(rows)

    async def _publish_wave(
        self, database: asyncpg.Connection, producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record]
    ) -> None:
        sends = [
            await producer.send(row["topic"], row["envelope"].encode(), key=row["key"].encode(), headers=_HEADERS) for row in rows
        ]
        results = await asyncio.gather(*sends, return_exceptions=True)
        sent = [(row, result) for row, result in zip(rows, results, strict=True) if not isinstance(result, BaseException)]
        high_before = dict(self._high)
        for row, place in sent:
            published_total.labels(row["topic"]).inc()
            partition = TopicPartition(place.topic, place.partition)
            self._high[partition] = max(self._high.get(partition, -1), place.offset)
        await database.execute(
            _SENT, [row["seq"] for row, _ in sent], [place.partition for _, place in sent], [place.offset for _, place in sent]
        )
        if any(place.offset <= high_before.get(TopicPartition(place.topic, place.partition), -1) for _, place in sent):
            await self._publish_all_again(database)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _load_places(self, database: asyncpg.Connection) -> None:
        rows = await database.fetch(_PLACES)
        self._high = {TopicPartition(row["topic"], row["partition"]): row["high"] for row in rows}

    async def _check_broker(self, database: asyncpg.Connection) -> None:
        """Compare the ends of the broker's partitions with what was published to them."""
        if not self._high:
            return
        consumer = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka_bootstrap_servers, request_timeout_ms=5000)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(list(self._high))
        finally:
            await consumer.stop()
        if any(ends.get(partition, 0) <= high for partition, high in self._high.items()):
            await self._publish_all_again(database)

    async def _publish_all_again(self, database: asyncpg.Connection) -> None:
        await ensure_topics_exist(self._settings)
        count = int((await database.execute(_UNSEND)).rsplit(" ", 1)[-1])
        self._high.clear()
        self._wake.set()
        republished_total.inc(count)
        log.warning("broker_lost_events", republishing=count)


def waves(rows: Sequence[asyncpg.Record]) -> list[list[asyncpg.Record]]:
    """Rows cut into waves in which each aggregate occurs once: the n-th wave holds the n-th event of each."""
    result: list[list[asyncpg.Record]] = []
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        aggregate = (row["topic"], row["key"])
        if seen[aggregate] == len(result):
            result.append([])
        result[seen[aggregate]].append(row)
        seen[aggregate] += 1
    return result


async def ensure_topics_exist(settings: ServiceSettings) -> None:
    """Create all topics of the platform that are missing."""
    await ensure_topics(
        settings.kafka_bootstrap_servers, partitions=settings.kafka_partitions, replication=settings.kafka_replication
    )


class _Producer:
    """A started producer whose topics exist."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings

    async def __aenter__(self) -> AIOKafkaProducer:
        await ensure_topics_exist(self._settings)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap_servers,
            acks="all",
            enable_idempotence=self._settings.kafka_enable_idempotence,
            request_timeout_ms=5000,
        )
        await self._producer.start()
        return self._producer

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            async with asyncio.timeout(5):
                await self._producer.stop()

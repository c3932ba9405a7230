"""The relay publishes the outbox to Kafka: at least once, in order per aggregate, woken by NOTIFY.

- One relay per service is active at a time (an advisory lock); a second one waits to take over.
- It works in rounds. A round sends at most one batch per partition, and a batch is stored whole or not at all; so no event can
  overtake one of its aggregate that failed. Whatever fails ends the round, and the relay starts anew.
- A row stays, with the place where it was published, for the retention time. If the broker turns out to hold less than was
  published (the embedded broker keeps nothing over a restart; a real one may lose its disks), the rows are published again,
  in order, before anything new. The inbox of each consumer makes that harmless.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.partitioner import DefaultPartitioner
from opentelemetry import trace
from prometheus_client import Counter, Gauge

from chassis.clock import utc_now
from chassis.kafka import close, end_offsets, ensure_topics, for_ever, on_connection_lost
from chassis.logs import logger
from chassis.outbox import CHANNEL
from chassis.settings import ServiceSettings
from chassis.telemetry import TRACE_LASTS, context_of, trace_headers

BATCH = 500
BATCH_BYTES = 256 * 1024
"""Of one partition in one round; a broker's own limit is 1 MB."""
ROUND_SECONDS = 0.05
"""The shortest time from one round to the next: under load, events that come within it share the cost of a round."""
SEND_SECONDS = 15.0
STANDBY_SECONDS = 1.0
CHECK_SECONDS = 10.0
"""How often the relay asks the broker where its partitions end. A broken connection makes it ask at once."""
FORGET_SECONDS = 600.0
FORGET_BATCH = 5000
_LOCK = 0x0B0C5
_HEADERS = [("content-type", b"application/cloudevents+json; charset=utf-8")]
_SESSION = {
    "application_name": "relay",
    # What is lost of these commits is published again.
    "synchronous_commit": "off",
    # All look-ups here are by index; statistics of a table that empties and fills only mislead the planner.
    "enable_seqscan": "off",
    # If this machine dies without a word, the server must notice, and give the lock to another.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

_OLDEST = "select created_at from outbox where published_at is null order by seq limit 1"
_UNSENT = """select seq, topic, key, envelope::text as envelope, created_at from outbox
             where published_at is null order by seq limit $1"""
_SENT = """update outbox set published_at = now(), "partition" = sent.p, "offset" = sent.o
           from unnest($1::bigint[], $2::int[], $3::bigint[]) as sent(seq, p, o) where outbox.seq = sent.seq"""
# The last batch (one round has one published_at) in each partition, without reading more than those.
_LAST_BATCHES = """
    with recursive last as (
        (select topic, "partition", "offset", published_at from outbox where "partition" is not null
         order by topic desc, "partition" desc, "offset" desc limit 1)
        union all
        select next.* from last, lateral (
            select topic, "partition", "offset", published_at from outbox
            where (topic, "partition") < (last.topic, last."partition") and "partition" is not null
            order by topic desc, "partition" desc, "offset" desc limit 1) as next)
    select topic, "partition", (
        select min("offset") from outbox
        where (topic, "partition", published_at) = (last.topic, last."partition", last.published_at)
        and "offset" > last."offset" - $1) as base
    from last"""
_LOST = """update outbox set published_at = null, "partition" = null, "offset" = null
           where topic = $1 and "partition" = $2 and "offset" >= $3"""
_FORGET = """delete from outbox where seq in (
               select seq from (select seq, published_at from outbox order by seq limit $2) as oldest where published_at < $1)"""

_RECORDED = re.compile(r'"traceparent": ?"([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][13579bdf])"')
log = logger(__name__)
tracer = trace.get_tracer(__name__)
published_total = Counter("outbox_published_total", "Events published to Kafka.", ["topic"])
republished_total = Counter("outbox_republished_total", "Events published again because the broker had lost them.")
backlog_seconds = Gauge("outbox_backlog_seconds", "Age of the oldest event not yet published.")
partition_of = DefaultPartitioner()


class Relay:
    """Runs until cancelled; survives the broker and the database going away."""

    def __init__(self, dsn: str, settings: ServiceSettings) -> None:
        self._dsn, self._settings = dsn, settings
        self._wake = asyncio.Event()
        self._last: dict[TopicPartition, int] = {}
        """Where the last batch in each partition begins."""
        self._oldest: datetime | None = None
        backlog_seconds.set_function(lambda: (utc_now() - self._oldest).total_seconds() if self._oldest else 0.0)

    async def run(self) -> None:
        """Publish for ever."""
        await for_ever(self._run_once, "relay", (OSError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError))

    async def _run_once(self) -> None:
        database = await asyncpg.connect(self._dsn, timeout=5, command_timeout=30, server_settings=_SESSION)
        try:
            self._oldest = None  # as long as another relay of this service publishes, the backlog is not ours to tell
            await self._wait_for_turn(database)
            self._oldest = await database.fetchval(_OLDEST)
            await database.add_listener(CHANNEL, lambda *_: self._wake.set())
            database.add_termination_listener(lambda *_: self._wake.set())
            await ensure_topics(self._settings)
            producer = _Producer(self._settings, self._wake)
            try:
                await producer.start()
                rows = await database.fetch(_LAST_BATCHES, BATCH)
                self._last = {TopicPartition(row["topic"], row["partition"]): row["base"] for row in rows}
                await self._publish_for_ever(database, producer)
            finally:
                await producer.stop()
        finally:
            with suppress(Exception):
                await database.close(timeout=2)

    async def _wait_for_turn(self, database: asyncpg.Connection) -> None:
        """Return as the one active relay of the service, until the connection ends.

        It asks again and again: waiting inside the database would keep a snapshot open, and vacuum from its work.
        """
        while True:
            if await database.fetchval("select pg_try_advisory_lock($1)", _LOCK):
                return
            await asyncio.sleep(STANDBY_SECONDS)

    async def _publish_for_ever(self, database: asyncpg.Connection, producer: "_Producer") -> None:
        loop = asyncio.get_running_loop()
        check_at, forget_at = 0.0, loop.time() + FORGET_SECONDS
        while True:
            now = loop.time()
            if now >= check_at:
                await self._check_broker(database, producer)
                check_at = now + CHECK_SECONDS
            if now >= forget_at and not await self._forget(database):
                forget_at = now + FORGET_SECONDS
            self._wake.clear()
            producer.raise_if_lost()
            if not await self._publish_round(database, producer):
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(check_at):
                        await self._wake.wait()
                await asyncio.sleep(now + ROUND_SECONDS - loop.time())

    async def _publish_round(self, database: asyncpg.Connection, producer: "_Producer") -> bool:
        """Publish what there is, oldest first, up to one batch per partition; returns whether there is more."""
        rows = await database.fetch(_UNSENT, BATCH)
        self._oldest = rows[0]["created_at"] if rows else None
        if not rows:
            return False
        partitions = {topic: await producer.partitions(topic) for topic in {row["topic"] for row in rows}}
        batches: dict[TopicPartition, _Batch] = {}
        traced_since = utc_now() - TRACE_LASTS
        for row in rows:
            key = row["key"].encode()
            place = TopicPartition(row["topic"], partition_of(key, partitions[row["topic"]], ()))
            if place not in batches:
                batches[place] = _Batch(producer.new_batch())
            span = _span_of(row) if row["created_at"] > traced_since else None
            batches[place].add(row["seq"], key, row["envelope"].encode(), span)
        await self._mark(database, batches, await producer.send(batches))
        for batch in batches.values():
            batch.sent()
        log.debug("events_published", events=sum(len(batch.seqs) for batch in batches.values()))
        return len(rows) == BATCH or any(batch.is_full for batch in batches.values())

    async def _mark(self, database: asyncpg.Connection, batches: "Mapping[TopicPartition, _Batch]", results: list[Any]) -> None:
        """Note in the outbox where each batch went. Raises what went wrong with any of them."""
        sent: list[tuple[int, int, int]] = []
        began_anew: dict[TopicPartition, int] = {}
        failure: KafkaError | None = None
        for (place, batch), result in zip(batches.items(), results, strict=True):
            if isinstance(result, BaseException):
                failure = KafkaError(f"not sent: {result!r}")
            elif result.offset < 0:
                failure = KafkaError("the broker knows this batch, and not where it is")
            else:
                if result.offset <= self._last.get(place, -1):
                    began_anew[place] = result.offset
                self._last[place] = result.offset
                sent += [(seq, place.partition, result.offset + index) for index, seq in enumerate(batch.seqs)]
                published_total.labels(place.topic).inc(len(batch.seqs))
        if began_anew:
            await self._publish_again(database, began_anew)
            failure = KafkaError("a partition began anew")  # so we look at the others
        if sent:
            await database.execute(_SENT, *(list(column) for column in zip(*sent, strict=True)))
        if failure:
            raise failure

    async def _check_broker(self, database: asyncpg.Connection, producer: "_Producer") -> None:
        """Compare the ends of the broker's partitions with what was published to them."""
        ends = await producer.end_offsets(self._last)
        lost = {place: end for place, end in ends.items() if end <= self._last[place]}
        if lost:
            await ensure_topics(self._settings)
            await self._publish_again(database, lost)

    async def _publish_again(self, database: asyncpg.Connection, lost: Mapping[TopicPartition, int]) -> None:
        """What went to these partitions, from these offsets on, counts as not yet published."""
        count = 0
        async with database.transaction():
            await database.execute("set local synchronous_commit = on")
            for place, offset in lost.items():
                status = await database.execute(_LOST, place.topic, place.partition, offset, timeout=600)
                count += int(status.rsplit(" ", 1)[-1])
        for place in lost:
            self._last.pop(place, None)
        republished_total.inc(count)
        log.warning("broker_lost_events", republishing=count)

    async def _forget(self, database: asyncpg.Connection) -> bool:
        """Delete some rows that were published long ago; returns whether there may be more."""
        before = utc_now() - timedelta(hours=self._settings.outbox_retention_hours)
        status: str = await database.execute(_FORGET, before, FORGET_BATCH)
        return int(status.rsplit(" ", 1)[-1]) == FORGET_BATCH


class _Batch:
    """Events of one partition that are stored together or not at all."""

    def __init__(self, records: Any) -> None:
        self.records = records
        self.seqs: list[int] = []
        self.is_full = False
        self._spans: list[trace.Span] = []

    def add(self, seq: int, key: bytes, value: bytes, span: trace.Span | None = None) -> None:
        """Append an event, unless this or one before it did not fit: then it is left to a later round. `span`: of its way."""
        headers = _HEADERS if span is None else [*_HEADERS, ("traceparent", _traceparent(span).encode())]
        if self.records.append(key=key, value=value, timestamp=None, headers=headers) is None:
            self.is_full = True  # and closed to what would fit
            return
        self.seqs.append(seq)
        if span is not None:
            self._spans.append(span)

    def sent(self) -> None:
        """It is stored: what is recorded of its events is complete."""
        for span in self._spans:
            span.end()


def _span_of(row: asyncpg.Record) -> trace.Span | None:
    """Of an event on its way, if the trace of its cause is recorded."""
    found = _RECORDED.search(row["envelope"])
    if found is None:
        return None
    cause = context_of({"traceparent": found[1]})
    return tracer.start_span(f"publish {row['topic']}", cause, kind=trace.SpanKind.PRODUCER)


def _traceparent(span: trace.Span) -> str:
    return trace_headers(trace.set_span_in_context(span))["traceparent"]


class _Producer:
    """A producer that gives up when its connection breaks.

    Left to itself it would connect again and send on, to a broker that may have lost the events before these.
    """

    def __init__(self, settings: ServiceSettings, wake: asyncio.Event) -> None:
        self._kafka = AIOKafkaProducer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            acks="all",
            enable_idempotence=settings.kafka_enable_idempotence,
            request_timeout_ms=5000,
            max_batch_size=BATCH_BYTES,
        )
        self._wake = wake
        self._is_lost = False
        on_connection_lost(self._kafka.client, self._give_up)

    def _give_up(self) -> None:
        self._is_lost = True
        # Fails what is under way and what would come; it has no public name.
        self._kafka._message_accumulator.fail_all(KafkaConnectionError("the connection to the broker broke"))
        self._wake.set()

    def raise_if_lost(self) -> None:
        """Raises KafkaConnectionError once the connection has broken."""
        if self._is_lost:
            raise KafkaConnectionError("the connection to the broker broke")

    async def start(self) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self._kafka.start()

    async def stop(self) -> None:
        self._give_up()
        await close(self._kafka.client, self._kafka)

    async def partitions(self, topic: str) -> list[int]:
        return sorted(await self._kafka.partitions_for(topic))

    def new_batch(self) -> Any:
        return self._kafka.create_batch()

    async def send(self, batches: Mapping[TopicPartition, _Batch]) -> list[Any]:
        """Send each; returns for each its place, or what went wrong."""
        async with asyncio.timeout(SEND_SECONDS):
            sends = [
                await self._kafka.send_batch(batch.records, place.topic, partition=place.partition)
                for place, batch in batches.items()
            ]
            return await asyncio.gather(*sends, return_exceptions=True)

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return await end_offsets(self._kafka.client, partitions)

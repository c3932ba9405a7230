"""Consumes domain events: each one's effect happens once, in order per aggregate; what cannot be handled is parked, never lost.

A batch is applied in one transaction, together with its inbox rows. If that fails, its events are applied one by one; an event
that still fails after its tries goes to `<topic>.dlq` with the error. A database or a platform service that is away is not
the event's fault: then the consumer waits and tries again for as long as it takes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError, KafkaError
from opentelemetry import trace
from prometheus_client import Counter, Histogram
from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database, is_connection_fault, is_lock_fault
from chassis.inbox import Inbox
from chassis.kafka import close, ensure_topics, for_ever, on_connection_lost
from chassis.logs import logger
from chassis.settings import ServiceSettings
from chassis.telemetry import context_of
from contracts.events import EVENT_TYPES, CloudEvent, Event, dead_letter_topic

BATCH = 200
COMMIT_SECONDS = 1.0
"""How often the group's offsets are stored. After a crash some events are read again; the inbox makes that harmless."""
FORGET_SECONDS = 600.0
log = logger(__name__)
tracer = trace.get_tracer(__name__)
applied_total = Counter("events_applied_total", "Events whose effect was committed.", ["topic", "type"])
dead_letters_total = Counter("events_dead_lettered_total", "Events parked because they could not be handled.", ["topic"])
lag_seconds = Histogram(
    "event_lag_seconds",
    "From the event's time to its effect's commit.",
    ["topic"],
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 1, 2.5, 5, 15, 60),
)

Handler = Callable[[AsyncSession, Any, CloudEvent], Awaitable[None]]
"""Applies one event within the session's transaction: `async def on_order_created(session, event, envelope)`."""
Teller = Callable[[Any, CloudEvent], Awaitable[None]]
"""Passes one event on over the network, outside of any transaction: `async def tell_dispatched(event, envelope)`."""


@dataclass(frozen=True)
class Subscription:
    """The topics that a service listens to, and what it does on which event. Other types on those topics are passed over."""

    topics: tuple[str, ...]
    handlers: Mapping[type[Event], Handler] = field(default_factory=dict)
    """These write to the database, in one transaction with the inbox row: once."""
    tell: Mapping[type[Event], Teller] = field(default_factory=dict)
    """These call others, before the inbox row is committed and before the handlers of the same batch: at least once, so a
    second call for the same event must be harmless."""


@dataclass
class _Received:
    record: ConsumerRecord
    envelope: CloudEvent
    event: Event
    is_told: bool = False


class Consumer:
    """Runs until cancelled; survives the broker and the database going away."""

    def __init__(
        self, service: str, subscription: Subscription, database: Database, inbox: Inbox, settings: ServiceSettings
    ) -> None:
        self._service, self._subscription = service, subscription
        self._database, self._inbox, self._settings = database, inbox, settings
        self._handlers = {kind.__name__: handler for kind, handler in subscription.handlers.items()}
        self._tellers = {kind.__name__: teller for kind, teller in subscription.tell.items()}

    async def run(self) -> None:
        """Consume for ever."""
        await for_ever(self._run_once, "consumer", (OSError, KafkaError))

    async def _run_once(self) -> None:
        await ensure_topics(self._settings)
        consumer = AIOKafkaConsumer(
            *self._subscription.topics,
            bootstrap_servers=self._settings.kafka_bootstrap_servers,
            group_id=self._service,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,  # the embedded broker looks for new events only at half of it and at its end
            session_timeout_ms=self._settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=self._settings.kafka_session_timeout_ms // 6,
            request_timeout_ms=15_000,
            metadata_max_age_ms=10_000,
        )
        lost = asyncio.Event()
        on_connection_lost(consumer._client, lost.set)
        try:
            await consumer.start()
            await self._consume(consumer, lost)
        finally:
            await close(consumer._client, consumer)

    async def _consume(self, consumer: AIOKafkaConsumer, lost: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        commit_at = forget_at = loop.time()
        applied: dict[TopicPartition, int] = {}
        try:
            while True:
                batches = await consumer.getmany(timeout_ms=200, max_records=BATCH)
                if lost.is_set():
                    # Perhaps the broker has lost its log, and these are from the middle of a new one: begin where the group is.
                    raise KafkaConnectionError("the connection to the broker broke")
                if batches:
                    # All partitions together: their events do not depend on each other, and a commit costs the same for all.
                    await self.apply([record for records in batches.values() for record in records])
                    applied |= {partition: records[-1].offset + 1 for partition, records in batches.items()}
                now = loop.time()
                if now >= commit_at:
                    await self._commit(consumer, applied)
                    commit_at = now + COMMIT_SECONDS
                if now >= forget_at and not await self._forget():
                    forget_at = now + FORGET_SECONDS
        finally:
            if not lost.is_set():
                with suppress(Exception):
                    await self._commit(consumer, applied)

    async def _forget(self) -> bool:
        """Delete some old rows of the inbox; returns whether there may be more."""
        before = utc_now() - timedelta(days=self._settings.inbox_retention_days)
        try:
            async with self._database.transaction() as session:
                return await self._inbox.forget(session, before)
        except Exception as error:
            if not is_connection_fault(error):
                raise
            return False

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
        # A lost assignment only means that somebody reads these again; the inbox makes that harmless.
        with suppress(CommitFailedError, IllegalStateError):
            async with asyncio.timeout(5):  # aiokafka would wait as long as the broker is away
                if offsets:
                    await consumer.commit(offsets)
        offsets.clear()

    async def apply(self, records: Sequence[ConsumerRecord]) -> None:
        """Apply what is new of these records; return when each one's effect is committed, or the record parked."""
        received = []
        for record in records:
            try:
                item = self._receive(record)
            except (ValidationError, KeyError, ValueError) as error:
                await self._park(record, error)
                continue
            if item is not None:
                received.append(item)
        if not received:
            return
        try:
            await self._apply_together(received)
        except Exception as error:
            if len(received) > 1:
                log.info("batch_failed", events=len(received), error=_told(error))
            for item in received:
                await self._apply_one(item)

    def _receive(self, record: ConsumerRecord) -> _Received | None:
        """The event in a record, or None where nobody here handles its type. Raises on what is no event."""
        envelope = CloudEvent.model_validate_json(record.value or b"")
        if envelope.type not in self._handlers and envelope.type not in self._tellers:
            return None
        return _Received(record, envelope, EVENT_TYPES[envelope.type].model_validate(envelope.data))

    async def _tell(self, items: Sequence[_Received]) -> None:
        """Pass on those events that have to be passed on, and were not before."""
        async with self._database.reading() as session:
            known = await self._inbox.known(session, [item.envelope.id for item in items])
        for item in items:
            if item.is_told or item.envelope.id in known:
                continue
            with self._span_of(item):
                await self._tellers[item.envelope.type](item.event, item.envelope)
            item.is_told = True
            known.add(item.envelope.id)

    def _span_of(self, item: _Received) -> AbstractContextManager[trace.Span]:
        context = context_of({"traceparent": item.envelope.traceparent or ""})
        return tracer.start_as_current_span(f"apply {item.envelope.type}", context)

    async def _apply_together(self, items: Sequence[_Received]) -> None:
        applied = []
        if to_tell := [item for item in items if item.envelope.type in self._tellers]:
            await self._tell(to_tell)
        async with self._database.transaction() as session:
            fresh = await self._inbox.claim(session, [item.envelope.id for item in items])
            for item in items:
                if item.envelope.id not in fresh:
                    continue
                fresh.discard(item.envelope.id)  # the same event twice in one batch
                applied.append(item)
                if handler := self._handlers.get(item.envelope.type):
                    with self._span_of(item):
                        await handler(session, item.event, item.envelope)
        for item in applied:
            applied_total.labels(item.record.topic, item.envelope.type).inc()
            lag_seconds.labels(item.record.topic).observe((utc_now() - item.envelope.time).total_seconds())

    async def _apply_one(self, item: _Received) -> None:
        failures, pause = 0, 0.05
        while True:
            try:
                return await self._apply_together([item])
            except Exception as error:
                if isinstance(error, Unavailable) or is_connection_fault(error) or is_lock_fault(error):
                    log.warning("consumer_waits", error=_told(error), event_type=item.envelope.type)
                else:
                    failures += 1
                    log.warning("event_failed", event_id=str(item.envelope.id), attempt=failures, exc_info=error)
                if failures >= self._settings.consumer_attempts:
                    return await self._park(item.record, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _park(self, record: ConsumerRecord, error: Exception) -> None:
        """Put a record among the dead letters, as it came, with where it came from and what went wrong."""
        headers = [
            *(record.headers or ()),
            ("dlq-consumer", self._service.encode()),
            ("dlq-topic", record.topic.encode()),
            ("dlq-partition", str(record.partition).encode()),
            ("dlq-offset", str(record.offset).encode()),
            ("dlq-error", _told(error)[:2000].encode()),
            ("dlq-time", utc_now().isoformat().encode()),
        ]
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap_servers,
            acks="all",
            enable_idempotence=self._settings.kafka_enable_idempotence,
        )
        await producer.start()
        try:
            value = b"" if record.value is None and record.key is None else record.value  # aiokafka sends no record without both
            await producer.send_and_wait(dead_letter_topic(record.topic), value, key=record.key, headers=headers)
        finally:
            await producer.stop()
        dead_letters_total.labels(record.topic).inc()
        log.error("event_dead_lettered", topic=record.topic, offset=record.offset, error=_told(error))


def _told(error: Exception) -> str:
    """The error in one line, without the values that a validation error repeats: they may be personal data."""
    text = str(error)
    if isinstance(error, ValidationError):
        text = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False))
    return f"{type(error).__name__}: {text}"

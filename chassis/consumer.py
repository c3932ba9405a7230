"""Consumes domain events: each one's effect happens once, in order per aggregate; what cannot be handled is parked, never lost.

Records are applied together, in one transaction with their inbox rows. If that fails, each is applied alone: one that still
fails after its tries becomes a dead letter in this consumer's own database. Only events of its own aggregate wait for it.

A database, a lock or a platform service that is not to be had is no fault of the event: then it waits, and is tried again for as
long as it takes. But if others get through between its tries for a minute, it is the event after all, and it is parked.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram
from pydantic import ValidationError

from chassis import dead_letters
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database, is_connection_fault, is_lock_fault
from chassis.dead_letters import Letter, LetterState
from chassis.group_reader import GroupReader
from chassis.inbox import Inbox
from chassis.kafka import ensure_topics, for_ever, read_record
from chassis.logs import logger
from chassis.progress import Progress
from chassis.settings import ServiceSettings
from chassis.store import UnitOfWork, in_transaction
from chassis.telemetry import span_after, span_of
from contracts.events import CloudEvent, Event

BATCH = 500
"""How many records are fetched and applied at once, at most: sums that many events add to are then written once for all."""
MANY_WAITING = 4 * BATCH
MANY_FAILING = 20
FAULTS_IN_A_ROW = 5
"""After so many different events have met a fault, one after the other, the rest is not asked for the same."""
COMMIT_SECONDS = 1.0
"""How often the group's offsets are stored. After a crash some events are read again; the inbox makes that harmless."""
POLL_SECONDS = 2.0
"""How often a consumer looks how far it is, and for letters that are to be handed back to it."""
PATIENCE_SECONDS = 60.0
"""How long an event may meet faults while others get through, before it is parked."""
FORGET_SECONDS = 600.0
REPLAY_BATCH = 100
REPLAY_LEASE = timedelta(minutes=2)
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
log = logger(__name__)
tracer = trace.get_tracer(__name__)
applied_total = Counter("events_applied_total", "Events whose effect was committed.", ["topic", "type"])
dead_letters_open = Gauge("dead_letters_open", "Dead letters about which nobody has decided yet.", ["consumer", "topic"])
lag_seconds = Histogram(
    "event_lag_seconds",
    "From the event's time to its effect's commit.",
    ["topic"],
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 1, 2.5, 5, 15, 60),
)

Handler = Callable[[UnitOfWork, Any, CloudEvent], Awaitable[None]]
"""Applies one event within the consumer's transaction: `async def on_order_created(work, event, envelope)`."""
BatchHandler = Callable[[UnitOfWork, Sequence[tuple[Any, CloudEvent]]], Awaitable[None]]
"""Applies many events at once within the consumer's transaction: `async def on_orders(work, events)`."""
Forwarder = Callable[[Any, CloudEvent], Awaitable[None]]
"""Passes one event on over the network, outside of any transaction: `async def forward_dispatched(event, envelope)`."""


@dataclass(frozen=True)
class Subscription:
    """The topics that a service listens to, and what it does on which event. Other types on those topics are passed over.

    A class of the consumer's own, of the same name as the event and with some of its fields, makes it read those alone."""

    topics: tuple[str, ...]
    handlers: Mapping[type[Event], Handler] = field(default_factory=dict)
    """These write to the database, in one transaction with the inbox row: once."""
    forward: Mapping[type[Event], Forwarder] = field(default_factory=dict)
    """These call others, before the inbox row is committed and before the handlers of the same batch: at least once, so a
    second call for the same event must be harmless."""
    batch: Mapping[type[Event], BatchHandler] = field(default_factory=dict)
    """As `handlers`, for effects that do not depend on the sequence of events: one call with all events that have come, of all
    types that have the same handler."""
    gather_ms: int = 0
    """How long an event may wait at the broker for others that are then fetched with it."""

    @property
    def kinds(self) -> frozenset[type[Event]]:
        """The types of events that something is done on."""
        return frozenset((*self.handlers, *self.forward, *self.batch))

    @cached_property
    def _by_name(self) -> Mapping[str, type[Event]]:
        return {kind.__name__: kind for kind in self.kinds}

    def event_of(self, envelope: CloudEvent) -> Event | None:
        """The event in an envelope; None where nothing is done on its type. Raises ValidationError for data that do not fit."""
        kind = self._by_name.get(envelope.type)
        return kind.model_validate(envelope.data) if kind else None

    async def apply(self, work: UnitOfWork, events: Sequence[tuple[Event, CloudEvent]]) -> None:
        """Let each event take its effect, within the caller's transaction."""
        batches: dict[BatchHandler, list[tuple[Event, CloudEvent]]] = {}
        for event, envelope in events:
            if handler := self.handlers.get(type(event)):
                with _span_of(envelope):
                    await handler(work, event, envelope)
            if batch_handler := self.batch.get(type(event)):
                batches.setdefault(batch_handler, []).append((event, envelope))
        for batch_handler, batch in batches.items():
            with ExitStack() as spans:  # one in each trace that is recorded
                for _, envelope in batch:
                    if _is_recorded(envelope):
                        spans.enter_context(_span_of(envelope))
                await batch_handler(work, batch)


@dataclass(eq=False)
class _Received:
    """A record that is not settled yet. `event` is None where the record is none that can be read; then `defect` says why."""

    record: ConsumerRecord
    envelope: CloudEvent | None = None
    event: Event | None = None
    defect: Exception | None = None
    is_forwarded: bool = False
    failures: int = 0
    """How often it failed by its own fault."""
    pause: float = FIRST_PAUSE
    not_before: float = 0.0
    """When it is tried again; 0 if it was not tried yet. Times are those of the event loop."""
    failing_since: float | None = None
    met_fault: bool = False
    """Whether it failed last by a fault that may be everybody's."""
    others_then: int = 0
    """How many others had got through when it was tried last."""

    @property
    def place(self) -> TopicPartition:
        return TopicPartition(self.record.topic, self.record.partition)

    @property
    def key(self) -> object:
        """Whose events must stay in order. What is no event keeps nobody waiting."""
        return self.envelope.partitionkey if self.envelope else self

    @property
    def type(self) -> str:
        return self.envelope.type if self.envelope else "?"


class Consumer:
    """Runs until cancelled; survives the broker and the database going away."""

    def __init__(
        self, service: str, subscription: Subscription, database: Database, inbox: Inbox, settings: ServiceSettings
    ) -> None:
        self._service, self._subscription = service, subscription
        self._database, self._inbox, self._settings = database, inbox, settings
        self._forwarders = {kind.__name__: forwarder for kind, forwarder in subscription.forward.items()}
        self.progress = Progress(service, subscription.topics)
        self._waiting: list[_Received] = []
        """What was received and is not settled, in the sequence in which it came."""
        self._got_through: dict[bool, int] = {True: 0, False: 0}
        """How many events were applied: of those that are forwarded (True), and of the rest."""
        self._away_until, self._away_pause = 0.0, FIRST_PAUSE
        """Nothing is tried before, since the database or what the events need is away."""
        self._has_letters = True
        self._topics_with_letters: set[str] = set()

    async def run(self) -> None:
        """Consume for ever, and beside it hand back the letters that somebody wants tried again."""
        self.progress.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(for_ever(self._run_once, "consumer", (OSError, KafkaError)))
            group.create_task(for_ever(self._look_after_letters, "dead_letters", (OSError,)))

    async def _run_once(self) -> None:
        await ensure_topics(self._settings)
        self._waiting.clear()
        wanted = self._subscription
        reader = GroupReader(self._settings, self._service, wanted.topics, gather_ms=wanted.gather_ms, on_revoked=self._let_go)
        try:
            await reader.start()
            measuring = asyncio.ensure_future(
                for_ever(lambda: self._measure_for_ever(reader), "consumer_progress", (OSError, KafkaError))
            )
            try:
                await self._consume(reader)
            finally:
                measuring.cancel()
                await asyncio.wait([measuring])
        finally:
            await reader.stop()

    async def _consume(self, reader: GroupReader) -> None:
        loop = asyncio.get_running_loop()
        commit_at = loop.time()
        trying = asyncio.ensure_future(self._try_waiting())
        try:
            while True:  # the next records are fetched and read while the database works on the last ones
                records = await reader.fetch(BATCH) if self._takes_more() else []
                self._take_in(records)
                await trying
                if self._waiting:
                    trying = asyncio.ensure_future(self._try_waiting())
                    if not records:
                        await asyncio.sleep(min(max(self._next_try() - loop.time(), 0), 0.2))
                if loop.time() >= commit_at:
                    await reader.commit(self._records())
                    commit_at = loop.time() + COMMIT_SECONDS
        finally:
            trying.cancel()
            await asyncio.wait([trying])
            if not reader.is_lost:
                with suppress(Exception):
                    await reader.commit(self._records())

    def _takes_more(self) -> bool:
        """Not while many events fail: then the fault is with none of them."""
        failing = sum(item.not_before > 0 for item in self._waiting)
        return failing < MANY_FAILING and len(self._waiting) < MANY_WAITING

    def _let_go(self, places: Iterable[TopicPartition]) -> None:
        """Others read these partitions from now on, from where we have settled everything."""
        gone = set(places)
        self._waiting = [item for item in self._waiting if item.place not in gone]

    def _records(self) -> list[ConsumerRecord]:
        return [item.record for item in self._waiting]

    async def _measure_for_ever(self, reader: GroupReader) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    if (behind := await reader.behind(self._records())) is not None:
                        oldest = min((item.record.timestamp for item in self._waiting), default=None)
                        self.progress.measured(behind, oldest / 1000 if oldest else None)
            await asyncio.sleep(POLL_SECONDS)

    async def apply(self, records: Sequence[ConsumerRecord]) -> None:
        """Apply what is new of these records; return when each one's effect is committed, or the record parked."""
        self._take_in(records)
        while self._waiting:
            await self._try_waiting()
            if self._waiting:
                await asyncio.sleep(max(self._next_try() - asyncio.get_running_loop().time(), 0))

    def _take_in(self, records: Iterable[ConsumerRecord]) -> None:
        for record in records:
            if (item := self._received(record)) is not None:
                self._waiting.append(item)
            else:
                self.progress.advanced()  # passed over: that is all there was to do

    def _received(self, record: ConsumerRecord) -> _Received | None:
        """The event in a record, or why it is none; None where nobody here handles its type."""
        envelope = None
        try:
            envelope = CloudEvent.model_validate_json(record.value or b"")
            event = self._subscription.event_of(envelope)
            if event and (sender := dict(record.headers or ()).get("traceparent")):
                # The relay's span, within the trace of the cause.
                envelope = envelope.model_copy(update={"traceparent": sender.decode("ascii", "replace")})
            return _Received(record, envelope, event) if event else None
        except Exception as error:  # whatever it is: a record must not stop those behind it
            return _Received(record, envelope, defect=error)

    def _next_try(self) -> float:
        return max(min((item.not_before for item in self._waiting), default=0.0), self._away_until)

    async def _try_waiting(self) -> None:
        """Try what may be tried now, in sequence; what comes of it is no longer waiting."""
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            return
        due, held = [], set()
        for item in self._waiting:
            if item.key in held:
                continue
            if item.not_before > now:
                held.add(item.key)
            else:
                due.append(item)
        settled: set[_Received] = set()
        together = [item for item in due if item.defect is None]
        if len(together) > 1:
            try:
                await self._apply_together(together)
                settled.update(together)
                self._away_pause = FIRST_PAUSE
            except Exception as error:
                log.info("batch_failed", events=len(together), error=_described(error))
        faults = 0
        for item in due:
            if item in settled or item.key in held:
                continue
            if await self._try_alone(item):
                settled.add(item)
                faults, self._away_pause = 0, FIRST_PAUSE
                continue
            held.add(item.key)
            faults = faults + 1 if item.met_fault else 0
            if faults == FAULTS_IN_A_ROW:
                self._rest()
            if self._away_until > now:
                break
        self._waiting = [item for item in self._waiting if item not in settled]

    def _rest(self) -> None:
        """Try nothing for a while, each time longer."""
        self._away_until = asyncio.get_running_loop().time() + self._away_pause
        self._away_pause = min(self._away_pause * 2, LONGEST_PAUSE)

    async def _try_alone(self, item: _Received) -> bool:
        """Whether it is settled: applied or parked."""
        try:
            if item.defect is not None:
                await self._park(item, item.defect)
            else:
                await self._apply_together([item])
        except Exception as error:
            return await self._failed(item, error)
        return True

    async def _failed(self, item: _Received, error: Exception) -> bool:
        """Decide whose fault it is; whether the item is settled now, since it is parked."""
        now = asyncio.get_running_loop().time()
        item.failing_since = item.failing_since or now
        if is_connection_fault(error) and not await self._database_answers():
            log.warning("consumer_waits", error=_described(error), event_type=item.type)
            self._rest()
            return False
        item.met_fault = isinstance(error, Unavailable) or is_connection_fault(error) or is_lock_fault(error)
        if item.met_fault:
            log.warning("consumer_waits", error=_described(error), event_type=item.type)
            others_get_through = item.not_before > 0 and self._got_through[self._is_to_forward(item)] > item.others_then
            item.failures += others_get_through
            is_given_up = item.failures >= self._settings.consumer_attempts and now - item.failing_since >= PATIENCE_SECONDS
        else:
            item.failures += 1
            log.warning("event_failed", event_type=item.type, attempt=item.failures, exc_info=error)
            is_given_up = item.failures >= self._settings.consumer_attempts
        if is_given_up:
            try:
                await self._park(item, error)
            except Exception as fault:
                log.warning("consumer_waits", error=_described(fault), event_type=item.type)
            else:
                return True
        item.others_then = self._got_through[self._is_to_forward(item)]
        item.not_before, item.pause = now + item.pause, min(item.pause * 2, LONGEST_PAUSE)
        return False

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(5):
                await self._database.ping()
        except Exception:
            return False
        return True

    def _is_to_forward(self, item: _Received) -> bool:
        return item.type in self._forwarders

    async def _forward(self, items: Sequence[_Received]) -> None:
        """Pass on those events that have to be passed on, and were not before."""
        async with self._database.reading() as session:
            known = await self._inbox.known(session, [_envelope(item).id for item in items])
        for item in items:
            envelope = _envelope(item)
            if item.is_forwarded or envelope.id in known:
                continue
            with _span_of(envelope):
                await self._forwarders[envelope.type](item.event, envelope)
            item.is_forwarded = True
            known.add(envelope.id)

    async def _apply_together(self, items: Sequence[_Received], *, letters: Sequence[UUID] = ()) -> None:
        """Apply what is new of these, and settle the letters that they come from, if any."""
        if to_forward := [item for item in items if self._is_to_forward(item)]:
            await self._forward(to_forward)
        applied = await in_transaction(self._database, lambda work: self._apply_new(work, items, letters))
        self.progress.advanced()
        now = utc_now()
        lags = {topic: lag_seconds.labels(topic) for topic in {item.record.topic for item in applied}}
        for item in applied:
            envelope = _envelope(item)
            lags[item.record.topic].observe((now - envelope.time).total_seconds())
            log.debug("event_applied", event_type=envelope.type, event_id=envelope.id, order_id=envelope.data.get("order_id"))
        for (topic, kind), count in collections.Counter((item.record.topic, item.type) for item in applied).items():
            self._got_through[kind in self._forwarders] += count
            applied_total.labels(topic, kind).inc(count)

    async def _apply_new(self, work: UnitOfWork, items: Sequence[_Received], letters: Sequence[UUID]) -> list[_Received]:
        applied = []
        fresh = await self._inbox.claim(work, {_envelope(item).id for item in items})
        if letters or (fresh and self._has_letters):
            await dead_letters.settle(work, [*letters, *fresh])
        for item in items:
            identity = _envelope(item).id
            if identity in fresh:
                fresh.discard(identity)  # the same event twice in one batch
                applied.append(item)
        await self._subscription.apply(work, [(item.event, _envelope(item)) for item in applied if item.event])
        return applied

    async def _park(self, item: _Received, error: Exception, identity: UUID | None = None) -> None:
        """Make it a dead letter. What the database does not take as it is, is kept by reference: that cannot fail for ever."""
        record, envelope = item.record, item.envelope
        identity = identity or dead_letters.letter_id(record, envelope)
        self._has_letters = True
        try:
            await dead_letters.park(self._database, identity, record, envelope, _described(error), by_reference=False)
        except Exception as refused:
            if is_connection_fault(refused) or is_lock_fault(refused):
                raise
            await dead_letters.park(self._database, identity, record, envelope, type(error).__name__, by_reference=True)
        self.progress.advanced()
        log.error("event_dead_lettered", topic=record.topic, offset=record.offset, event_type=item.type, error=_described(error))

    async def _look_after_letters(self) -> None:
        """Count the letters, hand back those that are to be tried again, and forget what was settled long ago."""
        loop = asyncio.get_running_loop()
        forget_at = loop.time()
        while True:
            try:
                while await self._replay(await self._count_letters()):
                    pass
                if loop.time() >= forget_at and not await self._forget():
                    forget_at = loop.time() + FORGET_SECONDS
            except Exception as error:
                if not (is_connection_fault(error) or is_lock_fault(error)):
                    raise
                log.warning("dead_letters_wait", error=_described(error))
            await asyncio.sleep(POLL_SECONDS)

    async def _count_letters(self) -> int:
        """How many are to be handed back."""
        async with self._database.reading() as session:
            counts = await dead_letters.counts(session)
        self._has_letters = bool(counts)
        self._topics_with_letters |= {topic for topic, _ in counts} | set(self._subscription.topics)
        for topic in self._topics_with_letters:
            dead_letters_open.labels(self._service, topic).set(counts.get((topic, LetterState.OPEN), 0))
        return sum(count for (_, state), count in counts.items() if state is LetterState.REPLAY)

    async def _replay(self, count: int) -> bool:
        """Hand back some letters; whether there may be more that can be tried now."""
        if not count:
            return False
        letters = await dead_letters.take(self._database, limit=REPLAY_BATCH, lease=REPLAY_LEASE)
        untried = {letter.letter_id for letter in letters}
        try:
            await self._replay_all(letters, untried)
        finally:
            if untried:
                await dead_letters.release(self._database, untried)
        return bool(letters) and not untried and count > len(letters)

    async def _replay_all(self, letters: Sequence[Letter], untried: set[UUID]) -> None:
        """Try them together, or else one by one; takes out of `untried` what was tried. What meets a fault stays in it."""
        last_start = asyncio.get_running_loop().time() + REPLAY_LEASE.total_seconds() / 2
        received = {letter.letter_id: self._received(letter.record()) for letter in letters if not letter.is_reference}
        # What nobody here handles is settled by that: there is nothing to do.
        whole = {identity: item for identity, item in received.items() if item is None or item.defect is None}
        if len(whole) > 1:
            with suppress(Exception):
                await self._apply_together([item for item in whole.values() if item], letters=list(whole))
                untried -= whole.keys()
        for letter in letters:
            if letter.letter_id in untried and asyncio.get_running_loop().time() < last_start and await self._replay_one(letter):
                untried.discard(letter.letter_id)

    async def _replay_one(self, letter: Letter) -> bool:
        """Whether it was tried: it is applied now, or has one attempt more."""
        item: _Received | None = _Received(letter.record())
        try:
            item = self._received(await self._referenced(letter) if letter.is_reference else letter.record())
            if item is not None and item.defect is not None:
                raise item.defect
            await self._apply_together([item] if item else [], letters=[letter.letter_id])
        except Exception as error:
            if isinstance(error, Unavailable | KafkaError) or is_connection_fault(error) or is_lock_fault(error):
                log.warning("dead_letter_waits", error=_described(error))
                return False
            await self._park(item or _Received(letter.record()), error, letter.letter_id)
        return True

    async def _referenced(self, letter: Letter) -> ConsumerRecord:
        """The record that a letter refers to. Raises LookupError if the broker no longer has it."""
        record = await read_record(self._settings, letter.topic, letter.partition or 0, letter.offset or 0)
        if dead_letters.digest_of(record.value) != letter.digest:
            raise LookupError("the broker has another record there now")
        return record

    async def _forget(self) -> bool:
        """Delete some old rows of the inbox, and old letters that are settled; returns whether there may be more."""
        before = utc_now() - timedelta(days=self._settings.inbox_retention_days)
        await dead_letters.forget(self._database, before)
        return await in_transaction(self._database, lambda work: self._inbox.forget(work, before))


def _envelope(item: _Received) -> CloudEvent:
    if item.envelope is None:
        raise ValueError("this record is no event")
    return item.envelope


def _span_of(envelope: CloudEvent) -> AbstractContextManager[trace.Span]:
    """Within the trace of the event's cause. What a job has told of belongs to no trace, and applying it begins none."""
    if envelope.traceparent is None:
        return trace.use_span(trace.INVALID_SPAN)
    return span_after(tracer, f"apply {envelope.type}", envelope.traceparent, envelope.time, trace.SpanKind.CONSUMER)


def _is_recorded(envelope: CloudEvent) -> bool:
    """Whether the trace of the event's cause is recorded."""
    return span_of(envelope.traceparent).trace_flags.sampled


def _described(error: Exception) -> str:
    """The error in one line, without the values that a validation error repeats: they may be personal data."""
    text = str(error)
    if isinstance(error, ValidationError):
        text = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False))
    return f"{type(error).__name__}: {text}"

"""From the commit of a change to the commit of its effect in another service."""

import asyncio
import time
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from opentelemetry import trace
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from chassis.clock import utc_now
from chassis.store import UnitOfWork
from chassis.telemetry import NoTraceBeginsWithACall
from contracts.errors import ErrorCode, Refusal
from contracts.events import CloudEvent, OrderCompleted
from tests.conftest import eventually
from tests.events.conftest import World, in_background, take_effect

RATE, EVENTS = 50, 300
TELL = """
    create function tell() returns trigger language plpgsql as
    $$ begin perform pg_notify('effects', new.order_id::text); return null; end $$;
    create trigger tell after insert on effects for each row execute function tell()"""


async def test_the_lag_from_commit_to_effect(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A steady 50 events a second, each of another order."""
    committed: dict[UUID, float] = {}
    applied: dict[UUID, float] = {}
    listener = await asyncpg.connect(world.dsn)
    await listener.execute(TELL)
    # PostgreSQL tells us of each effect at its commit.
    await listener.add_listener("effects", lambda *told: applied.setdefault(UUID(told[-1]), time.monotonic()))

    async def all_applied() -> bool:
        return committed.keys() <= applied.keys()

    async def happen(at: float) -> None:
        await asyncio.sleep(at - time.monotonic())
        order = uuid4()
        await world.record(order, 1)
        committed[order] = time.monotonic()

    async with in_background(world.relay(), world.consumer()):
        await happen(time.monotonic())
        await eventually(all_applied)  # the group has formed
        committed.clear()
        start = time.monotonic()
        await asyncio.gather(*[happen(start + number / RATE) for number in range(EVENTS)])
        await eventually(all_applied)
    await listener.close()
    lags = sorted((applied[order] - committed[order]) * 1000 for order in committed)
    with capsys.disabled():
        print(f"\ncommit to effect at {RATE}/s: p50 {lags[EVENTS // 2]:.0f} ms, p99 {lags[EVENTS * 99 // 100]:.0f} ms")
    assert lags[EVENTS // 2] < 1000  # the slowest ones tell of a busy machine only


async def test_the_trace_of_the_cause_reaches_the_effect(world: World) -> None:
    seen: list[SpanContext] = []

    async def look(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        seen.append(trace.get_current_span().get_span_context())
        await take_effect(work, event, envelope)

    cause = SpanContext(trace_id=uuid4().int, span_id=0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with trace.use_span(NonRecordingSpan(cause)):
        await world.record(uuid4(), 1)
    async with in_background(world.relay(), world.consumer(look)):
        await world.until_applied(1)
    assert [context.trace_id for context in seen] == [cause.trace_id]


async def test_what_is_read_while_others_are_applied_is_not_lost_with_the_consumer(world: World) -> None:
    started = asyncio.Event()

    async def never(work: UnitOfWork, event: OrderCompleted, _: CloudEvent) -> None:
        started.set()
        await asyncio.Event().wait()

    orders = {uuid4(): [1], uuid4(): [1]}
    first, second = orders
    consumer = world.consumer(never)

    async def both_read() -> bool:
        return len(consumer._waiting) == 2

    async with in_background(world.relay(), consumer):
        await world.record(first, 1)
        await started.wait()
        await world.record(second, 1)
        await eventually(both_read, what="the second event read while the first is applied")
    async with in_background(world.consumer()):
        await world.until_applied(2)
    assert await world.effects() == orders


async def test_e3_nobodys_own_statements_make_traces(world: World) -> None:
    """What is recorded of the relay and the consumer belongs to the trace of the event that they work on (review 1, E3)."""
    told = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(NoTraceBeginsWithACall(1.0)))
    provider.add_span_processor(SimpleSpanProcessor(told))
    instrumentor = AsyncPGInstrumentor()  # type: ignore[no-untyped-call]
    instrumentor.instrument(tracer_provider=provider)
    cause = SpanContext(trace_id=uuid4().int, span_id=0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    try:
        with trace.use_span(NonRecordingSpan(cause)):
            await world.record(uuid4(), 1)
        async with in_background(world.relay(), world.consumer()):
            await world.until_applied(1)
    finally:
        instrumentor.uninstrument()
    spans = told.get_finished_spans()
    assert any("insert into effects" in str(span.attributes).lower() for span in spans)
    assert {span.context.trace_id for span in spans if span.context} == {cause.trace_id}


async def test_poison_is_parked_and_the_rest_goes_on(world: World) -> None:
    """Garbage, a type from next year and an event that its handler refuses, all in the way of good ones."""
    order, others = uuid4(), [uuid4() for _ in range(10)]

    async def refuses(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        if event.order_id == order and int(event.total.amount) == 2:
            raise Refusal(ErrorCode.CONFLICT, "two is not welcome")
        await take_effect(work, event, envelope)

    unknown = CloudEvent(id=uuid4(), source="/x", type="Unheard", subject="x", time=utc_now(), partitionkey="x", data={})
    producer = AIOKafkaProducer(bootstrap_servers=world.broker.bootstrap)
    await producer.start()
    for value in (b"\xff\xfegarbage", b"{}", b"", unknown.model_dump_json().encode()):
        await producer.send_and_wait(world.topic, value, key=str(order).encode())
    await producer.stop()
    for other in others:
        await world.record(other, 1)
    await world.record(order, 1, 2, 3)
    async with in_background(world.relay(), world.consumer(refuses)):
        await world.until_applied(12)
        assert await world.effects() == {order: [1, 3], **{other: [1] for other in others}}

        async def parked() -> bool:
            return len(await world.rows("select 1 from dead_letters")) == 4

        await eventually(parked)
    errors = sorted(row["error"] for row in await world.rows("select error from dead_letters"))
    assert errors[0] == "Refusal: two is not welcome"
    assert all(error.startswith("ValidationError: ") for error in errors[1:])
    [row] = await world.rows("select count(*) as count from inbox")
    assert row["count"] == 12

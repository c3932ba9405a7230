"""State and event are one commit; what is recorded is a CloudEvent with the trace of its cause."""

import asyncio
import json
from uuid import UUID, uuid4

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from sqlalchemy import func, insert, select

from chassis.outbox import CHANNEL, MAX_BYTES
from chassis.statements import Write
from contracts.events import OrderCancelled
from contracts.money import Money
from tests.conftest import changing, eventually
from tests.events.conftest import World, outbox, states

ENVELOPES = "select seq, event_id, topic, key, envelope::text as envelope from outbox order by seq"


async def test_state_and_event_are_one_commit(world: World) -> None:
    kept, undone = uuid4(), uuid4()
    await world.record(kept, 1)

    async def half_done() -> None:
        async with changing(world.database) as work:
            await work.rows(insert(states).values(order_id=undone, number=1))
            outbox.add(work, world.event(undone, 1))
            raise RuntimeError("after both were written")

    with pytest.raises(RuntimeError):
        await half_done()
    assert await world.states() == {kept: [1]}
    assert [row["key"] for row in await world.rows(ENVELOPES)] == [str(kept)]


async def test_the_relay_is_notified_at_the_commit_and_only_then(world: World) -> None:
    heard: list[str] = []
    listener = await asyncpg.connect(world.dsn)
    await listener.add_listener(CHANNEL, lambda *_: heard.append("woken"))

    async def woken() -> bool:
        return bool(heard)

    async def undone() -> None:
        async with changing(world.database) as work:
            outbox.add(work, world.event(uuid4(), 1), world.event(uuid4(), 2))
            work.at_last(Write("insert into states (order_id) values (null) returning 1", [], 1))

    try:
        with pytest.raises(asyncpg.NotNullViolationError):
            await undone()
        async with changing(world.database) as work:
            outbox.add(work, world.event(uuid4(), 3))
            await listener.execute("select 1")  # what had been sent would have come before this answer
            assert heard == []
        await eventually(woken)
        await listener.execute("select 1")
        assert heard == ["woken"]
    finally:
        await listener.close()


async def test_an_event_is_a_cloud_event_with_the_trace_of_its_cause(world: World) -> None:
    cause = SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    order = uuid4()
    with trace.use_span(NonRecordingSpan(cause)):
        await world.record(order, 1)
    [row] = await world.rows(ENVELOPES)
    envelope = json.loads(row["envelope"])
    assert envelope == {
        "specversion": "1.0",
        "id": str(row["event_id"]),
        "source": "/services/order",
        "type": "OrderCompleted",
        "subject": str(order),
        "time": envelope["time"],
        "datacontenttype": "application/json",
        "partitionkey": str(order),
        "traceparent": "00-00000000000000000000000000000abc-0000000000000def-01",
        "data": {
            "order_id": str(order),
            "customer_id": str(order),
            "total": {"amount": "1", "currency": "USD"},
            "refunded": None,
        },
    }
    assert envelope["time"].endswith("Z")
    assert UUID(envelope["id"]).version == 7
    assert row["topic"] == world.topic


async def test_the_events_of_one_aggregate_get_rising_numbers_under_concurrency(world: World) -> None:
    orders = [uuid4() for _ in range(4)]

    async def happen(order: UUID) -> None:
        for _ in range(15):
            async with changing(world.database) as work:
                await work.lock(order)  # as commands do it: lock, look, change, tell
                seen = select(func.count()).select_from(states).where(states.c.order_id == order)
                [(number,)] = await work.rows(seen)
                await work.rows(insert(states).values(order_id=order, number=number))
                outbox.add(work, world.event(order, number))

    await asyncio.gather(*[happen(order) for order in orders for _ in range(3)])
    told: dict[str, list[int]] = {}
    for row in await world.rows(ENVELOPES):
        told.setdefault(row["key"], []).append(int(json.loads(row["envelope"])["data"]["total"]["amount"]))
    assert told == {str(order): list(range(45)) for order in orders}


async def test_an_event_that_no_broker_would_take_is_refused_at_once(world: World) -> None:
    event = OrderCancelled(
        order_id=uuid4(),
        customer_id=uuid4(),
        total=Money.zero(),
        refunded=Money.zero(),
        was_confirmed=False,
        reason="é" * (MAX_BYTES // 2),
    )
    with pytest.raises(ValueError, match="larger than"):
        async with changing(world.database) as work:
            outbox.add(work, event)
    assert await world.rows(ENVELOPES) == []

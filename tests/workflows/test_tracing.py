"""What is recorded of a workflow, and what its steps belong to: docs/adr/0027."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import uuid4

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind
from pydantic import BaseModel
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from activities import all_activities
from activities.calls import Reply
from chassis.telemetry import REQUEST_HEADER, context_of, request_id, tracer_provider
from contracts.orders import OrderStatus, PlaceOrder
from temporal.client import data_converter
from temporal.refusals import RefusalInterceptor
from temporal.step_log import StepLog
from temporal.tracing import OrderTracing
from testing.model import World
from testing.model.world import unavailable
from testing.sagas import Saga, place_order, playing
from tests.conftest import eventually
from worker import SANDBOX, WORKFLOWS


class Recorded:
    """The spans of a client and a worker that share a provider."""

    def __init__(self) -> None:
        self.provider: TracerProvider = tracer_provider("test", 1.0)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    @property
    def names(self) -> list[str]:
        return [span.name for span in self._exporter.get_finished_spans()]

    @contextmanager
    def request(self, *, sampled: bool = True) -> Iterator[int]:
        """Somebody's request is under way: the id of its trace."""
        flags = "01" if sampled else "00"
        headers = {"traceparent": f"00-{uuid4().hex}-{uuid4().hex[:16]}-{flags}", REQUEST_HEADER: "asked-1"}
        token = context.attach(context_of(headers))
        try:
            with self.tracer.start_as_current_span("request", kind=SpanKind.SERVER) as span:
                yield span.get_span_context().trace_id
        finally:
            context.detach(token)


def context_of_span(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


class WatchedWorld(World):
    """Remembers which span and request each call to a service belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, SpanContext, str | None]] = []

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        self.seen.append((type(body).__name__, trace.get_current_span().get_span_context(), request_id()))
        return await super().post(path, body, reply)

    def traces(self) -> dict[str, int]:
        """The trace of each command; the last one's, if there were several of a kind."""
        return {name: span.trace_id for name, span, _ in self.seen}


@asynccontextmanager
async def traced(
    env: WorkflowEnvironment, world: World, order: PlaceOrder, recorded: Recorded, *, cached: int = 10
) -> AsyncIterator[Saga]:
    """A client and a worker that trace. With `cached=0` each task of the workflow begins with a replay."""
    world.orders.accept(order)
    config = env.client.config()
    config["interceptors"] = [*config["interceptors"], OrderTracing(recorded.tracer)]  # the others skip the time
    client = Client(**config)
    queue = f"orders-{uuid4()}"
    async with Worker(
        client,
        task_queue=queue,
        workflows=WORKFLOWS,
        activities=all_activities(lambda service: world),
        interceptors=[StepLog(), RefusalInterceptor()],
        workflow_runner=SANDBOX,
        max_cached_workflows=cached,
    ):
        yield Saga(WorkflowEnvironment.from_client(client), queue, order)


@pytest.mark.parametrize("cached", [10, 0])
async def test_what_a_start_leads_to_is_in_its_trace_once_however_often_it_is_replayed(
    env: WorkflowEnvironment, cached: int
) -> None:
    world, order, recorded = WatchedWorld(), place_order(), Recorded()
    async with traced(env, world, order, recorded, cached=cached) as saga:
        with recorded.request() as placing:
            await saga.place()
        run = recorded.one("RunWorkflow:Order")
        start = recorded.one("StartUpdateWithStartWorkflow:Order")
        assert run.parent is not None
        assert run.parent.span_id == context_of_span(start).span_id
        steps = [recorded.one(f"RunActivity:{step}") for step in ("ReserveInventory", "ProcessPayment", "CreateShipment")]
        assert {step.parent.span_id for step in steps if step.parent} == {context_of_span(run).span_id}
        assert {span.trace_id for _, span, _ in world.seen} == {placing}
        assert {asked for _, _, asked in world.seen} == {"asked-1"}

        with recorded.request() as reporting:
            await saga.report("DISPATCHED")

        async def shipped() -> bool:
            return "ShipInventory" in world.calls

        await eventually(shipped)
        signal = recorded.one("HandleSignal:shipment_updated")
        assert context_of_span(signal).trace_id == reporting
        assert [link.context.trace_id for link in signal.links] == [placing]
        shipping = recorded.one("RunActivity:ShipInventory")
        assert shipping.parent is not None
        assert shipping.parent.span_id == context_of_span(signal).span_id
        await saga.report("DELIVERED")
        await saga.handle.result()
        history = await saga.handle.fetch_history()
    before = recorded.names
    replayer = Replayer(
        workflows=WORKFLOWS,
        data_converter=data_converter,
        workflow_runner=SANDBOX,
        interceptors=[OrderTracing(recorded.tracer)],
    )
    await replayer.replay_workflow(history)
    assert recorded.names == before
    assert len(recorded.named("RunWorkflow:Order")) == 1


async def test_a_history_without_headers_replays_and_one_with_headers_replays_without_the_interceptor(
    env: WorkflowEnvironment,
) -> None:
    """Headers are no part of what is compared: neither old orders nor tools without tracing are harmed."""
    traced_order, plain_order, recorded = place_order(), place_order(), Recorded()
    async with traced(env, World(), traced_order, recorded) as saga:
        with recorded.request():
            await saga.place()
        with_headers = await saga.handle.fetch_history()
    async with playing(env, World(), plain_order) as saga:
        await saga.place()
        without = await saga.handle.fetch_history()
    for history, interceptors in ((with_headers, []), (without, [OrderTracing(recorded.tracer)])):
        replayer = Replayer(
            workflows=WORKFLOWS, data_converter=data_converter, workflow_runner=SANDBOX, interceptors=interceptors
        )
        await replayer.replay_workflow(history)


async def test_what_a_deadline_leads_to_is_a_trace_of_its_own(env: WorkflowEnvironment) -> None:
    """Nobody approves the order for a day."""
    world, order, recorded = WatchedWorld(), place_order(needs_review=True), Recorded()
    async with traced(env, world, order, recorded) as saga:
        with recorded.request() as placing:
            await saga.place()
        state = await saga.handle.result()
    assert state.status == OrderStatus.CANCELLED
    later = recorded.one("ContinueWorkflow:Order")
    assert later.parent is None
    assert [link.context.trace_id for link in later.links] == [placing]
    assert context_of_span(later).trace_id != placing
    assert world.traces()["ReserveInventory"] == placing
    assert world.traces()["RefundPayment"] == context_of_span(later).trace_id
    assert world.traces()["ReleaseInventory"] == context_of_span(later).trace_id


async def test_a_late_attempt_is_a_trace_of_its_own(env: WorkflowEnvironment) -> None:
    """An undo that fails for hours: its first attempts are in the trace of the cancel, the later ones are not."""
    world, order, recorded = WatchedWorld(), place_order(), Recorded()
    world.before["RefundPayment"] = [unavailable] * 30
    async with traced(env, world, order, recorded) as saga:
        with recorded.request():
            await saga.place()
        with recorded.request() as cancelling:
            await saga.handle.signal("cancel", {"reason": "changed my mind"})
        await saga.handle.result()
    attempts = [span.trace_id for name, span, _ in world.seen if name == "RefundPayment"]
    assert attempts[0] == cancelling
    assert attempts[-1] != cancelling
    late = recorded.named("RetryActivity:RefundPayment")[-1]
    assert context_of_span(late).trace_id == attempts[-1]
    assert [link.context.trace_id for link in late.links] == [cancelling]


async def test_what_is_not_recorded_is_known_by_its_trace_all_the_same(env: WorkflowEnvironment) -> None:
    world, order, recorded = WatchedWorld(), place_order(), Recorded()
    async with traced(env, world, order, recorded) as saga:
        with recorded.request(sampled=False) as placing:
            await saga.place()
    assert {span.trace_id for _, span, _ in world.seen} == {placing}
    assert recorded.names == []

"""Spans go to a collector over OTLP, and belong to the trace that the service goes on with."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conftest import eventually
from tests.gateway.conftest import CLIENT_TRACE, Exchange, Start, Upstream


class Collector(Upstream):
    """Keeps the spans that are sent to it."""

    def __init__(self) -> None:
        super().__init__("collector", {})
        self.spans: list[Span] = []
        self.handler = self.collect

    async def collect(self, exchange: Exchange) -> None:
        assert exchange.request.target == "/v1/traces"
        export = ExportTraceServiceRequest.FromString(exchange.request.body)
        self.spans += [span for resource in export.resource_spans for scope in resource.scope_spans for span in scope.spans]
        await exchange.answer(200, b"")

    def of(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id.hex() == trace_id]


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    async with collector.running():
        yield collector


async def test_a_request_has_a_span_that_the_services_span_is_a_child_of(start: Start, collector: Collector) -> None:
    door = await start(otel_exporter_otlp_endpoint=collector.url, otel_trace_ratio=1)
    await door.client.get("/api/v1/products/x?secret=1", headers=CLIENT_TRACE)
    refused = (await door.client.get("/api/v1/orders")).json()
    _, trace_id, span_id, flags = (door["catalog"].seen[0].header("traceparent") or "").split("-")
    assert trace_id not in CLIENT_TRACE["traceparent"], "a stranger does not decide what is recorded"
    assert flags == "01"

    async def arrived() -> bool:
        return bool(collector.of(trace_id) and collector.of(refused["trace_id"]))

    await eventually(arrived, what="the spans to arrive")
    spans = collector.of(trace_id)
    assert span_id in {span.span_id.hex() for span in spans}
    assert {span.name for span in spans} == {"/api/v1/products"}
    for word in ("secret", "python-httpx2"):
        assert word not in str(spans), word
    assert {tag.value.string_value for span in spans for tag in span.attributes if tag.key == "peer.address"} == {"-"}


async def test_without_being_sampled_nothing_is_sent(start: Start, collector: Collector) -> None:
    door = await start(otel_exporter_otlp_endpoint=collector.url, otel_trace_ratio=0)
    await door.client.get("/api/v1/products", headers=CLIENT_TRACE)
    assert (door["catalog"].seen[0].header("traceparent") or "").endswith("-00")
    await asyncio.sleep(1)
    assert not collector.spans


async def test_a_trusted_proxys_trace_goes_on(start: Start, collector: Collector) -> None:
    door = await start(otel_exporter_otlp_endpoint=collector.url, otel_trace_ratio=0, trusted_proxies="127.0.0.1")
    await door.client.get("/api/v1/products", headers=CLIENT_TRACE)
    trace_id = CLIENT_TRACE["traceparent"].split("-")[1]

    async def arrived() -> bool:
        return bool(collector.of(trace_id))

    await eventually(arrived, what="the span to arrive")
    assert trace_id in (door["catalog"].seen[0].header("traceparent") or "")

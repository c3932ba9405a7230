"""What spans tell."""

import httpx2
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.access import AccessTable, Open
from chassis.service import new_app
from chassis.telemetry import QueryRedaction


async def test_no_span_tells_the_token_of_a_link() -> None:
    access, told = AccessTable({"follow": Open.PUBLIC}), InMemorySpanExporter()
    links = access.router()

    @links.get("/links/reset")
    async def follow(token: str) -> str:
        return token

    provider = TracerProvider()
    provider.add_span_processor(QueryRedaction())
    provider.add_span_processor(SimpleSpanProcessor(told))
    trace.set_tracer_provider(provider)
    app = new_app("Links", "", [links], {}, access)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        assert (await client.get("/links/reset?token=secret")).status_code == 200
    spans = told.get_finished_spans()
    assert spans
    assert "secret" not in "".join(span.to_json() for span in spans)
    provider.shutdown()

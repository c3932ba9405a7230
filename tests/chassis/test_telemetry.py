"""What spans tell."""

from datetime import timedelta

import httpx2
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.access import AccessTable, Open
from chassis.clock import utc_now
from chassis.service import new_app
from chassis.telemetry import QueryRedaction, span_after, tracer_provider


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


async def test_what_is_done_long_after_its_cause_is_a_trace_of_its_own() -> None:
    provider, told = tracer_provider("late", 0.0), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(told))
    tracer, cause = provider.get_tracer(__name__), "a" * 32
    for minutes, flags in ((0, "01"), (11, "01"), (11, "00")):
        with span_after(tracer, "late", f"00-{cause}-{'b' * 16}-{flags}", utc_now() - timedelta(minutes=minutes)):
            pass
    soon, late = told.get_finished_spans()
    assert soon.parent is not None
    assert (soon.parent.trace_id, list(soon.links)) == (int(cause, 16), [])
    assert late.parent is None
    assert [link.context.trace_id for link in late.links] == [int(cause, 16)]
    provider.shutdown()

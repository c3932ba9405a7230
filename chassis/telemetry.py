"""Traces through OpenTelemetry, metrics through Prometheus."""

from collections.abc import Mapping

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased


class QueriesUntold(SpanProcessor):
    """Keeps queries out of spans: a link from a mail has its token there, a search what a person looked for."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.attributes and "url.query" in span.attributes:
            span.set_attribute("url.query", "REDACTED")


def configure_tracing(service: str, otlp_endpoint: str | None, ratio: float) -> TracerProvider:
    """The process's tracer. Without an endpoint nothing is recorded, yet trace ids are still made and passed on."""
    sampler = ParentBased(TraceIdRatioBased(ratio if otlp_endpoint else 0.0))
    provider = TracerProvider(sampler=sampler, resource=Resource.create({"service.name": service}))
    if otlp_endpoint:
        # Imported where it is needed: it brings an HTTP client of its own, and most processes on a laptop have no collector.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

        provider.add_span_processor(QueriesUntold())
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{otlp_endpoint.rstrip('/')}/v1/traces")))
        AsyncPGInstrumentor().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    trace.set_tracer_provider(provider)
    return provider


def trace_headers() -> dict[str, str]:
    """`traceparent` (and `tracestate`) of what is going on now, to be sent along."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def context_of(headers: Mapping[str, str]) -> Context:
    """The context that a message or request came from."""
    return propagate.extract(headers)


def trace_id() -> str | None:
    """Hex id of the current trace, if there is one."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else None

"""Traces through OpenTelemetry, metrics through Prometheus."""

from collections.abc import Mapping, Sequence

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class QueryRedaction(SpanProcessor):
    """Removes query strings from spans: a link in a mail has its token there, a search what a person looked for."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.attributes and "url.query" in span.attributes:
            span.set_attribute("url.query", "REDACTED")


class NoTraceBeginsWithACall(Sampler):
    """Begins no trace with a call that we make ourselves: a statement of the relay, of a job or of a probe belongs to nothing.

    Such a call is recorded where it is a part of something, which then has begun the trace."""

    def __init__(self, ratio: float) -> None:
        self._of_the_rest = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if kind is SpanKind.CLIENT:
            return SamplingResult(Decision.DROP)
        return self._of_the_rest.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"NoTraceBeginsWithACall({self._of_the_rest.get_description()})"


def configure_tracing(service: str, otlp_endpoint: str | None, ratio: float) -> TracerProvider:
    """The process's tracer. Without an endpoint nothing is recorded, yet trace ids are still made and passed on."""
    sampler = ParentBased(NoTraceBeginsWithACall(ratio if otlp_endpoint else 0.0))
    provider = TracerProvider(sampler=sampler, resource=Resource.create({"service.name": service}))
    if otlp_endpoint:
        # Imported where it is needed: it brings an HTTP client of its own, and most processes on a laptop have no collector.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

        provider.add_span_processor(QueryRedaction())
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

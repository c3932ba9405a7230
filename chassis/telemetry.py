"""Traces through OpenTelemetry, metrics through Prometheus.

Two things go from process to process with what is done: the trace (`traceparent`, W3C Trace Context) and the gateway's id of the
request (`x-request-id`). In HTTP they are headers, in Temporal they share a header (temporal/tracing.py), and an event has the
trace. Baggage is neither taken nor sent: what we do not know of cannot leak.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from opentelemetry import context as current
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import CarrierT, Getter, Setter, TextMapPropagator, default_getter, default_setter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from chassis.clock import utc_now

TRACE_LASTS = timedelta(minutes=10)
"""What begins later after its cause is a trace of its own, with a link to that of the cause."""
REQUEST_HEADER = "x-request-id"
_REQUEST = current.create_key("request_id")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds(TextMapPropagator):
    """Carries the id that the gateway gave a request."""

    def extract(self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter) -> Context:
        context = current.get_current() if context is None else context
        found = getter.get(carrier, REQUEST_HEADER)
        if not found or not _REQUEST_ID.fullmatch(found[0]):
            return context
        return current.set_value(_REQUEST, found[0], context)

    def inject(self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter) -> None:
        if (found := request_id(context)) is not None:
            setter.set(carrier, REQUEST_HEADER, found)

    @property
    def fields(self) -> set[str]:
        return {REQUEST_HEADER}


PROPAGATOR = CompositePropagator([TraceContextTextMapPropagator(), RequestIds()])
"""What goes from process to process."""
propagate.set_global_textmap(PROPAGATOR)


class QueryRedaction(SpanProcessor):
    """Removes query strings from spans: a link in a mail has its token there, a search what a person looked for."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.attributes and "url.query" in span.attributes:
            span.set_attribute("url.query", "REDACTED")


class NoTraceBeginsWithACall(Sampler):
    """Begins no trace with a call that we make ourselves: a statement of the relay, of a job or of a probe belongs to nothing.

    Such a call is recorded where it is a part of something, which then has begun the trace. What goes on from another trace (it
    has a link to it) is recorded if that one is."""

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
        if links:
            is_sampled = links[0].context.trace_flags.sampled
            return SamplingResult(Decision.RECORD_AND_SAMPLE if is_sampled else Decision.DROP, attributes)
        return self._of_the_rest.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"NoTraceBeginsWithACall({self._of_the_rest.get_description()})"


_NEXT_IDS: ContextVar[tuple[int, int] | None] = ContextVar("next_ids", default=None)


@contextmanager
def span_ids(trace_id: int, span_id: int) -> Iterator[None]:
    """A span that is begun inside has these ids; the trace's counts for one that begins a trace."""
    token = _NEXT_IDS.set((trace_id, span_id))
    try:
        yield
    finally:
        _NEXT_IDS.reset(token)


class _Ids(RandomIdGenerator):
    """Ids by chance, unless `span_ids` says which."""

    def generate_trace_id(self) -> int:
        return given[0] if (given := _NEXT_IDS.get()) else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return given[1] if (given := _NEXT_IDS.get()) else super().generate_span_id()


def tracer_provider(service: str, ratio: float) -> TracerProvider:
    """A process's spans: which are recorded, and under which name."""
    sampler = ParentBased(NoTraceBeginsWithACall(ratio))
    return TracerProvider(sampler=sampler, resource=Resource.create({"service.name": service}), id_generator=_Ids())


def configure_tracing(service: str, otlp_endpoint: str | None, ratio: float) -> TracerProvider:
    """The process's tracer. Without an endpoint nothing is recorded, yet trace ids are still made and passed on."""
    provider = tracer_provider(service, ratio if otlp_endpoint else 0.0)
    if otlp_endpoint:
        # Imported where it is needed: it brings an HTTP client of its own, and most processes on a laptop have no collector.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

        provider.add_span_processor(QueryRedaction())
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{otlp_endpoint.rstrip('/')}/v1/traces")))
        AsyncPGInstrumentor().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    trace.set_tracer_provider(provider)
    return provider


def trace_headers(context: Context | None = None) -> dict[str, str]:
    """`traceparent` (and `tracestate`) of what is going on now, or in `context`, and the request's id, to be sent along."""
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, context)
    return carrier


def context_of(headers: Mapping[str, str]) -> Context:
    """The context that a message or request came from."""
    return PROPAGATOR.extract(headers)


def trace_id() -> str | None:
    """Hex id of the current trace, if there is one."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else None


def request_id(context: Context | None = None) -> str | None:
    """The gateway's id of the request that this is done for, if it is done for one."""
    found = current.get_value(_REQUEST, context)
    return found if isinstance(found, str) else None


@contextmanager
def span_after(
    tracer: trace.Tracer, name: str, traceparent: str | None, caused_at: datetime, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[trace.Span]:
    """A span of what is done now for a cause of then: in its trace, or, long after it, in one of its own with a link to it."""
    context, links = context_of({"traceparent": traceparent or ""}), []
    if utc_now() - caused_at > TRACE_LASTS and (cause := span_of(traceparent)).is_valid:
        context, links = Context(), [Link(cause)]
    with tracer.start_as_current_span(name, context, kind=kind, links=links) as span:
        yield span


def span_of(traceparent: str | None) -> SpanContext:
    """The span that a `traceparent` names; an invalid one if there is none."""
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""}, Context())
    return trace.get_current_span(context).get_span_context()


@dataclass(frozen=True)
class RequestContext:
    """What something is done for, to be kept until it is done."""

    traceparent: str | None = field(default_factory=lambda: trace_headers().get("traceparent"))
    request_id: str | None = field(default_factory=request_id)

    def for_log(self) -> dict[str, str | None]:
        """What a log line says of it."""
        span = span_of(self.traceparent)
        if not span.is_valid:
            return {"request_id": self.request_id}
        return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}", "request_id": self.request_id}

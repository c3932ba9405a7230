"""The trace of an order, through Temporal: from whoever starts or tells a workflow to the activities that follow from it.

Calls and activities are spans of the SDK's own interceptor. Within the workflow this module takes its place, for two reasons: an
order waits for days, and must not keep one trace open all the time; and what is not recorded should cost next to nothing.

- What a start leads to belongs to the trace of the start; what a signal or an update leads to, to the trace of that.
- What begins long after its cause (a timer, a late retry) begins a trace of its own.
- Each of them has a link to the trace in which the workflow was started. docs/adr/0027 says why.

A workflow's spans have ids that follow from its run and from how many there were before; so what is done again after a lost task
or in a replay has the same parents as the first time, and nothing is recorded during a replay.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NoReturn

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.client import OutboundInterceptor
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.worker import (
    ActivityInboundInterceptor,
    ContinueAsNewInput,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    StartActivityInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from chassis.telemetry import PROPAGATOR, TRACE_LASTS, context_of, span_ids, span_of
from temporal.names import ASKING_UPDATES

HEADER = "_tracer-data"
"""Where the SDK's interceptor puts it."""
_RECORD = "commerce_record_span"
Carrier = Mapping[str, str]


@dataclass(frozen=True)
class WorkflowSpan:
    """A moment in a workflow. `parent`: what caused it; without one it begins a trace. `link`: what started the workflow."""

    name: str
    trace_id: int
    span_id: int
    parent: Carrier | None
    link: Carrier | None
    at_ns: int
    attributes: Mapping[str, str]


class OrderTracing(ClientInterceptor, Interceptor):
    """For a client of Temporal. A worker takes it from its client."""

    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        """`tracer`: whose provider is made by `chassis.telemetry`; the process's own if none is given."""
        self._tracer = tracer or trace.get_tracer(__name__)
        self._sdk = TracingInterceptor(self._tracer)
        self._sdk.header_key, self._sdk.text_map_propagator = HEADER, PROPAGATOR

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return self._sdk.intercept_client(next)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _LateAttempts(self._sdk.intercept_activity(next), self._tracer)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        input.unsafe_extern_functions[_RECORD] = self._record
        return _Workflow

    def _record(self, span: WorkflowSpan) -> None:
        """It has no length: a span that is open for days would be lost with the process."""
        links = [Link(span_of(span.link.get("traceparent")))] if span.link else []
        with span_ids(span.trace_id, span.span_id):
            begun = self._tracer.start_span(
                span.name,
                context_of(span.parent or {}),
                kind=SpanKind.SERVER,
                attributes=span.attributes,
                links=links,
                start_time=span.at_ns,
            )
        begun.end(end_time=span.at_ns)


class _LateAttempts(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, tracer: trace.Tracer) -> None:
        super().__init__(next)
        self._tracer = tracer

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """An attempt that comes long after the first is a trace of its own, with a link to the one that the first belongs to."""
        info, payload = activity.info(), input.headers.get(HEADER)
        if payload is None or info.current_attempt_scheduled_time - info.scheduled_time <= TRACE_LASTS:
            return await super().execute_activity(input)
        carrier = _carrier_of(payload)
        input.headers = {key: value for key, value in input.headers.items() if key != HEADER}
        nowhere = trace.set_span_in_context(trace.INVALID_SPAN, context_of(carrier))
        links = [Link(span_of(carrier.get("traceparent")))]
        name = f"RetryActivity:{info.activity_type}"
        with self._tracer.start_as_current_span(name, nowhere, kind=SpanKind.SERVER, links=links):
            return await super().execute_activity(input)


class _Workflow(WorkflowInboundInterceptor):
    """What happens in a workflow, and what the activities that it begins belong to."""

    def __init__(self, next: WorkflowInboundInterceptor) -> None:
        super().__init__(next)
        self._started_by: Carrier | None = None
        self._cause: Payload | None = None
        self._cause_came = 0.0
        self._spans = 0
        self._is_begun = False

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound, self))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        self._begin()
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        self._caused_by(f"HandleSignal:{input.signal}", input.headers)
        await super().handle_signal(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        self._begin()
        if input.update not in ASKING_UPDATES:
            self._caused_by(f"HandleUpdate:{input.update}", input.headers)
        return await super().handle_update_handler(input)

    def header(self) -> dict[str, Payload]:
        """For an activity that begins now."""
        self._begin()
        if self._started_by is None and self._cause is None:
            return {}  # started by somebody who says nothing of a trace
        if self._cause is None or workflow.time() - self._cause_came > TRACE_LASTS.total_seconds():
            self._mark(f"ContinueWorkflow:{workflow.info().workflow_type}", None)
        assert self._cause is not None
        return {HEADER: self._cause}

    def header_for_next_run(self) -> dict[str, Payload]:
        """It is told where the workflow was started, and begins a trace of its own."""
        return {HEADER: _payload_of(self._started_by)} if self._started_by else {}

    def _begin(self) -> None:
        """The update that comes with a start is handled before the workflow itself begins."""
        if self._is_begun:
            return
        self._is_begun, info = True, workflow.info()
        payload = info.headers.get(HEADER)
        self._started_by = _carrier_of(payload) if payload else None
        if self._started_by and info.continued_run_id is None:
            self._mark(f"RunWorkflow:{info.workflow_type}", self._started_by)

    def _caused_by(self, name: str, headers: Mapping[str, Payload]) -> None:
        self._begin()
        payload = headers.get(HEADER)
        if payload is not None or self._started_by is not None:
            self._mark(name, _carrier_of(payload) if payload else None)

    def _mark(self, name: str, parent: Carrier | None) -> None:
        """From here on, all that begins belongs to this."""
        info = workflow.info()
        number, self._spans = self._spans, self._spans + 1
        digest = blake2b(f"{info.run_id}/{number}".encode(), digest_size=24).digest()
        caused, started = span_of((parent or {}).get("traceparent")), span_of((self._started_by or {}).get("traceparent"))
        trace_id = caused.trace_id if caused.is_valid else int.from_bytes(digest[:16]) or 1
        span_id = int.from_bytes(digest[16:]) or 1
        is_sampled = (caused if caused.is_valid else started).trace_flags.sampled
        carrier = {**(parent or {}), "traceparent": f"00-{trace_id:032x}-{span_id:016x}-{int(is_sampled):02x}"}
        if is_sampled and not workflow.unsafe.is_replaying():
            link = self._started_by if trace_id != started.trace_id and started.is_valid else None
            attributes = {"temporalWorkflowID": info.workflow_id, "temporalRunID": info.run_id}
            parent = parent if caused.is_valid else None
            workflow.extern_functions()[_RECORD](
                WorkflowSpan(name, trace_id, span_id, parent, link, workflow.time_ns(), attributes)
            )
        self._cause, self._cause_came = _payload_of(carrier), workflow.time()


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, inbound: _Workflow) -> None:
        super().__init__(next)
        self._inbound = inbound

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = {**input.headers, **self._inbound.header()}
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = {**input.headers, **self._inbound.header()}
        return super().start_local_activity(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        input.headers = {**input.headers, **self._inbound.header_for_next_run()}
        super().continue_as_new(input)


def _carrier_of(payload: Payload) -> dict[str, str]:
    carrier = json.loads(payload.data)
    return {str(key): str(value) for key, value in carrier.items()} if isinstance(carrier, dict) else {}


def _payload_of(carrier: Carrier) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(carrier).encode())

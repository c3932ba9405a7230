"""A collector for tests: takes spans over OTLP/HTTP, as a real one does, and finds its way in them."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class Span:
    """What the tests look at. Ids are hexadecimal; `parent` is empty for the root of a trace."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    links: tuple[str, ...]
    """The traces that it has links to."""
    attributes: dict[str, str]
    nanoseconds: int

    def __str__(self) -> str:
        return f"{self.service}: {self.name}"


@dataclass
class Collector:
    """All spans that were sent to it."""

    url: str = ""
    _exports: list[bytes] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)

    async def _take(self, request: web.Request) -> web.Response:
        self._exports.append(await request.read())
        return web.Response(body=b"", content_type="application/x-protobuf")

    @property
    def spans(self) -> Sequence[Span]:
        """They are decoded when somebody looks."""
        exports, self._exports = self._exports, []
        for export in exports:
            self._spans += _decoded(export)
        return self._spans

    def trace(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id == trace_id]


def _decoded(export: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(export).resource_spans:
        service = next(tag.value.string_value for tag in resource.resource.attributes if tag.key == "service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=service,
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    links=tuple(link.trace_id.hex() for link in span.links),
                    attributes={tag.key: tag.value.string_value for tag in span.attributes},
                    nanoseconds=span.end_time_unix_nano - span.start_time_unix_nano,
                )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens on a free port of this machine."""
    collector = Collector()
    app = web.Application(client_max_size=LARGEST)
    app.router.add_post("/v1/traces", collector._take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        _, port = runner.addresses[0]
        collector.url = f"http://127.0.0.1:{port}"
        yield collector
    finally:
        await runner.cleanup()

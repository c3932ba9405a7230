"""One service as a process: its API, its relay, its consumers and its jobs, together or each apart."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any

import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from sqlalchemy import MetaData
from starlette.types import ASGIApp

from chassis.access import NO_OPERATIONS, AccessTable
from chassis.clients import HttpSession
from chassis.consumer import Consumer, Subscription
from chassis.database import Database
from chassis.dependencies import is_provided, provide, provided
from chassis.freshness import describe_freshness
from chassis.health import About, Check, Troubles, health_router, metrics_router
from chassis.idempotency import forget_keys
from chassis.inbox import Inbox
from chassis.jobs import Job
from chassis.logs import configure_logging, logger
from chassis.plain_input import PlainInput
from chassis.problems import MEDIA_TYPE as PROBLEM_TYPE
from chassis.problems import install_problem_handlers
from chassis.relay import Relay
from chassis.replica import Replica
from chassis.sessions import EndedSessions, ended_fetcher
from chassis.settings import ProcessSettings, ServiceSettings
from chassis.telemetry import configure_tracing
from chassis.tokens import TokenVerifier, jwks_fetcher
from contracts.budgets import SERVICE_DRAIN_S
from contracts.errors import Problem

MAX_BODY = 1_000_000
log = logger(__name__)
HOUSEKEEPING_SECONDS = 600.0


class Part(StrEnum):
    """What of a service runs in this process; `--run api,relay` chooses, the default is all."""

    API = "api"
    RELAY = "relay"
    CONSUMERS = "consumers"


_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_STALE = {
    "type": "object",
    "properties": {
        "current": {"type": "object", "description": "What it is now, as you may see it"},
        "current_version": {"type": "integer", "description": "Its version now; in quotation marks, the ETag"},
    },
    "required": ["current", "current_version"],
}


def _is_asked_regularly(scope: Mapping[str, object]) -> bool:
    """By probes, by Prometheus, by Envoy: they do nothing for anybody, and would be traces of their own."""
    return str(scope.get("path", "")).startswith(("/health", "/metrics", "/.well-known/jwks.json", "/check/"))


HTTP_TELEMETRY: TelemetryConfig = {
    "operation_spans": False,
    "logs": False,
    "metrics": False,
    "exclude": _is_asked_regularly,
}
"""What FastAPI records: one span a request."""


class _Api(FastAPI):
    """Says how fresh answers are, that refusals and faults come as problem details, since FastAPI knows but one media type for an
    endpoint, and how a change is refused that comes too late."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        describe_freshness(document)
        for item in document["paths"].values():
            for operation in item.values():
                if any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ())):
                    stale = {
                        "description": "Somebody else changed it first: it has not the ETag in If-Match any more",
                        "content": {PROBLEM_TYPE: {"schema": {"allOf": [_PROBLEM, _STALE]}}},
                    }
                    operation["responses"].setdefault("412", stale)
                for status, response in operation["responses"].items():
                    content = response.get("content", {})
                    if status >= "400" and "application/json" in content:
                        content[PROBLEM_TYPE] = content.pop("application/json")
        return document


def new_app(
    title: str,
    description: str,
    routers: Sequence[APIRouter],
    checks: Mapping[str, Check],
    access: AccessTable = NO_OPERATIONS,
) -> FastAPI:
    """A FastAPI application with everything that all of ours have. ValueError: a router that its access table does not guard."""
    access.check(routers)
    app = _Api(
        title=title,
        description=description,
        version="1.0.0",
        telemetry=HTTP_TELEMETRY,
        responses={
            "4XX": {"model": Problem, "description": "Refused, with the reason"},
            "5XX": {"model": Problem, "description": "Failed, or cannot be told yet: the same request may go through later"},
        },
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # one path for one thing; and a redirect would repeat whatever the Host header says
    )
    app.add_middleware(PlainInput, max_body=MAX_BODY)
    install_problem_handlers(app)
    for router in routers:
        app.include_router(router)
    troubles = Troubles()
    provide(app, Troubles, troubles)
    about = About()
    provide(app, About, about)
    app.include_router(health_router(checks, troubles, about))
    app.include_router(metrics_router())
    return app


@dataclass
class Service:
    """What a service's `app.py` puts together."""

    name: str
    settings: ServiceSettings
    metadata: MetaData
    api: FastAPI
    database: Database
    inbox: Inbox | None = None
    subscription: Subscription | None = None
    jobs: Sequence[Callable[[], Awaitable[None]]] = ()
    """What it does beside answering requests: `chassis.jobs.Job`s. Each runs until it is cancelled."""
    resources: Sequence[AbstractAsyncContextManager[object]] = field(default_factory=list)
    """Opened before anything runs, closed after everything has stopped; e.g. the HttpSession of its clients."""
    at_stop: Callable[[], object] | None = None
    """Called when the process is told to stop, before it waits for the requests under way: lets go of those that are held."""

    def __post_init__(self) -> None:
        provide(self.api, Database, self.database)
        if self.settings.database_read_url:
            size, most = self.settings.database_pool_size, self.settings.database_replica_max_lag_seconds
            replica = Replica(self.settings.database_read_url, self.database, pool_size=size, max_lag_s=most)
            provide(self.api, Replica, replica)
            provided(self.api, Troubles)["replica"] = replica.trouble

    @asynccontextmanager
    async def opened(self, parts: frozenset[Part] = frozenset(Part)) -> AsyncIterator[None]:
        """Its connections are open inside; nothing runs yet but what the API needs to know its callers. Tests use the API this
        way."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.database.close)
            for resource in self.resources:
                await stack.enter_async_context(resource)
            if Part.API in parts and is_provided(self.api, Replica):
                await stack.enter_async_context(provided(self.api, Replica).following())
            if Part.API in parts and not is_provided(self.api, TokenVerifier):
                http = await stack.enter_async_context(HttpSession())
                ended = EndedSessions(ended_fetcher(http, self.settings.identity_url))
                await stack.enter_async_context(ended.following())
                keys = jwks_fetcher(http, self.settings.identity_url)
                issuer, audience = self.settings.jwt_issuer, self.settings.jwt_audience
                verifier = TokenVerifier(issuer, audience, keys, service=self.name, ended=ended)
                provide(self.api, TokenVerifier, verifier)
            yield

    async def run(self, parts: frozenset[Part] = frozenset(Part)) -> None:
        """Run the chosen parts until SIGTERM or SIGINT."""
        async with self.opened(parts):
            # Without its API a process still answers the probes, so that it can be supervised.
            api = self.api if Part.API in parts else new_app(self.name, "", [], {"database": self.database.ping})
            tasks: list[Awaitable[None]] = []
            if Part.RELAY in parts and "outbox" in self.metadata.tables:  # analytics has no events of its own
                tasks.append(Relay(self.database.asyncpg_dsn, self.settings).run())
            if Part.CONSUMERS in parts:
                tasks.extend(job() for job in (*self.jobs, *self._housekeeping()))
                if self.subscription and self.inbox:
                    consumer = Consumer(self.name, self.subscription, self.database, self.inbox, self.settings)
                    provided(api, Troubles)["consumer"] = consumer.progress.trouble
                    tasks.append(consumer.run())
            await serve(api, self.settings, tasks, at_stop=self.at_stop)

    def _housekeeping(self) -> Sequence[Callable[[], Awaitable[None]]]:
        table = self.metadata.tables.get("idempotency_keys")
        if table is None:
            return []
        forget = partial(forget_keys, self.database, table, timedelta(days=self.settings.idempotency_retention_days))
        return [Job("forget old idempotency keys", forget, every_s=HOUSEKEEPING_SECONDS)]


class _Server(uvicorn.Server):
    """uvicorn, which leaves the signals to us: it would raise them again in the middle of our own stopping."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: ASGIApp,
    settings: ProcessSettings,
    background: Sequence[Awaitable[None]] = (),
    *,
    at_stop: Callable[[], object] | None = None,
    **options: Any,
) -> None:
    """Answer HTTP and run the background tasks until SIGTERM or SIGINT; then finish the requests under way and stop.

    `at_stop` is called before those are waited for. `options` are uvicorn's."""
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # chassis.origin reads the one that the gateway sets
            # Longer than our clients keep a connection, so that it is never closed under a request.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(SERVICE_DRAIN_S),
            backlog=2048,
            **options,
        )
    )

    def stop() -> None:
        server.should_exit = True
        if at_stop is not None:
            at_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    tasks = [asyncio.ensure_future(task) for task in background]
    serving = asyncio.ensure_future(server.serve())
    try:
        done, _ = await asyncio.wait([serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(serving, *tasks, return_exceptions=True)


def run_process(name: str, settings: ProcessSettings, main: Callable[[], Coroutine[None, None, None]]) -> None:
    """The `__main__` of every process: logs, traces, event loop."""
    # What is loaded by now stays for good: the collector need not look at it again and again, nor come after every few objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    configure_logging(name, settings.log_level)
    provider = configure_tracing(name, settings.otel_exporter_otlp_endpoint, settings.otel_trace_ratio)
    uvloop.run(main())
    provider.shutdown()


def run_service(service: Service, arguments: Sequence[str] = ()) -> None:
    """The `__main__` of a service's app.py. `--run api,relay,consumers` chooses what runs in this process."""
    arguments = arguments or sys.argv[1:]
    chosen = frozenset(Part)
    if len(arguments) == 2 and arguments[0] == "--run":
        chosen = frozenset(map(Part, arguments[1].split(",")))
    elif arguments:
        sys.exit(f"usage: python -m services.{service.name}.app [--run api,relay,consumers]")
    run_process(service.name, service.settings, lambda: service.run(chosen))

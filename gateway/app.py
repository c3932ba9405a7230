"""What runs in the edge process: the pages of the gateway itself, and what Envoy asks about callers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from uuid import UUID

from starlette.types import ASGIApp

from chassis.clients import HttpSession
from chassis.service import run_process, serve
from chassis.sessions import EndedSessions, ended_fetcher
from gateway.gatekeeping import gatekeeping
from gateway.health import HealthOfAll, kafka_answers
from gateway.limits import SharedLimits
from gateway.openapi import PlatformDocument
from gateway.pages import edge_app
from gateway.routes import RouteTable
from gateway.settings import GatewaySettings


@asynccontextmanager
async def opened(settings: GatewaySettings, ended_sessions: Callable[[], frozenset[UUID]]) -> AsyncIterator[ASGIApp]:
    """The edge application; its connections are open inside."""
    urls = settings.urls()
    async with AsyncExitStack() as stack:
        limits = SharedLimits(settings.redis_url, settings.quotas())
        stack.push_async_callback(limits.close)
        http = await stack.enter_async_context(HttpSession())
        probed = urls | ({"worker": settings.worker_url} if settings.worker_url else {})
        others: dict[str, Callable[[], Awaitable[object]]] = {
            "redis": limits.ping,
            "kafka": partial(kafka_answers, settings.kafka_bootstrap_servers),
        }
        yield edge_app(
            PlatformDocument(urls, RouteTable(), http),
            HealthOfAll(probed, http.session, others),
            settings.security_contact,
            [gatekeeping(limits, ended_sessions)],
        )


async def run(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with HttpSession() as http:
        ended = EndedSessions(ended_fetcher(http, settings.identity_url))
        async with ended.following(), opened(settings, ended.all) as app:
            await serve(app, settings, ws="none", lifespan="off")


if __name__ == "__main__":
    settings = GatewaySettings()
    run_process("edge", settings, lambda: run(settings))

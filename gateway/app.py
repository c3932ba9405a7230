"""What runs in the gateway process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from opentelemetry.trace import Tracer, get_tracer
from starlette.types import ASGIApp

from chassis.clients import HttpSession
from chassis.service import run_process, serve
from chassis.tokens import TokenVerifier
from gateway.addresses import Addresses
from gateway.edge import Edge, Policies
from gateway.health import HealthOfAll
from gateway.keys import Keys
from gateway.limits import Policy, RateLimiter
from gateway.openapi import PlatformDocument
from gateway.pages import pages
from gateway.protocol import server_options
from gateway.proxy import Proxy
from gateway.routes import RouteTable
from gateway.settings import GatewaySettings


@asynccontextmanager
async def opened(settings: GatewaySettings, tracer: Tracer | None = None) -> AsyncIterator[ASGIApp]:
    """The gateway's application; its connections are open inside. Without a tracer trace ids are only passed on."""
    urls, routes = settings.urls(), RouteTable()
    async with AsyncExitStack() as stack:
        limiter = RateLimiter(settings.redis_url)
        stack.push_async_callback(limiter.close)
        http = await stack.enter_async_context(HttpSession())
        proxy = Proxy(
            urls,
            silence_s=settings.upstream_timeout_s,
            total_s=settings.upstream_total_s,
            connections=settings.upstream_connections,
        )
        stack.callback(proxy.close)
        keys = Keys(http.session, settings.identity_url)
        probed = urls | ({"worker": settings.worker_url} if settings.worker_url else {})
        yield Edge(
            routes=routes,
            verifier=TokenVerifier(settings.jwt_issuer, settings.jwt_audience, keys.fetch),
            limiter=limiter,
            policies=Policies(
                user=Policy("user", settings.rate_limit_per_minute),
                anonymous=Policy("anonymous", settings.rate_limit_anonymous_per_minute),
                auth=Policy("auth", settings.rate_limit_auth_per_minute),
                webhook=Policy("webhook", settings.rate_limit_webhook_per_minute),
            ),
            proxy=proxy,
            pages=pages(
                PlatformDocument(urls, routes, http.session),
                HealthOfAll(probed, http.session, limiter.ping),
                {"identity_keys": keys.seen},
            ),
            addresses=Addresses(settings.trusted_proxies),
            metrics_allowed=settings.metrics_allowed,
            cors_allow_origins=settings.cors_allow_origins,
            tracer=tracer,
        )


async def run(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    tracer = get_tracer(__name__) if settings.otel_exporter_otlp_endpoint else None
    async with opened(settings, tracer) as app:
        await serve(app, settings, **server_options())


if __name__ == "__main__":
    settings = GatewaySettings()
    run_process("gateway", settings, lambda: run(settings))

"""The way of every request: its path, its method, its caller, the rate limit, its size; then on to its service.

A plain ASGI application: it stands in front of everything, and a framework's routing and middleware would cost more than all
that it does.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from opentelemetry.trace import SpanKind, StatusCode, Tracer
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.logs import logger
from chassis.telemetry import context_of
from chassis.tokens import Principal, TokenVerifier
from contracts.errors import ErrorCode, Refusal
from gateway import metrics
from gateway.addresses import Addresses, Network, limit_key, within
from gateway.answers import Headers, Refused, send_problem
from gateway.head import Head
from gateway.limits import Policy, RateLimiter
from gateway.proxy import Proxy, too_large
from gateway.routes import PUBLIC, Limit, Route, RouteTable, Who

PAGES = frozenset({b"/", b"/health", b"/health/live", b"/health/ready", b"/docs", b"/openapi.json", b"/metrics"})
_STATIC = b"/docs/"
# An answer of the API is data: a browser that is led to it must not run, frame or guess at it.
_DATA: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]
# The docs page runs its own script and shows what is inlined in it; it needs nothing from elsewhere.
_DOCS: Headers = [
    _DATA[0],
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    ),
    _DATA[2],
]
_HTTPS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_CORS_REQUEST = b"authorization, content-type, idempotency-key, if-match, if-none-match, prefer, traceparent, x-request-id"
_CORS_ANSWER = b"etag, location, preference-applied, ratelimit, ratelimit-policy, retry-after, x-request-id"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
log = logger(__name__)


class Policies(NamedTuple):
    """The rate limits: of a user, and of a client address without a token, at the login, and with webhooks."""

    user: Policy
    anonymous: Policy
    auth: Policy
    webhook: Policy


class Edge:
    """The gateway's ASGI application. `pages` answers what the gateway says itself: health, documents, metrics."""

    def __init__(
        self,
        *,
        routes: RouteTable,
        verifier: TokenVerifier,
        limiter: RateLimiter,
        policies: Policies,
        proxy: Proxy,
        pages: ASGIApp,
        addresses: Addresses,
        metrics_allowed: Sequence[Network] = (),
        cors_allow_origins: Sequence[str] = (),
        tracer: Tracer | None = None,
    ) -> None:
        """With a tracer each request that is passed on gets a span."""
        self._routes, self._verifier, self._limiter, self._proxy, self._pages = routes, verifier, limiter, proxy, pages
        self._user = policies.user
        self._by_address = {
            Limit.CALLER: policies.anonymous,
            Limit.AUTH: policies.auth,
            Limit.WEBHOOK: policies.webhook,
        }
        self._addresses, self._metrics_allowed = addresses, tuple(metrics_allowed)
        self._origins = frozenset(cors_allow_origins)
        self._tracer = tracer
        self._counters: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        head = Head(scope)
        answer = [*_DATA]
        route: Route | None = None
        try:
            head.read(scope, self._addresses)
            answer.append((b"x-request-id", head.request_id.encode()))
            if head.scheme == "https":
                answer.append(_HTTPS)
            origin = head.own.get(b"origin")
            if origin is not None and self._origins:
                answer += self._cors(origin)
            route = self._routes.find(head.raw_path)
            if route is None:
                status = await self._page(head, scope, receive, send, answer)
            elif head.method == "OPTIONS" and b"access-control-request-method" in head.own and self._allows(origin):
                status = await _preflight(route, send, answer)
            elif head.method not in route.methods:
                raise _no_such_method(route)
            elif self._tracer is None:
                head.headers.append((b"traceparent", head.traceparent.encode()))
                status = await self._pass(route, head, receive, send, answer)
            else:
                status = await self._traced(self._tracer, route, head, receive, send, answer)
        except Refused as refused:
            status = refused.status
            await send_problem(send, refused, head, answer)
        except Exception as error:
            log.error("unexpected_error", path=head.path, method=head.method, trace_id=head.trace_id, exc_info=error)
            status = 500
            await send_problem(send, Refused(ErrorCode.INTERNAL_ERROR, "Something went wrong on our side."), head, answer)
        self._count(route, head.method, status, time.perf_counter() - began)

    async def _pass(self, route: Route, head: Head, receive: Receive, send: Send, answer: Headers) -> int:
        """Check the caller, count the request, and pass it on."""
        who = route.methods[head.method]
        principal, complaint = await self._caller(route, who, head)
        if principal is not None:
            policy, key = self._user, principal.subject.hex
        else:
            policy, key = self._by_address[route.limit], limit_key(head.client)
        verdict = await self._limiter.check(policy, key)
        answer += verdict.headers
        if not verdict.allowed:
            metrics.rate_limited_total.labels(policy.name).inc()
            raise Refused(ErrorCode.RATE_LIMITED, "Too many requests; see the Retry-After header.")
        if complaint is not None:
            raise complaint
        if who is not None and principal is not None and not principal.roles & who:
            raise Refused(ErrorCode.FORBIDDEN, "This is not for your role.")
        size = head.body_size
        if size is not None and size > route.body_limit:
            raise too_large(route.body_limit)
        return await self._proxy.forward(route.service, head, receive, send, answer, body_limit=route.body_limit)

    async def _caller(self, route: Route, who: Who, head: Head) -> tuple[Principal | None, Refused | None]:
        """Who is asking, and what is wrong with that; the request is counted before it is told.

        Where everybody may, a token that is not valid does no harm: a client that renews its token still sends the old one.
        """
        authorization = head.own.get(b"authorization", "")
        missing = "Send an access token: Authorization: Bearer …"
        if route.limit is Limit.CALLER and authorization[:7].lower() == "bearer ":
            try:
                return await self._verifier.verify(authorization[7:].strip()), None
            except Refusal as refusal:
                missing = refusal.detail
            except OSError as error:
                log.warning("keys_unavailable", error=repr(error), trace_id=head.trace_id)
                if who is not PUBLIC:
                    return None, Refused(
                        ErrorCode.SERVICE_UNAVAILABLE, "Your token cannot be checked now.", headers=[(b"retry-after", b"1")]
                    )
        if who is PUBLIC:
            return None, None
        return None, Refused(ErrorCode.UNAUTHENTICATED, missing, headers=[(b"www-authenticate", b"Bearer")])

    async def _traced(self, tracer: Tracer, route: Route, head: Head, receive: Receive, send: Send, answer: Headers) -> int:
        """`_pass` within a span, which the service's span becomes a child of."""
        carrier = {"traceparent": head.traceparent} if b"traceparent" in head.own else {}
        attributes = {"http.request.method": head.method, "http.route": route.prefix, "peer.service": route.service}
        name = f"{head.method} {route.prefix}"
        with tracer.start_as_current_span(
            name, context_of(carrier), SpanKind.SERVER, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            own = span.get_span_context()
            head.trace_id = format(own.trace_id, "032x")
            head.traceparent = f"00-{head.trace_id}-{own.span_id:016x}-{own.trace_flags:02x}"
            head.headers.append((b"traceparent", head.traceparent.encode()))
            status = 500
            try:
                status = await self._pass(route, head, receive, send, answer)
            except Refused as refused:
                status = refused.status
                raise
            finally:
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(StatusCode.ERROR)
        return status

    async def _page(self, head: Head, scope: Scope, receive: Receive, send: Send, answer: Headers) -> int:
        """What the gateway says itself."""
        path = head.raw_path
        is_docs = path.startswith(_STATIC) or path == b"/docs"
        is_page = is_docs or path in PAGES
        if not is_page or (path == b"/metrics" and not self._may_read_metrics(head, scope)):
            raise Refused(ErrorCode.NOT_FOUND, "There is no such thing here.")
        headers = [*_DOCS, *answer[len(_DATA) :]] if is_docs else answer

        status = 500

        async def send_page(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._pages(scope, receive, send_page)
        return status

    def _may_read_metrics(self, head: Head, scope: Scope) -> bool:
        # Behind a proxy that nobody told us of, everybody would seem to come from its address.
        unknown_proxy = b"x-forwarded-for" in head.own and not self._addresses.is_trusted(scope["client"][0])
        return not unknown_proxy and within(head.client, self._metrics_allowed)

    def _allows(self, origin: str | None) -> bool:
        return origin in self._origins or ("*" in self._origins and origin is not None)

    def _cors(self, origin: str) -> Headers:
        if not self._allows(origin):
            return [(b"vary", b"origin")]
        allowed = b"*" if "*" in self._origins else origin.encode()
        return [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", _CORS_ANSWER),
            (b"vary", b"origin"),
        ]

    def _count(self, route: Route | None, method: str, status: int, seconds: float) -> None:
        prefix, service = (route.prefix, route.service) if route is not None else ("none", "gateway")
        counters = self._counters.get((prefix, method, status))
        if counters is None:
            known = method if method in _METHODS else "other"
            counters = (
                metrics.requests_total.labels(prefix, service, known, status),
                metrics.request_seconds.labels(prefix, service),
            )
            if known == method:
                self._counters[prefix, method, status] = counters
        counters[0].inc()
        counters[1].observe(seconds)


def _no_such_method(route: Route) -> Refused:
    allow = ", ".join(route.methods).encode()
    return Refused(ErrorCode.METHOD_NOT_ALLOWED, "This path does not know this method.", headers=[(b"allow", allow)])


async def _preflight(route: Route, send: Send, answer: Headers) -> int:
    """A browser asks whether a script may send what it wants to send."""
    headers = [
        *answer,
        (b"access-control-allow-methods", ", ".join(route.methods).encode()),
        (b"access-control-allow-headers", _CORS_REQUEST),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
    return 204

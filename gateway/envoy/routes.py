"""The route table as Envoy's routes: which path and method goes where, who may, how large, how long."""

from collections.abc import Iterable

from contracts.identity import Role
from gateway.envoy.clusters import EDGE
from gateway.envoy.parts import DEFAULT, SET, Json, headers, seconds, typed
from gateway.envoy.replies import NO_STORE, SECURITY, TRACE_HEADER
from gateway.limits import WINDOW_MS
from gateway.routes import PAGES, PATH, PUBLIC, READS, ROUTES, Limit, Page, Route, Who
from gateway.settings import GatewaySettings

CALLER, JWT, RBAC, BUFFER, CORS = (
    "callers",
    "envoy.filters.http.jwt_authn",
    "envoy.filters.http.rbac",
    "envoy.filters.http.buffer",
    "envoy.filters.http.cors",
)
"""The filters that a route tells what to do."""
LIMITS = "limits"
"""Where the callers filter leaves what these headers of the answer say."""
_CORS_REQUEST = (
    "authorization, cache-control, content-type, idempotency-key, if-match, if-none-match, prefer, traceparent, x-request-id"
)
_CORS_ANSWER = "age, etag, location, preference-applied, ratelimit, ratelimit-policy, retry-after, x-request-id"
_PLAIN_PATH = rf"(?:{PATH})(?:\?.*)?"
PLAIN_HOST = r"[A-Za-z0-9._~-]+(?::\d+)?|\[[0-9A-Fa-f:.]+\](?::\d+)?"


def route_config(settings: GatewaySettings) -> Json:
    """The one virtual host: a client's Host header decides nothing."""
    return {
        "name": "api",
        "virtual_hosts": [
            {
                "name": "api",
                "domains": ["*"],
                "routes": [*_odd_requests(), *_pages(), *_services(settings), _refusal("none", {"prefix": "/"}, 404)],
                "response_headers_to_add": [
                    *headers(SECURITY, DEFAULT),
                    *headers(
                        {
                            "ratelimit": f"%DYNAMIC_METADATA({LIMITS}:left)%",
                            "strict-transport-security": f"%DYNAMIC_METADATA({LIMITS}:hsts)%",
                        }
                    ),
                    *(headers({"vary": "origin"}, "APPEND_IF_EXISTS_OR_ADD") if settings.cors_allow_origins else []),
                ],
                "response_headers_to_remove": ["server", "x-powered-by"],
                # One address: the client's. A service need not know which proxies are ours.
                "request_headers_to_add": headers({"x-forwarded-for": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}),
                "request_headers_to_remove": ["x-envoy-external-address", TRACE_HEADER],
                "typed_per_filter_config": {CORS: _cors(settings, [])} if settings.cors_allow_origins else {},
            }
        ],
    }


def _odd_requests() -> Iterable[Json]:
    """What a service might read otherwise than Envoy did: a path's second spelling, two hosts, two tokens."""
    for name, plain in ((":path", _PLAIN_PATH), (":authority", PLAIN_HOST), ("authorization", "[^,]*")):
        value: Json = {"name": name, "string_match": {"safe_regex": {"regex": plain}}, "invert_match": True}
        yield _refusal(f"odd{name.replace(':', '_')}", {"prefix": "/", "headers": [value]}, 400)


def _pages() -> Iterable[Json]:
    """What the edge app answers: documents and health."""
    for page in PAGES:
        match = _match(page)
        yield {
            "name": page.prefix,
            "match": match | _methods(READS),
            "route": {"cluster": EDGE, "timeout": "15s"},
            "typed_per_filter_config": {BUFFER: _body_limit(1000)},
        }
        yield _no_such_method(page.prefix, match, READS)


def _services(settings: GatewaySettings) -> Iterable[Json]:
    for route in sorted(ROUTES, key=lambda route: len(route.prefix), reverse=True):  # the longest prefix is met first
        match = _match(route)
        groups: dict[tuple[Who, bool], list[str]] = {}
        for method, who in route.methods.items():
            groups.setdefault((who, method in READS), []).append(method)
        for (who, reads), methods in groups.items():
            yield _forward(route, match | _methods(methods), who, reads, settings)
        if settings.cors_allow_origins:
            yield _preflight(route, match, settings)
        yield _no_such_method(route.prefix, match, tuple(route.methods))


def _forward(route: Route, match: Json, who: Who, reads: bool, settings: GatewaySettings) -> Json:
    filters: Json = {
        CALLER: typed("filters.http.lua.v3.LuaPerRoute", filter_context=_context(route, who)),
        BUFFER: _body_limit(route.body_limit),
    }
    if route.limit is Limit.CALLER or who is not PUBLIC:
        filters[JWT] = typed("filters.http.jwt_authn.v3.PerRouteConfig", requirement_name="token")
    if who is not None:
        filters[RBAC] = typed("filters.http.rbac.v3.RBACPerRoute", rbac={"rules": _roles(who)})
    public = who is PUBLIC and reads and route.limit is Limit.CALLER
    return {
        "name": route.prefix,
        "match": match,
        "route": {
            "cluster": route.cluster,
            "timeout": seconds(route.timeout_s or settings.upstream_total_s),
            "idle_timeout": seconds(settings.upstream_timeout_s),
            **({"retry_policy": _RETRIES} if reads else {}),
        },
        "decorator": {"operation": route.prefix, "propagate": False},
        "stat_prefix": route.prefix.strip("/").replace("/", "_").replace(".", "_"),
        # Public reads keep what the service says; all else is somebody's own.
        "response_headers_to_add": headers(
            {"ratelimit-policy": _policies(route.limit, settings), **({} if public else NO_STORE)}
        ),
        "typed_per_filter_config": filters,
        "request_body_buffer_limit": route.body_limit,
    }


def _preflight(route: Route, match: Json, settings: GatewaySettings) -> Json:
    """A browser asks whether a script may send what it wants to send. The CORS filter answers; nothing is passed on."""
    asks = {"name": "access-control-request-method", "present_match": True}
    return {
        "name": route.prefix,
        "match": match | {"headers": [*_methods(["OPTIONS"])["headers"], asks, asks | {"name": "origin"}]},
        "route": {"cluster": route.service},
        "typed_per_filter_config": {CORS: _cors(settings, route.methods)},
    }


def _body_limit(size: int) -> Json:
    return typed("filters.http.buffer.v3.BufferPerRoute", buffer={"max_request_bytes": size})


def _policies(limit: Limit, settings: GatewaySettings) -> str:
    """The limits that a request on such a path may count against; the RateLimit header names the one that it did."""
    names = ("user", "anonymous") if limit is Limit.CALLER else (limit.value,)
    return ", ".join(f'"{name}";q={settings.quotas()[name]};w={WINDOW_MS // 1000}' for name in names)


def _context(route: Route, who: Who) -> Json:
    """What the callers filter (callers.lua) knows of a route."""
    return {"limit": route.limit, "signed_in": who is not PUBLIC}


def _roles(who: frozenset[Role]) -> Json:
    def has(role: Role) -> Json:
        claim = {"filter": JWT, "path": [{"key": "jwt"}, {"key": "roles"}]}
        named = {"list_match": {"one_of": {"string_match": {"exact": role.value}}}}
        return {"sourced_metadata": {"metadata_matcher": {**claim, "value": named}, "metadata_source": "DYNAMIC"}}

    return {"action": "ALLOW", "policies": {"roles": {"permissions": [{"any": True}], "principals": [*map(has, sorted(who))]}}}


_RETRIES = {
    # Reads, and only if nothing was answered: what took too long would take too long again.
    "retry_on": "connect-failure,refused-stream,reset-before-request,reset",
    "num_retries": 1,
    "retry_back_off": {"base_interval": "0.05s"},
}


def _match(entry: Route | Page) -> Json:
    return {"path" if entry.exact else "path_separated_prefix": entry.prefix}


def _methods(methods: Iterable[str]) -> Json:
    regex = "|".join(methods)
    return {"headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": regex}}}]}


def _no_such_method(name: str, match: Json, methods: tuple[str, ...]) -> Json:
    return _refusal(name, match, 405) | {"response_headers_to_add": headers({"allow": ", ".join(methods)}, SET)}


def _refusal(name: str, match: Json, status: int) -> Json:
    return {"name": name, "match": match, "direct_response": {"status": status}}


def _cors(settings: GatewaySettings, methods: Iterable[str]) -> Json:
    anybody = "*" in settings.cors_allow_origins
    origins = [{"safe_regex": {"regex": ".+"}}] if anybody else [{"exact": origin} for origin in settings.cors_allow_origins]
    return typed(
        "filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=origins,
        allow_methods=", ".join(methods),
        allow_headers=_CORS_REQUEST,
        expose_headers=_CORS_ANSWER,
        max_age="600",
        forward_not_matching_preflights=False,
    )

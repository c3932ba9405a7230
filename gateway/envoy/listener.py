"""The front door: how a connection and a request must look, how long they may take, and whose word about the client counts."""

from chassis.logs import ECS_VERSION
from gateway.envoy.clusters import ADMIN, COLLECTOR, EDGE
from gateway.envoy.filters import http_filters
from gateway.envoy.parts import Json, extension, seconds
from gateway.envoy.replies import local_replies
from gateway.envoy.routes import route_config
from gateway.settings import GatewaySettings

HEAD_LIMIT_KB = 32
HEADER_COUNT = 100
_BUFFER_BYTES = 32_768  # below every body limit: Envoy takes the larger of the two
_MANAGER = "filters.network.http_connection_manager.v3.HttpConnectionManager"
_FORWARDED = (
    "forwarded", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-server",
)  # fmt: skip
_TRACE = ("traceparent", "tracestate", "baggage")
"""A stranger must not decide what we record, nor write into our traces."""
_HOP_BY_HOP = ("te", "trailer", "http2-settings", "proxy-authorization", "proxy-authenticate", "x-client-trace-id")
"""Between a client and us. Envoy itself takes away the rest of RFC 9110, 7.6.1."""


ACCESS_LOG = {
    "@timestamp": "%START_TIME%",
    "log.level": "info",
    "message": "%REQ(:METHOD)% %REQ_WITHOUT_QUERY(:PATH)% %RESPONSE_CODE%",
    "ecs.version": ECS_VERSION,
    "service.name": "gateway",
    "log.logger": "envoy.access",
    "event.action": "request",
    "event.duration": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)%",
    "http.request.id": "%REQ(X-REQUEST-ID)%",
    "http.request.method": "%REQ(:METHOD)%",
    "http.request.body.bytes": "%BYTES_RECEIVED%",
    "http.response.status_code": "%RESPONSE_CODE%",
    "http.response.body.bytes": "%BYTES_SENT%",
    "url.path": "%REQ_WITHOUT_QUERY(:PATH)%",
    "trace.id": "%TRACE_ID%",
    "labels.protocol": "%PROTOCOL%",
    "labels.route": "%ROUTE_NAME%",
    "labels.upstream": "%UPSTREAM_CLUSTER%",
    "labels.flags": "%RESPONSE_FLAGS%",
    "labels.why": "%RESPONSE_CODE_DETAILS%",
}
"""A line of a request, in the fields of chassis/logs.py: no query, no address, no token."""


def front_door(settings: GatewaySettings) -> Json:
    """The public listener."""
    manager = {
        "stat_prefix": "gateway",
        "tracing": _tracing(settings),
        "local_reply_config": local_replies(),
        "route_config": route_config(settings),
        "http_filters": http_filters(settings),
    }
    return {**door("front_door", settings, settings.port, manager), "per_connection_buffer_limit_bytes": _BUFFER_BYTES}


def door(name: str, settings: GatewaySettings, port: int, manager: Json) -> Json:
    """A listener for people. Trusted proxies get a filter chain of their own, in which their headers are believed. `manager` is
    what its connection manager does that others do not."""
    chains = []
    if settings.trusted_proxies:
        networks = [
            {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}
            for network in settings.trusted_proxies
        ]
        chain = _chain(settings, {**manager, **_trusting_proxies(networks)})
        chains.append({"name": "trusted_proxy", "filter_chain_match": {"source_prefix_ranges": networks}, **chain})
    chains.append({"name": "anybody", **_chain(settings, {**manager, **_trusting_nobody()})})
    return {
        "name": name,
        "address": _socket(settings.host, port),
        **({"listener_filters": [_tls_inspector()]} if settings.tls_certificate else {}),
        "filter_chains": chains,
    }


def _chain(settings: GatewaySettings, manager: Json) -> Json:
    manager = {**_every_manager(settings), **manager}
    chain: Json = {"filters": [extension("envoy.filters.network.http_connection_manager", _MANAGER, **manager)]}
    if settings.tls_certificate and settings.tls_key:
        chain["transport_socket"] = _tls(settings.tls_certificate, settings.tls_key)
        chain["transport_socket_connect_timeout"] = "10s"
    return chain


def _every_manager(settings: GatewaySettings) -> Json:
    return {
        "codec_type": "AUTO",
        **_framing(),
        **_deadlines(settings),
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "server_header_transformation": "PASS_THROUGH",
        # No client has this address: nobody is "internal" to Envoy, and believed more than others.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "access_log": [_access_log()],
    }


def _framing() -> Json:
    """One way to read a request, or none. What is left to its default: no trailers, no upgrades, no body with two lengths."""
    return {
        # A path is refused in any spelling but the plain one (routes.py), so nothing is left to be normalised.
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": HEADER_COUNT,
            "idle_timeout": "75s",
        },
        "max_request_headers_kb": HEAD_LIMIT_KB,
        "http_protocol_options": {
            "accept_http_10": False,
            "enable_trailers": False,
            "ignore_http_11_upgrade": [{"safe_regex": {"regex": ".*"}}],
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 65_536,
            "initial_connection_window_size": 1_048_576,
        },
    }


def _deadlines(settings: GatewaySettings) -> Json:
    return {
        "request_headers_timeout": seconds(settings.request_head_timeout_s),
        "request_timeout": seconds(settings.request_timeout_s),
        # Also for a client that does not read its answer.
        "stream_idle_timeout": seconds(settings.upstream_timeout_s),
        "drain_timeout": "5s",
        "delayed_close_timeout": "1s",
    }


def _trusting_nobody() -> Json:
    return {
        "use_remote_address": True,
        "early_header_mutation_extensions": [_without(*_HOP_BY_HOP, *_FORWARDED, *_TRACE)],
    }


def _trusting_proxies(trusted: list[Json]) -> Json:
    """The client is the last hop in X-Forwarded-For that is not one of our proxies."""
    return {
        "use_remote_address": False,
        "early_header_mutation_extensions": [_without(*_HOP_BY_HOP)],
        "original_ip_detection_extensions": [
            extension(
                "envoy.http.original_ip_detection.xff",
                "http.original_ip_detection.xff.v3.XffConfig",
                xff_trusted_cidrs={"cidrs": trusted},
                skip_xff_append=True,
            )
        ],
        "preserve_external_request_id": True,
    }


def _without(*names: str) -> Json:
    """Drops these headers, and all that would tell Envoy itself what to do, before anything looks at them."""
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[*({"remove": name} for name in names), {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}],
    )


def _tracing(settings: GatewaySettings) -> Json:
    """Without a collector no span is recorded, yet each request gets a trace id, which goes on to the service."""
    endpoint = settings.otel_exporter_otlp_endpoint
    # Envoy wants an exporter; without a collector nothing is ever sampled, and nothing sent.
    uri = {"uri": f"{(endpoint or settings.edge_url).rstrip('/')}/v1/traces", "cluster": COLLECTOR if endpoint else EDGE}
    return {
        "random_sampling": {"value": 100},  # the sampler decides
        # In place of what Envoy would tell: the query, the client's address and program.
        "custom_tags": [
            {"tag": "http.url", "request_header": {"name": ":authority"}},
            {"tag": "peer.address", "literal": {"value": "-"}},
            {"tag": "user_agent", "literal": {"value": "-"}},
        ],
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": "gateway",
                "http_service": {"http_uri": {**uri, "timeout": "2s"}},
                "sampler": _sampler(settings.otel_trace_ratio) if endpoint else _share(0),
            },
        },
    }


def _sampler(ratio: float) -> Json:
    """What came with the request from a trusted proxy decides, else the share."""
    return extension(
        "envoy.tracers.opentelemetry.samplers.parent_based",
        "tracers.opentelemetry.samplers.v3.ParentBasedSamplerConfig",
        wrapped_sampler=_share(ratio),
    )


def _share(ratio: float) -> Json:
    return extension(
        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig",
        sampling_percentage={"numerator": round(1_000_000 * ratio), "denominator": "MILLION"},
    )


def _access_log() -> Json:
    """One line of JSON a request."""
    return extension(
        "envoy.access_loggers.stdout",
        "access_loggers.stream.v3.StdoutAccessLog",
        log_format={
            "json_format": ACCESS_LOG,
            "formatters": [extension("envoy.formatter.req_without_query", "formatter.req_without_query.v3.ReqWithoutQuery")],
        },
    )


def _tls(certificate: str, key: str) -> Json:
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [{"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}],
        },
    )


def _tls_inspector() -> Json:
    return extension("envoy.filters.listener.tls_inspector", "filters.listener.tls_inspector.v3.TlsInspector")


def metrics_door(settings: GatewaySettings) -> Json:
    """For Prometheus and probes: two pages of Envoy's admin interface, and nothing else of it."""
    pages = {"/metrics": "/stats/prometheus", "/ready": "/ready"}
    routes = [
        {
            "match": {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
            "route": {"cluster": ADMIN, "prefix_rewrite": target},
        }
        for path, target in pages.items()
    ]
    return {
        "name": "metrics_door",
        "address": _socket(settings.host, settings.metrics_port),
        "filter_chains": [
            {
                "filters": [
                    extension(
                        "envoy.filters.network.http_connection_manager",
                        _MANAGER,
                        stat_prefix="metrics",
                        route_config={"virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": routes}]},
                        http_filters=[extension("envoy.filters.http.router", "filters.http.router.v3.Router")],
                    )
                ]
            }
        ],
    }


def _socket(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}

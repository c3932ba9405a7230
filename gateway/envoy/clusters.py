"""The services behind the gateway: where they are, how much each may be asked at once, and when it is left alone."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.envoy.parts import Json, seconds, typed
from gateway.routes import ROUTES, Route
from gateway.settings import GatewaySettings

EDGE, LIMITS, ADMIN, COLLECTOR, CONSOLE, WEB_UI = "edge", "limits", "admin", "collector", "console", "temporal_ui"
"""What is no service of the shop. `limits` is the edge too, counted apart: that is where the shared limits come from."""
_EJECTED_S = 2.0
STREAMS = 1000
"""Open at once, to one service."""


def clusters(settings: GatewaySettings) -> list[Json]:
    """One per service, named like it, one more for the streams of some, and those above."""
    found = [_service(name, url, settings) for name, url in settings.urls().items()]
    found += [_streams(route, settings) for route in ROUTES if route.is_stream]
    found += [_at(EDGE, settings.edge_url), _at(LIMITS, settings.edge_url)]
    found.append({"name": ADMIN, "connect_timeout": "1s", **_endpoint(ADMIN, {"pipe": {"path": settings.envoy_admin_socket}})})
    if settings.otel_exporter_otlp_endpoint:
        found.append(_at(COLLECTOR, settings.otel_exporter_otlp_endpoint))
    if settings.temporal_ui_url:
        found += [_at(CONSOLE, settings.console_url), _at(WEB_UI, settings.temporal_ui_url)]
    return found


def _service(name: str, url: str, settings: GatewaySettings) -> Json:
    return {
        **_at(name, url),
        # So that one that hangs does not use up what the others need.
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": settings.upstream_connections,
                    "max_pending_requests": settings.upstream_connections,
                    "max_requests": 10 * settings.upstream_connections,
                    "max_retries": 16,
                }
            ]
        },
        # After five failures in a row a service is left alone for a moment, also if it is the only one of its kind.
        "outlier_detection": {
            "consecutive_gateway_failure": 5,
            "enforcing_consecutive_gateway_failure": 100,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "interval": "0.5s",
            "base_ejection_time": seconds(_EJECTED_S),
            "max_ejection_time": seconds(5 * _EJECTED_S),
            "max_ejection_percent": 100,
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }


def _streams(route: Route, settings: GatewaySettings) -> Json:
    """A service once more, for answers that go on for minutes: each holds a connection."""
    limits = {"max_connections": STREAMS, "max_pending_requests": STREAMS, "max_requests": STREAMS}
    return {**_at(route.cluster, settings.urls()[route.service]), "circuit_breakers": {"thresholds": [limits]}}


def _at(name: str, url: str) -> Json:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"{name}: {url} is not http://host:port")
    try:
        ip_address(parts.hostname)
        kind: Json = {"type": "STATIC"}
    except ValueError:
        kind = {"type": "STRICT_DNS", "dns_lookup_family": "ALL"}
    address = {"socket_address": {"address": parts.hostname, "port_value": parts.port or 80}}
    return {
        "name": name,
        "connect_timeout": "2s",
        **kind,
        **_endpoint(name, address),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http_protocol_options": {}},
                # Shorter than our servers keep a connection, so that a request never meets one that is being closed.
                common_http_protocol_options={"idle_timeout": "60s"},
            )
        },
    }


def _endpoint(name: str, address: Json) -> Json:
    return {"load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}}

"""The whole configuration: who listens, where services are, and what the process as a whole may use."""

from gateway.envoy.clusters import clusters
from gateway.envoy.console import console_door
from gateway.envoy.listener import front_door, metrics_door
from gateway.envoy.parts import Json, extension
from gateway.settings import GatewaySettings


def render(settings: GatewaySettings) -> Json:
    """Envoy's static configuration for these settings. Raises ValueError for an address that is not http://host:port."""
    return {
        "node": {"id": "gateway", "cluster": "gateway"},
        # Whoever reaches it can stop the process: a file that only we can open, and no port.
        "admin": {"address": {"pipe": {"path": settings.envoy_admin_socket, "mode": 0o600}}},
        "static_resources": {
            "listeners": [
                front_door(settings),
                metrics_door(settings),
                *([console_door(settings)] if settings.temporal_ui_url else []),
            ],
            "clusters": clusters(settings),
        },
        "overload_manager": {
            "resource_monitors": [
                extension(
                    "envoy.resource_monitors.global_downstream_max_connections",
                    "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=settings.max_connections,
                ),
                extension(
                    "envoy.resource_monitors.fixed_heap",
                    "resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    max_heap_size_bytes=settings.envoy_memory_mb * 2**20,
                ),
            ],
            # Bodies under way are what fills it; then new requests are answered 503.
            "actions": [
                {
                    "name": "envoy.overload_actions.stop_accepting_requests",
                    "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": 0.95}}],
                }
            ],
        },
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"safe_regex": {"regex": _COUNTED}}]}}},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": _RUNTIME}]},
    }


_COUNTED = (
    r"^(cluster\.\w+\.(upstream_(rq|cx)_.*|membership_.*|outlier_detection.*|circuit_breakers\.default\..*)"
    r"|http\.gateway\.(downstream_(rq|cx)_.*|jwt_authn\..*|rbac\..*|lua\..*|no_route)"
    r"|vhost\.api\.route\..*"
    r"|listener\..*(downstream_cx_.*|ssl\.(handshake|connection_error|fail_.*))"
    r"|(listener_manager|overload|server)\..*"
    r"|runtime\.load_success)$"
)
"""Envoy counts thousands of things; these are the ones that are read."""

_RUNTIME: Json = {
    # The expression of a plain path (routes.py) is longer than Envoy likes by default; it still takes linear time.
    "re2.max_program_size.error_level": 400,
    "re2.max_program_size.warn_level": 400,
    # By default Envoy skips bytes between the end of a chunk's data and the end of its line.
    "envoy.reloadable_features.strict_chunk_parsing": True,
}

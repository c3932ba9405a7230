"""The staff's door: Temporal's Web UI behind a login, and the codec server on the same origin, so that the browser sends it the
login's cookie by itself."""

from gateway.envoy.clusters import CONSOLE, WEB_UI
from gateway.envoy.listener import MANAGER, deadlines, framing, socket, trusting_nobody
from gateway.envoy.parts import SET, Json, extension, headers, typed
from gateway.settings import GatewaySettings

_ASK = "envoy.filters.http.ext_authz"
_OWN = ("/login", "/logout", "/codec")
"""What the console answers itself, and checks itself who asks."""


def console_door(settings: GatewaySettings) -> Json:
    """Its listener."""
    return {
        "name": "console",
        "address": socket(settings.host, settings.console_port),
        "filter_chains": [
            {
                "filters": [
                    extension(
                        "envoy.filters.network.http_connection_manager",
                        MANAGER,
                        stat_prefix="console",
                        **framing(),
                        **deadlines(settings),
                        **trusting_nobody(),
                        route_config=_routes(),
                        http_filters=[
                            extension(_ASK, "filters.http.ext_authz.v3.ExtAuthz", **_asked(settings)),
                            extension("envoy.filters.http.router", "filters.http.router.v3.Router"),
                        ],
                    )
                ]
            }
        ],
    }


def _asked(settings: GatewaySettings) -> Json:
    """The console says who may pass, request by request; without it nobody may."""
    asked = ("cookie", "accept", "x-forwarded-for", "x-forwarded-proto")
    return {
        "failure_mode_allow": False,
        "status_on_error": {"code": "ServiceUnavailable"},
        "http_service": {
            "server_uri": {"uri": settings.console_url, "cluster": CONSOLE, "timeout": "5s"},
            "path_prefix": "/check",
        },
        "allowed_headers": {"patterns": [{"exact": name} for name in asked]},
    }


def _routes() -> Json:
    open_to_all = {_ASK: typed("filters.http.ext_authz.v3.ExtAuthzPerRoute", disabled=True)}
    own = [
        {
            "match": {"path_separated_prefix": prefix},
            "route": {"cluster": CONSOLE, "timeout": "15s"},
            "typed_per_filter_config": open_to_all,
        }
        for prefix in _OWN
    ]
    web_ui = {
        "match": {"prefix": "/"},
        "route": {"cluster": WEB_UI, "timeout": "60s"},
        # Nobody else's page may show it in a frame and have staff click there.
        "response_headers_to_add": headers({"x-frame-options": "DENY"}, SET),
        # The tokens of the shop are not for Temporal.
        "request_headers_to_remove": ["authorization"],
    }
    return {"virtual_hosts": [{"name": "console", "domains": ["*"], "routes": [*own, web_ui]}]}

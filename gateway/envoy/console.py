"""The staff's door: Temporal's Web UI behind a login, and the codec server on the same origin, so that the browser sends it the
login's cookie by itself."""

from contracts.budgets import SERVICE_CALL_S
from gateway.envoy.clusters import CONSOLE, WEB_UI
from gateway.envoy.listener import door
from gateway.envoy.parts import SET, Json, extension, headers, seconds, typed
from gateway.envoy.routes import PLAIN_HOST
from gateway.settings import GatewaySettings

_ASK = "envoy.filters.http.ext_authz"
_OWN = ("/login", "/logout", "/codec")
"""What the console answers itself, and checks itself who asks."""
_ANSWER_S = SERVICE_CALL_S + 2.0
"""The console may have to ask identity first."""


def console_door(settings: GatewaySettings) -> Json:
    """Its listener."""
    filters = [
        extension(_ASK, "filters.http.ext_authz.v3.ExtAuthz", **_asked(settings)),
        extension("envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True),
    ]
    manager = {"stat_prefix": "console", "route_config": _routes(settings), "http_filters": filters}
    return door("console", settings, settings.console_port, manager)


def _asked(settings: GatewaySettings) -> Json:
    """The console says who may pass, request by request; without it nobody may. It also says which cookies the Web UI gets."""
    told = ("cookie", "accept", "origin")
    return {
        "failure_mode_allow": False,
        "status_on_error": {"code": "ServiceUnavailable"},
        "http_service": {
            "server_uri": {"uri": settings.console_url, "cluster": CONSOLE, "timeout": seconds(_ANSWER_S)},
            "path_prefix": "/check",
            "authorization_response": {"allowed_upstream_headers": {"patterns": [{"exact": "cookie"}]}},
        },
        "allowed_headers": {"patterns": [{"exact": name} for name in told]},
    }


def _routes(settings: GatewaySettings) -> Json:
    not_asked = {_ASK: typed("filters.http.ext_authz.v3.ExtAuthzPerRoute", disabled=True)}
    timeout = seconds(settings.upstream_total_s)
    odd = {"name": ":authority", "string_match": {"safe_regex": {"regex": PLAIN_HOST}}, "invert_match": True}
    odd_host = {
        "name": "odd_host",
        "match": {"prefix": "/", "headers": [odd]},
        "direct_response": {"status": 400},
        "typed_per_filter_config": not_asked,
    }
    own = [
        {
            "name": "console",
            "match": {"path_separated_prefix": prefix},
            "route": {"cluster": CONSOLE, "timeout": timeout},
            "typed_per_filter_config": not_asked,
        }
        for prefix in _OWN
    ]
    web_ui = {
        "name": "temporal_ui",
        "match": {"prefix": "/"},
        "route": {"cluster": WEB_UI, "timeout": timeout},
        # Nobody else's page may show it in a frame and have staff click there.
        "response_headers_to_add": headers({"x-frame-options": "DENY"}, SET),
        # The tokens of the shop are not for Temporal.
        "request_headers_to_remove": ["authorization"],
    }
    host = {
        "name": "console",
        "domains": ["*"],
        "routes": [odd_host, *own, web_ui],
        # One address: the client's, by which identity counts wrong passwords.
        "request_headers_to_add": headers({"x-forwarded-for": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}),
    }
    return {"virtual_hosts": [host]}

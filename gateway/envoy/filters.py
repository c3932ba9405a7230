"""What a request goes through, in this order: CORS, its token, who asks and how often, its whole body, roles, its service."""

from pathlib import Path

from contracts.identity import CLOCK_LEEWAY
from gateway.envoy.clusters import LIMITS
from gateway.envoy.parts import Json, extension, headers, seconds
from gateway.envoy.replies import TRACE_HEADER, TRACE_ID
from gateway.envoy.routes import BUFFER, CALLER, CORS, JWT, RBAC
from gateway.limits import WINDOW_MS
from gateway.routes import BODY_LIMIT
from gateway.settings import GatewaySettings

_TRACE_HEADER = [{"append": append} for append in headers({TRACE_HEADER: "%TRACE_ID%"})]
_TRACE_ID = {
    "object_key": TRACE_ID,
    "factory_key": "envoy.string",
    "format_string": {"text_format_source": {"inline_string": f"%REQ({TRACE_HEADER})%"}},
}
"""Kept where also a refusal finds it. Envoy knows it only while it writes a header, and refuses also when that is gone again."""
_LUA = (Path(__file__).parent / "callers.lua").read_text()


def http_filters(settings: GatewaySettings) -> list[Json]:
    """Routes say of each what it does to them."""
    return [
        extension(
            "trace_header", "filters.http.header_mutation.v3.HeaderMutation", mutations={"request_mutations": _TRACE_HEADER}
        ),
        extension("trace_id", "filters.http.set_filter_state.v3.Config", on_request_headers=[_TRACE_ID]),
        extension(CORS, "filters.http.cors.v3.Cors"),
        extension(JWT, "filters.http.jwt_authn.v3.JwtAuthentication", **_tokens(settings)),
        extension(CALLER, "filters.http.lua.v3.Lua", default_source_code={"inline_string": _callers(settings)}),
        extension(RBAC, "filters.http.rbac.v3.RBAC"),
        # The body has come by now (callers.lua); this gives it its length, and keeps it back where nobody is asked who he is.
        extension(BUFFER, "filters.http.buffer.v3.Buffer", max_request_bytes=BODY_LIMIT) | {"disabled": True},
        extension("envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True),
    ]


def _tokens(settings: GatewaySettings) -> Json:
    """A token is read from the Authorization header, once verified it is kept, and its claims are left for the filters after it.

    One that is missing or bad is no reason to refuse yet: it is counted first (callers.lua), and on public paths it does no harm.
    """
    keys = f"{settings.identity_url.rstrip('/')}/.well-known/jwks.json"
    return {
        "providers": {
            "identity": {
                "issuer": settings.jwt_issuer,
                "audiences": [settings.jwt_audience],
                "remote_jwks": {
                    "http_uri": {"uri": keys, "cluster": "identity", "timeout": "2s"},
                    "cache_duration": seconds(10),
                    # Fetched ahead of time, so that what is known goes on to serve while identity is away.
                    "async_fetch": {"failed_refetch_duration": seconds(1)},
                },
                "from_headers": [{"name": "authorization", "value_prefix": scheme} for scheme in ("Bearer ", "bearer ")],
                "forward": True,
                "require_expiration": True,
                "payload_in_metadata": "jwt",
                "failed_status_in_metadata": "failed",
                "clock_skew_seconds": int(CLOCK_LEEWAY.total_seconds()),
                "jwt_cache_config": {"jwt_cache_size": 4096},
            }
        },
        "requirement_map": {
            "token": {"requires_any": {"requirements": [{"provider_name": "identity"}, {"allow_missing_or_failed": {}}]}}
        },
    }


def _callers(settings: GatewaySettings) -> str:
    """callers.lua, with the settings that it reads before it."""
    policies = "".join(f"  {name} = {{quota = {quota}, window_ms = {WINDOW_MS}}},\n" for name, quota in settings.quotas().items())
    return (
        f"local POLICIES = {{\n{policies}}}\n"
        f'local CLUSTER = "{LIMITS}"\n'
        f"local UPLOADS = {settings.uploads_per_client}\n"
        f"local UPLOAD_MS = {int(1000 * settings.request_timeout_s)}\n" + _LUA
    )

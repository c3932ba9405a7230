"""What the gateway reads from the environment."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from chassis.settings import Names, ProcessSettings, listed
from contracts.budgets import GATEWAY_SILENCE_S
from contracts.platform import SERVICE_NAMES, local_url


def _networks(value: Any) -> Any:
    return tuple(ip_network(item) if isinstance(item, str) else item for item in listed(value))


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)]
"""Addresses and networks, comma-separated in the environment: `10.0.0.0/8,192.0.2.1`."""
PerMinute = Annotated[int, Field(ge=1, le=100_000_000)]


class GatewaySettings(ProcessSettings):
    catalog_url: str = local_url("catalog")
    order_url: str = local_url("order")
    payment_url: str = local_url("payment")
    inventory_url: str = local_url("inventory")
    shipping_url: str = local_url("shipping")
    notification_url: str = local_url("notification")
    analytics_url: str = local_url("analytics")
    worker_url: str | None = None
    """The Temporal worker's probes, for the health of the whole."""
    edge_url: str = local_url("edge")
    """The edge app, as Envoy reaches it."""
    console_url: str = local_url("console")
    """The console (staff's login and the codec server), as Envoy reaches it."""
    temporal_ui_url: str | None = None
    """Temporal's Web UI. With it Envoy offers it to staff, behind the console's login."""
    console_port: int = 8233
    """Where it does so."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """For the health of the whole."""

    metrics_port: int = 9901
    """Where Envoy offers /metrics and /ready, and nothing else of its admin interface."""
    envoy_admin_socket: str = "envoy-admin.sock"
    """The admin interface itself: a file in Envoy's working directory."""
    tls_certificate: str | None = None
    """PEM file with the certificate and its chain. With it the front door speaks TLS only."""
    tls_key: str | None = None

    rate_limit_per_minute: PerMinute = 600
    """Of one user."""
    rate_limit_anonymous_per_minute: PerMinute = 120
    """Of one client address, without a token."""
    rate_limit_auth_per_minute: PerMinute = 60
    """Of one client address, where passwords and links are guessed. Without Redis nobody gets in there."""
    rate_limit_webhook_per_minute: PerMinute = 6000
    """Of one client address, on the carriers' webhook."""

    trusted_proxies: Networks = ()
    """Whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    cors_allow_origins: Names = ()
    """Web origins whose scripts may call the API: `https://shop.example`, or `*`. None by default."""

    security_contact: str = "mailto:security@distributed-commerce.example"
    """Whom to tell of a hole, for /.well-known/security.txt."""

    request_head_timeout_s: Annotated[float, Field(gt=0, le=600)] = 15
    """How long a request's head may take to come."""
    request_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60
    """How long a whole request may take to come. Only then its service hears of it."""
    max_connections: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Of all clients together."""
    envoy_memory_mb: Annotated[int, Field(ge=64, le=1_000_000)] = 512
    """Beyond this Envoy takes no new requests."""
    uploads_per_client: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Requests of one client address whose body is still coming."""

    upstream_timeout_s: Annotated[float, Field(gt=0, le=600)] = GATEWAY_SILENCE_S
    """How long a service, or a client that is sent its answer, may be silent. Longer than the slowest call that the platform
    makes itself."""
    upstream_total_s: Annotated[float, Field(gt=0, le=3600)] = 120
    """How long a service's whole answer may take."""
    upstream_connections: Annotated[int, Field(ge=1, le=10_000)] = 128
    """To one service, so that one that hangs does not use up what the others need."""

    def quotas(self) -> dict[str, int]:
        """Requests a minute, by the name of the limit."""
        return {
            "user": self.rate_limit_per_minute,
            "anonymous": self.rate_limit_anonymous_per_minute,
            "auth": self.rate_limit_auth_per_minute,
            "webhook": self.rate_limit_webhook_per_minute,
        }

    def urls(self) -> dict[str, str]:
        """Base address of each service."""
        return {name: getattr(self, f"{name}_url") for name in SERVICE_NAMES}

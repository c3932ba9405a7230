"""Settings come from the environment, once, in the composition root of a process; never at import."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.platform import local_url


def async_driver(url: str) -> str:
    """The address with the driver that we use."""
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)


def listed(value: Any) -> Any:
    """What is comma-separated in the environment."""
    return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)]
"""Comma-separated in the environment."""
DatabaseUrl = Annotated[str, AfterValidator(async_driver)]
"""A PostgreSQL address; `postgresql://` and `postgresql+asyncpg://` both serve."""


class ProcessSettings(BaseSettings):
    """What every process of the platform reads."""

    # Empty counts as not set: that is how Docker Compose and Kubernetes pass on what nobody chose.
    # An error says which variable is wrong, and not what is in the environment: there are secrets.
    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = 8000
    log_level: str = "INFO"
    otel_exporter_otlp_endpoint: str | None = None
    """Where traces go (OTLP over HTTP). Without it, trace ids still tie logs and events together, but no span is recorded."""
    otel_trace_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    identity_url: str = local_url("identity")
    jwt_issuer: str = "distributed-commerce"
    jwt_audience: str = "commerce"


class ServiceSettings(ProcessSettings):
    """What every service reads. A service adds its `database_url`, aliased to DATABASE_URL_<SERVICE>, and its
    `database_read_url`, aliased to DATABASE_READ_URL_<SERVICE>."""

    database_url: DatabaseUrl
    database_read_url: DatabaseUrl | None = None
    """A replica of the same database, which answers the queries that may lag."""
    database_replica_max_lag_seconds: Annotated[float, Field(gt=0, le=300)] = 10
    """A replica that is further behind is not used."""
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 8
    """The most connections for queries, and to the replica; for commands there are as many, and one for the relay."""
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_enable_idempotence: bool = True
    """Off only for brokers without idempotent producers (the embedded one)."""
    kafka_partitions: Annotated[int, Field(ge=1, le=100)] = 3
    kafka_replication: Annotated[int, Field(ge=1, le=5)] = 1
    kafka_session_timeout_ms: Annotated[int, Field(ge=500, le=300_000)] = 6000
    """How long a consumer may be silent before its partitions go to another one of its group."""
    outbox_retention_hours: Annotated[int, Field(ge=1)] = 72
    """How long published events stay in the outbox, so that they can be published again if the broker loses them."""
    inbox_retention_days: Annotated[int, Field(ge=1)] = 30
    """How long applied events are remembered; must be longer than any outbox or broker keeps one that may come again."""
    idempotency_retention_days: Annotated[int, Field(ge=1)] = 30
    """How long a reply is kept for whoever repeats a request under the same Idempotency-Key."""
    consumer_attempts: Annotated[int, Field(ge=1, le=20)] = 5
    """How often an event is tried before it goes to the dead letters."""

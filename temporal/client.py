"""The connection to Temporal."""

from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime
from temporalio.service import GrpcCompression

from temporal.tracing import OrderTracing

data_converter = pydantic_data_converter
"""How payloads are written. Everything that reads a history (worker, replay, tests) must use the same."""


class TemporalSettings(BaseSettings):
    """Where Temporal is."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_api_key: str | None = None
    """Turns TLS on."""


async def connect(settings: TemporalSettings, *, lazy: bool = False, runtime: Runtime | None = None) -> Client:
    """A client. A lazy one connects at its first call, so that a service can start before Temporal; it cannot run workers."""
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=settings.temporal_api_key,
        data_converter=data_converter,
        lazy=lazy,
        runtime=runtime,
        interceptors=[OrderTracing()],
        # Within one machine or cluster, compressing costs more than sending.
        grpc_compression=GrpcCompression.NONE,
    )

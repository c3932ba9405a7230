"""The connection to Temporal."""

import dataclasses

from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes
from temporalio.runtime import Runtime
from temporalio.service import GrpcCompression

from temporal.codec import HistoryCodec

data_converter = pydantic_data_converter
"""How payloads are written, before they are encrypted. Everything that reads a history must use the same."""


def encrypting(codec: HistoryCodec | None) -> DataConverter:
    """The same with a codec. Of failures, messages and stack traces are encrypted too; their types are not. None: in clear."""
    if codec is None:
        return data_converter
    return dataclasses.replace(
        data_converter, payload_codec=codec, failure_converter_class=DefaultFailureConverterWithEncodedAttributes
    )


class TemporalSettings(BaseSettings):
    """Where Temporal is."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_api_key: str | None = None
    """Turns TLS on."""


async def connect(
    settings: TemporalSettings, codec: HistoryCodec | None = None, *, lazy: bool = False, runtime: Runtime | None = None
) -> Client:
    """A client. Without a codec it reads and writes in clear. A lazy one connects at its first call, so that a service can start
    before Temporal; it cannot run workers."""
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=settings.temporal_api_key,
        data_converter=encrypting(codec),
        lazy=lazy,
        runtime=runtime,
        # Within one machine or cluster, compressing costs more than sending.
        grpc_compression=GrpcCompression.NONE,
    )

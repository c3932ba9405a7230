"""The connection to Temporal."""

from typing import Self

from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadConverter,
    SerializationContext,
)
from temporalio.runtime import Runtime
from temporalio.service import GrpcCompression

from temporal.codec import HistoryCodec
from temporal.keys import KeyDestroyed
from temporal.tracing import OrderTracing

data_converter = pydantic_data_converter
"""How payloads are written, before they are encrypted. Everything that reads a history must use the same."""


def encrypting(codec: HistoryCodec | None) -> DataConverter:
    """The same with a codec. Of failures, messages and stack traces are encrypted too; their types are not. None: in clear."""
    if codec is None:
        return data_converter
    return _Encrypting(
        payload_converter_class=data_converter.payload_converter_class,
        payload_codec=codec,
        failure_converter_class=_EncryptedFailures,
    )


class _Encrypting(DataConverter):
    def with_context(self, context: SerializationContext) -> Self:
        """Only the codec wants to know the context. It is called for each payload of an activity: the SDK's own way makes all
        converters anew, and takes four times as long as to encrypt."""
        bound = object.__new__(type(self))
        codec = self.payload_codec.with_context(context) if isinstance(self.payload_codec, HistoryCodec) else self.payload_codec
        bound.__dict__.update(self.__dict__, payload_codec=codec)
        return bound


class _EncryptedFailures(DefaultFailureConverterWithEncodedAttributes):
    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """An activity whose arguments nobody can read any more fails for good. The SDK itself says that it could not decode them,
        and tries again for ever."""
        cause = exception.__cause__
        super().to_failure(cause if isinstance(cause, KeyDestroyed) else exception, payload_converter, failure)


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
        interceptors=[OrderTracing()],
        # Within one machine or cluster, compressing costs more than sending.
        grpc_compression=GrpcCompression.NONE,
    )

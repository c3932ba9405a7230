"""Histories in clear, for people: what cannot be decrypted becomes a sentence in its place, and the rest is shown."""

import asyncio
import json
from collections.abc import Sequence

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from temporal.keys import KeyDestroyed, KeyUnknown, WrongKey


class ReadableCodec(PayloadCodec):
    """A codec that does not refuse a whole page of a history for one payload."""

    def __init__(self, codec: PayloadCodec) -> None:
        self._codec = codec

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Raises Unavailable."""
        return await self._codec.encode(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Raises Unavailable."""
        return await asyncio.gather(*map(self._readable, payloads))

    async def _readable(self, payload: Payload) -> Payload:
        try:
            (clear,) = await self._codec.decode([payload])
        except KeyDestroyed:
            return _words("(the customer was forgotten: nobody can read this any more)")
        except KeyUnknown as error:
            return _words(f"(cannot be read: {error})")
        except (WrongKey, DecodeError):
            return _words("(cannot be read: it was changed, or encrypted under another key)")
        return clear


class ClearCodec(PayloadCodec):
    """Of a platform without master keys: histories are in clear."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)


def _words(text: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(text).encode())

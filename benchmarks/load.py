"""A load generator for one GET that costs little CPU itself: keep-alive connections on an event loop of their own, and no more
parsing than is needed to find the end of an answer.
"""

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import uvloop


@dataclass(frozen=True)
class Load:
    """What was answered in how long, and the CPU seconds that asking took."""

    answered: int
    seconds: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


async def load(url: str, *, connections: int, seconds: float, token: str | None = None) -> Load:
    """Ask for `url` on that many connections, each with one request at a time. Raises RuntimeError if an answer is not 200."""
    return await asyncio.to_thread(lambda: uvloop.run(_load(url, connections, seconds, token)))


async def _load(url: str, connections: int, seconds: float, token: str | None) -> Load:
    parts = urlsplit(url)
    login = f"Authorization: Bearer {token}\r\n" if token else ""
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{login}\r\n".encode()
    began, cpu = time.monotonic(), time.thread_time()
    loop = asyncio.get_running_loop()
    ask = partial(_Asker, request, began + seconds)
    askers = [(await loop.create_connection(ask, str(parts.hostname), parts.port or 80))[1] for _ in range(connections)]
    answered = sum([await asker.done for asker in askers])
    return Load(answered, time.monotonic() - began, time.thread_time() - cpu)


class _Asker(asyncio.Protocol):
    """One connection: sends the request, waits for the whole answer, and sends it again until the time is over."""

    def __init__(self, request: bytes, until: float) -> None:
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._request, self._until = request, until
        self._received = b""
        self._answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not of its class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._end(RuntimeError(head.split(b"\r\n", 1)[0].decode()))
        elif len(body) >= _length(head):
            self._answered += 1
            self._received = b""
            if time.monotonic() < self._until:
                self._transport.write(self._request)
            else:
                self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or RuntimeError("the connection was closed"))

    def _end(self, error: Exception | None = None) -> None:
        self._transport.close()
        if self.done.done():
            return
        if error is None:
            self.done.set_result(self._answered)
        else:
            self.done.set_exception(error)


def _length(head: bytes) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        raise RuntimeError("the answer has no Content-Length")
    return int(head[at + 17 :].split(b"\r\n", 1)[0])

"""Readiness probes of processes that speak HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit


def http_ok(url: str) -> Callable[[], Awaitable[bool]]:
    """A probe: does GET `url` answer 200?

    By hand, not by a client library: a platform's start asks some ten thousand times, mostly in vain, on the
    same two cores on which the processes that it asks are starting.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()

    async def probe() -> bool:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            status = (await reader.readline()).split()
            return status[1:2] == [b"200"]
        finally:
            writer.close()

    return probe

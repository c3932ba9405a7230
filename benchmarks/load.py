"""A load generator for one GET that costs little itself: keep-alive connections, no parsing beyond what is needed."""

import asyncio
import time
from urllib.parse import urlsplit


async def requests_per_second(url: str, *, connections: int, seconds: float) -> float:
    """Answered requests per second. Raises RuntimeError if an answer is not 200."""
    await _run(url, connections, min(seconds, 1.0))
    began = time.monotonic()
    answered = await _run(url, connections, seconds)
    return answered / (time.monotonic() - began)


async def _run(url: str, connections: int, seconds: float) -> int:
    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*[_one_connection(url, until) for _ in range(connections)]))


async def _one_connection(url: str, until: float) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    answered = 0
    try:
        while time.monotonic() < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.split(b"\r\n", 1)[0].decode())
            await reader.readexactly(_length(head))
            answered += 1
    finally:
        writer.close()
    return answered


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError("the answer has no Content-Length")

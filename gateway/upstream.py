"""HTTP/1.1 to one service: a bounded set of kept connections, one exchange at a time on each.

Why not aiohttp's client, which the rest of the platform uses: passing a request on, it costs 150 µs of CPU, two thirds of all
that the gateway takes. The grammar is llhttp's (httptools, as in uvicorn); what is written here is who may use a connection when,
and what is reported when it breaks.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import urlsplit

import httptools

from gateway.answers import Headers

_CONNECT_SECONDS = 2.0
_QUEUE_SECONDS = 5.0
"""How long a request waits for a connection while all are in use: those of a service that hangs are, and stay so."""
_IDLE_SECONDS = 30.0
"""Shorter than the services keep an idle connection, so that none is closed under a request."""
_BUFFER = 131_072
"""So much of an answer is held for a client that reads slower than the service writes."""


class NoAnswer(Exception):
    """The service gave no answer, or not all of it. `kind`: refused, busy, broken, timeout.

    `untouched`: not one byte of an answer had come."""

    def __init__(self, kind: str, *, untouched: bool = False) -> None:
        super().__init__(kind)
        self.kind, self.untouched = kind, untouched


class Connection(asyncio.Protocol):
    """A connection to a service, and the exchange that is on it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._timer: asyncio.TimerHandle | None = None
        self._sender: asyncio.Task[None] | None = None
        self._silence_s = 0.0
        self.is_closed = False
        self.idle_since = 0.0
        self._reset("")
        self._complete = True

    def _reset(self, method: str) -> None:
        self._method = method
        self.status = 0
        self.headers: Headers = []
        self._pieces: list[bytes] = []
        self._held = 0
        self._has_head = self._complete = self._is_interim = self._ends_by_closing = self._touched = False
        self._keep_alive = True
        self._failure: NoAnswer | None = None

    # One exchange

    async def request(
        self, method: str, head: bytes, body: bytes | AsyncIterator[bytes] | None, *, chunked: bool, silence_s: float
    ) -> None:
        """Send a request; return when status and headers of the answer are there. Raises NoAnswer, and what a body raises."""
        self._reset(method)
        self._silence_s = silence_s
        if body is None or isinstance(body, bytes):
            self._transport.write(head + body if body else head)
            self._timer = self._loop.call_later(silence_s, self.fail, "timeout")
        else:
            self._transport.write(head)
            self._sender = self._loop.create_task(self._send(body, chunked))
        while not self._has_head:
            await self._news()
        if self._timer is not None:
            self._timer.cancel()

    async def read(self) -> bytes:
        """The next piece of the answer's body; empty at its end. Raises NoAnswer if it breaks off."""
        while not self._pieces and not self._complete:
            try:
                async with asyncio.timeout(self._silence_s):
                    await self._news()
            except TimeoutError:
                raise NoAnswer("timeout") from None
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._held > _BUFFER and not self._transport.is_closing():
            self._transport.resume_reading()
        self._held = 0
        return piece

    @property
    def is_whole(self) -> bool:
        """Whether the end of the answer has come."""
        return self._complete

    @property
    def is_reusable(self) -> bool:
        """Whether both sides have said all of it, and mean to go on."""
        sent = self._sender is None or self._sender.done()
        return self._complete and self._keep_alive and sent and not self.is_closed

    def fail(self, kind: str) -> None:
        """End the exchange without an answer, and the connection with it."""
        if not self._complete and self._failure is None:
            self._failure = NoAnswer(kind, untouched=not self._touched)
        self.abort()
        self._wake()

    def abort(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.cancel()
        self.is_closed = True
        if not self._transport.is_closing():
            self._transport.abort()

    async def _send(self, body: AsyncIterator[bytes], chunked: bool) -> None:
        try:
            async for piece in body:
                await self._writable.wait()
                self._transport.writelines([b"%x\r\n" % len(piece), piece, b"\r\n"] if chunked else [piece])
            if chunked:
                self._transport.write(b"0\r\n\r\n")
        except Exception:  # the body remembers it itself
            self.fail("broken")
        else:
            self._timer = self._loop.call_later(self._silence_s, self.fail, "timeout")

    async def _news(self) -> None:
        """Wait until something happens. Raises NoAnswer if that is the end."""
        if self._failure is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        if self._complete:  # nobody asked
            self.abort()
            return
        self._touched = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail("broken")
        else:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self._writable.set()
        if self._has_head and self._ends_by_closing and exc is None:
            self._complete = True
        self.fail("broken")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the parser says

    def on_message_begin(self) -> None:
        self._expect_more()
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # what follows a chunked body is not passed on
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._is_interim = self.status < 200
        if self._is_interim:
            return
        self._has_head = True
        self._keep_alive = self._parser.should_keep_alive()
        names = dict(self.headers)
        if self._method == "HEAD" or (self.status in (204, 304) and names.get(b"content-length", b"0") != b"0"):
            # The parser waits for a body that will not come.
            self._complete, self._keep_alive = True, False
        elif not self._keep_alive:
            self._ends_by_closing = b"content-length" not in names and b"transfer-encoding" not in names

    def on_body(self, piece: bytes) -> None:
        self._expect_more()
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > _BUFFER:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self._is_interim:
            self._complete = True

    def _expect_more(self) -> None:
        """What comes after the end is of no answer that was asked for: it must reach neither this client nor the next one."""
        if self._complete:
            raise ValueError("surplus")


class Upstream:
    """A service: its address and the connections to it."""

    def __init__(self, url: str, connections: int) -> None:
        parts = urlsplit(url.rstrip("/"))
        self._host, self._is_secure = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._is_secure else 80)
        self.base = parts.path.encode()
        self._free = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []

    async def take(self) -> Connection:
        """A connection, for one exchange; give it back. Raises NoAnswer."""
        if self._free.locked():
            try:
                async with asyncio.timeout(_QUEUE_SECONDS):
                    await self._free.acquire()
            except TimeoutError:
                raise NoAnswer("busy") from None
        else:
            await self._free.acquire()
        try:
            return self._kept() or await self._connect()
        except BaseException:
            self._free.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """The exchange is over."""
        if connection.is_reusable:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()
        self._free.release()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                if time.monotonic() - connection.idle_since < _IDLE_SECONDS:
                    return connection
                connection.abort()
        return None

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                loop, secure = asyncio.get_running_loop(), self._is_secure or None
                _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=secure)
        except (OSError, TimeoutError):
            raise NoAnswer("refused", untouched=True) from None
        return connection

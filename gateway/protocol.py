"""The HTTP server's own limits: how large a request's head may be and how long it may take. uvicorn has none."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT = 32_768
HEAD_SECONDS = 15.0
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class EdgeProtocol(HttpToolsProtocol):
    """One client's connection."""

    _in_head = True
    _messages = 0
    _head_bytes = 0
    """Of a head that came in more than one piece, without the first."""
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        messages = self._messages
        super().data_received(data)
        # Nearly every head comes in one piece, and is over by now.
        if self._in_head and not self.transport.is_closing():
            if self._deadline is None:
                self._await_head()
            if self._messages == messages:
                self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT:
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        self._messages += 1
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._forget_deadline()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def server_options() -> dict[str, Any]:
    """How uvicorn serves the gateway, beyond what every process of ours has."""
    return {
        "http": EdgeProtocol,
        "ws": "none",
        "lifespan": "off",
        # The gateway itself decides whose X-Forwarded-For it believes (Addresses); uvicorn would believe any local process.
        "proxy_headers": False,
    }

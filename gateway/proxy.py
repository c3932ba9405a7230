"""Passes a request on to a service and its answer back, streaming both ways."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Send
from yarl import URL

from chassis.logs import logger
from contracts.errors import ErrorCode
from gateway.answers import Headers, Refused
from gateway.metrics import upstream_errors_total

CLIENT_GONE = 499
"""Not a status that anybody gets: how requests are counted whose client did not wait for the answer."""
_PLAIN = frozenset({b"", b"close", b"keep-alive"})
HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""RFC 9110, 7.6.1: these are between two neighbours, and so is whatever a Connection header names."""
_OURS = frozenset({b"date", b"server", b"x-request-id", b"x-content-type-options", b"ratelimit", b"ratelimit-policy"})
_NOT_BACK = HOP_BY_HOP | _OURS
_SMALL = 65_536
"""Bodies up to this are read before they are passed on: cheaper than a stream, and they can be sent a second time."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_REFUSED_PAUSE_S = 0.1
_PATIENCE_S = 0.05
"""Only a request that takes longer than this is watched for its client going away; most are over by then."""
_CLIENT_SECONDS = 30.0
"""How long a client may take over a small body, or over a piece of a large answer."""
_CLOSE = ((b"connection", b"close"),)
log = logger(__name__)


class ClientGone(Exception):
    """The client closed its connection before it had the answer."""


class Upload:
    """The body of a request on its way through, counted."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self.ended = False
        self.failure: Exception | None = None
        """Why it ended early. The HTTP client wraps what its body raises, so it is kept here."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises ClientGone, or Refused: payload_too_large."""
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise self._failed(ClientGone())
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._limit:
                raise self._failed(too_large(self._limit))
            self.ended = not message.get("more_body", False)
            if piece:
                yield piece
            if self.ended:
                return

    async def whole(self) -> bytes:
        """All of it. Raises as `pieces` does, and Refused (408) if it takes too long."""
        try:
            async with asyncio.timeout(_CLIENT_SECONDS):
                return b"".join([piece async for piece in self.pieces()])
        except TimeoutError:
            raise Refused(ErrorCode.MALFORMED_REQUEST, "The body did not come.", status=408, headers=_CLOSE) from None

    def _failed(self, failure: Exception) -> Exception:
        self.ended, self.failure = True, failure
        return failure


def too_large(limit: int) -> Refused:
    """The connection is closed with it: what is still to come of the body is not read."""
    return Refused(ErrorCode.PAYLOAD_TOO_LARGE, f"The body may have {limit} bytes.", headers=_CLOSE)


class _Watch:
    """Cancels the work on a request whose client goes away."""

    __slots__ = ("_handle", "_receive", "_task", "_upload", "_watching", "gone")

    def __init__(self, receive: Receive, upload: Upload | None) -> None:
        self._receive, self._upload = receive, upload
        self._task = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self._handle = asyncio.get_running_loop().call_later(_PATIENCE_S, self._begin)
        self.gone = False

    def stop(self) -> None:
        self._handle.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def caused(self, _: asyncio.CancelledError) -> bool:
        """Whether it was the watch that cancelled the request's task; then the cancellation ends here."""
        if self.gone and self._task is not None:
            self._task.uncancel()
        return self.gone

    def _begin(self) -> None:
        if self._upload is not None and not self._upload.ended:  # who reads the body notices by itself
            self._handle = asyncio.get_running_loop().call_later(_PATIENCE_S, self._begin)
        else:
            self._watching = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        assert self._task is not None
        self._task.cancel()


class Proxy:
    """Speaks to the services, each through its own bounded set of connections."""

    def __init__(self, urls: Mapping[str, str], *, silence_s: float, total_s: float, connections: int) -> None:
        self._urls = {service: url.rstrip("/") for service, url in urls.items()}
        self._timeout = aiohttp.ClientTimeout(total=total_s, connect=5, sock_connect=2, sock_read=silence_s)
        self._connections = connections
        self.http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self.http = aiohttp.ClientSession(
            # Shorter than the services keep an idle connection, so that none is closed under a request.
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=self._connections, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            max_line_size=32_768,
            max_field_size=32_768,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.http.close()

    async def forward(
        self,
        service: str,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        receive: Receive,
        send: Send,
        answer_headers: Headers,
        *,
        body_size: int | None,
        body_limit: int,
    ) -> int:
        """Pass the request on and its answer back; returns the status for the count.

        `body_size` is 0 without a body, None if it is not known before it ends. Refused: service_unavailable, upstream_timeout,
        payload_too_large; once the answer has begun it can only be broken off.
        """
        upload: Upload | None = None
        data: bytes | AsyncIterator[bytes] | None = None
        if body_size != 0:
            upload = Upload(receive, body_limit)
            try:
                data = await upload.whole() if body_size is not None and body_size <= _SMALL else upload.pieces()
            except ClientGone:
                return CLIENT_GONE
        watch = _Watch(receive, upload)
        try:
            response = await self._request(service, method, target, headers, data, upload)
            try:
                await self._pass_back(service, response, send, answer_headers)
            finally:
                # Answered before it had read the whole body: the rest must not be taken for another request.
                response.close() if upload is not None and not upload.ended else response.release()
        except ClientGone:
            return CLIENT_GONE
        except asyncio.CancelledError as error:
            if not watch.caused(error):
                raise
            return CLIENT_GONE
        finally:
            watch.stop()
        return response.status

    async def _request(
        self,
        service: str,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        data: bytes | AsyncIterator[bytes] | None,
        upload: Upload | None,
    ) -> aiohttp.ClientResponse:
        """The service's answer, as far as its head."""
        url = URL(self._urls[service] + target, encoded=True)
        may_repeat = method in _IDEMPOTENT and (data is None or isinstance(data, bytes))
        while True:
            try:
                return await self.http.request(method, url, headers=headers, data=data, allow_redirects=False)
            except aiohttp.ConnectionTimeoutError as error:
                raise _no_answer(service, "connect_timeout", error, headers) from None
            except TimeoutError as error:
                raise _no_answer(service, "timeout", error, headers) from None
            except aiohttp.ClientConnectorError as error:
                if not may_repeat:
                    raise _no_answer(service, "refused", error, headers) from None
                # It may be starting. A connection that breaks before any byte of the answer is tried again by aiohttp itself.
                may_repeat = False
                await asyncio.sleep(_REFUSED_PAUSE_S)
            except (aiohttp.ClientError, OSError) as error:
                if upload is not None and upload.failure is not None:
                    raise upload.failure from None
                raise _no_answer(service, "broken", error, headers) from None

    async def _pass_back(self, service: str, response: aiohttp.ClientResponse, send: Send, answer_headers: Headers) -> None:
        content, status = response.content, response.status
        no_body = status in (204, 304)
        headers = [
            (name, value)
            for name, value in response.raw_headers
            if (lower := name.lower()) not in _NOT_BACK and not (no_body and lower == b"content-length")
        ]
        if (named := named_in(", ".join(response.headers.getall("Connection", ())))) - _PLAIN:
            headers = [(name, value) for name, value in headers if name.lower() not in named]
        headers += answer_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if content.is_eof():  # the usual case: all of it came with the head
            await send({"type": "http.response.body", "body": content.read_nowait()})
            return
        try:
            while not content.at_eof():
                piece = await content.readany()
                async with asyncio.timeout(_CLIENT_SECONDS):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Too late for another status. Returning without an end makes the server break the connection, so that the client
            # cannot take half an answer for a whole one.
            upstream_errors_total.labels(service, "broken_off").inc()
            log.warning("answer_broken_off", upstream=service, error=type(error).__name__)
            return
        await send({"type": "http.response.body", "body": b""})


def named_in(connection: str) -> frozenset[bytes]:
    """The header fields that a Connection header names."""
    return frozenset(name.strip().lower().encode("latin-1", "replace") for name in connection.split(","))


def _no_answer(service: str, kind: str, error: Exception, headers: CIMultiDict[str]) -> Refused:
    upstream_errors_total.labels(service, kind).inc()
    log.warning("no_answer", upstream=service, kind=kind, error=type(error).__name__, trace_id=headers["traceparent"][3:35])
    unsure = "What was asked may or may not have been done: repeat it with the same Idempotency-Key."
    if kind == "timeout":
        return Refused(ErrorCode.UPSTREAM_TIMEOUT, f"{service} took too long. {unsure}")
    detail = f"{service} broke off. {unsure}" if kind == "broken" else f"{service} cannot be reached. Try again in a moment."
    return Refused(ErrorCode.SERVICE_UNAVAILABLE, detail, headers=[(b"retry-after", b"1")])

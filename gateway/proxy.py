"""Passes a request on to a service and its answer back, streaming both ways."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.types import Receive, Send

from chassis.logs import logger
from contracts.errors import ErrorCode
from gateway.answers import CLOSE, SMALL, Headers, Refused
from gateway.head import HOP_BY_HOP, Head, named_in
from gateway.metrics import upstream_errors_total
from gateway.upstream import Connection, NoAnswer, Upstream

CLIENT_GONE = 499
"""Not a status that anybody gets: how requests are counted whose client did not wait for the answer."""
_OURS = frozenset({b"date", b"server", b"x-request-id", b"x-content-type-options", b"ratelimit", b"ratelimit-policy"})
_NOT_BACK = HOP_BY_HOP | _OURS
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_REFUSED_PAUSE_S = 0.1
_PATIENCE_S = 0.05
"""Only a request that takes longer than this is watched for its client going away; most are over by then."""
_CLIENT_SECONDS = 30.0
"""How long a client may take over a small body, or over a piece of a large answer."""
log = logger(__name__)


class ClientGone(Exception):
    """The client closed its connection before it had the answer."""


class Upload:
    """The body of a request on its way through, counted."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self.ended = asyncio.Event()
        self.failure: Exception | None = None
        """Why it ended early."""

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
            if not message.get("more_body", False):
                self.ended.set()
            if piece:
                yield piece
            if self.ended.is_set():
                return

    async def whole(self) -> bytes:
        """All of it. Raises as `pieces` does, and Refused (408) if it takes too long."""
        try:
            async with asyncio.timeout(_CLIENT_SECONDS):
                return b"".join([piece async for piece in self.pieces()])
        except TimeoutError:
            raise Refused(ErrorCode.MALFORMED_REQUEST, "The body did not come.", status=408, headers=(CLOSE,)) from None

    @property
    def farewell(self) -> tuple[tuple[bytes, bytes], ...]:
        """What to answer with while the body has not ended: nobody will read the rest of it."""
        return () if self.ended.is_set() else (CLOSE,)

    def _failed(self, failure: Exception) -> Exception:
        self.failure = failure
        self.ended.set()
        return failure


def too_large(limit: int) -> Refused:
    """The connection is closed with it: what is still to come of the body is not read."""
    return Refused(ErrorCode.PAYLOAD_TOO_LARGE, f"The body may have {limit} bytes.", headers=(CLOSE,))


class _Watch:
    """Ends the work on a request whose client goes away, or that takes too long as a whole."""

    __slots__ = ("_handle", "_receive", "_task", "_total_s", "_upload", "_watching", "expired", "gone")

    def __init__(self, receive: Receive, upload: Upload | None, total_s: float) -> None:
        self._receive, self._upload, self._total_s = receive, upload, total_s
        self._task = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self._handle = asyncio.get_running_loop().call_later(_PATIENCE_S, self._begin)
        self.gone = self.expired = False

    def stop(self) -> None:
        self._handle.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def caused(self, _: asyncio.CancelledError) -> bool:
        """Whether it was the watch that cancelled the request's task; then the cancellation ends here."""
        if (self.gone or self.expired) and self._task is not None:
            self._task.uncancel()
        return self.gone or self.expired

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(self._total_s, self._expire)
        self._watching = loop.create_task(self._wait())

    async def _wait(self) -> None:
        if self._upload is not None:  # who reads the body notices by itself
            await self._upload.ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._end()

    def _expire(self) -> None:
        self.expired = True
        self._end()

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Proxy:
    """Speaks to the services."""

    def __init__(self, urls: Mapping[str, str], *, silence_s: float, total_s: float, connections: int) -> None:
        self._upstreams = {service: Upstream(url, connections) for service, url in urls.items()}
        self._silence_s, self._total_s = silence_s, total_s

    def close(self) -> None:
        for upstream in self._upstreams.values():
            upstream.close()

    async def forward(
        self,
        service: str,
        head: Head,
        receive: Receive,
        send: Send,
        answer_headers: Headers,
        *,
        body_limit: int,
    ) -> int:
        """Pass the request on and its answer back; returns the status for the count.

        Refused: service_unavailable, upstream_timeout, payload_too_large; once the answer has begun it can only be broken off.
        """
        size = head.body_size
        upload: Upload | None = None
        data: bytes | AsyncIterator[bytes] | None = None
        if size != 0:
            upload = Upload(receive, body_limit)
            try:
                data = await upload.whole() if size is not None and size <= SMALL else upload.pieces()
            except ClientGone:
                return CLIENT_GONE
        upstream = self._upstreams[service]
        watch = _Watch(receive, upload, self._total_s)
        answer: Connection | None = None
        try:
            answer = await self._ask(upstream, head, data, chunked=size is None)
            if upload is not None:
                answer_headers += upload.farewell
            try:
                await self._pass_back(service, head, answer, send, answer_headers)
            finally:
                upstream.give_back(answer)
            return answer.status
        except NoAnswer as error:
            failure = upload.failure if upload is not None else None
            if isinstance(failure, ClientGone):
                return CLIENT_GONE
            raise failure or _no_answer(service, error.kind, head, upload) from None
        except asyncio.CancelledError as error:
            if not watch.caused(error):
                raise
            if watch.gone:
                return CLIENT_GONE
            if answer is not None:
                _broken_off(service, "took too long", head)
                return answer.status
            raise _no_answer(service, "timeout", head, upload) from None
        finally:
            watch.stop()

    async def _ask(
        self, upstream: Upstream, head: Head, data: bytes | AsyncIterator[bytes] | None, *, chunked: bool
    ) -> Connection:
        """The connection on which the answer's head has come."""
        request = _written(head, upstream.base, chunked=chunked)
        may_repeat = head.method in _IDEMPOTENT and (data is None or isinstance(data, bytes))
        while True:
            connection: Connection | None = None
            try:
                connection = await upstream.take()
                await connection.request(head.method, request, data, chunked=chunked, silence_s=self._silence_s)
                return connection
            except BaseException as error:
                if connection is not None:
                    upstream.give_back(connection)
                if not may_repeat or not isinstance(error, NoAnswer) or not error.untouched or error.kind == "timeout":
                    raise
                may_repeat = False
                if error.kind == "refused":  # it may be starting
                    await asyncio.sleep(_REFUSED_PAUSE_S)

    async def _pass_back(self, service: str, head: Head, answer: Connection, send: Send, answer_headers: Headers) -> None:
        no_body = answer.status in (204, 304)
        headers = [line for line in answer.headers if line[0] not in _NOT_BACK and not (no_body and line[0] == b"content-length")]
        named = named_in(b",".join([value for name, value in answer.headers if name == b"connection"]))
        if named:
            headers = [line for line in headers if line[0] not in named]
        headers += answer_headers
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.is_whole:  # the usual case: all of it came with the head
            await send({"type": "http.response.body", "body": await answer.read()})
            return
        try:
            while piece := await answer.read():
                async with asyncio.timeout(_CLIENT_SECONDS):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (NoAnswer, TimeoutError) as error:
            _broken_off(service, repr(error), head)
            return
        await send({"type": "http.response.body", "body": b""})


def _written(head: Head, base: bytes, *, chunked: bool) -> bytes:
    """The head of the request as it goes to the service."""
    lines = [b"%b: %b" % line for line in head.headers]
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    text = b"%b %b%b HTTP/1.1\r\n%b\r\n\r\n" % (head.method.encode(), base, head.target, b"\r\n".join(lines))
    if text.count(b"\n") != len(lines) + 2 or text.count(b"\r") != len(lines) + 2:
        raise Refused(ErrorCode.MALFORMED_REQUEST, "A header has a line break in it.")
    return text


def _broken_off(service: str, why: str, head: Head) -> None:
    """It is too late for another status. An answer that is left without its end makes the server break the connection, so that
    the client cannot take half of it for the whole."""
    upstream_errors_total.labels(service, "broken_off").inc()
    log.warning("answer_broken_off", upstream=service, why=why, trace_id=head.trace_id)


def _no_answer(service: str, kind: str, head: Head, upload: Upload | None) -> Refused:
    upstream_errors_total.labels(service, kind).inc()
    log.warning("no_answer", upstream=service, kind=kind, trace_id=head.trace_id)
    farewell = upload.farewell if upload is not None else ()
    unsure = "What was asked may or may not have been done: repeat it with the same Idempotency-Key."
    if kind == "timeout":
        return Refused(ErrorCode.UPSTREAM_TIMEOUT, f"{service} took too long. {unsure}", headers=farewell)
    detail = f"{service} broke off. {unsure}" if kind == "broken" else f"{service} cannot be reached. Try again in a moment."
    return Refused(ErrorCode.SERVICE_UNAVAILABLE, detail, headers=[(b"retry-after", b"1"), *farewell])

"""A request's head, read once: what is passed on, and what the gateway itself needs to know."""

import random
import re

from multidict import CIMultiDict
from starlette.types import Scope

from contracts.errors import ErrorCode
from gateway.addresses import Addresses
from gateway.answers import Refused
from gateway.protocol import HEAD_LIMIT
from gateway.proxy import HOP_BY_HOP, named_in

_READ = frozenset(
    {
        b"host", b"authorization", b"content-length", b"content-type", b"transfer-encoding", b"connection", b"origin",
        b"access-control-request-method", b"traceparent", b"x-request-id", b"x-forwarded-for", b"x-forwarded-proto",
        b"x-forwarded-host",
    }
)  # fmt: skip
_LISTS = frozenset({b"connection", b"transfer-encoding", b"x-forwarded-for"})
"""Those may come more than once. Of the others a service might read the second where the gateway has read the first."""
_OURS = frozenset(
    {
        b"host", b"expect", b"forwarded", b"traceparent", b"x-request-id", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-proto",
        b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-server",
    }
)  # fmt: skip
_NOT_ON = HOP_BY_HOP | _OURS
_HEADER_COUNT = 100
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Head:
    """Method, path and headers. Refused: malformed_request."""

    __slots__ = (
        "client",
        "headers",
        "method",
        "own",
        "path",
        "raw_path",
        "request_id",
        "scheme",
        "target",
        "trace_id",
        "traceparent",
    )

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: bytes = scope["raw_path"]
        self.own: dict[bytes, str] = {}
        """What the gateway reads, by lower-case name."""
        self.headers: CIMultiDict[str] = CIMultiDict()
        """What the service gets."""
        self.traceparent = self.trace_id = self.request_id = self.target = self.client = ""
        self.scheme: str = scope["scheme"]

    def read(self, scope: Scope, addresses: Addresses) -> None:
        """Fill in everything but method and path, which are there before, so that also a refusal can name them."""
        own, headers = self.own, self.headers
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        size = 0
        try:
            for name, value in lines:
                size += len(name) + len(value)
                text = value.decode()
                if name in _READ:
                    if name in own:
                        if name not in _LISTS:
                            raise Refused(ErrorCode.MALFORMED_REQUEST, f"There is more than one {name.decode()} header.")
                        text = f"{own[name]}, {text}"
                    own[name] = text
                if name not in _NOT_ON:
                    headers.add(name.decode(), text)
            query = scope["query_string"].decode("ascii")
        except UnicodeDecodeError:
            raise Refused(ErrorCode.MALFORMED_REQUEST, "A header is not UTF-8, or the query is not ASCII.") from None
        finally:
            self._identify()
        if size > HEAD_LIMIT or len(lines) > _HEADER_COUNT:
            raise Refused(ErrorCode.MALFORMED_REQUEST, "There are too many headers.", status=431)
        self.target = f"{self.raw_path.decode()}?{query}" if query else self.raw_path.decode()
        if own.get(b"transfer-encoding", "chunked").lower() != "chunked":
            raise Refused(ErrorCode.MALFORMED_REQUEST, "The only transfer coding is chunked.")
        connection = own.get(b"connection")
        if connection is not None and connection.lower() not in ("keep-alive", "close"):
            for named in named_in(connection):
                headers.popall(named.decode("latin-1"), None)
        self._forwarded(scope, addresses)

    def _identify(self) -> None:
        """The trace goes on if the client began one."""
        traceparent = self.own.get(b"traceparent", "")
        match = _TRACEPARENT.match(traceparent)
        if match is None:
            self.trace_id = f"{random.getrandbits(128):032x}"
            self.traceparent = f"00-{self.trace_id}-{random.getrandbits(64):016x}-00"
        else:
            self.trace_id, self.traceparent = match[1], traceparent
        request_id = self.own.get(b"x-request-id", "")
        self.request_id = request_id if _REQUEST_ID.match(request_id) else self.trace_id

    def _forwarded(self, scope: Scope, addresses: Addresses) -> None:
        """Who asked, and how we were addressed: as a proxy of ours tells it, else as we see it."""
        own, headers = self.own, self.headers
        peer: str = scope["client"][0] if scope["client"] else ""
        chain, host = peer, own.get(b"host")
        earlier = own.get(b"x-forwarded-for")
        self.client = addresses.client(peer, earlier)
        if addresses.is_trusted(peer):
            chain = f"{earlier}, {peer}" if earlier else peer
            host = own.get(b"x-forwarded-host", host)
            if own.get(b"x-forwarded-proto") in ("http", "https"):
                self.scheme = own[b"x-forwarded-proto"]
        if host is not None:
            headers["Host"] = headers["X-Forwarded-Host"] = host
        headers["X-Forwarded-For"] = chain
        headers["X-Forwarded-Proto"] = self.scheme
        headers["X-Request-ID"] = self.request_id

    @property
    def body_size(self) -> int | None:
        """0 without a body; None if it is not known before it ends."""
        if b"transfer-encoding" in self.own:
            return None
        return int(self.own.get(b"content-length", "0"))

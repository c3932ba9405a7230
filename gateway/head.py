"""A request's head, read once: what is passed on, and what the gateway itself needs to know."""

import random
import re

from starlette.types import Scope

from contracts.errors import ErrorCode
from gateway.addresses import Addresses
from gateway.answers import Headers, Refused
from gateway.protocol import HEAD_LIMIT

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""RFC 9110, 7.6.1: these are between two neighbours, and so is whatever a Connection header names."""
_PLAIN = frozenset({b"", b"close", b"keep-alive"})
_NONE: frozenset[bytes] = frozenset()
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
        self.headers: Headers = []
        """What the service gets; `traceparent` is still to come."""
        self.target = self.raw_path
        self.traceparent = self.trace_id = self.request_id = self.client = ""
        self.scheme: str = scope["scheme"]

    def read(self, scope: Scope, addresses: Addresses) -> None:
        """Fill in everything but method and path, which are there before, so that also a refusal can name them."""
        own, headers = self.own, self.headers
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        size = 0
        try:
            for line in lines:
                name, value = line
                size += len(name) + len(value)
                if name in _READ:
                    text = value.decode("latin-1")
                    if name in own:
                        if name not in _LISTS:
                            raise Refused(ErrorCode.MALFORMED_REQUEST, f"There is more than one {name.decode()} header.")
                        text = f"{own[name]}, {text}"
                    own[name] = text
                if name not in _NOT_ON:
                    headers.append(line)
        finally:
            self._identify()
        if size > HEAD_LIMIT or len(lines) > _HEADER_COUNT:
            raise Refused(ErrorCode.MALFORMED_REQUEST, "There are too many headers.", status=431)
        query: bytes = scope["query_string"]
        if query:
            self.target = b"%b?%b" % (self.raw_path, query)
        if own.get(b"transfer-encoding", "chunked").lower() != "chunked":
            raise Refused(ErrorCode.MALFORMED_REQUEST, "The only transfer coding is chunked.")
        if b"connection" in own and (named := named_in(own[b"connection"].encode("latin-1"))):
            self.headers = [line for line in headers if line[0] not in named]
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
        own = self.own
        peer: str = scope["client"][0] if scope["client"] else ""
        chain, host = peer, own.get(b"host", "")
        earlier = own.get(b"x-forwarded-for")
        self.client = addresses.client(peer, earlier)
        if addresses.is_trusted(peer):
            chain = f"{earlier}, {peer}" if earlier else peer
            host = own.get(b"x-forwarded-host", host)
            if own.get(b"x-forwarded-proto") in ("http", "https"):
                self.scheme = own[b"x-forwarded-proto"]
        named = host.encode("latin-1")
        self.headers += (
            (b"host", named),
            (b"x-forwarded-host", named),
            (b"x-forwarded-for", chain.encode("latin-1")),
            (b"x-forwarded-proto", self.scheme.encode()),
            (b"x-request-id", self.request_id.encode()),
        )

    @property
    def body_size(self) -> int | None:
        """0 without a body; None if it is not known before it ends."""
        if b"transfer-encoding" in self.own:
            return None
        return int(self.own.get(b"content-length", "0"))


def named_in(connection: bytes) -> frozenset[bytes]:
    """The header fields that a Connection header names, beside those that are always hop by hop."""
    if not connection:
        return _NONE
    return frozenset(name.strip().lower() for name in connection.split(b",")) - _PLAIN

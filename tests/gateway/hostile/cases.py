"""How a case is written: the bytes a client sends, the statuses it gets, and the requests that reach a service."""

from collections.abc import Iterable
from dataclasses import dataclass

HOST = b"Host: shop.example"
CUSTOMER = b"Authorization: Bearer <customer>"
"""The runner puts a customer's token in the place of <customer>, an administrator's in that of <admin>."""
SMUGGLED = b"DELETE /api/v1/products/1 HTTP/1.1\r\nHost: shop.example\r\nX-Swallow: "
"""What an attacker wants a service to read as the beginning of somebody else's request."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A request that reaches a service."""

    method: str
    target: str
    body: bytes = b""
    runs_as: str | None = "customer"


@dataclass(frozen=True, slots=True)
class Case:
    """`answers`: the statuses of all answers on the connection, in order; then it is closed. Those that are 200 are the
    services' answers to the requests that arrive, in the same order."""

    name: str
    sent: tuple[bytes, ...]
    answers: tuple[int, ...] = (400,)
    arrives: tuple[Expected, ...] = ()
    to_head: bool = False
    """All answers are to HEAD requests."""
    without: str = ""
    """A text that no header of an arrival may contain."""


def head(line: bytes, *headers: bytes) -> bytes:
    """A request line and its headers."""
    return b"\r\n".join([line, *headers, b"", b""])


def get(target: bytes = b"/api/v1/orders", *headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A read by a customer."""
    return head(b"GET " + target + b" " + version, HOST, CUSTOMER, *headers)


def post(*headers: bytes, body: bytes = b"", method: bytes = b"POST") -> bytes:
    """A write by a customer."""
    return head(method + b" /api/v1/orders HTTP/1.1", HOST, CUSTOMER, *headers) + body


def chunked(*pieces: bytes, trailers: Iterable[bytes] = ()) -> bytes:
    """A body in chunks, ended."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return chunks + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


CHUNKED = b"Transfer-Encoding: chunked"


def refused(name: str, *sent: bytes, answers: tuple[int, ...] = (400,)) -> Case:
    """Nothing reaches any service."""
    return Case(name, sent, answers)


def passes(
    name: str, *sent: bytes, method: str = "POST", target: str = "/api/v1/orders", body: bytes = b"", without: str = ""
) -> Case:
    """One request reaches its service, as this, and is answered."""
    return Case(name, sent, (200,), (Expected(method, target, body),), to_head=method == "HEAD", without=without)

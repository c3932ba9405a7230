"""What a service may do wrong with its answer, and what its client is told then."""

# ruff: noqa: E501 - a case is one line, however long
# fmt: off

from dataclasses import dataclass
from typing import Final

CUT: Final = "the connection is cut in the middle of the answer"


class Die:
    """The service's connection ends here."""


@dataclass(frozen=True, slots=True)
class Bad:
    """`does`: bytes that the service sends, seconds that it waits, or `Die`; after them it goes on to the next request.

    `told`: the status that its client gets, and the body where it is 200."""

    name: str
    does: tuple[bytes | float | type[Die], ...]
    told: int | str
    body: bytes = b""
    method: str = "GET"
    without: str = "evil"
    """A text that the answer may not contain."""


def _ok(*lines: bytes, body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", body])


_EVIL = _ok(b"Content-Length: 4", body=b"evil")
_HELLO = _ok(b"Content-Length: 5", body=b"hello")
_CHUNKED = b"Transfer-Encoding: chunked"


def _broken(name: str, *does: bytes | float | type[Die]) -> Bad:
    return Bad(name, does, 503)


DEATHS = (
    _broken("before it answers", Die),
    _broken("in the status line", b"HTTP/1.", Die),
    _broken("in the head", b"HTTP/1.1 200 OK\r\nContent-Le", Die),
    Bad("in the body", (_ok(b"Content-Length: 50", body=b"hello"), 0.05, Die), CUT),
    Bad("before a chunk", (_ok(_CHUNKED, body=b"5\r\nhello\r\n"), 0.05, Die), CUT),
    Bad("in a chunk", (_ok(_CHUNKED, body=b"50\r\nhello"), 0.05, Die), CUT),
    Bad("before the last line", (_ok(_CHUNKED, body=b"5\r\nhello\r\n0\r\n"), 0.05, Die), CUT),
    Bad("instead of answering a write", (Die,), 503, method="POST"),
    Bad("in the head of an answer to a write", (b"HTTP/1.1 201 Cre", Die), 503, method="POST"),
    Bad("after its answer", (_HELLO, Die), 200, b"hello"),
    Bad("at the end of a body without a length", (_ok(body=b"hello"), 0.02, Die), 200, b"hello"),
)

TWICE = (
    Bad("at once", (_HELLO + _EVIL,), 200, b"hello"),
    Bad("a moment later", (_HELLO, 0.05, _EVIL), 200, b"hello"),
    Bad("half of one", (_HELLO + _EVIL[:30],), 200, b"hello"),
    Bad("bytes of no meaning", (_HELLO + b"\x00evil\xff",), 200, b"hello"),
    Bad("an empty line", (_HELLO + b"\r\n\r\n",), 200, b"hello"),
    Bad("after chunks", (_ok(_CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n") + _EVIL,), 200, b"hello"),
    Bad("more than its length", (_ok(b"Content-Length: 5", body=b"hello" + b"evil" * 5000),), 200, b"hello"),
    Bad("204 with a body", (_ok(body=b"evil", status=b"204 No Content"),), 204),
    _broken("204 with a length", _ok(b"Content-Length: 4", body=b"evil", status=b"204 No Content")),
    Bad("204 with another answer", (_ok(status=b"204 No Content") + _EVIL,), 204),
    Bad("304 with a body", (_ok(b"Content-Length: 4", body=b"evil", status=b"304 Not Modified"),), 304),
    Bad("304 with another answer", (_ok(status=b"304 Not Modified") + _EVIL,), 304),
    Bad("a body to HEAD", (_ok(b"Content-Length: 4", body=b"evil"),), 200, method="HEAD"),
    Bad("another answer to HEAD", (_ok(b"Content-Length: 5") + _EVIL,), 200, method="HEAD"),
    Bad("a request", (_HELLO + b"GET /evil HTTP/1.1\r\n\r\n",), 200, b"hello"),
)

LENGTHS = (
    _broken("length and chunks", _ok(b"Content-Length: 5", _CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n")),
    _broken("two lengths", _ok(b"Content-Length: 5", b"Content-Length: 4", body=b"hello")),
    _broken("a list of lengths", _ok(b"Content-Length: 5, 4", body=b"hello")),
    _broken("a negative length", _ok(b"Content-Length: -5", body=b"hello")),
    _broken("a length in words", _ok(b"Content-Length: five", body=b"hello")),
    _broken("a length too large", _ok(b"Content-Length: 99999999999999999999", body=b"hello")),
    _broken("an unknown coding", _ok(b"Transfer-Encoding: xchunked", body=b"hello")),
    _broken("chunked twice", _ok(_CHUNKED, _CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n")),
    Bad("no chunk size", (_ok(_CHUNKED, body=b"hello\r\n"),), CUT),
    Bad("a wrong chunk size", (_ok(_CHUNKED, body=b"3\r\nhello\r\n0\r\n\r\n"),), CUT),
    Bad("chunks with trailers", (_ok(_CHUNKED, body=b"5\r\nhello\r\n0\r\nX-One: evil\r\n\r\n"),), 200, b"hello"),
    Bad("chunks with extensions", (_ok(_CHUNKED, body=b"5;evil\r\nhello\r\n0\r\n\r\n"),), 200, b"hello"),
)

HEADS = (
    _broken("no HTTP", b"hello\r\n\r\n"),
    _broken("another protocol", b"220 mail.example ESMTP\r\n"),
    _broken("HTTP/0.9", b"<html>evil</html>\r\n\r\n", Die),
    Bad("a version to come", (b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",), 200, b"hello"),
    _broken("no status", b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
    Bad("switching protocols", (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nevil",), 101),
    _broken("no colon", _ok(b"evil", b"Content-Length: 5", body=b"hello")),
    _broken("an empty name", _ok(b": evil", b"Content-Length: 5", body=b"hello")),
    _broken("space before the colon", _ok(b"Content-Length : 5", body=b"hello")),
    _broken("a NUL in a value", _ok(b"X-One: a\x00evil", b"Content-Length: 5", body=b"hello")),
    _broken("a head without an end", b"HTTP/1.1 200 OK\r\n" + b"X-One: evil\r\n" * 20_000),
    _broken("a header without an end", b"HTTP/1.1 200 OK\r\nX-One: " + b"evil" * 50_000),
    Bad("headers of the connection", (_ok(b"Connection: keep-alive", b"Keep-Alive: evil", b"Proxy-Connection: evil", b"Upgrade: evil", b"Content-Length: 5", body=b"hello"),), 200, b"hello"),
    Bad("headers that tell too much", (_ok(b"Server: evil", b"X-Powered-By: evil", b"Content-Length: 5", body=b"hello"),), 200, b"hello"),
    Bad("a request id of its own", (_ok(b"X-Request-Id: evil", b"Content-Length: 5", body=b"hello"),), 200, b"hello"),
    Bad("informed before", (_ok(status=b"100 Continue") + _ok(status=b"103 Early Hints") + _HELLO,), 200, b"hello"),
    Bad("informed a thousand times before", (_ok(status=b"102 Processing") * 1000 + _HELLO,), 200, b"hello"),
    Bad("in single bytes", tuple(step for byte in _HELLO for step in (bytes([byte]), 0.001)), 200, b"hello"),
)

SLOW = (
    Bad("it never answers", (60.0,), 504),
    Bad("its head never ends", (b"HTTP/1.1 200 OK\r\n", *(step for _ in range(300) for step in (b"X-One: a\r\n", 0.2))), 504),
    Bad("it stops in its body", (_ok(b"Content-Length: 50", body=b"hello"), 60.0), CUT),
    Bad("its body never ends", (_ok(_CHUNKED), *(step for _ in range(300) for step in (b"1\r\na\r\n", 0.2))), CUT),
    Bad("it never answers a write", (60.0,), 504, method="POST"),
)

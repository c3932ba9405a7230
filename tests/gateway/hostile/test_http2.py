"""HTTP/2 without TLS, from its first byte: what it can say and HTTP/1.1 cannot does not reach a service."""

# ruff: noqa: E501 - a case is one line, however long
# fmt: off

from dataclasses import dataclass

import pytest

from tests.gateway.hostile.cases import SMUGGLED
from tests.gateway.hostile.conftest import Door
from tests.gateway.hostile.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    block,
    frame,
    outcome,
    request,
    settings,
)
from tests.gateway.hostile.wire import connected

Headers = list[tuple[bytes, bytes]]


def _head(method: bytes = b"GET", path: bytes = b"/api/v1/orders", *more: tuple[bytes, bytes]) -> Headers:
    return [(b":method", method), (b":scheme", b"http"), (b":authority", b"shop.example"), (b":path", path),
            (b"authorization", b"Bearer <customer>"), *more]


def _post(*more: tuple[bytes, bytes]) -> Headers:
    return _head(b"POST", b"/api/v1/orders", *more)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    headers: Headers
    body: tuple[bytes, ...] = ()
    told: tuple[int | str, ...] = ("reset", "closed", 400)
    """Any of these. Only what is answered with 200 reaches a service."""


def _passes(name: str, headers: Headers, *body: bytes) -> Case:
    return Case(name, headers, body, (200,))


CASES = (
    _passes("a read", _head()),
    _passes("a write", _post(), b"he", b"llo"),
    _passes("a write with a length", _post((b"content-length", b"5")), b"hello"),
    _passes("te: trailers", _head(b"GET", b"/api/v1/orders", (b"te", b"trailers"))),
    _passes("cookies in pieces", _head(b"GET", b"/api/v1/orders", (b"cookie", b"a=b"), (b"cookie", b"c=d"))),
    _passes("a request in a body", _post(), SMUGGLED),
    Case("H2.CL, longer", _post((b"content-length", b"50")), (b"hello",)),
    Case("H2.CL, shorter", _post((b"content-length", b"0")), (SMUGGLED,)),
    Case("H2.CL, two lengths", _post((b"content-length", b"5"), (b"content-length", b"0")), (b"hello",)),
    Case("H2.CL, no number", _post((b"content-length", b"+5")), (b"hello",)),
    Case("H2.CL without a body", _post((b"content-length", b"5"))),
    Case("H2.TE", _post((b"transfer-encoding", b"chunked")), (b"0\r\n\r\n" + SMUGGLED,)),
    Case("a line break in a value", _head(b"GET", b"/api/v1/orders", (b"x-one", b"a\r\ntransfer-encoding: chunked"))),
    Case("a line feed in a value", _head(b"GET", b"/api/v1/orders", (b"x-one", b"a\nx-two: b"))),
    Case("a carriage return in a value", _head(b"GET", b"/api/v1/orders", (b"x-one", b"a\rb"))),
    Case("a NUL in a value", _head(b"GET", b"/api/v1/orders", (b"x-one", b"a\x00b"))),
    Case("a line break in a name", _head(b"GET", b"/api/v1/orders", (b"x-one: a\r\nx-two", b"b"))),
    Case("a colon in a name", _head(b"GET", b"/api/v1/orders", (b"transfer-encoding: chunked", b"b"))),
    Case("a space in a name", _head(b"GET", b"/api/v1/orders", (b"x one", b"b"))),
    Case("an empty name", _head(b"GET", b"/api/v1/orders", (b"", b"b"))),
    Case("a name in capitals", _head(b"GET", b"/api/v1/orders", (b"X-One", b"b"))),
    Case("a name with an underscore", _head(b"GET", b"/api/v1/orders", (b"content_length", b"5"))),
    *(Case(f"of the connection: {name!r}", _head(b"GET", b"/api/v1/orders", (name, value)))
      for name, value in ((b"connection", b"content-length"), (b"keep-alive", b"5"), (b"proxy-connection", b"a"), (b"upgrade", b"h2c"), (b"te", b"gzip"))),
    Case("a line break in the path", _head(b"GET", b"/api/v1/orders HTTP/1.1\r\nX-One: a")),
    Case("a space in the path", _head(b"GET", b"/api/v1/orders /x")),
    Case("a line break in the method", _head(b"GET /internal HTTP/1.1\r\nX-One: a")),
    Case("a space in the method", _head(b"GET /internal")),
    Case("an unknown method", _head(b"FOO"), told=(405,)),
    Case("an odd path", _head(b"GET", b"/api/v1/orders/../products")),
    Case("no slash", _head(b"GET", b"internal/a")),
    Case("an empty path", _head(b"GET", b"")),
    Case("an absolute path", _head(b"GET", b"http://inventory/internal/a")),
    Case("an internal path", _head(b"GET", b"/internal/a"), told=(404,)),
    Case("CONNECT", [(b":method", b"CONNECT"), (b":authority", b"127.0.0.1:8005")], told=("reset", "closed", 400, 404)),
    Case("extended CONNECT", [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *_head()[1:]], told=("reset", "closed", 400, 403, 404)),
    Case("no path", _head()[:3]),
    Case("no method", _head()[1:]),
    Case("no scheme", [_head()[0], *_head()[2:]]),
    Case("two methods", [(b":method", b"DELETE"), *_head()]),
    Case("two paths", [(b":path", b"/internal/a"), *_head()]),
    Case("two authorities", [(b":authority", b"inventory"), *_head()]),
    Case("a pseudo-header at the end", [*_head()[:3], _head()[4], _head()[3]]),
    Case("an unknown pseudo-header", [(b":evil", b"a"), *_head()]),
    Case("a status", [(b":status", b"200"), *_head()]),
    Case("a bad authority", [*_head()[:2], (b":authority", b"a b"), *_head()[3:]]),
    Case("an authority with a line break", [*_head()[:2], (b":authority", b"a\r\nx-one: a"), *_head()[3:]]),
    Case("a token twice", _head(b"GET", b"/api/v1/orders", (b"authorization", b"Bearer <admin>"))),
    Case("200 headers", _head(b"GET", b"/api/v1/orders", *((b"x-%d" % number, b"a") for number in range(200))), told=("reset", "closed", 431)),
    Case("a header of 40 kB", _head(b"GET", b"/api/v1/orders", (b"x-one", b"a" * 16_000), (b"x-two", b"a" * 40_000)), told=("reset", "closed", 431)),
    Case("a body over the limit", _post(), (b"a" * 16_000,) * 70, told=(413,)),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
async def test_http2(door: Door, case: Case) -> None:
    headers = [(door.people.fill(name), door.people.fill(value)) for name, value in case.headers]
    async with connected(door.port) as wire:
        await wire.send(settings() + request(headers, *case.body))
        told = await outcome(wire)
        if told not in ("closed", 413):  # the connection still serves
            await wire.send(request([(name, door.people.fill(value)) for name, value in _head(b"GET", b"/api/v1/payments/7")], stream=3))
            assert await outcome(wire, stream=3) in (200, "closed")
    assert told in case.told
    arrivals = [arrival for arrival in door.record.arrivals if arrival.target != "/api/v1/payments/7"]
    assert [(arrival.method, arrival.target, arrival.body, door.people.name(arrival.runs_as)) for arrival in arrivals] == (
        [(case.headers[0][1].decode(), "/api/v1/orders", b"".join(case.body), "customer")] if told == 200 else []
    )
    assert door.record.begun == len(door.record.arrivals)
    assert not door.record.unreadable
    for arrival in door.record.arrivals:
        arrival.assert_plain()


_LOGIN: Headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"shop.example"), (b":path", b"/api/v1/auth/login")]
_ANONYMOUS: Headers = [(b":method", b"GET"), *_LOGIN[1:3], (b":path", b"/api/v1/products")]
FRAMES = {
    "a body before its head": frame(DATA, b"hello", flags=END_STREAM),
    "a body after its end": request(_ANONYMOUS) + frame(DATA, SMUGGLED, flags=END_STREAM),
    "trailers": frame(HEADERS, block(_LOGIN), flags=END_HEADERS) + frame(DATA, b"hello")
    + frame(HEADERS, block([(b"authorization", b"Bearer <admin>"), (b"x-forwarded-for", b"evil")]), flags=END_HEADERS | END_STREAM),
    "trailers with pseudo-headers": frame(HEADERS, block(_LOGIN), flags=END_HEADERS) + frame(DATA, b"hello")
    + frame(HEADERS, block([(b":path", b"/internal/a")]), flags=END_HEADERS | END_STREAM),
    "trailers that do not end": frame(HEADERS, block(_LOGIN), flags=END_HEADERS) + frame(DATA, b"hello")
    + frame(HEADERS, block([(b"x-one", b"a")]), flags=END_HEADERS),
    "a stream of its own number": request(_ANONYMOUS, stream=2),
    "the same stream twice": request(_ANONYMOUS) + request(_ANONYMOUS),
    "another frame between the headers": frame(HEADERS, block(_ANONYMOUS[:2])) + frame(DATA, b"hello") + frame(CONTINUATION, block(_ANONYMOUS[2:]), flags=END_HEADERS),
    "headers that never end": frame(HEADERS, block(_ANONYMOUS)) + frame(CONTINUATION, block([(b"x-one", b"a" * 10_000)])) * 20,
    "empty continuations": frame(HEADERS, block(_ANONYMOUS)) + frame(CONTINUATION) * 5000,
    "a frame too large": frame(HEADERS, block(_ANONYMOUS), flags=END_HEADERS) + frame(DATA, b"a" * 100_000, flags=END_STREAM),
    "no HTTP/2": b"\x00" * 100,
}


@pytest.mark.parametrize("name", FRAMES)
async def test_http2_frames(door: Door, name: str) -> None:
    """Frames out of order. At most the one request that is whole arrives."""
    async with connected(door.port) as wire:
        await wire.send(settings() + FRAMES[name])
        told = await outcome(wire, stream=2 if "number" in name else 1)
    assert told in ((200,) if name == "trailers" else (200, "reset", "closed", 431))
    for arrival in door.record.arrivals:
        arrival.assert_plain()
        assert (arrival.target, arrival.runs_as) in (("/api/v1/products", None), ("/api/v1/auth/login", None))
        assert arrival.body in (b"", b"hello")
    assert len(door.record.arrivals) == (told == 200)
    assert not door.record.unreadable

"""Oversized everything: it is cut off, and no service hears of it."""

from dataclasses import dataclass

import pytest

from gateway.routes import BODY_LIMIT, SMALL_BODY
from tests.gateway.hostile.cases import CHUNKED, CUSTOMER, HOST, chunked, get, head, post
from tests.gateway.hostile.conftest import Door
from tests.gateway.hostile.wire import connected

_MB = 1_000_000


def _small(*lines: bytes) -> bytes:
    """To a path that takes small bodies only."""
    return head(b"PATCH /api/v1/users/1 HTTP/1.1", HOST, CUSTOMER, *lines)


@dataclass(frozen=True, slots=True)
class Large:
    """`told`: the status. The service is asked only where it is 200."""

    name: str
    sent: bytes
    told: int
    body_size: int = 0


LARGE = (
    Large("90 headers", get(b"/api/v1/orders", *(b"X-%d: a" % number for number in range(90))), 200),
    Large("200 headers", get(b"/api/v1/orders", *(b"X-%d: a" % number for number in range(200))), 431),
    Large("100,000 headers", get(b"/api/v1/orders", *(b"X-%d: a" % number for number in range(100_000))), 431),
    Large("a header of 20 kB", get(b"/api/v1/orders", b"X-One: " + b"a" * 20_000), 200),
    Large("a header of 40 kB", get(b"/api/v1/orders", b"X-One: " + b"a" * 40_000), 431),
    Large("a header of 10 MB", get(b"/api/v1/orders", b"X-One: " + b"a" * 10 * _MB), 431),
    Large("a name of 40 kB", get(b"/api/v1/orders", b"X" * 40_000 + b": a"), 431),
    Large("a token of 40 kB", head(b"GET /api/v1/orders HTTP/1.1", HOST, b"Authorization: Bearer " + b"a" * 40_000), 431),
    Large("50 cookies", get(b"/api/v1/orders", *(b"Cookie: a%d=b" % number for number in range(50))), 200),
    Large("cookies of 40 kB", get(b"/api/v1/orders", *(b"Cookie: a=" + b"b" * 4000 for _ in range(10))), 431),
    Large("a path of 4 kB", get(b"/api/v1/orders/" + b"a" * 4000), 200),
    Large("a path of 40 kB", get(b"/api/v1/orders/" + b"a" * 40_000), 431),
    Large("a path of 1 MB", get(b"/api/v1/orders/" + b"a" * _MB), 431),
    Large("a path of 10,000 segments", get(b"/api/v1/orders" + b"/a" * 10_000), 200),
    Large("1,000 query parameters", get(b"/api/v1/orders?" + b"a=b&" * 1000), 200),
    Large("100,000 query parameters", get(b"/api/v1/orders?" + b"a=b&" * 100_000), 431),
    Large("a body at the limit", post(b"Content-Length: %d" % BODY_LIMIT, body=b"a" * BODY_LIMIT), 200, BODY_LIMIT),
    Large("a body over the limit", post(b"Content-Length: %d" % (BODY_LIMIT + 1), body=b"a" * (BODY_LIMIT + 1)), 413),
    Large("a body of 1 TB", post(b"Content-Length: 1000000000000", body=b"a" * 3 * _MB), 413),
    Large("a body of 1 TB, promised", post(b"Content-Length: 1000000000000", b"Expect: 100-continue"), 100),
    Large("chunks at the limit", post(CHUNKED, body=chunked(*[b"a" * 1000] * 1000)), 200, _MB),
    Large("chunks over the limit", post(CHUNKED, body=chunked(*[b"a" * 1000] * 1001)), 413),
    Large("chunks without an end", post(CHUNKED, body=chunked(*[b"a" * 1000] * 5000)[:-5]), 413),
    Large("one chunk of 5 MB", post(CHUNKED, body=chunked(b"a" * 5 * _MB)), 413),
    Large("100,000 chunks of one byte", post(CHUNKED, body=chunked(*[b"a"] * 100_000)), 200, 100_000),
    Large("a small body at the limit", _small(b"Content-Length: %d" % SMALL_BODY) + b"a" * SMALL_BODY, 200, SMALL_BODY),
    Large("a small body over the limit", _small(b"Content-Length: %d" % (SMALL_BODY + 1)) + b"a" * (SMALL_BODY + 1), 413),
    Large("small chunks over the limit", _small(CHUNKED) + chunked(*[b"a" * 1000] * 66), 413),
    Large("chunk extensions of 1 MB", post(CHUNKED, body=b"5;" + b"a" * _MB + b"\r\nhello\r\n0\r\n\r\n"), 200, 5),
    Large("1 MB of chunk extensions", post(CHUNKED, body=b"1;aaaaaaaaa\r\na\r\n" * 100_000 + b"0\r\n\r\n"), 200, 100_000),
    Large("a chunk size of 1 MB", post(CHUNKED, body=b"0" * _MB + b"5\r\nhello\r\n0\r\n\r\n"), 200, 5),
    Large("trailers of 1 MB", post(CHUNKED, body=chunked(b"hello", trailers=[b"X-One: " + b"a" * _MB])), 431),
    Large("10,000 trailers", post(CHUNKED, body=chunked(b"hello", trailers=[b"X-One: a"] * 10_000)), 431),
    Large("1 MB of empty lines before", b"\r\n" * (_MB // 2) + get(), 200),
    Large("a request line without an end", b"G" * 10 * _MB, 431),
)


@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name.replace(" ", "-"))
async def test_sizes(door: Door, case: Large) -> None:
    async with connected(door.port) as wire:
        await wire.send(door.people.fill(case.sent))
        answer = await wire.answer()
        wire.end_sending()
        rest = await wire.rest()
    assert (answer and answer.status, rest) == (case.told, b"")
    assert [len(arrival.body) for arrival in door.record.arrivals] == ([case.body_size] if case.told == 200 else [])
    assert door.record.begun == len(door.record.arrivals)
    assert not door.record.unreadable
    for arrival in door.record.arrivals:
        arrival.assert_plain()

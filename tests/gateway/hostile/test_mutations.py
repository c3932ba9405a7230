"""Requests with random mutations, from a seed: whatever a strict reader of RFC 9112 would not take for a request of the sender's
reaches no service.

A case that fails is printed as bytes; write it down in `mutants.py`, so that it is tried ever after.
"""

import asyncio
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.gateway.hostile.cases import CHUNKED, CUSTOMER, HOST, chunked, head
from tests.gateway.hostile.conftest import Door
from tests.gateway.hostile.mutants import MUTANTS
from tests.gateway.hostile.wire import connected, exchange

COUNT = 300
_TARGETS = (b"/api/v1/orders", b"/api/v1/orders/1", b"/api/v1/products?a=b", b"/api/v1/payments/%20")
_ODD_BYTES = (
    b"\x00", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x0b", b":", b";", b",", b"0", b"\x7f", b"\x80", b"\xff", b"/", b"%", b"#",
    b"\\",
)  # fmt: skip
_ODD_LINES = (
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked", b"Content-Length: 0",
    b"Content-Length: 7", b"Content-Length: -1", b"Connection: content-length", b"Connection: transfer-encoding",
    b"Connection: close", b"Connection: authorization", b"Expect: 100-continue", b"Host: inventory", b"Upgrade: h2c",
    b"Authorization: Bearer <other>", b"Content_Length: 5", b" folded", b"X-One: " + b"a" * 500, b"Trailer: Authorization",
)  # fmt: skip
_PINGS = b"".join(
    head(b"GET /api/v1/" + path + b"/mine-ping HTTP/1.1", HOST, b"Authorization: Bearer <other>")
    for path in (b"orders", b"products", b"payments")
)
_SMUGGLED = (
    head(b"GET /internal/reservations HTTP/1.1", HOST),
    head(b"DELETE /api/v1/products/1 HTTP/1.1", HOST)[:-4] + b"\r\nX-Swallow: ",
    b"0\r\n\r\n", b"GET /api/v1/orders/other HTTP/1.1\r\n",
)  # fmt: skip


def _request(choose: random.Random) -> bytes:
    """A plain request of the customer's."""
    target = choose.choice(_TARGETS)
    kind = choose.randrange(3) if target.startswith(b"/api/v1/orders") else 0
    lines = [HOST, CUSTOMER, *choose.sample([b"X-One: a", b"Accept: */*", b"Cookie: a=b", b"If-Match: 1"], choose.randrange(3))]
    body = b"".join(choose.choices((b"hello", b"{}", choose.choice(_SMUGGLED)), k=choose.randrange(1, 3)))
    if kind == 0:
        return head(b"GET " + target + b" HTTP/1.1", *lines)
    length, sent = (
        (b"Content-Length: %d" % len(body), body) if kind == 1 else (CHUNKED, chunked(*re.findall(rb"(?s).{1,7}", body)))
    )
    lines.insert(choose.randrange(len(lines) + 1), length)
    return head(b"POST /api/v1/orders HTTP/1.1", *lines) + sent


def _mutated(choose: random.Random, request: bytes) -> bytes:
    """One of the changes that have led somewhere elsewhere."""
    at = choose.randrange(len(request))
    line_ends = [match.end() for match in re.finditer(rb"\r\n", request)]
    line_end = choose.choice(line_ends)
    match choose.randrange(9):
        case 0:
            return request[:at] + choose.choice(_ODD_BYTES) + request[at:]
        case 1:
            return request[:at] + request[at + 1 :]
        case 2:
            return request[:at] + choose.choice(_ODD_BYTES) + request[at + 1 :]
        case 3:
            return request[:line_end] + choose.choice(_ODD_LINES) + b"\r\n" + request[line_end:]
        case 4:
            return request[: line_end - 2] + choose.choice((b"\n", b"\r", b"\r\r\n", b"\n\r\n", b" \r\n")) + request[line_end:]
        case 5:
            begin = max((end for end in line_ends if end < line_end), default=0)
            return request[:begin] + request[begin:line_end] * 2 + request[line_end:]
        case 6:
            return request + choose.choice(_SMUGGLED)
        case 7:
            return request.replace(b": ", choose.choice((b":", b" : ", b":\t", b": \x0b")), choose.randrange(1, 4))
        case _:
            return request[:at].swapcase() + request[at:]


@dataclass(frozen=True, slots=True)
class Intended:
    """A request as its sender means it."""

    method: str
    target: str
    body: bytes
    runs_as: str | None


_LINE = re.compile(rb"([A-Z]+)[ \t\r]+(/[!-~]*)[ \t\r]+HTTP/1\.1[ \t\r]*")
_FIELD = re.compile(rb"([!#$%&'*+.^`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")


def intended(sent: bytes) -> Iterator[Intended]:
    """The requests in these bytes, up to the first that is not plain.

    It is as lenient as RFC 9112 allows a server to be: empty lines before a request, a line feed as a line's end, spaces around
    the parts of a request line, folded values. A lone carriage return in a value is left out."""
    while True:
        sent = sent.lstrip(b"\r\n")
        match = re.search(rb"\r?\n\r?\n", sent)
        if match is None:
            return
        lines = re.sub(rb"\r?\n[ \t]+", b" ", sent[: match.start()]).split(b"\n")
        sent = sent[match.end() :]
        line = _LINE.fullmatch(lines[0].removesuffix(b"\r"))
        fields = [_FIELD.fullmatch(line.replace(b"\r", b"")) for line in lines[1:]]
        if line is None or not all(fields):
            return
        headers = [(field[1].lower(), field[2]) for field in fields if field]
        found = _body(headers, sent)
        if found is None:
            return
        body, sent = found
        tokens = [value.split(b" ") for name, value in headers if name == b"authorization"]
        runs_as = None
        if len(tokens) == 1 and tokens[0][0].lower() == b"bearer":  # services read the scheme in any case
            runs_as = {b"<customer>": "customer", b"<other>": "other"}.get(tokens[0][-1])
        yield Intended(line[1].decode(), line[2].decode(), body, runs_as)


def _body(headers: list[tuple[bytes, bytes]], sent: bytes) -> tuple[bytes, bytes] | None:
    """The body and what comes after it; None if it has no end, or not exactly one."""
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        return None
    if lengths:
        size = int(lengths[0]) if re.fullmatch(rb"[0-9]{1,9}", lengths[0]) else len(sent) + 1
        return (sent[:size], sent[size:]) if size <= len(sent) else None
    if not codings:
        return b"", sent
    body = b""
    while codings == [b"chunked"]:
        match = re.match(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n", sent)
        if match is None:
            return None
        size, sent = int(match[1], 16), sent[match.end() :]
        if size == 0:
            end = re.match(rb"(?:[^\r\n:]+:[^\n]*\n)*\r?\n", sent)
            return (body, sent[end.end() :]) if end else None
        if sent[size : size + 2] != b"\r\n":
            return None
        body, sent = body + sent[:size], sent[size + 2 :]
    return None


def test_what_is_intended() -> None:
    """The reader that the services' side is compared with."""
    plain = head(b"POST /a HTTP/1.1", HOST, CUSTOMER, CHUNKED) + chunked(b"hello") + head(b"GET /b HTTP/1.1", HOST)
    assert list(intended(plain)) == [Intended("POST", "/a", b"hello", "customer"), Intended("GET", "/b", b"", None)]
    assert list(intended(head(b"POST /a HTTP/1.1", CHUNKED, b"Content-Length: 5") + b"0\r\n\r\n")) == []
    assert list(intended(head(b"POST /a HTTP/1.1", b"Content-Length : 5") + b"hello")) == []


async def _others(door: Door, stop: asyncio.Event) -> int:
    """Another customer, who asks for things of his own all the time; how many he got."""
    asked = 0
    async with connected(door.port) as wire:
        while not stop.is_set():
            target = b"/api/v1/shipments/mine-%d" % asked
            await wire.send(door.people.fill(head(b"GET " + target + b" HTTP/1.1", HOST, b"Authorization: Bearer <other>")))
            answer = await wire.answer()
            assert answer is not None
            assert (answer.status, answer.body) == (200, b"hello, " + target)
            asked += 1
            target = b"/api/v1/orders/mine-%d" % asked
            await wire.send(door.people.fill(head(b"GET " + target + b" HTTP/1.1", HOST, b"Authorization: Bearer <other>")))
            answer = await wire.answer()
            assert answer is not None
            assert answer.status == 200
            assert target in answer.body
            assert str(door.people.ids["other"]).encode() in answer.body
            await asyncio.sleep(0.02)  # leave the machine to the mutations
    return asked


async def _try(door: Door, sent: bytes, pieces: int) -> None:
    """Every request that arrived is, in order, one that was intended, and answered to its sender."""
    filled = door.people.fill(sent)
    size = -(-len(filled) // pieces)
    async with connected(door.port) as wire:
        await wire.send(*(filled[start : start + size] for start in range(0, len(filled), size)), pause_s=0.002)
        await asyncio.sleep(0.01)
        wire.end_sending()
        received = await wire.rest()
    # What the front door had passed on when its client left has arrived before these.
    await exchange(door.port, door.people.fill(_PINGS), answers=3)
    arrived = [arrival for arrival in door.record.arrivals if "/mine-" not in arrival.target]
    for arrival in door.record.arrivals:
        arrival.assert_plain()
    found = [Intended(arrival.method, arrival.target, arrival.body, door.people.name(arrival.runs_as)) for arrival in arrived]
    meant = intended(sent)
    for one in found:  # some may be missing, and what runs as nobody has fewer rights than it was meant to have
        assert any(one in (request, replace(request, runs_as=None)) for request in meant), (found, [*intended(sent)])
    # Nobody is told of what was another's.
    for serial in re.findall(rb'"serial": ([0-9]+)', received):
        assert int(serial) in [arrival.serial for arrival in arrived]
    assert not door.record.unreadable


async def test_mutations(door: Door, request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--seed")
    choose = random.Random(seed)
    print(f"seed {seed}")
    stop = asyncio.Event()
    others = asyncio.create_task(_others(door, stop))
    arrived = 0
    try:
        for number in range(COUNT):
            sent = b"".join(_request(choose) for _ in range(choose.randrange(1, 4)))
            for _ in range(choose.choice((0, 1, 1, 1, 2))):
                sent = _mutated(choose, sent)
            door.record.clear()
            try:
                await _try(door, sent, choose.randrange(1, 4))
            except AssertionError as error:
                pytest.fail(f"case {number} of seed {seed}: {error}\nwrite it down in mutants.py:\n    {sent!r},")
            arrived += bool(door.record.arrivals)
    finally:
        stop.set()
        asked = await others
    assert asked > COUNT / 20
    assert arrived > COUNT / 5


@pytest.mark.parametrize("sent", MUTANTS)
async def test_mutants(door: Door, sent: bytes) -> None:
    """What failed once."""
    await _try(door, sent, 1)

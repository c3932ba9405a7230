"""Slow and silent clients: they end within the deadlines, no service hears of them, and others are served meanwhile."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack

import pytest

from tests.conftest import eventually
from tests.gateway.hostile.cases import CHUNKED, CUSTOMER, HOST, get, head, post
from tests.gateway.hostile.conftest import BODY_S, HEAD_S, SILENCE_S, UPLOADS, Door
from tests.gateway.hostile.services import Scripted
from tests.gateway.hostile.wire import Answer, connected, exchange

_GENEROUS_S = 120.0
"""More than a deadline, for a machine that is busy."""


async def _dribble(door: Door, begin: bytes, more: bytes, address: str = "127.0.0.1") -> tuple[Answer | None, float]:
    """Send a piece every fifth of a second until the front door has had enough: its answer, and after how many seconds."""
    started = time.monotonic()
    async with connected(door.port, address) as wire:
        await wire.send(door.people.fill(begin))

        async def go_on() -> None:
            while True:
                await asyncio.sleep(0.2)
                await wire.send(more)

        going_on = asyncio.create_task(go_on())
        try:
            answer = await wire.answer(patience_s=HEAD_S + BODY_S + _GENEROUS_S)
            took = time.monotonic() - started
            assert await wire.rest() == b""
        finally:
            going_on.cancel()
    return answer, took


async def _others_are_served(door: Door, count: int = 30) -> None:
    for number in range(count):
        target = b"/api/v1/orders/other-%d" % number
        (answer,) = await exchange(door.port, door.people.fill(get(target)), answers=1)
        assert answer.status == 200
        assert target in answer.body
        await asyncio.sleep(0.05)


def _assert_only_others(door: Door, count: int) -> None:
    assert [arrival.target for arrival in door.record.arrivals] == [f"/api/v1/orders/other-{number}" for number in range(count)]
    assert door.record.begun == count
    assert not door.record.unreadable


SLOW = {
    "a head that never ends": (get()[:-2], b"X-One: a\r\n", HEAD_S),
    "a request line that never ends": (b"GET /", b"a", HEAD_S),
    "a body that never ends": (post(b"Content-Length: 5000"), b"a", BODY_S),
    "chunks that never end": (post(CHUNKED), b"1\r\na\r\n", BODY_S),
    "a chunk size that never ends": (post(CHUNKED), b"0", BODY_S),
    "a chunk extension that never ends": (post(CHUNKED, body=b"1;"), b"a", BODY_S),
    "trailers that never end": (post(CHUNKED, body=b"1\r\na\r\n0\r\n"), b"X-One: a\r\n", BODY_S),
    "a body that is promised": (post(b"Content-Length: 5000"), b"", BODY_S),
    "a head that is promised": (b"GET / HTTP/1.1\r\n", b"", HEAD_S),
}


async def test_slow_requests_end_with_408(hasty: Door) -> None:
    ends = await asyncio.gather(*(_dribble(hasty, begin, more) for begin, more, _ in SLOW.values()))
    for (name, (_, _, deadline_s)), (answer, took_s) in zip(SLOW.items(), ends, strict=True):
        assert answer is not None, name
        assert answer.status == 408, name
        assert b"request_timeout" in answer.body, name
        # Who falls silent is given up by that deadline, if it comes first.
        assert min(deadline_s, SILENCE_S) - 1 < took_s < deadline_s + _GENEROUS_S, name
    _assert_only_others(hasty, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers to all of 127.0.0.0/8")
@pytest.mark.parametrize("addresses", [1, 130], ids=["one-client", "many-clients"])
async def test_g2_dribbled_bodies_take_no_service_away(hasty: Door, addresses: int) -> None:
    """G2: 130 bodies that come byte by byte held every connection to a service, and everybody got 503."""
    slow = [
        asyncio.create_task(_dribble(hasty, post(b"Content-Length: 5000"), b"a", f"127.0.1.{1 + number % addresses}"))
        for number in range(130)
    ]
    await asyncio.sleep(0.5)
    await _others_are_served(hasty)
    statuses = [answer and answer.status for answer, _ in await asyncio.gather(*slow)]
    assert set(statuses) == ({408, 429} if addresses == 1 else {408})
    assert statuses.count(408) == (UPLOADS if addresses == 1 else 130)
    _assert_only_others(hasty, 30)


async def test_slow_readers(hasty: Door, scripted: Scripted) -> None:
    """Large answers that nobody reads."""
    size = 20_000_000
    scripted.scripts = {"/api/v1/tracking/large": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, b"a" * size)}
    scripted.broken_off = 0
    asked = hasty.people.fill(head(b"GET /api/v1/tracking/large HTTP/1.1", HOST, CUSTOMER))
    async with AsyncExitStack() as stack:
        for _ in range(20):
            wire = await stack.enter_async_context(connected(hasty.port, receive_buffer=4096))
            await wire.send(asked)
        await _others_are_served(hasty)

        async def given_up() -> bool:
            return scripted.broken_off == 20

        await eventually(given_up, timeout_s=SILENCE_S + _GENEROUS_S, what="the front door to give the slow readers up")
    _assert_only_others(hasty, 30)


async def test_clients_that_leave(door: Door) -> None:
    """In any moment: no service gets half a request."""
    whole = door.people.fill(post(b"Content-Length: 5", body=b"hello"))
    for size in range(1, len(whole), 40):
        async with connected(door.port) as wire:
            await wire.send(whole[:size])
            wire.end_sending()
            assert await wire.rest() == b"" or size < 40
        async with connected(door.port) as wire:
            await wire.send(whole[:size])
    await _others_are_served(door, 3)
    _assert_only_others(door, 3)


async def test_a_client_that_leaves_while_it_is_answered(door: Door, scripted: Scripted) -> None:
    """What was meant for it goes to nobody else."""
    scripted.scripts = {"/api/v1/tracking/late": (0.2, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")}
    for _ in range(20):
        async with connected(door.port) as wire:
            await wire.send(door.people.fill(head(b"GET /api/v1/tracking/late HTTP/1.1", HOST, CUSTOMER)))
            await asyncio.sleep(0.02)
    for number in range(20):
        asked = door.people.fill(head(b"GET /api/v1/tracking/%d HTTP/1.1" % number, HOST, CUSTOMER))
        (answer,) = await exchange(door.port, asked, answers=1)
        assert answer.body == b"hello, /api/v1/tracking/%d" % number
        await asyncio.sleep(0.02)


async def test_idle_connections(hasty: Door) -> None:
    """Connections on which nothing comes cost others nothing."""
    async with asyncio.TaskGroup() as group:
        served = asyncio.Event()

        async def idle() -> None:
            async with connected(hasty.port):
                await served.wait()

        for _ in range(500):
            group.create_task(idle())
        await asyncio.sleep(0.5)
        await _others_are_served(hasty, 10)
        served.set()
    _assert_only_others(hasty, 10)

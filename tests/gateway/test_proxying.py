"""What passes through, in both directions, and what happens when one side breaks."""

import asyncio
import hashlib
import os
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest

from contracts.identity import Role
from tests.conftest import PATIENCE_S, TokenMint, eventually
from tests.gateway.conftest import NOWHERE, Exchange, FrontDoor, Shop, Start, Upstream


async def test_a_request_passes_as_it_is(front_door: FrontDoor, mint: TokenMint) -> None:
    body = os.urandom(10_000)
    sent = mint.headers(Role.CUSTOMER) | {
        "Idempotency-Key": "k-1", "If-Match": '"7"', "Prefer": "respond-async", "Accept-Language": "de", "Cookie": "a=1; b=2",
        "Content-Type": "application/octet-stream", "X-Note": "grüß dich",
    }  # fmt: skip
    response = await front_door.client.post(
        "/api/v1/orders/a%20b?q=%2Fx&q=2&empty=",
        content=body,
        headers={name.encode(): value.encode() for name, value in sent.items()},
    )
    assert response.status_code == 200
    got = front_door["order"].seen[0]
    assert (got.method, got.target, got.body) == ("POST", "/api/v1/orders/a%20b?q=%2Fx&q=2&empty=", body)
    assert {name: (got.header(name.lower()) or "").encode("latin-1").decode() for name in sent} == sent
    assert got.header("content-length") == "10000"
    assert got.header("transfer-encoding") is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
async def test_every_method_passes(front_door: FrontDoor, mint: TokenMint, method: str) -> None:
    response = await front_door.client.request(method, "/api/v1/products/x", headers=mint.headers(Role.ADMIN))
    assert response.status_code == 200
    assert front_door["catalog"].seen[0].method == method
    assert (response.content == b"") == (method == "HEAD")


async def test_nothing_is_added_that_nobody_needs(front_door: FrontDoor) -> None:
    await front_door.say(b"GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
    assert {name for name, _ in front_door["catalog"].seen[0].headers} == {
        "host", "traceparent", "tracestate", "x-forwarded-for", "x-forwarded-proto", "x-request-id",
    }  # fmt: skip


async def test_what_is_between_neighbours_stays_there(front_door: FrontDoor) -> None:
    async def talkative(exchange: Exchange) -> None:
        hop_by_hop = (
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("server", "secret/1.0"),
        )
        await exchange.answer(200, {}, (*hop_by_hop, ("x-powered-by", "secret"), ("x-stays", "1")))
        exchange.writer.close()

    front_door["catalog"].handler = talkative
    sent = {
        "Connection": "X-Secret, keep-alive", "X-Secret": "1", "Keep-Alive": "timeout=9", "TE": "trailers, gzip",
        "Proxy-Connection": "close", "Upgrade": "h2c", "X-Stays": "1",
    }  # fmt: skip
    response = await front_door.client.get("/api/v1/products", headers=sent)
    assert response.status_code == 200
    names = {name for name, _ in front_door["catalog"].seen[0].headers}
    assert {name.lower() for name in sent} & names <= {"x-stays", "te"}
    assert front_door["catalog"].seen[0].header("te") in (None, "trailers")
    assert "x-stays" in response.headers
    for name in ("keep-alive", "proxy-connection", "server", "x-powered-by", "x-envoy-upstream-service-time"):
        assert name not in response.headers


async def test_cookies_redirects_and_encodings_are_not_touched(front_door: FrontDoor) -> None:
    packed = zlib.compress(b"hello" * 100)

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target.endswith("/moved"):
            moved = (("location", "/api/v1/products/here"), ("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2"))
            await exchange.answer(307, {}, moved)
        else:
            await exchange.answer(200, packed, (("content-encoding", "deflate"),))

    front_door["catalog"].handler = handler
    moved = await front_door.client.get("/api/v1/products/moved")
    assert (moved.status_code, moved.headers["location"]) == (307, "/api/v1/products/here")
    assert moved.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2"]
    front_door.client.cookies.clear()
    async with front_door.client.stream("GET", "/api/v1/products/packed") as response:
        assert b"".join([piece async for piece in response.aiter_raw()]) == packed
    assert front_door["catalog"].seen[1].header("cookie") is None


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(front_door: FrontDoor, status: int) -> None:
    front_door["catalog"].handler = lambda exchange: exchange.answer(status, headers=(("etag", '"1"'),))
    for _ in range(2):  # the connection is good for another one
        response = await front_door.client.get("/api/v1/products/x")
        assert (response.status_code, response.headers["etag"], response.content) == (status, '"1"', b"")


async def test_answers_stream(front_door: FrontDoor) -> None:
    next_piece = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            await exchange.send(b"1\r\n%d\r\n" % number)
            await next_piece.wait()
            next_piece.clear()
        await exchange.send(b"0\r\n\r\n")

    front_door["catalog"].handler = handler
    async with front_door.client.stream("GET", "/api/v1/products/feed") as response:
        pieces = []
        async for piece in response.aiter_raw():
            pieces.append(piece)
            next_piece.set()  # the service says the next one only once the client has this one
    assert pieces == [b"0", b"1", b"2"]


async def test_a_large_answer_passes_whole(front_door: FrontDoor) -> None:
    content = os.urandom(5_000_000)
    front_door["catalog"].handler = lambda exchange: exchange.answer(200, content)
    response = await front_door.client.get("/api/v1/products/all")
    assert response.content == content
    assert response.headers["content-length"] == "5000000"


@pytest.mark.parametrize("size", [1, 65_536, 1_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_up_to_the_limit_pass_with_their_length(
    front_door: FrontDoor, mint: TokenMint, size: int, chunked: bool
) -> None:
    content = os.urandom(size)

    async def pieces() -> AsyncIterator[bytes]:
        yield content[:1]
        yield content[1:]

    sent = pieces() if chunked else content
    response = await front_door.client.post("/api/v1/orders", content=sent, headers=mint.headers(Role.CUSTOMER))
    assert response.json()["sha256"] == hashlib.sha256(content).hexdigest()
    got = front_door["order"].seen[0]
    assert (got.header("content-length"), got.header("transfer-encoding")) == (str(size), None)


async def test_a_body_has_a_limit(front_door: FrontDoor, mint: TokenMint) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 100_000

    headers = mint.headers(Role.CUSTOMER)
    for content in (b"x" * 1_000_001, endless()):
        try:  # the client may be cut off while it still writes
            response = await front_door.client.post("/api/v1/orders", content=content, headers=headers)
            assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")
        except (httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError):
            pass
    small = await front_door.say(
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n" + b"FA01\r\n" + b"x" * 64001,
    )
    assert small.startswith(b"HTTP/1.1 413")
    assert not front_door.seen
    assert (await front_door.client.post("/api/v1/orders", content=b"x", headers=headers)).status_code == 200


@pytest.mark.parametrize("began", [False, True], ids=["before the answer", "in mid-answer"])
async def test_a_client_that_leaves_ends_the_work(front_door: FrontDoor, began: bool) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        if began:
            await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        arrived.set()
        await exchange.gone.wait()
        left.set()

    front_door["catalog"].handler = slow
    request = asyncio.create_task(front_door.client.get("/api/v1/products/slow"))
    async with asyncio.timeout(PATIENCE_S):
        await arrived.wait()
        request.cancel()
        await left.wait()


async def test_a_client_that_does_not_read_holds_nothing_up(start: Start) -> None:
    door = await start(upstream_timeout_s=0.5)
    left = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                await exchange.send(b"x" * 1_000_000)
        finally:
            left.set()

    door["catalog"].handler = endless
    _, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1000)
    writer.write(b"GET /api/v1/products HTTP/1.1\r\nHost: shop\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        await left.wait()
    writer.transport.abort()


async def test_a_service_that_is_down(start: Start, mint: TokenMint) -> None:
    door = await start(order_url=NOWHERE)
    for method in ("GET", "POST"):
        response = await door.client.request(method, "/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
        problem = response.json()
        assert (response.status_code, problem["code"]) == (503, "service_unavailable")
        assert "127.0.0.1" not in response.text
        assert "refused" not in response.text
        assert len(problem["trace_id"]) == 32
    assert (await door.client.get("/api/v1/products")).status_code == 200


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("HEAD", 2), ("PUT", 1), ("POST", 1), ("PATCH", 1), ("DELETE", 1)])
async def test_only_reads_are_repeated(start: Start, mint: TokenMint, method: str, times: int) -> None:
    """The service takes each request and breaks the connection before any byte of an answer."""
    door = await start()

    async def breaking(exchange: Exchange) -> None:
        exchange.writer.transport.abort()

    door["catalog"].handler = breaking
    response = await door.client.request(method, "/api/v1/products/x", headers=mint.headers(Role.ADMIN))
    assert response.status_code == 503
    assert len(door["catalog"].seen) == times


async def test_a_service_that_is_silent_is_not_asked_twice(start: Start, mint: TokenMint) -> None:
    door = await start(upstream_timeout_s=0.5)

    async def silent(exchange: Exchange) -> None:
        await exchange.gone.wait()

    door["order"].handler = silent
    for method in ("GET", "POST"):
        response = await door.client.request(method, "/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
        assert (response.status_code, response.json()["code"]) == (504, "upstream_timeout")
        assert "Idempotency-Key" in response.json()["detail"]
    assert [seen.method for seen in door["order"].seen] == ["GET", "POST"]


async def test_a_service_that_dribbles_has_an_end(start: Start, mint: TokenMint) -> None:
    door = await start(upstream_total_s=0.5)

    async def dribble(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not exchange.gone.is_set():
            await exchange.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.05)

    door["order"].handler = dribble
    with pytest.raises(httpx2.RemoteProtocolError):
        await door.client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))


async def test_a_service_that_talks_nonsense(start: Start) -> None:
    door = await start()
    door["catalog"].handler = lambda exchange: exchange.send(b"220 mail.example ESMTP\r\n\r\n")
    response = await door.client.get("/api/v1/products")
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert "ESMTP" not in response.text


@pytest.mark.parametrize("framing", [b"content-length: 100", b"transfer-encoding: chunked"])
async def test_half_an_answer_is_not_passed_off_as_a_whole_one(start: Start, framing: bytes) -> None:
    async def breaking(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n")
        exchange.writer.close()

    door = await start()
    door["catalog"].handler = breaking
    with pytest.raises(httpx2.RemoteProtocolError):
        await door.client.get("/api/v1/products")


async def test_a_service_that_hangs_does_not_take_the_others_with_it(start: Start, mint: TokenMint) -> None:
    door = await start(upstream_connections=2)
    released = asyncio.Event()

    async def hanging(exchange: Exchange) -> None:
        await released.wait()
        await exchange.answer(200, {})

    door["order"].handler = hanging
    headers = mint.headers(Role.CUSTOMER)
    waiting = [asyncio.create_task(door.client.get("/api/v1/orders", headers=headers)) for _ in range(20)]

    async def others_are_turned_away() -> bool:
        return sum(task.done() for task in waiting) >= 16

    try:
        await eventually(others_are_turned_away, what="all but two on connections and two that wait to be turned away")
        assert (await door.client.get("/api/v1/products")).status_code == 200
    finally:
        released.set()
    answers = Counter(response.status_code for response in await asyncio.gather(*waiting))
    assert set(answers) == {200, 503}
    assert 2 <= answers[200] <= 4  # while a connection is being made, its request counts as one that waits


async def test_after_five_failures_a_service_is_left_alone_for_a_moment(start: Start, mint: TokenMint) -> None:
    door = await start()
    door["order"].handler = lambda exchange: exchange.answer(503, {"code": "service_unavailable"})
    headers = mint.headers(Role.CUSTOMER)

    async def opened() -> bool:
        before = len(door["order"].seen)
        response = await door.client.post("/api/v1/orders", headers=headers)
        assert response.status_code == 503
        return len(door["order"].seen) == before

    await eventually(opened, what="the circuit to open")
    assert len(door["order"].seen) == 5
    door["order"].handler = door["order"].echo

    async def closed() -> bool:
        return (await door.client.post("/api/v1/orders", headers=headers)).status_code == 200

    await eventually(closed, what="the circuit to close")


async def test_a_service_that_restarts_is_found_again(start: Start, shop: Shop) -> None:
    catalog = Upstream("catalog", {})
    door = await start(catalog_url=catalog.url)

    async def found() -> bool:
        return (await door.client.get("/api/v1/products")).status_code == 200

    for _ in range(2):
        async with catalog.running():
            await eventually(found, what="the catalogue to be found")
        assert not await found()


async def test_many_at_once_do_not_mix(front_door: FrontDoor, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER)

    async def one(number: int) -> None:
        name, content = uuid4().hex, os.urandom(number * 500)
        response = await front_door.client.post(f"/api/v1/orders/{name}", content=content, headers=headers)
        got = response.json()
        assert (got["target"], got["sha256"]) == (f"/api/v1/orders/{name}", hashlib.sha256(content).hexdigest())

    await asyncio.gather(*(one(number) for number in range(200)))


async def test_a_live_stream_comes_as_it_is_told(front_door: FrontDoor, mint: TokenMint) -> None:
    """Nothing on the way waits for its end, or for more of it."""
    more = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        await exchange.send(head.encode() + b"9\r\ndata: 1\n\n\r\n")
        await more.wait()
        await exchange.send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    front_door["notification"].handler = stream
    path = "/api/v1/notifications/inbox/stream"
    headers = mint.headers(Role.WAREHOUSE) | {"Last-Event-ID": str(uuid4())}
    async with asyncio.timeout(PATIENCE_S), front_door.client.stream("GET", path, headers=headers) as response:
        pieces = response.aiter_text()
        assert await anext(pieces) == "data: 1\n\n"
        more.set()
        assert "".join([piece async for piece in pieces]) == "data: 2\n\n"
    assert response.headers["content-type"] == "text/event-stream"
    [seen] = front_door["notification"].seen
    assert seen.header("last-event-id") == headers["Last-Event-ID"]

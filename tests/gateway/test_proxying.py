"""What passes through, in both directions, and what happens when one side breaks."""

import asyncio
import hashlib
import os
import zlib
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from contracts.identity import Role
from embedded.ports import free_port
from gateway import proxy
from tests.conftest import TokenMint, eventually
from tests.gateway.conftest import Shop, Start, Upstream, answer, headers_of, read, say, serving


async def test_a_request_passes_as_it_is(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint) -> None:
    body = os.urandom(10_000)
    sent = mint.headers(Role.CUSTOMER) | {
        "Idempotency-Key": "k-1", "If-Match": '"7"', "Prefer": "respond-async", "Accept-Language": "de", "Cookie": "a=1; b=2",
        "Content-Type": "application/octet-stream", "X-Note": "grüß dich", "tracestate": "a=1",
    }  # fmt: skip
    response = await client.post(
        "/api/v1/orders/a%20b?q=%2Fx&q=2&empty=",
        content=body,
        headers={name.encode(): value.encode() for name, value in sent.items()},
    )
    got = response.json()
    assert (got["service"], got["method"], got["path"]) == ("order", "POST", "/api/v1/orders/a%20b")
    assert got["query"] == "q=%2Fx&q=2&empty="
    assert got["sha256"] == hashlib.sha256(body).hexdigest()
    headers = headers_of(got)
    assert {name: headers[name.lower()] for name in sent} == sent
    assert headers["content-length"] == "10000"
    assert "transfer-encoding" not in headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
async def test_every_method_passes(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint, method: str) -> None:
    response = await client.request(method, "/api/v1/products/x", headers=mint.headers(Role.ADMIN))
    assert response.status_code == 200
    assert shop["catalog"].seen[0]["method"] == method
    assert "user-agent" in headers_of(shop["catalog"].seen[0])
    assert (response.content == b"") == (method == "HEAD")


async def test_nothing_is_added_that_the_client_did_not_say(client: httpx2.AsyncClient, shop: Shop) -> None:
    await say(client, b"GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
    assert set(headers_of(shop["catalog"].seen[0])) == {
        "host", "traceparent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
    }  # fmt: skip


async def test_what_is_between_neighbours_stays_there(client: httpx2.AsyncClient, shop: Shop) -> None:
    async def talkative(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"]))
        headers = (
            (b"connection", b"close, x-hop"), (b"x-hop", b"1"), (b"keep-alive", b"timeout=5"), (b"proxy-authenticate", b"Basic"),
            (b"trailer", b"x"), (b"te", b"gzip"), (b"server", b"secret/1.0"), (b"x-stays", b"1"),
        )  # fmt: skip
        await answer(send, 200, {}, headers)

    seen: list[dict[bytes, bytes]] = []
    shop["catalog"].handler = talkative
    sent = {
        "Connection": "X-Secret, keep-alive", "X-Secret": "1", "Keep-Alive": "timeout=9", "TE": "trailers", "Trailer": "x",
        "Proxy-Authorization": "Basic x", "Proxy-Connection": "close", "Upgrade": "h2c", "X-Stays": "1",
    }  # fmt: skip
    response = await client.get("/api/v1/products", headers=sent)
    assert response.status_code == 200
    assert {name.lower().encode() for name in sent} & set(seen[0]) == {b"x-stays"}
    assert "x-stays" in response.headers
    for name in ("x-hop", "keep-alive", "proxy-authenticate", "trailer", "te", "server"):
        assert name not in response.headers


async def test_cookies_redirects_and_encodings_are_not_touched(start: Start, shop: Shop) -> None:
    client = await start(catalog_url=f"http://localhost:{shop.ports['catalog']}")  # cookies are kept by name, not by number
    packed = zlib.compress(b"hello" * 100)

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/moved"):
            headers = [(b"location", b"/api/v1/products/here"), (b"set-cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2")]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body"})
            return
        seen.append(dict(scope["headers"]))
        headers = [(b"content-encoding", b"deflate"), (b"content-length", b"%d" % len(packed)), (b"date", b"yesterday")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": packed})

    seen: list[dict[bytes, bytes]] = []
    shop["catalog"].handler = handler
    moved = await client.get("/api/v1/products/moved")
    assert moved.status_code == 307
    assert moved.headers["location"] == "/api/v1/products/here"
    assert moved.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2"]
    client.cookies.clear()
    async with client.stream("GET", "/api/v1/products/packed") as response:
        assert b"".join([piece async for piece in response.aiter_raw()]) == packed
        assert len(response.headers.get_list("date")) == 1
        assert response.headers["date"] != "yesterday"
    assert b"cookie" not in seen[0], "cookies of one client do not go out with the next request"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(client: httpx2.AsyncClient, shop: Shop, status: int) -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"etag", b'"1"')]})
        await send({"type": "http.response.body"})

    shop["catalog"].handler = handler
    for _ in range(2):  # the connection is good for another one
        response = await client.get("/api/v1/products/x")
        assert (response.status_code, response.headers["etag"], response.content) == (status, '"1"', b"")


async def test_answers_stream(client: httpx2.AsyncClient, shop: Shop) -> None:
    next_piece = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            await next_piece.wait()
            next_piece.clear()
        await send({"type": "http.response.body"})

    shop["catalog"].handler = handler
    async with client.stream("GET", "/api/v1/products/feed") as response:
        pieces = []
        async for piece in response.aiter_raw():
            pieces.append(piece)
            next_piece.set()  # the service says the next one only once the client has this one
    assert pieces == [b"0", b"1", b"2"]


async def test_a_large_answer_passes_whole(client: httpx2.AsyncClient, shop: Shop) -> None:
    content = os.urandom(5_000_000)

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5000000")]})
        await send({"type": "http.response.body", "body": content})

    shop["catalog"].handler = handler
    response = await client.get("/api/v1/products/all")
    assert response.content == content
    assert response.headers["content-length"] == "5000000"


async def test_bodies_stream(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint) -> None:
    got_first = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        first = await receive()
        got_first.set()
        await answer(send, 200, {"first": len(first["body"]), "rest": len(await read(receive))})

    async def body() -> AsyncIterator[bytes]:
        yield b"a" * 10
        await asyncio.wait_for(got_first.wait(), 5)  # the service has it before the rest was sent
        yield b"b" * 20

    shop["catalog"].handler = handler
    response = await client.post("/api/v1/products/import", content=body(), headers=mint.headers(Role.ADMIN))
    assert response.json() == {"first": 10, "rest": 20}


@pytest.mark.parametrize("size", [65_000, 65_536, 65_537, 1_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_up_to_the_limit_pass(
    client: httpx2.AsyncClient, shop: Shop, mint: TokenMint, size: int, chunked: bool
) -> None:
    content = os.urandom(size)

    async def pieces() -> AsyncIterator[bytes]:
        yield content[:1]
        yield content[1:]

    response = await client.post("/api/v1/orders", content=pieces() if chunked else content, headers=mint.headers(Role.CUSTOMER))
    got = response.json()
    assert (got["size"], got["sha256"]) == (size, hashlib.sha256(content).hexdigest())
    assert headers_of(got).get("content-length") == (None if chunked else str(size))
    assert "content-type" not in headers_of(got)


async def test_a_body_has_a_limit(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 100_000

    headers = mint.headers(Role.CUSTOMER)
    token = headers["Authorization"]
    head = f"POST /api/v1/orders HTTP/1.1\r\nHost: shop\r\nAuthorization: {token}\r\nContent-Length: 1000001\r\n\r\n"
    announced = await say(client, head.encode())
    assert announced.startswith(b"HTTP/1.1 413")
    assert b'"payload_too_large"' in announced
    assert b"connection: close" in announced
    assert not shop.seen
    # Not announced, but counted; the client may be cut off while it still writes.
    try:
        response = await client.post("/api/v1/orders", content=endless(), headers=headers)
        assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")
    except (httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError):
        pass
    small = await say(
        client,
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n" + b"FA01\r\n" + b"x" * 64001,
    )
    assert small.startswith(b"HTTP/1.1 413")
    assert not shop.seen
    assert (await client.post("/api/v1/orders", content=b"x", headers=headers)).status_code == 200


async def test_an_answer_before_the_body_has_ended(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint) -> None:
    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 422, {"code": "validation_failed"})

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(0.2)
        yield b"y" * 200_000

    shop["order"].handler = hasty
    for _ in range(3):
        try:
            response = await client.post("/api/v1/orders", content=slow(), headers=mint.headers(Role.CUSTOMER))
            assert response.status_code == 422
        except (httpx2.WriteError, httpx2.ReadError):
            pass
    shop["order"].reset()
    response = await client.post("/api/v1/orders", content=b"fine", headers=mint.headers(Role.CUSTOMER))
    assert response.json()["size"] == 4, "what was left of the body before is not taken for this request"


async def test_a_client_that_leaves_ends_the_work(client: httpx2.AsyncClient, shop: Shop) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        arrived.set()
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    shop["catalog"].handler = slow
    counted = 'gateway_requests_total{method="GET",route="/api/v1/products",service="catalog",status="499"}'
    request = asyncio.create_task(client.get("/api/v1/products/slow"))
    await asyncio.wait_for(arrived.wait(), 5)
    request.cancel()
    await asyncio.wait_for(left.wait(), 5)

    async def was_counted() -> bool:
        return counted in (await client.get("/metrics")).text

    await eventually(was_counted)


async def test_a_client_that_leaves_in_mid_answer_ends_it(client: httpx2.AsyncClient, shop: Shop) -> None:
    left = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def talk() -> None:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
                await asyncio.sleep(0.005)

        talking = asyncio.create_task(talk())
        while (await receive())["type"] != "http.disconnect":
            pass
        talking.cancel()
        left.set()

    shop["catalog"].handler = endless
    async with client.stream("GET", "/api/v1/products/feed") as response:
        async for _ in response.aiter_raw():
            break
    await asyncio.wait_for(left.wait(), 5)


async def test_a_client_that_does_not_read_holds_nothing_up(start: Start, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_CLIENT_SECONDS", 0.3)
    client = await start()
    left = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        reading = asyncio.create_task(receive_until_gone(receive))
        while not reading.done():
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
            await asyncio.sleep(0)
        left.set()

    async def receive_until_gone(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    shop["catalog"].handler = endless
    _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port, limit=1000)
    writer.write(b"GET /api/v1/products HTTP/1.1\r\nHost: shop\r\n\r\n")
    await asyncio.wait_for(left.wait(), 10)
    writer.transport.abort()


async def test_a_client_that_leaves_in_mid_body_ends_the_work(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint) -> None:
    left = asyncio.Event()

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    shop["order"].handler = reading
    token = mint.headers(Role.CUSTOMER)["Authorization"]
    head = f"POST /api/v1/orders HTTP/1.1\r\nHost: shop\r\nAuthorization: {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    await say(client, head.encode() + b"5\r\nhello\r\n", patience=0.2)
    await asyncio.wait_for(left.wait(), 5)


async def test_a_service_that_is_down(start: Start, mint: TokenMint) -> None:
    client = await start(order_url=f"http://127.0.0.1:{free_port()}")
    for method in ("GET", "POST"):
        response = await client.request(method, "/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
        problem = response.json()
        assert (response.status_code, problem["code"]) == (503, "service_unavailable")
        assert response.headers["retry-after"] == "1"
        assert "127.0.0.1" not in response.text
        assert len(problem["trace_id"]) == 32
    assert (await client.get("/api/v1/products")).status_code == 200


async def test_a_read_waits_for_a_service_that_is_starting(
    start: Start, mint: TokenMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "_REFUSED_PAUSE_S", 0.5)
    port = free_port()
    client = await start(order_url=f"http://127.0.0.1:{port}")
    request = asyncio.create_task(client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER)))
    await asyncio.sleep(0.1)
    assert (await client.post("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))).status_code == 503
    assert not request.done()
    async with serving(Upstream("order", {}), port):
        assert (await request).status_code == 200


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("PUT", 2), ("POST", 1), ("PATCH", 1)])
async def test_only_what_may_be_repeated_is_repeated(start: Start, mint: TokenMint, method: str, times: int) -> None:
    """The service takes each request and breaks the connection before any byte of an answer."""
    requests = 0

    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.transport.abort()

    server = await asyncio.start_server(breaking, "127.0.0.1", 0)
    client = await start(catalog_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    response = await client.request(method, "/api/v1/products/1", headers=mint.headers(Role.ADMIN), content=b"{}")
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert requests == times
    server.close()


async def test_a_service_that_is_silent(start: Start, shop: Shop, mint: TokenMint) -> None:
    client = await start(upstream_timeout_s=0.2)

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["method"])
        await read(receive)
        await receive()

    seen: list[str] = []
    shop["order"].handler = silent
    for method in ("GET", "POST"):
        response = await client.request(method, "/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
        assert (response.status_code, response.json()["code"]) == (504, "upstream_timeout")
    assert seen == ["GET", "POST"]


async def test_no_exchange_takes_for_ever(start: Start, shop: Shop, mint: TokenMint) -> None:
    client = await start(upstream_total_s=0.3)

    async def trickle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0.05)
        await read(receive)

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    shop["order"].handler = trickle
    began = asyncio.get_running_loop().time()
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
    try:
        response = await client.post("/api/v1/orders", content=body(), headers=mint.headers(Role.CUSTOMER))
        assert (response.status_code, response.json()["code"]) == (504, "upstream_timeout")
        assert response.headers["connection"] == "close"
    except (httpx2.WriteError, httpx2.ReadError):
        pass
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_service_that_talks_nonsense(start: Start) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    client = await start(catalog_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    response = await client.get("/api/v1/products")
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert "ESMTP" not in response.text
    server.close()


@pytest.mark.parametrize("framing", [b"content-length: 100", b"transfer-encoding: chunked"])
async def test_half_an_answer_is_not_passed_off_as_a_whole_one(start: Start, framing: bytes) -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(breaking, "127.0.0.1", 0)
    client = await start(catalog_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get("/api/v1/products")
    server.close()


async def test_a_service_that_hangs_does_not_take_the_others_with_it(start: Start, shop: Shop, mint: TokenMint) -> None:
    client = await start(upstream_connections=2)
    released = asyncio.Event()

    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        await released.wait()
        await answer(send, 200, {})

    shop["order"].handler = hanging
    waiting = [asyncio.create_task(client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))) for _ in range(20)]
    assert (await client.get("/api/v1/products")).status_code == 200
    released.set()
    assert {response.status_code for response in await asyncio.gather(*waiting)} == {200}


async def test_many_at_once_do_not_mix(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER)

    async def one(number: int) -> None:
        name, content = uuid4().hex, os.urandom(number * 500)
        response = await client.post(f"/api/v1/orders/{name}", content=content, headers=headers | {"X-Request-ID": name})
        got = response.json()
        assert (got["path"], got["sha256"]) == (f"/api/v1/orders/{name}", hashlib.sha256(content).hexdigest())
        assert response.headers["x-request-id"] == name == headers_of(got)["x-request-id"]

    await asyncio.gather(*(one(number) for number in range(200)))

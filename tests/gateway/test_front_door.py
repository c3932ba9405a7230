"""Over the wire, byte by byte: nothing but public endpoints is reachable, and what is refused is told in one form."""

import asyncio
import json

import pytest

from contracts.identity import Role
from tests.conftest import PATIENCE_S, TokenMint, eventually
from tests.gateway.conftest import FrontDoor, Start, say
from tests.gateway.test_routes import TRICKS_IN_A_REQUEST_LINE


@pytest.mark.parametrize(
    "path",
    [
        "/internal/v1/reservations", "/internal/v1/service-tokens", "/INTERNAL/v1/x", "/api/v1/internal/x", "/health/xyz",
        "/identity/health", "/api/v1/catalog/metrics", "/metrics", "/limits", "/openapi.json/x", "/api/v1/orders-internal",
        "/docs/../internal/v1/x", "/docs/%2e%2e/app.py", "/docs/..%2fapp.py", "/docs//etc/passwd", *TRICKS_IN_A_REQUEST_LINE,
    ],
)  # fmt: skip
async def test_no_trick_reaches_a_service(front_door: FrontDoor, path: str) -> None:
    answered = await front_door.say(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
    assert answered.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), answered
    assert front_door.shop.raw == b""


@pytest.mark.parametrize(
    "head",
    [
        "GET http://catalog/internal/v1/products/lookup HTTP/1.1\r\nHost: catalog\r\n\r\n",
        "GET /api/v1/reports/daily HTTP/1.1\r\nHost: shop\r\nX-Original-URL: /api/v1/products\r\n\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: shop\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n",
        "TRACE /api/v1/products HTTP/1.1\r\nHost: shop\r\n\r\n",
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x",
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nHost: other\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\nHost: shop/internal\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\n\r\n",
        "GET /api/v1/products HTTP/1.0\r\nHost: shop\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nX_Under: 1\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\nHost: shop\r\n folded: 1\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nX : 1\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\nHost: shop\r\n" + "".join(f"X-{n}: y\r\n" for n in range(150)) + "\r\n",
        "GET /api/v1/prod\xfcucts HTTP/1.1\r\nHost: shop\r\n\r\n",
    ],
)
async def test_no_odd_request_reaches_a_service(front_door: FrontDoor, head: str) -> None:
    answered = await front_door.say(head.encode("latin-1"))
    assert answered.startswith(b"HTTP/1.1 4"), answered
    body = answered.partition(b"\r\n\r\n")[2]
    assert json.loads(body)["status"] == int(answered.split()[1])
    assert front_door.shop.raw == b""


async def test_g1_no_request_is_smuggled_by_naming_its_length_in_connection(front_door: FrontDoor) -> None:
    smuggled = b"GET /internal/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n"
    for connection in (b"content-length", b"Content-Length, close", b"transfer-encoding, te", b"host", b"x-request-id"):
        head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: shop\r\nConnection: %b\r\n" % connection
        for framing in (b"Content-Length: %d\r\n\r\n%b" % (len(smuggled), smuggled),
                        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)):  # fmt: skip
            await front_door.say(head + framing)
    assert {request.target for request in front_door.seen} <= {"/api/v1/auth/login"}
    assert {request.body for request in front_door.seen} <= {smuggled}, "it is a body, whole"
    assert not front_door["identity"].unread


async def test_g2_a_service_hears_nothing_of_a_body_that_has_not_come(front_door: FrontDoor, mint: TokenMint) -> None:
    token = mint.token(Role.CUSTOMER)
    head = f"POST /api/v1/orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {token}\r\n"
    slow = [await asyncio.open_connection("127.0.0.1", front_door.port) for _ in range(40)]
    connections = front_door["order"].connections
    for number, (_, writer) in enumerate(slow):
        framing = "Content-Length: 100" if number % 2 else "Transfer-Encoding: chunked"
        writer.write(f"{head}{framing}\r\n\r\n5\r\nhello\r\n".encode())
    await asyncio.sleep(0.5)
    assert front_door["order"].raw == b""
    assert front_door["order"].connections == connections
    response = await front_door.client.post("/api/v1/orders", content=b"fast", headers=mint.headers(Role.CUSTOMER))
    assert response.status_code == 200
    assert [request.body for request in front_door["order"].seen] == [b"fast"]
    for _, writer in slow:
        writer.close()


async def test_g4_a_trailer_is_no_header(front_door: FrontDoor, mint: TokenMint) -> None:
    trailers = f"Authorization: Bearer {mint.token(Role.ADMIN)}\r\nX-Forwarded-For: 203.0.113.9\r\n"
    head = "POST {path} HTTP/1.1\r\nHost: shop\r\nTrailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = f"5\r\nhello\r\n0\r\n{trailers}\r\n"
    assert (await front_door.say((head.format(path="/api/v1/products") + body).encode())).startswith(b"HTTP/1.1 401")
    assert not front_door.seen
    answered = await front_door.say((head.format(path="/api/v1/auth/login") + body).encode())
    assert answered.startswith(b"HTTP/1.1 200")
    got = front_door["identity"].seen[0]
    assert (got.body, got.header("authorization"), got.header("x-forwarded-for")) == (b"hello", None, "127.0.0.1")


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_an_upgrade_is_not_offered(front_door: FrontDoor, upgrade: str) -> None:
    head = f"GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
    answered = await front_door.say(head.encode())
    assert answered.startswith(b"HTTP/1.1 200")
    got = front_door["catalog"].seen[0]
    assert got.header("upgrade") is None


async def test_a_head_that_does_not_end_is_cut_off(front_door: FrontDoor) -> None:
    piece = b"x" * 9_000
    for pieces in ([b"GET /api/v1/products HTTP/1.1\r\nX-Long: ", *[piece] * 4], [b"GET /api/v1/products?" + piece * 4]):
        answered = await front_door.say(*pieces)
        assert answered.startswith(b"HTTP/1.1 431")
        assert b'"headers_too_large"' in answered
    assert not front_door.seen


async def test_who_does_not_send_a_request_in_time_is_sent_away(start: Start) -> None:
    door = await start(request_head_timeout_s=0.3, request_timeout_s=0.6)
    unfinished = b"GET /api/v1/products HTTP/1.1\r\nHost:"
    assert (await say(door.port, unfinished, patience=PATIENCE_S)).startswith(b"HTTP/1.1 408")
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\n")

    async def dribble() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.05)

    dribbling = asyncio.create_task(dribble())
    async with asyncio.timeout(PATIENCE_S):
        answered = await reader.readuntil(b'"request_timeout"')
    dribbling.cancel()
    writer.close()
    assert answered.startswith(b"HTTP/1.1 408")
    assert not door.seen


async def test_a_method_that_a_path_does_not_know(front_door: FrontDoor) -> None:
    response = await front_door.client.get("/api/v1/auth/login")
    assert (response.status_code, response.json()["code"], response.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert (await front_door.client.post("/docs")).headers["allow"] == "GET, HEAD"
    assert not front_door.seen


async def test_a_refusal_is_a_problem_with_a_trace_id(front_door: FrontDoor) -> None:
    response = await front_door.client.get("/api/v1/nothing?secret=1")
    problem = response.json()
    assert (response.status_code, problem["code"], problem["instance"]) == (404, "not_found", "/api/v1/nothing")
    assert problem["type"] == "https://distributed-commerce.example/errors/not_found"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert len(problem["trace_id"]) == 32
    assert "server" not in response.headers
    head = await front_door.client.head("/api/v1/nothing")
    assert (head.status_code, head.content) == (404, b"")


async def test_g12_personal_answers_are_kept_by_nobody(front_door: FrontDoor, mint: TokenMint) -> None:
    headers = mint.headers(Role.ADMIN)

    async def kept(method: str, path: str) -> str | None:
        response = await front_door.client.request(method, path, headers=headers)
        assert response.status_code == 200
        return response.headers.get("cache-control")

    for method, path in (("GET", "/api/v1/orders"), ("GET", "/api/v1/users/me"), ("POST", "/api/v1/auth/login"),
                         ("GET", "/api/v1/reports/daily"), ("PUT", "/api/v1/products/x")):  # fmt: skip
        assert await kept(method, path) == "no-store", path

    front_door["catalog"].handler = lambda exchange: exchange.answer(200, {}, (("cache-control", "public, max-age=60"),))
    assert await kept("GET", "/api/v1/products") == "public, max-age=60"


async def test_the_access_log_tells_neither_who_nor_what(front_door: FrontDoor, mint: TokenMint) -> None:
    token = mint.token(Role.CUSTOMER)
    response = await front_door.client.get("/api/v1/orders?email=ann@example.com", headers={"Authorization": f"Bearer {token}"})
    request_id = response.headers["x-request-id"]

    async def written() -> bool:
        return request_id in front_door.log

    await eventually(written, what="the line of the request")
    (line,) = [line for line in front_door.log.splitlines() if request_id in line]
    entry = json.loads(line)
    assert (entry["http.request.method"], entry["url.path"], entry["http.response.status_code"], entry["labels.route"]) == (
        "GET",
        "/api/v1/orders",
        200,
        "/api/v1/orders",
    )
    assert len(entry["trace.id"]) == 32
    for secret in ("ann", "127.0.0.1", token.split(".")[1]):
        assert secret not in line


async def test_scripts_of_other_origins_may_not_call(front_door: FrontDoor, start: Start) -> None:
    asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    refused = await front_door.client.options("/api/v1/orders", headers=asks)
    assert refused.status_code == 405
    assert "access-control-allow-origin" not in refused.headers

    client = (await start(cors_allow_origins=("https://shop.example",))).client
    preflight = await client.options("/api/v1/orders", headers=asks)
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, POST"
    assert {"idempotency-key", "cache-control"} <= set(preflight.headers["access-control-allow-headers"].split(", "))
    for path in ("/api/v1/products", "/api/v1/orders"):  # also of a refusal the script may know
        response = await client.get(path, headers={"Origin": "https://shop.example"})
        assert response.headers["access-control-allow-origin"] == "https://shop.example"
        assert {"retry-after", "age"} <= set(response.headers["access-control-expose-headers"].split(", "))
        other = await client.get(path, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        assert other.headers["vary"] == "origin"
    other = await client.options("/api/v1/orders", headers=asks | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers

    everybody = (await start(cors_allow_origins="*")).client
    response = await everybody.get("/api/v1/products", headers={"Origin": "https://any.example"})
    assert response.headers["access-control-allow-origin"] in ("*", "https://any.example")

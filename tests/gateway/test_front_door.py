"""Over the wire, byte by byte: nothing but public endpoints is reachable."""

import asyncio

import httpx2
import pytest

from gateway import protocol
from tests.gateway.conftest import Shop, Start, say
from tests.gateway.test_routes import TRICKS_IN_A_REQUEST_LINE


@pytest.mark.parametrize(
    "path",
    [
        "/internal/v1/reservations", "/internal/v1/service-tokens", "/INTERNAL/v1/x", "/api/v1/internal/x", "/health/xyz",
        "/identity/health", "/api/v1/catalog/metrics", "/Metrics", "/openapi.json/x", "/api/v1/orders-internal",
        "/docs/../internal/v1/x", "/docs/%2e%2e/app.py", "/docs/..%2fapp.py", "/docs//etc/passwd", *TRICKS_IN_A_REQUEST_LINE,
    ],
)  # fmt: skip
async def test_no_trick_reaches_a_service(client: httpx2.AsyncClient, shop: Shop, path: str) -> None:
    answered = await say(client, f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
    status = answered.split(b"\r\n")[0]
    assert status.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), answered
    assert not shop.seen


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
        "GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        "GET /api/v1/products HTTP/1.1\r\n" + "".join(f"X-{n}: y\r\n" for n in range(150)) + "\r\n",
        "GET /api/v1/prod\xfcucts HTTP/1.1\r\nHost: shop\r\n\r\n",
    ],
)
async def test_no_odd_request_reaches_a_service(client: httpx2.AsyncClient, shop: Shop, head: str) -> None:
    answered = await say(client, head.encode("latin-1"))
    assert answered.startswith(b"HTTP/1.1 4"), answered
    assert b"Traceback" not in answered
    assert not shop.seen


async def test_a_body_that_nobody_reads_ends_the_connection(client: httpx2.AsyncClient, shop: Shop) -> None:
    for framing, closes in (("Transfer-Encoding: chunked", True), ("Content-Length: 900000", True), ("Content-Length: 9", False)):
        answered = await say(client, f"POST /api/v1/orders HTTP/1.1\r\nHost: shop\r\n{framing}\r\n\r\n".encode())
        assert answered.startswith(b"HTTP/1.1 401")
        assert (b"connection: close" in answered) == closes
    assert not shop.seen


async def test_an_upgrade_is_not_offered(client: httpx2.AsyncClient, shop: Shop) -> None:
    head = b"GET /api/v1/products HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    answered = await say(client, head)
    assert answered.startswith(b"HTTP/1.1 200")
    assert "upgrade" not in dict(shop["catalog"].seen[0]["headers"])


async def test_a_head_that_does_not_end_is_cut_off(client: httpx2.AsyncClient) -> None:
    piece = b"x" * 9_000
    answered = await say(client, b"GET /api/v1/products HTTP/1.1\r\nX-Long: ", *[piece] * 4)
    assert answered.startswith(b"HTTP/1.1 431")
    answered = await say(client, b"GET /api/v1/products HTTP/1.1\r\nX-Long: " + b"y" * 40_000 + b"\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 431")


async def test_who_does_not_send_a_head_is_sent_away(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    client = await start()
    assert client.base_url.port is not None
    for first in (b"", b"GET /api/v1/products HTTP/1.1\r\nHost:"):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(first)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_method_that_a_path_does_not_know(client: httpx2.AsyncClient, shop: Shop) -> None:
    response = await client.get("/api/v1/auth/login")
    assert (response.status_code, response.json()["code"], response.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert not shop.seen


async def test_a_refusal_is_a_problem_with_a_trace_id(client: httpx2.AsyncClient) -> None:
    response = await client.get("/api/v1/nothing", headers={"X-Request-ID": "abc-1"})
    problem = response.json()
    assert (response.status_code, problem["code"], problem["instance"]) == (404, "not_found", "/api/v1/nothing")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "abc-1"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert len(problem["trace_id"]) == 32
    assert "server" not in response.headers


async def test_scripts_of_other_origins_may_not_call(client: httpx2.AsyncClient, start: Start, shop: Shop) -> None:
    asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    refused = await client.options("/api/v1/orders", headers=asks)
    assert refused.status_code == 405
    assert "access-control-allow-origin" not in refused.headers

    open_to_one = await start(cors_allow_origins=("https://shop.example",))
    preflight = await open_to_one.options("/api/v1/orders", headers=asks)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
    assert "idempotency-key" in preflight.headers["access-control-allow-headers"]
    response = await open_to_one.get("/api/v1/products", headers={"Origin": "https://shop.example"})
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
    assert "retry-after" in response.headers["access-control-expose-headers"]
    other = await open_to_one.get("/api/v1/products", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    assert other.headers["vary"] == "origin"


async def test_a_secure_address_is_told_to_stay_secure(start: Start) -> None:
    client = await start(trusted_proxies="127.0.0.1")
    plain = await client.get("/api/v1/products")
    secure = await client.get("/api/v1/products", headers={"X-Forwarded-Proto": "https"})
    assert "strict-transport-security" not in plain.headers
    assert "max-age" in secure.headers["strict-transport-security"]


async def test_nobody_needs_the_gateway_to_survive_an_error_of_its_own(
    start: Start, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start()

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("gateway.edge.limit_key", broken)
    response = await client.get("/api/v1/products")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "secret" not in response.text

"""Who gets in: tokens, roles, and whose address counts."""

import asyncio
from uuid import uuid4

import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contracts.identity import Role
from tests.conftest import TokenMint
from tests.gateway.conftest import Shop, Start, headers_of


async def test_everybody_may_look_at_products(client: httpx2.AsyncClient, shop: Shop) -> None:
    response = await client.get("/api/v1/products/milk", params={"x": "1 2"})
    assert response.status_code == 200
    assert shop["catalog"].seen[0]["path"] == "/api/v1/products/milk"


async def test_without_a_token_there_are_no_orders(client: httpx2.AsyncClient, shop: Shop) -> None:
    response = await client.get("/api/v1/orders")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    assert not shop.seen


async def test_a_token_is_checked_and_passed_on(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER)
    response = await client.get("/api/v1/orders", headers=headers)
    assert response.status_code == 200
    assert dict(shop["order"].seen[0]["headers"])["authorization"] == headers["Authorization"]


@pytest.mark.parametrize("kind", ["expired", "forged", "garbage", "empty", "basic"])
async def test_a_bad_token_is_no_token(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint, kind: str) -> None:
    authorization = {
        "expired": f"Bearer {mint.token(Role.CUSTOMER, expires_in=-60)}",
        "forged": f"Bearer {TokenMint().token(Role.ADMIN)}",
        "garbage": "Bearer x.y.z",
        "empty": "Bearer",
        "basic": "Basic dXNlcjpwYXNz",
    }[kind]
    response = await client.get("/api/v1/orders", headers={"Authorization": authorization})
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert not shop["order"].seen
    # Where no token is needed, an old one does no harm.
    assert (await client.get("/api/v1/products", headers={"Authorization": authorization})).status_code == 200
    assert (await client.post("/api/v1/auth/refresh", headers={"Authorization": authorization})).status_code == 200


async def test_roles_are_checked_at_the_door(client: httpx2.AsyncClient, shop: Shop, mint: TokenMint) -> None:
    customer, staff = mint.headers(Role.CUSTOMER), mint.headers(Role.ADMIN)
    for path, method in (("/api/v1/reports/daily", "GET"), ("/api/v1/stock", "GET"), ("/api/v1/products", "POST")):
        refused = await client.request(method, path, headers=customer)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert (await client.request(method, path, headers=staff)).status_code == 200


async def test_a_process_of_the_platform_does_not_come_in_by_the_front_door(
    client: httpx2.AsyncClient, shop: Shop, mint: TokenMint
) -> None:
    response = await client.get("/api/v1/orders", headers=mint.headers(Role.SERVICE))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert not shop.seen


async def test_while_identity_is_down_nobody_is_called_a_liar(start: Start, shop: Shop, mint: TokenMint) -> None:
    client = await start(identity_url="http://127.0.0.1:1")
    response = await client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert (await client.get("/api/v1/products", headers=mint.headers(Role.CUSTOMER))).status_code == 200


async def test_an_identity_that_hangs_holds_up_a_crowd_once(
    start: Start, shop: Shop, mint: TokenMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    client = await start(identity_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    began = asyncio.get_running_loop().time()
    crowd = [client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER)) for _ in range(20)]
    assert {response.status_code for response in await asyncio.gather(*crowd)} == {503}
    assert asyncio.get_running_loop().time() - began < 5
    server.close()


async def test_an_unknown_peer_cannot_say_who_it_is(client: httpx2.AsyncClient, shop: Shop) -> None:
    claims = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Host": "shop.example",
    }
    await client.get("/api/v1/products", headers=claims)
    got = dict(shop["catalog"].seen[0]["headers"])
    assert got["x-forwarded-for"] == "127.0.0.1"
    assert got["x-forwarded-proto"] == "http"
    assert got["x-forwarded-host"] == got["host"] == "shop.example"
    assert "203.0.113.9" not in str(got)


async def test_a_trusted_proxy_says_who_it_speaks_for(start: Start, shop: Shop) -> None:
    client = await start(trusted_proxies="10.0.0.0/8, 127.0.0.1", rate_limit_anonymous_per_minute=1)
    claims = {
        "X-Forwarded-For": "198.51.100.7, 203.0.113.9, 10.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "a.example",
    }
    assert (await client.get("/api/v1/products", headers=claims)).status_code == 200
    got = dict(shop["catalog"].seen[0]["headers"])
    assert got["x-forwarded-for"] == "198.51.100.7, 203.0.113.9, 10.0.0.1, 127.0.0.1"
    assert (got["x-forwarded-proto"], got["x-forwarded-host"], got["host"]) == ("https", "a.example", "a.example")
    # 203.0.113.9 is the client; what stands before it in the list is what the client itself claims, and buys it nothing.
    claims["X-Forwarded-For"] = "198.51.100.8, 203.0.113.9, 10.0.0.1"
    assert (await client.get("/api/v1/products", headers=claims)).status_code == 429
    claims["X-Forwarded-For"] = "203.0.113.10, 10.0.0.1"
    assert (await client.get("/api/v1/products", headers=claims)).status_code == 200


async def test_traces_and_request_ids_go_through(client: httpx2.AsyncClient, shop: Shop) -> None:
    traceparent = f"00-{uuid4().hex}-00f067aa0ba902b7-01"
    response = await client.get("/api/v1/products", headers={"traceparent": traceparent, "X-Request-ID": "cart.7_a-b"})
    got = dict(shop["catalog"].seen[0]["headers"])
    assert (got["traceparent"], got["x-request-id"], response.headers["x-request-id"]) == (
        traceparent,
        "cart.7_a-b",
        "cart.7_a-b",
    )

    response = await client.get("/api/v1/products", headers={"traceparent": "00-0-0-0", "X-Request-ID": "a b <script>"})
    got = dict(shop["catalog"].seen[1]["headers"])
    version, trace_id, span_id, flags = got["traceparent"].split("-")
    assert (version, len(trace_id), len(span_id), flags) == ("00", 32, 16, "00")
    assert got["x-request-id"] == response.headers["x-request-id"] == trace_id


async def test_with_a_collector_a_request_has_a_span(start: Start, shop: Shop, mint: TokenMint) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = await start(tracer=provider.get_tracer("test"))
    trace_id = uuid4().hex
    await client.get("/api/v1/products/x", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
    refused = await client.get("/api/v1/orders")
    first, second = exporter.get_finished_spans()
    assert (first.name, first.attributes) == (
        "GET /api/v1/products",
        {
            "http.request.method": "GET",
            "http.route": "/api/v1/products",
            "peer.service": "catalog",
            "http.response.status_code": 200,
        },
    )
    assert first.context is not None
    assert format(first.context.trace_id, "032x") == trace_id
    assert headers_of(shop["catalog"].seen[0])["traceparent"] == f"00-{trace_id}-{first.context.span_id:016x}-01"
    assert second.context is not None
    assert second.attributes is not None
    assert second.attributes["http.response.status_code"] == 401
    assert refused.json()["trace_id"] == format(second.context.trace_id, "032x")

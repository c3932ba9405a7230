"""Who gets in: tokens, roles, and whose address counts."""

from uuid import uuid4

import httpx2
import pytest

from contracts.identity import Role
from tests.conftest import TokenMint
from tests.gateway.conftest import Shop, Start


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
        "expired": f"Bearer {mint.token(Role.CUSTOMER, expires_in=-1)}",
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
    customer, staff = mint.headers(Role.CUSTOMER), mint.headers(Role.SUPPORT)
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

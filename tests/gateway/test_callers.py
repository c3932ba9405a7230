"""Who gets in: tokens, roles, sessions, and whose address counts."""

import asyncio
import time
from uuid import uuid4

import pytest

from contracts.identity import Role
from tests.conftest import TokenMint, eventually
from tests.gateway.conftest import NOWHERE, FrontDoor, Shop, Start, Upstream, with_session


async def test_everybody_may_look_at_products(front_door: FrontDoor) -> None:
    response = await front_door.client.get("/api/v1/products/milk", params={"x": "1 2"})
    assert response.status_code == 200
    assert front_door["catalog"].seen[0].target == "/api/v1/products/milk?x=1+2"


async def test_without_a_token_there_are_no_orders(front_door: FrontDoor) -> None:
    response = await front_door.client.get("/api/v1/orders")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    assert not front_door.seen


async def test_a_token_is_checked_and_passed_on(front_door: FrontDoor, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER)
    response = await front_door.client.get("/api/v1/orders", headers=headers)
    assert response.status_code == 200
    assert front_door["order"].seen[0].header("authorization") == headers["Authorization"]


@pytest.mark.parametrize("kind", ["expired", "forged", "garbage", "empty", "basic", "query"])
async def test_a_bad_token_is_no_token(front_door: FrontDoor, mint: TokenMint, kind: str) -> None:
    authorization = {
        "expired": f"Bearer {mint.token(Role.CUSTOMER, expires_in=-90)}",
        "forged": f"Bearer {TokenMint().token(Role.ADMIN)}",
        "garbage": "Bearer x.y.z",
        "empty": "Bearer",
        "basic": "Basic dXNlcjpwYXNz",
        "query": "",
    }[kind]
    query = f"?access_token={mint.token(Role.CUSTOMER)}" if kind == "query" else ""
    response = await front_door.client.get(f"/api/v1/orders{query}", headers={"Authorization": authorization})
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert not front_door["order"].seen
    # Where no token is needed, an old one does no harm.
    for method, path in (("GET", "/api/v1/products"), ("POST", "/api/v1/auth/refresh")):
        response = await front_door.client.request(method, path, headers={"Authorization": authorization})
        assert response.status_code == 200


async def test_clocks_may_differ_by_a_minute(front_door: FrontDoor, mint: TokenMint) -> None:
    headers = {"Authorization": f"Bearer {mint.token(Role.CUSTOMER, expires_in=-30)}"}
    assert (await front_door.client.get("/api/v1/orders", headers=headers)).status_code == 200


async def test_roles_are_checked_at_the_door(front_door: FrontDoor, mint: TokenMint) -> None:
    customer, staff = mint.headers(Role.CUSTOMER), mint.headers(Role.SUPPORT)
    for path, method in (("/api/v1/reports/daily", "GET"), ("/api/v1/stock", "GET"), ("/api/v1/products", "POST")):
        refused = await front_door.client.request(method, path, headers=customer)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert not front_door.seen
    for path, method in (("/api/v1/reports/daily", "GET"), ("/api/v1/stock", "GET"), ("/api/v1/products", "POST")):
        assert (await front_door.client.request(method, path, headers=staff)).status_code == 200


async def test_a_process_of_the_platform_does_not_come_in_by_the_front_door(front_door: FrontDoor, mint: TokenMint) -> None:
    response = await front_door.client.get("/api/v1/orders", headers=mint.headers(Role.SERVICE))
    assert response.status_code in (401, 403)
    assert not front_door.seen


async def test_while_identity_was_never_reached_nobody_is_called_a_liar(start: Start, mint: TokenMint) -> None:
    door = await start(identity_url=NOWHERE)
    response = await door.client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert response.headers["retry-after"] == "1"
    assert (await door.client.get("/api/v1/products", headers=mint.headers(Role.CUSTOMER))).status_code == 200


async def test_what_is_known_of_identity_outlives_it(start: Start, shop: Shop, mint: TokenMint) -> None:
    jwks = await mint.verifier()._fetch_keys()
    identity = Upstream("identity", jwks)
    async with identity.running():
        door = await start(identity_url=identity.url)

        async def known() -> bool:
            return (await door.client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))).status_code == 200

        await eventually(known, what="identity's keys to arrive")
    assert (await door.client.post("/api/v1/auth/refresh")).status_code == 503
    assert await known()


async def test_g3_a_session_that_was_ended_is_gone_at_the_door_within_two_seconds(start: Start, mint: TokenMint) -> None:
    door, took = await start(), []
    for _ in range(3):
        session_id = uuid4()
        headers = with_session(mint, session_id, Role.CUSTOMER)
        assert (await door.client.get("/api/v1/orders", headers=headers)).status_code == 200
        door.ended.add(session_id)
        began = time.monotonic()

        async def refused(headers: dict[str, str] = headers) -> bool:
            response = await door.client.get("/api/v1/orders", headers=headers)
            return (response.status_code, response.json().get("code")) == (401, "unauthenticated")

        await eventually(refused, what="the end of the session to be heard of")
        took.append(time.monotonic() - began)
    assert min(took) < 2, "a busy machine may be late, but not each time"
    assert (await door.client.get("/api/v1/products", headers=headers)).status_code == 200, "as without a token"
    other = with_session(mint, uuid4(), Role.CUSTOMER)
    assert (await door.client.get("/api/v1/orders", headers=other)).status_code == 200


async def test_who_comes_back_after_a_silence_is_not_judged_by_what_was_known_before(start: Start, mint: TokenMint) -> None:
    door, session_id = await start(), uuid4()
    headers = with_session(mint, session_id, Role.CUSTOMER)
    assert (await door.client.get("/api/v1/orders", headers=headers)).status_code == 200
    door.ended.add(session_id)
    await asyncio.sleep(1)
    assert (await door.client.get("/api/v1/orders", headers=headers)).status_code == 401


async def test_ended_sessions_stay_ended_while_the_edge_is_away(start: Start, mint: TokenMint) -> None:
    door, session_id = await start(), uuid4()
    door.ended.add(session_id)
    headers = with_session(mint, session_id, Role.CUSTOMER)
    assert (await door.client.get("/api/v1/orders", headers=headers)).status_code == 401
    await door.edge.aclose()
    await asyncio.sleep(1)
    assert (await door.client.get("/api/v1/orders", headers=headers)).status_code == 401


CLAIMS = {
    "X-Forwarded-For": "198.51.100.7, 203.0.113.9, 10.0.0.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "X-Request-ID": "cart.7_a-b",
    "X-Envoy-Retry-On": "5xx",
    "X-Envoy-Upstream-RQ-Timeout-Ms": "1",
    "X-Envoy-Original-Path": "/internal",
    "X-Trace-ID": "0" * 32,
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "evil=1",
    "baggage": "evil=1",
    "Host": "shop.example",
}


async def test_g12_an_unknown_peer_says_nothing_about_itself_nor_about_traces(front_door: FrontDoor) -> None:
    response = await front_door.client.get("/api/v1/products", headers=CLAIMS)
    got = front_door["catalog"].seen[0]
    assert (got.header("x-forwarded-for"), got.header("x-forwarded-proto")) == ("127.0.0.1", "http")
    assert got.header("host") == "shop.example"
    version, trace_id, span_id, flags = (got.header("traceparent") or "").split("-")
    assert (version, len(trace_id), len(span_id), flags) == ("00", 32, 16, "00")
    assert got.header("x-request-id") == response.headers["x-request-id"]
    for word in (b"203.0.113.9", b"evil", b"cart.7", b"4bf92f35", b"x-envoy", b"X-Envoy", b"x-trace-id", b"baggage"):
        assert word not in got.raw, word


async def test_a_trusted_proxy_says_who_it_speaks_for(start: Start, shop: Shop) -> None:
    door = await start(trusted_proxies="10.0.0.0/8, 127.0.0.1", rate_limit_anonymous_per_minute=1)
    response = await door.client.get("/api/v1/products", headers=CLAIMS)
    got = shop["catalog"].seen[0]
    # The client is the last that is not one of our proxies; what stands before it is what the client itself claims.
    assert (got.header("x-forwarded-for"), got.header("x-forwarded-proto")) == ("203.0.113.9", "https")
    assert (got.header("traceparent") or "").split("-")[1] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert got.header("x-request-id") == response.headers["x-request-id"] == "cart.7_a-b"
    assert "max-age" in response.headers["strict-transport-security"]
    for word in (b"x-envoy", b"X-Envoy", b"x-trace-id"):
        assert word not in got.raw, word
    again = CLAIMS | {"X-Forwarded-For": "198.51.100.8, 203.0.113.9, 10.0.0.1"}
    assert (await door.client.get("/api/v1/products", headers=again)).status_code == 429
    other = CLAIMS | {"X-Forwarded-For": "203.0.113.10, 10.0.0.1", "X-Forwarded-Proto": "http"}
    response = await door.client.get("/api/v1/products", headers=other)
    assert response.status_code == 200
    assert "strict-transport-security" not in response.headers

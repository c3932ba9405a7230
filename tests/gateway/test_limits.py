"""Rate limits, on a real Valkey."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
import redis.asyncio as redis
from structlog.testing import capture_logs

from contracts.identity import Role
from embedded import valkey
from embedded.supervisor import Supervisor
from gateway import limits
from gateway.limits import Policy, RateLimiter
from gateway.metrics import rate_limit_unavailable_total
from tests.conftest import TokenMint, eventually
from tests.gateway.conftest import Shop, Start


async def test_no_more_than_the_quota_at_once_and_then_an_even_flow(redis_url: str) -> None:
    limiter, who = RateLimiter(redis_url), uuid4().hex
    policy = Policy("test", 50, window_s=5)  # one more each 100 ms
    verdicts = await asyncio.gather(*(limiter.check(policy, who) for _ in range(300)))
    allowed = [verdict for verdict in verdicts if verdict.allowed]
    assert 50 <= len(allowed) <= 52
    left = [int(dict(verdict.headers)[b"ratelimit"].split(b"r=")[1].split(b";")[0]) for verdict in allowed]
    assert left[0] == 49
    assert left == sorted(left, reverse=True)
    assert min(left) == 0
    assert (await limiter.check(policy, uuid4().hex)).allowed, "somebody else is not concerned"

    async def one_more() -> bool:
        return (await limiter.check(policy, who)).allowed

    await eventually(one_more, timeout_s=2)
    await limiter.close()


async def test_all_gateways_count_together_and_forget(redis_url: str) -> None:
    one, other, who = RateLimiter(redis_url), RateLimiter(redis_url), uuid4().hex
    policy = Policy("test", 2)
    assert [(await limiter.check(policy, who)).allowed for limiter in (one, other, one, other)] == [True, True, False, False]
    async with redis.Redis.from_url(redis_url) as client:
        assert 50_000 < await client.pttl(f"rate:test:{who}") <= 60_000
    await one.close()
    await other.close()


async def test_a_user_is_told_what_is_left(start: Start, shop: Shop, mint: TokenMint) -> None:
    client = await start(rate_limit_per_minute=3)
    user = mint.headers(Role.CUSTOMER)
    first = await client.get("/api/v1/orders", headers=user)
    assert first.headers["ratelimit-policy"] == '"user";q=3;w=60'
    assert first.headers["ratelimit"] == '"user";r=2;t=20'
    await client.get("/api/v1/orders", headers=user)
    await client.get("/api/v1/products", headers=user)  # with a token it is the user that counts, also where none is needed
    refused = await client.get("/api/v1/orders", headers=user)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 18 <= int(refused.headers["retry-after"]) <= 20
    assert refused.headers["ratelimit"] == f'"user";r=0;t={refused.headers["retry-after"]}'
    assert len(shop.seen) == 3
    assert (await client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))).status_code == 200


async def test_strangers_count_by_address_and_logins_apart(start: Start, shop: Shop) -> None:
    client = await start(rate_limit_anonymous_per_minute=2, rate_limit_auth_per_minute=1, rate_limit_webhook_per_minute=4)
    assert [(await client.get("/api/v1/products")).status_code for _ in range(3)] == [200, 200, 429]
    assert [(await client.post("/api/v1/auth/login")).status_code for _ in range(2)] == [200, 429]
    assert [(await client.post("/api/v1/carriers/webhook")).status_code for _ in range(5)] == [200, 200, 200, 200, 429]


async def test_guessing_tokens_is_limited_too(start: Start, shop: Shop) -> None:
    client = await start(rate_limit_anonymous_per_minute=2)
    guesses = [{"Authorization": f"Bearer {TokenMint().token(Role.ADMIN)}"} for _ in range(3)]
    assert [(await client.get("/api/v1/orders", headers=guess)).status_code for guess in guesses] == [401, 401, 429]


async def test_without_redis_the_shop_stays_open(
    start: Start, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PAUSE_S", 0.05)
    async with valkey.running(tmp_path) as server:
        client = await start(redis_url=server.url, rate_limit_anonymous_per_minute=1)
        assert [(await client.get("/api/v1/products")).status_code for _ in range(2)] == [200, 429]
    before = rate_limit_unavailable_total._value.get()
    with capture_logs() as logs:
        responses = await asyncio.gather(*(client.get("/api/v1/products") for _ in range(20)))
    assert {response.status_code for response in responses} == {200}
    assert "ratelimit" not in responses[0].headers
    assert rate_limit_unavailable_total._value.get() == before + 20
    assert [entry["event"] for entry in logs].count("rate_limits_unavailable") == 1
    assert (await client.get("/health")).json()["parts"]["rate_limits"] == {"status": "down", "latency_ms": None}

    restarted = valkey.ValkeyServer(tmp_path, server.port)
    async with Supervisor(tmp_path, [restarted.spec()]):

        async def limited_again() -> bool:
            return (await client.get("/api/v1/products")).status_code == 429

        await eventually(limited_again, what="the limit after Redis came back")


async def test_a_redis_that_hangs_costs_one_wait(start: Start, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(limits, "_TIMEOUT_S", 0.1)
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await start(redis_url=f"redis://127.0.0.1:{port}/0")
    began = asyncio.get_running_loop().time()
    responses = [await client.get("/api/v1/products") for _ in range(20)]
    assert {response.status_code for response in responses} == {200}
    assert asyncio.get_running_loop().time() - began < 1.5
    server.close()


async def test_a_client_that_goes_away_while_it_is_counted_disturbs_nobody(redis_url: str) -> None:
    limiter, policy = RateLimiter(redis_url), Policy("test", 1000)
    first = asyncio.create_task(limiter.check(policy, "a"))
    second = asyncio.create_task(limiter.check(policy, "b"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).allowed
    with pytest.raises(asyncio.CancelledError):
        await first
    await limiter.close()

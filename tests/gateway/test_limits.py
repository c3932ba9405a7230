"""Rate limits: each gateway's own, what all share through a real Valkey, and what holds when that is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis.asyncio as redis
from structlog.testing import capture_logs

from contracts.identity import Role
from embedded import valkey
from embedded.supervisor import Supervisor
from gateway.limits import SharedLimits
from gateway.metrics import rate_limited_total, shared_limits_unavailable_total
from tests.conftest import TokenMint, eventually
from tests.gateway.conftest import FrontDoor, Shop, Start, say

LOGIN = "/api/v1/auth/login"


async def statuses(door: FrontDoor, count: int, path: str, headers: dict[str, str] | None = None) -> list[int]:
    """Of so many requests, one after the other."""
    method = "POST" if path == LOGIN or "webhook" in path else "GET"
    return [(await door.client.request(method, path, headers=headers)).status_code for _ in range(count)]


@pytest.fixture
async def limits(redis_url: str) -> AsyncIterator[SharedLimits]:
    limits = SharedLimits(redis_url, {"user": 60})
    yield limits
    await limits.close()


async def test_what_was_counted_is_added_up_and_flows_off(limits: SharedLimits) -> None:
    one, other = f"user:{uuid4()}", f"user:{uuid4()}"
    assert await limits.add({one: 10, other: 1}) == {one: 10_000, other: 1000}
    await asyncio.sleep(0.2)
    used = await limits.add({one: 5})
    assert 14_000 < used[one] < 14_900
    # What has passed counts, also beyond the quota, but shuts nobody out for longer than another minute.
    assert await limits.add({one: 1_000_000}) == {one: 120_000}


async def test_it_is_forgotten_when_it_has_flowed_off(limits: SharedLimits, redis_url: str) -> None:
    key = f"user:{uuid4()}"
    await limits.add({key: 2})
    async with redis.Redis.from_url(redis_url) as client:
        assert 1000 < await client.pttl(f"rate:{key}") <= 2001


async def test_a_crowd_is_counted_in_pieces(limits: SharedLimits) -> None:
    crowd = {f"user:{uuid4()}": 1 for _ in range(1234)}
    assert await limits.add(crowd) == dict.fromkeys(crowd, 1000)


async def test_a_user_is_told_what_is_left(start: Start, shop: Shop, mint: TokenMint) -> None:
    client = (await start(rate_limit_per_minute=3)).client
    user = mint.headers(Role.CUSTOMER)
    first = await client.get("/api/v1/orders", headers=user)
    assert first.headers["ratelimit-policy"] == '"user";q=3;w=60, "anonymous";q=1000000;w=60'
    assert first.headers["ratelimit"] == '"user";r=2;t=20'
    await client.get("/api/v1/orders", headers=user)
    await client.get("/api/v1/products", headers=user)  # with a token it is the user that counts, also where none is needed
    refused = await client.get("/api/v1/orders", headers=user)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.headers["ratelimit"] == f'"user";r=0;t={refused.headers["retry-after"]}'
    assert len(shop.seen) == 3
    assert (await client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))).status_code == 200


async def test_the_flow_goes_on(start: Start, mint: TokenMint) -> None:
    door, user = await start(rate_limit_per_minute=60), mint.headers(Role.CUSTOMER)
    assert 429 in await statuses(door, 200, "/api/v1/orders", user)

    async def one_more() -> bool:
        return (await door.client.get("/api/v1/orders", headers=user)).status_code == 200

    await eventually(one_more, what="the next of 60 a minute")


async def test_strangers_count_by_address_and_logins_apart(start: Start) -> None:
    door = await start(rate_limit_anonymous_per_minute=2, rate_limit_auth_per_minute=1, rate_limit_webhook_per_minute=4)
    assert await statuses(door, 3, "/api/v1/products") == [200, 200, 429]
    assert await statuses(door, 2, LOGIN) == [200, 429]
    assert await statuses(door, 5, "/api/v1/carriers/webhook") == [200, 200, 200, 200, 429]


async def test_what_is_refused_is_counted(start: Start) -> None:
    door, before = await start(rate_limit_webhook_per_minute=1), _refused("webhook")
    assert await statuses(door, 4, "/api/v1/carriers/webhook") == [200, 429, 429, 429]

    async def told() -> bool:
        await door.client.get("/api/v1/products")
        return _refused("webhook") == before + 3

    await eventually(told, what="the edge to hear of it")


def _refused(policy: str) -> float:
    return float(rate_limited_total.labels(policy)._value.get())


async def test_guessing_tokens_is_limited_too(start: Start) -> None:
    door = await start(rate_limit_anonymous_per_minute=2)
    guesses = [{"Authorization": f"Bearer {TokenMint().token(Role.ADMIN)}"} for _ in range(3)]
    assert [(await door.client.get("/api/v1/orders", headers=guess)).status_code for guess in guesses] == [401, 401, 429]


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2:bbbb:1:2:3", "2001:db8:1:3::1"),
        ("2001:db8::1", "2001:db8:0:0:ffff::", "2001:db8:0:1::1"),
        ("::ffff:203.0.113.1", "203.0.113.1", "203.0.113.2"),
    ],
)
async def test_a_household_has_one_count(start: Start, one: str, same: str, other: str) -> None:
    door = await start(rate_limit_anonymous_per_minute=1, trusted_proxies="127.0.0.1")

    async def ask(address: str) -> int:
        return (await door.client.get("/api/v1/products", headers={"X-Forwarded-For": address})).status_code

    assert [await ask(one), await ask(same), await ask(other)] == [200, 429, 200]


async def test_two_gateways_share_a_limit(start: Start, mint: TokenMint) -> None:
    one, other = await start(rate_limit_per_minute=30), await start(rate_limit_per_minute=30)
    user = mint.headers(Role.CUSTOMER)
    assert 429 in await statuses(one, 100, "/api/v1/orders", user)
    passed = 0

    async def refused_there_too() -> bool:
        nonlocal passed
        passed += 1
        await one.client.get("/api/v1/products")  # something has to carry what was counted
        await asyncio.sleep(0.6)
        return (await other.client.get("/api/v1/orders", headers=user)).status_code == 429

    await eventually(refused_there_too, timeout_s=20, what="the other gateway to hear of it")
    assert passed < 20, "by itself the other gateway would let 30 pass"
    assert (await other.client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))).status_code == 200


async def test_logins_at_two_gateways_count_at_once(start: Start) -> None:
    one, other = await start(rate_limit_auth_per_minute=3), await start(rate_limit_auth_per_minute=3)
    assert await statuses(one, 2, LOGIN) == [200, 200]
    assert await statuses(other, 2, LOGIN) == [200, 429]
    assert await statuses(one, 1, LOGIN) == [429]


async def _holds_by_itself(door: FrontDoor) -> None:
    """The gateway's own limit holds, and nobody can guess a password."""
    assert sorted(set(await statuses(door, 5, "/api/v1/products"))) == [200, 429]
    seen = len(door["identity"].seen)
    login = await door.client.post(LOGIN)
    assert (login.status_code, login.json()["code"], login.headers["retry-after"]) == (503, "service_unavailable", "1")
    assert len(door["identity"].seen) == seen


async def test_without_redis_each_gateway_counts_by_itself_and_nobody_logs_in(start: Start, tmp_path: Path) -> None:
    async with valkey.running(tmp_path) as server:
        door = await start(redis_url=server.url, rate_limit_anonymous_per_minute=3)
        assert await statuses(door, 2, LOGIN) == [200, 200]
    before = shared_limits_unavailable_total._value.get()
    with capture_logs() as logs:
        await _holds_by_itself(door)
    assert shared_limits_unavailable_total._value.get() > before
    assert [entry["event"] for entry in logs].count("shared_limits_unavailable") == 1
    health = (await door.client.get("/health")).json()
    assert health["parts"]["redis"]["status"] == "down"

    restarted = valkey.ValkeyServer(tmp_path, server.port)
    async with Supervisor(tmp_path, [restarted.spec()]):

        async def logins_again() -> bool:
            return await statuses(door, 1, LOGIN) == [200]

        await eventually(logins_again, what="logins after Redis came back")


async def test_p3_a_redis_that_refuses_does_not_switch_limits_off(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "RIGHTS", f"{valkey.RIGHTS} -time")
    async with valkey.running(tmp_path) as server:
        door = await start(redis_url=server.url, rate_limit_anonymous_per_minute=3)
        before = shared_limits_unavailable_total._value.get()
        with capture_logs() as logs:
            await _holds_by_itself(door)
        assert shared_limits_unavailable_total._value.get() > before
        assert any(entry["event"] == "shared_limits_unavailable" for entry in logs)


async def test_without_the_edge_app_the_gateway_goes_on(start: Start, mint: TokenMint) -> None:
    door = await start(rate_limit_anonymous_per_minute=3)
    assert (await door.client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))).status_code == 200
    await door.edge.aclose()
    await _holds_by_itself(door)
    assert (await door.client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))).status_code == 200
    assert "limits_not_shared" in door.log
    assert 'envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="limits"}' in await door.metrics()


async def test_a_redis_that_hangs_holds_nobody_up_for_long(start: Start, mint: TokenMint) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    door = await start(redis_url=f"redis://127.0.0.1:{port}/0")
    began = asyncio.get_running_loop().time()
    assert set(await statuses(door, 50, "/api/v1/products")) == {200}
    assert asyncio.get_running_loop().time() - began < 20, "if each waited for its own time-out it were 25 s and more"
    server.close()


async def test_a_client_may_have_so_many_bodies_under_way(start: Start) -> None:
    door = await start(uploads_per_client=2, trusted_proxies="127.0.0.1")
    assert (await door.client.get("/api/v1/products")).status_code == 200

    def head(address: str) -> bytes:
        lines = ("POST /api/v1/carriers/webhook HTTP/1.1", "Host: shop", f"X-Forwarded-For: {address}", "Content-Length: 5")
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    slow = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(2)]
    for _, writer in slow:
        writer.write(head("203.0.113.1") + b"he")

    async def no_more() -> bool:
        return (await say(door.port, head("203.0.113.1") + b"hello")).startswith(b"HTTP/1.1 429")

    await eventually(no_more, what="both to be under way")
    assert (await say(door.port, head("203.0.113.2") + b"hello")).startswith(b"HTTP/1.1 200"), "somebody else is not concerned"
    for reader, writer in slow:
        writer.write(b"llo")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert (await say(door.port, head("203.0.113.1") + b"hello")).startswith(b"HTTP/1.1 200")


async def test_a_body_that_was_refused_is_not_under_way(start: Start, mint: TokenMint) -> None:
    door, customer = await start(uploads_per_client=2), mint.headers(Role.CUSTOMER)
    answers = [await door.client.post("/api/v1/products", content=b"hello", headers=customer) for _ in range(6)]
    assert {answer.status_code for answer in answers} == {403}

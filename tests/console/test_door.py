"""The staff's door on a real Envoy: nothing reaches the Web UI but what the console has let through."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from console.api import COOKIE
from contracts.identity import Role
from embedded import envoy
from embedded.ports import free_port
from gateway.envoy import render
from gateway.settings import GatewaySettings
from tests.console.conftest import PASSWORD, Console, Shop, running_console
from tests.gateway.conftest import NOWHERE, Seen, Upstream, connect, say
from tests.gateway.test_tls import certificate

PAGE = {"Accept": "text/html"}
TOLD_BY_CLIENTS = {
    "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Envoy-Original-Path": "/x",
    "X-Envoy-Auth-Partial-Body": "false", "Authorization": "Basic YTpi",
}  # fmt: skip


@dataclass
class Door:
    """An Envoy with a door for staff, the console behind it, and something that stands for the Web UI."""

    console: Console
    web_ui: Upstream
    port: int
    http: httpx2.AsyncClient

    @property
    def seen(self) -> list[Seen]:
        return self.web_ui.seen

    async def log_in(self, *roles: Role) -> str:
        """The header of a browser that is logged in, and the one that this client sends from now on."""
        form = {"email": await self.console.shop.person(*roles), "password": PASSWORD}
        answer = await self.http.post("/login", data=form)
        assert answer.status_code == 303, answer.text
        return f"{COOKIE}={self.http.cookies[COOKIE]}"

    async def say(self, head: str) -> bytes:
        return await say(self.port, head.encode("latin-1"))


@pytest_asyncio.fixture
async def doors(shop: Shop, tmp_path: Path) -> AsyncIterator["Doors"]:
    async with AsyncExitStack() as stack:
        yield Doors(stack, shop, tmp_path)


@dataclass
class Doors:
    """Opens a door with settings of its own."""

    stack: AsyncExitStack
    shop: Shop
    directory: Path

    async def open(self, *, console_url: str = "", **settings: object) -> Door:
        console = await self.stack.enter_async_context(running_console(self.shop))
        web_ui = Upstream("temporal_ui", {})
        await self.stack.enter_async_context(web_ui.running())
        ports = {name: free_port() for name in ("port", "metrics_port", "console_port")}
        own = {"console_url": console_url or console.url, "temporal_ui_url": web_ui.url, "edge_url": NOWHERE}
        values = GatewaySettings.model_validate({**ports, **own, **settings})
        await self.stack.enter_async_context(envoy.running(self.directory, render(values), values.metrics_port))
        scheme = "https" if values.tls_certificate else "http"
        http = connect(base_url=f"{scheme}://127.0.0.1:{values.console_port}")
        return Door(console, web_ui, values.console_port, await self.stack.enter_async_context(http))


@pytest_asyncio.fixture
async def door(doors: Doors) -> Door:
    return await doors.open()


async def test_without_a_login_nothing_reaches_the_web_ui(door: Door) -> None:
    page = await door.http.get("/namespaces/default/workflows?query=x", headers=PAGE)
    assert page.status_code == 302
    assert page.headers["location"] == "/login?next=%2Fnamespaces%2Fdefault%2Fworkflows%3Fquery%3Dx"
    data = await door.http.get("/api/v1/namespaces")
    assert (data.status_code, data.json()["code"]) == (401, "unauthenticated")
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for path in (
            "/",
            "/check/",
            "/logins",
            "/login2",
            "/codecs",
            "/health/live",
            "/metrics",
            "/LOGIN",
            "/%6cogin",
            "//login",
        ):
            answer = await door.http.request(method, path, headers=TOLD_BY_CLIENTS)
            assert answer.status_code in (401, 403), (method, path, answer.status_code)
    assert not door.web_ui.raw


async def test_support_looks_and_admins_change(door: Door) -> None:
    await door.log_in(Role.SUPPORT)
    page = await door.http.get("/namespaces?x=%20y", headers=PAGE)
    assert (page.status_code, page.headers["x-frame-options"]) == (200, "DENY")
    assert door.seen[-1].target == "/namespaces?x=%20y"
    refused = await door.http.post("/api/v1/namespaces/default/workflows/x/terminate", json={})
    assert (refused.status_code, refused.json()["detail"]) == (403, "Only an admin may change something here.")
    assert len(door.seen) == 1
    await door.log_in(Role.ADMIN)
    changed = await door.http.post("/api/v1/namespaces/default/workflows/x/terminate", json={"a": 1})
    assert changed.status_code == 200
    assert (door.seen[-1].method, door.seen[-1].body) == ("POST", b'{"a":1}')
    foreign = await door.http.post("/api/v1/x", json={}, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    own = await door.http.post("/api/v1/x", json={}, headers={"Origin": f"http://127.0.0.1:{door.port}"})
    assert own.status_code == 200
    assert len(door.seen) == 3


async def test_no_secret_of_the_shop_reaches_the_web_ui(door: Door) -> None:
    cookie = await door.log_in(Role.ADMIN)
    assert (await door.http.get("/", headers={"Cookie": f"_csrf=b; {cookie}"})).status_code == 200
    assert door.seen[-1].header("cookie") == "_csrf=b"
    bearer = {"Authorization": f"Bearer {await door.console.shop.token(Role.ADMIN)}"}
    async with connect(base_url=f"http://127.0.0.1:{door.port}") as http:
        assert (await http.get("/", headers=bearer)).status_code == 200
        assert (await http.get("/", headers={"Cookie": cookie})).status_code == 200
    assert [seen.header("cookie") for seen in door.seen[-2:]] == [None, None]
    assert all(seen.header("authorization") is None for seen in door.seen)
    secret = cookie.partition("=")[2].encode()
    assert secret not in door.web_ui.raw


async def test_wrong_tries_count_by_the_address_that_envoy_saw(door: Door) -> None:
    form = {"email": await door.console.shop.person(Role.ADMIN), "password": "wrong"}
    answers = [
        await door.http.post("/login", data=form, headers={"X-Forwarded-For": f"203.0.113.{number}"}) for number in range(11)
    ]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]


async def test_a_proxy_that_is_trusted_says_who_tries_and_that_it_speaks_tls(doors: Doors) -> None:
    door = await doors.open(trusted_proxies="127.0.0.1")
    email = await door.console.shop.person(Role.ADMIN)
    for number in range(11):
        told = {"X-Forwarded-For": f"192.0.2.{number}, 203.0.113.{number}, 127.0.0.1", "X-Forwarded-Proto": "https"}
        answer = await door.http.post("/login", data={"email": email, "password": "wrong"}, headers=told)
        assert answer.status_code == 401
    right = await door.http.post("/login", data={"email": email, "password": PASSWORD}, headers=told)
    assert "Secure" in right.headers["set-cookie"]


async def test_with_a_certificate_it_speaks_tls(doors: Doors) -> None:
    door = await doors.open(**certificate(doors.directory))
    form = {"email": await door.console.shop.person(Role.ADMIN), "password": PASSWORD}
    answer = await door.http.post("/login", data=form)
    assert (answer.status_code, "Secure" in answer.headers["set-cookie"]) == (303, True)
    assert b"200 OK" not in await door.say("GET /login HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_without_the_console_nobody_passes(doors: Doors) -> None:
    door = await doors.open(console_url=NOWHERE)
    for path in ("/", "/api/v1/namespaces", "/login", "/codec/decode"):
        answer = await door.http.get(path, headers=PAGE | {"Cookie": f"{COOKIE}=x"})
        assert answer.status_code == 503
    assert not door.web_ui.raw


async def test_without_a_web_ui_there_is_no_door() -> None:
    listeners = render(GatewaySettings())["static_resources"]["listeners"]
    assert [listener["name"] for listener in listeners] == ["front_door", "metrics_door"]


async def test_envoy_takes_the_configuration(tmp_path: Path) -> None:
    settings = GatewaySettings.model_validate(
        {"temporal_ui_url": "http://ui:8080", "trusted_proxies": "10.0.0.0/8", **certificate(tmp_path)}
    )
    assert await envoy.validate(tmp_path, render(settings)) == ""


@pytest.mark.parametrize(
    "head",
    [
        "GET http://temporal-ui/api/v1/namespaces HTTP/1.1\r\nHost: temporal-ui\r\nX_Under: 1\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n",
        "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n",
        "GET /api HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET /api HTTP/1.1\r\n",
        "GET /api HTTP/1.0\r\nHost: a\r\n",
        "GET /api HTTP/1.1\r\nHost: a\r\nX_Under: 1\r\n",
        "GET /api HTTP/1.1\r\nHost: a\r\n folded: 1\r\n",
        "GET /api HTTP/1.1\r\nHost: a\r\nX : 1\r\n",
        "GET /api%2F..%2Fx HTTP/1.1\r\nHost: a\r\n",
        "GET /api\\x HTTP/1.1\r\nHost: a\r\nX_Under: 1\r\n",
        "GET /api HTTP/1.1\r\nHost: a\r\n" + "".join(f"X-{n}: y\r\n" for n in range(150)),
    ],
)
async def test_no_odd_request_reaches_the_web_ui_even_of_an_admin(door: Door, head: str) -> None:
    cookie = await door.log_in(Role.ADMIN)
    answered = await door.say(f"{head}Cookie: {cookie}\r\n\r\nhello")
    assert answered.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501")), answered
    assert door.web_ui.raw == b""


async def test_no_request_is_smuggled_past_the_console(door: Door) -> None:
    """An admin's request carries another one in its body: the Web UI gets one, with a body."""
    cookie = await door.log_in(Role.ADMIN)
    smuggled = b"DELETE /api/v1/namespaces/default HTTP/1.1\r\nHost: x\r\n\r\n"
    for connection in (b"content-length", b"transfer-encoding, te", b"cookie", b"x-forwarded-for"):
        head = b"POST /api/v1/x HTTP/1.1\r\nHost: a\r\nCookie: %b\r\nConnection: %b\r\n" % (cookie.encode(), connection)
        for framing in (
            b"Content-Length: %d\r\n\r\n%b" % (len(smuggled), smuggled),
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled),
        ):
            await say(door.port, head + framing)
    assert {(request.method, request.target) for request in door.seen} <= {("POST", "/api/v1/x")}
    assert {request.body for request in door.seen} <= {smuggled}
    assert not door.web_ui.unread


async def test_an_upgrade_is_not_offered(door: Door) -> None:
    cookie = await door.log_in(Role.ADMIN)
    for upgrade in ("websocket", "h2c"):
        head = f"GET /api HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        assert (await door.say(head)).startswith(b"HTTP/1.1 200")
        assert door.seen[-1].header("upgrade") is None

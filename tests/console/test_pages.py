"""Logging in and out by the console's pages, and whom it lets through to the Web UI."""

import asyncio

import pytest

from console.api import COOKIE, FORM_MAX
from contracts.identity import Role
from tests.console.conftest import PASSWORD, Console
from tests.gateway.conftest import connect, say

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FOREIGN = ("https://evil.example", "http://127.0.0.1", "null", "http://127.0.0.1.evil.example")


async def test_the_login_page(running: Console) -> None:
    page = await running.http.get("/login?next=/namespaces/default/workflows")
    assert page.status_code == 200
    assert 'name="next" value="/namespaces/default/workflows"' in page.text
    assert 'role="alert"' not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


async def test_who_logs_in_gets_where_he_wanted_and_a_cookie_that_scripts_cannot_read(running: Console) -> None:
    form = {"email": await running.shop.person(Role.SUPPORT), "password": PASSWORD, "next": "/namespaces/default?a=b"}
    answer = await running.http.post("/login", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/namespaces/default?a=b")
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=lax", "path=/"} <= set(cookie.split("; "))
    assert "secure" not in cookie
    over_tls = await running.http.post("/login", data=form, headers={"X-Forwarded-Proto": "https"})
    assert "secure" in over_tls.headers["set-cookie"].lower()
    assert over_tls.headers["set-cookie"].split(";")[0] != answer.headers["set-cookie"].split(";")[0]


@pytest.mark.parametrize("status", [401, 403])
async def test_who_may_not_is_told_why_on_the_page(running: Console, status: int) -> None:
    who = await running.shop.person(Role.ADMIN if status == 401 else Role.WAREHOUSE)
    form = {"email": who, "password": "wrong" if status == 401 else PASSWORD, "next": '/"><script>'}
    answer = await running.http.post("/login", data=form)
    assert answer.status_code == status
    assert ("The e-mail or the password is wrong." if status == 401 else "This is for support and admins.") in answer.text
    assert "<script>" not in answer.text
    assert "/&#34;&gt;&lt;script&gt;" in answer.text
    assert f'value="{who}"' in answer.text
    assert "set-cookie" not in answer.headers


async def test_guesses_are_counted_by_the_last_hop_that_envoy_names(running: Console) -> None:
    form = {"email": await running.shop.person(Role.ADMIN), "password": "wrong"}
    guesser = {"X-Forwarded-For": "203.0.113.1, 198.51.100.9"}
    answers = [await running.http.post("/login", data=form, headers=guesser) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert "Too many wrong tries" in answers[-1].text
    right = form | {"password": PASSWORD}
    assert (await running.http.post("/login", data=right, headers={"X-Forwarded-For": "198.51.100.9"})).status_code == 429
    assert (await running.http.post("/login", data=right, headers={"X-Forwarded-For": "203.0.113.1"})).status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/", "https://evil.example/", "/\\evil.example", "\\\\evil.example", "evil.example", "javascript:alert(1)",
        "/\t/evil.example", "/\r\nSet-Cookie: a=b", "", " //evil.example", "/x\\..\\..\\evil", "///evil.example",
    ],
)  # fmt: skip
async def test_next_cannot_leave_the_site(running: Console, target: str) -> None:
    form = {"email": await running.shop.person(Role.ADMIN), "password": PASSWORD, "next": target}
    answer = await running.http.post("/login", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = await running.http.get("/login", params={"next": target})
    assert page.status_code == 400 or 'name="next" value="/"' in page.text


@pytest.mark.parametrize("origin", FOREIGN)
async def test_another_site_logs_nobody_in_or_out(running: Console, origin: str) -> None:
    form = {"email": await running.shop.person(Role.ADMIN), "password": PASSWORD}
    answer = await running.http.post("/login", data=form, headers={"Origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    await running.log_in(Role.ADMIN)
    assert (await running.http.post("/logout", headers={"Origin": origin})).status_code == 403
    assert (await running.http.get("/check/")).status_code == 200
    assert (await running.http.post("/login", data=form, headers={"Origin": running.url})).status_code == 303


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"email=" + b"x" * FORM_MAX, 413),
        (b"&".join(b"a%d=1" % number for number in range(11)), 400),
        (b"email=\xff", 400),
        (b"", 401),
        (b"{}", 401),
        (b"email=a&password=%00", 401),
    ],
)
async def test_a_form_has_bounds(running: Console, body: bytes, status: int) -> None:
    answer = await running.http.post("/login", content=body)
    assert answer.status_code == status


async def test_a_form_without_a_length_has_them_too(running: Console) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await say(int(running.url.rpartition(":")[2]), head, *[b"3e8\r\n" + b"x" * 1000 + b"\r\n"] * 5)
    assert answer.startswith(b"HTTP/1.1 413")


async def test_who_logs_out_is_out(running: Console) -> None:
    await running.log_in(Role.ADMIN)
    cookie = running.cookie
    assert "Log out?" in (await running.http.get("/logout")).text
    assert (await running.http.get("/check/")).status_code == 200
    answer = await running.http.post("/logout", headers={"Origin": running.url})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert COOKIE not in running.http.cookies
    async with connect(base_url=running.url, cookies={COOKIE: cookie}) as thief:
        assert (await thief.get("/check/")).status_code == 401


# ── What Envoy asks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_login_a_page_leads_there_and_data_are_refused(running: Console) -> None:
    page = await running.http.get("/check/namespaces/a%20b/workflows?query=x%3D'y'&z", headers=PAGE)
    assert page.status_code == 302
    assert page.headers["location"] == "/login?next=%2Fnamespaces%2Fa%2520b%2Fworkflows%3Fquery%3Dx%253D%27y%27%26z"
    away = await running.http.get("/check//evil.example", headers=PAGE)
    assert (away.status_code, away.headers["location"]) == (302, "/login?next=%2F")
    for method, headers in (("GET", {}), ("POST", PAGE), ("HEAD", PAGE), ("GET", {"Cookie": f"{COOKIE}=made-up"})):
        answer = await running.http.request(method, "/check/api/v1/namespaces", headers=headers)
        assert answer.status_code == 401, (method, headers)


async def test_support_looks_and_admins_change(running: Console) -> None:
    for role, changes in ((Role.SUPPORT, 403), (Role.ADMIN, 200)):
        await running.log_in(role)
        for method in ("GET", "HEAD"):
            assert (await running.http.request(method, "/check/api/v1/x")).status_code == 200
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = await running.http.request(method, "/check/api/v1/x", headers={"Origin": running.url})
            assert answer.status_code == changes, (role, method)
        query = "/check/api/v1/namespaces/default/workflows/order-1/query/status"
        assert (await running.http.post(query)).status_code == 200
        for path in (f"{query}/x", f"{query}?x=%2Fterminate", "/check/x/query/y", query.replace("/query/", "/reset/")):
            assert (await running.http.post(path)).status_code == (200 if "?" in path else changes), path
        for origin in FOREIGN:
            answer = await running.http.post("/check/api/v1/x", headers={"Origin": origin})
            assert answer.status_code == 403, (role, origin)


async def test_an_access_token_does_as_well_and_not_everybodys(running: Console) -> None:
    for role, status in ((Role.SUPPORT, 200), (Role.ADMIN, 200), (Role.CUSTOMER, 403), (Role.WAREHOUSE, 403)):
        headers = {"Authorization": f"Bearer {await running.shop.token(role)}"}
        assert (await running.http.get("/check/", headers=headers)).status_code == status
    for token in ("x", "a.b.c"):
        assert (await running.http.get("/check/", headers={"Authorization": f"Bearer {token}"})).status_code == 401


async def test_envoy_is_told_to_pass_on_all_cookies_but_ours(running: Console) -> None:
    await running.log_in(Role.SUPPORT)
    cookie = f"{COOKIE}={running.cookie}"
    async with connect(base_url=running.url) as http:
        alone = await http.get("/check/", headers={"Cookie": cookie})
        assert (alone.headers.get("cookie"), alone.headers["x-envoy-auth-headers-to-remove"]) == (None, "cookie")
        beside = await http.get("/check/", headers={"Cookie": f"_csrf=a=b; {cookie}; theme=dark"})
        assert beside.headers["cookie"] == "_csrf=a=b; theme=dark"


async def test_it_says_that_it_is_there(running: Console) -> None:
    live, ready, metrics = await asyncio.gather(*map(running.http.get, ("/health/live", "/health/ready", "/metrics")))
    assert (live.status_code, ready.status_code) == (200, 200)
    assert "outbound_calls_total" in metrics.text

"""Logins of staff on a real identity: the tokens stay with the console, and are worth what identity says they are."""

import asyncio
import time

import pytest
from pydantic import SecretStr

from chassis.clients import HttpSession, Unavailable
from chassis.origin import Origin
from console.logins import Logins
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from tests.conftest import eventually
from tests.console.conftest import HERE, PASSWORD, Console, Shop, all_live
from tests.gateway.conftest import NOWHERE, connect

RIGHT = SecretStr(PASSWORD)


async def refused(logins: Logins, cookie: str) -> bool:
    try:
        await logins.principal(cookie)
    except Refusal as refusal:
        return refusal.code == ErrorCode.UNAUTHENTICATED
    return False


async def token_of(logins: Logins, cookie: str) -> str:
    await logins.principal(cookie)
    return logins._logins[cookie].tokens.access_token


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.ADMIN])
async def test_staff_log_in(logins: Logins, shop: Shop, role: Role) -> None:
    email = await shop.person(role)
    cookie = await logins.begin(email, RIGHT, HERE)
    assert (await logins.principal(cookie)).roles == {role}
    (session,) = await shop.sessions(email)
    assert session.device == "Console; a browser"


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.WAREHOUSE])
async def test_others_do_not_and_their_session_is_ended(logins: Logins, shop: Shop, role: Role) -> None:
    email = await shop.person(role)
    with pytest.raises(Refusal, match="support and admins") as caught:
        await logins.begin(email, RIGHT, HERE)
    assert caught.value.code == ErrorCode.FORBIDDEN
    (session,) = await shop.sessions(email)
    assert session.ended_at is not None
    assert not logins._logins


@pytest.mark.parametrize("password", ["wrong", "", "x" * 1000])
async def test_a_wrong_password_is_told_as_identity_tells_it(logins: Logins, shop: Shop, password: str) -> None:
    email = await shop.person(Role.ADMIN)
    with pytest.raises(Refusal, match="The e-mail or the password is wrong") as caught:
        await logins.begin(email, SecretStr(password), HERE)
    assert caught.value.code == ErrorCode.INVALID_CREDENTIALS
    with pytest.raises(Refusal, match="The e-mail or the password is wrong"):
        await logins.begin("no address", RIGHT, HERE)


async def test_wrong_tries_count_by_the_address_of_who_tries_and_close_nobody_else_out(logins: Logins, shop: Shop) -> None:
    email = await shop.person(Role.ADMIN)
    guesser = Origin("198.51.100.7", "a guesser")
    codes = []
    for _ in range(12):
        with pytest.raises(Refusal) as caught:
            await logins.begin(email, SecretStr("wrong"), guesser)
        codes.append(caught.value.code)
    assert codes == [ErrorCode.INVALID_CREDENTIALS] * 10 + [ErrorCode.RATE_LIMITED] * 2
    assert await logins.begin(email, RIGHT, HERE)


async def test_a_token_is_renewed_before_it_expires(logins: Logins, shop: Shop) -> None:
    cookie = await logins.begin(email := await shop.person(Role.ADMIN), RIGHT, HERE)
    first = await token_of(logins, cookie)
    assert await token_of(logins, cookie) == first
    logins._logins[cookie].renew_at = 0
    assert await token_of(logins, cookie) != first
    assert logins._logins[cookie].renew_at > time.monotonic() + 60
    (session,) = await shop.sessions(email)
    assert session.is_live


async def test_many_requests_at_once_renew_it_once(logins: Logins, shop: Shop) -> None:
    """A refresh token that is used twice ends its session: somebody has a copy."""
    cookie = await logins.begin(email := await shop.person(Role.ADMIN), RIGHT, HERE)
    for _ in range(2):
        logins._logins[cookie].renew_at = 0
        assert len(set(await asyncio.gather(*[token_of(logins, cookie) for _ in range(10)]))) == 1
    assert all_live(await shop.sessions(email))


async def test_a_login_ends_soon_after_its_session(logins: Logins, shop: Shop) -> None:
    cookie = await logins.begin(await shop.person(Role.SUPPORT), RIGHT, HERE)
    token = await token_of(logins, cookie)
    async with connect(base_url=shop.identity_url) as http:
        answer = await http.post("/api/v1/auth/logout", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 204
    began = time.monotonic()
    await eventually(lambda: refused(logins, cookie), what="the login to end")
    print(f"refused {time.monotonic() - began:.2f} s after the session ended")
    assert cookie not in logins._logins


async def test_after_a_working_day_everybody_logs_in_again(logins: Logins, shop: Shop) -> None:
    cookie = await logins.begin(email := await shop.person(Role.ADMIN), RIGHT, HERE)
    logins._logins[cookie].ends_at = time.monotonic()
    assert await refused(logins, cookie)
    (session,) = await shop.sessions(email)
    assert session.ended_at is not None


async def test_there_is_a_most_of_logins(running: Console, shop: Shop) -> None:
    email = await shop.person(Role.ADMIN)
    async with HttpSession() as http:
        logins = Logins(http, shop.identity_url, running.verifier, most=2)
        first, second, third = [await logins.begin(email, RIGHT, HERE) for _ in range(3)]
        assert await refused(logins, first)
        assert not await refused(logins, second)
        assert not await refused(logins, third)


async def test_who_is_logged_in_goes_on_while_identity_is_away_and_nobody_logs_in(running: Console, shop: Shop) -> None:
    cookie = await running.logins.begin(await shop.person(Role.ADMIN), RIGHT, HERE)
    await running.logins.principal(cookie)
    async with HttpSession() as http:
        cut_off = Logins(http, NOWHERE, running.verifier)
        cut_off._logins = dict(running.logins._logins)
        assert (await cut_off.principal(cookie)).roles == {Role.ADMIN}
        with pytest.raises(Unavailable):
            await cut_off.begin("ann@example.com", RIGHT, HERE)
        cut_off._logins[cookie].renew_at = 0
        with pytest.raises(Unavailable):
            await cut_off.principal(cookie)
        assert cookie in cut_off._logins  # it goes on when identity is back
        await cut_off.end(cookie)
        assert await refused(cut_off, cookie)


@pytest.mark.parametrize("cookie", ["", "x", "../..", "ü"])
async def test_no_cookie_is_made_up(logins: Logins, cookie: str) -> None:
    assert await refused(logins, cookie)

"""Logins on a real database: guesses, refresh tokens and password changes that race each other."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel import col, delete, select, update

from chassis.clock import utc_now
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from services.identity.commands import accounts, rights, sessions
from services.identity.model import LoginGuard, RefreshFamily, User, outbox
from services.identity.passwords import Passwords
from services.identity.schemas import LoginRequest, PasswordRequest, RefreshRequest, RegisterRequest, TokenPair
from services.identity.tokens import TokenIssuer
from tests.conftest import eventually
from tests.services.identity.conftest import PASSWORD

EMAIL = "ada@example.com"


@pytest.fixture
def acts(database: Database, passwords: Passwords, issuer: TokenIssuer) -> "Acts":
    return Acts(database, passwords, issuer)


class Acts:
    """What one person does."""

    def __init__(self, database: Database, passwords: Passwords, issuer: TokenIssuer) -> None:
        self.database, self.passwords, self.issuer = database, passwords, issuer

    async def register(self, email: str = EMAIL) -> UUID:
        """A new user whose address is verified."""
        request = RegisterRequest(email=email, password=SecretStr(PASSWORD), name="Ada")
        user_id = (await accounts.register(self.database, self.passwords, self.issuer, request)).user.user_id
        async with self.database.transaction() as session:
            (await session.get_one(User, user_id)).verify_email()
            await session.exec(delete(RefreshFamily).where(col(RefreshFamily.user_id) == user_id))
        return user_id

    async def log_in(self, password: str = PASSWORD, email: str = EMAIL) -> TokenPair:
        request = LoginRequest(email=email, password=SecretStr(password))
        return await sessions.log_in(self.database, self.passwords, self.issuer, request)

    async def refresh(self, pair: TokenPair) -> TokenPair:
        return await sessions.refresh(self.database, self.issuer, RefreshRequest(refresh_token=SecretStr(pair.refresh_token)))

    async def log_out(self, pair: TokenPair) -> None:
        await sessions.log_out(self.database, RefreshRequest(refresh_token=SecretStr(pair.refresh_token)))

    async def change_password(self, user_id: UUID, current: str, new: str) -> None:
        request = PasswordRequest(current_password=SecretStr(current), new_password=SecretStr(new))
        await sessions.change_password(self.database, self.passwords, user_id, request)

    async def events(self) -> list[dict[str, Any]]:
        async with self.database.reading() as session:
            rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
            return [row.envelope for row in rows]


async def code_of(attempt: Awaitable[object]) -> ErrorCode | None:
    try:
        await attempt
    except Refusal as refusal:
        return refusal.code
    return None


async def test_each_change_tells_its_event(acts: Acts) -> None:
    user_id = await acts.register()
    await acts.log_in()
    await acts.change_password(user_id, PASSWORD, "another password")
    events = await acts.events()
    kinds = ["UserRegistered", "AccountMailRequested", "UserLoggedIn", "PasswordChanged"]
    assert [event["type"] for event in events] == kinds
    assert {event["partitionkey"] for event in events if event["type"] != "AccountMailRequested"} == {str(user_id)}
    assert events[0]["data"] == {"customer_id": str(user_id)}


async def test_two_replicas_make_one_first_admin(acts: Acts) -> None:
    request = RegisterRequest(email="admin@example.com", password=SecretStr("admin-password"), name="Administrator")
    for _ in range(2):
        await asyncio.gather(*[accounts.ensure_admin(acts.database, acts.passwords, request) for _ in range(2)])
    async with acts.database.reading() as session:
        (admin,) = (await session.exec(select(User))).all()
    assert admin.roles == [Role.ADMIN]
    assert [event["type"] for event in await acts.events()] == ["UserRegistered"]


async def test_an_old_refresh_token_ends_the_whole_family_but_no_other_login(acts: Acts) -> None:
    await acts.register()
    elsewhere = await acts.log_in()
    first = await acts.log_in()
    second = await acts.refresh(first)
    third = await acts.refresh(second)
    assert await code_of(acts.refresh(first)) == ErrorCode.REFRESH_TOKEN_REUSED
    assert await code_of(acts.refresh(third)) == ErrorCode.UNAUTHENTICATED
    assert await code_of(acts.refresh(second)) == ErrorCode.REFRESH_TOKEN_REUSED
    await acts.refresh(elsewhere)


async def test_a_refresh_token_used_eight_times_at_once_gives_one_pair(acts: Acts) -> None:
    await acts.register()
    pair = await acts.log_in()
    codes = await asyncio.gather(*[code_of(acts.refresh(pair)) for _ in range(8)])
    assert (codes.count(None), codes.count(ErrorCode.REFRESH_TOKEN_REUSED)) == (1, 7)


async def test_a_refresh_gives_the_roles_of_now_and_ends_with_its_time(acts: Acts) -> None:
    user_id = await acts.register()
    pair = await acts.log_in()
    await rights.set_roles(acts.database, user_id, [Role.WAREHOUSE], by=uuid4(), version=2)
    pair = await acts.refresh(pair)
    assert jwt.decode(pair.access_token, options={"verify_signature": False})["roles"] == ["warehouse"]
    async with acts.database.transaction() as session:
        await session.exec(update(RefreshFamily).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert await code_of(acts.refresh(pair)) == ErrorCode.UNAUTHENTICATED


async def test_logout_ends_one_login_also_with_an_older_token_and_twice(acts: Acts) -> None:
    await acts.register()
    here, elsewhere = await acts.log_in(), await acts.log_in()
    newer = await acts.refresh(here)
    for _ in range(2):
        await acts.log_out(here)
    assert await code_of(acts.refresh(newer)) == ErrorCode.UNAUTHENTICATED
    await acts.refresh(elsewhere)


async def test_a_new_password_ends_every_login_and_the_old_password(acts: Acts) -> None:
    user_id = await acts.register()
    pairs = [await acts.log_in() for _ in range(2)]
    await acts.change_password(user_id, PASSWORD, "another password")
    assert [await code_of(acts.refresh(pair)) for pair in pairs] == [ErrorCode.UNAUTHENTICATED] * 2
    assert await code_of(acts.log_in()) == ErrorCode.INVALID_CREDENTIALS
    await acts.refresh(await acts.log_in("another password"))


async def test_a_login_that_races_a_password_change_opens_nothing(acts: Acts) -> None:
    user_id = await acts.register()
    async with acts.database.transaction() as change:
        user = await change.get_one(User, user_id, with_for_update=True)
        login = asyncio.create_task(code_of(acts.log_in()))  # the old password, which still fits when it is verified

        async def login_waits() -> bool:
            waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            async with acts.database.reading() as session:
                return login.done() or (await session.execute(text(waiting))).scalar_one() > 0

        await eventually(login_waits, what="the login at the lock")
        user.password_hash = await acts.passwords.hash(SecretStr("another password"))
    assert await login == ErrorCode.INVALID_CREDENTIALS


async def test_ten_wrong_guesses_close_the_door_for_the_right_one_too(acts: Acts) -> None:
    user_id = await acts.register()
    for _ in range(10):
        assert await code_of(acts.log_in("a wrong guess")) == ErrorCode.INVALID_CREDENTIALS
    assert await code_of(acts.log_in()) == ErrorCode.RATE_LIMITED
    assert await code_of(acts.change_password(user_id, PASSWORD, "another password")) == ErrorCode.RATE_LIMITED
    async with acts.database.transaction() as session:
        await session.exec(update(LoginGuard).values(since=utc_now() - timedelta(minutes=15)))
    await acts.log_in()
    async with acts.database.reading() as session:
        assert (await session.exec(select(LoginGuard))).all() == []


async def test_guesses_sent_at_once_get_no_more_than_ten_answers(acts: Acts) -> None:
    await acts.register()
    codes = await asyncio.gather(*[code_of(acts.log_in(f"a wrong guess {n}")) for n in range(20)])
    assert (codes.count(ErrorCode.INVALID_CREDENTIALS), codes.count(ErrorCode.RATE_LIMITED)) == (10, 10)


async def test_wrong_current_passwords_count_as_failed_logins(acts: Acts) -> None:
    user_id = await acts.register()
    for _ in range(10):
        attempt = acts.change_password(user_id, "a wrong guess", "another password")
        assert await code_of(attempt) == ErrorCode.INVALID_CREDENTIALS
    assert await code_of(acts.log_in()) == ErrorCode.RATE_LIMITED


async def test_an_address_without_an_account_is_answered_alike(acts: Acts, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str | None] = []
    verify = acts.passwords.verify

    async def counting(password: SecretStr, known: str | None) -> str | None:
        hashed.append(known)
        return await verify(password, known)

    monkeypatch.setattr(acts.passwords, "verify", counting)
    codes = [await code_of(acts.log_in(email="nobody@example.com")) for _ in range(11)]
    assert codes == [ErrorCode.INVALID_CREDENTIALS] * 10 + [ErrorCode.RATE_LIMITED]
    assert hashed == [None] * 10


async def test_what_has_expired_is_forgotten_and_nothing_else(acts: Acts) -> None:
    await acts.register()
    old, live = await acts.log_in(), await acts.log_in()
    await code_of(acts.log_in("a wrong guess"))
    async with acts.database.transaction() as session:
        of_old = col(RefreshFamily.family_id) == RefreshFamily.id_in(old.refresh_token)
        await session.exec(update(RefreshFamily).where(of_old).values(expires_at=utc_now() - timedelta(seconds=1)))
        session.add(LoginGuard(email="long@example.com", failures=3, since=utc_now() - timedelta(minutes=16)))
    await sessions.forget_expired(acts.database)
    async with acts.database.reading() as session:
        assert (await session.exec(select(LoginGuard.email))).all() == [EMAIL]
        assert (await session.exec(select(RefreshFamily.family_id))).all() == [RefreshFamily.id_in(live.refresh_token)]

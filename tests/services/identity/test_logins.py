"""Logins on a real database: guesses, refresh tokens and password changes that race each other."""

import asyncio
from collections.abc import Awaitable, Callable
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
from chassis.origin import Origin
from chassis.sessions import REMEMBERED_FOR
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from services.identity import queries
from services.identity.commands import accounts, erasure, rights, sessions
from services.identity.commands.ending import end_sessions, sessions_by_id
from services.identity.commands.guessing import account_key, guesser_key
from services.identity.commands.security import SecurityLog
from services.identity.commands.users import locked_user
from services.identity.model import (
    DEVICES_KEPT,
    FORGOTTEN_AFTER,
    PER_ACCOUNT,
    PER_GUESSER,
    Budget,
    EndReason,
    LoginGuard,
    SecurityEvent,
    SecurityRecord,
    Session,
    User,
    outbox,
    secret_tokens,
)
from services.identity.model.users import SHUT_OUT
from services.identity.passwords import Passwords
from services.identity.schemas import (
    LoginTokens,
    RegisterRequest,
    Registration,
    TokenPair,
    UserView,
)
from services.identity.tokens import TokenIssuer
from tests.conftest import ADMIN, changing, eventually
from tests.services.identity.conftest import PASSWORD

EMAIL = "ada@example.com"
HOME = "192.0.2.1"


@pytest.fixture
def acts(database: Database, passwords: Passwords, issuer: TokenIssuer) -> "Acts":
    return Acts(database, passwords, issuer)


class Acts:
    """What one person does, from one address unless another is given."""

    def __init__(self, database: Database, passwords: Passwords, issuer: TokenIssuer) -> None:
        self.database, self.passwords, self.issuer = database, passwords, issuer
        self.security = SecurityLog()

    async def register(self, email: str = EMAIL) -> UUID:
        """A new user whose address is verified."""
        request = RegisterRequest(email=email, password=SecretStr(PASSWORD), name="Ada")
        user_id = (await self.open_account(request)).user.user_id
        async with changing(self.database) as work:
            (await locked_user(work, user_id)).verify_email()
            await work.rows(delete(Session).where(col(Session.user_id) == user_id))
        return user_id

    async def open_account(self, request: RegisterRequest) -> Registration:
        user, tokens = await accounts.register(
            self.database,
            self.passwords,
            self.issuer,
            Origin(HOME),
            email=request.email,
            password=request.password,
            name=request.name,
        )
        return Registration(user=UserView.of(user), tokens=TokenPair.of(tokens))

    async def log_in(
        self, password: str = PASSWORD, email: str = EMAIL, *, address: str = HOME, device: str | None = None
    ) -> LoginTokens:
        tokens, device_token = await sessions.log_in(
            self.database,
            self.passwords,
            self.issuer,
            self.security,
            Origin(address, "a browser"),
            email=email,
            password=SecretStr(password),
            device_token=SecretStr(device) if device else None,
        )
        return LoginTokens.of(tokens, device_token=device_token)

    async def refresh(self, pair: TokenPair) -> TokenPair:
        token = SecretStr(pair.refresh_token)
        return TokenPair.of(await sessions.refresh(self.database, self.issuer, self.security, Origin(HOME), refresh_token=token))

    async def log_out(self, pair: TokenPair) -> None:
        await sessions.log_out(self.database, None, SecretStr(pair.refresh_token))

    async def change_password(self, pair: TokenPair, current: str, new: str) -> None:
        await sessions.change_password(
            self.database,
            self.passwords,
            self.security,
            principal_of(pair),
            Origin(HOME),
            current_password=SecretStr(current),
            new_password=SecretStr(new),
        )

    async def admin(self, name: str = "admin") -> Principal:
        email = f"{name}@example.com"
        await accounts.ensure_admin(self.database, self.passwords, email=email, password=SecretStr(PASSWORD), name="Admin")
        return principal_of(await self.log_in(email=email))

    async def set_roles(self, user_id: UUID, roles: list[Role], *, by: Principal) -> UserView:
        version = (await queries.get_user(self.database, ADMIN, user_id)).version
        wanted = frozenset(roles)
        return UserView.of(await rights.set_roles(self.database, user_id, wanted, by=by, origin=Origin(HOME), version=version))

    async def disable(self, user_id: UUID, *, by: Principal) -> UserView:
        return UserView.of(await rights.disable(self.database, user_id, "a thief", by=by, origin=Origin(HOME)))

    async def events(self, *types: str) -> list[dict[str, Any]]:
        """All of them, or those of some types."""
        async with self.database.reading() as session:
            rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
            return [row.envelope for row in rows if not types or row.envelope["type"] in types]

    async def ends(self) -> list[str]:
        """The reasons of all sessions that have ended."""
        return [event["data"]["reason"] for event in await self.events("SessionEnded")]

    async def records(self) -> list[SecurityRecord]:
        async with self.database.reading() as session:
            return list((await session.exec(select(SecurityRecord).order_by(col(SecurityRecord.record_id)))).all())

    async def pauses_pass(self) -> None:
        """As if the longest pause had gone by."""
        async with changing(self.database) as work:
            await work.rows(update(LoginGuard).values(failed_at=col(LoginGuard.failed_at) - PER_GUESSER.longest_pause))


def principal_of(pair: TokenPair) -> Principal:
    claims = jwt.decode(pair.access_token, options={"verify_signature": False})
    roles = frozenset(map(Role, claims["roles"]))
    return Principal(UUID(claims["sub"]), roles, claims["exp"], session_id=UUID(claims["sid"]))


async def code_of(attempt: Awaitable[object]) -> ErrorCode | None:
    try:
        await attempt
    except Refusal as refusal:
        return refusal.code
    return None


async def test_each_change_tells_its_event(acts: Acts) -> None:
    user_id = await acts.register()
    await acts.change_password(await acts.log_in(), PASSWORD, "another password")
    events = await acts.events()
    kinds = ["UserRegistered", "AccountMailRequested", "UserLoggedIn", "PasswordChanged", "SessionEnded"]
    assert [event["type"] for event in events] == kinds
    assert {event["partitionkey"] for event in events if event["type"] != "AccountMailRequested"} == {str(user_id)}
    assert events[0]["data"] == {"customer_id": str(user_id)}


async def test_two_replicas_make_one_first_admin(acts: Acts) -> None:
    async def ensure() -> None:
        chosen = SecretStr("admin-password")
        await accounts.ensure_admin(
            acts.database, acts.passwords, email="admin@example.com", password=chosen, name="Administrator"
        )

    for _ in range(2):
        await asyncio.gather(ensure(), ensure())
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
    async with changing(acts.database) as work:
        await work.rows(update(User).where(col(User.user_id) == user_id).values(roles=["warehouse"], warehouses=["w1"]))
    refreshed = await acts.refresh(pair)
    claims = jwt.decode(refreshed.access_token, options={"verify_signature": False})
    assert (claims["roles"], claims["warehouses"]) == (["warehouse"], ["w1"])
    async with changing(acts.database) as work:
        await work.rows(update(Session).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert await code_of(acts.refresh(refreshed)) == ErrorCode.UNAUTHENTICATED


async def test_logout_ends_one_login_also_with_an_older_token_and_twice(acts: Acts) -> None:
    await acts.register()
    here, elsewhere = await acts.log_in(), await acts.log_in()
    newer = await acts.refresh(here)
    for _ in range(2):
        await acts.log_out(here)
    assert await code_of(acts.refresh(newer)) == ErrorCode.UNAUTHENTICATED
    await acts.refresh(elsewhere)


async def test_a_new_password_ends_every_login_and_the_old_password(acts: Acts) -> None:
    await acts.register()
    pairs = [await acts.log_in() for _ in range(2)]
    await acts.change_password(pairs[0], PASSWORD, "another password")
    assert [await code_of(acts.refresh(pair)) for pair in pairs] == [ErrorCode.UNAUTHENTICATED] * 2
    assert await code_of(acts.log_in()) == ErrorCode.INVALID_CREDENTIALS
    await acts.refresh(await acts.log_in("another password"))


async def at_a_lock(acts: Acts, attempt: asyncio.Task[Any]) -> bool:
    """Whether an attempt waits for somebody's lock, or is over since it did not."""
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    async with acts.database.reading() as session:
        return attempt.done() or (await session.execute(text(waiting))).scalar_one() > 0


async def test_a_login_that_races_a_password_change_opens_nothing(acts: Acts) -> None:
    user_id = await acts.register()
    async with changing(acts.database) as change:
        user = await locked_user(change, user_id)
        login = asyncio.create_task(code_of(acts.log_in()))  # the old password, which still fits when it is verified
        await eventually(lambda: at_a_lock(acts, login), what="the login at the lock")
        user.password_hash = await acts.passwords.hash(SecretStr("another password"))
    assert await login == ErrorCode.INVALID_CREDENTIALS


async def wrong(acts: Acts, times: int, **where: Any) -> list[ErrorCode | None]:
    return [await code_of(acts.log_in(f"a wrong guess {n}", **where)) for n in range(times)]


async def test_g5_wrong_guesses_slow_down_the_guesser_and_not_the_owner(acts: Acts) -> None:
    await acts.register()
    device = (await acts.log_in()).device_token
    assert await wrong(acts, 10, address="198.51.100.7") == [ErrorCode.INVALID_CREDENTIALS] * 10
    assert await code_of(acts.log_in(address="198.51.100.7")) == ErrorCode.RATE_LIMITED
    await acts.log_in()  # from elsewhere, also on a strange device
    await acts.log_in(address="198.51.100.7", device=device)  # from the same place, on the owner's device


async def test_g5_guesses_from_everywhere_slow_down_strange_devices_only(acts: Acts) -> None:
    await acts.register()
    device = (await acts.log_in()).device_token
    async with changing(acts.database) as work:
        work.add(LoginGuard(key=account_key(EMAIL), failures=PER_ACCOUNT.free + 6))
    assert await code_of(acts.log_in(address="198.51.100.8")) == ErrorCode.RATE_LIMITED
    await acts.log_in(address="198.51.100.8", device=device)
    async with changing(acts.database) as work:
        await work.rows(update(LoginGuard).values(failed_at=utc_now() - PER_ACCOUNT.longest_pause))
    await acts.log_in(address="198.51.100.8")  # a minute is the longest that anybody waits for others' sake


async def test_a_device_that_guesses_waits_like_anybody(acts: Acts) -> None:
    await acts.register()
    device = (await acts.log_in()).device_token
    assert await wrong(acts, 11, device=device) == [ErrorCode.INVALID_CREDENTIALS] * 10 + [ErrorCode.RATE_LIMITED]
    await acts.log_in()


async def test_a_device_is_known_at_its_own_account_only_and_until_the_password_changes(acts: Acts) -> None:
    await acts.register()
    await acts.register("bob@example.com")
    pair = await acts.log_in()
    bobs = (await acts.log_in(email="bob@example.com")).device_token
    assert (await acts.log_in(device=pair.device_token)).device_token == pair.device_token
    for strange in (bobs, "nonsense", pair.device_token[:-4] + "AAAA"):
        assert (await acts.log_in(device=strange)).device_token != strange
    await acts.change_password(pair, PASSWORD, "another password")
    assert (await acts.log_in("another password", device=pair.device_token)).device_token != pair.device_token


async def test_only_the_devices_used_last_are_known(acts: Acts) -> None:
    await acts.register()
    first, second = [(await acts.log_in()).device_token for _ in range(2)]
    await acts.log_in(device=first)
    for _ in range(DEVICES_KEPT - 1):
        await acts.log_in()
    assert (await acts.log_in(device=first)).device_token == first
    assert (await acts.log_in(device=second)).device_token != second


async def test_g5_guesses_sent_at_once_get_no_more_answers_than_one_after_the_other(acts: Acts) -> None:
    await acts.register()
    codes = await asyncio.gather(*[code_of(acts.log_in(f"a wrong guess {n}")) for n in range(20)])
    assert (codes.count(ErrorCode.INVALID_CREDENTIALS), codes.count(ErrorCode.RATE_LIMITED)) == (10, 10)
    assert len(await acts.records()) == 10


async def test_a_right_password_ends_the_pauses_of_its_own_address_only(acts: Acts) -> None:
    await acts.register()
    await wrong(acts, 10)
    await wrong(acts, 3, address="198.51.100.7")
    await acts.pauses_pass()
    await acts.log_in()
    async with acts.database.reading() as session:
        left = {guard.key: guard.failures for guard in (await session.exec(select(LoginGuard))).all()}
    assert left == {account_key(EMAIL): 13, guesser_key(EMAIL, "198.51.100.7"): 3}


async def test_wrong_current_passwords_slow_down_the_session_and_no_login(acts: Acts) -> None:
    await acts.register()
    thief = await acts.log_in()
    for _ in range(10):
        attempt = acts.change_password(thief, "a wrong guess", "another password")
        assert await code_of(attempt) == ErrorCode.INVALID_CREDENTIALS
    assert await code_of(acts.change_password(thief, PASSWORD, "another password")) == ErrorCode.RATE_LIMITED
    await acts.change_password(await acts.log_in(), PASSWORD, "another password")
    kinds = [record.kind for record in await acts.records()]
    assert kinds == [SecurityEvent.PASSWORD_REFUSED] * 10 + [SecurityEvent.PASSWORD_CHANGED]


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
    await wrong(acts, 2)
    async with changing(acts.database) as work:
        of_old = col(Session.session_id) == secret_tokens.id_in(old.refresh_token)
        await work.rows(update(Session).where(of_old).values(expires_at=utc_now() - timedelta(seconds=1)))
        work.add(LoginGuard(key="long ago", failures=3, failed_at=utc_now() - FORGOTTEN_AFTER))
        newest = (await acts.records())[-1].record_id
        long_ago = utc_now() - timedelta(days=90)
        await work.rows(update(SecurityRecord).where(col(SecurityRecord.record_id) != newest).values(at=long_ago))
    await sessions.forget_expired(acts.database, timedelta(days=90))
    async with acts.database.reading() as session:
        assert "long ago" not in (await session.exec(select(LoginGuard.key))).all()
        assert len((await session.exec(select(LoginGuard.key))).all()) == 2
        assert (await session.exec(select(Session.session_id))).all() == [secret_tokens.id_in(live.refresh_token)]
    assert [record.record_id for record in await acts.records()] == [newest]


async def test_no_end_is_missed_by_one_who_asks_for_what_is_new(acts: Acts) -> None:
    await acts.register()
    slow, quick = await acts.log_in(), await acts.log_in()
    slow_id, quick_id = (secret_tokens.id_in(pair.refresh_token) for pair in (slow, quick))
    assert slow_id is not None
    async with changing(acts.database) as work:
        await end_sessions(work, await sessions_by_id(work, slow_id), EndReason.LOGGED_OUT)
        await acts.log_out(quick)  # began later, commits sooner
        first = await queries.ended_sessions(acts.database, 0)
    assert set(first.transactions) == {quick_id}
    second = await queries.ended_sessions(acts.database, first.position)
    assert set(second.transactions) == {slow_id, quick_id}

    async def nothing_is_new() -> bool:  # the server itself may hold a transaction open for a moment
        return not (await queries.ended_sessions(acts.database, second.position)).transactions

    await eventually(nothing_is_new)


async def test_only_ends_that_matter_are_told(acts: Acts) -> None:
    await acts.register()
    await acts.log_out(await acts.log_in())
    assert len((await queries.ended_sessions(acts.database, 0)).transactions) == 1
    async with changing(acts.database) as work:
        await work.rows(update(Session).values(ended_at=utc_now() - REMEMBERED_FOR))
    assert not (await queries.ended_sessions(acts.database, 0)).transactions


async def test_every_way_to_end_a_session_is_told_with_its_reason(acts: Acts) -> None:
    admin = await acts.admin()
    user_id = await acts.register()

    async def end(how: Callable[[LoginTokens], Awaitable[object]]) -> None:
        pair = await acts.log_in()
        await code_of(how(pair))
        ended = (await acts.events("SessionEnded"))[-1]
        assert ended["data"]["session_id"] == str(secret_tokens.id_in(pair.refresh_token))
        assert ended["partitionkey"] == str(user_id)
        assert await code_of(acts.refresh(pair)) in (ErrorCode.UNAUTHENTICATED, ErrorCode.REFRESH_TOKEN_REUSED)

    async def use_twice(pair: TokenPair) -> None:
        await acts.refresh(pair)
        await acts.refresh(pair)

    async def end_from_elsewhere(pair: TokenPair) -> None:
        await sessions.end_others(acts.database, principal_of(await acts.log_in()))

    origin = Origin(HOME)
    await end(acts.log_out)
    await end(lambda pair: sessions.log_out(acts.database, principal_of(pair), None))
    await end(use_twice)
    await end(lambda pair: sessions.end_own(acts.database, principal_of(pair), principal_of(pair).session_id or uuid4()))
    await end(end_from_elsewhere)
    await end(lambda _: rights.end_sessions_of(acts.database, user_id, by=admin, origin=origin))
    await end(lambda pair: rights.end_sessions_of(acts.database, user_id, principal_of(pair).session_id, by=admin, origin=origin))
    await end(lambda _: acts.set_roles(user_id, [Role.SUPPORT], by=admin))
    await end(lambda pair: acts.change_password(pair, PASSWORD, PASSWORD))
    await end(lambda _: acts.disable(user_id, by=admin))
    await rights.enable(acts.database, user_id, by=admin, origin=origin)
    await end(lambda _: erasure.erase_user(acts.database, user_id, "test", by=admin))
    assert set(await acts.ends()) == set(EndReason)


async def test_a_made_up_refresh_token_ends_nothing(acts: Acts) -> None:
    await acts.register()
    pair = await acts.log_in()
    session_id = principal_of(pair).session_id
    assert session_id is not None
    made_up = pair.model_copy(update={"refresh_token": secret_tokens.new_token(session_id, bytes(16))})
    assert await code_of(acts.refresh(made_up)) == ErrorCode.UNAUTHENTICATED
    await acts.log_out(made_up)
    await acts.refresh(pair)


async def test_a_disabled_user_is_told_so_after_the_right_password_only(acts: Acts) -> None:
    admin = await acts.admin()
    user_id = await acts.register()
    pair = await acts.log_in()
    view = await acts.disable(user_id, by=admin)
    assert view.disabled_at is not None
    assert await code_of(acts.log_in("a wrong guess")) == ErrorCode.INVALID_CREDENTIALS
    assert await code_of(acts.log_in()) == ErrorCode.ACCOUNT_DISABLED
    assert await code_of(acts.refresh(pair)) == ErrorCode.UNAUTHENTICATED
    assert (await acts.disable(user_id, by=admin)).version == view.version  # again: nothing to do
    for _ in range(2):
        await rights.enable(acts.database, user_id, by=admin, origin=Origin(HOME))
    await acts.log_in()
    changes = await acts.events("UserDisabled", "UserEnabled")
    assert [event["type"] for event in changes] == ["UserDisabled", "UserEnabled"]
    assert changes[0]["data"] == {"customer_id": str(user_id), "by": str(admin.subject), "reason": SHUT_OUT}
    failed = [record for record in await acts.records() if record.kind == SecurityEvent.LOGIN_FAILED]
    assert [(record.user_id, record.detail) for record in failed] == [(user_id, ""), (user_id, "account_disabled")]


async def test_g3_what_ends_an_admins_session_and_what_it_does_take_turns(acts: Acts) -> None:
    admin, user_id = await acts.admin(), await acts.register()
    async with changing(acts.database) as ending:
        login = await ending.get(Session, admin.session_id)
        assert login is not None
        disabling = asyncio.create_task(code_of(acts.disable(user_id, by=admin)))
        await eventually(lambda: at_a_lock(acts, disabling), what="the admin's command at the lock")
        login.ended_at = utc_now()
    assert await disabling == ErrorCode.FORBIDDEN


async def test_g3_a_demoted_admin_cannot_restore_itself(acts: Acts) -> None:
    admin, fallen = await acts.admin(), await acts.admin("fallen")
    victim = await acts.register()
    await acts.set_roles(fallen.subject, [Role.CUSTOMER], by=admin)
    for attempt in (
        acts.set_roles(fallen.subject, [Role.ADMIN], by=fallen),
        acts.set_roles(victim, [Role.ADMIN], by=fallen),
        acts.disable(admin.subject, by=fallen),
        rights.enable(acts.database, victim, by=fallen, origin=Origin(HOME)),
        rights.end_sessions_of(acts.database, admin.subject, by=fallen, origin=Origin(HOME)),
    ):
        assert await code_of(attempt) == ErrorCode.FORBIDDEN
    (changed,) = await acts.events("RolesChanged")
    assert changed["data"] == {
        "customer_id": str(fallen.subject),
        "roles": ["customer"],
        "warehouses": None,
        "by": str(admin.subject),
    }
    (record,) = [record for record in await acts.records() if record.kind == SecurityEvent.ROLES_CHANGED]
    assert (record.user_id, record.by, record.address, record.detail) == (fallen.subject, admin.subject, HOME, "roles: customer")


async def test_g3_an_admin_whose_session_has_ended_changes_nothing(acts: Acts) -> None:
    admin = await acts.admin()
    await sessions.log_out(acts.database, admin, None)
    assert await code_of(acts.disable(await acts.register(), by=admin)) == ErrorCode.FORBIDDEN


@pytest.mark.parametrize("how", ["set_roles", "disable"])
async def test_g3_of_admins_who_turn_on_each_other_one_is_left(acts: Acts, how: str) -> None:
    admins = [await acts.admin(name) for name in ("one", "two", "three")]

    def attack(by: Principal, on: Principal) -> Awaitable[object]:
        return acts.disable(on.subject, by=by) if how == "disable" else acts.set_roles(on.subject, [Role.CUSTOMER], by=by)

    await asyncio.gather(*[code_of(attack(by, on)) for by in admins for on in admins])
    async with acts.database.reading() as session:
        left = [user for user in (await session.exec(select(User))).all() if user.is_admin]
    assert len(left) == 1


async def test_the_same_roles_again_end_no_session(acts: Acts) -> None:
    admin = await acts.admin()
    user_id = await acts.register()
    pair = await acts.log_in()
    await acts.set_roles(user_id, [Role.CUSTOMER], by=admin)
    await acts.refresh(pair)
    assert await acts.events("RolesChanged", "SessionEnded") == []


async def test_g9_failed_logins_leave_account_and_address_and_no_password(acts: Acts) -> None:
    user_id = await acts.register()
    await wrong(acts, 1)
    await wrong(acts, 1, email="nobody@example.com", address="2001:db8::1")
    records = await acts.records()
    assert [(record.kind, record.account, record.user_id, record.address) for record in records] == [
        (SecurityEvent.LOGIN_FAILED, EMAIL, user_id, HOME),
        (SecurityEvent.LOGIN_FAILED, "nobody@example.com", None, "2001:db8::1"),
    ]
    assert "wrong guess" not in repr(records)


async def test_g9_refresh_tokens_that_are_refused_are_written_down(acts: Acts) -> None:
    user_id = await acts.register()
    pair = await acts.log_in()
    await acts.refresh(pair)
    await code_of(acts.refresh(pair))
    await code_of(acts.refresh(pair.model_copy(update={"refresh_token": "nonsense"})))
    records = await acts.records()
    assert [(record.kind, record.user_id) for record in records] == [
        (SecurityEvent.REFRESH_TOKEN_REUSED, user_id),
        (SecurityEvent.REFRESH_TOKEN_REFUSED, None),
    ]
    assert pair.refresh_token not in repr(records)


async def test_a_flood_of_failures_does_not_fill_the_log(acts: Acts) -> None:
    nonsense = TokenPair(access_token="", expires_in=1, refresh_token="nonsense", refresh_expires_in=1)
    for _ in range(Budget.PER_NETWORK + 50):
        await code_of(acts.refresh(nonsense))
    # Twice the budget of a minute, if one has just begun.
    assert Budget.PER_NETWORK <= len(await acts.records()) <= 2 * Budget.PER_NETWORK

"""Identity's commands, and what always holds of accounts, logins, links and rights."""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID

import jwt
from pydantic import SecretStr
from sqlmodel import col, select

from chassis.clock import utc_now
from chassis.database import Database
from chassis.origin import Origin
from chassis.tokens import Principal
from cli.secrets import rsa_key
from contracts.identity import Role
from services.identity.commands import accounts, clients, erasure, profile, rights, sessions
from services.identity.commands.guessing import account_key, guesser_key
from services.identity.commands.security import SecurityLog
from services.identity.model import (
    AccountLink,
    LinkPurpose,
    LoginGuard,
    MailGuard,
    SecurityEvent,
    SecurityRecord,
    Session,
    User,
    secret_tokens,
)
from services.identity.model.links import MAILS_ALLOWED
from services.identity.passwords import Passwords
from services.identity.tokens import TokenIssuer, Tokens
from tests.conftest import changing
from tests.races.machine import Command, Rows, Subject, stop

SHARED = "both@example.com"
"""Two accounts have it, and neither has proven it."""
NOBODY = "new@example.com"
PASSWORD, NEW_PASSWORDS, WRONG = "correct horse", ("battery staple", "paper clip"), "a wrong one"
CLIENTS = {"worker": SecretStr("the secret of the worker")}
LOG_KEPT = timedelta(days=90)
URL = "https://shop.example"


class PlainPasswords(Passwords):
    """Hashes are as good as the passwords: what is raced for is what comes between two transactions."""

    def __init__(self) -> None:
        pass

    async def hash(self, password: SecretStr) -> str:
        await stop("a password is hashed")
        return f"hash of {password.get_secret_value()}"

    async def verify(self, password: SecretStr, hashed: str | None) -> str | None:
        return hashed if await self.hash(password) == hashed else None


PASSWORDS = PlainPasswords()


@cache
def issuer() -> TokenIssuer:
    return TokenIssuer(SecretStr(rsa_key()), "", issuer="distributed-commerce", audience="commerce")


@dataclass
class Accounts:
    """Two admins, a customer with some logins and open links, and two strangers who claim one address."""

    callers: dict[str, Principal] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    requests: list[UUID] = field(default_factory=list)
    links: dict[LinkPurpose, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The tokens of mails that were sent."""
    devices: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    """Every refresh token that anybody got."""

    def got(self, tokens: Tokens, name: str | None = None) -> Principal:
        """Somebody got tokens; who that is. By a name others can call with them."""
        self.given.append(tokens.refresh_token)
        claims = jwt.decode(tokens.access_token, options={"verify_signature": False})
        roles = frozenset(map(Role, claims["roles"]))
        caller = Principal(UUID(claims["sub"]), roles, claims["exp"], session_id=UUID(claims["sid"]))
        if name is not None:
            self.callers[name] = caller
        return caller


def origin(password: str = "") -> Origin:
    """The device of a login is told as the password that it was made with, which `broken` compares."""
    return Origin("203.0.113.7", password)


async def prepare(database: Database, random: Random) -> Accounts:
    world = Accounts()

    async def register(name: str, email: str) -> None:
        world.got(await _registered(database, email, PASSWORD, name), name)

    async def log_in(name: str) -> None:
        email, password = f"{name}@example.com", SecretStr(PASSWORD)
        tokens, device = await sessions.log_in(
            database, PASSWORDS, issuer(), SecurityLog(), origin(PASSWORD), email=email, password=password
        )
        world.got(tokens, name)
        world.devices.append(device)

    async def send_mails() -> None:
        """Of all links that were asked for and have none yet."""
        async with database.reading() as session:
            in_sequence = (col(AccountLink.email), col(AccountLink.purpose), col(AccountLink.user_id))
            links = (await session.execute(select(AccountLink).order_by(*in_sequence))).scalars().all()
        for link in links:
            world.requests.append(link.request_id)
            if link.token_hash is None:
                mail = await accounts.prepare_mail(database, URL, link.request_id)
                world.links[link.purpose].append(mail.link.partition("=")[2])

    await accounts.ensure_admin(database, PASSWORDS, email="ann@example.com", password=SecretStr(PASSWORD), name="ann")
    await log_in("ann")
    for name in ("bob", "cyd"):
        await register(name, f"{name}@example.com")
    await send_mails()
    for token in world.links[LinkPurpose.VERIFY_EMAIL]:
        await accounts.verify_email(database, token)
    bob = world.callers["bob"].subject
    await rights.set_roles(database, bob, frozenset({Role.ADMIN}), by=world.callers["ann"], origin=origin(), version=2)
    for name in ("bob", "cyd", "cyd", "cyd"):
        await log_in(name)
    for name in ("dan", "eve"):
        await register(name, SHARED)
    await accounts.ask_for_reset(database, "cyd@example.com")
    await accounts.ask_for_email_change(
        database,
        PASSWORDS,
        SecurityLog(),
        world.callers["cyd"],
        origin(),
        email=random.choice((NOBODY, SHARED)),
        current_password=SecretStr(PASSWORD),
    )
    if random.random() < 0.8:
        await send_mails()
    if random.random() < 0.3:
        await rights.disable(database, world.callers["eve"].subject, "test", by=world.callers["ann"], origin=origin())
    await _let_time_pass(database, random, world)
    async with database.reading() as session:
        world.versions = {user.name: user.version for user in (await session.execute(select(User))).scalars()}
    return world


async def _let_time_pass(database: Database, random: Random, world: Accounts) -> None:
    """Two logins of the customer and a link have expired, and there were wrong guesses and many mails before."""
    cyd = world.callers["cyd"]
    async with changing(database) as work:
        for token in world.given[-5:-3]:
            login = await work.get(Session, secret_tokens.id_in(token))
            assert login is not None
            login.expires_at = utc_now() - timedelta(days=1)
        for request_id in world.requests[-1:]:
            if (link := await work.get(AccountLink, request_id)) is not None and random.random() < 0.3:
                link.expires_at = utc_now() - timedelta(days=1)
        work.add(SecurityRecord(at=utc_now() - 2 * LOG_KEPT, kind=SecurityEvent.LOGIN_FAILED))
        if random.random() < 0.5:
            email = "cyd@example.com"
            for key in (f"session {cyd.session_id}", guesser_key(email, origin().network), account_key(email)):
                work.add(LoginGuard(key=key, failures=9))
        if random.random() < 0.5:
            for email in ("cyd@example.com", SHARED):
                guard, _ = await work.get_or_add(MailGuard(key=secret_tokens.hash_of(email)))
                guard.mails = MAILS_ALLOWED - 1


async def _registered(database: Database, email: str, password: str, name: str) -> Tokens:
    given = SecretStr(password)
    _, tokens = await accounts.register(database, PASSWORDS, issuer(), origin(password), email=email, password=given, name=name)
    return tokens


def register(world: Accounts, random: Random) -> Command:
    email, password = random.choice((NOBODY, SHARED, "cyd@example.com")), random.choice(NEW_PASSWORDS)

    async def run(database: Database) -> None:
        world.got(await _registered(database, email, password, "fay"))

    return run


def ensure_admin(world: Accounts, random: Random) -> Command:
    email, password = random.choice((NOBODY, SHARED, "ann@example.com")), SecretStr(random.choice(NEW_PASSWORDS))
    return lambda database: accounts.ensure_admin(database, PASSWORDS, email=email, password=password, name="root")


def ask_for_verification(world: Accounts, random: Random) -> Command:
    user_id = world.callers[random.choice(("dan", "eve", "cyd"))].subject
    return lambda database: accounts.ask_for_verification(database, user_id)


def verify_email(world: Accounts, random: Random) -> Command:
    token = _link(world, random, LinkPurpose.VERIFY_EMAIL)
    return lambda database: accounts.verify_email(database, token)


def ask_for_reset(world: Accounts, random: Random) -> Command:
    email = random.choice((SHARED, "cyd@example.com"))
    return lambda database: accounts.ask_for_reset(database, email)


def reset_password(world: Accounts, random: Random) -> Command:
    token, password = _link(world, random, LinkPurpose.PASSWORD_RESET), SecretStr(random.choice(NEW_PASSWORDS))
    return lambda database: accounts.reset_password(database, PASSWORDS, token, password, origin())


def ask_for_email_change(world: Accounts, random: Random) -> Command:
    caller, name = _caller(world, random, "cyd", "dan")
    email, password = random.choice((NOBODY, SHARED)), SecretStr(random.choice((PASSWORD, PASSWORD, WRONG)))
    version = random.choice((None, world.versions[name]))
    return lambda database: accounts.ask_for_email_change(
        database, PASSWORDS, SecurityLog(), caller, origin(), email=email, current_password=password, version=version
    )


def confirm_email_change(world: Accounts, random: Random) -> Command:
    token = _link(world, random, LinkPurpose.EMAIL_CHANGE_OLD, LinkPurpose.EMAIL_CHANGE_NEW)
    return lambda database: accounts.confirm_email_change(database, token, origin())


def stop_email_change(world: Accounts, random: Random) -> Command:
    token = _link(world, random, LinkPurpose.EMAIL_CHANGE_OLD)
    return lambda database: accounts.stop_email_change(database, token)


def prepare_mail(world: Accounts, random: Random) -> Command:
    request_id = random.choice(world.requests)

    async def run(database: Database) -> tuple[str, str]:
        mail = await accounts.prepare_mail(database, URL, request_id)
        return mail.kind, mail.email

    return run


def service_token(world: Accounts, random: Random) -> Command:
    secret = random.choice((CLIENTS["worker"], SecretStr(WRONG)))

    async def run(database: Database) -> None:
        await clients.service_token(
            database, issuer(), SecurityLog(), CLIENTS, origin(), client_id="worker", client_secret=secret
        )

    return run


def change_profile(world: Accounts, random: Random) -> Command:
    caller, name = _caller(world, random, "bob", "cyd")
    changes = {"phone": random.choice(("+15550001", "+15550002"))}
    return lambda database: profile.change_profile(database, caller.subject, changes, version=world.versions[name])


def set_roles(world: Accounts, random: Random) -> Command:
    by, _ = _caller(world, random, "ann", "bob")
    user, name = _caller(world, random, "ann", "bob", "cyd")
    roles = frozenset({random.choice((Role.CUSTOMER, Role.ADMIN, Role.WAREHOUSE))})
    scopes = frozenset({"cincinnati"}) if Role.WAREHOUSE in roles else None
    return lambda database: rights.set_roles(
        database, user.subject, roles, scopes, by=by, origin=origin(), version=world.versions[name]
    )


def disable(world: Accounts, random: Random) -> Command:
    by, _ = _caller(world, random, "ann", "bob")
    user, name = _caller(world, random, "ann", "bob", "cyd", "cyd", "eve")
    version = random.choice((None, world.versions[name]))
    return lambda database: rights.disable(database, user.subject, "test", by=by, origin=origin(), version=version)


def enable(world: Accounts, random: Random) -> Command:
    by, _ = _caller(world, random, "ann", "bob")
    user, name = _caller(world, random, "cyd", "eve")
    version = random.choice((None, world.versions[name]))
    return lambda database: rights.enable(database, user.subject, by=by, origin=origin(), version=version)


def erase_user(world: Accounts, random: Random) -> Command:
    by, _ = _caller(world, random, "ann", "bob")
    user, _ = _caller(world, random, "ann", "bob", "cyd", "cyd", "dan")
    return lambda database: _forgotten(erasure.erase_user(database, user.subject, "test", by=by))


def erase_oneself(world: Accounts, random: Random) -> Command:
    caller, _ = _caller(world, random, "bob", "cyd", "cyd", "dan")
    password = SecretStr(random.choice((PASSWORD, PASSWORD, WRONG)))
    return lambda database: _forgotten(
        erasure.erase_oneself(database, PASSWORDS, SecurityLog(), caller, origin(), current_password=password)
    )


async def _forgotten(erasing: Awaitable[User]) -> bool:
    return (await erasing).is_forgotten


def end_sessions_of(world: Accounts, random: Random) -> Command:
    by, _ = _caller(world, random, "ann", "bob")
    user, _ = _caller(world, random, "bob", "cyd", "cyd")
    session_id = random.choice((None, user.session_id))
    return lambda database: rights.end_sessions_of(database, user.subject, session_id, by=by, origin=origin())


def log_in(world: Accounts, random: Random) -> Command:
    email, password = random.choice(("cyd@example.com", "bob@example.com", SHARED)), random.choice((PASSWORD, PASSWORD, WRONG))
    device = random.choice((None, *map(SecretStr, world.devices)))

    async def run(database: Database) -> list[str]:
        tokens, _ = await sessions.log_in(
            database,
            PASSWORDS,
            issuer(),
            SecurityLog(),
            origin(password),
            email=email,
            password=SecretStr(password),
            device_token=device,
        )
        return sorted(world.got(tokens).roles)

    return run


def refresh(world: Accounts, random: Random) -> Command:
    token = SecretStr(_refresh_token(world, random))

    async def run(database: Database) -> list[str]:
        return sorted(world.got(await sessions.refresh(database, issuer(), SecurityLog(), origin(), refresh_token=token)).roles)

    return run


def log_out(world: Accounts, random: Random) -> Command:
    caller = random.choice((None, world.callers["cyd"]))
    token = SecretStr(_refresh_token(world, random))
    return lambda database: sessions.log_out(database, caller, token)


def end_own(world: Accounts, random: Random) -> Command:
    session_id = secret_tokens.id_in(_refresh_token(world, random))
    assert session_id is not None
    return lambda database: sessions.end_own(database, world.callers["cyd"], session_id)


def end_others(world: Accounts, random: Random) -> Command:
    caller, _ = _caller(world, random, "bob", "cyd", "cyd")
    return lambda database: sessions.end_others(database, caller)


def change_password(world: Accounts, random: Random) -> Command:
    caller, name = _caller(world, random, "cyd", "dan", "cyd")
    current, new = SecretStr(random.choice((PASSWORD, PASSWORD, WRONG))), SecretStr(random.choice(NEW_PASSWORDS))
    version = random.choice((None, world.versions[name]))
    return lambda database: sessions.change_password(
        database, PASSWORDS, SecurityLog(), caller, origin(), current_password=current, new_password=new, version=version
    )


def forget_expired(world: Accounts, random: Random) -> Command:
    async def run(database: Database) -> None:
        await sessions.forget_expired(database, LOG_KEPT)
        await accounts.forget_expired(database)

    return run


def _caller(world: Accounts, random: Random, *names: str) -> tuple[Principal, str]:
    name = random.choice(names)
    return world.callers[name], name


def _link(world: Accounts, random: Random, *purposes: LinkPurpose) -> str:
    """A token that was mailed for one of these purposes, or one that never was."""
    return random.choice([token for purpose in purposes for token in world.links[purpose]] or ["never mailed"])


def _refresh_token(world: Accounts, random: Random) -> str:
    """Of a login of the customer, or of one that has expired or ended."""
    return random.choice(world.given[-7:-2])


COMMANDS: dict[str, Callable[[Accounts, Random], Command]] = {
    "register": register,
    "make the first admin": ensure_admin,
    "ask for verification": ask_for_verification,
    "verify e-mail": verify_email,
    "ask for a reset": ask_for_reset,
    "reset password": reset_password,
    "ask for another e-mail": ask_for_email_change,
    "confirm another e-mail": confirm_email_change,
    "stop another e-mail": stop_email_change,
    "prepare mail": prepare_mail,
    "service token": service_token,
    "change profile": change_profile,
    "set roles": set_roles,
    "disable": disable,
    "enable": enable,
    "erase user": erase_user,
    "erase oneself": erase_oneself,
    "end sessions of": end_sessions_of,
    "log in": log_in,
    "refresh": refresh,
    "log out": log_out,
    "end own": end_own,
    "end others": end_others,
    "change password": change_password,
    "forget expired": forget_expired,
}


def broken(rows: Rows, world: Accounts) -> Sequence[str]:
    """Rights and addresses are those that were told last; a login lives as long as the password and the account that made it; of
    its refresh tokens the last one is good."""
    wrong = []
    told: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    ended: Counter[str] = Counter()
    for row in rows["outbox"]:
        kind, data = row["envelope"]["type"], row["envelope"]["data"]
        if kind == "SessionEnded":
            ended[data["session_id"]] += 1
        elif data.get("customer_id"):
            told[data["customer_id"]].append((kind, data))
    users = {row["user_id"]: row for row in rows["users"]}
    holders = Counter(user["email"] for user in users.values() if user["email_verified_at"])
    wrong += [f"{email} is held by {times}" for email, times in holders.items() if times > 1]
    if not any("admin" in user["roles"] and not user["disabled_at"] and not user["forgotten_at"] for user in users.values()):
        wrong.append("there is no admin any more")
    for user_id, user in users.items():
        kinds = [kind for kind, _ in told[user_id]]
        if kinds.count("UserRegistered") != 1:
            wrong.append(f"{user['name']} was registered {kinds.count('UserRegistered')} times")
        roles = [data["roles"] for kind, data in told[user_id] if kind == "RolesChanged"]
        if roles and roles[-1] != user["roles"]:
            wrong.append(f"{user['name']} is {user['roles']}, and {roles[-1]} by the events")
        if kinds.count("CustomerForgotten") != bool(user["forgotten_at"]):
            wrong.append(f"{user_id} was forgotten at {user['forgotten_at']}, and that was told {kinds}")
        if user["forgotten_at"] and any(user[name] for name in ("email", "name", "phone", "addresses", "password_hash")):
            wrong.append(f"{user_id} was forgotten, and there is still {user}")
        turns = [kind == "UserDisabled" for kind in kinds if kind in ("UserDisabled", "UserEnabled")]
        if (turns[-1] if turns else False) != bool(user["disabled_at"]) or any(a == b for a, b in pairwise(turns)):
            wrong.append(f"{user['name']} is disabled at {user['disabled_at']}, and that was told as {turns}")
    good: defaultdict[str, list[str]] = defaultdict(list)
    for token in world.given:
        good[str(secret_tokens.id_in(token))].append(secret_tokens.hash_of(token))
    for login in rows["sessions"]:
        user = users[login["user_id"]]
        label = f"a login of {user['name']} with {login['device']}"
        if bool(login["ended_at"]) != bool(ended[login["session_id"]]) or ended[login["session_id"]] > 1:
            wrong.append(f"{label} ended at {login['ended_at']}, and that was told {ended[login['session_id']]} times")
        if good[login["session_id"]][-1:] != [login["token_hash"]]:
            wrong.append(f"{label} does not go on with the token that was given last")
        if login["ended_at"] is None and user["forgotten_at"]:
            wrong.append(f"{label} lives, and the account is forgotten")
        if login["ended_at"] is None and user["disabled_at"]:
            wrong.append(f"{label} lives, and the account is disabled")
        if login["ended_at"] is None and user["password_hash"] != f"hash of {login['device']}":
            wrong.append(f"{label} lives, and the password is another")
    for link in rows["account_links"]:
        owner = users.get(link["user_id"])
        if owner and owner["forgotten_at"]:
            wrong.append(f"a link of {link['purpose']} is left of one who is forgotten")
        if owner and link["purpose"] == LinkPurpose.EMAIL_CHANGE_OLD and link["email"] != owner["email"]:
            wrong.append(f"{owner['name']} has {owner['email']}, and {link['email']} may still agree to another")
    wrong += [f"{guard['mails']} mails to {guard['key']}" for guard in rows["mail_guards"] if guard["mails"] > MAILS_ALLOWED]
    return wrong


SUBJECT = Subject(
    "identity",
    prepare,
    COMMANDS,
    broken,
    loose=frozenset(
        {"ask for another e-mail", "change password", "log in", "reset password", "make the first admin", "erase oneself"}
    ),
    by_chance=frozenset({"token_hash", "shared_hash", "ended_in"}),
    save=lambda world: list(world.given),
    restore=lambda world, given: world.given.__setitem__(slice(None), given),
)

"""Real servers for the tests: one PostgreSQL for the session, a fresh database for each test that asks for one."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import hypothesis
import jwt
import pytest
import pytest_asyncio
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from redis.asyncio import Redis
from xdist.scheduler import LoadScopeScheduling

from chassis import migrations
from chassis.access import Grant, Reach
from chassis.database import Database
from chassis.dependencies import provide
from chassis.service import Service
from chassis.store import UnitOfWork
from chassis.tokens import ALGORITHM, Principal, TokenVerifier
from contracts.identity import Role
from contracts.platform import SERVICE_NAMES
from embedded import postgres as embedded_postgres

ROOT = Path(__file__).parent.parent
# A slow machine is no defect of what is tested.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")
PATIENCE_S = 120.0
"""How long a test waits for what has to come. Only a defect makes it wait that long: a busy machine is none."""
ADMIN = Grant(Principal(uuid4(), frozenset({Role.ADMIN}), 0), frozenset({Reach.ALL}))
"""Somebody who reaches everything, for tests that are not about who may what."""


def pytest_configure() -> None:
    # A process of pytest-xdist ignores Ctrl-C, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As processes log if nothing else is said.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


LONGEST_FIRST = (
    "upgrade",
    "docs",
    "replay",
    "journeys",
    "release",
    "gateway",
    "workflows",
    "events",
    "races",
    "fuzz",
    "crash",
    "audit",
    "cli",
    "embedded",
)
"""The folders that take longest, so that the processes which share the suite (`make test`) end at about the same time."""


class ByFolder(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of one folder share their servers, so one process plays all of them."""

    def _split_scope(self, nodeid: str) -> str:
        return _folder(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFolder:
    return ByFolder(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {folder: place for place, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(_folder(item.nodeid), len(places)))


def _folder(nodeid: str) -> str:
    """`events` of `tests/events/test_relay.py::test_…`; a service's folder is one of its own."""
    parts = nodeid.partition("::")[0].split("/")
    return "/".join(parts[1:3]) if parts[1] == "services" else parts[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", default="6", help="crash test: how many times something fails")
    parser.addoption("--seed", default=str(time.time_ns() % 100_000), help="crash test: makes the random choices repeatable")
    parser.addoption("--explore-seeds", default="300", help="explorer: how many seeds are played")
    parser.addoption(
        "--explore-first", default="0", help="explorer: the first of them; fixed, so that a build fails for its own change"
    )
    parser.addoption("--drill", default="short", choices=("short", "full"), help="upgrade drill: how much is played")
    parser.addoption("--race-seeds", default="1", help="races: how many worlds each pair of commands races in")
    parser.addoption("--fuzz-seed", default="1", help="fuzz run: where its sequence of made-up requests begins")
    parser.addoption("--fuzz-seconds", default="12", help="fuzz run: how long each of its three callers plays")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[embedded_postgres.PostgresServer]:
    """One PostgreSQL server for all tests."""
    async with embedded_postgres.running(tmp_path_factory.mktemp("postgres")) as server:
        yield server


class Databases:
    """Fresh databases for services: a service is migrated once, into a template, which each test's database copies."""

    def __init__(self, server: embedded_postgres.PostgresServer) -> None:
        self._server = server
        self._templates: dict[str, str] = {}

    async def new(self, service: str) -> str:
        """URL of a new database with this service's tables."""
        template = self._templates.get(service) or await self._template(service)
        name = f"{service}_{uuid4().hex[:12]}"
        await self._execute(f'create database "{name}" template "{template}"')
        return self._server.url(name)

    async def _template(self, service: str) -> str:
        name = f"template_{service}_{uuid4().hex[:8]}"
        await self._execute(f'create database "{name}"')
        folder = ROOT / "services" / service / "migrations"
        await asyncio.to_thread(migrations.upgrade, folder, self._server.url(name))
        self._templates[service] = name
        return name

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server.url("postgres").replace("+asyncpg", ""))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def databases(postgres: embedded_postgres.PostgresServer) -> Databases:
    return Databases(postgres)


@asynccontextmanager
async def changing(database: Database) -> AsyncIterator[UnitOfWork]:
    """One transaction of a test that changes what no command changes, or holds a lock for a while."""
    async with database._writing() as connection:
        work = UnitOfWork(connection, locks_first=True)
        try:
            yield work
            await work._commit()
        except BaseException:
            await work._roll_back()
            raise


class TokenMint:
    """Signs access tokens as identity does, with a key of its own. A process's token is good at every service."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(
        self,
        *roles: Role,
        subject: UUID | None = None,
        session_id: UUID | None = None,
        expires_in: int = 600,
        warehouses: Sequence[str] | None = None,
    ) -> str:
        whose = {"aud": list(SERVICE_NAMES)} if Role.SERVICE in roles else {"aud": "commerce", "sid": str(session_id or uuid4())}
        claims: dict[str, Any] = {
            "iss": "distributed-commerce",
            "sub": str(subject or uuid4()),
            "iat": int(time.time()),
            "exp": int(time.time()) + expires_in,
            "roles": list(roles),
            **whose,
        }
        if warehouses is not None:
            claims["warehouses"] = list(warehouses)
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": "test"})

    def headers(self, *roles: Role, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(*roles, **claims)}"}

    def verifier(self, service: str | None = None) -> TokenVerifier:
        async def keys() -> dict[str, object]:
            return {"keys": [RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True) | {"kid": "test", "alg": ALGORITHM}]}

        return TokenVerifier("distributed-commerce", "commerce", keys, service=service)


@pytest.fixture(scope="session")
def mint() -> TokenMint:
    return TokenMint()


@asynccontextmanager
async def running_api(service: Service, mint: TokenMint) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a service's API, in this process, on its real database."""
    provide(service.api, TokenVerifier, mint.verifier(service.name))
    async with service.opened():
        transport = httpx2.ASGITransport(service.api)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            yield client


async def emptied(connection: Redis) -> None:
    """Delete all keys, one by one: the shop's user of Redis may not flush."""
    if keys := [key async for key in connection.scan_iter()]:
        await connection.delete(*keys)


async def eventually(
    condition: Callable[[], Awaitable[bool]], *, timeout_s: float = PATIENCE_S, what: str = "the condition"
) -> None:
    """Wait until an asynchronous condition holds; fail with its name if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout_s} s")
        await asyncio.sleep(0.02)

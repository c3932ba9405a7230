"""Front doors for the hostile cases, before services that write down what arrives."""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chassis.tokens import ALGORITHM
from contracts.identity import Role
from embedded.ports import free_port
from tests.conftest import TokenMint
from tests.gateway.conftest import Shop, _keys_are_known, running_front_door
from tests.gateway.hostile.services import Record, Scripted, Services, services

HEAD_S, BODY_S, SILENCE_S, TOTAL_S = 3.0, 5.0, 4.0, 7.0
"""The deadlines of the hasty front door."""
UPLOADS = 100
"""How many bodies one of its clients may have under way."""


@dataclass(frozen=True)
class People:
    """Whose requests are told apart."""

    ids: dict[str, UUID]
    tokens: dict[str, str]

    def fill(self, sent: bytes) -> bytes:
        for name, token in self.tokens.items():
            sent = sent.replace(b"<%b>" % name.encode(), token.encode())
        return sent

    def name(self, subject: UUID | None) -> str | None:
        """Of the user with this id."""
        return next((name for name, known in self.ids.items() if known == subject), None)


@pytest.fixture(scope="session")
def people(mint: TokenMint) -> People:
    ids = {name: uuid4() for name in ("customer", "other", "admin")}
    roles = {"customer": Role.CUSTOMER, "other": Role.CUSTOMER, "admin": Role.ADMIN}
    tokens = {name: mint.token(roles[name], subject=ids[name], expires_in=3600) for name in ids}
    return People(ids, tokens | _bad_tokens(mint, ids["admin"]))


def _bad_tokens(mint: TokenMint, admin: UUID) -> dict[str, str]:
    """An administrator's, each with one thing wrong."""
    now = int(time.time())
    good = {
        "iss": "distributed-commerce",
        "aud": "commerce",
        "sub": str(admin),
        "iat": now,
        "exp": now + 3600,
        "roles": ["admin"],
    }

    def signed(key: Any = mint._key, algorithm: str | None = ALGORITHM, **claims: Any) -> str:
        kept = {name: value for name, value in (good | claims).items() if value is not None}
        return jwt.encode(kept, key, algorithm, headers={"kid": "test"})

    public = mint._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "alg none": signed(None, "none"),
        "wrong key": TokenMint().token(Role.ADMIN, subject=admin),
        "wrong audience": signed(aud="commerce-internal"),
        "wrong issuer": signed(iss="evil"),
        "expired": signed(iat=now - 7200, exp=now - 3600),
        "not yet": signed(nbf=now + 3600),
        # With the public key as the secret, as a careless verifier would take it.
        "hs256": _hs256(good, public),
        "unsigned": signed().rpartition(".")[0] + ".",
        "no expiry": signed(exp=None),
        "process": signed(roles=["service"]),
    }


def _hs256(claims: dict[str, Any], secret: bytes) -> str:
    """PyJWT refuses to make such a token."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = f"{part(json.dumps({'alg': 'HS256', 'kid': 'test'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), 'sha256'))}"


@dataclass(frozen=True)
class Door:
    """A front door, and what its services received."""

    port: int
    record: Record
    people: People


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _scripted() -> AsyncIterator[Scripted]:
    scripted = Scripted(free_port())
    async with scripted.running():
        yield scripted


@pytest.fixture
def scripted(_scripted: Scripted) -> Scripted:
    """The shipping service, which does what a test tells it to."""
    _scripted.asked.clear()
    return _scripted


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _services(mint: TokenMint) -> AsyncIterator[Services]:
    async with services(mint) as running:
        yield running


Open = Callable[..., AbstractAsyncContextManager[Door]]


@pytest.fixture(scope="session")
def _opened(
    _shop: Shop,
    _services: Services,
    _scripted: Scripted,
    people: People,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Open:
    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Door]:
        urls = _services.urls() | {"shipping_url": f"http://127.0.0.1:{_scripted.port}"}
        async with running_front_door(_shop, redis_url, tmp_path_factory.mktemp("hostile"), **urls, **settings) as front:
            await _keys_are_known(front)
            yield Door(front.port, _services.record, people)

    return opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _door(_opened: Open) -> AsyncIterator[Door]:
    async with _opened() as door:
        yield door


@pytest.fixture
def door(_door: Door) -> Door:
    """With the deadlines of production, which no case here waits for."""
    _door.record.clear()
    return _door


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _hasty(_opened: Open) -> AsyncIterator[Door]:
    async with _opened(
        request_head_timeout_s=HEAD_S,
        request_timeout_s=BODY_S,
        upstream_timeout_s=SILENCE_S,
        upstream_total_s=TOTAL_S,
        uploads_per_client=UPLOADS,
    ) as door:
        yield door


@pytest.fixture
def hasty(_hasty: Door) -> Door:
    """With short deadlines."""
    _hasty.record.clear()
    return _hasty

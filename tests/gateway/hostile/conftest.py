"""One front door for most cases, before services that write down what arrives."""
import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from contracts.identity import Role
from tests.conftest import TokenMint, eventually
from tests.gateway.conftest import Shop, running_front_door
from tests.gateway.hostile.services import Record, Services, services


@dataclass(frozen=True)
class People:
    """Whose requests are told apart."""

    ids: dict[str, UUID]
    tokens: dict[str, str]

    def fill(self, sent: bytes) -> bytes:
        for name, token in self.tokens.items():
            sent = sent.replace(b"<%b>" % name.encode(), token.encode())
        return sent


@pytest.fixture(scope="session")
def people(mint: TokenMint) -> People:
    ids = {name: uuid4() for name in ("customer", "other", "admin")}
    roles = {"customer": Role.CUSTOMER, "other": Role.CUSTOMER, "admin": Role.ADMIN}
    return People(ids, {name: mint.token(roles[name], subject=ids[name], expires_in=3600) for name in ids})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _services(mint: TokenMint) -> AsyncIterator[Services]:
    async with services(mint) as running:
        yield running


@dataclass(frozen=True)
class Door:
    port: int
    record: Record
    people: People


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _door(_shop: Shop, _services: Services, people: People, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with running_front_door(_shop, redis_url, tmp_path_factory.mktemp("hostile"), **_services.urls()) as front:
        await asyncio.sleep(2)
        yield Door(front.port, _services.record, people)

@pytest.fixture
def door(_door: Door) -> Door:
    _door.record.clear()
    return _door

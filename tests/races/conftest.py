"""One database for each service whose commands race."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Databases
from tests.races.machine import Arena, Subject

Arenas = Callable[[Subject[Any]], Awaitable[Arena]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def arena_of(databases: Databases) -> AsyncIterator[Arenas]:
    """The arena of a subject; each service has one for all its tests."""
    opened: dict[int, Arena] = {}

    async def of(subject: Subject[Any]) -> Arena:
        if id(subject) not in opened:
            opened[id(subject)] = await Arena.opened(await databases.new(subject.service), subject)
        return opened[id(subject)]

    yield of
    for arena in opened.values():
        await arena.close()


@pytest.fixture(scope="session")
def race_seeds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--race-seeds"))

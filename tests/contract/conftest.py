"""Each case runs on the model and on the real services."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conftest import Databases
from tests.contract.parties import Model, Party, RealServices, real_services


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def services(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealServices]:
    async with real_services(databases, tmp_path_factory.mktemp("contract")) as services:
        yield services


@pytest.fixture(params=["model", "services"])
def party(request: pytest.FixtureRequest) -> Party:
    """Whom the commands are sent to. Each case has orders of its own."""
    return Model() if request.param == "model" else request.getfixturevalue("services")

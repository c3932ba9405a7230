"""One platform for all journeys, with customers who are ready to order."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from rich.console import Console

from testing.stage import Stage, open_stage

BASKETS = 60


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with open_stage(tmp_path_factory.mktemp("journeys"), BASKETS, Console(quiet=True)) as stage:
        yield stage

"""One platform for all journeys, with customers who are ready to order."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from rich.console import Console

from testing.stage import Stage, open_stage
from tests.collector import Collector, collecting

BASKETS = 80


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def collector() -> AsyncIterator[Collector]:
    """Gets every span of the platform."""
    async with collecting() as collector:
        yield collector


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> AsyncIterator[Stage]:
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACE_RATIO": "1", "OTEL_BSP_SCHEDULE_DELAY": "500"}
    async with open_stage(tmp_path_factory.mktemp("journeys"), BASKETS, Console(quiet=True), traces) as stage:
        yield stage

"""Each test has a worker of its own on one server."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from contracts.orders import PlaceOrder
from testing.model import World
from testing.sagas import Saga, playing, skipping_time


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def env() -> AsyncIterator[WorkflowEnvironment]:
    async with skipping_time() as env:
        yield env


Begin = Callable[[World, PlaceOrder], AbstractAsyncContextManager[Saga]]


@pytest_asyncio.fixture
async def begin(env: WorkflowEnvironment) -> Begin:
    """`async with begin(world, order) as saga`: a worker runs inside."""
    return partial(playing, env)

"""`async with begin(world, run) as saga`: a worker runs inside, and each saga that ended is replayed."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest_asyncio
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from contracts.returns import ReturnRun
from temporal.client import data_converter
from testing.model import World
from testing.return_sagas import ReturnSaga, returning
from worker import SANDBOX, WORKFLOWS

BeginReturn = Callable[[World, ReturnRun], AbstractAsyncContextManager[ReturnSaga]]


@pytest_asyncio.fixture
async def begin(env: WorkflowEnvironment) -> BeginReturn:
    @asynccontextmanager
    async def play(world: World, run: ReturnRun) -> AsyncIterator[ReturnSaga]:
        async with returning(env, world, run) as saga:
            await saga.start()
            yield saga
            history = await saga.handle.fetch_history()
        replayer = Replayer(workflows=WORKFLOWS, data_converter=data_converter, workflow_runner=SANDBOX)
        await replayer.replay_workflow(history)

    return play

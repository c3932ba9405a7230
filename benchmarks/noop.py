"""What an order is compared with: workflows with four activities that do nothing, on the same Temporal server, with one Python
worker as the SDK's documentation has it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import Worker

TIMEOUT = timedelta(seconds=60)


@activity.defn
async def nothing() -> None:
    """A step that does nothing."""


@workflow.defn
class FourRegular:
    """Four regular activities, one after the other."""

    @workflow.run
    async def run(self) -> None:
        for _ in range(4):
            await workflow.execute_activity(nothing, start_to_close_timeout=TIMEOUT)


@workflow.defn
class FourLocal:
    """Four local activities, one after the other."""

    @workflow.run
    async def run(self) -> None:
        for _ in range(4):
            await workflow.execute_local_activity(nothing, start_to_close_timeout=TIMEOUT)


@workflow.defn
class FourLocalAnswered:
    """The same, and an update that comes with the start and is answered after the fourth."""

    def __init__(self) -> None:
        self._is_done = False

    @workflow.run
    async def run(self) -> None:
        for _ in range(4):
            await workflow.execute_local_activity(nothing, start_to_close_timeout=TIMEOUT)
        self._is_done = True
        await workflow.wait_condition(workflow.all_handlers_finished)

    @workflow.update
    async def place(self) -> str:
        await workflow.wait_condition(lambda: self._is_done)
        return "done"


@dataclass(frozen=True)
class NoOps:
    """No-op workflows on a task queue of their own, whose worker runs in this process."""

    client: Client
    queue: str

    async def run(self, kind: type[FourRegular] | type[FourLocal], count: int, at_once: int) -> float:
        """Complete that many workflows; the seconds it took."""
        gate = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with gate:
                await self.client.execute_workflow(kind.run, id=str(uuid4()), task_queue=self.queue)

        began = time.monotonic()
        await asyncio.gather(*[one() for _ in range(count)])
        return time.monotonic() - began

    async def update_with_start_ms(self, count: int) -> list[float]:
        """How long each took to be answered, one after the other."""
        took: list[float] = []
        for _ in range(count):
            began = time.monotonic()
            start: WithStartWorkflowOperation[FourLocalAnswered, None] = WithStartWorkflowOperation(
                FourLocalAnswered.run,
                id=str(uuid4()),
                task_queue=self.queue,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            )
            await self.client.execute_update_with_start_workflow(FourLocalAnswered.place, start_workflow_operation=start)
            took.append((time.monotonic() - began) * 1000)
        return took


@asynccontextmanager
async def no_ops(client: Client) -> AsyncIterator[NoOps]:
    """With a worker for them while the block runs."""
    queue = f"bench-{uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[FourRegular, FourLocal, FourLocalAnswered], activities=[nothing]):
        yield NoOps(client, queue)

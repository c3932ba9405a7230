"""Ceilings: how many workflows with four no-op activities the same Temporal server and one Python worker can do."""

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker


@activity.defn
async def nothing() -> None:
    """A step that does nothing."""


@workflow.defn
class FourRegular:
    """Four regular activities, one after the other."""

    @workflow.run
    async def run(self) -> None:
        for _ in range(4):
            await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=10))


@workflow.defn
class FourLocal:
    """Four local activities, one after the other."""

    @workflow.run
    async def run(self) -> None:
        for _ in range(4):
            await workflow.execute_local_activity(nothing, start_to_close_timeout=timedelta(seconds=10))


async def workflows_per_second(
    client: Client, kind: type[FourRegular] | type[FourLocal], *, count: int, concurrency: int
) -> float:
    """Completed workflows per second, `concurrency` at a time, after a warm-up."""
    queue = f"bench-{uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[FourRegular, FourLocal], activities=[nothing]):
        await _run(client, kind, queue, concurrency * 2, concurrency)
        began = time.monotonic()
        await _run(client, kind, queue, count, concurrency)
        return count / (time.monotonic() - began)


async def _run(client: Client, kind: type[FourRegular] | type[FourLocal], queue: str, count: int, concurrency: int) -> None:
    gate = asyncio.Semaphore(concurrency)

    async def one() -> None:
        async with gate:
            await client.execute_workflow(kind.run, id=str(uuid4()), task_queue=queue)

    await asyncio.gather(*[one() for _ in range(count)])

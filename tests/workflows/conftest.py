"""A real Temporal server whose clock skips ahead, and a worker with the real activities on a scripted world."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest_asyncio
from temporalio.client import WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from contracts.ids import order_workflow_id
from contracts.orders import OrderState, Outcome, PlaceOrder
from embedded import temporal as embedded_temporal
from temporal.client import data_converter
from temporal.names import ORDER_WORKFLOW, SEARCH_ATTRIBUTES
from temporal.refusals import RefusalInterceptor
from tests.workflows.world import World
from worker import SANDBOX, WORKFLOWS


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def env() -> AsyncIterator[WorkflowEnvironment]:
    """Temporal's dev server with skipped time: a day's deadline passes in a moment."""
    flags = ["frontend.WorkflowTimeSkippingEnabled=true", 'history.timerProcessorMaxTimeShift="10ms"']
    async with await WorkflowEnvironment.start_time_skipping_v2(
        dev_server_existing_path=embedded_temporal.binary(),
        dev_server_log_level="error",
        dev_server_extra_args=[part for flag in flags for part in ("--dynamic-config-value", flag)],
        search_attributes=SEARCH_ATTRIBUTES,
        data_converter=data_converter,
    ) as env:
        yield env


class Saga:
    """One order's saga under test."""

    def __init__(self, env: WorkflowEnvironment, queue: str, order: PlaceOrder) -> None:
        self.env, self.queue, self.order = env, queue, order
        self.handle: WorkflowHandle[Any, OrderState] = env.client.get_workflow_handle(
            order_workflow_id(order.order_id), result_type=OrderState
        )

    async def place(self) -> Outcome:
        """Start it, or join it, and wait for the outcome."""
        start: WithStartWorkflowOperation[Any, OrderState] = WithStartWorkflowOperation(
            ORDER_WORKFLOW,
            self.order,
            id=self.handle.id,
            task_queue=self.queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )
        outcome = await self.env.client.execute_update_with_start_workflow(
            "place", start_workflow_operation=start, id="place-1", result_type=Outcome, rpc_timeout=timedelta(seconds=60)
        )
        return Outcome.model_validate(outcome)

    async def start(self) -> None:
        """Start it and do not wait."""
        await self.env.client.start_workflow(ORDER_WORKFLOW, self.order, id=self.handle.id, task_queue=self.queue)

    async def deliver(self) -> OrderState:
        """The carrier's reports; the saga's end."""
        await self.handle.signal("shipment_updated", {"status": "DISPATCHED"})
        await self.handle.signal("shipment_updated", {"status": "DELIVERED"})
        return await self.handle.result()


Begin = Callable[[World, PlaceOrder], AbstractAsyncContextManager[Saga]]


@pytest_asyncio.fixture
async def begin(env: WorkflowEnvironment) -> Begin:
    """`async with begin(world, order) as saga`: a worker runs inside."""

    @asynccontextmanager
    async def beginning(world: World, order: PlaceOrder) -> AsyncIterator[Saga]:
        queue = f"orders-{uuid4()}"
        async with Worker(
            env.client,
            task_queue=queue,
            workflows=WORKFLOWS,
            activities=world.activities(),
            interceptors=[RefusalInterceptor()],
            workflow_runner=SANDBOX,
            max_cached_workflows=10,
        ):
            yield Saga(env, queue, order)

    return beginning

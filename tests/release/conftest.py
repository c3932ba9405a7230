"""A Temporal server with workers of several builds, and the `commerce` command before it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig
from typer.testing import Result

from activities import all_activities
from contracts.orders import OrderState
from embedded import temporal as embedded_temporal
from temporal.client import TemporalSettings, connect
from temporal.names import ORDER_QUEUE
from temporal.refusals import RefusalInterceptor
from temporal.versions import tree_build_id
from testing.model import World
from testing.sagas import Saga, place_order
from tests.cli.conftest import Command, commerce
from tests.conftest import eventually
from workflows.order import OrderWorkflow

__all__ = ["commerce"]

OLD = "0.9.0"
NEW = tree_build_id()
"""The build of this tree, which can tell whether it can go on with an order."""


@dataclass(frozen=True)
class Releases:
    """The builds of the orders' worker on one server."""

    client: Client
    address: str
    world: World
    commerce: Command

    @asynccontextmanager
    async def worker(self, build_id: str, saga: type[OrderWorkflow] = OrderWorkflow) -> AsyncIterator[None]:
        """One of a build runs inside; Temporal knows it."""

        async def is_known() -> bool:
            return bool((await self.status()).get(build_id, {}).get("workers"))

        deployment = WorkerDeploymentConfig(
            version=WorkerDeploymentVersion("orders", build_id),
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.PINNED,
        )
        async with self._worker(saga, identity=f"worker-{build_id}", deployment_config=deployment):
            await eventually(is_known, what=f"a worker of build {build_id}")
            yield

    def worker_without_a_build(self) -> Worker:
        """As there were before."""
        return self._worker(OrderWorkflow)

    def _worker(self, saga: type[OrderWorkflow], **options: Any) -> Worker:
        return Worker(
            self.client,
            task_queue=ORDER_QUEUE,
            workflows=[saga],
            activities=all_activities(lambda service: self.world),
            interceptors=[RefusalInterceptor()],
            workflow_runner=UnsandboxedWorkflowRunner(),
            **options,
        )

    async def run(self, *words: object) -> Result:
        """`commerce release …`."""
        return await self.commerce({"TEMPORAL_ADDRESS": self.address, "COLUMNS": "200"}, "release", *words)

    async def done(self, *words: object) -> str:
        """What it says when it succeeds."""
        result = await self.run(*words)
        assert result.exit_code == 0, result.output
        return result.output

    async def promote(self, build_id: str) -> str:
        return await self.done("promote", build_id, "--wait")

    async def status(self, *words: object) -> dict[str, dict[str, Any]]:
        """Of each build, as JSON."""
        found = json.loads((await self.run("status", "--json", *words)).stdout)
        return {build["build"]: build for build in found["builds"]}

    async def counts(self, build_id: str | None, orders: int) -> dict[str, Any]:
        """The status of a build, once Temporal lists so many orders of it."""
        found: dict[str, dict[str, Any]] = {}

        async def listed() -> bool:
            found.update(await self.status())
            return build_id in found and found[build_id]["in_flight"] == orders

        await eventually(listed, what=f"{orders} in flight of build {build_id}")
        return found[build_id]  # type: ignore[index]

    async def held(self) -> Saga:
        """A new order that waits for an operator."""
        return await self.placed(needs_review=True)

    async def placed(self, *, needs_review: bool = False) -> Saga:
        order = place_order(needs_review=needs_review)
        self.world.orders.accept(order)
        saga = Saga(WorkflowEnvironment.from_client(self.client), ORDER_QUEUE, order)
        await saga.place()
        return saga


async def build_of(saga: Saga) -> str:
    """The build whose code did the order's latest task."""
    described = await saga.handle.describe()
    return described.raw_description.workflow_execution_info.versioning_info.deployment_version.build_id


async def approve(saga: Saga) -> OrderState:
    return await saga.update("approve", {"by": "ann", "reason": "a known customer"})


@pytest.fixture
async def releases(tmp_path: Path, commerce: Command) -> AsyncIterator[Releases]:
    async with embedded_temporal.running(tmp_path / "temporal") as server:
        client = await connect(TemporalSettings(temporal_address=server.address))
        yield Releases(client, server.address, World(), commerce)

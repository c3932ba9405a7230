"""The builds of the orders' workers as Temporal knows them, and the orders in flight on each.

Everything here asks or tells the server; `temporal worker deployment …` and the Web UI show the same.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID, uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.deployment.v1 import WorkerDeploymentInfo, WorkerDeploymentVersion
from temporalio.api.enums.v1 import TaskQueueType, WorkerDeploymentVersionStatus
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PostResetOperation, VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    DeleteWorkerDeploymentVersionRequest,
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
    ResetWorkflowExecutionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.client import Client, RPCError, WorkflowExecutionDescription, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.service import RPCStatusCode

from chassis.clients import Unavailable
from contracts.ids import order_id_of, order_workflow_id
from contracts.orders import OrderStatus
from contracts.parcels import Trouble
from temporal.names import ORDER_QUEUE, ORDER_STATUS, ORDER_WORKFLOW, PARCEL_TROUBLE, RETURN_WORKFLOW, STUCK_UNDO

RPC = timedelta(seconds=20)
"""A server that carries a change to all partitions of a queue takes seconds for it when it is busy."""
POLLS = timedelta(seconds=70)
"""A worker that has not asked for work for so long is gone: a poll waits for a minute at most."""
RUNNING = f"WorkflowType = '{ORDER_WORKFLOW}' AND ExecutionStatus = 'Running'"
RETURNING = f"WorkflowType = '{RETURN_WORKFLOW}' AND ExecutionStatus = 'Running'"
Response = TypeVar("Response")


class ReleaseError(Exception):
    """Temporal does not do what was asked; the message says why."""


class UnknownBuild(ReleaseError):
    """No worker of that build has ever asked for work."""


class Standing(StrEnum):
    """What a build gets."""

    CURRENT = "current"
    """All new orders, but for those that go to a ramping one."""
    RAMPING = "ramping"
    """A share of the new orders."""
    DRAINING = "draining"
    """No new orders; some of its own may be in flight."""
    DRAINED = "drained"
    """No orders, and none in flight."""
    INACTIVE = "inactive"
    """Nothing: it has never been current or ramping."""


_STANDINGS = {
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: Standing.CURRENT,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: Standing.RAMPING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: Standing.DRAINING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: Standing.DRAINED,
}


@dataclass(frozen=True, slots=True)
class Build:
    """One build."""

    build_id: str
    standing: Standing
    percent: float | None
    """Of the new orders, if it is ramping."""
    created: datetime
    last_current: datetime | None
    """When it last became the current one."""
    pollers: int
    """Workers that ask for work."""


@dataclass(frozen=True, slots=True)
class Builds:
    """All builds of the deployment, the newest first."""

    builds: tuple[Build, ...] = ()

    def __getitem__(self, build_id: str) -> Build:
        """UnknownBuild, if there is none of that name."""
        for build in self.builds:
            if build.build_id == build_id:
                return build
        known = ", ".join(build.build_id for build in self.builds) or "none yet"
        raise UnknownBuild(f"No build {build_id} is known to Temporal: has a worker of it been started? Known: {known}")

    def __contains__(self, build_id: object) -> bool:
        return any(build.build_id == build_id for build in self.builds)

    @property
    def current(self) -> Build | None:
        return next((build for build in self.builds if build.standing == Standing.CURRENT), None)

    @property
    def ramping(self) -> Build | None:
        return next((build for build in self.builds if build.standing == Standing.RAMPING), None)

    @property
    def previous(self) -> Build | None:
        """The one that was current before the current one."""
        was_current = [build for build in self.builds if build.last_current and build.standing != Standing.CURRENT]
        return max(was_current, key=lambda build: build.last_current or build.created, default=None)


@dataclass(frozen=True, slots=True)
class InFlight:
    """The orders in flight of one build. The figures are counted one after the other, while orders go on."""

    total: int
    by_status: Mapping[OrderStatus, int]
    in_trouble: Mapping[Trouble, int]
    """By what is wrong with a parcel."""
    stuck: int
    """Those with an undo that does not succeed."""
    returns: int = 0
    """Returns in flight, which are not among the orders."""


@dataclass(frozen=True, slots=True)
class FlyingOrder:
    """One order in flight."""

    order_id: UUID
    status: str
    stuck_undo: str | None
    parcel_trouble: str | None
    started: datetime


class Deployment:
    """The Worker Deployment of the orders. Every method may raise Unavailable; those that change something, ReleaseError."""

    def __init__(self, client: Client, name: str = "orders") -> None:
        self._client, self.name = client, name

    @property
    def data_converter(self) -> DataConverter:
        """With which the histories can be read."""
        return self._client.data_converter

    # ── Builds ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def builds(self) -> Builds:
        """What there is now."""
        request = DescribeWorkerDeploymentRequest(namespace=self._client.namespace, deployment_name=self.name)
        try:
            described, pollers = await asyncio.gather(
                self._client.workflow_service.describe_worker_deployment(request, timeout=RPC), self._pollers()
            )
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return Builds()
            raise _fault(error) from error
        except RuntimeError as error:
            raise _fault(error) from error
        info = described.worker_deployment_info
        found = [_build(summary, info, pollers) for summary in info.version_summaries]
        return Builds(tuple(sorted(found, key=lambda build: build.created, reverse=True)))

    async def set_current(self, build_id: str) -> str | None:
        """Send new orders to this build; the one that was current before, if any. It ends a ramp of the same build."""
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=self._client.namespace, deployment_name=self.name, build_id=build_id
        )
        done = await self._change(
            self._client.workflow_service.set_worker_deployment_current_version(request, timeout=RPC), build_id
        )
        return done.previous_deployment_version.build_id or None

    async def set_ramp(self, build_id: str, percent: float) -> None:
        """Send this share of the new orders to this build, the rest to the current one."""
        request = SetWorkerDeploymentRampingVersionRequest(
            namespace=self._client.namespace, deployment_name=self.name, build_id=build_id, percentage=percent
        )
        await self._change(self._client.workflow_service.set_worker_deployment_ramping_version(request, timeout=RPC), build_id)

    async def unset_ramp(self) -> None:
        """Send all new orders to the current build."""
        request = SetWorkerDeploymentRampingVersionRequest(namespace=self._client.namespace, deployment_name=self.name)
        await self._change(self._client.workflow_service.set_worker_deployment_ramping_version(request, timeout=RPC), "")

    async def delete(self, build_id: str) -> None:
        """Forget a build of which no order is in flight: whoever asks has counted them.

        ReleaseError: it is current or ramping, or workers of it asked for work a short time ago."""
        request = DeleteWorkerDeploymentVersionRequest(
            namespace=self._client.namespace, deployment_version=self._version(build_id), skip_drainage=True
        )
        await self._change(self._client.workflow_service.delete_worker_deployment_version(request, timeout=RPC), build_id)

    # ── Orders in flight ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def in_flight(self, build_id: str | None) -> int:
        """How many orders of a build are in flight; with None, of workers without a build."""
        return await self._count(self._of(build_id))

    async def in_flight_by_state(self, build_id: str | None) -> InFlight:
        """The same, by where they are and what is wrong."""
        of = self._of(build_id)
        statuses = [f"{of} AND {ORDER_STATUS.name} = '{status}'" for status in OrderStatus]
        troubles = [f"{of} AND {PARCEL_TROUBLE.name} = '{trouble}'" for trouble in Trouble]
        with_stuck, returning = f"{of} AND {STUCK_UNDO.name} IS NOT NULL", self._of(build_id, RETURNING)
        total, stuck, returns, *counts = await asyncio.gather(
            *(self._count(query) for query in (of, with_stuck, returning, *statuses, *troubles))
        )
        return InFlight(
            total,
            {status: count for status, count in zip(OrderStatus, counts, strict=False) if count},
            {trouble: count for trouble, count in zip(Trouble, counts[len(statuses) :], strict=True) if count},
            stuck,
            returns,
        )

    async def orders(self, build_id: str | None, limit: int) -> list[FlyingOrder]:
        """At most so many orders in flight of a build."""
        return [order async for order in self.each_order(build_id, limit)]

    async def each_order(self, build_id: str | None, limit: int | None = None, where: str = "") -> AsyncIterator[FlyingOrder]:
        """Orders in flight of a build, one page after another. `where`: a visibility query that they fulfil, too."""
        query = f"{self._of(build_id)} AND {where}" if where else self._of(build_id)
        try:
            async for found in self._client.list_workflows(query, limit=limit, rpc_timeout=RPC):
                if (order_id := order_id_of(found.id)) is None:
                    continue  # somebody's experiment
                yield FlyingOrder(
                    order_id,
                    found.typed_search_attributes.get(ORDER_STATUS) or "",
                    found.typed_search_attributes.get(STUCK_UNDO),
                    found.typed_search_attributes.get(PARCEL_TROUBLE),
                    found.start_time,
                )
        except (RPCError, RuntimeError) as error:
            raise _fault(error) from error

    async def order(self, order_id: UUID) -> WorkflowExecutionDescription:
        """The order's workflow as it stands. ReleaseError: there is none."""
        try:
            return await self._client.get_workflow_handle(order_workflow_id(order_id)).describe(rpc_timeout=RPC)
        except (RPCError, RuntimeError) as error:
            raise _no_saga(order_id, error) from error

    async def history(self, order_id: UUID, run_id: str | None = None) -> WorkflowHistory:
        """All that the order's workflow did. ReleaseError: there is none."""
        try:
            return await self._client.get_workflow_handle(order_workflow_id(order_id), run_id=run_id).fetch_history(
                rpc_timeout=RPC
            )
        except (RPCError, RuntimeError) as error:
            raise _no_saga(order_id, error) from error

    async def move(self, order_id: UUID, build_id: str | None) -> None:
        """Have an order go on with another build from its next task on; with None, with whichever build is the current one, now
        and later. ReleaseError: no saga of it runs, or no worker of the build does."""
        request = UpdateWorkflowExecutionOptionsRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=order_workflow_id(order_id)),
            workflow_execution_options=WorkflowExecutionOptions(versioning_override=self._override(build_id)),
            update_mask=FieldMask(paths=["versioning_override"]),
        )
        try:
            await self._client.workflow_service.update_workflow_execution_options(request, timeout=RPC)
        except (RPCError, RuntimeError) as error:
            raise _no_saga(order_id, error) from error

    async def reset(self, order_id: UUID, run_id: str, event_id: int, reason: str, build_id: str | None = None) -> str:
        """Go back in one run of an order to the end of one of its workflow tasks, and on from there in a new run, whose id is
        returned; with `build_id`, on that build. Signals and updates that came later are delivered again. ReleaseError."""
        operations = []
        if build_id is not None:
            options = WorkflowExecutionOptions(versioning_override=self._override(build_id))
            mask = FieldMask(paths=["versioning_override"])
            update = PostResetOperation.UpdateWorkflowOptions(workflow_execution_options=options, update_mask=mask)
            operations.append(PostResetOperation(update_workflow_options=update))
        request = ResetWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=order_workflow_id(order_id), run_id=run_id),
            reason=reason,
            workflow_task_finish_event_id=event_id,
            request_id=str(uuid4()),
            post_reset_operations=operations,
        )
        try:
            done = await self._client.workflow_service.reset_workflow_execution(request, timeout=RPC)
        except (RPCError, RuntimeError) as error:
            raise _no_saga(order_id, error) from error
        return done.run_id

    # ── Inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _version(self, build_id: str) -> WorkerDeploymentVersion:
        return WorkerDeploymentVersion(deployment_name=self.name, build_id=build_id)

    def _override(self, build_id: str | None) -> VersioningOverride:
        if build_id is None:
            return VersioningOverride(auto_upgrade=True)
        pinned = VersioningOverride.PinnedOverride
        return VersioningOverride(
            pinned=pinned(
                behavior=VersioningOverride.PinnedOverrideBehavior.PINNED_OVERRIDE_BEHAVIOR_PINNED,
                version=self._version(build_id),
            )
        )

    def _of(self, build_id: str | None, running: str = RUNNING) -> str:
        version = "IS NULL" if build_id is None else f"= '{self.name}:{build_id}'"
        return f"{running} AND TemporalWorkerDeploymentVersion {version}"

    async def _pollers(self) -> dict[str, int]:
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=ORDER_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        described = await self._client.workflow_service.describe_task_queue(request, timeout=RPC)
        since = datetime.now(UTC) - POLLS
        seen = {
            (poller.deployment_options.build_id, poller.identity)
            for poller in described.pollers
            if poller.deployment_options.deployment_name == self.name and poller.last_access_time.ToDatetime(UTC) > since
        }
        found: dict[str, int] = {}
        for build_id, _ in seen:
            found[build_id] = found.get(build_id, 0) + 1
        return found

    async def _count(self, query: str) -> int:
        try:
            return (await self._client.count_workflows(query, rpc_timeout=RPC)).count
        except (RPCError, RuntimeError) as error:
            raise _fault(error) from error

    async def _change(self, call: Awaitable[Response], build_id: str) -> Response:
        try:
            return await call
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise UnknownBuild(f"No worker of build {build_id} has asked for work yet ({error.message})") from error
            if error.status in (RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.INVALID_ARGUMENT):
                raise ReleaseError(f"Temporal refuses: {error.message}") from error
            raise _fault(error) from error
        except RuntimeError as error:
            raise _fault(error) from error


def build_of(described: WorkflowExecutionDescription) -> str | None:
    """The build that goes on with an order: what an operator has said counts more than where it began. None: none yet."""
    info = described.raw_description.workflow_execution_info.versioning_info
    return info.versioning_override.pinned.version.build_id or info.deployment_version.build_id or None


def _build(
    summary: WorkerDeploymentInfo.WorkerDeploymentVersionSummary, info: WorkerDeploymentInfo, pollers: Mapping[str, int]
) -> Build:
    build_id = summary.deployment_version.build_id
    standing = _STANDINGS.get(summary.status, Standing.INACTIVE)
    percent = info.routing_config.ramping_version_percentage if standing == Standing.RAMPING else None
    created, current = summary.create_time.ToDatetime(UTC), _time(summary.last_current_time)
    return Build(build_id, standing, percent, created, current, pollers.get(build_id, 0))


def _time(stamp: Timestamp) -> datetime | None:
    return stamp.ToDatetime(UTC) if stamp.seconds else None


def _no_saga(order_id: UUID, error: Exception) -> Exception:
    if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND:
        return ReleaseError(f"No saga of order {order_id} runs ({error.message})")
    if isinstance(error, RPCError) and error.status in (RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.INVALID_ARGUMENT):
        return ReleaseError(f"Temporal refuses this for order {order_id}: {error.message}")
    return _fault(error)


def _fault(error: Exception) -> Unavailable:
    """A lazy client that cannot connect raises RuntimeError."""
    words: Any = f"{error.status.name} {error.message}" if isinstance(error, RPCError) else error
    return Unavailable(f"Temporal: {words}")

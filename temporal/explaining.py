"""All that Temporal knows of one saga: what the saga says itself, what it is trying, and who should work on it.

Each question has a short time limit of its own, and a missing answer is a fact like another: a saga cannot be asked while no
worker is up, but what is pending, since when, and who asks for work is still known.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo, PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import (
    Client,
    RPCError,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.common import SearchAttributeKey
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCStatusCode
from typing_extensions import TypeVar

from chassis.clients import Unavailable
from contracts.ids import order_workflow_id, return_workflow_id
from contracts.orders import OrderState
from contracts.returns import ReturnState
from temporal.deployments import POLLS, build_of
from temporal.keys import KeyDestroyed
from temporal.refusals import words_of

PATIENCE = timedelta(seconds=2)
"""For each answer."""
EVENTS = 500
"""So much of a history is looked at."""
PROBLEMS = SearchAttributeKey.for_keyword_list("TemporalReportedProblems")
"""Set by the server when a saga's tasks fail again and again."""
State = TypeVar("State", default=OrderState)
"""What a saga tells of itself."""
UNREADABLE = (KeyDestroyed, Unavailable)
"""What is raised for a payload whose key is not at hand."""


@dataclass(frozen=True, slots=True)
class PendingStep:
    """A step that runs as a durable activity, and has not succeeded yet."""

    step: str
    """Its name, for the `temporal` and `commerce` command lines: `refund-payment`."""
    activity: str
    """Which command: `RefundPayment`."""
    since: datetime
    """When it was tried first; if that cannot be told, when it was tried last."""
    attempt: int
    """The one that runs, or comes next."""
    runs: bool
    """Whether a worker is trying it at this moment."""
    paused: bool
    """Whether somebody has paused it, with Temporal's own command line or Web UI."""
    last_error: str | None
    last_worker: str | None
    next_try: datetime | None
    """None while it runs, or waits for a worker."""
    until: datetime | None
    """When it is given up; None: never."""


@dataclass(frozen=True, slots=True)
class PendingTask:
    """The saga's next move, which no worker has made yet."""

    since: datetime
    attempt: int
    """More than 1: a worker has tried, and could not."""
    runs: bool
    """Whether a worker has taken it."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker that asks for work. One that is gone is listed for a minute more."""

    identity: str
    asked_at: datetime
    """When it asked last; while it waits for work it asks once a minute."""


@dataclass(frozen=True, slots=True)
class SagaSeen(Generic[State]):
    """The saga of an order, or of a return. Without any of it, Temporal knows no such saga: it was never started, or its history
    is gone."""

    exists: bool = False
    runs: bool = False
    ended_as: str | None = None
    """How its workflow ended: `completed`, `terminated`, …"""
    ended_at: datetime | None = None
    build: str | None = None
    """The build of the worker that it is pinned to; None: to none yet."""
    workers: tuple[WorkerSeen, ...] | None = None
    """Who asks for its work: workers of its build, or of any while it has none. None: that cannot be told."""
    steps: tuple[PendingStep, ...] = ()
    task: PendingTask | None = None
    problems: tuple[str, ...] = ()
    """Why its tasks fail, as the server puts it."""
    state: State | None = None
    """What it says of itself; None if it has ended, or does not answer."""
    silence: str | None = None
    """Why it does not answer."""


async def saga_seen(client: Client, order_id: UUID) -> SagaSeen[OrderState]:
    """What is known now of an order's. Fault: Unavailable, if Temporal itself does not answer."""
    return await _seen(client, order_workflow_id(order_id), OrderState)


async def return_seen(client: Client, order_id: UUID, number: int) -> SagaSeen[ReturnState]:
    """The same of one of its returns."""
    return await _seen(client, return_workflow_id(order_id, number), ReturnState)


async def _seen(client: Client, workflow_id: str, kind: type[State]) -> SagaSeen[State]:
    try:
        described = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=PATIENCE)
    except (RPCError, RuntimeError) as error:
        if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND:
            return SagaSeen()
        raise Unavailable(f"Temporal: {_words(error)}") from error
    build = build_of(described)
    if described.status != WorkflowExecutionStatus.RUNNING:
        ended_as = described.status.name.lower() if described.status else None
        return SagaSeen(exists=True, ended_as=ended_as, ended_at=described.close_time, build=build)
    raw = described.raw_description
    (state, silence), workers, steps = await asyncio.gather(
        _state(client, workflow_id, kind),
        _workers(client, described.task_queue, build),
        pending_steps(client, described),
    )
    return SagaSeen(
        exists=True,
        runs=True,
        build=build,
        workers=workers,
        steps=steps,
        task=_task(raw.pending_workflow_task) if raw.HasField("pending_workflow_task") else None,
        problems=tuple(described.typed_search_attributes.get(PROBLEMS) or ()),
        state=state,
        silence=silence,
    )


async def pending_steps(client: Client, described: WorkflowExecutionDescription) -> tuple[PendingStep, ...]:
    """The steps that a saga is trying, the oldest first."""
    pending = described.raw_description.pending_activities
    began = await _began(client, described) if pending else {}
    steps = [_step(step, began.get(step.activity_id), await _last_error(client, described.id, step)) for step in pending]
    return tuple(sorted(steps, key=lambda step: step.since))


async def _state(client: Client, workflow_id: str, kind: type[State]) -> tuple[State | None, str | None]:
    handle = client.get_workflow_handle(workflow_id)
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await handle.query("status", result_type=kind, rpc_timeout=PATIENCE), None
    except TimeoutError:
        return None, "no worker answered in time"
    except (RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError, *UNREADABLE, ValueError) as error:
        return None, _words(error)


async def _workers(client: Client, task_queue: str, build: str | None) -> tuple[WorkerSeen, ...] | None:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    try:
        described = await client.workflow_service.describe_task_queue(request, timeout=PATIENCE)
    except RPCError:
        return None
    asked: dict[str, datetime] = {}
    for poller in described.pollers:
        if build in (None, poller.deployment_options.build_id):
            at = poller.last_access_time.ToDatetime(UTC)
            asked[poller.identity] = max(at, asked.get(poller.identity, at))
    since = datetime.now(UTC) - POLLS
    return tuple(WorkerSeen(identity, at) for identity, at in sorted(asked.items()) if at > since)


async def _began(client: Client, described: WorkflowExecutionDescription) -> dict[str, datetime]:
    """When steps were scheduled, by their names: what is pending tells of its last try only. Of a very long history, its end."""
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=described.id, run_id=described.run_id),
        maximum_page_size=EVENTS,
    )
    try:
        found = await client.workflow_service.get_workflow_execution_history_reverse(request, timeout=PATIENCE)
    except RPCError:
        return {}
    began: dict[str, datetime] = {}
    for event in found.history.events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            name = event.activity_task_scheduled_event_attributes.activity_id
            began.setdefault(name, event.event_time.ToDatetime(UTC))
    return began


async def _last_error(client: Client, workflow_id: str, step: PendingActivityInfo) -> str | None:
    """In clear, if it can be read."""
    if not step.HasField("last_failure"):
        return None
    context = WorkflowSerializationContext(namespace=client.namespace, workflow_id=workflow_id)
    try:
        return words_of(await client.data_converter.with_context(context).decode_failure(step.last_failure))
    except UNREADABLE as error:
        return f"(cannot be read: {_words(error)})"


def _step(step: PendingActivityInfo, began: datetime | None, last_error: str | None) -> PendingStep:
    states = PendingActivityState
    return PendingStep(
        step=step.activity_id,
        activity=step.activity_type.name,
        since=began or step.scheduled_time.ToDatetime(UTC),
        attempt=step.attempt,
        runs=step.state in (states.PENDING_ACTIVITY_STATE_STARTED, states.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED),
        paused=step.paused,
        last_error=last_error,
        last_worker=step.last_worker_identity or None,
        next_try=_time(step, "next_attempt_schedule_time"),
        until=_time(step, "expiration_time"),
    )


def _task(task: PendingWorkflowTaskInfo) -> PendingTask:
    since = task.original_scheduled_time if task.HasField("original_scheduled_time") else task.scheduled_time
    runs = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED
    return PendingTask(since.ToDatetime(UTC), task.attempt, runs)


def _time(step: PendingActivityInfo, field: str) -> datetime | None:
    stamp: Timestamp = getattr(step, field)
    return stamp.ToDatetime(UTC) if step.HasField(field) and stamp.seconds else None  # type: ignore[arg-type]


def _words(error: BaseException) -> str:
    return f"{error.status.name} {error.message}" if isinstance(error, RPCError) else str(error)

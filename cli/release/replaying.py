"""Histories replayed with this tree's saga, and what it asks for while it replays them.

Temporal compares which commands a replay gives, not what is in them: another amount, key or waiting time passes. So what is in
them is kept here, to be compared with what the history holds (cli/release/contents.py).
"""

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import (
    Replayer,
    UnsandboxedWorkflowRunner,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowRunner,
)

from temporal.client import data_converter
from worker import WORKFLOWS

Json = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """What the saga asked Temporal for. Texts for people (summaries, details) are left out."""

    kind: str
    """`activity`, `local activity`, `timer`, `attributes`, `update`, `result`, `next run`, …"""
    name: str
    """Of the activity, the update or the workflow."""
    content: Json


@dataclass(frozen=True)
class Replayed:
    """One history as this tree's saga went through it."""

    history: WorkflowHistory
    failure: str | None
    """Why this tree cannot go on with the order; None if it can."""
    commands: tuple[Command, ...]


async def replay(
    histories: AsyncIterable[WorkflowHistory], *, converter: DataConverter = data_converter, runner: WorkflowRunner | None = None
) -> AsyncIterator[Replayed]:
    """Replay one after another; memory holds one at a time.

    Without a `runner` the sandbox is left out, which is three times as fast; the tests replay within it."""
    listening = _Listening(runner or UnsandboxedWorkflowRunner())
    replayer = Replayer(workflows=WORKFLOWS, data_converter=converter, workflow_runner=listening)

    async def asked() -> AsyncIterator[WorkflowHistory]:
        async for history in histories:
            listening.begin()
            yield history

    async with replayer.workflow_replay_iterator(asked()) as results:
        async for result in results:
            failed = result.replay_failure
            failure = None if failed is None else listening.failure or _short(str(failed))
            yield Replayed(result.history, failure, tuple(listening.commands))


class _Listening(WorkflowRunner):
    """Runs workflows as another runner does, and keeps what they ask for."""

    def __init__(self, runner: WorkflowRunner) -> None:
        self._runner = runner
        self.begin()

    def begin(self) -> None:
        """Another history follows."""
        self.commands: list[Command] = []
        self.failure: str | None = None

    def prepare_workflow(self, defn: "workflow._Definition") -> None:
        self._runner.prepare_workflow(defn)

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        self._runner.set_worker_level_failure_exception_types(types)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _heard(self._runner.create_instance(det), self._completed)

    def _completed(self, completion: WorkflowActivationCompletion) -> None:
        if completion.HasField("failed"):
            self.failure = self.failure or _words_of(completion.failed.failure)
        for command in completion.successful.commands:
            self.commands += commands_of(command)


def _heard(instance: WorkflowInstance, completed: Callable[[WorkflowActivationCompletion], None]) -> WorkflowInstance:
    """The same instance; `completed` is told of each of its activations."""
    activate = instance.activate

    def heard(act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = activate(act)
        completed(completion)
        return completion

    instance.activate = heard  # type: ignore[method-assign]
    return instance


def commands_of(command: WorkflowCommand) -> Iterator[Command]:
    """What one command of a workflow asks for; nothing, for one without content."""
    match command.WhichOneof("variant"):
        case "schedule_activity":
            activity = command.schedule_activity
            content = {"id": activity.activity_id, "queue": activity.task_queue, "argument": values(activity.arguments)}
            yield Command("activity", activity.activity_type, content)
        case "schedule_local_activity":
            local = command.schedule_local_activity
            yield Command("local activity", local.activity_type, {"argument": values(local.arguments)})
        case "start_timer":
            yield Command("timer", "", {"seconds": seconds(command.start_timer.start_to_fire_timeout)})
        case "upsert_workflow_search_attributes":
            fields = command.upsert_workflow_search_attributes.search_attributes.indexed_fields
            yield Command("attributes", "", {name: value_of(value) for name, value in sorted(fields.items())})
        case "update_response" if command.update_response.HasField("completed"):
            yield Command("update", "", {"result": values([command.update_response.completed])})
        case "complete_workflow_execution":
            yield Command("result", "", {"result": values([command.complete_workflow_execution.result])})
        case "continue_as_new_workflow_execution":
            run = command.continue_as_new_workflow_execution
            yield Command("next run", run.workflow_type, {"queue": run.task_queue, "argument": values(run.arguments)})


def values(payloads: Any) -> list[Any]:
    """What is in these payloads, as JSON has it."""
    return [value_of(payload) for payload in payloads]


def value_of(payload: Payload) -> Any:
    """What is in this payload, which must not be encrypted any more."""
    return json.loads(payload.data) if payload.data else None


def seconds(duration: Message) -> float:
    assert isinstance(duration, Duration)
    return duration.ToTimedelta().total_seconds()


def _words_of(failure: Failure) -> str:
    causes = [failure.message]
    while failure.HasField("cause"):
        failure = failure.cause
        causes.append(failure.message)
    return _short(": ".join(causes))


def _short(text: str) -> str:
    """On one line, and not longer than somebody reads."""
    return " ".join(text.split())[:500]

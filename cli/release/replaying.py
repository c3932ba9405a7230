"""Histories replayed with this tree's saga, and what it asks for while it replays them.

Temporal compares which commands a replay gives, not what is in them: another amount, key or waiting time passes. So what is in
them is kept here, to be compared with what the history holds (cli/release/contents.py).
"""

import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from temporalio import workflow
from temporalio.api.common.v1 import Payload, SearchAttributes
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import QueryWorkflow, WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadCodec
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import (
    Replayer,
    UnsandboxedWorkflowRunner,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowRunner,
)

from temporal.client import data_converter
from temporal.names import ORDER_WORKFLOW
from worker import WORKFLOWS

Json = dict[str, Any]
NONDETERMINISM = re.compile(r'Nondeterminism error: [^"]+')
Item = TypeVar("Item")
Activate = Callable[[WorkflowActivation], WorkflowActivationCompletion]


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


async def replay(histories: AsyncIterable[WorkflowHistory], *, runner: WorkflowRunner | None = None) -> AsyncGenerator[Replayed]:
    """Replay one after another; memory holds one at a time. They must be in clear (`in_clear`).

    Without a `runner` the sandbox is left out, which is three times as fast; the tests replay within it."""
    listening = _Listening(runner or UnsandboxedWorkflowRunner())
    replayer = Replayer(workflows=WORKFLOWS, data_converter=data_converter, workflow_runner=listening, runtime=_quiet_runtime())

    async def asked() -> AsyncIterator[WorkflowHistory]:
        async for history in histories:
            listening.begin()
            yield history

    async with replayer.workflow_replay_iterator(asked()) as results:
        async for result in results:
            failed = result.replay_failure
            failure = listening.failure or (_short(str(failed)) if failed else None)
            yield Replayed(result.history, failure, listening.commands)


async def replay_each(
    kept: Iterable[Item], history_of: Callable[[Item], WorkflowHistory]
) -> AsyncGenerator[tuple[Item, Replayed]]:
    """Replay one history after another, with what each belongs to."""
    pulled: list[Item] = []

    async def histories() -> AsyncIterator[WorkflowHistory]:
        for item in kept:
            pulled.append(item)
            yield history_of(item)

    async with aclosing(replay(histories())) as results:
        async for replayed in results:
            yield pulled.pop(), replayed


class _Listening(WorkflowRunner):
    """Runs workflows as another runner does, and keeps what they ask for."""

    def __init__(self, runner: WorkflowRunner) -> None:
        self._runner = runner
        self.begin()

    def begin(self) -> None:
        """Another history follows."""
        self.failure: str | None = None
        self._commands: dict[str, Command] = {}
        self._updates: dict[str, str] = {}
        self._task = 0
        """Length of the history when the task began which runs now."""
        self._of_task: set[str] = set()

    @property
    def commands(self) -> tuple[Command, ...]:
        return tuple(self._commands.values())

    def prepare_workflow(self, defn: "workflow._Definition") -> None:
        self._runner.prepare_workflow(defn)

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        self._runner.set_worker_level_failure_exception_types(types)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = self._runner.create_instance(det)
        activate, of, queue = instance.activate, det.info.workflow_type, det.info.task_queue

        def heard(act: WorkflowActivation) -> WorkflowActivationCompletion:
            if any(job.HasField("remove_from_cache") for job in act.jobs) and self.failure is None:
                self._ask(act, activate, det.defn.queries)
            completion = activate(act)
            self._hear(act, completion, of, queue)
            return completion

        instance.activate = heard  # type: ignore[method-assign]
        return instance

    def _hear(self, act: WorkflowActivation, completion: WorkflowActivationCompletion, of: str, queue: str) -> None:
        if completion.HasField("failed"):
            self.failure = self.failure or _words_of(completion.failed.failure)
        if act.history_length != self._task:
            self._task, self._of_task = act.history_length, set()
        updates = [job.do_update for job in act.jobs if job.HasField("do_update")]
        self._updates |= {update.protocol_instance_id: name_in(of, update.name) for update in updates}
        for command in completion.successful.commands:
            self._keep(command, of, queue)

    def _ask(self, last: WorkflowActivation, activate: Activate, queries: Iterable[str | None]) -> None:
        """Where the history ends, every query of the saga has an answer: operators ask old orders, too."""
        for name in filter(None, queries):
            ask = WorkflowActivation(run_id=last.run_id, timestamp=last.timestamp, history_length=last.history_length)
            ask.jobs.add().query_workflow.CopyFrom(QueryWorkflow(query_id=name, query_type=name))
            completion = activate(ask)
            for answer in (command.respond_to_query for command in completion.successful.commands):
                if answer.HasField("failed"):
                    self.failure = f"query {name}: {_words_of(answer.failed)}"

    def _keep(self, command: WorkflowCommand, of: str, queue: str) -> None:
        """What is begun and cancelled within one task is never told to Temporal."""
        kind = command.WhichOneof("variant")
        if kind in _CANCELS:
            begun = f"{_CANCELS[kind]} {getattr(command, kind).seq}"
            if begun in self._of_task:
                del self._commands[begun]
            return
        asked = command_of(command, of, queue, self._updates)
        if asked is not None:
            name = f"{kind} {getattr(getattr(command, str(kind)), 'seq', len(self._commands))}"
            self._commands[name] = asked
            self._of_task.add(name)


_CANCELS = {"cancel_timer": "start_timer", "request_cancel_activity": "schedule_activity"}


def name_in(workflow: str, name: str = "") -> str:
    """What a handler of a workflow is called where those of all workflows are listed, or its end without a `name`: the order's
    have their own names, as they have had since there was no other workflow."""
    if workflow == ORDER_WORKFLOW:
        return name
    return f"{workflow}.{name}" if name else workflow


def command_of(command: WorkflowCommand, of: str, queue: str, updates: Mapping[str, str]) -> Command | None:
    """What one command of a workflow of the type `of` asks for; None, for one without content. `queue` is the workflow's own."""
    match command.WhichOneof("variant"):
        case "schedule_activity":
            it = command.schedule_activity
            return Command(
                "activity",
                it.activity_type,
                {"id": it.activity_id, "queue": other_queue(it.task_queue, queue), "argument": values(it.arguments)},
            )
        case "schedule_local_activity":
            local = command.schedule_local_activity
            return Command("local activity", local.activity_type, {"argument": values(local.arguments)})
        case "start_timer":
            return Command("timer", "", {"seconds": seconds(command.start_timer.start_to_fire_timeout)})
        case "upsert_workflow_search_attributes":
            return Command("attributes", "", attributes(command.upsert_workflow_search_attributes.search_attributes))
        case "update_response":
            answer = command.update_response
            name = updates.get(answer.protocol_instance_id, "")
            if answer.HasField("completed"):
                return Command("update", name, {"result": values([answer.completed])})
            if answer.HasField("rejected"):
                return Command("update", name, {"refused": answer.rejected.application_failure_info.type})
        case "complete_workflow_execution":
            return Command("result", name_in(of), {"result": values([command.complete_workflow_execution.result])})
        case "continue_as_new_workflow_execution":
            run = command.continue_as_new_workflow_execution
            return Command(
                "next run", name_in(of), {"queue": other_queue(run.task_queue, queue), "argument": values(run.arguments)}
            )
    return None


def attributes(found: SearchAttributes) -> Json:
    """Search attributes with their values, without those that Temporal keeps for itself."""
    return {name: value_of(it) for name, it in sorted(found.indexed_fields.items()) if not name.startswith("Temporal")}


def other_queue(queue: str, own: str) -> str | None:
    """A task queue, if it is not the workflow's own."""
    return None if queue in ("", own) else queue


async def in_clear(history: WorkflowHistory, codec: PayloadCodec | None) -> WorkflowHistory:
    """The same history with its payloads as they were before the codec."""
    if codec is None:
        return history
    clear = WorkflowHistory(history.workflow_id, [type(event).FromString(event.SerializeToString()) for event in history.events])
    for event in clear.events:
        for payload in _payloads(event):
            (decoded,) = await codec.decode([payload])
            payload.CopyFrom(decoded)
    return clear


def _payloads(message: Message) -> Iterator[Payload]:
    for _, value in message.ListFields():
        parts = value.values() if isinstance(value, Mapping) else [value] if isinstance(value, Message | str | bytes) else value
        for part in parts if isinstance(parts, Iterable) else ():
            if isinstance(part, Payload):
                yield part
            elif isinstance(part, Message):
                yield from _payloads(part)


def values(payloads: Any) -> list[Any]:
    """What is in these payloads, as JSON has it."""
    return [value_of(payload) for payload in payloads]


def value_of(payload: Payload) -> Any:
    """What is in this payload, which must not be encrypted any more."""
    return json.loads(payload.data) if payload.data else None


def seconds(duration: Message) -> float:
    assert isinstance(duration, Duration)
    return duration.ToTimedelta().total_seconds()


_PYDANTIC_ADDS = re.compile(r" \[type=.*\]$|^ *For further information visit .*$", re.MULTILINE)


def _words_of(failure: Failure) -> str:
    causes = [failure.message]
    while failure.HasField("cause"):
        failure = failure.cause
        causes.append(failure.message)
    return _short(": ".join(causes))


def _short(text: str) -> str:
    """On one line, without the SDK's frame and without what Pydantic adds: it quotes what the order holds."""
    found = NONDETERMINISM.search(text)
    told = found.group() if found else _PYDANTIC_ADDS.sub("", text)
    return " ".join(told.split())[:500]


@cache
def _quiet_runtime() -> Runtime:
    """The SDK would write every failure to standard output, where the report goes."""
    logging.getLogger("temporalio.worker").setLevel(logging.CRITICAL)
    return Runtime(telemetry=TelemetryConfig(logging=None))

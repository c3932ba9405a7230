"""Temporal in memory, for one workflow: what the server keeps, and what the SDK's core does between server and workflow.

The workflow runs in the SDK's own instances, which get the same activations as from the core. What is committed is kept as the
list of its activations; an instance that is lost or evicted is built again by replaying them, and must answer with the same
commands.

What is modelled: workflow tasks that carry what came meanwhile, are lost at any point, are kept alive while local activities run,
and are refused when the workflow would close over something new; local activities with their retries, whose results are committed
with their task alone; activities with the server's retries, time limits and cancellation; timers; signals, updates (admitted,
accepted, completed, rejected, by id), cancel requests, queries; continue-as-new; patch markers, by which a
later build goes on with a run of an earlier one (`deploy`).
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import Any, Protocol

from temporalio import workflow
from temporalio.api.common.v1 import Payload, Payloads, SearchAttributes
from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import (
    ActivityCancellationType,
    ScheduleActivity,
    ScheduleLocalActivity,
    WorkflowCommand,
)
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.common import MetricMeter, Priority
from temporalio.converter import decode_search_attributes, decode_typed_search_attributes
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner
from temporalio.worker._workflow_instance import WorkflowInstance, WorkflowInstanceDetails

from contracts.budgets import WORKFLOW_TASK_S
from temporal.client import data_converter
from testing.explorer.clock import START, Clock
from testing.explorer.executions import PAYLOADS, Execution, Worker
from testing.explorer.protocol import (
    Resolution,
    activity_failure,
    cancelled,
    difference,
    has_patch,
    is_replayed,
    limit_of,
    patches,
    rank,
    resolved,
    resolves,
    signal_sent,
    timed_out,
    wait_of,
    words_of,
)

HEARTBEAT_S = 0.8 * WORKFLOW_TASK_S
"""So long a task is open before it is renewed while local activities run."""
LONGEST_ACTIVATION_S = 2.0
"""Of the processor's time; the SDK's own limit is 2 s, too."""
CLOSING = frozenset(
    {
        "complete_workflow_execution",
        "fail_workflow_execution",
        "cancel_workflow_execution",
        "continue_as_new_workflow_execution",
    }
)
CHANGE_VERSION = "TemporalChangeVersion"
"""The search attribute by which the server tells which patches a run has."""
_CANCEL = ActivityCancellationType


class Broken(Exception):
    """The workflow did what it must never do; the run ends here."""


@dataclass(frozen=True)
class Fate:
    """How a workflow task is lost: after so many of its local activities have ended, or (None) just before it is committed; and
    the seconds until it is given out again."""

    after_locals: int | None
    again_after: float = WORKFLOW_TASK_S


class Chaos(Protocol):
    """Who decides what goes wrong."""

    def fate_of_task(self, number: int) -> Fate | None:
        """Whether this workflow task is lost."""

    def evict_before_task(self, number: int) -> bool:
        """Whether the worker has forgotten the workflow before this task."""

    def suggest_continue_as_new(self, number: int) -> bool:
        """Whether the server finds the history long enough."""

    def call(self, execution: Execution, limit_s: float) -> None:
        """An activity calls a service: answer, in time or not."""


@dataclass
class Update:
    """One update that a client sent; `answer` once there is one."""

    id: str
    name: str
    arguments: list[Payload]
    answered: list[Callable[[Payload | Failure | None], None]] = field(default_factory=list)
    """Called once with the result, the failure, or None if the workflow closed before it was accepted."""
    accepted: bool = False
    over: bool = False


@dataclass
class _Local:
    """A local activity of the task under way."""

    command: ScheduleLocalActivity
    begun_at: float
    attempt: int = 0
    execution: Execution | None = None
    detached: bool = False


@dataclass
class _Scheduled:
    """An activity that the server runs until it ends."""

    command: ScheduleActivity
    scheduled_at: float
    attempt: int = 0
    execution: Execution | None = None
    cancel_requested: bool = False
    last_failure: Failure | None = None
    over: bool = False


@dataclass
class _Recorded:
    activation: WorkflowActivation
    commands: list[WorkflowCommand]
    task: int
    """The workflow task that it was part of."""


@dataclass
class _Task:
    number: int
    jobs: list[WorkflowActivationJob]
    updates: list[Update]
    fate: Fate | None
    carried: list[ScheduleLocalActivity]
    """Local activities that had begun in the task before."""
    recorded: list[_Recorded] = field(default_factory=list)
    locals: dict[int, _Local] = field(default_factory=dict)
    locals_ended: int = 0
    open: bool = True


@dataclass
class _Run:
    number: int
    arguments: list[Payload]
    history: list[_Recorded] = field(default_factory=list)
    instance: WorkflowInstance | None = None
    inbox: list[WorkflowActivationJob] = field(default_factory=list)
    admitted: list[Update] = field(default_factory=list)
    activities: dict[int, _Scheduled] = field(default_factory=dict)
    begun: dict[int, ScheduleActivity] = field(default_factory=dict)
    """Every activity that was ever asked for, by its number."""
    known: list[_Scheduled] = field(default_factory=list)
    timers: set[int] = field(default_factory=set)
    carried: dict[int, _Local] = field(default_factory=dict)
    """Local activities that run on while their task is renewed."""
    patches: set[str] = field(default_factory=set)
    """Those whose markers are in the history."""
    task: _Task | None = None
    task_due: bool = False
    closed: bool = False

    @property
    def id(self) -> str:
        return f"run-{self.number}"


class Engine:
    """One workflow from its start to its end."""

    def __init__(
        self, clock: Clock, worker: Worker, chaos: Chaos, definition: type, workflow_id: str, log: Callable[[str], None]
    ) -> None:
        self.clock, self.worker, self.chaos, self.log = clock, worker, chaos, log
        self.workflow_id = workflow_id
        self.definition = workflow._Definition.must_from_class(definition)
        self.search_attributes = SearchAttributes()
        self.runs: list[_Run] = []
        self.tasks = 0
        self.signalled: Callable[[str, str, list[Payload]], bool] = lambda workflow_id, name, arguments: False
        """A signal to another workflow, its id first; false if there is none."""
        self.result: Payload | None = None
        self.closed_as: str | None = None
        self._updates: dict[str, Update] = {}
        self._queries = self._signals = 0

    # ── What clients do ──────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, argument: object) -> None:
        """Start the workflow; a second start changes nothing."""
        if not self.runs:
            self._begin([PAYLOADS.to_payload(argument)])

    @property
    def running(self) -> bool:
        return bool(self.runs) and not self.runs[-1].closed

    def signal(self, name: str, argument: object) -> bool:
        """False if the workflow has ended."""
        if not self.running:
            return False
        job = WorkflowActivationJob()
        self._signals += 1
        job.signal_workflow.signal_name = name
        job.signal_workflow.originating_event_id = self._signals
        job.signal_workflow.input.append(PAYLOADS.to_payload(argument))
        self._deliver(self.runs[-1], job)
        return True

    def cancel(self) -> bool:
        """`temporal workflow cancel`; False if the workflow has ended."""
        if not self.running:
            return False
        job = WorkflowActivationJob()
        job.cancel_workflow.reason = "cancelled by hand"
        self._deliver(self.runs[-1], job)
        return True

    def update(
        self, id: str, name: str, arguments: Sequence[object], answered: Callable[[Payload | Failure | None], None]
    ) -> None:
        """Send an update; under an id that is known, wait for the same answer."""
        known = self._updates.get(id)
        if known is not None and not known.over:
            known.answered.append(answered)
            return
        if not self.running:
            answered(None)
            return
        update = Update(id, name, [PAYLOADS.to_payload(argument) for argument in arguments], [answered])
        self._updates[id] = update
        self.runs[-1].admitted.append(update)
        self._want_task(self.runs[-1])

    def query(self, name: str) -> Payload | None:
        """What a query answers, also after the end; None while a task is under way. Raises Broken if it fails."""
        run = self.runs[-1]
        if run.task is not None or not run.history:
            return None
        instance = run.instance or self._replayed(run)
        if not run.closed:
            run.instance = instance
        self._queries += 1
        job = WorkflowActivationJob()
        job.query_workflow.query_id = str(self._queries)
        job.query_workflow.query_type = name
        commands = self._commands_of(_activate(instance, self._activation(run, [job])))
        answer = commands[0].respond_to_query
        if answer.HasField("failed"):
            raise Broken(f"the query {name} fails: {answer.failed.message}")
        return answer.succeeded.response

    # ── What the worker suffers ──────────────────────────────────────────────────────────────────────────────────────────

    def kill_worker(self) -> None:
        """The worker dies and another comes: what it was doing is lost, what it remembered is forgotten."""
        run = self.runs[-1]
        for scheduled in run.activities.values():
            if scheduled.execution is not None:
                scheduled.execution.abandon()
        if run.task is not None:
            self._lose(run, run.task, WORKFLOW_TASK_S)
        self._evict(run)

    def deploy(self, definition: type) -> None:
        """The worker dies, and one with another build of the workflow comes: it goes on with what the one before it began."""
        self.kill_worker()
        self.definition = workflow._Definition.must_from_class(definition)

    # ── Workflow tasks ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, arguments: list[Payload]) -> None:
        run = _Run(len(self.runs) + 1, arguments)
        self.runs.append(run)
        job = WorkflowActivationJob()
        init = job.initialize_workflow
        init.workflow_type = self.definition.name or ""
        init.workflow_id = self.workflow_id
        init.arguments.extend(arguments)
        init.randomness_seed = run.number
        init.first_execution_run_id = self.runs[0].id
        init.attempt = 1
        self._deliver(run, job)

    def _deliver(self, run: _Run, job: WorkflowActivationJob) -> None:
        """An event for the workflow: a task under way does not see it, the next one does."""
        run.inbox.append(job)
        self._want_task(run)

    def _want_task(self, run: _Run, delay: float = 0.001) -> None:
        if run.task is None and not run.task_due and not run.closed:
            run.task_due = True
            self.clock.after(delay, lambda: self._start_task(run))

    def _start_task(self, run: _Run) -> None:
        run.task_due = False
        if run.closed or run.task is not None:
            return
        self.tasks += 1
        fate = self.chaos.fate_of_task(self.tasks)
        carried = [local.command for local in run.carried.values() if not local.detached]
        task = _Task(self.tasks, run.inbox, run.admitted, fate, carried)
        run.inbox, run.admitted = [], []
        task.locals, run.carried = run.carried, {}
        run.task = task
        if self.chaos.evict_before_task(task.number):
            self._evict(run)
        if run.instance is None:
            run.instance = self._replayed(run)
        self.clock.after(HEARTBEAT_S, lambda: self._renew(run, task))
        jobs = [*task.jobs, *map(_do_update, task.updates)]
        jobs.sort(key=rank)
        self._activate(run, task, jobs)

    def _activate(self, run: _Run, task: _Task, jobs: list[WorkflowActivationJob]) -> None:
        """Give jobs to the workflow, do what it wants done at once, and end the task if nothing is left to wait for."""
        while task.open and jobs:
            assert run.instance is not None
            activation = self._activation(run, jobs)
            activation.continue_as_new_suggested = self.chaos.suggest_continue_as_new(task.number)
            commands = self._commands_of(_activate(run.instance, activation), activation)
            task.recorded.append(_Recorded(activation, commands, task.number))
            jobs = self._do_at_once(run, task, commands)
            if any(command.WhichOneof("variant") in CLOSING for command in commands):
                break
        self._end_if_done(run, task)

    def _end_if_done(self, run: _Run, task: _Task) -> None:
        if not task.open:
            return
        if task.fate and task.fate.after_locals is not None and task.locals_ended >= task.fate.after_locals:
            self._lose(run, task, task.fate.again_after)
            return
        closing = any(command.WhichOneof("variant") in CLOSING for recorded in task.recorded for command in recorded.commands)
        if closing or not any(not local.detached for local in task.locals.values()):
            if task.fate:
                self._lose(run, task, task.fate.again_after)
            elif closing and (run.inbox or run.admitted):
                self.log("the server refuses to close the workflow: something came meanwhile; the task is done again")
                self._lose(run, task, 0.001)
            else:
                self._commit(run, task)

    def _do_at_once(self, run: _Run, task: _Task, commands: list[WorkflowCommand]) -> list[WorkflowActivationJob]:
        """What the core does before the task ends. Returns the jobs that follow from it in the same task."""
        jobs = []
        for command in commands:
            match command.WhichOneof("variant"):
                case "schedule_local_activity":
                    local = _Local(command.schedule_local_activity, self.clock.seconds)
                    task.locals[local.command.seq] = local
                    self._try_locally(run, local)
                case "request_cancel_local_activity":
                    seq = command.request_cancel_local_activity.seq
                    if seq not in task.locals:  # it has just ended
                        continue
                    local = task.locals[seq]
                    if local.command.cancellation_type != _CANCEL.WAIT_CANCELLATION_COMPLETED and not local.detached:
                        local.detached = True
                        jobs.append(resolved(seq, cancelled(local.command), is_local=True))
                case "request_cancel_activity":
                    seq = command.request_cancel_activity.seq
                    begun = run.begun[seq]
                    just_ended = any(resolves(job, seq) for job in task.jobs)
                    if begun.cancellation_type != _CANCEL.WAIT_CANCELLATION_COMPLETED and not just_ended:
                        jobs.append(resolved(seq, cancelled(begun), is_local=False))
                case "schedule_activity":
                    run.begun[command.schedule_activity.seq] = command.schedule_activity
        return jobs

    def _renew(self, run: _Run, task: _Task) -> None:
        """Local activities run for long: what has been decided is committed, and the task goes on as a new one."""
        if not task.open:
            return
        if task.fate:
            self._lose(run, task, task.fate.again_after)
            return
        run.carried = task.locals
        self._commit(run, task)
        if not run.closed:
            self._want_task(run)

    def _lose(self, run: _Run, task: _Task, again_after: float) -> None:
        """Nothing of the task is kept; what it was about comes again."""
        self.log(f"workflow task {task.number} is lost" if again_after >= 1 else f"workflow task {task.number} fails")
        task.open = False
        run.task = None
        for local in task.locals.values():
            if local.execution is not None:
                local.execution.abandon()
            local.detached = True
        # What had begun in a task before this one is begun again by the core that takes over.
        run.carried = {command.seq: _Local(command, self.clock.seconds + again_after) for command in task.carried}
        run.inbox = [*task.jobs, *run.inbox]
        run.admitted = [*task.updates, *run.admitted]
        self._evict(run)
        self._want_task(run, again_after)
        for local in run.carried.values():
            self.clock.after(again_after + 0.002, partial(self._try_locally, run, local))

    def _evict(self, run: _Run) -> None:
        instance, run.instance = run.instance, None
        if instance is not None:
            _forget(instance, run)

    def _commit(self, run: _Run, task: _Task) -> None:
        task.open = False
        run.task = None
        updates = {update.id: update for update in task.updates} | {
            update.id: update for update in self._updates.values() if update.accepted and not update.over
        }
        rejected = {
            command.update_response.protocol_instance_id
            for recorded in task.recorded
            for command in recorded.commands
            if command.HasField("update_response")
            and command.update_response.HasField("rejected")
            and not updates[command.update_response.protocol_instance_id].accepted
            and not _accepts(task, command.update_response.protocol_instance_id)
        }
        run.history += [kept for recorded in task.recorded if (kept := _without(recorded, rejected))]
        for recorded in task.recorded:
            for command in recorded.commands:
                self._apply(run, command, updates)
        if not run.closed and (run.inbox or run.admitted):
            self._want_task(run)

    def _apply(self, run: _Run, command: WorkflowCommand, updates: dict[str, Update]) -> None:
        """The server carries a command out."""
        match command.WhichOneof("variant"):
            case "start_timer":
                self._start_timer(run, command.start_timer.seq, command.start_timer.start_to_fire_timeout.ToTimedelta())
            case "cancel_timer":
                run.timers.discard(command.cancel_timer.seq)
                run.inbox = [
                    job
                    for job in run.inbox
                    if not (job.HasField("fire_timer") and job.fire_timer.seq == command.cancel_timer.seq)
                ]
            case "schedule_activity":
                id = command.schedule_activity.activity_id
                if any(pending.command.activity_id == id and not pending.over for pending in run.known):
                    raise Broken(f"the activity {id} is scheduled while one of that id is still pending")
                scheduled = _Scheduled(command.schedule_activity, self.clock.seconds)
                run.activities[scheduled.command.seq] = scheduled
                run.known.append(scheduled)
                self._begin_activity(run, scheduled)
            case "request_cancel_activity":
                self._cancel_activity(run, command.request_cancel_activity.seq)
            case "signal_external_workflow_execution":
                told = command.signal_external_workflow_execution
                arrived = self.signalled(told.workflow_execution.workflow_id, told.signal_name, list(told.args))
                self._deliver(run, signal_sent(told.seq, arrived=arrived))
            case "upsert_workflow_search_attributes":
                for name, value in command.upsert_workflow_search_attributes.search_attributes.indexed_fields.items():
                    self.search_attributes.indexed_fields[name].CopyFrom(value)
            case "set_patch_marker":
                run.patches.add(command.set_patch_marker.patch_id)
                names = PAYLOADS.to_payload(sorted(run.patches))
                names.metadata["type"] = b"KeywordList"
                self.search_attributes.indexed_fields[CHANGE_VERSION].CopyFrom(names)
            case "update_response":
                self._answer_update(updates[command.update_response.protocol_instance_id], command)
            case "complete_workflow_execution" | "fail_workflow_execution" | "cancel_workflow_execution" as how:
                run.closed = True
                self.closed_as = how
                if command.complete_workflow_execution.HasField("result"):
                    self.result = command.complete_workflow_execution.result
                if how == "fail_workflow_execution":
                    raise Broken(f"the workflow fails: {command.fail_workflow_execution.failure.message}")
                self._forget_updates(run)
            case "continue_as_new_workflow_execution":
                run.closed = True
                admitted, run.admitted = run.admitted, []
                self._forget_updates(run)
                self._begin(list(command.continue_as_new_workflow_execution.arguments))
                self.runs[-1].admitted = admitted

    def _answer_update(self, update: Update, command: WorkflowCommand) -> None:
        response = command.update_response
        if response.HasField("accepted"):
            update.accepted = True
            return
        answer = response.rejected if response.HasField("rejected") else response.completed
        update.over = True
        for told in update.answered:
            told(answer)

    def _forget_updates(self, run: _Run) -> None:
        """The workflow has closed: who waits is told so."""
        for update in self._updates.values():
            if update.over:
                continue
            if update.accepted:
                raise Broken(f"the workflow closes without an answer to the update {update.name} that it accepted")
            if update not in run.admitted:
                continue
            update.over = True
            for told in update.answered:
                told(None)

    # ── Timers and activities ────────────────────────────────────────────────────────────────────────────────────────────

    def _start_timer(self, run: _Run, seq: int, wait: timedelta) -> None:
        def fire() -> None:
            if seq in run.timers and not run.closed:
                run.timers.discard(seq)
                job = WorkflowActivationJob()
                job.fire_timer.seq = seq
                self._deliver(run, job)

        run.timers.add(seq)
        self.clock.after(wait.total_seconds(), fire)

    def _try_locally(self, run: _Run, local: _Local) -> None:
        """An attempt of a local activity, within the task."""
        if local.detached or run.closed or (run.task is not None and local.command.seq not in run.task.locals):
            return
        local.attempt += 1
        command = local.command
        total = command.schedule_to_close_timeout.ToTimedelta().total_seconds()
        left = local.begun_at + total - self.clock.seconds if total else float("inf")
        limit = min(command.start_to_close_timeout.ToTimedelta().total_seconds() or float("inf"), left)

        def finished(outcome: Resolution) -> None:
            if local.detached or run.closed:
                return
            task = run.task
            if isinstance(outcome, Failure):
                wait = wait_of(command, outcome, local.attempt)
                in_time = not total or self.clock.seconds + (wait or 0) < local.begun_at + total
                if wait is not None and in_time:
                    self.clock.after(wait, lambda: self._try_locally(run, local))
                    return
            if task is None or command.seq not in task.locals:  # between two tasks: the core keeps it for the next
                self.clock.after(0.002, lambda: finished(outcome))
                return
            del task.locals[command.seq]
            task.locals_ended += 1
            self._activate(run, task, [resolved(command.seq, outcome, is_local=True)])

        self._execute(local, command, limit, finished)

    def _begin_activity(self, run: _Run, scheduled: _Scheduled) -> None:
        """The server gives an activity to a worker."""
        command = scheduled.command
        total = command.schedule_to_close_timeout.ToTimedelta().total_seconds()

        def expire() -> None:
            if not scheduled.over:
                cause = scheduled.last_failure
                self._end_activity(run, scheduled, timed_out(TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, cause))

        if total:
            self.clock.after(total, expire)
        self.clock.after(0.001, lambda: self._try_activity(run, scheduled))

    def _try_activity(self, run: _Run, scheduled: _Scheduled) -> None:
        if scheduled.over or run.closed:
            return
        scheduled.attempt += 1
        command = scheduled.command
        attempt = scheduled.attempt

        def finished(outcome: Resolution) -> None:
            if scheduled.over or scheduled.attempt != attempt:
                return
            scheduled.execution = None
            if isinstance(outcome, Failure) and not scheduled.cancel_requested:
                scheduled.last_failure = outcome
                wait = wait_of(command, outcome, attempt)
                total = command.schedule_to_close_timeout.ToTimedelta().total_seconds()
                if wait is not None and total and self.clock.seconds + wait >= scheduled.scheduled_at + total:
                    wait = None
                if wait is not None:
                    self.clock.after(wait, lambda: self._try_activity(run, scheduled))
                    return
            self._end_activity(run, scheduled, outcome)

        self._execute(scheduled, command, limit_of(command), finished)

    def _execute(
        self,
        attempt: _Local | _Scheduled,
        command: ScheduleActivity | ScheduleLocalActivity,
        limit: float,
        finished: Callable[[Resolution], None],
    ) -> None:
        total = command.schedule_to_close_timeout.ToTimedelta()
        info = replace(
            ActivityEnvironment.default_info(),
            activity_id=command.activity_id,
            activity_type=command.activity_type,
            attempt=attempt.attempt,
            is_local=isinstance(attempt, _Local),
            schedule_to_close_timeout=total or None,
        )
        execution = self.worker.execute(command.activity_type, command.arguments, info, finished)
        attempt.execution = execution

        def time_out() -> None:
            if attempt.execution is execution and not getattr(attempt, "detached", False):
                execution.abandon()
                attempt.execution = None
                finished(timed_out(TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE, None))

        self.clock.after(limit, time_out)
        execution_finished = execution.finished

        def once(outcome: Resolution) -> None:
            attempt.execution = None
            execution_finished(outcome)

        execution.finished = once
        self.chaos.call(execution, limit)

    def _end_activity(self, run: _Run, scheduled: _Scheduled, outcome: Resolution) -> None:
        scheduled.over = True
        if run.closed or scheduled.command.seq not in run.activities:
            return
        del run.activities[scheduled.command.seq]
        if isinstance(outcome, Failure):
            outcome = activity_failure(scheduled.command, outcome)
        self._deliver(run, resolved(scheduled.command.seq, outcome, is_local=False))

    def _cancel_activity(self, run: _Run, seq: int) -> None:
        waits = run.begun[seq].cancellation_type == _CANCEL.WAIT_CANCELLATION_COMPLETED
        if not waits:
            run.inbox = [job for job in run.inbox if not resolves(job, seq)]
        scheduled = run.activities.get(seq)
        if scheduled is None:  # it has just ended
            return
        scheduled.cancel_requested = True
        if not waits:
            # The workflow has gone on without it; one that is being made goes on, too, and its effect may land.
            del run.activities[seq]
            if scheduled.execution is None:
                scheduled.over = True
        elif scheduled.execution is None:
            self._end_activity(run, scheduled, cancelled(scheduled.command))

    # ── Instances ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _activation(self, run: _Run, jobs: Sequence[WorkflowActivationJob]) -> WorkflowActivation:
        activation = WorkflowActivation(run_id=run.id, jobs=jobs)
        activation.timestamp.FromDatetime(self.clock.now)
        activation.history_length = 10 * len(run.history) + 3
        activation.available_internal_flags.extend(_flags_used(run))
        return activation

    def _commands_of(self, completion: Any, activation: WorkflowActivation | None = None) -> list[WorkflowCommand]:
        if completion.HasField("failed"):
            raise Broken(f"the workflow task fails: {words_of(completion.failed.failure)}")
        if activation is not None:
            known = set(activation.available_internal_flags)
            activation.available_internal_flags.extend(set(completion.successful.used_internal_flags) - known)
        return list(completion.successful.commands)

    def _new_instance(self, run: _Run) -> WorkflowInstance:
        info = workflow.Info(
            attempt=1,
            continued_run_id=self.runs[run.number - 2].id if run.number > 1 else None,
            cron_schedule=None,
            execution_timeout=None,
            first_execution_run_id=self.runs[0].id,
            headers={},
            namespace="default",
            original_execution_run_id=run.id,
            parent=None,
            root=None,
            raw_memo={},
            retry_policy=None,
            run_id=run.id,
            run_timeout=None,
            search_attributes=decode_search_attributes(SearchAttributes()),
            start_time=START,
            workflow_start_time=START,
            task_queue="orders",
            task_timeout=timedelta(seconds=WORKFLOW_TASK_S),
            typed_search_attributes=decode_typed_search_attributes(SearchAttributes()),
            workflow_id=self.workflow_id,
            workflow_type=self.definition.name or "",
            priority=Priority.default,
        )
        details = WorkflowInstanceDetails(
            payload_converter_factory=data_converter.payload_converter_class,
            failure_converter_class=data_converter.failure_converter_class,
            interceptor_classes=[],
            defn=self.definition,
            info=info,
            randomness_seed=run.number,
            extern_functions={
                "__temporal_get_metric_meter": lambda: MetricMeter.noop,
                "__temporal_assert_local_activity_valid": lambda name: None,
            },
            disable_eager_activity_execution=False,
            worker_level_failure_exception_types=(),
            patch_activation_callback=None,
            last_completion_result=Payloads(),
            last_failure=None,
        )
        loop: Any = asyncio.AbstractEventLoop  # an instance is made on a loop, and is one itself then
        asyncio._set_running_loop(loop())
        try:
            return UnsandboxedWorkflowRunner().create_instance(details)
        finally:
            asyncio._set_running_loop(None)

    def _replayed(self, run: _Run) -> WorkflowInstance:
        """An instance that has gone through all that is committed. Raises Broken if it answers with other commands."""
        instance = self._new_instance(run)
        for _, of_task in groupby(run.history, key=lambda recorded: recorded.task):
            recorded_of_task = list(of_task)
            jobs = [has_patch(id) for id in patches([command for recorded in recorded_of_task for command in recorded.commands])]
            for recorded in recorded_of_task:
                activation = WorkflowActivation.FromString(recorded.activation.SerializeToString())
                activation.is_replaying = True
                activation.jobs.extend(jobs)  # at the beginning of a task the core looks ahead for its markers
                jobs = []
                commands = self._commands_of(_activate(instance, activation))
                if not is_replayed(recorded.commands, commands):
                    raise Broken("the history does not replay: " + difference(recorded.commands, commands))
        return instance

    def replay(self) -> None:
        """Replay every run from its beginning. Raises Broken."""
        for run in self.runs:
            _forget(self._replayed(run), run)


class _DoesNotYield(KeyboardInterrupt):
    """asyncio lets nothing else through."""


def _activate(instance: WorkflowInstance, activation: WorkflowActivation) -> WorkflowActivationCompletion:
    """Let the workflow go on. Raises Broken if it goes on for ever."""

    def stop(number: int, frame: object) -> None:
        raise _DoesNotYield

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_ACTIVATION_S)
    try:
        return instance.activate(activation)
    except _DoesNotYield:
        raise Broken("the workflow goes on for ever within one task (Temporal calls it a deadlock)") from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _do_update(update: Update) -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.do_update.id = job.do_update.protocol_instance_id = update.id
    job.do_update.name = update.name
    job.do_update.input.extend(update.arguments)
    job.do_update.meta.update_id = update.id
    job.do_update.run_validator = True
    return job


def _accepts(task: _Task, id: str) -> bool:
    return any(
        command.update_response.HasField("accepted") and command.update_response.protocol_instance_id == id
        for recorded in task.recorded
        for command in recorded.commands
        if command.HasField("update_response")
    )


def _without(recorded: _Recorded, rejected: set[str]) -> _Recorded | None:
    """As a replay sees it: rejected updates have left no trace, accepted ones are not validated again."""
    activation = WorkflowActivation()
    activation.CopyFrom(recorded.activation)
    del activation.jobs[:]
    for job in recorded.activation.jobs:
        if job.HasField("do_update"):
            if job.do_update.protocol_instance_id in rejected:
                continue
            job.do_update.run_validator = False
        activation.jobs.append(job)
    commands = [
        command
        for command in recorded.commands
        if not (command.HasField("update_response") and command.update_response.protocol_instance_id in rejected)
    ]
    return _Recorded(activation, commands, recorded.task) if activation.jobs else None


def _flags_used(run: _Run) -> set[int]:
    recorded = [*run.history, *(run.task.recorded if run.task else [])]
    return set(recorded[-1].activation.available_internal_flags) if recorded else set()


def _forget(instance: WorkflowInstance, run: _Run) -> None:
    job = WorkflowActivationJob()
    job.remove_from_cache.message = "evicted"
    _activate(instance, WorkflowActivation(run_id=run.id, jobs=[job]))

"""What the workflow and the server tell each other, as the SDK's core writes it: the jobs of an activation, how an activity
failed and when it is tried again, whether a replay has answered with the same commands."""

from collections.abc import Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import ScheduleActivity, ScheduleLocalActivity, WorkflowCommand

Resolution = Payload | Failure


_RANKS = {"initialize_workflow": 0, "signal_workflow": 1, "do_update": 1}


def rank(job: WorkflowActivationJob) -> int:
    """The core's order within one activation: the start, then messages, then all else."""
    return _RANKS.get(job.WhichOneof("variant") or "", 2)


def resolved(seq: int, outcome: Resolution, *, is_local: bool) -> WorkflowActivationJob:
    """What came of an activity, by its number."""
    job = WorkflowActivationJob()
    job.resolve_activity.seq = seq
    job.resolve_activity.is_local = is_local
    result = job.resolve_activity.result
    if isinstance(outcome, Payload):
        result.completed.result.CopyFrom(outcome)
    elif outcome.cause.HasField("canceled_failure_info") or outcome.HasField("canceled_failure_info"):
        result.cancelled.failure.CopyFrom(outcome)
    else:
        result.failed.failure.CopyFrom(outcome)
    return job


def resolves(job: WorkflowActivationJob, seq: int) -> bool:
    """Whether a job tells what came of the durable activity with this number."""
    return job.HasField("resolve_activity") and job.resolve_activity.seq == seq and not job.resolve_activity.is_local


def signal_sent(seq: int, *, arrived: bool) -> WorkflowActivationJob:
    """What came of a signal to another workflow."""
    job = WorkflowActivationJob()
    job.resolve_signal_external_workflow.seq = seq
    if not arrived:
        failure = job.resolve_signal_external_workflow.failure
        failure.message = "Unable to signal external workflow because it was not found"
        failure.application_failure_info.type = "ExternalWorkflowExecutionNotFound"
    return job


def limit_of(command: ScheduleActivity | ScheduleLocalActivity) -> float:
    """Seconds that one attempt may take."""
    limit = command.start_to_close_timeout.ToTimedelta().total_seconds()
    return limit or command.schedule_to_close_timeout.ToTimedelta().total_seconds()


def wait_of(command: ScheduleActivity | ScheduleLocalActivity, failure: Failure, attempt: int) -> float | None:
    """Seconds until the next attempt; None if that was the last."""
    policy, application = command.retry_policy, failure.application_failure_info
    if failure.HasField("application_failure_info") and (
        application.non_retryable or application.type in policy.non_retryable_error_types
    ):
        return None
    if policy.maximum_attempts and attempt >= policy.maximum_attempts:
        return None
    if failure.HasField("application_failure_info") and application.HasField("next_retry_delay"):
        return application.next_retry_delay.ToTimedelta().total_seconds()
    first = policy.initial_interval.ToTimedelta().total_seconds() or 1.0
    longest = policy.maximum_interval.ToTimedelta().total_seconds() or 100 * first
    wait = first * (policy.backoff_coefficient or 2.0) ** min(attempt - 1, 60)
    return float(min(wait, longest))


def activity_failure(command: ScheduleActivity | ScheduleLocalActivity, cause: Failure) -> Failure:
    """How an activity is said to have failed, and why."""
    if cause.HasField("activity_failure_info"):
        return cause
    failure = Failure(message="Activity task failed", cause=cause)
    failure.activity_failure_info.activity_id = command.activity_id
    failure.activity_failure_info.activity_type.name = command.activity_type
    failure.activity_failure_info.retry_state = RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE
    return failure


def cancelled(command: ScheduleActivity | ScheduleLocalActivity) -> Failure:
    """How one is said to have been cancelled."""
    cause = Failure(message="Activity cancelled")
    cause.canceled_failure_info.SetInParent()
    failure = activity_failure(command, cause)
    failure.activity_failure_info.retry_state = RetryState.RETRY_STATE_CANCEL_REQUESTED
    return failure


def timed_out(kind: "TimeoutType.ValueType", last: Failure | None) -> Failure:
    """How an attempt is said to have taken too long; `last`: what had failed before."""
    failure = Failure(message=f"activity {TimeoutType.Name(kind)}")
    failure.timeout_failure_info.timeout_type = kind
    if last is not None:
        failure.cause.CopyFrom(last)
    return failure


def has_patch(id: str) -> WorkflowActivationJob:
    """That the history has the marker of a patch."""
    job = WorkflowActivationJob()
    job.notify_has_patch.patch_id = id
    return job


def patches(commands: Sequence[WorkflowCommand]) -> list[str]:
    """The ids of the patch markers among the commands."""
    markers = [command.set_patch_marker for command in commands if command.HasField("set_patch_marker")]
    return list(dict.fromkeys(marker.patch_id for marker in markers))


def is_replayed(before: Sequence[WorkflowCommand], after: Sequence[WorkflowCommand]) -> bool:
    """Whether the commands are those of the history. The code may have lost a patch whose marker is deprecated, or deprecate one
    whose marker is not."""
    still = [command.set_patch_marker.patch_id for command in after if command.HasField("set_patch_marker")]
    kept = [
        command
        for command in before
        if not (command.set_patch_marker.deprecated and command.set_patch_marker.patch_id not in still)
    ]
    return list(map(_bytes, kept)) == list(map(_bytes, after))


def _bytes(command: WorkflowCommand) -> bytes:
    """What must be the same on a replay: all but the lines of code that a failure came through, and whether a patch is
    deprecated."""
    if command.update_response.HasField("rejected"):
        same = WorkflowCommand.FromString(command.SerializeToString())
        same.update_response.rejected.stack_trace = ""
        command = same
    if command.HasField("set_patch_marker"):
        same = WorkflowCommand.FromString(command.SerializeToString())
        same.set_patch_marker.deprecated = False
        command = same
    return command.SerializeToString(deterministic=True)


def difference(before: Sequence[WorkflowCommand], after: Sequence[WorkflowCommand]) -> str:
    """What is other than in the history, in words."""
    return f"was {[_name(each) for each in before]}, is {[_name(each) for each in after]}"


def _name(command: WorkflowCommand) -> str:
    kind = command.WhichOneof("variant") or ""
    part = getattr(command, kind)
    return f"{kind} {getattr(part, 'activity_type', '')}".strip()


def words_of(failure: Any) -> str:
    """A failure with its causes."""
    words = [failure.message]
    while failure.HasField("cause"):
        failure = failure.cause
        words.append(failure.message)
    return ": ".join(words)

"""`commerce release reset`: an order goes back to an earlier point of its history. What that keeps and loses is said first."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC
from uuid import UUID

import typer
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from cli.operators import at, columns
from cli.release.moving import require_replay, require_waiting
from temporal.deployments import Deployment, ReleaseError, build_of

POINT = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
"""An order can begin again where one of its tasks was done: the task is done anew."""


async def reset_order(
    deployment: Deployment,
    order: UUID,
    to: int | None,
    on: str | None,
    own_build: str,
    *,
    reason: str,
    yes: bool,
    unchecked: bool,
) -> bool:
    """Say what is kept and lost, and with `yes` do it. ReleaseError, Unavailable."""
    described = await deployment.order(order)
    require_waiting(order, described)
    history = await deployment.history(order, described.run_id)
    points = [event.event_id for event in history.events if event.event_type == POINT]
    if to is None:
        columns(("EVENT", "TIME (UTC)", "THEN"), [_point(event_id, history.events) for event_id in points])
        typer.echo("Choose one: --to EVENT")
        return False
    if to not in points:
        raise ReleaseError(f"Event {to} is none at which an order can begin again. There are: {', '.join(map(str, points))}")
    kept, lost = history.events[: to - 1], history.events[to - 1 :]
    before = build_of(described)
    if on is not None and on != before:
        if not (await deployment.builds())[on].pollers:
            raise ReleaseError(f"No worker of build {on} asks for work: the order would stand still.")
        await require_replay(deployment, WorkflowHistory(history.workflow_id, kept), on, own_build, unchecked=unchecked)
    # A run that has done no task yet belongs to no build.
    stays = before if any(event.event_type == POINT for event in kept) else "whichever is the current one"
    typer.echo(f"Order {order}, run {described.run_id}, goes back to before event {to} and on with build {on or stays}.")
    typer.echo(f"Kept: the {len(kept)} events before it.")
    typer.echo(f"Lost: {_steps(lost)}.")
    typer.echo(
        "Steps that are lost run again under the keys that they had: a service that has done one answers with what it did then."
        " Nothing outside is undone by this."
    )
    again = [*_signals(lost), *_updates(lost)]
    typer.echo(f"Delivered again: {', '.join(again) if again else 'nothing, no signal or update came after it'}.")
    if not yes:
        typer.echo("Nothing has been changed. To do it: --yes")
        return False
    run_id = await deployment.reset(order, described.run_id, to, reason, on)
    typer.echo(f"It goes on in run {run_id}.")
    return True


def _point(event_id: int, events: Sequence[HistoryEvent]) -> tuple[object, ...]:
    """What the task that ended here did."""
    then = []
    for event in events[event_id:]:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
            break
        then.append(event)
    return event_id, at(events[event_id - 1].event_time.ToDatetime(UTC)), _steps(then)


def _steps(events: Iterable[HistoryEvent]) -> str:
    """What was done in these events, in words."""
    found: Counter[str] = Counter()
    for event in events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            found[event.activity_task_scheduled_event_attributes.activity_type.name] += 1
        elif event.HasField("marker_recorded_event_attributes"):
            found["steps within its tasks"] += 1
        elif event.HasField("timer_started_event_attributes"):
            found["timers"] += 1
    return ", ".join(f"{count} {what}" if count > 1 else what for what, count in found.items()) or "no step"


def _signals(events: Iterable[HistoryEvent]) -> list[str]:
    signalled = (
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in events
        if event.HasField("workflow_execution_signaled_event_attributes")
    )
    return [f"signal {name}" for name in signalled]


def _updates(events: Iterable[HistoryEvent]) -> list[str]:
    accepted = (
        event.workflow_execution_update_accepted_event_attributes.accepted_request.input.name
        for event in events
        if event.HasField("workflow_execution_update_accepted_event_attributes")
    )
    return [f"update {name}" for name in accepted]

"""`commerce release move`: orders go on with another build. For the emergency that pinned builds alone do not cover."""

from collections.abc import Sequence
from uuid import UUID

import typer
from temporalio.api.enums.v1 import PendingWorkflowTaskState
from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowHistory

from temporal.deployments import Deployment, ReleaseError, build_of


async def move_orders(deployment: Deployment, orders: Sequence[UUID], to: str | None, own_build: str, *, unchecked: bool) -> bool:
    """Move each order that can be moved, and say why the others cannot; whether all were. `to`: None is the current build, now
    and later. ReleaseError: nobody serves that build. Unavailable."""
    builds = await deployment.builds()
    target = builds[to] if to else builds.current
    if target is None:
        raise ReleaseError("No build is the current one. Promote one first.")
    if not target.pollers:
        raise ReleaseError(f"No worker of build {target.build_id} asks for work: the orders would stand still.")
    moved = 0
    for order in orders:
        try:
            if await _move(deployment, order, to, target.build_id, own_build, unchecked=unchecked):
                moved += 1
        except ReleaseError as error:
            typer.echo(f"{order}: not moved. {error}", err=True)
    typer.echo(f"{moved} of {len(orders)} moved.")
    return moved == len(orders)


async def _move(deployment: Deployment, order: UUID, to: str | None, target: str, own_build: str, *, unchecked: bool) -> bool:
    described = await deployment.order(order)
    require_waiting(order, described)
    before = build_of(described)
    if to is not None and before == target:
        typer.echo(f"{order}: is with build {target} already.")
        return True
    await require_replay(deployment, await deployment.history(order, described.run_id), target, own_build, unchecked=unchecked)
    await deployment.move(order, to)
    later = ", and with whichever build is the current one later" if to is None else ""
    typer.echo(f"{order}: goes on with build {target} instead of {before or 'none'} from its next task on{later}.")
    return True


def require_waiting(order: UUID, described: WorkflowExecutionDescription) -> None:
    """ReleaseError, unless the order's workflow runs and no worker is at work on it."""
    if described.status != WorkflowExecutionStatus.RUNNING:
        raise ReleaseError(f"The saga of order {order} has ended.")
    task = described.raw_description.pending_workflow_task
    if task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED:
        raise ReleaseError(f"A worker is at work on order {order} just now. Try again in a moment.")


async def require_replay(
    deployment: Deployment, history: WorkflowHistory, target: str, own_build: str, *, unchecked: bool
) -> None:
    """ReleaseError, unless the target can go on with the history; whether it can is known only of this tree's build."""
    if target == own_build:
        from cli.release.contents import replays

        if why := await replays(history, deployment.data_converter):
            raise ReleaseError(f"Build {target} cannot go on with it: {why}")
    elif not unchecked:
        raise ReleaseError(
            f"This tree is build {own_build}, so it cannot tell whether build {target} can go on with it. Run the command from"
            " that build's tree or image; or, if you know better, with --unchecked."
        )

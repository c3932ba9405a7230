"""`commerce histories record`: plays every branch of the order saga and keeps its history, for `tests/replay`.

A change of the workflow must be able to go on with each of them: see docs/changing-the-saga.md.
"""

import asyncio
import json
import re
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from contracts.orders import OrderStatus
from embedded.supervisor import cancelled_by_sigterm
from testing import scenarios
from testing.scenarios import Play
from testing.shop import UNTIL_S, in_parallel, until
from testing.stage import Stage, open_stage

PROCESS = re.compile(r"\b[0-9]+@[A-Za-z0-9.-]+")
"""How Temporal calls a process: its number at its machine."""
Branch = Callable[[Stage], Awaitable[str]]
"""Plays an order, and returns its id when its history is as wanted."""


def _ends(play: Play) -> Branch:
    async def branch(stage: Stage) -> str:
        return await stage.ended(await stage.placed(play))

    return branch


def _delivered(play: Play) -> Branch:
    async def branch(stage: Stage) -> str:
        return await stage.delivered(await stage.placed(play))

    return branch


async def confirmed(stage: Stage) -> str:
    return await stage.tells(await stage.placed(), "Confirmation queued")


async def shipped(stage: Stage) -> str:
    order_id = await stage.placed()
    await stage.shop.dispatch(order_id)
    return await stage.tells(order_id, "dispatched")


async def in_review(stage: Stage) -> str:
    return await stage.placed(scenarios.held_and_forgotten)


async def cancelled_in_review(stage: Stage) -> str:
    order_id = await in_review(stage)
    await stage.cancel(order_id)
    return await stage.ended(order_id)


async def workflow_cancelled(stage: Stage) -> str:
    order_id = await confirmed(stage)
    await stage.saga(order_id).cancel()
    return await stage.ended(order_id)


async def workflow_cancelled_in_review(stage: Stage) -> str:
    order_id = await in_review(stage)
    await stage.saga(order_id).cancel()
    return await stage.ended(order_id)


async def opened_before(stage: Stage) -> str:
    """An order whose workflow Temporal has forgotten is asked for again."""
    purchase = stage.next_purchase()
    order_id = await stage.delivered((await stage.shop.place(purchase)).order_id)
    forget = DeleteWorkflowExecutionRequest(
        namespace=stage.temporal.namespace, workflow_execution=WorkflowExecution(workflow_id=stage.saga(order_id).id)
    )
    await stage.temporal.workflow_service.delete_workflow_execution(forget)

    async def forgotten() -> bool:
        return not await _exists(stage, order_id)

    await until(forgotten, f"Temporal to forget order {order_id}", UNTIL_S)
    await stage.shop.place(purchase)
    return await stage.ended(order_id)


async def _exists(stage: Stage, order_id: str) -> bool:
    try:
        await stage.saga(order_id).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def cancel_refused_by_shipping(stage: Stage) -> str:
    """The parcel has left, and the saga has not heard of it yet: who would tell it is down."""
    order_id = await confirmed(stage)
    await stage.platform.supervisor.stop("order")
    try:
        await stage.shop.dispatch(order_id)
        try:
            await stage.cancel(order_id)
        except WorkflowUpdateFailedError:
            pass
        else:
            raise RuntimeError(f"order {order_id} could be cancelled after its parcel had left")
    finally:
        await stage.platform.supervisor.start("order")
    await stage.shop.deliver(order_id)
    return await stage.ended(order_id)


async def cancelled_while_paying(stage: Stage) -> str:
    await stage.shop.provider.set_faults(down=True)
    try:
        order_id = (await stage.shop.place(stage.next_purchase(), prefer="respond-async")).order_id
        await stage.tells(order_id, "takes longer")
        cancelling = asyncio.create_task(stage.cancel(order_id))
        await stage.tells(order_id, "wants to cancel")
    finally:
        await stage.shop.provider.set_faults()
    await cancelling
    return await stage.ended(order_id)


async def undo_stuck(stage: Stage) -> str:
    """The carrier takes no cancellations for longer than a saga is patient, then it does."""
    order_id = await confirmed(stage)
    await stage.shop.carrier.set_faults(fail_cancels=True)
    try:
        cancelling = asyncio.create_task(stage.cancel(order_id))
        await stage.tells(order_id, "does not succeed")
    finally:
        await stage.shop.carrier.set_faults()
    await cancelling
    return await stage.ended(order_id)


async def notification_down(stage: Stage) -> str:
    """The confirmation cannot be queued until after the parcel has arrived."""
    await stage.platform.supervisor.stop("notification")
    try:
        order_id = await stage.placed()
        await stage.shop.dispatch(order_id)
        await stage.shop.deliver(order_id)
        await stage.shop.reaches(order_id, OrderStatus.COMPLETED)
    finally:
        await stage.platform.supervisor.start("notification")
    return await stage.ended(order_id)


CALM: dict[str, Branch] = {
    "confirmed": confirmed,
    "shipped": shipped,
    "delivered": _delivered(scenarios.just_order),
    "declined": _ends(scenarios.declined),
    "out_of_stock": _ends(scenarios.out_of_stock),
    "unbookable": _ends(scenarios.unbookable),
    "in_review": in_review,
    "review_approved": _delivered(scenarios.held_and_approved),
    "review_rejected": _ends(scenarios.held_and_rejected),
    "review_expired": _ends(scenarios.held_and_forgotten),
    "provider_flaky": _delivered(scenarios.answers_on_the_fourth_try),
    "reply_lost": _delivered(scenarios.lost_reply),
    "sent_five_times": _delivered(scenarios.sent_five_times),
    "cancelled": _ends(scenarios.cancelled_in_time),
    "cancelled_in_review": cancelled_in_review,
    "workflow_cancelled": workflow_cancelled,
    "workflow_cancelled_in_review": workflow_cancelled_in_review,
    "opened_before": opened_before,
}
"""They may be played at the same time."""
DISTURBING: dict[str, Branch] = {
    "cancel_refused_by_shipping": cancel_refused_by_shipping,
    "cancelled_while_paying": cancelled_while_paying,
    "notification_down": notification_down,
    "undo_stuck": undo_stuck,
}
"""Each breaks something, so each is played alone."""
BRANCHES = (*CALM, *DISTURBING)
STILL_OPEN = frozenset({"confirmed", "shipped", "in_review"})
"""Recorded while the order is on its way."""


def record_histories(out: Path, only: Sequence[str] = ()) -> int:
    """Play the branches (all, or those named) and write one file for each; 0 if all went as they should."""
    console = Console()
    if unknown := set(only) - set(BRANCHES):
        console.print(f"[red]There is no branch {', '.join(sorted(unknown))}; there are {', '.join(BRANCHES)}.")
        return 2
    with tempfile.TemporaryDirectory(prefix="commerce-") as folder:
        recorded = asyncio.run(_record(Path(folder), [name for name in BRANCHES if name in (only or BRANCHES)], console))
    out.mkdir(parents=True, exist_ok=True)
    for name, history in recorded.items():
        (out / f"{name}.json").write_text(history)
    console.print(f"{len(recorded)} histories in {out}")
    return 0


async def _record(folder: Path, names: Sequence[str], console: Console) -> dict[str, str]:
    """The history of each of these branches, as JSON."""
    recorded: dict[str, str] = {}
    console.print("Starting a platform …")
    async with cancelled_by_sigterm(), open_stage(folder, len(BRANCHES), console) as stage:

        async def record(name: str) -> None:
            recorded[name] = await _history(stage, name)
            console.print(f"{name}: played")

        await in_parallel(record, [name for name in names if name in CALM], at_once=3)
        for name in names:
            if name in DISTURBING:
                await record(name)
    return recorded


async def _history(stage: Stage, name: str) -> str:
    handle = stage.saga(await (CALM | DISTURBING)[name](stage))
    is_open = (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    if is_open != (name in STILL_OPEN):
        raise RuntimeError(f"{name}: {handle.id} is {'still' if is_open else 'not'} open")
    history = json.loads((await handle.fetch_history()).to_json())
    return json.dumps(_without_machine(history), indent=1) + "\n"


def _without_machine(part: Any) -> Any:
    """Without stack traces and the names of processes: they tell of the machine, and nothing of the saga."""
    if isinstance(part, dict):
        return {name: _without_machine(value) for name, value in part.items() if name != "stackTrace"}
    if isinstance(part, list):
        return [_without_machine(item) for item in part]
    return PROCESS.sub("recorder", part) if isinstance(part, str) else part

"""The saga's code must be able to go on with every order in flight: each recorded history replays.

`commerce histories record` plays the branches anew, after the saga was changed on purpose: see docs/changing-the-saga.md.
"""

from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from cli.histories import BRANCHES
from temporal.client import data_converter
from tests.replay.edited import PaysFirst, ThinksItOver, ThinksItOverFromNowOn
from worker import SANDBOX, WORKFLOWS

HISTORIES = Path(__file__).parent / "histories"
KEPT: tuple[str, ...] = ()
"""Histories of earlier versions of the saga, whose orders may still be in flight."""
AFTER_PAYMENT = ("confirmed", "delivered", "declined", "cancelled", "undo_stuck")
"""Branches in which stock was reserved and payment asked for."""


def history(name: str) -> WorkflowHistory:
    return WorkflowHistory.from_json(f"order-{name}", (HISTORIES / f"{name}.json").read_text())


def replayer(*workflows: type) -> Replayer:
    """As the worker runs them."""
    return Replayer(workflows=workflows, data_converter=data_converter, workflow_runner=SANDBOX)


def test_every_branch_is_recorded_and_nothing_else() -> None:
    assert {file.stem for file in HISTORIES.glob("*.json")} == {*BRANCHES, *KEPT}


@pytest.mark.parametrize("name", [*BRANCHES, *KEPT])
async def test_a_recorded_history_replays(name: str) -> None:
    recorded = history(name)
    assert len(recorded.events) > 5
    await replayer(*WORKFLOWS).replay_workflow(recorded)


@pytest.mark.parametrize("name", AFTER_PAYMENT)
async def test_a_new_step_that_breaks_orders_in_flight_is_caught(name: str) -> None:
    with pytest.raises(workflow.NondeterminismError):
        await replayer(ThinksItOver).replay_workflow(history(name))


@pytest.mark.parametrize("name", AFTER_PAYMENT)
async def test_two_steps_that_are_swapped_are_caught(name: str) -> None:
    """Before Temporal compares what was done, the recorded reply of the one step does not fit the other."""
    with pytest.raises(RuntimeError, match="validation errors for Payment"):
        await replayer(PaysFirst).replay_workflow(history(name))


@pytest.mark.parametrize("name", BRANCHES)
async def test_a_new_step_for_new_orders_only_breaks_nothing(name: str) -> None:
    await replayer(ThinksItOverFromNowOn).replay_workflow(history(name))

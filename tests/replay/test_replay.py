"""The saga's code must be able to go on with every order in flight: each recorded history replays.

`commerce histories record` plays the branches anew, after the saga was changed on purpose: see docs/changing-the-saga.md.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from cli.histories import BRANCHES
from contracts.orders import OrderStatus
from temporal.client import data_converter
from testing.explorer.explore import play_seed
from tests.replay.edited import PausesFirst, PausesFirstFromNowOn, PaysFirst
from worker import SANDBOX, WORKFLOWS

HISTORIES = Path(__file__).parent / "histories"
KEPT: tuple[str, ...] = ()
"""Histories of earlier versions of the saga, whose orders may still be in flight."""
AFTER_PAYMENT = ("confirmed", "delivered", "declined", "cancelled", "refund_stuck")
"""Branches in which stock was reserved and payment asked for."""
SEEDS = 300
Move = tuple[OrderStatus, OrderStatus]


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


def test_every_move_that_the_explorer_makes_is_in_some_history() -> None:
    """A branch that nobody recorded could be broken by an edit, and nobody would see it."""
    recorded = {move for name in BRANCHES for move in recorded_moves(name)}
    explored = {
        move
        for seed in range(SEEDS)
        for played in [play_seed(seed)]
        for move in moves([advance.path[-1] for advance in played.advances if advance.path])
        if not any("workflow task" in line for line in played.log)  # what a lost task had told is in no history
    }
    assert len(explored) > 10
    assert explored <= recorded


def moves(told: list[OrderStatus]) -> set[Move]:
    """From each status that the record was told to the next."""
    return set(zip([OrderStatus.PENDING, *told], told, strict=False))


def recorded_moves(name: str) -> set[Move]:
    return moves([OrderStatus(reply["status"]) for reply in _replies(json.loads((HISTORIES / f"{name}.json").read_text()))])


def _replies(recorded: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the order's record answered, within tasks and durably."""
    durable = set()
    for event in recorded["events"]:
        if marker := event.get("markerRecordedEventAttributes"):
            if marker.get("markerName") == "core_local_activity" and "failure" not in marker:
                data = _json(marker["details"]["data"])
                if data["activity_type"] == "AdvanceOrder":
                    yield _json(marker["details"]["result"])
        elif scheduled := event.get("activityTaskScheduledEventAttributes"):
            if scheduled["activityType"]["name"] == "AdvanceOrder":
                durable.add(event["eventId"])
        elif (completed := event.get("activityTaskCompletedEventAttributes")) and completed["scheduledEventId"] in durable:
            yield _json(completed["result"])


def _json(payloads: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(payloads["payloads"][0]["data"]))


@pytest.mark.parametrize("name", AFTER_PAYMENT)
async def test_a_new_step_that_breaks_orders_in_flight_is_caught(name: str) -> None:
    with pytest.raises(workflow.NondeterminismError):
        await replayer(PausesFirst).replay_workflow(history(name))


@pytest.mark.parametrize("name", AFTER_PAYMENT)
async def test_two_steps_that_are_swapped_are_caught(name: str) -> None:
    """Before Temporal compares what was done, the recorded reply of the one step does not fit the other."""
    with pytest.raises(RuntimeError, match="validation errors for Payment"):
        await replayer(PaysFirst).replay_workflow(history(name))


@pytest.mark.parametrize("name", [name for name in BRANCHES if "long" not in name and "repaired" not in name])
async def test_a_new_step_for_new_orders_only_breaks_nothing(name: str) -> None:
    await replayer(PausesFirstFromNowOn).replay_workflow(history(name))

"""The saga's code must be able to go on with every order in flight: each recorded history replays, and asks for the same.

`commerce histories record` plays the branches anew, after the saga was changed on purpose: see docs/changing-the-saga.md.
"""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowRunner

from cli.branches import BRANCHES
from cli.histories import history_names
from cli.release.contents import broken
from cli.release.releases import HISTORIES, ROOT, Kept, accepted, is_accepted, kept_histories, releases
from cli.release.replaying import Command, replay
from contracts.orders import OrderStatus
from testing.explorer.adversary import Choices
from testing.explorer.explore import play_order
from worker import SANDBOX

KEPT = list(kept_histories())
OURS = [kept for kept in KEPT if kept.file.parent == ROOT / HISTORIES]
"""Of this tree. Those of releases are replayed by the gate, without the sandbox."""
SEEDS = 120
Move = tuple[OrderStatus, OrderStatus]


def test_every_branch_is_recorded_and_nothing_else() -> None:
    folder = ROOT / HISTORIES
    assert {file.stem for file in folder.glob("*.json")} == history_names()
    assert {file.stem for file in (folder / "local").glob("*.json")} == history_names()


def test_a_release_is_kept_with_all_that_a_change_is_compared_with() -> None:
    assert releases()
    for release in releases():
        assert release.worker.exists()
        assert release.document("surface")["facts"]["workflows"]
        assert list((release.folder / "histories").glob("*.json"))


@pytest.mark.parametrize("kept", OURS, ids=lambda kept: kept.name)
async def test_a_recorded_history_replays(kept: Kept) -> None:
    assert len(kept.history.events) > 5
    assert await said_of(kept, SANDBOX) == []


async def said_of(kept: Kept, runner: WorkflowRunner) -> list[str]:
    async def histories() -> AsyncIterator[WorkflowHistory]:
        yield kept.history

    local = [Command("local activity", name, {"argument": argument}) for name, argument in kept.local]
    return [why async for replayed in replay(histories(), runner=runner) for why in broken(replayed, local)]


async def test_what_a_local_activity_is_asked_is_compared(tmp_path: Any) -> None:
    """Another argument of a step that Temporal itself does not compare."""
    kept = next(kept for kept in KEPT if kept.name == "confirmed")
    name, argument = kept.local[1]
    kept = Kept(kept.file)
    kept.local[1] = (name, [argument[0] | {"amount": {"amount": "1.00", "currency": "USD"}}])
    assert await said_of(kept, UnsandboxedWorkflowRunner()) == [
        "local activity ProcessPayment.argument.amount.amount: 23.40, and was 1.00"
    ]


async def test_nothing_breaks_that_nobody_has_accepted() -> None:
    """The whole gate. It measures what histories reach, so it must begin before anything of ours is loaded."""
    gate = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.replay.gate", "--json"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await gate.communicate()
    assert out, errors.decode()
    verdict = json.loads(out)
    assert verdict["findings"] == []
    found = [finding["what"] for finding in verdict["accepted"]]
    assert [change for change in accepted(in_flight=False) if not any(is_accepted(what, [change]) for what in found)] == []


def test_every_move_that_the_explorer_makes_is_in_some_history() -> None:
    """A branch that nobody recorded could be broken by an edit, and nobody would see it."""
    recorded = {move for name in BRANCHES for move in recorded_moves(name)}
    explored = {
        move
        for seed in range(SEEDS)
        for played in [play_order(Choices(seed))]
        for move in moves([advance.path[-1] for advance in played.advances if advance.path])
        if not any("workflow task" in line for line in played.log)  # what a lost task had told is in no history
    }
    assert len(explored) > 10
    assert explored <= recorded


def moves(told: list[OrderStatus]) -> set[Move]:
    """From each status that the record was told to the next, if it is another one."""
    return {(old, new) for old, new in zip([OrderStatus.PENDING, *told], told, strict=False) if old != new}


def recorded_moves(name: str) -> set[Move]:
    return moves(
        [OrderStatus(reply["status"]) for reply in _replies(json.loads((ROOT / HISTORIES / f"{name}.json").read_text()))]
    )


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

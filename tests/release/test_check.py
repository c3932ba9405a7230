"""`commerce release check` on a real server: which orders in flight the tree could not go on with."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from contracts.orders import OrderStatus
from testing.model.world import unavailable
from tests.conftest import eventually
from tests.release.conftest import NEW, OLD, Releases
from tests.replay.edited import PausesFirst
from tests.replay.edits import Edit
from tests.replay.judging import edited

OTHER = "0.8.0"
"""A build with a step that this tree does not have."""


async def checked(releases: Releases, *words: str) -> dict[str, Any]:
    """What it says as JSON."""
    said: dict[str, Any] = json.loads((await releases.run("check", "--json", *words)).stdout)
    return said


async def test_orders_of_every_state_replay_on_the_tree_that_began_them(releases: Releases) -> None:
    async with releases.worker(OLD):
        await releases.promote(OLD)
        held, confirmed, stuck = await releases.held(), await releases.placed(), await releases.placed()
        releases.world.before["RefundPayment"] = [unavailable] * 10_000
        await stuck.handle.signal("cancel", {"reason": "changed my mind"})

        async def is_stuck() -> bool:
            return bool((await stuck.state()).stuck_undos)

        await eventually(is_stuck, what="an undo being stuck")
        await confirmed.report("DISPATCHED")
        await releases.counts(OLD, 3)

        async def is_listed() -> bool:
            (build,) = (await checked(releases))["builds"]
            return {*build["looked_at"]} == {"IN_REVIEW", "SHIPPED", "CANCELLING, undo stuck"}

        await eventually(is_listed, what="the states being listed")
        said = await checked(releases, "--all")
        assert said["good"]
        assert said["release"]
        assert [(build["build"], build["in_flight"], build["broken"]) for build in said["builds"]] == [(OLD, 3, [])]
        assert f"Build {OLD}: 3 in flight, 0 would break." in await releases.done("check", "--all")
        releases.world.before.clear()
        assert (await held.state()).status == OrderStatus.IN_REVIEW


async def test_orders_that_the_tree_could_not_go_on_with_are_named(releases: Releases) -> None:
    async with releases.worker(NEW), releases.worker(OTHER, PausesFirst):
        await releases.promote(NEW)
        await releases.placed()
        await releases.promote(OTHER)
        broken = [await releases.placed(needs_review=needs_review) for needs_review in (True, False)]
        await releases.counts(NEW, 1)
        await releases.counts(OTHER, 2)
        said = await checked(releases)
        builds = {build["build"]: build for build in said["builds"]}
        assert not said["good"]
        assert builds[NEW]["broken"] == []
        assert {order["order"] for order in builds[OTHER]["broken"]} == {str(saga.order.order_id) for saga in broken}
        shown = await releases.run("check", "--sample", "1")
        assert shown.exit_code == 1
        assert f"Build {OTHER}: 2 in flight (2 looked at), 2 would break, these:" in shown.output
        assert f"{broken[0].order.order_id}  IN_REVIEW: " in shown.output
        judged = {build: row["could_be_taken"] for build, row in (await releases.status("--candidate")).items()}
        assert {build: (len(it["broken"]), sum(it["looked_at"].values())) for build, it in judged.items()} == {
            NEW: (0, 1),
            OTHER: (2, 2),
        }
        table = (await releases.run("status", "--candidate")).stdout.splitlines()
        assert table[0].rstrip().endswith("THIS TREE COULD TAKE")
        assert next(line for line in table if line.startswith(f"{OTHER} ")).rstrip().endswith("0 of 2 looked at")


async def test_payloads_that_an_edited_tree_cannot_read(releases: Releases, tmp_path: Path) -> None:
    edit = Edit(
        "a reply has a field that older services did not write",
        "contracts/payments.py",
        "    provider_id: str | None = None\n",
        "    provider_id: str | None = None\n    method: str\n",
    )
    tree = tmp_path / "tree"
    tree.mkdir()
    edited(tree, [edit])
    async with releases.worker(OLD):
        await releases.promote(OLD)
        saga = await releases.held()
        await releases.counts(OLD, 1)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "release", "check", "--json"),
            cwd=tree,
            env={
                **os.environ,
                "PYTHONPATH": str(tree),
                "PYTHONSAFEPATH": "1",
                "TEMPORAL_ADDRESS": releases.address,
                "HISTORIES_IN_CLEAR": "true",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        said = json.loads(out)
        assert process.returncode == 1
        assert "activity ProcessPayment result.method: is required, and is new" in said["promises"]
        ((order,),) = [build["broken"] for build in said["builds"]]
        assert order["order"] == str(saga.order.order_id)
        assert "activity ProcessPayment result.method: Field required" in order["why"]
        assert "Traceback" not in errors.decode()
        assert "WARN" not in errors.decode()
        assert "Field required" in order["why"][0]
        assert "input_value" not in order["why"][0], "what an order holds is not told"

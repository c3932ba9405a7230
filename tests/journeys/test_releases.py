"""A build of an edited tree beside the platform's own: some of the new orders go to it, and none after a rollback."""

import asyncio
import os
import sys
from pathlib import Path

from contracts.orders import OrderStatus
from embedded.builds import CODE
from embedded.platform import ROOT
from testing.edited_tree import NEW_STEP, edited_tree
from testing.stage import Stage

CANDIDATE = "candidate"


async def commerce(stage: Stage, *words: str) -> str:
    """What `commerce release …` says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "release", *words),
        cwd=ROOT,
        env={**os.environ, "TEMPORAL_ADDRESS": stage.platform.env["TEMPORAL_ADDRESS"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def build_of(stage: Stage, order_id: str) -> str:
    described = await stage.saga(order_id).describe()
    return described.raw_description.workflow_execution_info.versioning_info.deployment_version.build_id


async def test_a_candidate_gets_orders_until_it_is_rolled_back_and_keeps_those(stage: Stage, tmp_path: Path) -> None:
    own, platform = stage.platform.build_id, stage.platform
    code = edited_tree(tmp_path / "candidate", NEW_STEP, packages=CODE)
    part = await platform.start_worker(code, CANDIDATE)
    assert platform.supervisor.is_ready(part)
    assert await build_of(stage, await stage.placed()) == own

    await commerce(stage, "ramp", "100", CANDIDATE)
    order = await stage.placed()
    await stage.tells(order, "Confirmed by the edited build")
    assert await build_of(stage, order) == CANDIDATE
    assert f"New orders go to build {own}, and none to build {CANDIDATE}." in await commerce(stage, "rollback", "--yes")
    assert await build_of(stage, await stage.placed()) == own

    await platform.stop_worker(CANDIDATE)
    assert part not in platform.supervisor.pids()
    await platform.start_worker(code, CANDIDATE)
    assert (await stage.shop.cancel(stage.shop.support, order)).status == 200
    await stage.shop.reaches(order, OrderStatus.CANCELLED)
    await stage.ended(order)
    assert "its workers may stop" in await commerce(stage, "drain", CANDIDATE)
    await platform.stop_worker(CANDIDATE)

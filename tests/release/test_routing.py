"""Which build gets new orders, and that an order stays with the one that started it."""

import asyncio
import os
import sysconfig

import pytest

from contracts.orders import OrderStatus
from embedded import temporal as embedded_temporal
from tests.conftest import eventually
from tests.release.conftest import NEW, OLD, Releases, approve, build_of


async def temporal(releases: Releases, *words: str) -> str:
    """What the `temporal` command says."""
    program = os.path.join(sysconfig.get_path("scripts"), "temporal")
    process = await asyncio.create_subprocess_exec(
        *(program, *words, "--address", releases.address), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_new_orders_go_to_the_promoted_build_and_others_stay_with_theirs(releases: Releases) -> None:
    async with releases.worker(OLD):
        assert f"New orders go to build {OLD}." in await releases.promote(OLD)
        assert f"New orders go to build {OLD} already." in await releases.promote(OLD)
        first = await releases.held()
        async with releases.worker(NEW):
            second = await releases.held()
            assert await build_of(second) == OLD, "a build that nobody promoted gets nothing"
            await releases.counts(OLD, 2)
            said = await releases.promote(NEW)
            assert f"In flight with build {OLD}: 2 orders." in said

            third = await releases.held()
            assert (await approve(first)).status in (OrderStatus.IN_REVIEW, OrderStatus.PAID, OrderStatus.CONFIRMED)
            assert [await build_of(saga) for saga in (first, second, third)] == [OLD, OLD, NEW]

            await releases.counts(NEW, 1)

            async def is_confirmed() -> bool:
                return bool((await releases.status())[OLD]["by_status"] == {"IN_REVIEW": 1, "CONFIRMED": 1})

            await eventually(is_confirmed, what="the approved order's state in the list")
            shown = await releases.done("status", "--orders", 5)
            assert "an operator to approve or reject" in shown
            assert "the carrier to pick the parcel up" in shown
            assert str(first.order.order_id) in shown
            status = await releases.status()
            assert [(status[build]["gets"], status[build]["workers"]) for build in (OLD, NEW)] == [
                ("draining", 1),
                ("current", 1),
            ]
            described = await temporal(releases, "worker", "deployment", "describe", "--name", "orders")
            assert OLD in described
            assert NEW in described


async def test_orders_from_before_there_were_builds_go_on_with_the_first_one(releases: Releases) -> None:
    async with releases.worker_without_a_build():
        saga = await releases.held()
    async with releases.worker(NEW):
        await releases.counts(None, 1)
        assert "(none)" in await releases.done("status")
        await releases.promote(NEW)
        await approve(saga)

        async def is_confirmed() -> bool:
            return (await saga.state()).status == OrderStatus.CONFIRMED

        await eventually(is_confirmed, what="the approved order being confirmed")
        assert await build_of(saga) == NEW
        await releases.counts(NEW, 1)


async def test_a_share_of_the_new_orders_can_go_to_a_build_and_back(releases: Releases) -> None:
    async with releases.worker(OLD), releases.worker(NEW):
        refused = await releases.run("ramp", 50, NEW)
        assert (refused.exit_code, "Promote one first" in refused.output) == (1, True)
        await releases.promote(OLD)
        assert f"100 % of the new orders go to build {NEW}." in await releases.done("ramp", 100, NEW)
        assert (await releases.status())[NEW]["percent"] == 100
        ramped = await releases.held()
        assert await build_of(ramped) == NEW
        assert f"12.5 % of the new orders go to build {NEW}, the others to build {OLD}" in await releases.done("ramp", 12.5, NEW)
        assert "ramping 12.5 %" in await releases.done("status")

        await releases.counts(NEW, 1)
        asked = await releases.run("rollback")
        assert asked.exit_code == 1
        assert f"1 order in flight is pinned to build {NEW}." in asked.output
        assert "Nothing has been changed" in asked.output
        assert (await releases.status())[NEW]["gets"] == "ramping"
        await releases.done("rollback", "--yes")
        assert (await releases.status())[NEW]["gets"] == "draining"
        assert await build_of(await releases.held()) == OLD
        assert await build_of(ramped) == NEW
        assert "No build is ramping" in await releases.done("ramp", 0)
        again = await releases.run("ramp", 10, OLD)
        assert (again.exit_code, "is the current one" in again.output) == (1, True)


async def test_a_rollback_says_what_it_does_not_do_and_moves_nothing(releases: Releases) -> None:
    async with releases.worker(OLD):
        await releases.promote(OLD)
        nothing = await releases.run("rollback")
        assert (nothing.exit_code, "No build was the current one before" in nothing.output) == (1, True)
        async with releases.worker(NEW):
            await releases.promote(NEW)
            newer = await releases.held()
            await releases.counts(NEW, 1)
            asked = await releases.run("rollback")
            assert asked.exit_code == 1
            assert f"New orders would go to build {OLD}, and none to build {NEW}." in asked.output
            assert f"pinned to build {NEW}" in asked.output
            assert "No order is moved" in asked.output
            assert (await releases.status())[NEW]["gets"] == "current"

            await releases.done("rollback", "--yes")
            assert await build_of(await releases.held()) == OLD
            await approve(newer)
            assert await build_of(newer) == NEW
            assert (await releases.status())[OLD]["gets"] == "current"


@pytest.fixture
def forgets_workers_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has not polled for ten seconds is gone, instead of 65. One that idles seems gone for up to a minute, too."""
    monkeypatch.setitem(embedded_temporal.DYNAMIC_CONFIG, "matching.PollerHistoryTTL", '"10s"')


@pytest.mark.usefixtures("forgets_workers_soon")
async def test_a_build_may_go_when_its_last_order_has_ended(releases: Releases) -> None:
    async with releases.worker(NEW):
        async with releases.worker(OLD):
            await releases.promote(OLD)
            saga = await releases.placed()
            await releases.counts(OLD, 1)
            busy = await releases.run("drain", OLD)
            assert (busy.exit_code, "gets new orders" in busy.output) == (1, True)
            await releases.promote(NEW)
            waiting = await releases.run("drain", OLD, "--wait", 0)
            assert waiting.exit_code == 1
            assert f"1 order of build {OLD} in flight" in waiting.output
            assert "its workers must go on" in waiting.output

            draining = asyncio.create_task(releases.run("drain"))
            await saga.deliver()
            drained = await draining
            assert drained.exit_code == 0, drained.output
            assert f"No order of build {OLD} is in flight: its workers may stop." in drained.output
            assert (await releases.status())[OLD]["gets"] == "drained"
        deleted = await releases.done("drain", OLD, "--delete")
        assert f"Temporal has forgotten build {OLD}." in deleted
        assert set(await releases.status()) == {NEW}


async def test_what_cannot_be_done_is_said(releases: Releases) -> None:
    assert "No worker of the deployment orders has asked for work yet." in await releases.done("status")
    unknown = await releases.run("promote", "7.7.7")
    assert (unknown.exit_code, "No build 7.7.7 is known" in unknown.output) == (1, True)
    assert (await releases.run("rollback", "--yes")).exit_code == 1
    assert (await releases.run("drain", "7.7.7")).exit_code == 1
    away = await releases.commerce({"TEMPORAL_ADDRESS": "127.0.0.1:1"}, "release", "status")
    assert (away.exit_code, "Temporal" in away.output) == (2, True)

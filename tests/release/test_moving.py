"""Orders that are moved to another build, or taken back to an earlier point of their history, on purpose."""

import re
from uuid import uuid4

from contracts.orders import OrderStatus
from testing.sagas import Saga, assert_settled
from tests.conftest import eventually
from tests.release.conftest import NEW, OLD, Releases, approve, build_of
from tests.replay.edited import PausesFirst

OTHER = "0.8.0"
"""A build with a step that this tree does not have."""


async def reaches(saga: Saga, status: OrderStatus) -> None:
    async def is_there() -> bool:
        return (await saga.state()).status == status

    await eventually(is_there, what=f"the order being {status}")


async def test_an_order_is_moved_to_a_build_that_can_go_on_with_it(releases: Releases) -> None:
    async with releases.worker(NEW):
        async with releases.worker(OLD):
            await releases.promote(OLD)
            saga, other = await releases.held(), await releases.held()
            order, left = saga.order.order_id, other.order.order_id
            unserved = await releases.run("move", order, "--to", "7.7.7")
            assert (unserved.exit_code, "No build 7.7.7 is known" in unserved.output) == (1, True)
            both = await releases.run("move", order, "--to", NEW, "--auto-upgrade")
            assert (both.exit_code, "either" in both.output) == (1, True)

            said = await releases.done("move", order, "--to", NEW)
            assert f"{order}: goes on with build {NEW} instead of {OLD} from its next task on." in said
            assert "1 of 1 moved." in said
            assert "is with build" in await releases.done("move", order, "--to", NEW)
            await releases.counts(NEW, 1)
            await releases.counts(OLD, 1)
            await releases.promote(NEW)
            await releases.done("move", left, "--auto-upgrade")
        # Only the newer build is left.
        for moved in (saga, other):
            await approve(moved)
            await reaches(moved, OrderStatus.CONFIRMED)
            assert await build_of(moved) == NEW
            await moved.deliver()
            assert_settled(releases.world, moved.order)
        ended = await releases.run("move", order, "--to", NEW)
        assert (ended.exit_code, "has ended" in ended.output) == (1, True)
        lost = await releases.run("move", uuid4(), "--to", NEW)
        assert (lost.exit_code, "0 of 1 moved." in lost.output) == (1, True)


async def test_an_order_that_the_build_cannot_go_on_with_stays_where_it_is(releases: Releases) -> None:
    async with releases.worker(NEW), releases.worker(OTHER, PausesFirst):
        await releases.promote(OTHER)
        saga = await releases.held()
        refused = await releases.run("move", saga.order.order_id, "--to", NEW)
        assert refused.exit_code == 1
        assert f"Build {NEW} cannot go on with it" in refused.output
        assert await build_of(saga) == OTHER
        await approve(saga)
        await reaches(saga, OrderStatus.CONFIRMED)
        assert await build_of(saga) == OTHER


async def test_whether_another_trees_build_can_go_on_with_an_order_is_not_guessed(releases: Releases) -> None:
    async with releases.worker(OLD), releases.worker(NEW):
        await releases.promote(NEW)
        saga = await releases.held()
        unknown = await releases.run("move", saga.order.order_id, "--to", OLD)
        assert unknown.exit_code == 1
        assert f"This tree is build {NEW}" in unknown.output
        await releases.done("move", saga.order.order_id, "--to", OLD, "--unchecked")
        await approve(saga)
        await reaches(saga, OrderStatus.CONFIRMED)
        assert await build_of(saga) == OLD


async def test_an_order_of_a_build_that_is_gone_is_moved_with_its_waiting_task(releases: Releases) -> None:
    async with releases.worker(NEW):
        async with releases.worker(OLD):
            await releases.promote(OLD)
            saga = await releases.held()
        await saga.handle.signal("approve", {"by": "ann", "reason": "a known customer"})  # nobody is there to take it
        await releases.done("move", saga.order.order_id, "--to", NEW)
        await reaches(saga, OrderStatus.CONFIRMED)
        assert await build_of(saga) == NEW


async def test_a_reset_says_what_is_kept_and_lost_and_goes_on_from_there(releases: Releases) -> None:
    async with releases.worker(NEW):
        await releases.promote(NEW)
        saga = await releases.held()
        # Refused, for nobody may decide about their own order; a signal all the same.
        await saga.handle.signal("reject", {"by": str(saga.order.customer_id), "reason": "mine"})
        await approve(saga)
        await reaches(saga, OrderStatus.CONFIRMED)
        order, why = saga.order.order_id, ("--reason", "the confirmation was wrong")
        first = (await saga.handle.describe()).run_id

        listed = await releases.run("reset", order, *why)
        assert listed.exit_code == 1
        points = [int(found) for found in re.findall(r"^(\d+) ", listed.output, re.MULTILINE)]
        assert len(points) >= 2
        assert "CapturePayment" in listed.output

        wrong = await releases.run("reset", order, "--to", points[0] + 1, *why)
        assert (wrong.exit_code, "There are:" in wrong.output) == (1, True)
        asked = await releases.run("reset", order, "--to", points[0], *why)
        assert asked.exit_code == 1
        assert f"Kept: the {points[0] - 1} events before it." in asked.output
        assert "CapturePayment" in asked.output
        assert "signal reject" in asked.output
        assert "update approve" in asked.output
        assert "Nothing has been changed" in asked.output
        assert (await saga.handle.describe()).run_id == first

        await releases.done("reset", order, "--to", points[0], "--yes", *why)
        assert (await saga.handle.describe()).run_id != first
        await reaches(saga, OrderStatus.IN_REVIEW)  # although its money is taken: whoever approved it did so in what is lost
        await approve(saga)
        await reaches(saga, OrderStatus.CONFIRMED)
        assert await build_of(saga) == NEW
        await saga.deliver()
        assert_settled(releases.world, saga.order)


async def test_an_order_is_reset_on_to_the_build_that_mends_it(releases: Releases) -> None:
    async with releases.worker(NEW), releases.worker(OTHER, PausesFirst):
        await releases.promote(OTHER)
        saga = await releases.held()
        order, why = saga.order.order_id, ("--reason", "the pause is a mistake")
        listed = await releases.run("reset", order, *why)
        points = [int(found) for found in re.findall(r"^(\d+) ", listed.output, re.MULTILINE)]
        cannot = await releases.run("reset", order, "--to", points[-1], "--on", NEW, "--yes", *why)
        assert (cannot.exit_code, "cannot go on with it" in cannot.output) == (1, True)
        await releases.done("reset", order, "--to", points[0], "--on", NEW, "--yes", *why)
        await reaches(saga, OrderStatus.IN_REVIEW)
        assert await build_of(saga) == NEW
        await approve(saga)
        await reaches(saga, OrderStatus.CONFIRMED)

"""Builds that take over each other's runs: what a patch answers, and which build may replay whose history, is as Temporal's core
has it (sdk-core, patch_state_machine.rs)."""

import pytest
from temporalio import workflow
from temporalio.converter import decode_search_attributes

from testing.explorer.clock import Clock
from testing.explorer.engine import CHANGE_VERSION, Broken, Chaos, Engine, Fate
from testing.explorer.executions import PAYLOADS, Execution, Worker

PATCH = "shorter-wait"


class _Build:
    """A wait that a patch made shorter, between two signals."""

    def __init__(self) -> None:
        self.signals = 0

    async def wait_for_signal(self, number: int) -> None:
        await workflow.wait_condition(lambda: self.signals >= number)

    async def wait(self, seconds: int) -> str:
        await self.wait_for_signal(1)
        return await self.sleep(seconds)

    async def sleep(self, seconds: int) -> str:
        await workflow.sleep(seconds)
        await self.wait_for_signal(2)
        return f"{seconds} s"


@workflow.defn(name="Waits")
class Before(_Build):
    @workflow.run
    async def run(self, argument: str) -> str:
        return await self.wait(60)

    @workflow.signal
    def go_on(self, argument: str) -> None:
        self.signals += 1


@workflow.defn(name="Waits")
class Patched(_Build):
    @workflow.run
    async def run(self, argument: str) -> str:
        await self.wait_for_signal(1)
        return await self.sleep(30 if workflow.patched(PATCH) else 60)

    @workflow.signal
    def go_on(self, argument: str) -> None:
        self.signals += 1


@workflow.defn(name="Waits")
class Deprecating(_Build):
    @workflow.run
    async def run(self, argument: str) -> str:
        await self.wait_for_signal(1)
        workflow.deprecate_patch(PATCH)
        return await self.sleep(30)

    @workflow.signal
    def go_on(self, argument: str) -> None:
        self.signals += 1


@workflow.defn(name="Waits")
class After(_Build):
    @workflow.run
    async def run(self, argument: str) -> str:
        return await self.wait(30)

    @workflow.signal
    def go_on(self, argument: str) -> None:
        self.signals += 1


class Lucky(Chaos):
    """Nothing goes wrong, unless a task is to be lost."""

    def __init__(self, *lost: int) -> None:
        self.lost = lost

    def fate_of_task(self, number: int) -> Fate | None:
        return Fate(None) if number in self.lost else None

    def evict_before_task(self, number: int) -> bool:
        return False

    def suggest_continue_as_new(self, number: int) -> bool:
        return False

    def call(self, execution: Execution, limit_s: float) -> None:
        raise AssertionError("there are no activities")


class Waiting:
    """A run that begins in one build."""

    def __init__(self, build: type, *lost: int) -> None:
        self.clock = Clock()
        self.engine = Engine(self.clock, Worker([]), Lucky(*lost), build, "waiting", lambda line: None)
        self.engine.start("")
        self.settle()

    def settle(self) -> None:
        while self.clock.next():
            pass

    def go_on(self) -> None:
        assert self.engine.signal("go_on", "")
        self.settle()

    def result(self) -> str:
        """How it ends, in the build that there is now."""
        self.go_on()
        self.engine.replay()
        assert self.engine.result is not None
        return str(PAYLOADS.from_payload(self.engine.result, str))

    @property
    def patches(self) -> object:
        return decode_search_attributes(self.engine.search_attributes).get(CHANGE_VERSION)


@pytest.mark.parametrize("lost", [(), (2,), (2, 3)])
def test_what_is_not_replayed_is_patched_and_stays_so(lost: tuple[int, ...]) -> None:
    run = Waiting(Patched, *lost)
    run.go_on()
    assert run.patches == [PATCH]
    run.engine.kill_worker()
    assert run.result() == "30 s"


def test_a_run_that_came_further_before_the_patch_is_not_patched() -> None:
    run = Waiting(Before)
    run.go_on()
    run.engine.deploy(Patched)
    assert (run.result(), run.patches) == ("60 s", None)


def test_a_run_that_has_not_come_to_the_patch_gets_it() -> None:
    run = Waiting(Before)
    run.engine.deploy(Patched)
    run.go_on()
    run.engine.kill_worker()
    assert (run.result(), run.patches) == ("30 s", [PATCH])


@pytest.mark.parametrize(
    ("begun_by", "ended_by"),
    [(Patched, Deprecating), (Deprecating, Patched), (Deprecating, After), (After, Deprecating)],
)
def test_a_build_beside_it_goes_on_with_its_runs(begun_by: type, ended_by: type) -> None:
    run = Waiting(begun_by)
    run.go_on()
    run.engine.deploy(ended_by)
    assert run.result() == "30 s"


@pytest.mark.parametrize(
    ("begun_by", "ended_by"),
    [
        pytest.param(Patched, Before, id="the patch is unknown to the earlier build"),
        pytest.param(Patched, After, id="the patch was removed too early"),
        pytest.param(Before, Deprecating, id="a run of before is still under way"),
        pytest.param(Before, After, id="no patch at all"),
    ],
)
def test_a_build_that_is_too_far_away_does_not(begun_by: type, ended_by: type) -> None:
    run = Waiting(begun_by)
    run.go_on()
    run.engine.deploy(ended_by)
    with pytest.raises(Broken, match="does not replay"):
        run.go_on()

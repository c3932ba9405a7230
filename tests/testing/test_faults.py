"""The plan of faults is the same for the same seed, has every kind, and a stopped process stands still with its children."""

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from embedded import clock
from embedded.supervisor import ProcessSpec, Supervisor
from testing.faults import COMPANY_FAULTS, DECK, LASTING, LINKS, Fault, Kind, plan, stopped
from tests.conftest import PATIENCE_S
from tests.embedded.waiting import until

PARTS = ("postgres", "temporal", "kafka", "valkey", "gateway", "edge", "worker", "order-api", "order-relay", "payment", "carrier")


def test_a_seed_repeats_its_plan() -> None:
    assert plan(7, 100, PARTS, clocks=True) == plan(7, 100, tuple(reversed(PARTS)), clocks=True)
    assert plan(7, 100, PARTS, clocks=True) != plan(8, 100, PARTS, clocks=True)


@pytest.mark.parametrize("seed", range(20))
def test_the_short_mix_has_every_kind_and_a_pair(seed: int) -> None:
    moments = plan(seed, sum(DECK.values()), PARTS, longest_s=4, clocks=True)
    alone = [moment.faults[0].kind for moment in moments if len(moment.faults) == 1]
    assert Counter(alone) == {kind: times for kind, times in DECK.items() if kind}
    pairs = [moment.faults for moment in moments if len(moment.faults) == 2]
    assert len(pairs) == DECK[None]
    assert all(one.target != other.target for one, other in pairs)


def test_what_lasts_lasts_from_one_second_to_the_longest() -> None:
    faults = [fault for moment in plan(1, 500, PARTS, longest_s=60, clocks=True) for fault in moment.faults]
    lasting = [fault.seconds for fault in faults if fault.kind in LASTING]
    assert min(lasting) >= 1
    assert 30 < max(lasting) <= 60
    assert all(fault.seconds == 0 for fault in faults if fault.kind not in LASTING)


def test_each_part_link_and_company_has_its_turn() -> None:
    faults = [fault for moment in plan(3, 300, PARTS, clocks=True) for fault in moment.faults]

    def targets(kind: Kind) -> set[str]:
        return {fault.target for fault in faults if fault.kind == kind}

    assert targets(Kind.KILL) == targets(Kind.HANG) == targets(Kind.RESTART) | {"postgres"} == set(PARTS)
    assert targets(Kind.SILENT) | targets(Kind.SLOW) | targets(Kind.RESET) == set(LINKS)
    assert targets(Kind.FAST_STOP) == targets(Kind.CRASH_STOP) == {"postgres"}
    assert targets(Kind.CLOCK) <= {"edge", "worker", "order-api", "order-relay", "payment", "carrier"}
    switched = [dict(fault.switches or {}) for fault in faults if fault.kind == Kind.COMPANY]
    assert all(dict(switches) in switched for company in COMPANY_FAULTS.values() for switches in company)


def test_without_libfaketime_no_clock_goes_wrong() -> None:
    assert not any(fault.kind == Kind.CLOCK for moment in plan(1, 200, PARTS, clocks=False) for fault in moment.faults)


def test_a_fault_says_what_it_is() -> None:
    assert str(Fault(Kind.HANG, "worker", 12.34)) == "hang of worker for 12.3 s"
    assert str(Fault(Kind.COMPANY, "carrier", 2, switches={"down": True})) == "fault of carrier (down) for 2.0 s"
    assert str(Fault(Kind.KILL, "order-api")) == "kill -9 of order-api"


async def test_a_stopped_process_stands_still_with_its_children_and_goes_on(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, [ProcessSpec(name="part", argv=("sh", "-c", "sleep 600 & wait"))]) as supervisor:
        root = psutil.Process(supervisor.pid("part"))
        await until(lambda: len(root.children()) == 1)
        tree = [root, *root.children()]
        with stopped(root.pid):
            await until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in tree))
        await until(lambda: all(process.status() != psutil.STATUS_STOPPED for process in tree))


@pytest.mark.skipif(clock.library() is None, reason="libfaketime is not installed")
async def test_a_clock_goes_wrong_by_its_file_and_right_again(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    tell = "import time\nwhile True: print(round(time.time() - %f), flush=True); time.sleep(0.1)"
    environment = clock.environment(file)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", tell % time.time()), env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        for ahead in (1000, -1000, 0):
            clock.set_ahead(file, ahead)
            async with asyncio.timeout(PATIENCE_S):
                while abs(int(await process.stdout.readline()) - ahead) > 100:
                    pass
    finally:
        process.kill()
        await process.wait()

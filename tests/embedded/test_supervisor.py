"""The supervisor with small processes: order, restarts, and nobody left behind."""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from embedded.supervisor import PartFailed, ProcessSpec, Supervisor
from tests.embedded.waiting import alive, until

SLEEPER = ("sleep", "600")


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, [ProcessSpec(name="part", argv=SLEEPER)]) as supervisor:
        first = supervisor.pid("part")
        await supervisor.kill("part")
        assert not alive(first)
        await supervisor.wait_ready("part")
        assert supervisor.pid("part") != first
        assert supervisor.restarts("part") == 1


async def test_a_process_that_keeps_ending_is_restarted_for_ever_and_more_slowly(tmp_path: Path) -> None:
    spec = ProcessSpec(name="part", argv=("sh", "-c", "echo started; exit 3"))
    log = tmp_path / "part.log"
    async with Supervisor(tmp_path, [spec]) as supervisor:
        began = asyncio.get_running_loop().time()
        await until(lambda: log.read_text().count("started") >= 5)
        assert supervisor.restarts("part") >= 4
        assert asyncio.get_running_loop().time() - began > 0.05 + 0.1 + 0.2


async def test_what_dies_at_its_start_is_named_with_its_log_and_the_others_are_stopped(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    broken = ProcessSpec(name="broken", argv=python("import sys; sys.exit('no such setting')"), ready=never)
    supervisor = Supervisor(tmp_path, [ProcessSpec(name="part", argv=SLEEPER), broken])
    with pytest.raises(PartFailed, match=r"(?s)broken ended at its start \(exit code 1\).*no such setting"):
        await supervisor.start_all()
    assert supervisor.pids() == {}


async def test_what_is_not_ready_in_time_is_named_with_its_log_and_killed(tmp_path: Path) -> None:
    async def never() -> bool:
        raise ConnectionRefusedError

    spec = ProcessSpec(name="slow", argv=("sh", "-c", "echo still loading; exec sleep 600"), ready=never, ready_timeout_s=0.3)
    supervisor = Supervisor(tmp_path, [spec])
    with pytest.raises(PartFailed, match=r"(?s)slow not ready within 0.3 s.*still loading"):
        await supervisor.start("slow")
    assert supervisor.pids() == {}


async def test_parts_start_after_those_they_need_and_a_step_must_succeed_first(tmp_path: Path) -> None:
    done = tmp_path / "migrated"
    migrate = ProcessSpec(name="migrate", argv=("touch", str(done)), once=True)
    service = ProcessSpec(name="service", argv=("sh", "-c", f"test -e {done} && exec sleep 600"), start_after=("migrate",))
    async with Supervisor(tmp_path / "logs", [service, migrate]) as supervisor:
        assert supervisor.names() == ("migrate", "service")
        assert list(supervisor.pids()) == ["service"]
        assert supervisor.restarts("service") == 0


async def test_a_failed_step_stops_the_start(tmp_path: Path) -> None:
    step = ProcessSpec(name="migrate", argv=("sh", "-c", "echo no database; exit 2"), once=True)
    service = ProcessSpec(name="service", argv=SLEEPER, start_after=("migrate",))
    supervisor = Supervisor(tmp_path, [step, service])
    with pytest.raises(PartFailed, match=r"(?s)migrate ended .*no database"):
        await supervisor.start_all()
    assert not (tmp_path / "service.log").exists()


async def test_a_stopped_part_stays_down_until_it_is_started(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, [ProcessSpec(name="part", argv=SLEEPER)]) as supervisor:
        await supervisor.stop("part")
        with pytest.raises(LookupError):
            supervisor.pid("part")
        assert not supervisor.is_ready("part")
        await supervisor.start("part")
        assert supervisor.is_ready("part")
        assert supervisor.restarts("part") == 0


async def test_who_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = python(
        "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN); subprocess.run(['sleep', '600'])"
    )
    async with Supervisor(tmp_path, [ProcessSpec(name="part", argv=stubborn, grace_s=0.2)]) as supervisor:
        process = psutil.Process(supervisor.pid("part"))
        await until(lambda: len(process.children()) == 1)
        tree = [process.pid, process.children()[0].pid]
        await supervisor.stop("part")
        await until(lambda: not any(alive(pid) for pid in tree))


async def test_children_that_a_stopped_part_leaves_behind_are_killed(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, [ProcessSpec(name="part", argv=("sh", "-c", "sleep 600 & wait"))]) as supervisor:
        process = psutil.Process(supervisor.pid("part"))
        await until(lambda: len(process.children()) == 1)
        child = process.children()[0].pid
        await supervisor.stop("part")
        await until(lambda: not alive(child))


async def test_a_part_that_depends_on_another_stops_first(tmp_path: Path) -> None:
    goodbye = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); print('up', flush=True); "
    ended = tmp_path / "ended"
    code = f"{goodbye}\ntry: time.sleep(600)\nfinally: open({str(ended)!r}, 'a').write(sys.argv[1] + ' ')"
    specs = []
    for name, needs in (("database", ()), ("service", ("database",))):
        log = tmp_path / f"{name}.log"

        async def up(log: Path = log) -> bool:
            return "up" in log.read_text()  # noqa: ASYNC240 - a small local file

        specs.append(ProcessSpec(name=name, argv=(*python(code), name), ready=up, start_after=needs))
    async with Supervisor(tmp_path, specs):
        pass
    assert ended.read_text() == "service database "


async def test_usage_counts_memory_and_cpu_of_the_whole_tree(tmp_path: Path) -> None:
    busy = ("sh", "-c", f"{sys.executable} -c 'x = bytearray(50_000_000)\nwhile True: pass' & wait")
    async with Supervisor(tmp_path, [ProcessSpec(name="part", argv=busy)]) as supervisor:
        await until(lambda: supervisor.usage()["part"].memory_mb > 45 and supervisor.usage()["part"].cpu_s > 0.05)


def names_of(processes: list[psutil.Process]) -> set[str]:
    """Without those that have ended meanwhile, as PostgreSQL's workers do at any time."""
    names = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            names.add(process.name())
    return names


PARENT = """
import asyncio, os, sys
from pathlib import Path
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from embedded.supervisor import ProcessSpec, Supervisor, cancelled_by_sigterm

async def main(data: Path) -> None:
    server = PostgresServer(data / "postgres", free_port(), ())
    async with cancelled_by_sigterm():
        async with Supervisor(data, [server.spec(), ProcessSpec(name="part", argv=("sleep", "600"))]):
            print("up", flush=True)
            await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
async def test_no_process_outlives_its_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(
        *python(PARENT), str(tmp_path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"up\n"
    tree = psutil.Process(parent.pid).children(recursive=True)
    assert names_of(tree) == {"postgres", "sleep"}
    parent.send_signal(number)
    await parent.wait()
    await until(lambda: not any(alive(process.pid) for process in tree))

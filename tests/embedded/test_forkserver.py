"""Processes that one process becomes by forking: they are like those that an interpreter starts anew, and die with it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from embedded.forkserver import ForkedProcess, ForkServer
from tests.embedded.waiting import alive, until

MODULE = "tests.embedded.forked"


@pytest_asyncio.fixture
async def forks(tmp_path: Path) -> AsyncIterator[ForkServer]:
    async with ForkServer(tmp_path / "forkserver.log", dict(os.environ)) as forks:
        yield forks


async def start(forks: ForkServer, tmp_path: Path, *arguments: str) -> ForkedProcess:
    env = dict(os.environ) | {"WHO": arguments[0]}
    return await forks.start((MODULE, *arguments), env=env, cwd=tmp_path, output=tmp_path / f"{arguments[0]}.log")


async def told(tmp_path: Path, name: str) -> str:
    log = tmp_path / f"{name}.log"
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    return log.read_text()


async def test_a_module_runs_with_its_arguments_environment_directory_and_output(forks: ForkServer, tmp_path: Path) -> None:
    first, second = await start(forks, tmp_path, "0", "a"), await start(forks, tmp_path, "3")
    assert (await first.wait(), await second.wait()) == (0, 3)
    assert await told(tmp_path, "0") == f"['0', 'a'] 0 {tmp_path} True tests.embedded\n"
    assert await told(tmp_path, "3") == f"['3'] 3 {tmp_path} True tests.embedded\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_ends_it(forks: ForkServer, tmp_path: Path, number: signal.Signals) -> None:
    process = await start(forks, tmp_path, "wait")
    await told(tmp_path, "wait")
    assert process.returncode is None
    process.send_signal(number)
    assert await process.wait() == -number


async def test_it_shares_the_memory_of_what_was_loaded(forks: ForkServer, tmp_path: Path) -> None:
    process = await start(forks, tmp_path, "wait")
    await told(tmp_path, "wait")
    memory = psutil.Process(process.pid).memory_full_info()
    assert memory.uss < memory.rss / 2


async def test_when_the_server_dies_so_do_they_and_the_next_one_has_another(forks: ForkServer, tmp_path: Path) -> None:
    process = await start(forks, tmp_path, "wait")
    await told(tmp_path, "wait")
    os.kill(psutil.Process(process.pid).ppid(), signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    await until(lambda: not alive(process.pid))
    assert await (await start(forks, tmp_path, "0")).wait() == 0


async def test_a_start_that_is_given_up_is_not_taken_for_the_next_one(forks: ForkServer, tmp_path: Path) -> None:
    given_up = asyncio.create_task(start(forks, tmp_path, "wait"))
    await until(lambda: forks.pid is not None)
    given_up.cancel()
    assert await (await start(forks, tmp_path, "3")).wait() == 3
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await told(tmp_path, "3") == f"['3'] 3 {tmp_path} True tests.embedded\n"

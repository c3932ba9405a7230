"""A platform in a child process of ours, so that its supervisor can be killed too: `python -m testing.platform_process`."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from embedded.platform import ROOT, Platform, RunningPlatform, find_running
from embedded.processes import before_exec
from embedded.supervisor import cancelled_by_sigterm

UP = b"up\n"
UNTIL_UP_S = 600.0
"""Its parts have limits of their own; this one only ends a test that would wait for ever."""
UNTIL_GONE_S = 120.0


class PlatformProcess:
    """Runs `Platform(directory, settings=…, split=…)` while its block is entered; `tree` is whose code it starts."""

    def __init__(self, directory: Path, *, settings: Mapping[str, str], split: Sequence[str] = (), tree: Path = ROOT) -> None:
        self.directory = directory
        self.tree = tree
        self._options = json.dumps({"settings": dict(settings), "split": list(split)})
        self._log = directory.with_name(f"{directory.name}.log")
        self._process: Process | None = None

    @property
    def running(self) -> RunningPlatform:
        """Its addresses, and its processes as of now. Raises LookupError while it is down."""
        found = find_running(self.directory)
        if found is None:
            raise LookupError("the platform is not running")
        return found

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Return once everything serves. Raises RuntimeError with the end of its log, TimeoutError."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "testing.platform_process", str(self.directory)),
                cwd=self.tree,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                preexec_fn=before_exec(signal.SIGTERM),
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._options.encode())  # not as an argument: secrets may be in it
        self._process.stdin.close()
        try:
            async with asyncio.timeout(UNTIL_UP_S):
                said = await self._process.stdout.readline()
        except TimeoutError:
            raise TimeoutError(f"waited {UNTIL_UP_S:g} s in vain for the platform to start; see {self._log}") from None
        if said != UP:
            await self._process.wait()
            raise RuntimeError(f"the platform did not start:\n{self._log.read_text(errors='replace')[-4000:]}")

    async def stop(self) -> None:
        """As Ctrl-C does: every part ends in its turn."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """kill -9 of the supervisor. Returns once all its parts have ended by themselves.

        TimeoutError names those that did not."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        await process.wait()
        _, left = await asyncio.to_thread(psutil.wait_procs, children, UNTIL_GONE_S)
        if left:
            raise TimeoutError(f"{UNTIL_GONE_S:g} s after the supervisor these still run: {left}")


async def _run(directory: Path, settings: dict[str, str], split: Sequence[str]) -> None:
    async with cancelled_by_sigterm(), Platform(directory, settings=settings, split=tuple(split)):
        sys.stdout.buffer.write(UP)
        sys.stdout.buffer.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), **json.load(sys.stdin)))

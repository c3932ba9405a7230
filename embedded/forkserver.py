"""A process that has loaded what all of our Python processes load, and becomes each of them by forking.

    async with ForkServer(log_file, env) as forks:
        process = await forks.start(("services.order.app",), env=…, cwd=…, output=file)   # python -m services.order.app

Loading the libraries takes each process a second or two of CPU and some 60 MB; forked from one that has them, a process starts at
once and shares their memory. For a laptop: in a cluster each process has a container of its own.
"""

import asyncio
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from embedded.processes import before_exec, signal_group

PRELOAD = (
    "aiohttp",
    "aiokafka",
    "aiosmtplib",
    "asyncpg",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "jinja2",
    "redis.asyncio",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "temporalio.contrib.pydantic",
    "temporalio.worker",
    # Ours: what every process imports. A service's own modules are left to it, for they register its own metrics.
    "chassis.service",
    "chassis.store",
    "temporal.client",
)
ROOT = Path(__file__).resolve().parent.parent


class ForkedProcess:
    """What `asyncio.subprocess.Process` is, as far as a supervisor needs it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Its exit code; minus the signal's number if one ended it."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Raises ProcessLookupError if it is gone."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def ended(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class ForkServer:
    """One such process, from `start` to `stop`. When it dies, so do those that it became."""

    def __init__(self, log_file: Path, env: Mapping[str, str]) -> None:
        self._log_file, self._env = log_file, env
        self._server: asyncio.subprocess.Process | None = None
        self._orders: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._asked: asyncio.Future[ForkedProcess] | None = None
        self._running: dict[int, ForkedProcess] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self._server.pid if self._server is not None and self._server.returncode is None else None

    async def warm_up(self) -> None:
        """Begin to load, so that the first process finds it done."""
        async with self._starting:
            if self._listening is None or self._listening.done():
                await self._start_server()

    async def start(self, module: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, output: Path) -> ForkedProcess:
        """Run a module with its arguments as `python -m` would, with what it writes at the end of `output`. It leads a process
        group of its own. Raises ConnectionError if the server dies."""
        async with self._starting:  # one answer at a time
            if self._listening is None or self._listening.done():
                await self._start_server()
            assert self._orders is not None
            order = {"module": list(module), "env": dict(env), "cwd": str(cwd or Path.cwd()), "output": str(output)}
            self._asked = asked = asyncio.get_running_loop().create_future()
            self._orders.write(_line(order))
            try:
                return await asyncio.shield(asked)
            except asyncio.CancelledError:
                # The answer is still to come, and must not be taken for that to the next order.
                with contextlib.suppress(ConnectionError):
                    signal_group((await asked).pid, signal.SIGKILL)
                raise

    async def stop(self) -> None:
        """End the server."""
        if self._server is not None and self._server.returncode is None:
            self._server.kill()
            await self._server.wait()
        if self._listening is not None:
            await asyncio.wait([self._listening])

    async def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        self._log_file.touch(mode=0o600)
        with self._log_file.open("ab") as log, theirs:
            self._server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "embedded.forkserver", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                process_group=0,
                preexec_fn=before_exec(signal.SIGKILL),
                env=self._env,
                cwd=ROOT,
            )
        told, self._orders = await asyncio.open_connection(sock=ours)
        self._listening = asyncio.create_task(self._listen(told, self._orders))

    async def _listen(self, lines: asyncio.StreamReader, orders: asyncio.StreamWriter) -> None:
        """Take in what the server tells, one JSON object a line: a process was started, or has ended."""
        with contextlib.suppress(OSError):
            async for line in lines:
                told = json.loads(line)
                if "ended" not in told:
                    # It is known before anything is told of its end: this is the only reader.
                    process = self._running[told["pid"]] = ForkedProcess(told["pid"])
                    if self._asked is not None and not self._asked.done():
                        self._asked.set_result(process)
                elif (process_gone := self._running.pop(told["pid"], None)) is not None:
                    process_gone.ended(told["ended"])
        orders.close()
        for process in self._running.values():
            process.ended(-signal.SIGKILL)
        self._running.clear()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(ConnectionError("the fork server died"))


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told).encode() + b"\n"


# ── In the server ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for each order, and tell of each end. Returns in a child, with its order; in the server at the end, without one."""
    waking, wake = socket.socketpair()
    for end in (waking, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    orders = control.makefile("rb")
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(waking, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if waking.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                waking.recv(4096)
            _tell_of_ends(control)
        if control.fileno() in ready:
            line = orders.readline()  # there is never more than one: the next comes when this one is answered
            if not line:
                return None
            order: dict[str, Any] = json.loads(line)
            become_child = before_exec(signal.SIGKILL)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                orders.close()
                for end in (control, waking, wake):
                    end.close()
                os.setpgid(0, 0)
                become_child()
                return order
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)  # whoever is first: nobody signals a group that is not there yet
            control.sendall(_line({"pid": pid}))


def _tell_of_ends(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.sendall(_line({"pid": pid, "ended": os.waitstatus_to_exitcode(status)}))


def become(order: Mapping[str, Any]) -> None:
    """Run what was ordered, as `python -m` would."""
    output = os.open(order["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    module, *arguments = order["module"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    """The server."""
    for name in PRELOAD:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, what all share
    order = serve(socket.socket(fileno=int(sys.argv[1])))
    if order is not None:
        become(order)


if __name__ == "__main__":
    main()

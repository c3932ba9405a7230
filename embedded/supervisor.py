"""A small asyncio supervisor: ordered start with readiness probes, restart with backoff, and nobody left
behind.

    async with Supervisor(log_dir, [database, service]) as supervisor:     # once all are ready
        await supervisor.kill("service")                                   # a crash; restarted at once
        await supervisor.wait_ready("service")

Why not honcho, circus or supervisord: none has readiness, dependencies and restarts together (docs/adr).
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from embedded.forkserver import ForkedProcess, ForkServer
from embedded.private import private_directory
from embedded.processes import RunAs, Usage, before_exec, signal_group, usage

log = logging.getLogger(__name__)

POLL_S = 0.03  # between two looks at a probe: short, because a platform's start is a chain of these
PROBE_TIMEOUT_S = 10.0  # for one look: a server that accepts and never answers must not hide that it died
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = (
    0.05,
    5.0,
)  # the first restart is at once; a part that keeps dying must not eat the CPU
READY_TIMEOUT_S = 240.0  # a dozen Python processes import at once; on a busy machine the last one waits long
SETTLED_S = 10.0  # who was up that long starts again with the first backoff
LOG_LIMIT_BYTES = 20 * 2**20
TAIL_BYTES = 4_000

Probe = Callable[[], Awaitable[bool]]
Hook = Callable[[], Awaitable[None]]


class PartFailed(RuntimeError):
    """A part died at its start, or was not ready in time.

    The message names it and ends with the tail of its log.
    """


async def _true() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How one child is started, and how we know that it serves.

    `ready` is asked every 30 ms until it says True; an exception it raises counts as "not yet". `prepare`
    runs before each start and `on_ready` after each, before the part counts as ready (restarts too: a broker
    may have lost its topics). `env` comes on top of our own environment. A `once` part is a step: ready when
    it has exited with 0, never restarted.
    """

    name: str
    argv: tuple[str, ...]
    ready: Probe = _true
    env: Mapping[str, str] = field(default_factory=dict)
    start_after: tuple[str, ...] = ()
    prepare: Hook | None = None
    on_ready: Hook | None = None
    once: bool = False
    run_as: RunAs | None = None  # only root can
    cwd: Path | None = None
    ready_timeout_s: float = READY_TIMEOUT_S
    grace_s: float = 10.0  # between stop_signal and SIGKILL
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  # sent by the kernel if we die without having stopped it

    @property
    def can_be_forked(self) -> bool:
        """Whether it is a Python module of this tree that nothing has to be loaded before, run by our own interpreter."""
        loads_others = {"LD_PRELOAD", "PYTHONPATH"} & set(self.env)
        return self.argv[:2] == (sys.executable, "-m") and self.run_as is None and not loads_others


class _Part:
    """One spec's life: a task that starts the process, waits for its end, and starts it again."""

    def __init__(self, spec: ProcessSpec, log_file: Path, on_ready: Callable[[], None], forks: ForkServer | None) -> None:
        self.spec = spec
        self._forks = forks if spec.can_be_forked else None
        self.log_file = log_file
        self._on_ready = on_ready
        self.process: asyncio.subprocess.Process | ForkedProcess | None = None
        self.ready = asyncio.Event()
        self.restarts = 0
        self.task: asyncio.Task[None] | None = None
        self._log_start = 0

    async def start(self) -> None:
        """Return once ready; raise PartFailed if the first try fails: what is misconfigured stays so."""
        if self.task is not None and not self.task.done():
            await self.wait_ready(self.spec.ready_timeout_s)
            return
        self.ready.clear()
        try:
            await self._start_once()
        except BaseException:
            await self._end(signal.SIGKILL)
            raise
        if not self.spec.once:
            self.task = asyncio.create_task(self._keep_up(), name=f"keep {self.spec.name}")

    async def stop(self) -> None:
        """End the process (stop_signal, then SIGKILL after the grace time) and do not restart it."""
        while self.task is not None and not self.task.done():
            self.task.cancel()  # again and again: asyncio.wait_for (in some library's probe) can swallow one in Python 3.11
            await asyncio.wait([self.task], timeout=1.0)
        self.task = None
        await self._end(self.spec.stop_signal)

    async def kill(self) -> None:
        if (process := self.process) is not None and process.returncode is None:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()
            self.ready.clear()  # not only at the keeper's turn: wait_ready after kill means the next one

    async def wait_ready(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.ready.wait()
        except TimeoutError:
            raise PartFailed(self._explain(f"not ready within {timeout_s:g} s")) from None

    async def _keep_up(self) -> None:
        backoff_s = 0.0
        while True:
            assert self.process is not None
            since = time.monotonic()
            code = await self.process.wait()
            self.ready.clear()
            signal_group(self.process.pid, signal.SIGKILL)  # what it left running would hold its port
            log.warning("%s ended (%s), restarting", self.spec.name, _exit(code))
            if time.monotonic() - since > SETTLED_S:
                backoff_s = 0.0
            while not self.ready.is_set():
                await asyncio.sleep(backoff_s)
                backoff_s = min(max(2 * backoff_s, FIRST_BACKOFF_S), LONGEST_BACKOFF_S)
                self.restarts += 1
                try:
                    await self._start_once()
                except Exception as failure:  # whatever it was, the part must come back some day: go on
                    log.error("restart failed: %s", failure)
                    await self._end(signal.SIGKILL)

    async def _start_once(self) -> None:
        spec = self.spec
        if spec.prepare is not None:
            await spec.prepare()
        with _open_log(self.log_file) as output:
            self._log_start = output.tell()
            self.process = await self._started(output)
        await self._until_ready(self.process)
        if spec.on_ready is not None:
            try:
                async with asyncio.timeout(spec.ready_timeout_s):
                    await spec.on_ready()
            except Exception as failure:
                raise PartFailed(self._explain(f"set-up after start failed: {failure!r}")) from failure
        self.ready.set()
        self._on_ready()

    async def _started(self, output: IO[bytes]) -> asyncio.subprocess.Process | ForkedProcess:
        spec, env = self.spec, _environment(self.spec.env)
        if self._forks is not None:
            return await self._forks.start(spec.argv[2:], env=env, cwd=spec.cwd, output=self.log_file)
        return await asyncio.create_subprocess_exec(
            *spec.argv,
            env=env,
            cwd=spec.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,  # Ctrl-C in the terminal is ours to handle, in our order
            preexec_fn=before_exec(spec.death_signal, spec.run_as),
        )

    async def _until_ready(self, process: asyncio.subprocess.Process | ForkedProcess) -> None:
        deadline = time.monotonic() + self.spec.ready_timeout_s
        while True:
            if process.returncode is not None:
                signal_group(process.pid, signal.SIGKILL)
                if self.spec.once and process.returncode == 0:
                    return
                raise PartFailed(self._explain(f"ended at its start ({_exit(process.returncode)})"))
            if not self.spec.once and await _answers(self.spec.ready):
                return
            if time.monotonic() >= deadline:
                raise PartFailed(self._explain(f"not ready within {self.spec.ready_timeout_s:g} s"))
            with contextlib.suppress(TimeoutError):  # wakes at once if it dies
                async with asyncio.timeout(POLL_S):
                    await process.wait()

    async def _end(self, number: signal.Signals) -> None:
        self.ready.clear()
        process = self.process
        if process is None or process.returncode is not None:
            return
        if number is not signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                async with asyncio.timeout(self.spec.grace_s):
                    await process.wait()
            except TimeoutError:
                log.warning("%s did not stop within %g s, killing it", self.spec.name, self.spec.grace_s)
        signal_group(process.pid, signal.SIGKILL)  # it, or the children that it left
        await process.wait()

    def _explain(self, what: str) -> str:
        tail = ""
        if self.log_file.exists():
            with self.log_file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, size - TAIL_BYTES))
                tail = file.read().decode(errors="replace").strip()
        return f"{self.spec.name} {what}. The end of {self.log_file.name}:\n{tail or '(it wrote nothing)'}"


class Supervisor:
    """Starts, watches and stops a set of processes. All methods belong to one event loop; names are those of
    the specs.

    `on_ready` is called whenever a part became ready, after a restart too (its process id is then another
    one).
    """

    def __init__(
        self,
        log_dir: Path,
        specs: Iterable[ProcessSpec] = (),
        on_ready: Callable[[], None] | None = None,
        *,
        forks: bool = False,
    ) -> None:
        """`forks`: start our own Python modules by forking one process that has loaded what they share."""
        private_directory(log_dir)
        self.log_dir = log_dir
        self._forks = ForkServer(log_dir / "forkserver.log", _environment({})) if forks else None
        self._on_ready = on_ready or (lambda: None)
        self._parts: dict[str, _Part] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: ProcessSpec) -> None:
        """Know one more part; it starts with `start` or `start_all`.

        Raises ValueError if the name is taken.
        """
        if spec.name in self._parts:
            raise ValueError(f"{spec.name} is there already")
        self._parts[spec.name] = _Part(spec, self.log_dir / f"{spec.name}.log", self._on_ready, self._forks)

    async def __aenter__(self) -> Self:
        await self.start_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop_all()

    async def start_all(self) -> None:
        """Start every part, each as soon as those in its `start_after` are ready. Raises PartFailed of the
        first that fails.

        After a failure (or a cancellation) everything is stopped again.
        """
        order = self._order()
        try:
            if self._forks is not None:
                await self._forks.warm_up()
            async with asyncio.TaskGroup() as group:
                started = {name: asyncio.Event() for name in order}
                for name in order:
                    group.create_task(self._start_in_turn(self._parts[name], started))
        except BaseExceptionGroup as failures:
            await self._stop_even_if_cancelled()
            raise failures.exceptions[0] from None
        except BaseException:
            await self._stop_even_if_cancelled()
            raise

    async def stop_all(self) -> None:
        """Stop every part, those first on which nobody running depends any more.

        Never raises for a part that is gone.
        """
        remaining = self._order()
        users = {name: {n for n, p in self._parts.items() if name in p.spec.start_after} for name in remaining}
        stopped = {name: asyncio.Event() for name in remaining}

        async def stop_in_turn(name: str) -> None:
            for user in users[name]:
                await stopped[user].wait()
            await self._parts[name].stop()
            stopped[name].set()

        await asyncio.gather(*(stop_in_turn(name) for name in remaining))
        if self._forks is not None:
            await self._forks.stop()

    async def start(self, name: str) -> None:
        """Start one part and return once it is ready. Raises PartFailed."""
        await self._parts[name].start()

    async def stop(self, name: str) -> None:
        """Stop one part, gracefully if it can; it stays down until `start`."""
        await self._parts[name].stop()

    async def kill(self, name: str) -> None:
        """kill -9 (with its children).

        Returns once it is dead. It is restarted at once, as after any crash.
        """
        await self._parts[name].kill()

    async def wait_ready(self, name: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the part serves (again). Raises PartFailed after `timeout_s`."""
        await self._parts[name].wait_ready(timeout_s)

    def names(self) -> tuple[str, ...]:
        """All parts, dependencies first."""
        return tuple(self._order())

    def pid(self, name: str) -> int:
        """The process id of a running part. Raises LookupError if it is down."""
        process = self._parts[name].process
        if process is None or process.returncode is not None:
            raise LookupError(f"{name} is not running")
        return process.pid

    def pids(self) -> dict[str, int]:
        """The process ids of all that run now."""
        alive = {name: part.process for name, part in self._parts.items()}
        return {name: p.pid for name, p in alive.items() if p is not None and p.returncode is None}

    def environment(self, name: str) -> dict[str, str]:
        """What a part is started with."""
        return _environment(self._parts[name].spec.env)

    def is_ready(self, name: str) -> bool:
        """Whether the part was ready after its latest start and has not ended since."""
        return self._parts[name].ready.is_set()

    def restarts(self, name: str) -> int:
        """How often the part was started again after it had ended by itself or by `kill`."""
        return self._parts[name].restarts

    def usage(self) -> dict[str, Usage]:
        """CPU seconds and memory of each running part with its children, since its latest start; and of what they were forked
        from."""
        found = {name: usage(pid) for name, pid in self.pids().items()}
        if self._forks is not None and (pid := self._forks.pid) is not None:
            found["forkserver"] = usage(pid, with_children=False)
        return found

    async def _start_in_turn(self, part: _Part, started: dict[str, asyncio.Event]) -> None:
        for dependency in part.spec.start_after:
            await started[dependency].wait()
        await part.start()
        started[part.spec.name].set()

    async def _stop_even_if_cancelled(self) -> None:
        await asyncio.shield(asyncio.ensure_future(self.stop_all()))

    def _order(self) -> list[str]:
        """Names with each after its dependencies. Raises ValueError for a cycle or an unknown name."""
        done: list[str] = []
        waiting = {name: set(part.spec.start_after) for name, part in self._parts.items()}
        while waiting:
            free = [name for name, needs in waiting.items() if needs <= set(done)]
            if not free:
                raise ValueError(f"start_after has a cycle or an unknown name among {sorted(waiting)}")
            done += free
            for name in free:
                del waiting[name]
        return done


@contextlib.asynccontextmanager
async def cancelled_by_sigterm() -> AsyncIterator[None]:
    """Inside, SIGTERM cancels the current task, as Ctrl-C does under asyncio.run.

    `async with Supervisor` stops its children.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _answers(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await probe()
    except Exception:  # refused, reset, half a reply, starting up: all mean "not yet"; the deadline tells the rest
        return False


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Ours and theirs; with bytecode cached (a faster start) and few malloc arenas (less memory)."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "MALLOC_ARENA_MAX": "2", **extra}


@contextlib.contextmanager
def _open_log(file: Path) -> Iterator[IO[bytes]]:
    if file.exists() and file.stat().st_size > LOG_LIMIT_BYTES:
        os.truncate(file, 0)
    file.touch(mode=0o600)
    with file.open("ab") as output:
        output.seek(0, os.SEEK_END)
        yield output


def _exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

"""What can go wrong around the code, on purpose: a catalogue of faults, a plan of them that a seed repeats, and who plays it.

    moments = plan(seed, 20, parts)
    async with opened_links() as links, PlatformProcess(data, settings=settings_of(links)) as platform:
        player = Player(platform, links, tmp_path / "faults.jsonl")
        for moment in moments:
            await player.play(moment)

The player returns once the platform is whole again. Its file says what was played, and when.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from cli.client import Client, Company
from embedded import clock
from embedded.platform import OUR_PROCESSES
from embedded.processes import signal_group
from testing.platform_process import PlatformProcess
from testing.proxy import Link

LINKS = ("postgres", "valkey", "kafka", "temporal", "payment_provider", "carrier")
"""Before these a proxy stands: all their clients come through it."""
COMPANY_FAULTS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "payment_provider": (
        {"down": True},
        {"latency_ms": 4_000},
        {"lose_replies_next": 5},
        {"fail_next": 10},
        {"fail_reversals": True},
    ),
    "carrier": ({"down": True}, {"latency_ms": 4_000}, {"lose_replies_next": 5}, {"fail_next": 10}, {"fail_cancels": True}),
}
DELAYS_S = (0.02, 0.1, 0.5)
SKEWS_S = (-20, -5, 5, 20)
SHORTEST_S = 1.0
UNTIL_BACK_S = 300.0
"""Generous: on a busy machine a dozen processes import at once."""


class Kind(StrEnum):
    KILL = "kill -9"
    HANG = "hang"
    """Stopped (SIGSTOP), and after some seconds continued."""
    RESTART = "clean restart"
    FAST_STOP = "fast stop"
    """PostgreSQL's clean restart: clients are thrown out."""
    CRASH_STOP = "immediate stop"
    """PostgreSQL's: as if the power had gone; the next start recovers."""
    SLOW = "slow link"
    SILENT = "dead link"
    RESET = "broken link"
    COMPANY = "fault"
    CLOCK = "wrong clock"
    SUPERVISOR = "death"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with a part, the link to it, or a company."""

    kind: Kind
    target: str
    seconds: float = 0.0
    """How long it lasts; 0 for what is over as soon as the part serves again."""
    amount: float = 0.0
    """Delay of a link, or of a clock, in seconds."""
    switches: Mapping[str, object] | None = None
    """Of a company's simulator."""

    def __str__(self) -> str:
        switched = f" ({', '.join(self.switches)})" if self.switches else ""
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind} of {self.target}{switched}{lasting}"


@dataclass(frozen=True)
class Moment:
    """Faults that begin together, after so many more orders and a pause."""

    after_orders: int
    pause_s: float
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.faults))


DECK: Mapping[Kind | None, int] = {
    Kind.KILL: 5,
    Kind.HANG: 2,
    Kind.RESTART: 2,
    Kind.FAST_STOP: 1,
    Kind.CRASH_STOP: 1,
    Kind.SLOW: 1,
    Kind.SILENT: 1,
    Kind.RESET: 1,
    Kind.COMPANY: 2,
    Kind.CLOCK: 1,
    Kind.SUPERVISOR: 1,
    None: 2,  # two at once
}
"""How often each kind comes in every 20 moments."""
LASTING = frozenset({Kind.HANG, Kind.SLOW, Kind.SILENT, Kind.RESET, Kind.COMPANY, Kind.CLOCK})
AT_ONCE = (Kind.KILL, Kind.KILL, Kind.HANG, Kind.RESTART, Kind.SLOW, Kind.SILENT, Kind.RESET, Kind.COMPANY)
"""What may come together with another one."""


def plan(seed: int, count: int, parts: Sequence[str], *, longest_s: float = 60.0, clocks: bool | None = None) -> list[Moment]:
    """So many moments, the same ones for the same arguments. Every kind and every part has its turn before one comes again.

    `clocks`: whether clocks can go wrong; by default, whether libfaketime is installed."""
    dealer = _Dealer(seed, sorted(parts), longest_s, clock.library() is not None if clocks is None else clocks)
    return [dealer.moment() for _ in range(count)]


class _Dealer:
    def __init__(self, seed: int, parts: Sequence[str], longest_s: float, clocks: bool) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - a game that can be repeated
        self._longest_s = longest_s
        skewable = [part for part in parts if part.partition("-")[0] in OUR_PROCESSES and part != "gateway"]
        targets: dict[Kind, Sequence[str]] = {
            Kind.KILL: parts,
            Kind.HANG: parts,
            Kind.RESTART: [part for part in parts if part != "postgres"],
            Kind.FAST_STOP: ["postgres"],
            Kind.CRASH_STOP: ["postgres"],
            Kind.SLOW: LINKS,
            Kind.SILENT: LINKS,
            Kind.RESET: LINKS,
            Kind.COMPANY: sorted(COMPANY_FAULTS),
            Kind.CLOCK: skewable if clocks else [],
            Kind.SUPERVISOR: ["supervisor"],
        }
        self._targets = targets
        self._decks: dict[object, list[Any]] = {}
        self._kinds = [kind for kind, times in DECK.items() for _ in range(times) if kind is None or targets[kind]]

    def moment(self) -> Moment:
        kind = self._deal("kinds", self._kinds)
        faults = (self._fault(kind),) if kind else self._pair()
        return Moment(self._dice.randint(0, 3), round(self._dice.random() * 0.2, 3), faults)

    def _pair(self) -> tuple[Fault, ...]:
        one = self._fault(self._dice.choice(AT_ONCE))
        while (other := self._fault(self._dice.choice(AT_ONCE))).target == one.target:
            pass
        return one, other

    def _fault(self, kind: Kind) -> Fault:
        target = self._deal(kind, self._targets[kind])
        lasts = kind in LASTING
        # Mostly short, sometimes as long as may be.
        seconds = round(min(self._longest_s, SHORTEST_S + self._dice.expovariate(6 / self._longest_s)), 1) if lasts else 0.0
        amount = {Kind.SLOW: self._dice.choice(DELAYS_S), Kind.CLOCK: self._dice.choice(SKEWS_S)}.get(kind, 0.0)
        switches = self._deal(target, COMPANY_FAULTS[target]) if kind == Kind.COMPANY else None
        return Fault(kind, target, seconds, amount, switches)

    def _deal(self, name: object, cards: Sequence[Any]) -> Any:
        """The next card of a shuffled deck, which is shuffled anew when it is used up."""
        left = self._decks.get(name)
        if not left:
            left = self._decks[name] = self._dice.sample(cards, len(cards))
        return left.pop()


@asynccontextmanager
async def opened_links() -> AsyncIterator[dict[str, Link]]:
    """A healthy proxy for each of LINKS."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(Link()) for name in LINKS}


def settings_of(links: Mapping[str, Link]) -> dict[str, str]:
    """What tells a platform of the proxies."""
    own = {f"PORT_{name.upper()}": str(link.target_port) for name, link in links.items()}
    return own | {f"PROXY_PORT_{name.upper()}": str(link.port) for name, link in links.items()}


class Player:
    """Plays faults on a platform in a child process; writes what it did to `file`, a line as soon as each has ended."""

    def __init__(
        self, platform: PlatformProcess, links: Mapping[str, Link], file: Path, *, clock_files: Path | None = None
    ) -> None:
        self._platform, self._links, self._file, self._clock_files = platform, links, file, clock_files
        self._began = time.monotonic()
        self._plays: Mapping[Kind, Callable[[Fault], Awaitable[None]]] = {
            Kind.KILL: self._signal(signal.SIGKILL),
            Kind.RESTART: self._signal(signal.SIGTERM),
            Kind.FAST_STOP: self._signal(signal.SIGINT),
            Kind.CRASH_STOP: self._signal(signal.SIGQUIT),
            Kind.HANG: self._hang,
            Kind.SLOW: self._link,
            Kind.SILENT: self._link,
            Kind.RESET: self._link,
            Kind.COMPANY: self._company,
            Kind.CLOCK: self._clock,
            Kind.SUPERVISOR: self._supervisor,
        }

    async def play(self, moment: Moment) -> None:
        """Let these faults happen; return once all parts serve again. Raises TimeoutError, which names the one that does not."""
        async with asyncio.TaskGroup() as together:
            for fault in moment.faults:
                together.create_task(self._one(fault))

    async def _one(self, fault: Fault) -> None:
        at, began, end = datetime.now(UTC), time.monotonic(), "never ended"
        try:
            await self._plays[fault.kind](fault)
            end = "whole again"
        except Exception as error:
            end = f"{type(error).__name__}: {error}"
            raise
        finally:
            seconds = {"began_s": round(began - self._began, 3), "took_s": round(time.monotonic() - began, 3)}
            self.note({"at": at.isoformat(), **seconds, **asdict(fault), "end": end})

    def note(self, line: Mapping[str, Any]) -> None:
        """One more line in the file."""
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _signal(self, number: signal.Signals) -> Callable[[Fault], Awaitable[None]]:
        async def play(fault: Fault) -> None:
            pid = self._pid(fault.target)
            if number == signal.SIGKILL:
                signal_group(pid, number)
            else:
                os.kill(pid, number)
            await self._back(fault.target, pid)

        return play

    async def _hang(self, fault: Fault) -> None:
        with stopped(self._pid(fault.target)):
            await asyncio.sleep(fault.seconds)

    async def _link(self, fault: Fault) -> None:
        link = self._links[fault.target]
        match fault.kind:
            case Kind.SLOW:
                link.slow(fault.amount)
            case Kind.SILENT:
                link.silence()
            case _:
                link.reset()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            link.heal()

    async def _company(self, fault: Fault) -> None:
        running = self._platform.running
        async with Client(running.urls[fault.target]) as http:
            company = Company(http, running.env[f"{fault.target.upper()}_API_KEY"])
            await company.set_faults(**(fault.switches or {}))
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                await self._until(lambda: _healthy(company), f"the switches of {fault.target} to be turned off")

    async def _clock(self, fault: Fault) -> None:
        assert self._clock_files is not None
        file = self._clock_files / fault.target
        clock.set_ahead(file, int(fault.amount))
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            clock.set_ahead(file, 0)

    async def _supervisor(self, _: Fault) -> None:
        await self._platform.kill()
        await self._platform.start()

    def _pid(self, part: str) -> int:
        return self._platform.running.pids[part]

    async def _back(self, part: str, former: int) -> None:
        """Return once another process of this part serves."""

        async def serves() -> bool:
            running = self._platform.running
            return part in running.ready and running.pids.get(part, former) != former

        await self._until(serves, f"{part} to serve again")

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + UNTIL_BACK_S
        while not await condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {UNTIL_BACK_S:g} s in vain for {what}")
            await asyncio.sleep(0.05)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process and all its children stand still in the block."""
    root = psutil.Process(pid)
    tree = [root]
    try:
        root.suspend()  # first, so that no more children come
        for child in root.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.suspend()
                tree.append(child)
        yield
    finally:
        for process in reversed(tree):
            with suppress(psutil.NoSuchProcess):
                process.resume()


async def _healthy(company: Company) -> bool:
    """Turn all switches off; false while it cannot be reached."""
    try:
        await company.set_faults()
    except Exception:  # it may be down itself, by the other fault of the moment; once back, it is healthy
        return False
    return True

"""Gauges that are answers to questions about what a service keeps, asked by one process at a time, however many there are.

    figures = Figures("order", database.asyncpg_dsn, [partial(orders_in_flight, database), partial(waiting, sagas)], every_s=15)
    Service(…, resources=[figures], jobs=[figures.job()])

The process that holds a lock in the service's database asks, every so many seconds; a scrape gets the last answers.
The others offer none of these series, so that a sum over all processes is right. If the one that asks dies, another takes its
place after `every_s` seconds. An answer that is too old is not offered any more. A question that takes long is asked less often.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from types import TracebackType
from typing import Self

import asyncpg
from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector

from chassis.jobs import Job

CONNECT_S = 5.0
ROUNDS = 4
"""So many rounds long an answer is offered after it was given."""
SHARE, MOST_ROUNDS = 100, 10
"""So many times as long as a question took passes before it is asked again, but not more than so many rounds."""
Question = Callable[[], Awaitable[Sequence[Metric]]]
"""Asks, and returns what is offered to Prometheus. It may raise: then its last answer stays for a while."""


@dataclass(frozen=True)
class _Answer:
    metrics: Sequence[Metric]
    ask_again_at: float
    offered_until: float


class Figures(Collector):
    """Answers to some questions. An async context manager: what it offers is offered within it."""

    def __init__(self, service: str, dsn: str, questions: Iterable[Question], *, every_s: float) -> None:
        self._dsn, self._questions, self._every_s = dsn, tuple(questions), every_s
        self._lock = int.from_bytes(blake2b(f"figures of {service}".encode(), digest_size=8).digest(), signed=True)
        self._holding: asyncpg.Connection | None = None
        """The connection that holds the lock, in the process that asks."""
        self._answers: dict[Question, _Answer] = {}

    async def __aenter__(self) -> Self:
        REGISTRY.register(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        REGISTRY.unregister(self)
        await self._let_go()

    def job(self) -> Job:
        """What asks."""
        return Job("take figures", self.take, every_s=self._every_s)

    def collect(self) -> Iterable[Metric]:
        """The last answers, as Prometheus is told."""
        now = time.monotonic()
        return [metric for answer in list(self._answers.values()) if now < answer.offered_until for metric in answer.metrics]

    def describe(self) -> Iterable[Metric]:
        """Nothing that is known before it was asked for."""
        return []

    async def take(self) -> None:
        """Ask every question, if this is the process that does. Raises what the first that failed raised, after the others."""
        if not await self._is_to_ask():
            return
        failures: list[Exception] = []
        for question in self._questions:
            last, began = self._answers.get(question), time.monotonic()
            if last is not None and began < last.ask_again_at:
                continue
            try:
                metrics = await question()
            except Exception as error:
                failures.append(error)
            else:
                pause = min(SHARE * (time.monotonic() - began), MOST_ROUNDS * self._every_s)
                self._answers[question] = _Answer(metrics, began + pause, began + ROUNDS * max(self._every_s, pause))
        if failures:
            raise failures[0]

    async def _is_to_ask(self) -> bool:
        try:
            if self._holding is None:
                self._holding = await asyncpg.connect(
                    self._dsn, timeout=CONNECT_S, command_timeout=CONNECT_S, server_settings={"application_name": "figures"}
                )
                if not await self._holding.fetchval("select pg_try_advisory_lock($1)", self._lock):
                    await self._let_go()
            else:
                await self._holding.execute("select 1")
        except BaseException:
            await self._let_go()
            raise
        return self._holding is not None

    async def _let_go(self) -> None:
        """Another process may ask now."""
        self._answers.clear()
        connection, self._holding = self._holding, None
        if connection is not None:
            with suppress(OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=2)

"""A read replica of a service's database: it answers queries that may lag, as long as it is not too far behind.

    @may_lag
    async def list_orders(database: Reader, caller: Grant, …) -> Page[OrderSummary]:

Called with the `Database`, such a query reads from the primary; called with what an endpoint takes as `chassis.freshness.MayLag`,
it reads from the replica if there is one, and from the primary if that is away, too far behind, or fails.

How far behind it is we measure ourselves: once a second we note where the primary's log is, and see how much of that the replica
has applied. So it does not matter whether anything is written, whether the replica still hears of it, or what time its machine
believes it is.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import asyncpg
from prometheus_client import Counter, Gauge
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from chassis.database import Database, Reader, is_connection_fault
from chassis.jobs import Job
from chassis.logs import logger
from contracts.errors import Refusal

LOOK_SECONDS = 1.0
LOOK_TIMEOUT_S = 2.0
ANSWER_S = 5.0
"""How long a replica may take before the primary is asked instead: it may hang without being gone."""
MARKS_KEPT = 600
_WRITTEN = text("select (pg_current_wal_flush_lsn() - '0/0')::bigint")
_APPLIED = text("select (pg_last_wal_replay_lsn() - '0/0')::bigint")
_FAULTS = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)

log = logger(__name__)
lag_seconds = Gauge("database_replica_lag_seconds", "The replica may lack what was committed within so many seconds; Inf: away.")
replica_reads = Counter(
    "database_replica_reads",
    "Queries that may lag, where there is a replica: they `used` it, or read from the primary because it was `unfit` (away, too "
    "far behind), `failed`, `refused` (found nothing), or was `too_old` for the caller.",
    ["outcome"],
)
P = ParamSpec("P")
Answer = TypeVar("Answer")


class Source(Protocol):
    """Where a query that may lag is answered."""

    async def answer(self, query: Callable[[Reader], Awaitable[Answer]]) -> Answer: ...


def may_lag(query: Callable[Concatenate[Reader, P], Awaitable[Answer]]) -> Callable[Concatenate[Source, P], Awaitable[Answer]]:
    """Marks a query that a replica may answer. It may be executed a second time, on the primary."""

    @wraps(query)
    async def ask(source: Source, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return await source.answer(lambda reader: query(reader, *args, **kwargs))

    return ask


class Replica(Reader):
    """A replica, and how far it is behind `primary`. It is not used while that is more than `max_lag_s`."""

    def __init__(self, url: str, primary: Database, *, pool_size: int, max_lag_s: float) -> None:
        super().__init__(url, pool_size)
        self._primary = primary
        self._max_lag_s = max_lag_s
        self._marks: deque[tuple[float, int]] = deque(maxlen=MARKS_KEPT)
        """When the primary's log had reached which position; those that the replica has not applied yet."""
        self._complete_until: float | None = None

    @property
    def lag_s(self) -> float:
        """It may lack what was committed within so many seconds, and nothing older. Infinite while it is away."""
        return math.inf if self._complete_until is None else time.monotonic() - self._complete_until

    def trouble(self) -> str | None:
        """Why it is not used, for `/health/ready`."""
        if self.lag_s <= self._max_lag_s:
            return None
        return "away" if self._complete_until is None else f"{self.lag_s:.0f} s behind"

    def within(self, lag_s: float, tell: Callable[[float], None]) -> Source:
        """It, if it is behind by no more than that, or else the primary. `tell` is told how far behind the answer may be."""
        return _Choice(self, self._primary, min(lag_s, self._max_lag_s), tell)

    def failed(self, error: Exception) -> None:
        """Do not use it until it has been looked at again, if it could not be reached."""
        log.warning("replica_failed", error=repr(error))
        if is_connection_fault(error):
            self._complete_until = None

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Inside, we know how far behind it is."""
        lag_seconds.set_function(lambda: self.lag_s)
        look = Job("look how far the replica is behind", self._look, every_s=LOOK_SECONDS, longest_pause_s=LOOK_SECONDS)
        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await self.close()

    async def _look(self) -> None:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            await self._mark()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await self._compare()
        except _FAULTS:
            self._complete_until = None
            raise

    async def _mark(self) -> None:
        now = time.monotonic()
        async with self._primary.reading() as session:
            written = (await session.execute(_WRITTEN)).scalar_one()
        if self._marks and written < self._marks[-1][1]:  # another server, which counts anew
            self._marks.clear()
        self._marks.append((now, written))

    async def _compare(self) -> None:
        async with self.reading() as session:
            applied = (await session.execute(_APPLIED)).scalar_one()
        if applied is None:
            raise ConnectionError("the replica is none: it follows nobody")
        while self._marks and self._marks[0][1] <= applied:
            self._complete_until, _ = self._marks.popleft()


@dataclass(frozen=True)
class _Choice:
    """A replica, or its primary."""

    replica: Replica
    primary: Database
    within_s: float
    tell: Callable[[float], None]

    async def answer(self, query: Callable[[Reader], Awaitable[Answer]]) -> Answer:
        lag_s = self.replica.lag_s
        if lag_s > self.within_s:
            replica_reads.labels("unfit" if self.replica.trouble() else "too_old").inc()
            return await query(self.primary)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await query(self.replica)
        except Refusal:
            replica_reads.labels("refused").inc()  # it may not know yet what is asked for
            return await query(self.primary)
        except _FAULTS as error:
            self.replica.failed(error)
            replica_reads.labels("failed").inc()
            return await query(self.primary)
        replica_reads.labels("used").inc()
        self.tell(lag_s)
        return answer

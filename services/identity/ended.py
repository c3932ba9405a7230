"""Which sessions have ended, told to every process that asks: one look at the database now and then serves all who wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from chassis.jobs import Job
from chassis.sessions import REMEMBERED_FOR
from chassis.together import Together
from contracts.identity import EndedSessionList

LOOK_SECONDS = 0.5
LOOK_TIMEOUT_S = 5.0
MOST_WAITING = 1_000
"""Whoever asks beyond these is answered at once, and has to ask again."""


@dataclass(frozen=True)
class Ends:
    """What the database says of ended sessions."""

    position: int
    """The oldest transaction that had not committed yet: who goes on from there misses none."""
    transactions: Mapping[UUID, int]
    """In which transaction each session ended."""


Query = Callable[[int], Awaitable[Ends]]
"""What ended from this transaction on, of what still matters."""


@dataclass(frozen=True)
class _Ended:
    transaction: int
    seen_at: float


class EndedSessionsWatch:
    """Keeps the list of ended sessions, of this process of identity and of its others, and holds the answers to those who would
    otherwise hear nothing new."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._look = Together(self._look_for_all)
        self._position = 0
        self._ended: dict[UUID, _Ended] = {}
        self._fault: Exception | None = None
        """Why the last look failed."""
        self._news = asyncio.Event()
        self._waiting = 0
        self._is_stopping = False

    async def since(self, position: int, wait_s: float = 0.0) -> EndedSessionList:
        """What ended from `position` on. While that is nothing, the answer may take up to `wait_s` seconds.

        Raises what the database raises while it cannot be asked: nobody is told then that nothing has ended. Who asks for the
        first time, or without waiting, or comes from a process that has looked later, is answered by a look of its own."""
        if not wait_s or not 0 < position <= self._position:
            await self._look(None)
        elif not self._ended_from(position):
            await self._wait_for_news(wait_s)
        if self._fault is not None:
            raise self._fault
        return EndedSessionList(position=self._position, session_ids=self._ended_from(position))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks inside."""
        look = Job("look which sessions have ended", lambda: self._look(None), every_s=LOOK_SECONDS, longest_pause_s=LOOK_SECONDS)
        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def stop(self) -> None:
        """Let go of all who wait: the process stops."""
        self._is_stopping = True
        self._wake()

    def _ended_from(self, position: int) -> list[UUID]:
        return [session_id for session_id, ended in self._ended.items() if ended.transaction >= position]

    async def _wait_for_news(self, wait_s: float) -> None:
        if self._is_stopping or self._fault is not None or self._waiting >= MOST_WAITING:
            return
        self._waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
        finally:
            self._waiting -= 1

    async def _look_for_all(self, asked: Sequence[None]) -> Sequence[None]:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                found = await self._query(self._position)
                counts_anew = found.position < self._position
                if counts_anew:  # a database that was restored into another server: what is known has other numbers there
                    found = await self._query(0)
        except Exception as error:
            self._fault = error
            self._wake()
            raise
        self._fault = None
        if counts_anew:
            self._ended.clear()
        known = len(self._ended)
        now = time.monotonic()
        for session_id, transaction in found.transactions.items():
            self._ended.setdefault(session_id, _Ended(transaction, now))
        self._position = found.position
        if counts_anew or len(self._ended) > known:
            self._wake()
        self._forget(now - REMEMBERED_FOR.total_seconds())
        return asked

    def _forget(self, seen_before: float) -> None:
        while self._ended and next(iter(self._ended.values())).seen_at < seen_before:
            del self._ended[next(iter(self._ended))]

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

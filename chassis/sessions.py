"""Which logins have ended: every process keeps the list in memory, so that no request has to ask.

The truth is identity's database; each process always has a question open at identity, which is answered as soon as something is
new. An ended session matters for as long as an access token of it may be in use, so the list stays short.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from prometheus_client import Gauge

from chassis.clients import Answer, HttpSession, OutboundClient, fault, model_in
from chassis.jobs import Job
from contracts.budgets import ENDED_SESSIONS_WAIT_S, SERVICE_CALL_S
from contracts.identity import CLOCK_LEEWAY, USER_TOKEN_LASTS, EndedSessionList

ASK_SECONDS = 0.5
"""Between an answer and the next question, so that many who log out at about the same time are told of together."""
LONGEST_PAUSE_S = 1.0
"""While identity is away."""
REMEMBERED_FOR = USER_TOKEN_LASTS + 3 * CLOCK_LEEWAY
"""How long an ended session is kept in the list: an access token of it may be accepted for its whole life and as much longer as
the clocks of whoever issued it and whoever checks it are wrong; and one leeway to spare."""
age_seconds = Gauge(
    "ended_sessions_age_seconds", "Since identity last told this process which sessions have ended, or that none has."
)

Fetch = Callable[[int], Awaitable[EndedSessionList]]
"""What ended since a position; the answer may wait for something to tell, but not at position 0. Raises Unavailable while that
cannot be told."""


class EndedSessions:
    """The sessions that ended of late. `run` keeps the list up to date."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._seen_at: dict[UUID, float] = {}
        self._position = 0
        self._answered_at: float | None = None
        self._asking = asyncio.Lock()

    def contains(self, session_id: UUID) -> bool:
        return session_id in self._seen_at

    def all(self) -> frozenset[UUID]:
        return frozenset(self._seen_at)

    async def wait_until_known(self) -> None:
        """Return once identity has answered at least once: a process that just started knows of no ended session. Raises
        Unavailable while identity cannot be asked."""
        if self._answered_at is None:
            async with self._asking:
                if self._answered_at is None:
                    await self._ask()

    async def run(self) -> None:
        """Ask again and again, until cancelled. While identity is away nobody can end a session, and the list stays true."""
        began = time.monotonic()
        age_seconds.set_function(lambda: time.monotonic() - (self._answered_at or began))
        await Job("follow ended sessions", self._ask_in_turn, every_s=ASK_SECONDS, longest_pause_s=LONGEST_PAUSE_S)()

    async def _ask_in_turn(self) -> None:
        async with self._asking:
            await self._ask()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """`run`s inside."""
        running = asyncio.create_task(self.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _ask(self) -> None:
        found = await self._fetch(self._position)
        now = time.monotonic()
        for session_id in found.session_ids:
            self._seen_at.setdefault(session_id, now)
        forgotten = now - REMEMBERED_FOR.total_seconds()
        while self._seen_at and next(iter(self._seen_at.values())) < forgotten:
            del self._seen_at[next(iter(self._seen_at))]
        # A database that was restored counts anew: then read the whole list again.
        self._position = found.position if found.position >= self._position else 0
        self._answered_at = now


def ended_fetcher(http: HttpSession, identity_url: str) -> Fetch:
    """Asks identity over HTTP."""
    first = OutboundClient("identity", identity_url, http, timeout_s=SERVICE_CALL_S, is_ours=True)
    patient = OutboundClient("identity", identity_url, http, timeout_s=ENDED_SESSIONS_WAIT_S + SERVICE_CALL_S, is_ours=True)

    def read(answer: Answer) -> EndedSessionList:
        if answer.status != 200:
            raise fault("identity", answer, "it does not tell which sessions have ended")
        return model_in(answer, EndedSessionList, "identity")

    async def fetch(since: int) -> EndedSessionList:
        path = f"/internal/v1/ended-sessions?since={since}"
        if not since:
            return await first.call("ended sessions", "GET", path, read)
        return await patient.call("ended sessions", "GET", f"{path}&wait_s={ENDED_SESSIONS_WAIT_S:g}", read)

    return fetch

"""The one way to do something again and again beside answering requests.

    Job("settle what was asked of the carrier", partial(settle_asked, database, carrier), every_s=5)

A job survives whatever its work raises. A fault that lasts is logged once, when it begins, and once more when it is over; while
it lasts, the pauses grow. `job_last_success_seconds` tells when a job last went well, for whoever wants to be alerted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import Gauge

from chassis.clients import Unavailable
from chassis.database import is_passing
from chassis.logs import logger

LONGEST_PAUSE_S = 30.0
log = logger(__name__)
last_success_seconds = Gauge("job_last_success_seconds", "When a job's work last went well, or it began, in Unix time.", ["name"])


@dataclass(frozen=True)
class Job:
    """Does `work` every so many seconds. Work that returns True, or a number other than 0, has more to do and goes on at once."""

    name: str
    work: Callable[[], Awaitable[object]]
    every_s: float
    longest_pause_s: float = LONGEST_PAUSE_S
    """The pause doubles with each failure in a row, up to this."""
    wake: asyncio.Event | None = None
    """When set, the next round begins without waiting for its time."""
    gather_s: float = 0.0
    """How long it waits after being woken, so that what comes together is done together."""
    stop: Callable[[], object] | None = None
    """For work that must not be cut off: it is called instead, and the round under way may end by itself."""

    async def __call__(self) -> None:
        """Run until cancelled."""
        last_success_seconds.labels(self.name).set_to_current_time()
        failure: str | None = None
        pause = self.every_s
        while True:
            if self.wake is not None:
                self.wake.clear()
            try:
                while await self._round():
                    pass
            except Exception as error:
                self._log(error, failure)
                failure, pause = repr(error), min(max(self.every_s, pause * 2), max(self.longest_pause_s, self.every_s))
                await asyncio.sleep(pause)
                continue
            last_success_seconds.labels(self.name).set_to_current_time()
            if failure is not None:
                log.info("job_recovered", job=self.name)
            failure, pause = None, self.every_s
            await self._wait()

    async def _round(self) -> object:
        if self.stop is None:
            return await self.work()
        under_way = asyncio.ensure_future(self.work())
        try:
            return await asyncio.shield(under_way)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait([under_way])
            if not under_way.cancelled() and (error := under_way.exception()):
                self._log(error, None)
            raise

    async def _wait(self) -> None:
        if self.wake is None:
            await asyncio.sleep(self.every_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.every_s):
                await self.wake.wait()
            await asyncio.sleep(self.gather_s)

    def _log(self, error: BaseException, before: str | None) -> None:
        """Once for the same failure in a row. A part that is away is worth a warning; the rest is a bug, and gets its trace."""
        if repr(error) == before:
            return
        if isinstance(error, Unavailable) or is_passing(error):
            log.warning("job_waits", job=self.name, error=repr(error))
        else:
            log.error("job_failed", job=self.name, exc_info=error)

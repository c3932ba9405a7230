"""Jobs: they go on whatever happens, say so once, and end when they are told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import MetaData, text
from structlog.testing import capture_logs

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import Idempotency, forget_keys
from chassis.jobs import Job
from chassis.statements import sql
from tests.conftest import Databases, changing, eventually


class Work:
    """What a job does, and what goes wrong with it."""

    def __init__(self) -> None:
        self.rounds = 0
        self.error: Exception | None = None
        self.more = 0
        """How many rounds have more to do after them."""
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.ended = 0

    async def __call__(self) -> bool:
        self.rounds += 1
        await self.may_end.wait()
        self.ended += 1
        if self.error:
            raise self.error
        self.more -= 1
        return self.more >= 0

    async def until(self, rounds: int) -> None:
        async def done() -> bool:
            return self.ended >= rounds

        await eventually(done, what=f"{rounds} rounds")


@asynccontextmanager
async def running(job: Job) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(job())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def last_success(name: str) -> float:
    return REGISTRY.get_sample_value("job_last_success_seconds", {"name": name}) or 0.0


async def test_a_job_does_its_work_again_and_again_and_says_when_it_went_well() -> None:
    work = Work()
    async with running(Job("again", work, every_s=0.01)):
        await work.until(1)
        first = last_success("again")
        await work.until(4)
        assert last_success("again") > first


async def test_what_is_left_over_is_done_at_once() -> None:
    work = Work()
    work.more = 5
    async with running(Job("more", work, every_s=3600)):
        await work.until(6)


@pytest.mark.parametrize(
    ("error", "event"),
    [(Unavailable("away"), "job_waits"), (ConnectionRefusedError("no"), "job_waits"), (KeyError("bug"), "job_failed")],
)
async def test_a_job_survives_a_failure_and_logs_it_once(error: Exception, event: str) -> None:
    work = Work()
    work.error = error
    with capture_logs() as logs:
        async with running(Job("failing", work, every_s=0.01, longest_pause_s=0.01)):
            await work.until(5)
            succeeded = last_success("failing")
            work.error = None
            await work.until(7)
    assert [entry["event"] for entry in logs] == [event, "job_recovered"]
    assert last_success("failing") > succeeded


async def test_another_failure_is_another_line() -> None:
    work = Work()
    with capture_logs() as logs:
        async with running(Job("failing", work, every_s=0.01, longest_pause_s=0.01)):
            for name in "ab":
                work.error = Unavailable(name)
                await work.until(work.ended + 3)
    assert [entry["error"] for entry in logs] == ["Unavailable('a')", "Unavailable('b')"]


async def test_a_job_can_be_woken() -> None:
    work, wake = Work(), asyncio.Event()
    async with running(Job("woken", work, every_s=3600, wake=wake)):
        await work.until(1)
        wake.set()
        await work.until(2)


async def test_a_job_ends_at_once_when_it_is_cancelled() -> None:
    work = Work()
    work.may_end.clear()
    async with running(Job("cut off", work, every_s=1)) as task:

        async def under_way() -> bool:
            return work.rounds == 1

        await eventually(under_way)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert work.ended == 0


async def test_work_that_must_not_be_cut_off_is_told_to_stop_and_may_end() -> None:
    work = Work()
    work.may_end.clear()
    async with running(Job("finishing", work, every_s=1, stop=work.may_end.set)) as task:

        async def under_way() -> bool:
            return work.rounds == 1

        await eventually(under_way)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert work.ended == 1


async def test_i7_old_idempotency_keys_are_forgotten(databases: Databases) -> None:
    database = Database(await databases.new("catalog"))
    async with changing(database) as work:
        add = sql("insert into idempotency_keys (scope, key, fingerprint, created_at) values ('s', :key, 'f', :at)")
        for key, days in (("old", 31), ("new", 29)):
            await work.rows(add, key=key, at=utc_now() - timedelta(days=days))
    assert not await forget_keys(database, Idempotency(MetaData()).table, timedelta(days=30))
    async with database.reading() as session:
        assert (await session.execute(text("select key from idempotency_keys"))).scalars().all() == ["new"]
    await database.close()

"""How identity tells which sessions have ended: at once if any have, and otherwise when one does."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI, Response

from chassis.clients import HttpSession, Unavailable
from chassis.service import serve
from chassis.sessions import REMEMBERED_FOR, ended_fetcher
from chassis.settings import ProcessSettings
from contracts.identity import EndedSessionList
from services.identity import ended
from services.identity.ended import EndedSessionsWatch, Ends
from tests.conftest import eventually
from tests.services.identity.conftest import Shop, session_of

FOR_EVER = 600.0


class Ledger:
    """What identity's database would say, and how often it was asked."""

    def __init__(self) -> None:
        self.ended: dict[UUID, int] = {}
        self.position = 10
        self.fault: Exception | None = None
        self.looks: list[int] = []

    def end(self) -> UUID:
        session_id = uuid4()
        self.ended[session_id] = self.position
        self.position += 1
        return session_id

    async def look(self, since: int) -> Ends:
        self.looks.append(since)
        if self.fault:
            raise self.fault
        return Ends(self.position, {session_id: at for session_id, at in self.ended.items() if at >= since})


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "LOOK_SECONDS", 0.01)


@asynccontextmanager
async def waiting(
    watch: EndedSessionsWatch, position: int, count: int = 1
) -> AsyncIterator[list["asyncio.Task[EndedSessionList]"]]:
    """So many who ask, and get no answer yet."""
    asking = [asyncio.create_task(watch.since(position, FOR_EVER)) for _ in range(count)]

    async def all_wait() -> bool:
        return watch._waiting == count

    await eventually(all_wait, what="the question to be held")
    yield asking
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_one_look_answers_all_who_wait() -> None:
    ledger = Ledger()
    watch = EndedSessionsWatch(ledger.look)
    async with watch.running():
        position = (await watch.since(0, FOR_EVER)).position
        async with waiting(watch, position, 20) as asking:
            session_id = ledger.end()
            answers = await asyncio.gather(*asking)
        assert all(answer == EndedSessionList(position=11, session_ids=[session_id]) for answer in answers)
        assert await watch.since(11) == EndedSessionList(position=11, session_ids=[]), "nobody hears of it again"
        assert (await watch.since(0, FOR_EVER)).session_ids == [session_id], "but who asks for the first time"


async def test_nothing_new_is_an_answer_after_a_while() -> None:
    watch = EndedSessionsWatch(Ledger().look)
    async with watch.running():
        assert await watch.since((await watch.since(0)).position, 0.02) == EndedSessionList(position=10, session_ids=[])


async def test_who_does_not_wait_or_asks_for_the_first_time_is_answered_by_a_look_of_its_own() -> None:
    ledger = Ledger()
    watch = EndedSessionsWatch(ledger.look)  # it never looks by itself
    first = ledger.end()
    assert (await watch.since(0, FOR_EVER)).session_ids == [first]
    second = ledger.end()
    assert (await watch.since(11)).session_ids == [second]
    third = ledger.end()
    later = ledger.position
    assert (await watch.since(later, FOR_EVER)).position == later, "another process of identity has looked later"
    assert watch._ended_from(0) == [first, second, third]


async def test_nobody_hears_that_nothing_ended_while_the_database_cannot_be_asked() -> None:
    ledger = Ledger()
    watch = EndedSessionsWatch(ledger.look)
    async with watch.running():
        position = (await watch.since(0)).position
        async with waiting(watch, position, 3) as asking:
            ledger.fault = ConnectionError("away")
            answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ConnectionError] * 3
        for wait_s in (0, FOR_EVER):
            with pytest.raises(ConnectionError):
                await watch.since(position, wait_s)
        session_id = ledger.end()
        ledger.fault = None

        async def is_told() -> bool:
            try:
                return (await watch.since(position, FOR_EVER)).session_ids == [session_id]
            except ConnectionError:
                return False

        await eventually(is_told)


async def test_a_database_that_counts_anew_is_read_from_the_start() -> None:
    ledger = Ledger()
    ledger.end()
    watch = EndedSessionsWatch(ledger.look)
    async with watch.running():
        position = (await watch.since(0)).position
        async with waiting(watch, position) as asking:
            ledger.ended.clear()
            ledger.position = 3  # restored into another server
            session_id = ledger.end()
            assert (await asking[0]).position == 4, "whoever waits hears that it has to begin anew"
        assert (await watch.since(0)).session_ids == [session_id]


async def test_what_no_longer_matters_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "REMEMBERED_FOR", REMEMBERED_FOR / 10_000)
    ledger = Ledger()
    watch = EndedSessionsWatch(ledger.look)
    async with watch.running():
        ledger.end()
        assert len((await watch.since(0)).session_ids) == 1
        ledger.ended.clear()

        async def is_forgotten() -> bool:
            return not (await watch.since(0)).session_ids

        await eventually(is_forgotten)


async def test_not_more_wait_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "MOST_WAITING", 2)
    watch = EndedSessionsWatch(Ledger().look)
    async with watch.running():
        position = (await watch.since(0)).position
        async with waiting(watch, position, 2):
            assert not (await watch.since(position, FOR_EVER)).session_ids


async def test_a_process_that_stops_lets_go_of_all_who_wait() -> None:
    """Otherwise each restart of identity would take as long as it may drain, and then cut them off."""
    watch = EndedSessionsWatch(Ledger().look)
    app = FastAPI()

    @app.get("/internal/v1/ended-sessions")
    async def tell(since: int, wait_s: float = 0) -> Response:
        return Response((await watch.since(since, FOR_EVER if wait_s else 0)).model_dump_json())

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = asyncio.create_task(serve(app, ProcessSettings(host="127.0.0.1", port=port), at_stop=watch.stop))
    async with watch.running(), HttpSession() as http:
        ask = ended_fetcher(http, f"http://127.0.0.1:{port}")

        async def is_up() -> bool:
            with suppress(Unavailable):
                return (await ask(0)).position == 10
            return False

        await eventually(is_up)
        held = asyncio.ensure_future(ask(10))

        async def is_held() -> bool:
            return watch._waiting == 1

        await eventually(is_held)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await held == EndedSessionList(position=10, session_ids=[]), "an answer, and not a connection that was cut off"
        await serving


async def test_identity_answers_when_a_session_ends(shop: Shop) -> None:
    """Over HTTP, from the database, as every process asks it."""
    headers = await shop.customer("ada@example.com")
    path = "/internal/v1/ended-sessions"
    position = (await shop.http.get(path)).json()["position"]
    asking = asyncio.create_task(shop.http.get(path, params={"since": position, "wait_s": 60}))
    assert (await shop.http.post("/api/v1/auth/logout", json={}, headers=headers)).status_code == 204
    assert (await asking).json()["session_ids"] == [session_of(headers)]
    assert (await shop.http.get(path, params={"wait_s": 61})).status_code == 422

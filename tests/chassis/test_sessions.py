"""The list of ended sessions that each process keeps."""

import asyncio
from uuid import UUID, uuid4

import pytest

from chassis import sessions
from chassis.clients import Unavailable
from chassis.sessions import EndedSessions
from contracts.identity import EndedSessionList
from tests.conftest import eventually


class Identity:
    """What identity would tell."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, UUID]] = []
        self.position = 10
        self.is_away = False
        self.asked: list[int] = []

    def end(self) -> UUID:
        self.ended.append((self.position, uuid4()))
        self.position += 1
        return self.ended[-1][1]

    async def tell(self, since: int) -> EndedSessionList:
        self.asked.append(since)
        if self.is_away:
            raise Unavailable("away")
        return EndedSessionList(position=self.position, session_ids=[ended for at, ended in self.ended if at >= since])


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ASK_SECONDS", 0.01)


async def test_the_list_grows_by_what_is_new_and_outlives_an_absence_of_identity() -> None:
    identity = Identity()
    first = identity.end()
    ended = EndedSessions(identity.tell)
    async with ended.following():
        await ended.wait_until_known()
        assert ended.all() == {first}
        identity.is_away = True
        asked = len(identity.asked)

        async def asked_in_vain() -> bool:
            return len(identity.asked) > asked + 2

        await eventually(asked_in_vain)
        assert ended.contains(first)
        second = identity.end()
        identity.is_away = False

        async def second_is_known() -> bool:
            return ended.contains(second)

        await eventually(second_is_known)
    assert ended.all() == {first, second}
    assert identity.asked[0] == 0
    assert set(identity.asked[1:]) <= {11, 12}


async def test_a_database_that_counts_anew_is_read_from_the_start() -> None:
    identity = Identity()
    ended = EndedSessions(identity.tell)
    async with ended.following():
        await ended.wait_until_known()
        identity.position = 3  # restored into another server
        lost = identity.end()

        async def is_known() -> bool:
            return ended.contains(lost)

        await eventually(is_known)


async def test_a_session_is_forgotten_when_its_tokens_have_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "REMEMBERED_FOR", sessions.REMEMBERED_FOR / 10_000)
    identity = Identity()
    identity.end()
    ended = EndedSessions(identity.tell)
    await ended.wait_until_known()
    assert len(ended.all()) == 1
    async with ended.following():

        async def is_forgotten() -> bool:
            return not ended.all()

        await eventually(is_forgotten)


async def test_a_process_that_has_heard_nothing_yet_asks_once_for_all_who_wait() -> None:
    identity = Identity()
    identity.is_away = True
    ended = EndedSessions(identity.tell)
    with pytest.raises(Unavailable, match="away"):
        await ended.wait_until_known()
    identity.is_away = False
    await asyncio.gather(*[ended.wait_until_known() for _ in range(5)])
    assert identity.asked == [0, 0]

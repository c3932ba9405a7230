"""Services that answer wrongly: their client gets a clean answer or a cut connection, and nobody gets what is another's."""

import asyncio
import json

import pytest

from tests.gateway.hostile import answers
from tests.gateway.hostile.answers import CUT, Bad
from tests.gateway.hostile.cases import HOST, head
from tests.gateway.hostile.conftest import Door
from tests.gateway.hostile.services import Scripted
from tests.gateway.hostile.wire import connected, exchange

QUICK = {name.lower(): table for name, table in vars(answers).items() if name in ("DEATHS", "TWICE", "LENGTHS", "HEADS")}


def _asking(door: Door, method: str, path: str) -> bytes:
    line = f"{method} {path} HTTP/1.1".encode()
    return door.people.fill(head(line, HOST, b"Authorization: Bearer <customer>"))


def _path(case: Bad, number: int) -> str:
    return f"/api/v1/shipping/{number}" if case.method == "POST" else f"/api/v1/tracking/{number}"


@pytest.mark.parametrize("table", QUICK)
async def test_wrong_answers(door: Door, scripted: Scripted, table: str) -> None:
    failures = []
    for number, case in enumerate(QUICK[table]):
        scripted.scripts = {_path(case, number): case.does}
        scripted.asked.clear()
        try:
            await _check(door, scripted, case, number)
        except (AssertionError, TimeoutError) as error:
            failures.append(f"{case.name}: {type(error).__name__} {error}")
    assert not failures, f"{len(failures)} of {len(QUICK[table])} cases\n\n" + "\n\n".join(failures)


async def _check(door: Door, scripted: Scripted, case: Bad, number: int) -> None:
    await _told(door, case, number)
    await asyncio.sleep(0.1)  # what comes too late has come now
    path = f"/api/v1/tracking/other-{number}"
    others = await asyncio.gather(*(exchange(door.port, _asking(door, "GET", path) * 3, answers=3) for _ in range(3)))
    for other in others:
        assert [(answer.status, answer.body) for answer in other] == [(200, f"hello, {path}".encode())] * 3
    tries = scripted.asked.count(_path(case, number))
    assert tries == 1 or (case.method != "POST" and tries == 2), f"asked {tries} times"


async def _told(door: Door, case: Bad, number: int) -> None:
    async with connected(door.port) as wire:
        await wire.send(_asking(door, case.method, _path(case, number)))
        answer = await wire.answer(to_head=case.method == "HEAD")
        while answer is not None and answer.status in (100, 102, 103):
            answer = await wire.answer(to_head=case.method == "HEAD")
        wire.end_sending()
        rest = await wire.rest()
        if case.told == CUT:
            assert answer is None, answer
            assert rest.startswith(b"HTTP/1.1 200"), rest
            assert case.without.encode() not in rest
            return
        assert answer is not None, rest
        assert (answer.status, rest) == (case.told, b""), answer
        assert case.without not in str(answer)
        if case.told == 200:
            assert answer.body == case.body
        elif answer.status >= 400:
            problem = json.loads(answer.body)
            assert problem["code"] == ("upstream_timeout" if case.told == 504 else "service_unavailable")


async def test_slow_answers(hasty: Door, scripted: Scripted) -> None:
    scripted.scripts = {_path(case, number): case.does for number, case in enumerate(answers.SLOW)}
    await asyncio.gather(*(_told(hasty, case, number) for number, case in enumerate(answers.SLOW)))
    (answer,) = await exchange(hasty.port, _asking(hasty, "GET", "/api/v1/tracking/other"), answers=1)
    assert answer.body == b"hello, /api/v1/tracking/other"

"""Group commit: who comes while a transaction runs shares the next one."""

import asyncio
from collections.abc import Sequence

import pytest

from chassis.together import Together


class Desk:
    """Doubles numbers, refuses negative ones; one batch at a time, each when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go = asyncio.Event()
        self.fault: Exception | None = None

    async def do(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        await self.may_go.wait()
        if self.fault:
            raise self.fault
        return [number * 2 if number >= 0 else ValueError(number) for number in numbers]


async def asked(together: Together[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(together(number)) for number in numbers]
    await asyncio.sleep(0)  # each has got to where it waits
    return tasks


async def test_who_comes_while_one_is_served_is_served_together_with_the_others() -> None:
    desk = Desk()
    together: Together[int, int] = Together(desk.do, largest=3)
    first = await asked(together, 1)
    await asyncio.sleep(0)
    rest = await asked(together, 2, 3, 4, 5)
    desk.may_go.set()
    assert await asyncio.gather(*first, *rest) == [2, 4, 6, 8, 10]
    assert desk.batches == [[1], [2, 3, 4], [5]]
    assert await together(6) == 12
    assert desk.batches[-1] == [6]


async def test_a_refusal_is_of_the_one_that_is_refused() -> None:
    desk = Desk()
    together: Together[int, int] = Together(desk.do)
    desk.may_go.set()
    answers = await asyncio.gather(*await asked(together, 1, -2, 3), return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, ValueError, int]


async def test_a_fault_is_everybodys_and_the_next_ones_go_on() -> None:
    desk = Desk()
    together: Together[int, int] = Together(desk.do)
    desk.fault = ConnectionError("away")
    desk.may_go.set()
    answers = await asyncio.gather(*await asked(together, 1, 2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError, ConnectionError]
    desk.fault = None
    assert await together(3) == 6


async def test_who_gives_up_waiting_stops_nobody() -> None:
    desk = Desk()
    together: Together[int, int] = Together(desk.do)
    [first] = await asked(together, 1)
    await asyncio.sleep(0)
    impatient, patient = await asked(together, 2, 3)
    first.cancel()
    impatient.cancel()
    desk.may_go.set()
    assert await patient == 6
    assert desk.batches == [[1], [3]]
    for task in (first, impatient):
        with pytest.raises(asyncio.CancelledError):
            await task

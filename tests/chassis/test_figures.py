"""Figures on a real database: one process asks, however many there are, and another when that one is gone."""

import asyncio

import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.core import GaugeMetricFamily

import chassis.figures
from chassis.figures import Figures
from embedded.postgres import PostgresServer

NAME = "asked_of_the_tests"


class Question:
    """Counts how often it is asked."""

    def __init__(self, name: str = NAME, takes_s: float = 0.0) -> None:
        self.asked = 0
        self.fails = False
        self._takes_s = takes_s
        self._name = name

    async def __call__(self) -> list[Metric]:
        self.asked += 1
        await asyncio.sleep(self._takes_s)
        if self.fails:
            raise ConnectionError("away")
        return [GaugeMetricFamily(self._name, "For tests.", self.asked)]


def told(name: str = NAME) -> float | None:
    return REGISTRY.get_sample_value(name)


def figures(postgres: PostgresServer, *questions: Question) -> Figures:
    return Figures("tests", postgres.url("postgres", driver="postgresql"), questions, every_s=60)


async def test_one_of_two_processes_asks_and_the_other_takes_its_place(postgres: PostgresServer) -> None:
    one, two = Question(), Question()
    async with figures(postgres, two) as second:
        async with figures(postgres, one) as first:
            await first.take()
            await second.take()
            await first.take()
            assert (one.asked, two.asked, told()) == (2, 0, 2)
        assert told() is None
        await second.take()
        assert (one.asked, two.asked, told()) == (2, 1, 1)
    assert told() is None


async def test_a_process_that_lost_its_lock_tells_nothing_until_it_has_it_again(postgres: PostgresServer) -> None:
    question = Question()
    async with figures(postgres, question) as taken:
        await taken.take()
        assert told() == 1
        assert taken._holding is not None
        taken._holding.terminate()
        with pytest.raises(Exception, match="closed"):
            await taken.take()
        assert told() is None
        await taken.take()
        assert told() == 2


@pytest.fixture(autouse=True)
def questions_that_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chassis.figures, "SHARE", 0)


async def test_a_question_that_fails_keeps_its_last_answer_and_the_others_theirs(postgres: PostgresServer) -> None:
    failing, well = Question(), Question("also_asked_of_the_tests")
    async with figures(postgres, failing, well) as taken:
        await taken.take()
        failing.fails = True
        with pytest.raises(ConnectionError):
            await taken.take()
        assert (told(), told("also_asked_of_the_tests")) == (1, 2)


async def test_an_answer_that_is_too_old_is_not_offered(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chassis.figures, "ROUNDS", 0)
    async with figures(postgres, Question()) as taken:
        await taken.take()
        assert told() is None


async def test_a_question_that_takes_long_is_asked_less_often(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chassis.figures, "SHARE", 1_000_000)
    slow = Question(takes_s=0.01)
    async with figures(postgres, slow) as taken:
        await taken.take()
        await taken.take()
        assert (slow.asked, told()) == (1, 1)

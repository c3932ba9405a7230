"""Each scenario of the demo comes to what its table says."""

import io
from collections.abc import Sequence

import pytest
import pytest_asyncio
from rich.console import Console

from cli.demo import report
from cli.demo.baskets import Chosen, choose
from cli.demo.play import Played, play, progress_on
from testing.scenarios import GROUP, ORDINARY, STORIES, TOO_HEAVY
from testing.stage import Stage, small_baskets
from tests.journeys.conftest import BASKETS

TIMES = 2


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(stage: Stage) -> list[Played]:
    """A small demo: every scenario a few times, all at once."""
    baskets = iter(small_baskets(BASKETS))
    chosen = [Chosen(next(baskets), scenario) for scenario in (*STORIES, ORDINARY) for _ in range(TIMES)]
    return await play(stage.shop, chosen, progress_on(Console(quiet=True)), run="scenarios")


@pytest.mark.parametrize("name", [scenario.name for scenario in (*STORIES, ORDINARY)])
async def test_a_scenario_comes_to_what_was_expected(played: Sequence[Played], name: str) -> None:
    of_it = [one for one in played if one.scenario.name == name]
    assert len(of_it) == TIMES
    for one in of_it:
        assert one.shown == (one.scenario.answer, one.scenario.then, one.scenario.end)


def test_the_demo_plays_every_scenario() -> None:
    chosen = choose(None, 5 * GROUP)
    counts = {scenario.name: sum(one.scenario is scenario for one in chosen) for scenario in (*STORIES, ORDINARY, TOO_HEAVY)}
    assert [counts[scenario.name] for scenario in STORIES] == [5] * len(STORIES)
    assert counts[ORDINARY.name] > 100


async def test_a_scenario_that_comes_to_something_else_is_told(played: Sequence[Played]) -> None:
    one = next(one for one in played if one.scenario is ORDINARY)
    wrong = Played(one.basket, STORIES[0], one.seen, one.end)
    assert one.as_expected
    assert not wrong.as_expected
    printed = io.StringIO()
    Console(file=printed, width=120).print(report.comparison([wrong]))
    assert "0 of 1" in printed.getvalue()
    assert one.order_id in printed.getvalue()

"""How turns are summed up, and in which sequence the halves of a ratio run."""

import pytest

from benchmarks.figures import FIGURES, alternating, at_least, at_most, quantile, spread, spreads
from benchmarks.lag import buckets, quantile_ms


def test_a_spread_has_median_minimum_maximum_and_its_turns() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "turns": [3.0, 1.0, 2.0]}
    assert spreads([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}])["b"]["turns"] == [2.0, 4.0]
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


async def test_each_half_is_as_often_the_first() -> None:
    ran: list[str] = []

    async def half(name: str) -> str:
        ran.append(name)
        return name

    found = await alternating(lambda: half("a"), lambda: half("b"), turns=4)
    assert found == [("a", "b")] * 4
    assert ran == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_a_target_is_met_at_its_bound() -> None:
    assert at_least(1.0).is_met(1.0)
    assert not at_least(1.0).is_met(0.99)
    assert at_most(1.9).is_met(1.9)
    assert not at_most(1.9).is_met(1.91)
    assert str(at_least(5000)) == "≥ 5,000"


def test_quantiles_lie_within_what_was_seen() -> None:
    values = [float(value) for value in range(1, 101)]
    assert quantile(values, 0.5) == pytest.approx(50.5, abs=0.2)
    assert quantile(values, 0.99) == pytest.approx(99, abs=0.2)


def test_the_targets_of_the_issue_are_there() -> None:
    targets = {name: str(figure.target) for name, figure in FIGURES.items() if figure.target}
    assert targets["orders_to_regular"] == "≥ 1"
    assert targets["cpu_to_local"] == "≤ 1.9"
    assert targets["post_to_update"] == "≤ 2"
    assert targets["event_lag_p99_ms"] == "≤ 150"


def test_lag_is_that_of_what_came_between_two_readings() -> None:
    def reading(within_100_ms: int, within_200_ms: int) -> dict[float, float]:
        counts = {"0.1": within_100_ms, "0.2": within_200_ms, "+Inf": within_200_ms}
        lines = (f'event_lag_seconds_bucket{{le="{bound}",topic="a"}} {count}' for bound, count in counts.items())
        return buckets("\n".join(lines))

    assert quantile_ms(reading(5, 5), reading(5, 15), 0.5) == pytest.approx(150)
    assert quantile_ms({}, reading(5, 5), 0.5) == pytest.approx(50)

"""A good and a bad build of the saga come, are ramped, rolled back and promoted while customers order: nobody notices."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from testing.edited_tree import Edit, edited_tree
from testing.histories import Call
from testing.upgrade.drill import FULL, SHORT, Route, drill, may_get, unanswered


@pytest.mark.timeout(0)  # each wait within has a limit of its own
async def test_an_upgrade_goes_unnoticed_and_a_bad_one_is_refused(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    seed = int(request.config.getoption("--seed"))
    form = {"short": SHORT, "full": FULL}[request.config.getoption("--drill")]
    console = Console(width=130)
    console.print(f"seed {seed}; what clients saw, and all logs: {tmp_path}", markup=False)
    result = await drill(tmp_path, seed, form, console)
    result.print(console)
    assert not result.problems, "\n".join(result.problems)
    assert len({build for build, _, _ in result.orders}) == 3


def test_an_edit_that_does_not_apply_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"worker\.py \(a test\) finds its text 0 times"):
        edited_tree(tmp_path, [Edit("worker.py", "no such text", "", why="a test")])


def test_a_fault_counts_unless_the_same_request_was_answered_later() -> None:
    def call(key: str | None, status: int | None, at: float) -> Call:
        return Call("ann", "POST", "/api/v1/orders", {}, at, at + 1, status, key=key)

    calls = [call("a", 503, 0), call("a", 201, 2), call("b", 201, 0), call("b", None, 2), call(None, 500, 5), call("c", 409, 6)]
    found = unanswered(calls)
    assert len(found) == 2
    assert "key b" in found[0]
    assert "500" in found[1]


def test_which_builds_may_get_an_order_is_known_at_every_moment() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def at(seconds: int) -> datetime:
        return begin + timedelta(seconds=seconds)

    routes = [
        Route(frozenset({"old"}), at(0), at(10)),
        Route(frozenset({"old", "new"}), at(12), at(20)),
        Route(frozenset({"new"}), at(22)),
    ]
    found = [may_get(routes, at(seconds)) for seconds in (5, 11, 15, 21, 30)]
    assert found == [{"old"}, {"old", "new"}, {"old", "new"}, {"old", "new"}, {"new"}]

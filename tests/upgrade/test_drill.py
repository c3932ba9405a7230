"""A good and a bad build of the saga come, are ramped, rolled back and promoted while customers order: nobody notices."""

from pathlib import Path

import pytest
from rich.console import Console

from testing.upgrade.drill import FULL, SHORT, drill
from testing.upgrade.trees import Edit, edited_tree


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

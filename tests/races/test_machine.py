"""The machine finds the races that were there, and plays the same race again for the same seed."""

import pytest

from tests.races import inventory, old_inventory
from tests.races.conftest import Arenas

SEEDS = 100
"""A race that is there is found in one of so many worlds; most are in the first ten."""


@pytest.mark.parametrize(
    ("pair", "what"),
    [
        pytest.param(("release", "sweep"), "are reserved, and", id="I1, stock is given back twice"),
        pytest.param(("release", "sweep"), "InventoryReleased of", id="I1, and that is told twice"),
        pytest.param(("release", "sweep"), "deadlock", id="I2, the sweep deadlocks"),
        pytest.param(("reserve", "reserve"), 'refused: out_of_stock instead of "RESERVED"', id="I3, false out_of_stock"),
    ],
)
async def test_i1_i2_i3_the_old_races_are_found(arena_of: Arenas, pair: tuple[str, str], what: str) -> None:
    arena = await arena_of(old_inventory.SUBJECT)
    for seed in range(SEEDS):
        if any(what in wrong for wrong in await arena.play(pair, seed)):
            return
    pytest.fail(f"not found in {SEEDS} worlds: {what}")


async def test_the_same_seed_plays_the_same_race(arena_of: Arenas) -> None:
    arena = await arena_of(inventory.SUBJECT)
    races: list[list[str]] = []
    for _ in range(2):
        await arena.play(("reserve", "release"), 1)
        races.append(arena.last_steps)
    assert races[0] == races[1]
    assert len({step.split(":")[0] for step in races[0]}) >= 2

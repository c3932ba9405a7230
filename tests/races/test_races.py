"""Every pair of commands of a service, also a command with itself, in interleavings that seeds decide."""

from itertools import combinations_with_replacement
from typing import Any

import pytest

from tests.races import (
    analytics,
    catalog,
    identity,
    inventory,
    notification,
    order,
    payment,
    returns,
    shipping,
    transfers,
    waiting,
)
from tests.races.conftest import Arenas
from tests.races.machine import Subject

SUBJECTS: tuple[Subject[Any], ...] = (
    inventory.SUBJECT,
    waiting.SUBJECT,
    order.SUBJECT,
    returns.SUBJECT,
    payment.SUBJECT,
    transfers.SUBJECT,
    shipping.SUBJECT,
    catalog.SUBJECT,
    notification.SUBJECT,
    identity.SUBJECT,
    analytics.SUBJECT,
)
PAIRS = [
    pytest.param(subject, pair, id=f"{subject.service}: {', '.join(pair)}")
    for subject in SUBJECTS
    for pair in combinations_with_replacement(subject.commands, 2)
]


@pytest.mark.parametrize(("subject", "pair"), PAIRS)
async def test_whatever_the_interleaving_it_is_as_if_one_came_after_the_other(
    arena_of: Arenas, race_seeds: int, subject: Subject[Any], pair: tuple[str, str]
) -> None:
    arena = await arena_of(subject)
    for seed in range(subject.worlds(race_seeds)):
        wrong = await arena.play(pair, seed)
        assert not wrong, wrong[0]

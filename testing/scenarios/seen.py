"""What a scenario is, what one play of it shows, and how sums of money are told of in it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contracts.money import Money
from testing.shop import Placed, Purchase, Shop


@dataclass(frozen=True)
class Seen:
    """What one play showed, in words that can be compared with what was expected."""

    placed: Placed
    then: str = ""


Play = Callable[[Shop, Purchase], Awaitable[Seen]]


@dataclass(frozen=True)
class Scenario:
    """`answer`: to POST /orders. `then`: of what followed at once. `end`: where the order is when all is quiet."""

    name: str
    what: str
    play: Play
    answer: str
    end: str
    then: str = ""


def minor(money: Mapping[str, Any]) -> int:
    """A sum in minor units."""
    return Money.model_validate(money).minor


def as_share(minor: int, share: int) -> str:
    """A sum that should be somebody's share, in minor units."""
    return "its share" if minor == share else f"{minor} instead of {share} cents"

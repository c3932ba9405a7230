"""What a rule is. Each module in `audit.rules` holds the rules of one subject."""

from collections.abc import Callable
from dataclasses import dataclass

from audit.books import Source
from audit.verdict import Check
from audit.world import World

Judge = Callable[[World, Check], None]


@dataclass(frozen=True)
class Rule:
    """One thing that must hold."""

    code: str
    """Its function's name: what a report calls it."""
    title: str
    needs: tuple[Source, ...]
    judge: Judge


def rule(title: str, *needs: Source) -> Callable[[Judge], Rule]:
    """Makes a function a rule. It is left out where a source that it needs could not be read."""
    return lambda judge: Rule(judge.__name__, title, needs, judge)

"""Many runs: by seed, and the short stories of those that failed."""

import gc
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from testing.explorer.adversary import USUAL, Choices, Story
from testing.explorer.checks import violations as violations_of_order
from testing.explorer.return_checks import violations_of_return
from testing.explorer.returns import PlayedReturn, ReturnPlayer
from testing.explorer.run import Played, Player
from testing.explorer.shrink import shrink


@dataclass(frozen=True)
class Finding:
    """What does not hold, and the shortest story that was found of it."""

    violation: str
    story: Story
    log: tuple[str, ...]

    def __str__(self) -> str:
        choices = [f"{name}: {choice}" for name, choice in self.story.items()] or ["(nothing unusual)"]
        return "\n".join([self.violation, *(f"    {line}" for line in choices), *(f"        {line}" for line in self.log)])


def violations(played: Played | PlayedReturn) -> list[str]:
    """What does not hold; none if all is well. The first is the nearest to the cause."""
    return violations_of_order(played) if isinstance(played, Played) else violations_of_return(played)


def play_seed(seed: int) -> Played | PlayedReturn:
    """What this seed chooses."""
    return _play(Choices(seed))


def play_story(story: Story) -> Played | PlayedReturn:
    """Exactly this story; what it does not tell is as usual."""
    return _play(Choices(story=story))


def explore(seeds: Iterable[int]) -> Iterator[Finding]:
    """Play each seed; one finding for each kind of violation."""
    seen: set[str] = set()
    for seed in seeds:
        played = play_seed(seed)
        found = violations(played)
        if found and (kind := kind_of(found[0])) not in seen:
            seen.add(kind)
            yield shortened(played.story, found[0])


def shortened(story: Story, violation: str) -> Finding:
    """The finding of this kind with the shortest story that delta debugging gets."""
    kind = kind_of(violation)

    def fails(story: Story) -> bool:
        found = violations(play_story(story))
        return bool(found) and kind_of(found[0]) == kind

    if not fails(story):
        raise AssertionError(f"the story does not repeat what its seed found: {violation}: {story}")
    short = shrink(story, fails)
    played = play_story(short)
    return Finding(violations(played)[0], short, tuple(played.log))


def kind_of(violation: str) -> str:
    """The violation without its numbers and currencies, so that one defect is told once."""
    return re.sub(r"[0-9][0-9.,]*( (?:USD|EUR|JPY|KWD))?", "#", violation)


def play_order(choices: Choices) -> Played:
    """An order."""
    with _quietly():
        played = Player(choices).play()
        if played.broken:
            gc.collect()
        return played


def play_return(choices: Choices) -> PlayedReturn:
    """A return of an order that was delivered."""
    with _quietly():
        played = ReturnPlayer(choices).play()
        if played.broken:
            gc.collect()
        return played


def _play(choices: Choices) -> Played | PlayedReturn:
    is_return = choices.choose("what is played", 0.25, ["a return"]) != USUAL
    return play_return(choices) if is_return else play_order(choices)


@contextmanager
def _quietly() -> Iterator[None]:
    """What a workflow had begun when its worker died is dropped half-way: Python warns of each coroutine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield

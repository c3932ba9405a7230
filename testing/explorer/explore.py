"""Many runs: by seed, and the short stories of those that failed."""

import gc
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from testing.explorer.adversary import Choices, Story
from testing.explorer.checks import violations
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


def play_seed(seed: int) -> Played:
    """What this seed chooses."""
    return _play(Choices(seed))


def play_story(story: Story) -> Played:
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


def _play(choices: Choices) -> Played:
    with warnings.catch_warnings():
        # What a workflow had begun when its worker died is dropped half-way: Python warns of each coroutine.
        warnings.simplefilter("ignore", RuntimeWarning)
        played = Player(choices).play()
        if played.broken:
            gc.collect()
        return played

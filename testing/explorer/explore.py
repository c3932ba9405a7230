"""Many runs: by seed, and the short stories of those that failed."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from testing.explorer.adversary import Choices, Story
from testing.explorer.checks import violations
from testing.explorer.run import Played, Player
from testing.explorer.shrink import shrink


@dataclass(frozen=True)
class Finding:
    """What does not hold, and the shortest story that was found of it."""

    seed: int
    violation: str
    story: Story
    log: tuple[str, ...]

    def __str__(self) -> str:
        choices = [f"    {name}: {choice}" for name, choice in self.story.items()] or ["    (nothing unusual)"]
        return "\n".join([f"seed {self.seed}: {self.violation}", *choices, *(f"      {line}" for line in self.log)])


def play_seed(seed: int) -> Played:
    return Player(Choices(seed)).play()


def play_story(story: Story) -> Played:
    return Player(Choices(story=story)).play()


def explore(seeds: Iterable[int]) -> Iterator[Finding]:
    """Play each seed; one finding for each kind of violation."""
    seen: set[str] = set()
    for seed in seeds:
        played = play_seed(seed)
        found = violations(played)
        if found and (kind := kind_of(found[0])) not in seen:
            seen.add(kind)
            yield shortened(seed, played.story, kind)


def shortened(seed: int, story: Story, kind: str) -> Finding:
    """The finding of this kind with the shortest story that delta debugging gets."""

    def fails(story: Story) -> bool:
        found = violations(play_story(story))
        return bool(found) and kind_of(found[0]) == kind

    if not fails(story):
        raise AssertionError(f"seed {seed} is not repeated by its story: {story}")
    short = shrink(story, fails)
    played = play_story(short)
    return Finding(seed, violations(played)[0], short, tuple(played.log))


def kind_of(violation: str) -> str:
    """The violation without its numbers, so that one defect is told once."""
    return re.sub(r"[0-9][0-9.,]*", "#", violation)

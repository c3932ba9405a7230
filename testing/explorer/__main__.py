"""`make explore`: play many seeds, or one, or a story from a file; print the short story of whatever does not hold."""

import argparse
import logging
import sys
import time
from pathlib import Path

from testing.explorer.adversary import Story
from testing.explorer.explore import explore, play_seed, play_story, shortened, violations


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testing.explorer", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one only, and tell what happened")
    parser.add_argument("--story", type=Path, help="a file of lines `name: choice`: play it, and tell what happened")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the workflow's own words are in the story
    if options.story:
        return _tell(read_story(options.story.read_text()))
    if options.seed is not None:
        return _tell(play_seed(options.seed).story)
    began, found = time.monotonic(), 0
    for finding in explore(range(options.first, options.first + options.seeds)):
        found += 1
        sys.stdout.write(f"{finding}\n\n")
        sys.stdout.flush()
    sys.stdout.write(f"{options.seeds} seeds, {found} kinds of violations, {time.monotonic() - began:.0f} s\n")
    return int(found > 0)


def read_story(text: str) -> Story:
    """A story as it is printed: one choice a line."""
    lines = [line.strip() for line in text.splitlines() if ": " in line]
    return {name: choice for name, _, choice in (line.partition(": ") for line in lines)}


def _tell(story: Story) -> int:
    played = play_story(story)
    found = violations(played)
    lines = [*(f"{name}: {choice}" for name, choice in story.items()), "", *played.log, "", *(found or ["All holds."])]
    sys.stdout.write("\n".join(lines) + "\n")
    if found:
        sys.stdout.write(f"\nThe shortest story of it:\n{shortened(story, found[0])}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

"""From a run that failed to a short story that fails in the same way."""

from collections.abc import Callable

from testing.explorer.adversary import Story

Fails = Callable[[Story], bool]


def shrink(story: Story, fails: Fails) -> Story:
    """Delta debugging: leave out ever smaller parts for as long as what is left still fails."""
    names = list(story)
    size = max(len(names) // 2, 1)
    while names:
        for start in range(0, len(names), size):
            fewer = names[:start] + names[start + size :]
            if fails({name: story[name] for name in fewer}):
                names = fewer
                size = min(size, max(len(names) // 2, 1))
                break
        else:
            if size == 1:
                break
            size //= 2
    return {name: story[name] for name in names}

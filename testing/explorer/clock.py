"""Time that passes only when nothing else is left to do."""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    """Actions in the order of their times; those of one moment in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = START
        self.happened = 0
        self._actions: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = count()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return (self.now - START).total_seconds()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it that much later."""
        heapq.heappush(self._actions, (self.now + timedelta(seconds=seconds), next(self._numbers), action))

    def next(self) -> bool:
        """Let time pass until the next action, and do it; False if there is none."""
        if not self._actions:
            return False
        self.now, _, action = heapq.heappop(self._actions)
        self.happened += 1
        action()
        return True

"""How far a consumer is: as metrics, and as a word in its service's readiness."""

import time
from collections.abc import Iterable, Mapping

from prometheus_client import Gauge

from chassis.clock import utc_now

STALLED_SECONDS = 30.0
"""A consumer that has something to do, or cannot find out, and gets nothing done for so long, has stalled."""
records_behind = Gauge("consumer_records_behind", "Records that this process has still to apply.", ["consumer", "topic"])
oldest_unapplied = Gauge("consumer_oldest_unapplied_seconds", "Age of the oldest record still to be applied.", ["consumer"])
last_progress = Gauge(
    "consumer_last_progress_timestamp_seconds",
    "When something was last applied or parked, or there was seen to be nothing to do.",
    ["consumer"],
)


class Progress:
    """Of one consumer. While the broker cannot be asked, nobody knows whether there is something to do: that is no progress."""

    def __init__(self, consumer: str, topics: Iterable[str]) -> None:
        self._consumer = consumer
        self._behind = dict.fromkeys(topics, 0)
        self._oldest: float | None = None
        """When the oldest record that is not applied came about, in seconds since 1970."""
        self._since = 0.0

    def start(self) -> None:
        """From now on it is expected to get on."""
        self.advanced()
        self.measured(self._behind, None)
        oldest_unapplied.labels(self._consumer).set_function(lambda: time.time() - self._oldest if self._oldest else 0.0)

    def advanced(self) -> None:
        """Something was applied or parked, or there is nothing to do."""
        self._since = time.monotonic()
        last_progress.labels(self._consumer).set(utc_now().timestamp())

    def measured(self, behind: Mapping[str, int], oldest: float | None) -> None:
        """How many records of each topic are not applied, and when the oldest of those that are known came about."""
        self._behind = {topic: behind.get(topic, 0) for topic in self._behind}
        for topic, count in self._behind.items():
            records_behind.labels(self._consumer, topic).set(count)
        if not any(self._behind.values()):
            self._oldest = None
            self.advanced()
        else:
            self._oldest = oldest or self._oldest or time.time()

    def trouble(self) -> str | None:
        """What is wrong with it, if anything."""
        silent = time.monotonic() - self._since
        if silent < STALLED_SECONDS:
            return None
        return f"nothing applied for {silent:.0f} s; {sum(self._behind.values())} records wait, as far as is known"

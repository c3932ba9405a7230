"""A member of a consumer group that knows which of the records it has fetched are settled, and how many are still to come."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError

from chassis.kafka import close, end_offsets, on_connection_lost
from chassis.settings import ServiceSettings

BUSY_WAIT_MS, IDLE_WAIT_MS = 100, 250
"""How long the broker may wait for new events, while some come and otherwise. Apache Kafka answers as soon as there is one. The
embedded broker looks for them only at the beginning, at half and at the end of the wait, and each time at some cost."""
ENOUGH_BYTES = 100_000
"""With so many bytes of events the broker answers a reader at once that would wait for more."""
IDLE_SECONDS = 1.0
"""After so long without an event a reader waits as if none came."""


class GroupReader(ConsumerRebalanceListener):  # type: ignore[misc]
    """One membership, from `start` to `stop`. What is waiting to be settled its owner knows, and says."""

    def __init__(
        self,
        settings: ServiceSettings,
        group: str,
        topics: Iterable[str],
        *,
        gather_ms: int = 0,
        on_revoked: Callable[[Iterable[TopicPartition]], None],
    ) -> None:
        """`gather_ms`: how long the broker may keep an event back so that others come with it."""
        self._busy_wait_ms, self._idle_wait_ms = gather_ms or BUSY_WAIT_MS, max(gather_ms, IDLE_WAIT_MS)
        self._kafka = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._idle_wait_ms,
            fetch_min_bytes=ENOUGH_BYTES if gather_ms else 1,
            session_timeout_ms=settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=settings.kafka_session_timeout_ms // 6,
            request_timeout_ms=15_000,
            metadata_max_age_ms=10_000,
        )
        self._on_revoked = on_revoked
        self._assigned: set[TopicPartition] | None = None
        self._next: dict[TopicPartition, int] = {}
        """Behind the last record that was fetched of each partition."""
        self._committed: dict[TopicPartition, int] = {}
        self._last_event = float("-inf")
        """When one was last fetched, in the event loop's time."""
        self.is_lost = False
        on_connection_lost(self._kafka._client, self._lose)
        self._kafka.subscribe(topics, listener=self)

    async def start(self) -> None:
        await self._kafka.start()

    async def stop(self) -> None:
        await close(self._kafka._client, self._kafka)

    def _lose(self) -> None:
        self.is_lost = True

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._assigned = None
        self._next.clear()
        self._committed.clear()
        self._on_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._assigned = set(assigned)

    async def fetch(self, limit: int) -> list[ConsumerRecord]:
        """What has come, of all partitions: their events do not depend on each other, and a commit costs the same for all.

        Raises KafkaConnectionError once the connection has broken: perhaps the broker has lost its log, and these are from the
        middle of a new one."""
        batches = await self._kafka.getmany(timeout_ms=200, max_records=limit)
        if self.is_lost:
            raise KafkaConnectionError("the connection to the broker broke")
        now = asyncio.get_running_loop().time()
        if batches:
            self._last_event = now
        # For the next request, which is made as soon as this task waits; it has no public name.
        is_busy = now - self._last_event < IDLE_SECONDS
        self._kafka._fetcher._fetch_max_wait_ms = self._busy_wait_ms if is_busy else self._idle_wait_ms
        self._next |= {place: records[-1].offset + 1 for place, records in batches.items()}
        return [record for records in batches.values() for record in records]

    def _settled(self, waiting: Sequence[ConsumerRecord]) -> dict[TopicPartition, int]:
        """Up to where everything is settled, of the partitions of which something was fetched."""
        settled = dict(self._next)
        for record in waiting:
            place = TopicPartition(record.topic, record.partition)
            if place in settled:
                settled[place] = min(settled[place], record.offset)
        return settled

    async def commit(self, waiting: Sequence[ConsumerRecord]) -> None:
        """Store how far the group is. A lost assignment only means that somebody reads these again."""
        offsets = {place: offset for place, offset in self._settled(waiting).items() if self._committed.get(place) != offset}
        with suppress(CommitFailedError, IllegalStateError, TimeoutError):
            async with asyncio.timeout(5):  # aiokafka would wait as long as the broker is away
                if offsets:
                    await self._kafka.commit(offsets)
                    self._committed |= offsets

    async def behind(self, waiting: Sequence[ConsumerRecord]) -> dict[str, int] | None:
        """How many records of each topic are not settled; None while the group gives this process no share.

        Raises KafkaError if the broker cannot be asked."""
        assigned = self._assigned
        if assigned is None:
            return None
        ends = await end_offsets(self._kafka._client, assigned)
        settled = self._settled(waiting)
        behind: dict[str, int] = {}
        for place in assigned:
            start = settled[place] if place in settled else await self._kafka.position(place)
            # The embedded broker takes the first record of the last batch for the end.
            end = max(ends[place], self._next.get(place, 0))
            behind[place.topic] = behind.get(place.topic, 0) + max(end - start, 0)
        return behind

"""What the relay and the consumer know of Kafka that its client library does not do for them."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import LeaderNotAvailableError, OffsetOutOfRangeError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.offset import OffsetRequest

from chassis.logs import logger
from chassis.settings import ServiceSettings
from contracts.events import TOPICS

CLOSE_SECONDS = 5.0
READ_SECONDS = 15.0
_LATEST = -1
log = logger(__name__)


async def for_ever(once: Callable[[], Awaitable[None]], name: str, faults: tuple[type[Exception], ...]) -> None:
    """Run it again and again until cancelled. Faults of the surroundings get a line in the log; others are bugs, and get more.

    A bug must not end publishing or consuming for good: it is logged, and tried again.
    """
    loop = asyncio.get_running_loop()
    pause = 0.05
    while True:
        started = loop.time()
        try:
            await once()
        except asyncio.CancelledError as error:
            # aiokafka lets out the cancellation of tasks of its own. Only one that was asked of us ends us.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            log.warning(f"{name}_interrupted", error=repr(error))
        except faults as error:
            log.warning(f"{name}_interrupted", error=repr(error))
        except Exception as error:
            log.error(f"{name}_failed", exc_info=error)
        pause = 0.05 if loop.time() - started > 10 else min(pause * 2, 1.0)
        await asyncio.sleep(pause)


async def ensure_topics(settings: ServiceSettings, topics: Iterable[str] = TOPICS) -> None:
    """Create the topics that are missing. Raises KafkaError if the broker is away."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers, request_timeout_ms=5000)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        partitions, replication = settings.kafka_partitions, settings.kafka_replication
        missing = [NewTopic(name, partitions, replication) for name in topics if name not in existing]
        if missing:
            response = await admin.create_topics(missing)
            for _, code, *_ in response.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(code)
    finally:
        await admin.close()


def on_connection_lost(client: AIOKafkaClient, callback: Callable[[], None]) -> None:
    """Call back whenever a connection to a broker breaks; the library connects again and tells nobody.

    Behind a new connection there may be a broker that has lost what the old one held (the embedded one keeps nothing over a
    restart): whoever relies on what is there must look again before going on. Not called for a connection that we close.
    """
    inner = client._on_connection_closed

    def closed(connection: AIOKafkaConnection, reason: CloseReason | None) -> None:
        if reason not in (CloseReason.IDLE_DROP, CloseReason.SHUTDOWN):
            callback()
        inner(connection, reason)

    client._on_connection_closed = closed


async def close(client: AIOKafkaClient, owner: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stop a consumer or producer, whatever happens on the way.

    While the broker is away their own `stop` may hang, or end in the CancelledError of some task of theirs, which we would take
    for our own; and then it has not closed the connections.
    """
    for closing in (owner.stop(), client.close()):
        task = asyncio.ensure_future(closing)
        await asyncio.wait([task], timeout=CLOSE_SECONDS)
        if not task.done():
            task.cancel()
        elif not task.cancelled() and (error := task.exception()):
            log.warning("kafka_client_not_closed", error=repr(error))


async def end_offsets(client: AIOKafkaClient, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Where these partitions end; 0 for one that does not exist. Raises KafkaError if that cannot be told now.

    The consumer's method of this name waits for ever for a partition that is gone. On the embedded broker the end is that of the
    first record of the last batch.
    """
    cluster = await client.fetch_all_metadata()
    ends: dict[TopicPartition, int] = {}
    asked: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for place in partitions:
        leader = cluster.leader_for_partition(place)
        if leader is None:
            ends[place] = 0
        elif leader < 0:
            raise LeaderNotAvailableError(place)
        else:
            asked[leader][place.topic].append((place.partition, _LATEST))
    for leader, topics in asked.items():
        response = await client.send(leader, OffsetRequest(-1, 0, [(topic, wanted) for topic, wanted in topics.items()]))
        for topic, answers in response.topics:
            for partition, code, _, end, *_ in answers:
                if code != 0:
                    raise for_code(code)(f"{topic}, partition {partition}")
                ends[TopicPartition(topic, partition)] = end
    return ends


async def read_record(settings: ServiceSettings, topic: str, partition: int, offset: int) -> ConsumerRecord:
    """One record, by where it stands. Raises LookupError if there is none any more, KafkaError if the broker is away."""
    place = TopicPartition(topic, partition)
    reader = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="none", enable_auto_commit=False
    )
    try:
        await reader.start()
        if offset >= (await end_offsets(reader._client, [place]))[place] + 1:
            raise LookupError("the broker's log is shorter than that")
        reader.assign([place])
        reader.seek(place, offset)
        async with asyncio.timeout(READ_SECONDS):
            record: ConsumerRecord = await reader.getone()
    except (OffsetOutOfRangeError, TimeoutError) as error:
        raise LookupError("the broker no longer holds the record") from error
    finally:
        await close(reader._client, reader)
    if record.offset != offset:
        raise LookupError("the broker no longer holds the record")
    return record

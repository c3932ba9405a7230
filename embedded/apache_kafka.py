"""Apache Kafka itself as a child process, where Java (17 or later) and Maven are: what Tansu lacks, for real.

Maven fetches the jars once (54 MB) into the user's cache. One node is broker and controller (KRaft), with all
its state in `directory`: topics, events and group offsets survive a restart, and the idempotent producer
works.
"""

import asyncio
import os
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.kafka import answers, ensure_topics
from embedded.ports import free_port
from embedded.private import UMASK, private_directory, write_private
from embedded.supervisor import ProcessSpec, Supervisor

VERSION = "4.1.0"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>commerce</groupId><artifactId>apache-kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def available() -> bool:
    """Whether this machine has what it takes: `java` and `mvn` on the PATH."""
    return shutil.which("java") is not None and shutil.which("mvn") is not None


@dataclass(frozen=True, slots=True)
class ApacheKafka:
    """One node with its state in `directory`; the same face as `kafka.KafkaBroker`."""

    directory: Path
    port: int
    controller_port: int
    topics: tuple[str, ...] = ()
    partitions: int = 3

    @property
    def bootstrap(self) -> str:
        """127.0.0.1:port, for `bootstrap_servers`."""
        return f"127.0.0.1:{self.port}"

    def spec(self, name: str = "kafka") -> ProcessSpec:
        """The broker process; its first start fetches the jars and formats the storage."""
        java = ("java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{_libs()}/*")
        return ProcessSpec(
            name=name,
            argv=(*java, "kafka.Kafka", str(self._properties)),
            ready=lambda: answers(self.bootstrap),
            prepare=self._prepare,
            on_ready=lambda: ensure_topics(self.bootstrap, self.topics, self.partitions),
        )

    @property
    def _properties(self) -> Path:
        return self.directory.resolve() / "server.properties"

    async def _prepare(self) -> None:
        await fetch_jars()
        private_directory(self.directory)
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.directory.resolve() / "log"),
            "num.partitions": str(self.partitions),
            "broker.session.timeout.ms": "2000",  # after kill -9 the node waits for its own former session to end
            "broker.heartbeat.interval.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "5",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }
        write_private(self._properties, "".join(f"{key}={value}\n" for key, value in settings.items()))
        if not (self.directory / "log" / "meta.properties").exists():
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            arguments = ("format", f"--cluster-id={cluster}", "-c", str(self._properties))  # one in 64 ids begins with "-"
            await _run("java", "-cp", f"{_libs()}/*", "kafka.tools.StorageTool", *arguments)


@asynccontextmanager
async def running(directory: Path, topics: Iterable[str] = (), partitions: int = 3) -> AsyncIterator[ApacheKafka]:
    """A broker for the time of the block. Raises PartFailed if it does not start."""
    broker = ApacheKafka(directory, free_port(), free_port(), tuple(topics), partitions)
    async with Supervisor(directory, [broker.spec()]):
        yield broker


async def fetch_jars() -> None:
    """Have Maven copy the jars into the cache, unless they are there.

    Raises RuntimeError with Maven's output.
    """
    if _libs().exists():
        return
    if not available():
        raise RuntimeError("Apache Kafka needs java (17 or later) and mvn on the PATH; Tansu does without")
    home = _libs().parent
    home.mkdir(parents=True, exist_ok=True)
    (home / "pom.xml").write_text(_POM)
    new = home / f"libs.{os.getpid()}"
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={new}")
    await _run("mvn", "-q", "-B", "-f", str(home / "pom.xml"), *goal)
    if not _libs().exists():  # two at once: both copies are good, one stays
        new.rename(_libs())


def _libs() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "commerce" / f"apache-kafka-{VERSION}" / "libs"


async def _run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        umask=UMASK,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(argv[:2])} failed:\n{output.decode(errors='replace')[-4000:]}")

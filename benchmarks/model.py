"""What a cluster would need for so many orders per second: arithmetic from what one order was measured to cost.

Nothing is measured here, and what is assumed is named.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

SIZES = (100, 1_000, 10_000)
"""Confirmed orders per second."""
INFRASTRUCTURE = ("postgres", "kafka", "temporal", "valkey")
OUTSIDE = ("payment_provider", "carrier", "mail_sink", "client")
"""What stands for others here: not part of a cluster of ours."""


@dataclass(frozen=True)
class Assumed:
    """What the measurements on one machine cannot tell."""

    load: float = 0.6
    """The share of a core that is used on average, so that there is room for peaks and for the loss of a machine."""
    commits_per_database: int = 5_000
    """Commits per second of one PostgreSQL primary on disks of its own (NVMe, synchronous commit, one standby)."""
    wal_mb_per_database: float = 100.0
    """Write-ahead log per second of one primary."""
    events_per_partition: int = 2_000
    """Per second: what one consumer applies with its inbox, below what it was measured to do alone."""
    transitions_per_shard: int = 20
    """State transitions per second of one Temporal history shard, each of which is a write that the next one waits for."""
    transitions_per_node: int = 3_000
    """State transitions per second of one Temporal history node of 8 cores."""
    replicas: int = 3
    """Copies of each Kafka record."""


@dataclass(frozen=True)
class Cost:
    """Of one order, as measured."""

    cpu_ms: Mapping[str, float]
    """By process."""
    commits: Mapping[str, float]
    """By database."""
    statements: float
    wal_bytes: float
    kafka_records: float
    kafka_bytes: float
    state_transitions: float
    """In the Temporal server."""
    history_bytes: float


@dataclass(frozen=True)
class Need:
    """Of a cluster of one size."""

    orders_per_s: int
    cores: Mapping[str, int]
    """By kind of process."""
    databases: Mapping[str, int]
    """Primaries, by service: more than one is a database split by customer."""
    partitions: int
    """Of the busiest topic."""
    kafka_mb_per_s: float
    shards: int
    history_nodes: int
    history_gb_per_day: float
    bottleneck: str

    @property
    def all_cores(self) -> int:
        return sum(self.cores.values())


def need(cost: Cost, orders_per_s: int, assumed: Assumed = Assumed()) -> Need:
    """What that many orders per second ask for."""
    cores = {
        name: max(1, ceil(ms / 1000 * orders_per_s / assumed.load)) for name, ms in cost.cpu_ms.items() if name not in OUTSIDE
    }
    all_commits = max(sum(cost.commits.values()), 1e-9)
    databases = {
        name: max(
            1,
            ceil(commits * orders_per_s / assumed.commits_per_database),
            ceil(cost.wal_bytes * commits / all_commits * orders_per_s / 2**20 / assumed.wal_mb_per_database),
        )
        for name, commits in cost.commits.items()
    }
    transitions = cost.state_transitions * orders_per_s
    shards = _power_of_two(transitions / assumed.transitions_per_shard)
    partitions = max(3, ceil(cost.kafka_records * orders_per_s / assumed.events_per_partition))
    history_nodes = max(1, ceil(transitions / assumed.transitions_per_node))
    return Need(
        orders_per_s=orders_per_s,
        cores=cores,
        databases=databases,
        partitions=partitions,
        kafka_mb_per_s=cost.kafka_bytes * orders_per_s * assumed.replicas / 2**20,
        shards=shards,
        history_nodes=history_nodes,
        history_gb_per_day=cost.history_bytes * orders_per_s * 86_400 / 2**30,
        bottleneck=_bottleneck(databases, transitions, history_nodes, cores),
    )


def _power_of_two(at_least: float) -> int:
    """The number of shards cannot be changed later: the next power of two, and 512 at the least."""
    return int(max(512, 2 ** (ceil(at_least) - 1).bit_length()))


def _bottleneck(databases: Mapping[str, int], transitions: float, history_nodes: int, cores: Mapping[str, int]) -> str:
    """What has to be cut in pieces first, or costs most."""
    split = sorted((name for name, count in databases.items() if count > 1), key=lambda name: -databases[name])
    if history_nodes > 8:
        words = f"Temporal's persistence ({transitions:,.0f} state transitions/s)"
        return f"{words}, and the databases of {_listed(split)}, which no longer fit one primary each" if split else words
    if split:
        return f"the databases of {_listed(split)}: their commits no longer fit one primary each"
    most = max(cores, key=lambda name: cores[name])
    return f"processor time: {most} alone takes {cores[most]} of {sum(cores.values())} cores"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""What is measured: figures with their targets, tables, and how the turns of a figure are summed up. Nothing here measures."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")
CPU_TABLE = "CPU of an order by process, ms"
SQL_TABLE = "SQL of an order by database"
"""Titles of tables that others are computed from."""
TURNS = 5
"""How often the two halves of a ratio take turns."""


@dataclass(frozen=True)
class Target:
    """What the median has to reach."""

    relation: Literal[">=", "<="]
    bound: float

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.relation == ">=" else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.relation == '>=' else '≤'} {self.bound:,g}"


@dataclass(frozen=True)
class Figure:
    """A measure: what its name means, with its unit."""

    words: str
    target: Target | None = None


def at_least(bound: float) -> Target:
    return Target(">=", bound)


def at_most(bound: float) -> Target:
    return Target("<=", bound)


FIGURES = {
    "up_s": Figure("a fresh platform is up, s", at_most(15)),
    "memory_mb": Figure("memory of all processes, catalogue and stock loaded, MB", at_most(1229)),
    "orders_to_regular": Figure("orders/s ÷ no-op workflows/s with four regular activities", at_least(1.0)),
    "orders_to_local": Figure("orders/s ÷ no-op workflows/s with four local activities"),
    "cpu_to_local": Figure("CPU of an order ÷ CPU of a no-op workflow with four local activities", at_most(1.9)),
    "orders_per_s": Figure("confirmed orders per second"),
    "regular_per_s": Figure("no-op workflows per second, four regular activities"),
    "local_per_s": Figure("no-op workflows per second, four local activities"),
    "order_cpu_ms": Figure("CPU of an order, all processes and the client, ms"),
    "local_cpu_ms": Figure("CPU of a no-op workflow with four local activities: server, worker and client, ms"),
    "local_server_cpu_ms": Figure("of it the Temporal server, ms"),
    "regular_cpu_ms": Figure("CPU of a no-op workflow with four regular activities: server, worker and client, ms"),
    "regular_server_cpu_ms": Figure("of it the Temporal server, ms"),
    "busy_p50_ms": Figure("placing an order, median, ms"),
    "busy_p99_ms": Figure("placing an order, p99, ms"),
    "event_lag_p50_ms": Figure("from an event's record to the commit of its effect, median, ms"),
    "event_lag_p99_ms": Figure("from an event's record to the commit of its effect, p99, ms", at_most(150)),
    "post_to_update": Figure("placing an order ÷ no-op update-with-start with four local activities", at_most(2.0)),
    "post_p50_ms": Figure("placing an order, median, ms"),
    "update_p50_ms": Figure("no-op update-with-start with four local activities, median, ms"),
    "events_per_s": Figure("events per second from one outbox to the effects of one consumer", at_least(5000)),
    "published_per_s": Figure("events per second from the outbox into Kafka"),
    "hot_to_pgbench": Figure("reservations/s of one product ÷ pgbench's updates/s of one row", at_least(0.5)),
    "hot_per_s": Figure("reservations per second of one product, 64 buyers"),
    "pgbench_per_s": Figure("pgbench: updates per second of one row, 64 clients"),
    "gateway_to_direct": Figure("reads/s through the gateway ÷ reads/s of the service itself", at_least(0.5)),
    "gateway_to_bare_envoy": Figure(
        "reads/s through the gateway ÷ reads/s through Envoy with nothing but a route", at_least(0.85)
    ),
    "gateway_cpu_us": Figure("CPU of the gateway for one read, µs"),
    "bare_envoy_cpu_us": Figure("CPU of the bare Envoy for one read, µs"),
    "gateway_rps": Figure("reads per second through the gateway"),
    "bare_envoy_rps": Figure("reads per second through the bare Envoy"),
    "direct_rps": Figure("reads per second of the service itself"),
    "grown_to_small_cpu": Figure("CPU of an order with many orders stored ÷ with few", at_most(1.1)),
    "grown_to_small_p50": Figure("placing an order, median, with many orders stored ÷ with few"),
    "small_cpu_ms": Figure("CPU of an order with few orders stored, ms"),
    "grown_cpu_ms": Figure("CPU of an order with many orders stored, ms"),
    "two_workers_to_one": Figure("orders/s with two workers ÷ with one"),
    "one_worker_per_s": Figure("orders per second with one worker"),
    "two_workers_per_s": Figure("orders per second with two workers"),
    "sandbox_to_none_cpu": Figure("CPU of the worker for an order in the workflow sandbox ÷ without"),
    "sandbox_to_none": Figure("orders/s in the workflow sandbox ÷ without"),
    "sandbox_cpu_ms": Figure("CPU of the worker for an order, in the workflow sandbox, ms"),
    "no_sandbox_cpu_ms": Figure("CPU of the worker for an order, without the sandbox, ms"),
    "codec_to_clear_cpu": Figure("CPU of an order with encrypted histories ÷ in clear, 8 customers", at_most(1.05)),
    "codec_to_clear_cpu_new": Figure("the same, each order of a customer who never ordered before", at_most(1.05)),
    "codec_cpu_ms": Figure("CPU of an order, encrypted, 8 customers, ms"),
    "clear_cpu_ms": Figure("CPU of an order, in clear, 8 customers, ms"),
    "codec_cpu_new_ms": Figure("CPU of an order, encrypted, new customers, ms"),
    "clear_cpu_new_ms": Figure("CPU of an order, in clear, new customers, ms"),
    "history_events": Figure("events in the history of a confirmed order"),
    "history_bytes": Figure("bytes of the history of a confirmed order"),
    "state_transitions": Figure("state transitions of its workflow in the Temporal server"),
    "payload_bytes": Figure("bytes of payloads within it"),
    "idle_cpu_ms": Figure("CPU of the idle platform in a second, ms"),
    "statements": Figure("SQL statements for an order, without begin and commit"),
    "commits": Figure("commits of transactions that wrote, for an order"),
    "wal_bytes": Figure("bytes of write-ahead log for an order"),
    "kafka_records": Figure("records in Kafka for an order"),
    "kafka_bytes": Figure("bytes in Kafka for an order, before compression"),
}
"""In the sequence in which they are shown."""

Spread = dict[str, Any]
"""`median`, `min`, `max`, and the `turns` that they are taken of."""


def spread(turns: Sequence[float]) -> Spread:
    """ValueError without turns."""
    if not turns:
        raise ValueError("nothing was measured")
    return {"median": statistics.median(turns), "min": min(turns), "max": max(turns), "turns": list(turns)}


def spreads(turns: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Of each figure that the turns have."""
    return {name: spread([turn[name] for turn in turns]) for name in turns[0]}


@dataclass
class Measured:
    """What a part of the benchmark found."""

    figures: dict[str, Spread] = field(default_factory=dict)
    """By the names in FIGURES."""
    tables: list[dict[str, Any]] = field(default_factory=list)
    """Each with `title`, `columns`, and `rows`."""
    notes: list[str] = field(default_factory=list)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.tables.append({"title": title, "columns": list(columns), "rows": [list(row) for row in rows]})


async def alternating(
    first: Callable[[], Awaitable[First]], second: Callable[[], Awaitable[Second]], turns: int
) -> list[tuple[First, Second]]:
    """Both halves in every turn, each as often first as second: what drifts meanwhile, such as a cache or a clock rate, favours
    neither."""
    found: list[tuple[First, Second]] = []
    for turn in range(turns):
        if turn % 2 == 0:
            one = await first()
            found.append((one, await second()))
        else:
            two = await second()
            found.append((await first(), two))
    return found


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile (0 < q < 1) of at least two values."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(q * 1000) - 1]

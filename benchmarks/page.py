"""docs/performance.md, from what benchmarks/results.json says. Pure: the same results make the same page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.figures import CPU_TABLE, FIGURES, SQL_TABLE
from benchmarks.model import SIZES, Assumed, Cost, Need, need
from benchmarks.parts import PARTS

Results = Mapping[str, Mapping[str, Any]]
"""What each part found, and on which machine: `made`, `figures`, `tables`, `notes`."""

MOST_TURNS = 10
"""Of which each is shown."""
STEPS = {
    "take the order, price it, keep its record": ("gateway", "edge", "order", "catalog"),
    "reserve the stock": ("inventory",),
    "take the payment": ("payment", "payment_provider"),
    "book the parcel": ("shipping", "carrier"),
    "send the confirmation": ("notification", "mail_sink"),
    "lead from step to step": ("temporal", "worker"),
    "store": ("postgres",),
    "carry the events, and count": ("kafka", "analytics"),
    "know who asks": ("identity", "valkey"),
    "ask": ("client",),
}
"""Which processes do what for an order."""

_HEAD = """# What an order costs

Made by `make bench`; do not edit. The two halves of a ratio take turns within one run, so that whatever else the
machine does meets both; a ratio is taken within each turn, and its median over the turns is what counts. Absolute
figures are of one small machine and say little by themselves. `make bench ONLY=growth` (or another part) measures that
part alone and leaves the rest of this page as it is.
"""


def page(results: Results) -> str:
    """The whole page."""
    sections = [_HEAD, *_summary(results), *_machines(results)]
    for part in PARTS:
        if part.name in results:
            sections += _part(part.title, part.how, results[part.name])
            if part.name == "throughput":
                sections += _steps(results[part.name])
                sections += _floor(results)
    cost = cost_of(results)
    if cost:
        sections += _model(cost, _assumed(results))
    return "\n".join(sections).rstrip() + "\n"


def _summary(results: Results) -> Iterator[str]:
    rows = []
    for name, figure in FIGURES.items():
        for part in results.values():
            found = part["figures"].get(name)
            if found and figure.target:
                met = "yes" if figure.target.is_met(found["median"]) else "**no**"
                rows.append([figure.words, found["median"], found["min"], found["max"], str(figure.target), met])
    yield "## Targets\n"
    yield table(("measure", "median", "min", "max", "target", "met"), rows)


def _part(title: str, how: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {title}\n"
    if how:
        yield f"{how}\n"
    figures = found["figures"]
    known = [name for name in FIGURES if name in figures]
    rows = [
        [FIGURES[name].words, *(figures[name][key] for key in ("median", "min", "max")), _turns(figures[name]["turns"])]
        for name in known
    ]
    yield table(("measure", "median", "min", "max", "turns"), rows)
    for note in found["notes"]:
        yield f"{note}\n"
    for shown in found["tables"]:
        yield f"### {shown['title']}\n"
        yield table(shown["columns"], shown["rows"])
    yield _made(found["made"])


def _made(made: Mapping[str, str]) -> str:
    return f"<sub>{made['date']}, commit {made['commit']}; processors {made['busy']} busy before it began.</sub>\n"


def _machines(results: Results) -> Iterator[str]:
    """Each that some part was measured on."""
    machines = {
        f"{made['cores']} cores ({made['processor']}), {made['memory']}, {made['system']}, "
        f"Python {made['python']}; {made['packages']}"
        for made in (part["made"] for part in results.values())
    }
    yield "\n".join(f"Measured on {machine}." for machine in sorted(machines)) + "\n"


def _steps(found: Mapping[str, Any]) -> Iterator[str]:
    by_process = {row[0]: row[1] for row in _rows(found, CPU_TABLE)}
    step_of = {process: step for step, processes in STEPS.items() for process in processes}
    sums = dict.fromkeys(STEPS, 0.0)
    for process, ms in by_process.items():
        step = step_of.get(process, process)
        sums[step] = sums.get(step, 0.0) + ms
    yield "### CPU of an order by step, ms\n"
    rows = [[step, ", ".join(STEPS.get(step, ())), ms] for step, ms in sorted(sums.items(), key=lambda item: -item[1]) if ms]
    yield table(("step", "processes that do it", "median"), rows)


def _floor(results: Results) -> Iterator[str]:
    """What an order's CPU would have to come down to, and what is in the way; nothing, unless both halves were measured."""
    figures = results["throughput"]["figures"]
    cost = cost_of(results)
    wanted = FIGURES["cpu_to_local"].target
    if cost is None or wanted is None or "local_cpu_ms" not in figures or wanted.is_met(figures["cpu_to_local"]["median"]):
        return
    cpu = cost.cpu_ms
    noop, steps = figures["local_cpu_ms"]["median"], cpu["temporal"] + cpu["worker"]
    served, left, now = figures["local_server_cpu_ms"]["median"], wanted.bound * noop - steps, sum(cpu.values()) - steps
    yield "### Where the floor is\n"
    yield f"""The no-op workflow takes {number(noop)} ms in all, {number(served)} of it in the Temporal server.
An order's own workflow costs the server {number(cpu["temporal"])} ms and the worker {number(cpu["worker"])}:
{number(steps / noop)} of the no-op's before any service has done anything. Two thirds of the worker's part is the
SDK, for each activation and each activity. The target leaves {number(left)} ms for everything else. That is now
{number(now)} ms: nine HTTP requests (one from the client, one to the catalogue, five steps, two to outside
companies) and a mail, each worked on at both ends; {number(cost.statements)} statements and
{number(sum(cost.commits.values()))} commits; {number(cost.kafka_records)} events that are published, carried and
applied. No part of it stands out any more: the next step down is fewer steps or fewer processes. Orders per second and
the lag of events follow from the same sum, since the processors are full at this load.
"""


def _turns(turns: Sequence[float]) -> str:
    return ", ".join(map(number, turns)) if 1 < len(turns) <= MOST_TURNS else ""


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """In Markdown; numbers to the right."""
    numeric = [bool(rows) and all(isinstance(row[at], int | float) for row in rows) for at in range(len(columns))]
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
        *("| " + " | ".join(cell if isinstance(cell, str) else number(cell) for cell in row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """To three digits that say something."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


# ── The model ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def cost_of(results: Results) -> Cost | None:
    """What one order costs, if the parts that tell it were measured."""
    if "throughput" not in results or "cost" not in results:
        return None
    figures = results["cost"]["figures"]
    cpu = _rows(results["throughput"], CPU_TABLE)
    sql = _rows(results["cost"], SQL_TABLE)
    return Cost(
        cpu_ms={row[0]: row[1] for row in cpu},
        commits={row[0]: row[2] for row in sql},
        statements=figures["statements"]["median"],
        wal_bytes=figures["wal_bytes"]["median"],
        kafka_records=figures["kafka_records"]["median"],
        kafka_bytes=figures["kafka_bytes"]["median"],
        state_transitions=figures["state_transitions"]["median"],
        history_bytes=figures["history_bytes"]["median"],
    )


def _rows(part: Mapping[str, Any], title: str) -> list[list[Any]]:
    return next(found["rows"] for found in part["tables"] if found["title"] == title)


def _assumed(results: Results) -> Assumed:
    """With half of what one consumer was measured to do, if that is less than what is assumed."""
    assumed = Assumed()
    if "events" not in results:
        return assumed
    measured = results["events"]["figures"]["events_per_s"]["median"]
    return replace(assumed, events_per_partition=max(1, min(assumed.events_per_partition, round(measured / 2))))


def _model(cost: Cost, assumed: Assumed) -> Iterator[str]:
    needs = [need(cost, size, assumed) for size in SIZES]
    yield "## A model: what a cluster would need\n"
    yield f"""Computed from the figures above (`benchmarks/model.py`), not measured. One order's CPU, commits, log, records
and history are taken to stay what they are here; the idle processes' share of the CPU, which falls with the
load, is left in. Assumed: cores used to {assumed.load:.0%}; one PostgreSQL primary does
{assumed.commits_per_database:,} commits/s and {assumed.wal_mb_per_database:.0f} MB/s of log; one consumer
{assumed.events_per_partition:,} events/s; one Temporal history shard {assumed.transitions_per_shard} state
transitions/s, one history node {assumed.transitions_per_node:,}; Kafka keeps {assumed.replicas} copies. A
Python process uses one core, so their cores are also their number.
"""
    yield table(("", *(f"{size:,} orders/s" for size in SIZES)), _model_rows(needs))
    yield "### Cores by kind of process\n"
    names = sorted(needs[-1].cores, key=lambda name: -needs[-1].cores[name])
    yield table(
        ("process", *(f"{size:,} orders/s" for size in SIZES)),
        [[name, *(f"{one.cores[name]:,}" for one in needs)] for name in names],
    )
    yield "What ends first:\n"
    yield "\n".join(f"- **{one.orders_per_s:,} orders/s:** {one.bottleneck}." for one in needs) + "\n"


def _model_rows(needs: Sequence[Need]) -> list[list[str]]:
    rows = {
        "cores in all": [f"{one.all_cores:,}" for one in needs],
        "PostgreSQL primaries": [f"{sum(one.databases.values()):,}" for one in needs],
        "of them split by customer": [
            ", ".join(f"{name} {count}" for name, count in one.databases.items() if count > 1) or "none" for one in needs
        ],
        "partitions of the busiest topic": [f"{one.partitions:,}" for one in needs],
        "Kafka, MB/s written": [number(one.kafka_mb_per_s) for one in needs],
        "Temporal history shards": [f"{one.shards:,}" for one in needs],
        "Temporal history nodes": [f"{one.history_nodes:,}" for one in needs],
        "histories, GB a day": [number(one.history_gb_per_day) for one in needs],
    }
    return [[name, *values] for name, values in rows.items()]

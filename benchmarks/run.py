"""`make bench`: measures the platform on embedded parts, writes benchmarks/results.json, and from it docs/performance.md."""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.codec import measure_codec
from benchmarks.cost import measure_cost
from benchmarks.events import EVENTS, measure_events
from benchmarks.figures import FIGURES, TURNS, Measured, spread
from benchmarks.gateway import measure_gateway
from benchmarks.growth import FEW, MANY, measure_growth
from benchmarks.hot import measure_hot
from benchmarks.machine import busy_percent, machine
from benchmarks.orders import SETTINGS, Ordering, ordering
from benchmarks.page import page
from benchmarks.parts import DEFAULT, NAMES
from benchmarks.scaling import measure_replicas, measure_sandbox
from benchmarks.throughput import measure_alone, measure_throughput
from embedded.platform import Platform

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
ON_ONE_PLATFORM = ("throughput", "alone", "hot", "replicas", "sandbox", "gateway_anonymous", "gateway_customer", "codec", "cost")
"""In this sequence, on the same running platform."""


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    parts: Sequence[str]
    orders: int
    turns: int
    events: int
    few: int
    many: int


async def measure(options: Options, directory: Path, console: Console) -> dict[str, Measured]:
    """The chosen parts."""
    found: dict[str, Measured] = {}
    if "start" in options.parts:
        found["start"] = await _start(options, directory, console)
    chosen = [part for part in ON_ONE_PLATFORM if part in options.parts]
    if chosen:
        async with ordering(directory / "platform", console) as shop:
            memory = {name: usage.memory_mb for name, usage in shop.platform.supervisor.usage().items()}
            if "start" in found:
                found["start"].figures["memory_mb"] = spread([sum(memory.values())])
                rows = sorted(memory.items(), key=lambda item: -item[1])
                found["start"].table("Memory by process, MB", ("process", "MB"), rows)
            for part in chosen:
                console.rule(part)
                found[part] = await _measure_part(part, shop, options, directory)
    if "events" in options.parts:
        console.rule("events")
        found["events"] = await measure_events(directory / "events", options.turns, console, options.events)
    if "growth" in options.parts:
        console.rule("growth")
        found["growth"] = await measure_growth(
            directory / "growth", options.few, options.many, options.orders, options.turns, console
        )
    return found


async def _start(options: Options, directory: Path, console: Console) -> Measured:
    console.rule("start")
    took = []
    for turn in range(options.turns):
        async with Platform(directory / f"start-{turn}", settings=SETTINGS) as platform:
            took.append(platform.up_seconds)
        console.print(f"up in {took[-1]:.1f} s")
    return Measured({"up_s": spread(took)})


async def _measure_part(part: str, shop: Ordering, options: Options, directory: Path) -> Measured:
    match part:
        case "throughput":
            return await measure_throughput(shop, options.orders, options.turns)
        case "alone":
            return await measure_alone(shop, options.turns)
        case "hot":
            return await measure_hot(shop, options.turns, directory)
        case "replicas":
            return await measure_replicas(shop, options.orders // 2, options.turns)
        case "sandbox":
            return await measure_sandbox(shop, options.orders, options.turns)
        case "codec":
            return await measure_codec(shop, options.orders, options.turns)
        case "cost":
            return await measure_cost(shop, options.orders)
        case _:
            return await measure_gateway(shop, options.turns, directory, as_customer=part == "gateway_customer")


def show(found: dict[str, Measured], console: Console) -> None:
    """The tables on the terminal."""
    for part, measured in found.items():
        table = Table("measure", "median", "min", "max", "target", title=part)
        for name in (name for name in FIGURES if name in measured.figures):
            values = [f"{measured.figures[name][key]:,.2f}" for key in ("median", "min", "max")]
            table.add_row(FIGURES[name].words, *values, str(FIGURES[name].target or ""))
        console.print(table)


def kept(results: Path) -> dict[str, Any]:
    """What was measured before, by part."""
    return dict(json.loads(results.read_text())) if results.exists() else {}


def _parsed() -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, metavar="PART", help=f"of {', '.join(NAMES)}; else {', '.join(DEFAULT)}"
    )
    parser.add_argument("--orders", type=int, default=120, help="of each turn, 16 at a time (10 to 5000)")
    parser.add_argument("--turns", type=int, default=TURNS, help="how often the halves of a ratio take turns (1 to 50)")
    parser.add_argument("--events", type=int, default=EVENTS, help="of each turn (1000 to 1000000)")
    parser.add_argument("--few", type=int, default=FEW, help="orders stored on the smaller platform of growth")
    parser.add_argument("--many", type=int, default=MANY, help="and on the larger one (up to 5000000)")
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page anew from the results")
    given = parser.parse_args()
    return Options(
        parts=given.only or DEFAULT,
        orders=max(10, min(given.orders, 5000)),
        turns=max(1, min(given.turns, 50)),
        events=max(1000, min(given.events, 1_000_000)),
        few=max(10, min(given.few, 5_000_000)),
        many=max(10, min(given.many, 5_000_000)),
    ), given.page


def main() -> None:
    """Measure, show, write both files."""
    options, only_page = _parsed()
    console = Console()
    results = kept(RESULTS)
    if not only_page:
        made = machine() | {"busy": f"{busy_percent():.0f} %"}
        with tempfile.TemporaryDirectory(prefix="commerce-bench-", ignore_cleanup_errors=True) as folder:
            found = asyncio.run(measure(options, Path(folder), console))
        show(found, console)
        results |= {part: {"made": made, **asdict(measured)} for part, measured in found.items()}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))
    console.print(f"written: {RESULTS.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

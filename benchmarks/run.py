"""`make bench`: one run on one machine, against the whole platform on embedded parts; ratios within the run are what counts."""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from rich.console import Console
from rich.table import Table

from benchmarks.ceilings import FourLocal, FourRegular, workflows_per_second
from benchmarks.gateway import gateway_costs
from benchmarks.lag import buckets, quantile_ms
from cli.client import Person
from cli.stocking import stock_platform
from data.baskets import Basket, read_baskets
from embedded.platform import Platform
from embedded.processes import Usage
from temporal.client import TemporalSettings, connect
from testing.checker import check, summary
from testing.histories import History
from testing.shop import UNHINDERED, Shop, open_shop

PARTS = ("orders", "gateway")
RESULTS = Path(__file__).parent / "results.json"
CONCURRENCY = 16
SETTINGS = {**UNHINDERED, "PLACE_WAIT_SECONDS": "20", "LOG_LEVEL": "WARNING"}
SHIP_TO = {
    "name": "Ann Example",
    "line1": "1 Main Street",
    "city": "Springfield",
    "region": "IL",
    "postal_code": "62701",
    "country": "US",
}
CUSTOMERS = 8


@dataclass(frozen=True)
class Placed:
    """What placing some orders took."""

    seconds: float
    latencies_ms: list[float]
    confirmed: int

    def percentile(self, q: int) -> float:
        return statistics.quantiles(self.latencies_ms, n=100, method="inclusive")[q - 1]


async def place_orders(shop: Shop, customers: Sequence[Person], baskets: Sequence[Basket], concurrency: int) -> Placed:
    """Place each basket, `concurrency` at a time."""
    gate = asyncio.Semaphore(concurrency)
    latencies: list[float] = []
    confirmed = 0

    async def place(basket: Basket, customer: Person) -> None:
        nonlocal confirmed
        body = {
            "lines": [{"product_id": product, "quantity": quantity} for product, quantity in basket.lines],
            # As in a shop, where few orders have the same card and address, which payment looks back at.
            "ship_to": SHIP_TO | {"line2": f"Household {basket.household_id}"},
            "payment_token": f"tok_visa_{basket.household_id}",
            "warehouse_id": basket.store_id,
        }
        async with gate:
            token, key = await customer.token(), {"Idempotency-Key": str(uuid4())}
            began = time.monotonic()
            reply = await shop.gateway.ask("POST", "/api/v1/orders", body, token=token, headers=key)
            latencies.append((time.monotonic() - began) * 1000)
        if reply.status != 201:
            raise RuntimeError(f"an order was not confirmed: {reply.status} {reply.body}")
        confirmed += 1

    began = time.monotonic()
    await asyncio.gather(*[place(basket, customer) for basket, customer in zip(baskets, cycle(customers), strict=False)])
    return Placed(time.monotonic() - began, latencies, confirmed)


async def analytics_lag(platform: Platform) -> dict[float, float]:
    """The lag histogram of the service that consumes every topic."""
    async with aiohttp.ClientSession() as http, http.get(f"{platform.url('analytics')}/metrics") as response:
        return buckets(await response.text())


async def events_settled(platform: Platform) -> None:
    """Wait until no more events arrive."""
    seen = -1.0
    while True:
        now = sum((await analytics_lag(platform)).values())
        if now == seen:
            return
        seen = now
        await asyncio.sleep(1)


async def measure(parts: Sequence[str], orders: int, data: Path, console: Console) -> dict[str, Any]:
    """The chosen parts, in one run; the keys of results.json."""
    async with Platform(data, settings=SETTINGS) as platform:
        console.print(f"up in {platform.up_seconds:.1f} s")
        history = History()
        await stock_platform(platform.env, console, recorder=history)
        await events_settled(platform)
        memory = {name: usage.memory_mb for name, usage in platform.supervisor.usage().items()}
        results: dict[str, Any] = {
            "up_s": platform.up_seconds,
            "memory_mb": sum(memory.values()),
            "memory_mb_by_process": memory,
        }
        async with open_shop(platform.env, history) as shop:
            customers = [shop.customer(f"bench-{number}") for number in range(CUSTOMERS)]
            for customer in customers:
                await shop.welcome(customer)
            if "orders" in parts:
                results |= await measure_orders(platform, shop, customers, orders, console)
            if "gateway" in parts:
                product, _ = next(iter(read_baskets())).lines[0]
                path = f"/api/v1/products/{product}"
                console.print("reads, without a token …")
                results["reads_anonymous"] = await gateway_costs(platform, path, None, data)
                console.print("reads, with a token …")
                results["reads_customer"] = await gateway_costs(platform, path, await customers[0].token(), data)
        broken = check(history.calls)
        console.print(summary(history.calls, broken))
        if broken:
            raise RuntimeError("\n".join(map(str, broken)))
        return results


async def measure_orders(
    platform: Platform, shop: Shop, customers: Sequence[Person], orders: int, console: Console
) -> dict[str, Any]:
    """Orders, and beside them workflows that do nothing."""
    temporal = await connect(TemporalSettings(temporal_address=platform.env["TEMPORAL_ADDRESS"]))
    console.print("no-op workflows …")
    regular = await workflows_per_second(temporal, FourRegular, count=300, concurrency=CONCURRENCY)
    local = await workflows_per_second(temporal, FourLocal, count=300, concurrency=CONCURRENCY)

    baskets = list(islice(cycle(read_baskets()), orders + 80))
    console.print("orders, one at a time …")
    await place_orders(shop, customers, baskets[:40], 4)  # warm-up
    idle = await place_orders(shop, customers, baskets[40:80], 1)
    await events_settled(platform)
    console.print(f"orders, {CONCURRENCY} at a time …")
    lag_before, cpu_before = await analytics_lag(platform), platform.supervisor.usage()
    busy = await place_orders(shop, customers, baskets[80:], CONCURRENCY)
    await events_settled(platform)
    lag_after, cpu_after = await analytics_lag(platform), platform.supervisor.usage()

    cpu = cpu_by_part(cpu_before, cpu_after, busy.confirmed)
    per_s = busy.confirmed / busy.seconds
    return {
        "orders": orders,
        "orders_per_s": per_s,
        "noop_regular_per_s": regular,
        "noop_local_per_s": local,
        "orders_to_regular": per_s / regular,
        "orders_to_local": per_s / local,
        "place_p50_ms": busy.percentile(50),
        "place_p99_ms": busy.percentile(99),
        "place_idle_p50_ms": idle.percentile(50),
        "place_idle_p99_ms": idle.percentile(99),
        "event_lag_p50_ms": quantile_ms(lag_before, lag_after, 0.50),
        "event_lag_p99_ms": quantile_ms(lag_before, lag_after, 0.99),
        "cpu_ms_per_order": sum(cpu.values()),
        "cpu_ms_per_order_by_process": cpu,
    }


def cpu_by_part(before: Mapping[str, Usage], after: Mapping[str, Usage], orders: int) -> dict[str, float]:
    """CPU milliseconds per order by process."""
    return {name: (usage.cpu_s - before[name].cpu_s) * 1000 / orders for name, usage in after.items()}


TARGETS = {
    "orders_to_regular": (">=", 0.5),
    "gateway_to_direct": (">=", 0.5),
    "gateway_to_bare_envoy": (">=", 0.85),
    "event_lag_p99_ms": ("<=", 250.0),
    "up_s": ("<=", 20.0),
    "memory_mb": ("<=", 1536.0),
}


def show(results: Mapping[str, Any], console: Console) -> None:
    """The tables on the terminal."""
    table = Table("measure", "value", "target", title="One run on this machine")
    for name, value in results.items():
        if not isinstance(value, dict):
            table.add_row(name, f"{value:,.2f}", _target(name))
    console.print(table)
    for part in (name for name in results if name.startswith("reads_")):
        reads = Table(part, "median", "min", "max", "target")
        for name, spread in results[part].items():
            reads.add_row(name, *(f"{spread[key]:,.2f}" for key in ("median", "min", "max")), _target(name))
        console.print(reads)
    processes = Table("process", "CPU ms/order", "memory MB")
    cpu, memory = results.get("cpu_ms_per_order_by_process", {}), results["memory_mb_by_process"]
    for name in sorted(memory, key=lambda name: cpu.get(name, 0), reverse=True):
        processes.add_row(name, f"{cpu[name]:.1f}" if cpu else "", f"{memory[name]:.0f}")
    console.print(processes)


def _target(name: str) -> str:
    return " ".join(map(str, TARGETS.get(name, ())))


def main() -> None:
    """Run, show, write results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=400, help="real baskets placed 16 at a time (10 to 20000)")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    arguments = parser.parse_args()
    parts = [arguments.only] if arguments.only else PARTS
    console = Console()
    with tempfile.TemporaryDirectory(prefix="commerce-bench-", ignore_cleanup_errors=True) as folder:
        results = asyncio.run(measure(parts, max(10, min(arguments.orders, 20_000)), Path(folder) / "data", console))
    show(results, console)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    console.print(f"written to {RESULTS.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()

"""Orders 16 at a time, and in turn with them the no-op workflows that they are measured by."""

from collections.abc import Awaitable, Callable

from benchmarks.figures import CPU_TABLE, Measured, quantile, spread, spreads
from benchmarks.lag import quantile_ms
from benchmarks.noop import FourLocal, FourRegular, NoOps, no_ops
from benchmarks.orders import AT_ONCE, CLIENT, Ordering, spent_ms
from temporal.client import TemporalSettings, connect

WARM_UP = 40
ALONE = 30
"""Orders of one turn when there is one at a time."""


async def measure_throughput(shop: Ordering, count: int, turns: int) -> Measured:
    """`count` of each kind in each turn."""
    temporal = await connect(TemporalSettings(temporal_address=shop.platform.env["TEMPORAL_ADDRESS"]))
    found: list[dict[str, float]] = []
    processes: list[dict[str, float]] = []
    async with no_ops(temporal) as noops:
        await shop.place(WARM_UP, 4)
        await noops.run(FourRegular, WARM_UP, AT_ONCE)
        await noops.run(FourLocal, WARM_UP, AT_ONCE)
        for turn in range(turns):
            halves: list[Callable[[], Awaitable[dict[str, float]]]] = [
                lambda: _workflows(shop, noops, FourRegular, "regular", count),
                lambda: _workflows(shop, noops, FourLocal, "local", count),
                lambda: _orders(shop, count, processes),
            ]
            figures: dict[str, float] = {}
            for half in halves if turn % 2 == 0 else reversed(halves):
                figures |= await half()
            figures["orders_to_regular"] = figures["orders_per_s"] / figures["regular_per_s"]
            figures["orders_to_local"] = figures["orders_per_s"] / figures["local_per_s"]
            figures["cpu_to_local"] = figures["order_cpu_ms"] / figures["local_cpu_ms"]
            found.append(figures)
            shop.console.print(f"turn {turn + 1}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    measured = Measured(spreads(found))
    by_process = {name: spread([turn.get(name, 0.0) for turn in processes]) for name in processes[-1]}
    rows = [[name, found["median"], found["min"], found["max"]] for name, found in by_process.items()]
    columns = ("process", "median", "min", "max")
    measured.table(CPU_TABLE, columns, sorted(rows, key=lambda row: -float(row[1])))
    return measured


async def _workflows(
    shop: Ordering, noops: NoOps, kind: type[FourRegular] | type[FourLocal], name: str, count: int
) -> dict[str, float]:
    before = shop.cpu_s()
    seconds = await noops.run(kind, count, AT_ONCE)
    spent = spent_ms(before, shop.cpu_s(), count)
    return {
        f"{name}_per_s": count / seconds,
        f"{name}_cpu_ms": spent["temporal"] + spent[CLIENT],
        f"{name}_server_cpu_ms": spent["temporal"],
    }


async def _orders(shop: Ordering, count: int, processes: list[dict[str, float]]) -> dict[str, float]:
    lag_before, before = await shop.lag(), shop.cpu_s()
    placed = await shop.place(count)
    await shop.settle()
    spent, lag = spent_ms(before, shop.cpu_s(), count), await shop.lag()
    processes.append(spent)
    return {
        "orders_per_s": placed.per_second,
        "order_cpu_ms": sum(spent.values()),
        "busy_p50_ms": quantile(placed.latencies_ms, 0.50),
        "busy_p99_ms": quantile(placed.latencies_ms, 0.99),
        "event_lag_p50_ms": quantile_ms(lag_before, lag, 0.50),
        "event_lag_p99_ms": quantile_ms(lag_before, lag, 0.99),
    }


async def measure_alone(shop: Ordering, turns: int) -> Measured:
    """One order at a time, against one no-op update-with-start at a time."""
    temporal = await connect(TemporalSettings(temporal_address=shop.platform.env["TEMPORAL_ADDRESS"]))
    found: list[dict[str, float]] = []
    async with no_ops(temporal) as noops:
        await noops.update_with_start_ms(5)
        await shop.place(5, 1)
        for turn in range(turns):
            figures: dict[str, float] = {}

            async def order(figures: dict[str, float] = figures) -> None:
                figures["post_p50_ms"] = quantile((await shop.place(ALONE, 1)).latencies_ms, 0.5)
                await shop.settle()

            async def update(figures: dict[str, float] = figures) -> None:
                figures["update_p50_ms"] = quantile(await noops.update_with_start_ms(ALONE), 0.5)

            for half in (order, update) if turn % 2 == 0 else (update, order):
                await half()
            found.append({"post_to_update": figures["post_p50_ms"] / figures["update_p50_ms"], **figures})
    return Measured(spreads(found))

"""More of the same: two workers against one; and the same worker in the workflow sandbox and without."""

from benchmarks.figures import Measured, alternating, spread
from benchmarks.orders import Ordering, spent_ms
from benchmarks.workers import add_worker


async def measure_replicas(shop: Ordering, count: int, turns: int) -> Measured:
    """Orders per second with one worker and with two. On a machine whose cores are all busy with one, a second cannot help."""
    supervisor = shop.platform.supervisor
    add_worker(shop.platform, "worker-2")

    async def with_one() -> float:
        return await _orders_per_second(shop, count)

    async def with_two() -> float:
        await supervisor.start("worker-2")
        try:
            return await _orders_per_second(shop, count)
        finally:
            await supervisor.stop("worker-2")

    found = await alternating(with_one, with_two, turns)
    return Measured(
        {
            "two_workers_to_one": spread([two / one for one, two in found]),
            "one_worker_per_s": spread([one for one, _ in found]),
            "two_workers_per_s": spread([two for _, two in found]),
        }
    )


async def _orders_per_second(shop: Ordering, count: int) -> float:
    await shop.place(10, 4)  # warm-up of connections and code
    per_second = (await shop.place(count)).per_second
    await shop.settle()
    return per_second


async def measure_sandbox(shop: Ordering, count: int, turns: int) -> Measured:
    """What ADR 10 decides by: the platform's worker against one with WORKFLOW_SANDBOX=true, one of them at a time."""
    supervisor = shop.platform.supervisor
    add_worker(shop.platform, "worker-sandboxed", WORKFLOW_SANDBOX="true")

    async def with_worker(name: str) -> tuple[float, float]:
        await supervisor.start(name)
        try:
            await shop.place(10, 4)
            before = shop.cpu_s()
            placed = await shop.place(count)
            spent = spent_ms(before, shop.cpu_s(), count)[name]
            await shop.settle()
            return placed.per_second, spent
        finally:
            await supervisor.stop(name)

    await supervisor.stop("worker")
    found = await alternating(lambda: with_worker("worker-sandboxed"), lambda: with_worker("worker"), turns)
    await supervisor.start("worker")
    return Measured(
        {
            "sandbox_to_none_cpu": spread([inside[1] / outside[1] for inside, outside in found]),
            "sandbox_to_none": spread([inside[0] / outside[0] for inside, outside in found]),
            "sandbox_cpu_ms": spread([inside[1] for inside, _ in found]),
            "no_sandbox_cpu_ms": spread([outside[1] for _, outside in found]),
        }
    )

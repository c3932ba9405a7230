"""What it costs that histories are encrypted: the order service and the worker that encrypt them, against the same in clear."""

import sys
from dataclasses import replace
from uuid import uuid4

from benchmarks.figures import Measured, alternating, spread
from benchmarks.orders import Ordering, spent_ms
from contracts.budgets import DRAIN_S
from contracts.platform import PROCESSES
from embedded.platform import ROOT, Platform
from embedded.probes import http_ok
from embedded.supervisor import ProcessSpec
from testing.shop import in_parallel

ENCRYPTING = ("order", "worker")
"""The processes that read and write histories."""
WARM_UP = 40
NEW_CUSTOMERS = 64
"""Of one turn."""


async def measure_codec(shop: Ordering, count: int, turns: int) -> Measured:
    """CPU of an order with the codec and without: `count` orders of few customers, and one each of new ones."""
    supervisor = shop.platform.supervisor
    in_clear = [_add_in_clear(shop.platform, name) for name in ENCRYPTING]

    async def half(*processes: str) -> tuple[float, float]:
        for name in processes:
            await supervisor.start(name)
        try:
            return await _cpu_of_few_and_new(shop, count)
        finally:
            for name in reversed(processes):
                await supervisor.stop(name)

    for name in reversed(ENCRYPTING):
        await supervisor.stop(name)
    found = await alternating(lambda: half(*ENCRYPTING), lambda: half(*in_clear), turns)
    for name in ENCRYPTING:
        await supervisor.start(name)
    return Measured(
        {
            "codec_to_clear_cpu": spread([codec[0] / clear[0] for codec, clear in found]),
            "codec_to_clear_cpu_new": spread([codec[1] / clear[1] for codec, clear in found]),
            "codec_cpu_ms": spread([codec[0] for codec, _ in found]),
            "clear_cpu_ms": spread([clear[0] for _, clear in found]),
            "codec_cpu_new_ms": spread([codec[1] for codec, _ in found]),
            "clear_cpu_new_ms": spread([clear[1] for _, clear in found]),
        }
    )


async def _cpu_of_few_and_new(shop: Ordering, count: int) -> tuple[float, float]:
    """CPU of an order, ms: of few customers, and of new ones, who have logged in before."""
    newcomers = [shop.shop.customer(f"new-{uuid4()}") for _ in range(NEW_CUSTOMERS)]
    await in_parallel(shop.shop.welcome, newcomers, at_once=8)
    for customer in newcomers:
        await customer.token()
    await shop.place(WARM_UP, 4)
    await shop.settle()
    return await _cpu_ms(shop, count), await _cpu_ms(replace(shop, customers=newcomers), NEW_CUSTOMERS)


async def _cpu_ms(shop: Ordering, count: int) -> float:
    before = shop.cpu_s()
    await shop.place(count)
    await shop.settle()
    return sum(spent_ms(before, shop.cpu_s(), count).values())


def _add_in_clear(platform: Platform, name: str) -> str:
    """Make such a process that writes in clear known to the supervisor, at the same port; it does not run yet. Its name."""
    environment = platform.supervisor.environment(name) | {"HISTORIES_IN_CLEAR": "true"}
    spec = ProcessSpec(
        name=f"{name}-in-clear",
        argv=(sys.executable, "-m", PROCESSES[name].module),
        env=environment,
        cwd=ROOT,
        ready=http_ok(f"http://127.0.0.1:{environment['PORT']}/health/ready"),
        start_after=("identity", "temporal"),
        grace_s=DRAIN_S + 5,
    )
    platform.supervisor.add(spec)
    return spec.name

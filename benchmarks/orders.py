"""Real baskets as orders at the gateway of a whole platform, and what they cost its processes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import psutil
from rich.console import Console

from benchmarks.lag import buckets
from cli.client import Person
from cli.stocking import stock_platform
from data.baskets import Basket, read_baskets
from embedded import postgres
from embedded.platform import Platform
from testing.checker import check, summary
from testing.histories import History
from testing.shop import UNHINDERED, Shop, open_shop

AT_ONCE = 16
CUSTOMERS = 8
SETTINGS = {**UNHINDERED, "PLACE_WAIT_SECONDS": "20", "LOG_LEVEL": "WARNING"}
SHIP_TO = {
    "name": "Ann Example",
    "line1": "1 Main Street",
    "city": "Springfield",
    "region": "IL",
    "postal_code": "62701",
    "country": "US",
}
CLIENT = "client"
"""Under this name this process is told of, which asks and, for the no-op workflows, also works."""


@dataclass(frozen=True)
class Placed:
    """What placing some orders took."""

    seconds: float
    latencies_ms: list[float]
    order_ids: list[UUID]

    @property
    def per_second(self) -> float:
        return len(self.order_ids) / self.seconds


@dataclass(frozen=True)
class Ordering:
    """A running platform, its customers, and the baskets that they buy in turn."""

    platform: Platform
    shop: Shop
    customers: Sequence[Person]
    baskets: Iterator[Basket]
    console: Console

    async def place(self, count: int, at_once: int = AT_ONCE) -> Placed:
        """Place the next baskets. Raises RuntimeError if an order is not confirmed."""
        gate = asyncio.Semaphore(at_once)
        latencies: list[float] = []
        order_ids: list[UUID] = []

        async def place(basket: Basket, customer: Person) -> None:
            body = {
                "lines": [{"product_id": product, "quantity": quantity} for product, quantity in basket.lines],
                # As in a shop, where few orders have the same card and address, which payment looks back at.
                "ship_to": SHIP_TO | {"line2": f"Household {basket.household_id}"},
                "payment_token": f"pm_card_visa_{basket.household_id}",
                "warehouse_id": basket.store_id,
            }
            async with gate:
                token, key = await customer.token(), {"Idempotency-Key": str(uuid4())}
                began = time.monotonic()
                reply = await self.shop.gateway.ask("POST", "/api/v1/orders", body, token=token, headers=key)
                latencies.append((time.monotonic() - began) * 1000)
            if reply.status != 201:
                raise RuntimeError(f"an order was not confirmed: {reply.status} {reply.body}")
            order_ids.append(UUID(reply.body["order_id"]))

        baskets = list(islice(self.baskets, count))
        began = time.monotonic()
        await asyncio.gather(*[place(basket, customer) for basket, customer in zip(baskets, cycle(self.customers), strict=False)])
        return Placed(time.monotonic() - began, latencies, order_ids)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each process since it started, this one under the name CLIENT."""
        return {name: cpu_s(pid) for name, pid in self.platform.supervisor.pids().items()} | {CLIENT: time.process_time()}

    async def lag(self) -> dict[float, float]:
        """The lag histogram of the service that consumes every topic."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.platform.url('analytics')}/metrics") as response:
            return buckets(await response.text())

    async def settle(self) -> None:
        """Wait until no more events arrive."""
        seen = -1.0
        while (now := sum((await self.lag()).values())) != seen:
            seen = now
            await asyncio.sleep(1)


@asynccontextmanager
async def ordering(data: Path, console: Console) -> AsyncIterator[Ordering]:
    """A platform of its own in `data`, with catalogue, stock and customers. At the end of the block, what the customers were told
    must be true: RuntimeError."""
    await count_statements_later(data)
    async with Platform(data, settings=SETTINGS) as platform:
        console.print(f"up in {platform.up_seconds:.1f} s")
        history = History()
        await stock_platform(platform.env, console, recorder=history)
        async with open_shop(platform.env, history) as shop:
            customers = [shop.customer(f"bench-{number}") for number in range(CUSTOMERS)]
            for customer in customers:
                await shop.welcome(customer)
            found = Ordering(platform, shop, customers, cycle(read_baskets()), console)
            await found.settle()
            yield found
        broken = check(history.calls)
        console.print(summary(history.calls, broken))
        if broken:
            raise RuntimeError("\n".join(map(str, broken)))


async def count_statements_later(data: Path) -> None:
    """Make the database that is to be in `data` able to count statements; it does so only once it is told to."""
    async with postgres.running(data / "postgres") as server:
        await postgres_execute(
            server.url("postgres", driver="postgresql"),
            "alter system set shared_preload_libraries = 'pg_stat_statements'",
            "alter system set pg_stat_statements.track = 'none'",
        )


async def postgres_execute(url: str, *statements: str) -> None:
    """Each statement by itself, outside of any transaction."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its descendants, those that have ended included; 0 for what is gone.

    Without their memory, which `embedded.processes.usage` tells too: to read that takes this process 200 ms of CPU."""
    used = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:4])
    return used


def spent_ms(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """CPU milliseconds by process for each of `count` things that were done between two readings."""
    return {name: (used - before.get(name, 0.0)) * 1000 / count for name, used in after.items()}

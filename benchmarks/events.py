"""How many events go from an outbox through the relay and Kafka to the effects of one consumer, in a second.

Servers, the order service's relay and the analytics service's consumer run, and nothing else. A loader puts the events of
orders, created and confirmed, into the order service's outbox in one commit; the clock runs from there until analytics' inbox has
them all.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from uuid import UUID

import asyncpg
import uuid_utils.compat as uuids
from rich.console import Console

from benchmarks.figures import Measured, spreads
from benchmarks.orders import SETTINGS
from chassis.outbox import CHANNEL
from contracts.events import CloudEvent, Event, OrderConfirmed, OrderCreated
from contracts.money import Money
from contracts.orders import OrderLine
from contracts.platform import SERVICE_NAMES
from data.baskets import Basket, read_baskets, read_products
from embedded.platform import ROOT, Platform
from embedded.ports import free_port
from embedded.probes import http_ok
from embedded.supervisor import ProcessSpec

EVENTS = 50_000
WARM_UP = 1000
WITHIN_S = 600.0
TAIL = 100
"""So many of the last events are looked for, to see whether all may have been applied."""


async def measure_events(directory: Path, turns: int, console: Console, events: int = EVENTS) -> Measured:
    """That many events in each turn."""
    found: list[dict[str, float]] = []
    async with Platform(directory, settings=SETTINGS, infrastructure_only=True) as platform:
        await _migrate(platform)
        for name, part in (("order", "relay"), ("analytics", "consumers")):
            platform.supervisor.add(_part(platform, name, part))
            await platform.supervisor.start(f"{name}-{part}")
        url = {name: platform.env[f"DATABASE_URL_{name.upper()}"].replace("+asyncpg", "") for name in SERVICE_NAMES}
        source, target = await asyncpg.connect(url["order"]), await asyncpg.connect(url["analytics"])
        try:
            await _seconds(source, target, list(_rows(WARM_UP)))
            for turn in range(turns):
                rows = list(_rows(events))
                published, applied = await _seconds(source, target, rows)
                found.append({"events_per_s": len(rows) / applied, "published_per_s": len(rows) / published})
                console.print(f"turn {turn + 1}: {found[-1]}")
        finally:
            await source.close()
            await target.close()
    return Measured(spreads(found))


async def _migrate(platform: Platform) -> None:
    platform.supervisor.add(
        ProcessSpec(name="migrate", argv=(sys.executable, "-m", "cli.main", "migrate"), env=platform.env, cwd=ROOT, once=True)
    )
    await platform.supervisor.start("migrate")


def _part(platform: Platform, service: str, part: str) -> ProcessSpec:
    port = free_port()
    return ProcessSpec(
        name=f"{service}-{part}",
        argv=(sys.executable, "-m", f"services.{service}.app", "--run", part),
        env={**platform.env, "HOST": "127.0.0.1", "PORT": str(port)},
        cwd=ROOT,
        ready=http_ok(f"http://127.0.0.1:{port}/health/ready"),
    )


Row = tuple[UUID, str, str, str]


async def _seconds(source: asyncpg.Connection, target: asyncpg.Connection, rows: list[Row]) -> tuple[float, float]:
    """From the commit of these outbox rows until the last one is marked as published, and to the commit of the last one's effect.

    TimeoutError."""
    wanted = await target.fetchval("select count(*) from inbox") + len(rows)
    last = [row[0] for row in rows[-TAIL:]]
    async with source.transaction():
        await source.copy_records_to_table("outbox", records=rows, columns=("event_id", "topic", "key", "envelope"))
        await source.execute(f"notify {CHANNEL}")
    began, published = time.monotonic(), 0.0
    # All are counted only once the last ones are there: counting again and again would cost what is measured.
    while (
        not published
        or await target.fetchval("select count(*) from inbox where event_id = any($1)", last) < len(last)
        or await target.fetchval("select count(*) from inbox") < wanted
    ):
        took = time.monotonic() - began
        if took > WITHIN_S:
            raise TimeoutError(f"after {WITHIN_S:.0f} s not all of {len(rows)} events were applied")
        if not published and not await source.fetchval("select exists (select from outbox where published_at is null)"):
            published = took
        await asyncio.sleep(0.1)
    return published, time.monotonic() - began


def _rows(count: int) -> Iterator[Row]:
    """Outbox rows of half as many orders of real baskets, each created and then confirmed, of 1,000 customers."""
    products = {product.product_id: product for product in read_products()}
    customers = [uuids.uuid7() for _ in range(1000)]

    def line(product_id: str, quantity: int) -> OrderLine:
        product = products[product_id]
        price = Money(amount=product.unit_price)
        return OrderLine(product_id=product_id, name=product.product_type, quantity=quantity, unit_price=price, weight_grams=500)

    def total(basket: Basket) -> Money:
        return Money(amount=sum(products[product].unit_price * quantity for product, quantity in basket.lines))

    for basket, customer in islice(zip(cycle(read_baskets()), cycle(customers), strict=False), count // 2):
        order_id = uuids.uuid7()
        lines = tuple(line(product, quantity) for product, quantity in basket.lines)
        facts = {"order_id": order_id, "customer_id": customer, "lines": lines, "total": total(basket)}
        yield _row(OrderCreated(**facts))
        yield _row(OrderConfirmed(**facts, warehouse_id=basket.store_id))


def _row(event: Event) -> Row:
    envelope = CloudEvent(
        id=uuids.uuid7(),
        source="/services/order",
        type=type(event).__name__,
        subject=event.key,
        time=datetime.now(UTC),
        partitionkey=event.key,
        data=event.model_dump(mode="json"),
    )
    return envelope.id, event.topic, event.key, json.dumps(envelope.model_dump(mode="json", exclude_none=True))

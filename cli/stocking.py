"""Fills an empty platform with the real catalogue, and with stock at every store for what was bought there."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.client import Gateway, Person, Recorder
from data.baskets import Basket, read_baskets, read_products
from data.catalogue import import_row

UNITS = 500
"""Of each product at each store that sells it. An order of more than this finds it out of stock."""
CHUNK = 1000


async def stock_platform(
    env: Mapping[str, str], console: Console, baskets: Path | None = None, recorder: Recorder | None = None
) -> None:
    """Load catalogue, warehouses and stock through the gateway, as the first admin; does nothing if that was done before."""
    async with Gateway(env["GATEWAY_URL"], recorder=recorder) as gateway:
        admin = Person(gateway, env["ADMIN_EMAIL"], env["ADMIN_PASSWORD"])
        await _load_products(gateway, admin, console)
        await _load_stock(gateway, admin, read_baskets(baskets), console)


async def _load_products(gateway: Gateway, admin: Person, console: Console) -> None:
    rows = [import_row(product) for product in read_products()]
    last = await gateway.ask("GET", f"/api/v1/products/{rows[-1]['product_id']}")
    if last.status == 200:  # they are loaded in order; what staff changed since then stays
        return
    for start in range(0, len(rows), CHUNK):
        await gateway.call(
            "POST", "/api/v1/products/import", {"products": rows[start : start + CHUNK]}, token=await admin.token()
        )
    console.print(f"Catalogue: {len(rows)} products")


async def _load_stock(gateway: Gateway, admin: Person, baskets: Sequence[Basket], console: Console) -> None:
    sold_at: dict[str, set[str]] = {}
    for basket in baskets:
        sold_at.setdefault(basket.store_id, set()).update(product for product, _ in basket.lines)
    known = await _known_warehouses(gateway, admin)
    new = {store: sorted(products) for store, products in sold_at.items() if store not in known}
    gate = asyncio.Semaphore(4)

    async def fill(store: str, products: list[str]) -> None:
        async with gate:
            await gateway.call("PUT", f"/api/v1/warehouses/{store}?name=Store%20{store}", token=await admin.token())
            for start in range(0, len(products), CHUNK):
                receipt: dict[str, Any] = {
                    "warehouse_id": store,
                    "reference": f"first-delivery-{start}",
                    "low_stock_threshold": 10,
                    "lines": [{"product_id": product, "quantity": UNITS} for product in products[start : start + CHUNK]],
                }
                key = {"Idempotency-Key": f"first-delivery-{store}-{start}"}
                await gateway.call("POST", "/api/v1/stock/receipts", receipt, token=await admin.token(), headers=key)

    await asyncio.gather(*[fill(store, products) for store, products in new.items()])
    if new:
        console.print(f"Stock: {sum(map(len, new.values()))} products at {len(new)} stores, {UNITS} of each")


async def _known_warehouses(gateway: Gateway, admin: Person) -> set[str]:
    known: set[str] = set()
    cursor = ""
    while True:
        page = await gateway.call("GET", f"/api/v1/warehouses?limit=200{cursor}", token=await admin.token())
        known.update(item["warehouse_id"] for item in page["items"])
        if not page["next_cursor"]:
            return known
        cursor = f"&cursor={page['next_cursor']}"

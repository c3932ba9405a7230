"""Fills an empty platform with the real catalogue, and with stock at every store for what was bought there.

The data know only what was bought at a till. So that orders can come from several warehouses, or wait for goods, there are two
depots as well, with a product that no store has, another product that is nowhere, and a discount code.
"""

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
AT_THE_DEPOTS = "camping-lantern"
"""The product that both depots have, and no store."""
OUT_OF_STOCK = "camping-stove"
"""The product that is nowhere, until somebody receives some."""
DEPOTS = {
    "north": "name=Northern%20depot&country=US&region=IL&postal_code=60601",
    "south": "name=Southern%20depot&country=US&region=TX&postal_code=75201",
}
"""By id: what they are called, and where they are."""
DISCOUNT_CODE, PERCENT_OFF = "WELCOME10", 10


async def stock_platform(
    env: Mapping[str, str], console: Console, baskets: Path | None = None, recorder: Recorder | None = None
) -> None:
    """Load catalogue, warehouses and stock through the gateway, as the first admin; does nothing if that was done before."""
    async with Gateway(env["GATEWAY_URL"], recorder=recorder) as gateway:
        admin = Person(gateway, env["ADMIN_EMAIL"], env["ADMIN_PASSWORD"])
        await _load_products(gateway, admin, console)
        await _load_stock(gateway, admin, read_baskets(baskets), console)
        await _open_depots(gateway, admin, console)
        await _offer_discount(gateway, admin, console)


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


async def _open_depots(gateway: Gateway, admin: Person, console: Console) -> None:
    if DEPOTS.keys() <= await _known_warehouses(gateway, admin):
        return
    products = [_camping(AT_THE_DEPOTS, "Camping Lantern", "19.90"), _camping(OUT_OF_STOCK, "Camping Stove", "34.50")]
    await gateway.call("POST", "/api/v1/products/import", {"products": products}, token=await admin.token())
    for depot, query in DEPOTS.items():
        await gateway.call("PUT", f"/api/v1/warehouses/{depot}?{query}", token=await admin.token())
        receipt: dict[str, Any] = {
            "warehouse_id": depot,
            "reference": "first-delivery",
            "lines": [{"product_id": AT_THE_DEPOTS, "quantity": UNITS}],
        }
        key = {"Idempotency-Key": f"first-delivery-{depot}"}
        await gateway.call("POST", "/api/v1/stock/receipts", receipt, token=await admin.token(), headers=key)
    console.print(f"Depots: {' and '.join(DEPOTS)}, {UNITS} of {AT_THE_DEPOTS} at each; nobody has {OUT_OF_STOCK}")


def _camping(product_id: str, name: str, price: str) -> dict[str, Any]:
    return {
        "product_id": product_id,
        "name": name,
        "department": "Garden Center",
        "category": "Camping",
        "weight_grams": 500,
        "price": {"amount": price, "currency": "USD"},
    }


async def _offer_discount(gateway: Gateway, admin: Person, console: Console) -> None:
    path, token = f"/api/v1/discounts/{DISCOUNT_CODE}", await admin.token()
    if (await gateway.ask("GET", path, token=token)).status == 404:
        await gateway.call("PUT", path, {"kind": "percent", "percent": str(PERCENT_OFF)}, token=token)
        console.print(f"Discount code: {DISCOUNT_CODE}, {PERCENT_OFF} % off")


async def _known_warehouses(gateway: Gateway, admin: Person) -> set[str]:
    known: set[str] = set()
    cursor = ""
    while True:
        page = await gateway.call("GET", f"/api/v1/warehouses?limit=200{cursor}", token=await admin.token())
        known.update(item["warehouse_id"] for item in page["items"])
        if not page["next_cursor"]:
            return known
        cursor = f"&cursor={page['next_cursor']}"

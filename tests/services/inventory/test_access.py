"""Who may what with stock: everything, asked by everybody."""

from uuid import uuid4

import httpx2

from contracts.identity import Role
from tests.access import Rows, assert_access
from tests.conftest import TokenMint


async def test_everybody_may_what_the_table_says(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    async def goods_in_a_warehouse() -> Rows:
        warehouse, other = uuid4().hex, uuid4().hex
        admin = mint.headers(Role.ADMIN) | {"Idempotency-Key": warehouse}
        for each in (warehouse, other):
            await client.put(f"/api/v1/warehouses/{each}", params={"name": "One"}, headers=admin)
        receipt = {"warehouse_id": warehouse, "reference": "d1", "lines": [{"product_id": "milk", "quantity": 9}]}
        (await client.post("/api/v1/stock/receipts", json=receipt, headers=admin)).raise_for_status()
        announcement = {
            "warehouse_id": warehouse,
            "product_id": "milk",
            "quantity": 5,
            "expected_on": "2099-01-01",
            "reference": "p1",
        }
        announced = await client.post("/api/v1/expected-receipts", json=announcement, headers=admin | {"Idempotency-Key": other})
        waits = {
            "order_id": str(uuid4()),
            "customer_id": str(uuid4()),
            "lines": [{"product_id": "oil", "quantity": 1}],
            "warehouse_id": warehouse,
            "when_short": "wait",
        }
        saga = mint.headers(Role.SERVICE)
        (await client.post("/internal/v1/reservations", json=waits, headers=saga)).raise_for_status()
        places = {"warehouse_id": warehouse, "from_warehouse_id": warehouse, "to_warehouse_id": other}
        receipt_id = announced.raise_for_status().json()["receipt_id"]
        return Rows(places | {"product_id": "milk", "receipt_id": receipt_id}, warehouse=warehouse, other_warehouse=other)

    await assert_access("inventory", client, mint, goods_in_a_warehouse)

"""Who may what with stock: everything, asked by everybody."""

from uuid import uuid4

import httpx2

from contracts.identity import Role
from tests.access import Rows, assert_access
from tests.conftest import TokenMint


async def test_everybody_may_what_the_table_says(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    async def goods_in_a_warehouse() -> Rows:
        warehouse = uuid4().hex
        admin = mint.headers(Role.ADMIN) | {"Idempotency-Key": warehouse}
        await client.put(f"/api/v1/warehouses/{warehouse}", params={"name": "One"}, headers=admin)
        receipt = {"warehouse_id": warehouse, "reference": "d1", "lines": [{"product_id": "milk", "quantity": 9}]}
        (await client.post("/api/v1/stock/receipts", json=receipt, headers=admin)).raise_for_status()
        return Rows({"warehouse_id": warehouse}, warehouse=warehouse)

    await assert_access("inventory", client, mint, goods_in_a_warehouse)

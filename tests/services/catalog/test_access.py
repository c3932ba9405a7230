"""Who may what in the catalogue: everything, asked by everybody."""

from uuid import uuid4

import httpx2

from contracts.identity import Role
from tests.access import Rows, assert_access
from tests.conftest import TokenMint
from tests.services.catalog.conftest import product


async def test_everybody_may_what_the_table_says(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    admin = mint.headers(Role.ADMIN)

    async def a_product_and_an_empty_category() -> Rows:
        name = uuid4().hex
        products = {"products": [product(name).model_dump(mode="json", exclude_none=True)]}
        (await client.post("/api/v1/products/import", json=products, headers=admin)).raise_for_status()
        category = await client.post("/api/v1/categories", json={"name": name, "parent_id": "grocery"}, headers=admin)
        return Rows({"product_id": name, "category_id": category.json()["category_id"], "product_ids": [name]})

    await assert_access("catalog", client, mint, a_product_and_an_empty_category)

"""Who may what with parcels: everything, asked by everybody."""

from uuid import uuid4

import httpx2

from contracts.identity import Role
from tests.access import Rows, assert_access
from tests.conftest import TokenMint
from tests.services.shipping.parcels import order


async def test_everybody_may_what_the_table_says(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    async def a_parcel() -> Rows:
        command = order().model_copy(update={"warehouse_id": uuid4().hex})
        body = command.model_dump(mode="json")
        created = await client.post("/internal/v1/shipments/create", json=body, headers=mint.headers(Role.SERVICE))
        values = {name: created.json()[name] for name in ("shipment_id", "order_id", "tracking_number")}
        values["warehouse_id"] = command.warehouse_id
        return Rows(values, command.customer_id, command.warehouse_id)

    await assert_access("shipping", client, mint, a_parcel)

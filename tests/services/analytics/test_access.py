"""Who may see which report: everything, asked by everybody."""

import httpx2

from chassis.clock import utc_now
from chassis.database import Database
from tests.access import Rows, assert_access
from tests.conftest import TokenMint
from tests.services.analytics.conftest import consume, line, order


async def test_everybody_may_what_the_table_says(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    async def a_customer_of_ours() -> Rows:
        bought = order(line("milk", 1, "5.00"))
        await consume(database, [bought.created(utc_now())])
        return Rows({"customer_id": str(bought.customer_id)}, owner=bought.customer_id)

    await assert_access("analytics", client, mint, a_customer_of_ours)

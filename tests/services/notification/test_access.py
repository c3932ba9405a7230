"""Who may what with notifications: everything, asked by everybody."""

from uuid import uuid4

import httpx2

from chassis.database import Database
from contracts.identity import Role
from services.notification import commands
from services.notification.commands import browsers
from tests.access import Rows, assert_access
from tests.conftest import TokenMint
from tests.services.notification.conftest import People, confirmation


async def test_everybody_may_what_the_table_says(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint, people: People
) -> None:
    async def a_notification() -> Rows:
        customer_id, anybody = people.customer(), people.customer("anybody@example.org")
        queued = await commands.send_notification(database, confirmation(customer_id))
        subscription = {"endpoint": "https://push.example/1", "keys": {}}
        browser_id = await browsers.subscribe(database, customer_id, "https://push.example/1", subscription)
        values = {
            "notification_id": str(queued.notification_id),
            "customer_id": str(customer_id),
            "subscription_id": browser_id,
            "kind": "order_shipped",
            "channel": "email",
            "language": "en",
            "number": 1,
            "values": {},
        }
        return Rows(values, owner=customer_id, anybody_else=anybody)

    await assert_access("notification", client, mint, a_notification)


async def test_g10_a_warehouse_reads_no_mails(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    queued = await commands.send_notification(database, confirmation(uuid4()))
    for path in ("", f"/{queued.notification_id}"):
        response = await client.get(f"/api/v1/notifications{path}", headers=mint.headers(Role.WAREHOUSE))
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")

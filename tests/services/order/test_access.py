"""Who may what with orders: everything, asked by everybody."""

from uuid import uuid4

import httpx2

from chassis.database import Database
from chassis.store import in_transaction
from contracts.errors import ErrorCode
from contracts.events import CustomerForgotten
from contracts.identity import Role
from contracts.orders import Amendment, PlaceOrder
from contracts.pricing import DiscountKind
from contracts.returns import ReturnStatus
from services.order import commands
from services.order.model import DiscountTerms, OrderAmendment
from services.order.model.amending import AmendmentStatus
from tests.access import Rows, assert_access
from tests.conftest import TokenMint, changing
from tests.services.order.conftest import Catalogue, stored
from tests.services.order.test_returns import asked, delivered, tell


async def refused_amendment(database: Database, order: PlaceOrder) -> None:
    lines = tuple(line.model_copy(update={"line_id": place}) for place, line in enumerate(order.lines, start=1))
    terms = Amendment(number=1, lines=lines, total=order.total, ship_to=order.ship_to, owed_before=order.total, by="customer")
    async with changing(database) as work:
        work.add(
            OrderAmendment(
                order_id=order.order_id,
                number=1,
                status=AmendmentStatus.REFUSED,
                key_hash="0" * 64,
                terms=terms.model_dump(mode="json"),
                before={"lines": [], "charges": None},
                first_new_line_id=9,
                code=ErrorCode.OUT_OF_STOCK,
            )
        )


async def test_everybody_may_what_the_table_says(
    client: httpx2.AsyncClient, database: Database, catalogue: Catalogue, mint: TokenMint
) -> None:
    for product_id in ("1029743", "1082185"):  # those of the documentation's example
        catalogue.put(product_id, "1.50")

    forgotten = uuid4()
    event = CustomerForgotten(customer_id=forgotten, by=forgotten)
    await in_transaction(database, lambda work: commands.wish_to_forget(work, event))

    await commands.put_discount(database, "SPRING", DiscountTerms(kind=DiscountKind.FREE_SHIPPING))

    async def an_order() -> Rows:
        """It was delivered, and a part of it is expected back. It could not be amended."""
        order = await delivered(database, warehouse="410")
        await tell(database, order, await asked(database, order), ReturnStatus.APPROVED)
        await refused_amendment(database, order)
        values = {
            "order_id": str(order.order_id),
            "customer_id": str(forgotten),
            "code": "SPRING",
            "parcel": 1,
            "number": 1,
            "warehouse_id": "410",
            "line_id": 1,
        }
        return Rows(values, owner=order.customer_id, warehouse="410")

    await assert_access("order", client, mint, an_order)


async def test_g10_a_warehouse_reads_no_orders(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    order = await stored(database)
    for path in ("", f"/{order.order_id}", f"/{order.order_id}/timeline"):
        response = await client.get(f"/api/v1/orders{path}", headers=mint.headers(Role.WAREHOUSE))
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")

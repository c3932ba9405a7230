"""What a customer, or somebody with an operator's rights, tries in vain (review-1.md, G7 and G8)."""

import json
from dataclasses import replace
from decimal import Decimal

from chassis.cache import redis_client
from contracts.errors import ErrorCode
from contracts.orders import OrderStatus
from services.catalog.cache import PREFIX
from services.shipping.model.rates import HEAVIEST_GRAMS
from testing.shop import Purchase
from testing.stage import Stage

SUM = Decimal(200)
"""USD. Of such orders the third is more than may be bought in a day."""


async def for_about(stage: Stage, total: Decimal) -> Purchase:
    """A purchase of one product for a little more than `total`, which a parcel can hold; three of them are within what one
    customer may be promised of a product."""
    for purchase in stage.purchases:
        product_id = purchase.body["lines"][0]["product_id"]
        product = await stage.shop.gateway.call("GET", f"/api/v1/products/{product_id}")
        quantity = int(total // Decimal(product["price"]["amount"])) + 1
        if quantity <= 33 and quantity * product["weight_grams"] <= HEAVIEST_GRAMS:
            stage.purchases.remove(purchase)
            lines = [{"product_id": product_id, "quantity": quantity}]
            return replace(purchase, body={**purchase.body, "lines": lines})
    raise AssertionError("no basket has such a product")


async def test_g7_who_buys_much_in_little_time_is_looked_at(stage: Stage) -> None:
    purchase = await for_about(stage, SUM)
    placed = [await stage.shop.place(replace(purchase, key=f"{purchase.key}-{n}")) for n in range(3)]
    assert [one.status for one in placed] == [201, 201, 202]
    assert placed[2].body["status"] == OrderStatus.IN_REVIEW
    order = await stage.shop.order(placed[2].order_id)
    assert order["review_reason"] == "; ".join(
        f"{who}: more than 500.00 USD within 24 hours" for who in ("customer", "card", "address")
    )
    seen = await stage.shop.call(purchase.customer, "GET", f"/orders/{placed[2].order_id}")
    assert "review_reason" not in seen
    assert (await stage.shop.decide(placed[2].order_id, "approve", "called back")).status == 200
    await stage.shop.reaches(placed[2].order_id, OrderStatus.CONFIRMED)


async def test_g7_one_customer_does_not_hold_all_of_a_product(stage: Stage) -> None:
    purchase = stage.next_purchase()
    wanted = purchase.with_first_quantity(101)
    placed = await stage.shop.place(wanted)
    assert placed.words == f"409 {ErrorCode.PURCHASE_LIMIT}"
    product_id = wanted.body["lines"][0]["product_id"]
    assert placed.body["lines"] == [{"product_id": product_id, "requested": 101, "available": 100}]


async def test_g7_an_operator_does_not_approve_an_order_of_its_own(stage: Stage) -> None:
    purchase = replace(stage.next_purchase(), customer=stage.shop.support).paid_with("pm_card_riskLevelElevated")
    order_id = (await stage.shop.place(purchase)).order_id
    for decision in ("approve", "reject"):
        reply = await stage.shop.decide(order_id, decision, "it is mine")
        assert (reply.status, reply.body["code"]) == (403, ErrorCode.OWN_ORDER)
    me = (await stage.shop.order(order_id))["customer_id"]
    await stage.saga(order_id).signal("approve", {"by": me, "reason": "it is mine"})
    assert (await stage.saga(order_id).query("status"))["status"] == OrderStatus.IN_REVIEW
    assert (await stage.shop.cancel(stage.shop.support, order_id)).body["status"] == OrderStatus.CANCELLED


async def test_g8_a_forged_entry_in_redis_changes_no_price(stage: Stage) -> None:
    purchase = stage.next_purchase()
    product_id = purchase.body["lines"][0]["product_id"]
    product = await stage.shop.gateway.call("GET", f"/api/v1/products/{product_id}")
    forged = product | {"price": {"amount": "0.01", "currency": "USD"}}
    async with redis_client(stage.platform.env["REDIS_URL"]) as redis:
        entry = f'"{product["version"]}"\n{json.dumps(forged)}'
        await redis.set(f"{PREFIX}{product_id}", entry, ex=30)
    shown = await stage.shop.gateway.call("GET", f"/api/v1/products/{product_id}")
    assert shown["price"] == forged["price"]
    placed = await stage.shop.place(purchase)
    assert placed.status == 201
    assert placed.body["lines"][0]["unit_price"] == product["price"]
    charge = await stage.shop.charge(placed.order_id)
    assert Decimal(charge.captured) / 100 == Decimal(placed.body["total"]["amount"])

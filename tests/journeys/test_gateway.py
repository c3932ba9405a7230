"""What the front door lets pass, and what a key stands for."""

from dataclasses import replace

import pytest

from contracts.errors import ErrorCode
from testing.stage import Stage

INTERNAL = (
    "/internal/v1/orders/advance",
    "/internal/v1/reservations",
    "/internal/v1/payments/process",
    "/internal/v1/payments/refund",
    "/internal/v1/shipments/create",
    "/internal/v1/notifications",
    "/internal/v1/products/lookup",
    "/internal/v1/service-tokens",
)


@pytest.mark.parametrize("path", INTERNAL)
async def test_internal_endpoints_do_not_exist_outside(stage: Stage, path: str) -> None:
    for token in (None, await stage.shop.support.token()):
        reply = await stage.shop.gateway.ask("POST", path, {}, token=token)
        assert (reply.status, reply.body["code"]) == (404, ErrorCode.NOT_FOUND)


async def test_a_key_stands_for_one_request(stage: Stage) -> None:
    purchase = stage.next_purchase()
    first, again = await stage.shop.place(purchase), await stage.shop.place(purchase)
    assert (first.status, again.status) == (201, 201)
    assert again.order_id == first.order_id
    other = await stage.shop.place(purchase.with_first_quantity(purchase.body["lines"][0]["quantity"] + 1))
    assert other.words == f"422 {ErrorCode.IDEMPOTENCY_KEY_REUSED}"
    elsewhere = await stage.shop.place(replace(purchase, key=f"{purchase.key}-2"))
    assert elsewhere.order_id != first.order_id


async def test_orders_of_others_do_not_exist(stage: Stage) -> None:
    mine, other = stage.next_purchase(), stage.next_purchase()
    order_id = (await stage.shop.place(mine)).order_id
    for method, path, body in (("GET", "", None), ("GET", "/timeline", None), ("POST", "/cancel", {"reason": "not mine"})):
        reply = await stage.shop.ask(other.customer, method, f"/orders/{order_id}{path}", body)
        assert (reply.status, reply.body["code"]) == (404, ErrorCode.NOT_FOUND)
    assert (await stage.shop.ask(mine.customer, "GET", f"/orders/{order_id}")).status == 200


async def test_only_operators_decide(stage: Stage) -> None:
    purchase = stage.next_purchase()
    order_id = (await stage.shop.place(purchase.paid_with("pm_card_riskLevelElevated"))).order_id
    for person in (purchase.customer, stage.shop.warehouse):
        reply = await stage.shop.ask(person, "POST", f"/orders/{order_id}/approve", {"reason": "let me"})
        assert (reply.status, reply.body["code"]) == (403, ErrorCode.FORBIDDEN)
    assert (await stage.shop.decide(order_id, "reject", "test")).status == 200

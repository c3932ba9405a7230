"""`commerce explain`: an operator reads where an order is and why, whatever is down."""

from uuid import uuid4

from contracts.orders import OrderStatus
from embedded.ports import free_port
from services.order.explaining import StaffExplanation
from tests.audit.conftest import Shop, place_order
from tests.cli.conftest import Command
from tests.cli.test_orders import WHY, env_of, lose, reaches
from tests.conftest import eventually


async def test_an_order_is_explained_with_what_may_be_done(shop: Shop, commerce: Command) -> None:
    order_id, _ = await shop.place()
    result = await commerce(env_of(shop), "explain", order_id)
    assert result.exit_code == 0, result.output
    for words in (
        "CONFIRMED, and waits for the warehouse to hand",
        f"order-{order_id}",
        "who may act      warehouse",
        "POST /api/v1/shipments/{shipment_id}/dispatch",
        f'POST /api/v1/orders/{order_id}/cancel {{"reason": "WHY"}}',
        f"temporal workflow update execute --workflow-id order-{order_id} --name cancel",
    ):
        assert words in result.stdout, result.stdout
    told = StaffExplanation.model_validate_json((await commerce(env_of(shop), "explain", order_id, "--json")).stdout)
    assert (told.cause, told.source) == ("world", "workflow")


async def test_an_order_is_explained_without_temporal(shop: Shop, commerce: Command) -> None:
    order_id, _ = await shop.place()
    away = env_of(shop) | {"TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}"}
    result = await commerce(away, "explain", order_id)
    assert result.exit_code == 0, result.output
    assert "waits for Temporal to answer" in result.stdout
    assert "told by          its record" in result.stdout
    unknown = await commerce(env_of(shop), "explain", uuid4())
    assert (unknown.exit_code, "There is no order" in unknown.output) == (1, True)


async def test_a_step_that_fails_is_explained_with_its_error_and_a_lost_workflow_with_its_repair(
    shop: Shop, commerce: Command
) -> None:
    order = place_order(shop.customer_id, "pm_card_visa")
    await shop.accept(order)
    await shop.control("CARRIER_URL", "/_control/faults", {"fail_next": 60_000})
    try:
        assert await shop.sagas.start(order, "place")

        async def is_told() -> bool:
            result = await commerce(env_of(shop), "explain", order.order_id)
            return "cause            step fails" in result.stdout and "carrier answered 503" in result.stdout

        await eventually(is_told, what="the failing step")
        result = await commerce(env_of(shop), "explain", order.order_id)
        for words in (
            "create-shipment (service shipping)",
            "attempt  ",
            "last error       carrier answered 503",
            f"commerce undo retry {order.order_id}",
        ):
            assert words in result.stdout, result.stdout
    finally:
        await shop.control("CARRIER_URL", "/_control/faults", {"fail_next": 0})
    await lose(shop, order.order_id)
    lost = await commerce(env_of(shop), "explain", order.order_id)
    assert f"commerce orders repair {order.order_id}" in lost.stdout, lost.stdout
    await commerce(env_of(shop), "orders", "repair", order.order_id, *WHY)
    await reaches(shop, order.order_id, OrderStatus.CANCELLED)

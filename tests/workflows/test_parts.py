"""Orders in parts: several parcels, each dispatched, delivered, lost or called off by itself; goods that are waited for."""

import asyncio
from datetime import date
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from contracts.errors import ErrorCode
from contracts.inventory import ReservationStatus, StockUpdate, WhenShort
from contracts.money import Money
from contracts.orders import Delivery, OrderState, OrderStatus, PlaceOrder
from contracts.parcels import ParcelStatus, Trouble
from contracts.payments import GiveBack
from contracts.pricing import LineAmounts
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.inventory import Announced
from testing.model.world import refused, unavailable
from testing.sagas import Saga, assert_settled, place_order
from tests.conftest import eventually
from tests.workflows.conftest import Begin
from tests.workflows.test_order import status_is
from workflows import order_steps as steps
from workflows.parcels import Parcel

ANN = {"by": "ann", "reason": "looked at it"}
MILK, CHEESE = 540, 1800
"""What two milks and a cheese cost, in cents."""


def order_in_parts(**options: Any) -> PlaceOrder:
    """Of two lines, which may come from two warehouses."""
    return place_order().model_copy(update={"may_split": True, **options})


def two_warehouses() -> World:
    """One has the milk, the other the cheese."""
    world = World()
    world.inventory.shelves.clear()
    world.inventory.receive("1", milk=10)
    world.inventory.receive("2", cheese=10)
    return world


def without_cheese() -> World:
    world = World()
    world.inventory.shelves.clear()
    world.inventory.receive("1", milk=10)
    return world


async def statuses(saga: Saga) -> list[ParcelStatus]:
    return [parcel.status for parcel in (await saga.state()).parcels]


async def parcels_are(saga: Saga, *expected: ParcelStatus) -> None:
    async def so() -> bool:
        return await statuses(saga) == [*expected]

    await eventually(so)


async def arrives(saga: Saga, world: World, parcel: int = 2) -> None:
    """The cheese does, and the saga is told."""
    world.inventory.receive("1", cheese=10)
    promise = world.inventory.promises[saga.order.order_id, parcel]
    assert promise.status == ReservationStatus.RESERVED
    update = StockUpdate(parcel=parcel, status=promise.status, warehouse_id=promise.warehouse_id)
    await saga.handle.signal("stock_updated", update)


def net(world: World, order: PlaceOrder) -> int:
    """What the customer has paid, in cents."""
    return world.payments.net(order.order_id, "USD").minor


async def refusal_of(saga: Saga, name: str, argument: dict[str, Any]) -> str | None:
    with pytest.raises(WorkflowUpdateFailedError) as refusal:
        await saga.handle.execute_update(name, argument)
    assert isinstance(refusal.value.cause, ApplicationError)
    return refusal.value.cause.type


async def test_an_order_from_two_warehouses_comes_in_two_parcels(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            outcome = await saga.place()
            assert outcome.status == OrderStatus.CONFIRMED
            assert await statuses(saga) == [ParcelStatus.BOOKED, ParcelStatus.BOOKED]
            await saga.report("DISPATCHED", parcel=2)
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.SHIPPED)
            assert (await saga.state()).status == OrderStatus.PARTIALLY_SHIPPED
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await parcels_are(saga, ParcelStatus.DELIVERED, ParcelStatus.SHIPPED)
            assert (await saga.state()).status == OrderStatus.SHIPPED
            await saga.report("DELIVERED", parcel=2)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == MILK + CHEESE
    assert {promise.status for promise in world.inventory.promises.values()} == {ReservationStatus.SHIPPED}


async def test_a_lost_parcel_is_refunded_and_the_other_one_arrives(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", parcel=1)
            await saga.report("DISPATCHED", "LOST", parcel=2)
            await parcels_are(saga, ParcelStatus.SHIPPED, ParcelStatus.UNDELIVERED)
            state = await saga.state()
            assert (state.status, state.trouble) == (OrderStatus.UNDELIVERED, Trouble.LOST)
            assert [wait.part for wait in state.waits] == ["parcel 1", "parcel 2"]
            assert (
                await refusal_of(saga, "decide_parcel", ANN | {"choice": "refund", "parcel": 1}) == ErrorCode.NO_DECISION_PENDING
            )
            await saga.update("decide_parcel", ANN | {"choice": "refund", "parcel": 2})
            await parcels_are(saga, ParcelStatus.SHIPPED, ParcelStatus.REFUNDED)
            assert (await saga.state()).status == OrderStatus.SHIPPED
            assert net(world, order) == MILK
            await saga.report("DELIVERED", parcel=1)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    refunded = world.orders.records[order.order_id].refunded
    assert refunded is not None
    assert refunded.minor == CHEESE


async def test_when_two_parcels_are_in_trouble_a_decision_has_to_say_which(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "LOST", parcel=1)
            await saga.report("DISPATCHED", "RETURNED", parcel=2)
            await parcels_are(saga, ParcelStatus.UNDELIVERED, ParcelStatus.UNDELIVERED)
            assert await refusal_of(saga, "decide_parcel", ANN | {"choice": "resend"}) == ErrorCode.NO_DECISION_PENDING
            await saga.update("decide_parcel", ANN | {"choice": "resend", "parcel": 1})
            await parcels_are(saga, ParcelStatus.RESENT, ParcelStatus.UNDELIVERED, ParcelStatus.BOOKED)
            await saga.update("decide_parcel", ANN | {"choice": "refund_and_restock"})
            await parcels_are(saga, ParcelStatus.RESENT, ParcelStatus.REFUNDED, ParcelStatus.BOOKED)
            assert (await saga.state()).status == OrderStatus.CONFIRMED
            await saga.report("DISPATCHED", "DELIVERED", parcel=3)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == MILK
    assert world.inventory.promises[order.order_id, 2].status == ReservationStatus.RESTOCKED


async def test_all_that_is_lost_is_refunded_and_the_order_ends_refunded(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "LOST", parcel=1)
            await saga.report("DISPATCHED", "LOST", parcel=2)
            await parcels_are(saga, ParcelStatus.UNDELIVERED, ParcelStatus.UNDELIVERED)
            await saga.update("decide_parcel", ANN | {"choice": "refund", "parcel": 1})
            await parcels_are(saga, ParcelStatus.REFUNDED, ParcelStatus.UNDELIVERED)
            await saga.update("decide_parcel", ANN | {"choice": "refund"})
            state = await saga.handle.result()
    assert state.status == OrderStatus.REFUNDED
    assert net(world, order) == 0


async def test_who_cancels_when_a_part_has_left_gets_the_rest_cancelled_and_is_told(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.shipping.move(order.order_id, 1, ShipmentStatus.DISPATCHED)  # the saga has not heard of it yet
            reply = await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
            assert reply["refunded"]["amount"] == "18.00"
            assert "has left" in reply["detail"]
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.CANCELLED)
            assert net(world, order) == MILK
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert world.inventory.promises[order.order_id, 2].status == ReservationStatus.RELEASED
    assert world.shipping.parcels[order.order_id, 2].status == ShipmentStatus.CANCELLED


@pytest.mark.parametrize("trouble", [None, "LOST"])
async def test_who_cancels_when_it_is_known_that_a_part_has_left_gets_the_rest_cancelled(
    begin: Begin, trouble: str | None
) -> None:
    world, order = two_warehouses(), order_in_parts()
    first = ParcelStatus.UNDELIVERED if trouble else ParcelStatus.SHIPPED
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report(*filter(None, ["DISPATCHED", trouble]), parcel=1)
            await parcels_are(saga, first, ParcelStatus.BOOKED)
            reply = await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
            assert reply["refunded"]["amount"] == "18.00"
            assert "has left" in reply["detail"]
            await parcels_are(saga, first, ParcelStatus.CANCELLED)
            await saga.report("DELIVERED", parcel=1)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == MILK


async def test_who_cancels_in_time_gets_all_of_it_cancelled(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
            state = await saga.handle.result()
    assert state.status == OrderStatus.CANCELLED
    assert {parcel.status for parcel in state.parcels} == {ParcelStatus.CANCELLED}
    assert_settled(world, order)


async def test_nothing_is_left_to_cancel_once_every_parcel_has_left(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", parcel=1)
            await saga.report("DISPATCHED", parcel=2)
            await parcels_are(saga, ParcelStatus.SHIPPED, ParcelStatus.SHIPPED)
            assert await refusal_of(saga, "cancel", {"reason": "too late"}) == ErrorCode.ALREADY_DISPATCHED
            await saga.report("DELIVERED", parcel=1)
            await saga.report("DELIVERED", parcel=2)
            await saga.handle.result()
    assert net(world, order) == MILK + CHEESE


async def test_a_parcel_that_cannot_be_booked_undoes_the_order_before_it_is_confirmed(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()

    def the_second_is_refused() -> None:
        world.before["CreateShipment"] = [refused(ErrorCode.PARCEL_TOO_HEAVY)]

    world.before["CreateShipment"] = [the_second_is_refused]
    async with begin(world, order) as saga:
        outcome = await saga.place()
        await saga.handle.result()
    assert outcome.code == ErrorCode.PARCEL_TOO_HEAVY
    assert_settled(world, order)


async def test_a_parcel_that_left_before_its_plan_was_in_the_history_is_followed(begin: Begin) -> None:
    """A task that was lost had planned, paid and booked the first parcel, which has left when the customer cancels."""
    world, order = two_warehouses(), order_in_parts()
    world.before["ReserveInventory"] = [unavailable] * 100_000
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.start()

            async def tried() -> bool:
                return world.calls.count("ReserveInventory") > 2

            await eventually(tried)
            world.handle(steps.reserve_inventory(order).argument)
            world.handle(steps.process_payment(order, order.total, order.payment_token).argument)
            world.handle(steps.create_shipment(order, Parcel(1, (), warehouse_id="1"), 1).argument)
            world.shipping.move(order.order_id, 1, ShipmentStatus.DISPATCHED)
            cancelling = asyncio.create_task(saga.handle.execute_update("cancel", {"reason": "changed my mind"}))

            async def asked() -> bool:
                return "CancelShipment" in world.calls

            await eventually(asked)
            world.before["ReserveInventory"].clear()
            assert (await cancelling)["refunded"]["amount"] == "18.00"
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.CANCELLED)
            await saga.report("DISPATCHED", "DELIVERED")
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == MILK


# ── Fewer units than planned ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_cannot_be_sent_yet_goes_in_a_parcel_of_its_own(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            split = ANN | {"parcel": 1, "lines": [{"line_id": 1, "quantity": 1}]}
            state = await saga.update("split_parcel", split)
            assert [parcel.status for parcel in state.parcels] == [ParcelStatus.BOOKED, ParcelStatus.BOOKED]
            assert [[(line.line_id, line.first, line.quantity) for line in parcel.lines] for parcel in state.parcels] == [
                [(1, 0, 1), (2, 0, 1)],
                [(1, 1, 1)],
            ]
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await saga.report("DISPATCHED", "LOST", parcel=2)
            await parcels_are(saga, ParcelStatus.DELIVERED, ParcelStatus.UNDELIVERED)
            await saga.update("decide_parcel", ANN | {"choice": "refund"})
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == MILK // 2 + CHEESE
    assert {promise.status for promise in world.inventory.promises.values()} == {ReservationStatus.SHIPPED}


@pytest.mark.parametrize(
    "lines",
    [
        [{"line_id": 1, "quantity": 3}],
        [{"line_id": 3, "quantity": 1}],
        [{"line_id": 1, "quantity": 2}, {"line_id": 2, "quantity": 1}],
    ],
)
async def test_a_parcel_is_split_into_two_that_both_have_something(begin: Begin, lines: list[dict[str, int]]) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            assert await refusal_of(saga, "split_parcel", ANN | {"parcel": 1, "lines": lines}) == ErrorCode.CONFLICT
        await saga.deliver()
    assert_settled(world, order)


@pytest.mark.parametrize("before", ["told", "refused by inventory"])
async def test_a_parcel_that_has_left_is_not_split(begin: Begin, before: str) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            if before == "told":
                await saga.report("DISPATCHED")
                await status_is(saga, OrderStatus.SHIPPED)
            else:
                world.before["SplitReservation"] = [refused(ErrorCode.CONFLICT)]
            split = ANN | {"parcel": 1, "lines": [{"line_id": 1, "quantity": 1}]}
            assert await refusal_of(saga, "split_parcel", split) == ErrorCode.CONFLICT
        await saga.deliver()
    assert_settled(world, order)


# ── Out of stock ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_out_of_stock_is_left_out_and_not_paid_for(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.DROP)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.CONFIRMED
            assert await statuses(saga) == [ParcelStatus.BOOKED, ParcelStatus.CANCELLED]
            assert net(world, order) == MILK
            await saga.report("DISPATCHED", "DELIVERED")
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == MILK


async def test_goods_that_arrive_are_sent_in_a_parcel_of_their_own(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.CONFIRMED
            assert await statuses(saga) == [ParcelStatus.BOOKED, ParcelStatus.AWAITED]
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await parcels_are(saga, ParcelStatus.DELIVERED, ParcelStatus.AWAITED)
            assert (await saga.state()).status == OrderStatus.PARTIALLY_SHIPPED
            await arrives(saga, world)
            await parcels_are(saga, ParcelStatus.DELIVERED, ParcelStatus.BOOKED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == MILK + CHEESE


async def test_all_together_means_that_nothing_leaves_before_everything_is_there(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.WAIT, delivery=Delivery.ALL_TOGETHER)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.CONFIRMED
            assert await statuses(saga) == [ParcelStatus.RESERVED, ParcelStatus.AWAITED]
            assert "CreateShipment" not in world.calls
            await arrives(saga, world)
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.BOOKED)
            for parcel in (1, 2):
                await saga.report("DISPATCHED", "DELIVERED", parcel=parcel)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED


@pytest.mark.parametrize("choice", ["wait", "drop", "refuse"])
async def test_a_customer_who_is_asked_says_what_becomes_of_what_is_out_of_stock(begin: Begin, choice: str) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.ASK)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.handle.execute_update("answer_shortage", {"choice": choice}, result_type=OrderState)
            if choice == "refuse":
                assert (await saga.handle.result()).status == OrderStatus.CANCELLED
                assert_settled(world, order)
                return
            after = ParcelStatus.AWAITED if choice == "wait" else ParcelStatus.CANCELLED
            await parcels_are(saga, ParcelStatus.BOOKED, after)
            assert net(world, order) == (MILK + CHEESE if choice == "wait" else MILK)
            if choice == "wait":
                await arrives(saga, world)
                await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.BOOKED)
                await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED


async def test_what_comes_on_different_days_leaves_on_different_days(begin: Begin) -> None:
    world, order = World(), order_in_parts(when_short=WhenShort.WAIT, day_by_day=True)
    world.inventory.shelves.clear()
    world.inventory.receive("1")
    days = {"milk": date(2027, 1, 4), "cheese": date(2027, 1, 11)}
    world.inventory.announced = [Announced("1", product, 10, on) for product, on in days.items()]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            shown = (await saga.state()).parcels
            assert [(parcel.status, parcel.expected_on) for parcel in shown] == [
                (ParcelStatus.AWAITED, days["milk"]),
                (ParcelStatus.AWAITED, days["cheese"]),
            ]
            await arrives(saga, world)
            await parcels_are(saga, ParcelStatus.AWAITED, ParcelStatus.BOOKED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            world.inventory.receive("1", milk=10)
            await saga.handle.signal("stock_updated", StockUpdate(parcel=1, status=ReservationStatus.RESERVED, warehouse_id="1"))
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.DELIVERED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == MILK + CHEESE


async def test_without_an_answer_what_is_out_of_stock_is_left_out(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.ASK)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            [wait] = [wait for wait in (await saga.state()).waits if wait.part == "parcel 2"]
            assert wait.until is not None
        await saga.env.fast_forward(saga.handle, order.answer_seconds + 60)
        with saga.env.with_time_skipping_disabled():
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.CANCELLED)
            assert net(world, order) == MILK
            await saga.report("DISPATCHED", "DELIVERED")
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED


@pytest.mark.parametrize("how", ["answered", "in time"])
async def test_i10_what_waited_for_goods_that_are_left_out_is_sent(begin: Begin, how: str) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.ASK, delivery=Delivery.ALL_TOGETHER)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            assert await statuses(saga) == [ParcelStatus.RESERVED, ParcelStatus.AWAITED]
            if how == "answered":
                await saga.update("answer_shortage", {"choice": "drop"})
        if how == "in time":
            await saga.env.fast_forward(saga.handle, order.answer_seconds + 60)
        with saga.env.with_time_skipping_disabled():
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.CANCELLED)
            await saga.report("DISPATCHED", "DELIVERED")
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == MILK


async def test_i10_who_cancels_when_a_part_has_left_does_not_wait_for_the_rest_any_more(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED")
            await parcels_are(saga, ParcelStatus.SHIPPED, ParcelStatus.AWAITED)
            reply = await saga.handle.execute_update("cancel", {"reason": "enough", "requested_by": "customer"})
            assert reply["refunded"]["amount"] == "18.00"
            await parcels_are(saga, ParcelStatus.SHIPPED, ParcelStatus.CANCELLED)
            await saga.report("DELIVERED")
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == MILK
    assert world.inventory.promises[order.order_id, 2].status == ReservationStatus.RELEASED


async def test_i10_nothing_goes_back_for_goods_that_cost_nothing(begin: Begin) -> None:
    milk, cheese = place_order().lines
    free = cheese.model_copy(update={"amounts": LineAmounts(items=CHEESE, discount=CHEESE)})
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.ASK, lines=(milk, free), total=milk.total)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.update("answer_shortage", {"choice": "drop"})
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.CANCELLED)
            await saga.report("DISPATCHED", "DELIVERED")
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == MILK
    assert "RefundPayment" not in world.calls


async def test_i10_an_order_is_over_when_what_has_not_arrived_is_cancelled(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "DELIVERED")
            await parcels_are(saga, ParcelStatus.DELIVERED, ParcelStatus.AWAITED)
            reply = await saga.handle.execute_update("cancel", {"reason": "enough", "requested_by": "customer"})
            state = await asyncio.wait_for(saga.handle.result(), timeout=60)
    assert (reply["status"], reply["refunded"]["amount"]) == (OrderStatus.COMPLETED, "18.00")
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == MILK


async def test_a_parcel_that_cannot_be_booked_later_is_called_off_alone(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["CreateShipment"] = [refused(ErrorCode.PARCEL_TOO_HEAVY)]
            await arrives(saga, world)
            await parcels_are(saga, ParcelStatus.BOOKED, ParcelStatus.CANCELLED)
            assert net(world, order) == MILK
            await saga.report("DISPATCHED", "DELIVERED")
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert world.inventory.promises[order.order_id, 2].status == ReservationStatus.RELEASED


# ── Nothing to pay ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_order_that_costs_nothing_is_sent_without_a_payment(begin: Begin) -> None:
    world, order = World(), place_order(total=Money.zero("USD"))
    async with begin(world, order) as saga:
        assert (await saga.place()).status == OrderStatus.CONFIRMED
        assert "ProcessPayment" not in world.calls
        state = await saga.deliver()
    assert state.status == OrderStatus.COMPLETED
    assert net(world, order) == 0


async def test_an_order_that_costs_nothing_can_be_cancelled(begin: Begin) -> None:
    world, order = World(), place_order(total=Money.zero("USD"))
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await saga.handle.execute_update("cancel", {"reason": "changed my mind"})
            await saga.handle.result()
    assert Money.model_validate(reply["refunded"]).minor == 0
    assert_settled(world, order)


async def test_who_splits_may_name_a_line_twice(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            twice = [{"line_id": 1, "quantity": 1}, {"line_id": 1, "quantity": 1}]
            state = await saga.update("split_parcel", ANN | {"parcel": 1, "lines": twice})
            assert [[line.quantity for line in parcel.lines] for parcel in state.parcels] == [[1], [2]]
            for parcel in (1, 2):
                await saga.report("DISPATCHED", "DELIVERED", parcel=parcel)
            await saga.handle.result()


async def test_what_went_back_by_a_return_is_not_told_once_more_when_another_part_is_cancelled(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await parcels_are(saga, ParcelStatus.DELIVERED, ParcelStatus.BOOKED)
            milk = Money.from_minor(MILK, "USD")
            world.payments.give_back(GiveBack(order_id=order.order_id, amount=milk, key="return-1", reason="return 1"))
            reply = await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
            await saga.handle.result()
    assert reply["refunded"]["amount"] == "18.00"
    assert world.orders.records[order.order_id].refunded == Money.from_minor(CHEESE, "USD")
    assert net(world, order) == 0

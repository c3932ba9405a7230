"""A saga that takes the place of a lost one: it undoes what was done, or follows the parcel that has left."""

from typing import Any

import pytest

from contracts.errors import ErrorCode
from contracts.ids import order_workflow_id
from contracts.inventory import ReservationStatus
from contracts.orders import CancelRequest, OrderRun, OrderSoFar, OrderState, OrderStatus, Outcome, ParcelDecision, PlaceOrder
from contracts.parcels import ParcelChoice, Trouble
from contracts.shipments import ShipmentStatus, ShipmentUpdate
from temporal.names import ORDER_WORKFLOW
from testing.model import World
from testing.sagas import Saga, assert_settled, place_order
from tests.workflows.conftest import Begin
from workflows import order_steps as steps
from workflows.parcels import Parcel

S = OrderStatus
WISH = CancelRequest(reason="Its workflow was lost: deleted by mistake", requested_by="ann")
WAY = (S.PENDING, S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.UNDELIVERED)

PARCEL = Parcel(1, (), warehouse_id="410")


def half_done(
    world: World, order: PlaceOrder, told: S, *, reserved: bool = True, paid: bool = True, parcel: ShipmentStatus | None = None
) -> None:
    """What a lost workflow left behind, while the order's record was told that it is `told`."""
    world.orders.accept(order).history = [*WAY[: WAY.index(told) + 1]] if told in WAY else [S.PENDING, told]
    if told == S.UNDELIVERED:
        world.orders.records[order.order_id].trouble = Trouble.LOST
    if reserved:
        world.handle(steps.reserve_inventory(order).argument)
    if paid:
        world.handle(steps.process_payment(order, order.total, order.payment_token).argument)
    if parcel:
        world.handle(steps.create_shipment(order, PARCEL, 1).argument)
        world.shipping.parcels[order.order_id, 1].status = parcel


async def go_on(saga: Saga, so_far: OrderSoFar) -> None:
    run = OrderRun(**dict(saga.order), so_far=so_far)
    await saga.env.client.start_workflow(ORDER_WORKFLOW, run, id=order_workflow_id(saga.order.order_id), task_queue=saga.queue)


@pytest.mark.parametrize("told", [S.PENDING, S.RESERVED, S.PAID, S.CONFIRMED])
@pytest.mark.parametrize("parcel", [None, ShipmentStatus.BOOKED])
async def test_lost_workflow_is_cancelled_wherever_it_was(begin: Begin, told: S, parcel: ShipmentStatus | None) -> None:
    world, order = World(), place_order()
    half_done(world, order, told, parcel=parcel)
    async with begin(world, order) as saga:
        await go_on(saga, OrderSoFar(status=told, reached=len(world.orders.records[order.order_id].history), cancel=WISH))
        state = await saga.handle.result()
    assert (state.status, state.code) == (S.CANCELLED, ErrorCode.CANCELLED_BY_REQUEST)
    assert world.payments.payments[order.order_id, 1].refunded == order.total
    assert not {"ReserveInventory", "ProcessPayment", "CreateShipment", "CapturePayment"} & set(world.calls)
    assert_settled(world, order)


async def test_lost_workflow_that_was_being_cancelled_ends_for_the_reason_that_was_told(begin: Begin) -> None:
    world, order = World(), place_order()
    half_done(world, order, S.CANCELLING, paid=False)
    refused = Outcome(order_id=order.order_id, status=S.CANCELLING, code=ErrorCode.PAYMENT_DECLINED, detail="Declined.")
    so_far = OrderSoFar(
        status=S.CANCELLING, reached=2, outcome=refused, code=ErrorCode.PAYMENT_DECLINED, detail="Declined.", cancel=WISH
    )
    async with begin(world, order) as saga:
        await go_on(saga, so_far)
        state = await saga.handle.result()
    assert (state.status, state.code) == (S.CANCELLED, ErrorCode.PAYMENT_DECLINED)
    assert {advance.outcome for advance in world.orders.advances} == {refused}
    assert {advance.code for advance in world.orders.advances} == {ErrorCode.PAYMENT_DECLINED}
    assert_settled(world, order)


async def test_lost_workflow_whose_parcel_has_left_meanwhile_follows_it(begin: Begin) -> None:
    """The record knows of nothing yet; the workflow had paid and booked, and the parcel is gone."""
    world, order = World(), place_order()
    half_done(world, order, S.PENDING, parcel=ShipmentStatus.DISPATCHED)
    so_far = OrderSoFar(status=S.PENDING, reached=1, cancel=WISH)
    async with begin(world, order) as saga:
        await go_on(saga, so_far)
        await report(saga, ShipmentStatus.DISPATCHED)
        state = await saga.deliver()
    assert state.status == S.COMPLETED
    assert world.orders.records[order.order_id].history == [*WAY[:5], S.DELIVERED, S.COMPLETED]
    assert world.inventory.promises[order.order_id, 1].status == ReservationStatus.SHIPPED
    assert_settled(world, order)


@pytest.mark.parametrize("told", [S.CONFIRMED, S.SHIPPED])
async def test_lost_workflow_of_a_parcel_on_its_way_is_followed_to_the_end(begin: Begin, told: S) -> None:
    world, order = World(), place_order()
    half_done(world, order, told, parcel=ShipmentStatus.DISPATCHED)
    if told == S.SHIPPED:
        world.handle(steps.ship_inventory(order, PARCEL).argument)
    async with begin(world, order) as saga:
        await go_on(saga, OrderSoFar(status=told, reached=WAY.index(told) + 1, tracking_number="TRK1"))
        await report(saga, ShipmentStatus.DELIVERED)
        state = await saga.handle.result()
    assert state.status == S.COMPLETED
    assert_settled(world, order)


async def test_lost_workflow_of_a_lost_parcel_waits_for_the_decision_again(begin: Begin) -> None:
    world, order = World(), place_order()
    half_done(world, order, S.UNDELIVERED, parcel=ShipmentStatus.LOST)
    world.handle(steps.ship_inventory(order, PARCEL).argument)
    async with begin(world, order) as saga:
        await go_on(saga, OrderSoFar(status=S.UNDELIVERED, reached=len(WAY), trouble=Trouble.LOST))
        decision = ParcelDecision(choice=ParcelChoice.REFUND, by="ann", reason="the carrier pays")
        decided = await saga.handle.execute_update("decide_parcel", decision, result_type=OrderState)
        assert ParcelChoice.REFUND in decided.choices
        state = await saga.handle.result()
    assert state.status == S.REFUNDED
    assert world.payments.payments[order.order_id, 1].refunded == order.total


async def report(saga: Saga, status: ShipmentStatus) -> None:
    argument: Any = ShipmentUpdate(status=status)
    await saga.handle.signal("shipment_updated", argument)

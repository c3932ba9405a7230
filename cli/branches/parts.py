"""The branches of orders that are sent in several parcels, wait for goods, or are paid with another card."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

from temporalio.client import WorkflowUpdateFailedError

from cli.branches.one_parcel import DISPATCH_S, LOST, flooded
from cli.branches.stage import (
    ANN,
    Branch,
    Play,
    Stage,
    after,
    cancelled,
    delivered,
    reported,
    tells,
    then,
    then_cancelled,
    then_delivered,
    then_later,
    told,
)
from contracts.errors import ErrorCode
from contracts.inventory import StockUpdate, WhenShort
from contracts.orders import Delivery, OrderRun, OrderSoFar, OrderStatus, Outcome
from contracts.parcels import ParcelStatus
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.inventory import Announced
from testing.model.world import WAREHOUSE, refused, unavailable
from workflows import order_steps
from workflows.parcels import Parcel


def two_warehouses() -> World:
    """One has the milk, the other the cheese."""
    world = World()
    world.inventory.shelves.clear()
    world.inventory.receive("1", milk=10)
    world.inventory.receive("2", cheese=10)
    return world


def without_cheese() -> World:
    """Cheese is out of stock."""
    world = World()
    world.inventory.shelves.clear()
    world.inventory.receive("1", milk=10)
    return world


def announced_for_two_days() -> World:
    """Nothing is in stock; milk is announced for one day, cheese for a later one."""
    world = World()
    world.inventory.shelves.clear()
    world.inventory.receive("1")
    days = {"milk": date(2027, 1, 4), "cheese": date(2027, 1, 11)}
    world.inventory.announced = [Announced("1", product, 10, on) for product, on in days.items()]
    return world


async def milk_arrives(stage: Stage) -> None:
    stage.world.inventory.receive("1", milk=10)
    await signalled_stock(parcel=1, status="RESERVED", warehouse_id="1")(stage)


def parcels(*statuses: ParcelStatus) -> Play:
    async def play(stage: Stage) -> None:
        await stage.parcels_are(*statuses)

    return play


def parcel_decided(choice: str, parcel: int) -> Play:
    return told("decide_parcel", ANN | {"choice": choice, "parcel": parcel})


def signalled_stock(**update: Any) -> Play:
    """What inventory tells of the second parcel."""

    async def play(stage: Stage) -> None:
        await stage.saga.handle.signal("stock_updated", StockUpdate.model_validate({"parcel": 2} | update))

    return play


async def cheese_arrives(stage: Stage) -> None:
    stage.world.inventory.receive("1", cheese=10)
    await signalled_stock(status="RESERVED", warehouse_id="1")(stage)


def answered(choice: str) -> Play:
    return told("answer_shortage", {"choice": choice})


def arriving(*numbers: int) -> Play:
    async def play(stage: Stage) -> None:
        for number in numbers:
            await stage.saga.report("DISPATCHED", "DELIVERED", parcel=number)

    return play


def next_booking(*faults: Callable[[], None]) -> Play:
    async def play(stage: Stage) -> None:
        stage.world.before["CreateShipment"] = [*faults]

    return play


def parcel_left(number: int) -> Play:
    """The carrier takes it; the saga does not hear of it yet."""

    async def play(stage: Stage) -> None:
        stage.world.shipping.move(stage.saga.order.order_id, number, ShipmentStatus.DISPATCHED)

    return play


async def split_refused(stage: Stage) -> None:
    stage.world.before["SplitReservation"] = [refused(ErrorCode.CONFLICT)]
    await _asked_to_split(stage)


async def split_overtaken(stage: Stage) -> None:
    """The parcel leaves between the wish and the moment in which the saga gets to it."""
    stage.world.before["ShipInventory"] = [unavailable] * 5
    await stage.saga.report("DISPATCHED")
    await stage.calls("ShipInventory", 3)
    await _asked_to_split(stage)


async def answer_overtaken(stage: Stage) -> None:
    """The goods arrive, and the customer answers, while the saga is at work on something else."""
    stage.world.before["ShipInventory"] = [unavailable] * 5
    await stage.saga.report("DISPATCHED")
    await stage.calls("ShipInventory", 3)
    await cheese_arrives(stage)
    await answered("drop")(stage)
    await stage.parcels_are(ParcelStatus.SHIPPED, ParcelStatus.BOOKED)


async def _asked_to_split(stage: Stage) -> None:
    with suppress(WorkflowUpdateFailedError):
        await stage.saga.update("split_parcel", ANN | {"parcel": 1, "lines": [{"line_id": 1, "quantity": 1}]})


async def second_is_too_heavy(stage: Stage) -> None:
    refuse = refused(ErrorCode.PARCEL_TOO_HEAVY)
    stage.world.before["CreateShipment"] = [lambda: None, refuse]
    await stage.saga.place()


async def gone_in_a_lost_task(stage: Stage) -> None:
    """Of an order in parts: a task that was lost had gone as far as the first parcel, which left before the customer cancels."""
    order = stage.saga.order
    stage.world.before["ReserveInventory"] = [unavailable] * 100_000
    await stage.saga.start()
    await stage.calls("ReserveInventory", 3)
    for step in (
        order_steps.reserve_inventory(order),
        order_steps.process_payment(order, order.total, order.payment_token),
        order_steps.create_shipment(order, Parcel(1, (), warehouse_id="1"), 1),
    ):
        stage.world.handle(step.argument)
    stage.leaves()
    cancelling = asyncio.create_task(stage.cancel())
    await stage.calls("CancelShipment")
    stage.world.before["ReserveInventory"].clear()
    await cancelling
    await arriving(1)(stage)


async def planned_in_a_lost_task(stage: Stage) -> None:
    """Of an order in parts: a task that was lost had reserved its goods, and the customer cancels."""
    stage.world.before["ReserveInventory"] = [unavailable] * 100_000
    await stage.saga.start()
    await stage.calls("ReserveInventory", 3)
    stage.world.handle(order_steps.reserve_inventory(stage.saga.order).argument)
    await stage.cancel()


async def returned_while_refunded(stage: Stage) -> None:
    """A lost parcel comes back while its price is given back."""
    stage.world.before["RefundPayment"] = [unavailable] * 5
    await stage.decide("refund")
    await stage.calls("RefundPayment", 2)
    await stage.saga.report("RETURNED")


def paid_again(*cards: str, before: Sequence[Callable[[], None]] = ()) -> Play:
    """The first card is declined, and others are tried."""

    async def play(stage: Stage) -> None:
        stage.world.before["ProcessPayment"] = [refused(ErrorCode.PAYMENT_DECLINED), *before]
        await stage.saga.place()
        for card in cards:
            await stage.saga.handle.execute_update("pay", {"payment_token": card})

    return play


def then_approved(play: Play) -> Play:
    async def played(stage: Stage) -> None:
        await play(stage)
        await told("approve")(stage)
        await stage.reaches(OrderStatus.CONFIRMED)
        await delivered(stage)

    return played


def repaired_due(stage: Stage) -> OrderSoFar:
    """Its workflow was lost while another card was waited for."""
    until = datetime(2100, 1, 1, tzinfo=UTC) - timedelta(days=1)
    due = Outcome(
        order_id=stage.saga.order.order_id,
        status=OrderStatus.PAYMENT_DUE,
        code=ErrorCode.PAYMENT_DECLINED,
        detail="The bank declined the payment.",
        pay_until=until,
    )
    return OrderSoFar(status=OrderStatus.PAYMENT_DUE, reached=3, declined=due, warehouse_id=WAREHOUSE)


async def repaired_and_paid(stage: Stage) -> None:
    order = stage.saga.order
    stage.world.handle(order_steps.reserve_inventory(order).argument)
    stage.world.orders.accept(order).history += [OrderStatus.RESERVED, OrderStatus.PAYMENT_DUE]
    await stage.saga.start(OrderRun(**dict(order), so_far=repaired_due(stage)))
    await stage.saga.handle.execute_update("pay", {"payment_token": "tok_other"})
    await delivered(stage)


DECLINED = refused(ErrorCode.PAYMENT_DECLINED)
PATIENT: dict[str, Any] = {"pay_again_seconds": 900}
IN_PARTS: dict[str, Any] = {"may_split": True, "priced": True}
WAITING: dict[str, Any] = {**IN_PARTS, "when_short": WhenShort.WAIT}
ASKED: dict[str, Any] = {**IN_PARTS, "when_short": WhenShort.ASK}
P = ParcelStatus

IN_SEVERAL: dict[str, Branch] = {
    "repaired_payment_due": Branch(repaired_and_paid, options=PATIENT),
    # another card
    "paid_again": Branch(then_delivered(paid_again("tok_other")), options=PATIENT),
    "paid_again_declined": Branch(then_delivered(paid_again("tok_other", "tok_third", before=[DECLINED])), options=PATIENT),
    "paid_again_held": Branch(then_approved(paid_again("tok_other")), options={**PATIENT, "needs_review": True}),
    "payment_due": Branch(paid_again(), options=PATIENT, is_open=True),
    "payment_due_expired": Branch(then_later(paid_again(), 960), options=PATIENT),
    "payment_due_cancelled": Branch(then_cancelled(paid_again()), options=PATIENT),
    # parcels
    "parcels_delivered": Branch(then(arriving(2, 1)), options=IN_PARTS, world=two_warehouses),
    "parcels_delivered_in_turn": Branch(
        then(reported("DISPATCHED", parcel=1), reported("DISPATCHED", "DELIVERED", "DELIVERED", parcel=2), reported("DELIVERED")),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "parcels_one_lost": Branch(
        then(
            reported("DISPATCHED", parcel=1),
            reported("DISPATCHED", "LOST", parcel=2),
            parcels(P.SHIPPED, P.UNDELIVERED),
            parcel_decided("refund", 2),
            parcels(P.SHIPPED, P.REFUNDED),
            reported("RETURNED", parcel=2),
            reported("DELIVERED", parcel=1),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "parcels_one_delivered_one_lost": Branch(
        then(
            arriving(1),
            reported("DISPATCHED", "LOST", parcel=2),
            parcels(P.DELIVERED, P.UNDELIVERED),
            parcel_decided("refund", 2),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "parcels_all_lost": Branch(
        then(
            reported("DISPATCHED", "LOST", parcel=1),
            reported("DISPATCHED", "LOST", parcel=2),
            parcels(P.UNDELIVERED, P.UNDELIVERED),
            parcel_decided("refund", 1),
            parcels(P.REFUNDED, P.UNDELIVERED),
            parcel_decided("refund", 2),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "parcels_one_resent": Branch(
        then(
            reported("DISPATCHED", "RETURNED", parcel=2),
            parcels(P.BOOKED, P.UNDELIVERED),
            parcel_decided("resend", 2),
            parcels(P.BOOKED, P.RESENT, P.BOOKED),
            arriving(1, 3),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "parcels_one_not_picked_up": Branch(
        then(
            reported("DISPATCHED", parcel=1),
            after(DISPATCH_S),
            parcels(P.SHIPPED, P.UNDELIVERED),
            parcel_decided("refund", 2),
            parcels(P.SHIPPED, P.CANCELLED),
            reported("DELIVERED", parcel=1),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "parcels_one_not_picked_up_waited": Branch(
        then(
            reported("DISPATCHED", parcel=1),
            after(DISPATCH_S),
            parcels(P.SHIPPED, P.UNDELIVERED),
            parcel_decided("wait", 2),
            parcels(P.SHIPPED, P.BOOKED),
            reported("DELIVERED", parcel=1),
            arriving(2),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "parcels_one_left_while_called_off": Branch(
        then(
            after(DISPATCH_S),
            parcels(P.UNDELIVERED, P.UNDELIVERED),
            parcel_left(2),
            parcel_decided("refund", 2),
            tells("Cannot be cancelled"),
            arriving(1, 2),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "parcels_cancelled": Branch(then(cancelled), options=IN_PARTS, world=two_warehouses),
    "parcels_partly_cancelled": Branch(
        then(parcel_left(1), cancelled, arriving(1)), options={"may_split": True}, world=two_warehouses
    ),
    "parcels_second_too_heavy": Branch(second_is_too_heavy, options=IN_PARTS, world=two_warehouses),
    "parcels_planned_in_a_lost_task": Branch(planned_in_a_lost_task, options=IN_PARTS, world=two_warehouses),
    "lost_returned_while_refunded": Branch(then(LOST, returned_while_refunded)),
    "parcels_gone_in_a_lost_task": Branch(gone_in_a_lost_task, options=IN_PARTS, world=two_warehouses),
    "split": Branch(
        then(told("split_parcel", ANN | {"parcel": 1, "lines": [{"line_id": 1, "quantity": 1}]}), arriving(1, 2)),
    ),
    "split_refused": Branch(then(split_refused, delivered)),
    "split_overtaken": Branch(then(split_overtaken, delivered)),
    # out of stock
    "short_dropped": Branch(then(delivered), options=IN_PARTS | {"when_short": WhenShort.DROP}, world=without_cheese),
    "short_waited": Branch(
        then(
            signalled_stock(status="AWAITED", expected_on="2027-01-04"),
            signalled_stock(status="AWAITED"),
            signalled_stock(parcel=3, status="AWAITED"),
            cheese_arrives,
            parcels(P.BOOKED, P.BOOKED),
            arriving(1, 2),
        ),
        options=WAITING,
        world=without_cheese,
    ),
    "short_day_by_day": Branch(
        then(
            parcels(P.AWAITED, P.AWAITED),
            milk_arrives,
            parcels(P.BOOKED, P.AWAITED),
            arriving(1),
            cheese_arrives,
            parcels(P.DELIVERED, P.BOOKED),
            arriving(2),
        ),
        options=WAITING | {"day_by_day": True},
        world=announced_for_two_days,
    ),
    "short_all_together": Branch(
        then(cheese_arrives, parcels(P.BOOKED, P.BOOKED), arriving(1, 2)),
        options=WAITING | {"delivery": Delivery.ALL_TOGETHER},
        world=without_cheese,
    ),
    "short_then_refused": Branch(
        then(next_booking(refused(ErrorCode.PARCEL_TOO_HEAVY)), cheese_arrives, parcels(P.BOOKED, P.CANCELLED), delivered),
        options=WAITING,
        world=without_cheese,
    ),
    "short_asked_wait": Branch(
        then(answered("wait"), cheese_arrives, parcels(P.BOOKED, P.BOOKED), arriving(1, 2)), options=ASKED, world=without_cheese
    ),
    "short_asked_drop": Branch(
        then(answered("drop"), parcels(P.BOOKED, P.CANCELLED), delivered), options=ASKED, world=without_cheese
    ),
    "short_asked_refuse": Branch(then(answered("refuse")), options=ASKED, world=without_cheese),
    "short_answer_overtaken": Branch(then(answer_overtaken, arriving(1, 2)), options=ASKED, world=without_cheese),
    "short_not_answered": Branch(
        then(after(86_400), parcels(P.BOOKED, P.CANCELLED), delivered), options=ASKED, world=without_cheese
    ),
    "short_delivered_then_dropped": Branch(
        then(arriving(1), parcels(P.DELIVERED, P.AWAITED), answered("drop")), options=ASKED, world=without_cheese
    ),
    "long_in_parts": Branch(
        then(flooded, parcels(P.BOOKED, P.AWAITED), cheese_arrives, parcels(P.BOOKED, P.BOOKED), arriving(1, 2)),
        options=WAITING,
        world=without_cheese,
        is_long=True,
    ),
}

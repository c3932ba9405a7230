"""The branches of orders of which some units are cancelled."""

import asyncio
from contextlib import suppress
from typing import Any

from temporalio.client import WorkflowUpdateFailedError

from cli.branches.one_parcel import DISPATCH_S, flooded
from cli.branches.parts import (
    IN_PARTS,
    WAITING,
    P,
    arriving,
    cheese_arrives,
    parcel_left,
    parcels,
    two_warehouses,
    without_cheese,
)
from cli.branches.stage import Branch, Play, Stage, after, cancelled, reported, reviewed, tells, then, told
from contracts.orders import Delivery, OrderRun, OrderSoFar, OrderStatus
from testing.model import World
from testing.model.world import WAREHOUSE, unavailable
from workflows import order_steps
from workflows.parcels import Parcel

TOGETHER: dict[str, Any] = {**WAITING, "delivery": Delivery.ALL_TOGETHER}


def one_milk() -> World:
    """The other one is out of stock, and so is the cheese."""
    world = World()
    world.inventory.shelves.clear()
    world.inventory.receive("1", milk=1)
    return world


def wish(*lines: tuple[int, int], **more: Any) -> dict[str, Any]:
    units = [{"line_id": line_id, "quantity": quantity} for line_id, quantity in lines]
    return {"reason": "too many", "requested_by": "customer", "lines": units, **more}


def less(*lines: tuple[int, int], **more: Any) -> Play:
    """By an update, whatever it is answered."""

    async def play(stage: Stage) -> None:
        with suppress(WorkflowUpdateFailedError):
            await stage.saga.handle.execute_update("cancel", wish(*lines, **more))

    return play


def less_by_signal(*lines: tuple[int, int], **more: Any) -> Play:
    async def play(stage: Stage) -> None:
        await stage.saga.handle.signal("cancel", wish(*lines, **more))

    return play


async def wishes_at_once(stage: Stage) -> None:
    """While the saga is at work on something else: what the first leaves does not suffice for the second."""
    stage.world.before["ShipInventory"] = [unavailable] * 5
    await stage.saga.report("DISPATCHED", parcel=2)
    await stage.calls("ShipInventory", 3)
    first, second = (asyncio.ensure_future(less((1, units), key=f"{units} of them")(stage)) for units in (1, 2))
    await stage.tells("Somebody wants to cancel some of it")
    await asyncio.gather(first, second)


async def overtaken(stage: Stage) -> None:
    """They leave between the wish and the moment in which the saga gets to it."""
    stage.world.before["ShipInventory"] = [unavailable] * 5
    await stage.saga.report("DISPATCHED", "DELIVERED")
    await stage.calls("ShipInventory", 3)
    await less((1, 1))(stage)


async def overtaken_in_parts(stage: Stage) -> None:
    """The same of one parcel, while the other one has not left."""
    stage.world.before["ShipInventory"] = [unavailable] * 5
    await stage.saga.report("DISPATCHED", parcel=2)
    await stage.calls("ShipInventory", 3)
    await less((2, 1))(stage)


async def fallen_with_the_order(stage: Stage) -> None:
    """All of it is being cancelled when somebody wants to cancel some."""
    stage.world.before["CancelShipment"] = [unavailable] * 5
    cancelling = asyncio.create_task(stage.cancel())
    await stage.calls("CancelShipment", 2)
    await less((1, 1))(stage)
    await cancelling


async def wished_in_review(stage: Stage) -> None:
    wishing = asyncio.ensure_future(less((1, 1))(stage))
    await stage.tells("Somebody wants to cancel some of it")
    await told("approve")(stage)
    await wishing


async def repaired_with_a_wish(stage: Stage) -> None:
    """Its workflow was lost, and somebody wants to cancel some of it."""
    order = stage.saga.order
    for step in (
        order_steps.reserve_inventory(order),
        order_steps.process_payment(order, order.total, order.payment_token),
        order_steps.create_shipment(order, Parcel(1, (), warehouse_id=WAREHOUSE), 1),
    ):
        stage.world.handle(step.argument)
    stage.world.orders.accept(order).history += [OrderStatus.RESERVED, OrderStatus.PAID, OrderStatus.CONFIRMED]
    so_far = OrderSoFar.model_validate(
        {"status": OrderStatus.CONFIRMED, "reached": 4, "warehouse_id": WAREHOUSE, "cancel": wish((1, 1), key="kept")}
    )
    await stage.saga.start(OrderRun(**dict(order), so_far=so_far))
    await stage.parcels_are(P.CANCELLED, P.BOOKED)
    await arriving(2)(stage)


SOME_UNITS: dict[str, Branch] = {
    "units_booked": Branch(then(less((1, 1)), parcels(P.CANCELLED, P.BOOKED), arriving(2)), options={"priced": True}),
    "units_twice": Branch(
        then(
            less((1, 1), key="once"),
            less((1, 1), key="once"),
            less_by_signal((1, 1), key="once"),
            less((1, 1), key="another"),
            parcels(P.CANCELLED, P.CANCELLED, P.BOOKED),
            arriving(3),
        )
    ),
    "units_all": Branch(then(less((1, 2), (2, 1)))),
    "units_fall_with_the_order": Branch(then(fallen_with_the_order)),
    "units_awaited": Branch(
        then(
            less((1, 1)),
            parcels(P.BOOKED, P.AWAITED, P.CANCELLED),
            cheese_arrives,
            parcels(P.BOOKED, P.BOOKED, P.CANCELLED),
            arriving(1, 2),
        ),
        options=WAITING,
        world=one_milk,
    ),
    "units_awaited_all": Branch(
        then(less((1, 1), (2, 1)), parcels(P.BOOKED, P.CANCELLED), arriving(1)), options=WAITING, world=one_milk
    ),
    "units_reserved": Branch(
        then(
            less((1, 1)),
            parcels(P.RESERVED, P.AWAITED, P.CANCELLED),
            cheese_arrives,
            parcels(P.BOOKED, P.BOOKED, P.CANCELLED),
            arriving(1, 2),
        ),
        options=TOGETHER,
        world=without_cheese,
    ),
    "units_awaited_then_sent": Branch(
        then(less((2, 1)), parcels(P.BOOKED, P.CANCELLED), arriving(1)), options=TOGETHER, world=without_cheese
    ),
    "units_in_two_parcels": Branch(
        then(less((1, 1), (2, 1)), parcels(P.CANCELLED, P.CANCELLED, P.BOOKED), arriving(3)),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "units_delivered_then_cancelled": Branch(
        then(arriving(1), parcels(P.DELIVERED, P.BOOKED), less((2, 1))), options=IN_PARTS, world=two_warehouses
    ),
    "units_left": Branch(then(parcel_left(1), less((1, 1)), arriving(1))),
    "units_partly_left": Branch(
        then(parcel_left(2), less((1, 1), (2, 1)), parcels(P.CANCELLED, P.BOOKED, P.BOOKED), arriving(2, 3)),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "units_overtaken": Branch(then(overtaken)),
    "units_overtaken_in_parts": Branch(
        then(
            overtaken_in_parts,
            parcels(P.BOOKED, P.SHIPPED),
            reported("DELIVERED", parcel=2),
            arriving(1),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "units_at_once": Branch(
        then(wishes_at_once, parcels(P.CANCELLED, P.SHIPPED, P.BOOKED), reported("DELIVERED", parcel=2), arriving(3)),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "units_not_picked_up": Branch(then(after(DISPATCH_S), less((1, 1)), parcels(P.CANCELLED, P.BOOKED), arriving(2))),
    "units_by_signal": Branch(
        then(
            less_by_signal((1, 3)),
            tells("was not taken"),
            less_by_signal((1, 1)),
            parcels(P.CANCELLED, P.BOOKED),
            arriving(2),
        )
    ),
    "units_in_review": Branch(
        reviewed(wished_in_review, parcels(P.CANCELLED, P.BOOKED), arriving(2)), options={"needs_review": True}
    ),
    "units_then_all": Branch(then(less((1, 1)), cancelled)),
    "units_after_a_repair": Branch(repaired_with_a_wish),
    "long_units": Branch(
        then(
            less((1, 1), key="once"),
            flooded,
            less((1, 1), key="once"),
            parcels(P.CANCELLED, P.BOOKED),
            arriving(2),
        ),
        is_long=True,
    ),
}

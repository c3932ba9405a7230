"""Some units of an order are cancelled: of parcels in every state, in a race with the carrier, and whatever else is asked."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from contracts.errors import ErrorCode
from contracts.inventory import ReservationStatus, WhenShort
from contracts.orders import Delivery, OrderRun, OrderSoFar, OrderStatus
from contracts.parcels import ParcelStatus
from contracts.shipments import ShipmentStatus
from temporal.refusals import as_refusal
from testing.model import World
from testing.model.world import refused, unavailable
from testing.sagas import Saga, assert_settled, place_order
from tests.conftest import eventually
from tests.workflows.conftest import Begin
from tests.workflows.test_order import status_is
from tests.workflows.test_parts import (
    ANN,
    CHEESE,
    MILK,
    arrives,
    net,
    order_in_parts,
    parcels_are,
    refusal_of,
    statuses,
    two_warehouses,
    without_cheese,
)

S = ParcelStatus
RELEASED, SHIPPED = ReservationStatus.RELEASED, ReservationStatus.SHIPPED
ONE_MILK = MILK // 2


def wish(*lines: tuple[int, int], **more: Any) -> dict[str, Any]:
    units = [{"line_id": line_id, "quantity": quantity} for line_id, quantity in lines]
    return {"reason": "too many", "requested_by": "customer", "lines": units, **more}


async def cancel(saga: Saga, *lines: tuple[int, int], id: str | None = None, **more: Any) -> dict[str, Any]:
    reply: dict[str, Any] = await saga.handle.execute_update("cancel", wish(*lines, **more), id=id)
    return reply


async def why_not(saga: Saga, *lines: tuple[int, int]) -> tuple[str | None, Any]:
    """The code of a refusal, and what it says can be cancelled."""
    with pytest.raises(WorkflowUpdateFailedError) as refusal:
        await cancel(saga, *lines)
    cause = refusal.value.cause
    assert isinstance(cause, ApplicationError)
    refusal_told = as_refusal(cause)
    assert refusal_told is not None
    told = refusal_told.extra.get("cancellable", [])
    return cause.type, {each["line_id"]: each["quantity"] for each in told}


def held(world: World, saga: Saga) -> dict[int, tuple[str, dict[str, int]]]:
    """What inventory knows of each parcel."""
    return {
        number: (promise.status, {line.product_id: line.quantity for line in promise.lines})
        for (order_id, number), promise in sorted(world.inventory.promises.items(), key=lambda item: item[0][1])
        if order_id == saga.order.order_id
    }


async def units(saga: Saga) -> list[list[tuple[int, int, int]]]:
    """Of each parcel: line, first unit, how many."""
    return [[(line.line_id, line.first, line.quantity) for line in parcel.lines] for parcel in (await saga.state()).parcels]


# ── Parcels in every state ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_left_of_a_booked_parcel_is_booked_anew(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await cancel(saga, (1, 1))
            assert (reply["status"], reply["refunded"]["amount"]) == (OrderStatus.CONFIRMED, "2.70")
            assert reply["detail"] == "Cancelled: 1 of Milk."
            assert await statuses(saga) == [S.CANCELLED, S.BOOKED]
            assert await units(saga) == [[(1, 1, 1)], [(1, 0, 1), (2, 0, 1)]]
            assert world.parcels_of(order.order_id) == {1: ShipmentStatus.CANCELLED, 2: ShipmentStatus.BOOKED}
            assert held(world, saga) == {1: (RELEASED, {"milk": 1}), 2: ("RESERVED", {"milk": 1, "cheese": 1})}
            assert net(world, order) == ONE_MILK + CHEESE
            record = world.orders.records[order.order_id]
            assert record.refunded is not None
            assert (record.refunded.minor, [each.status for each in record.parcels]) == (ONE_MILK, [S.CANCELLED, S.BOOKED])
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == ONE_MILK + CHEESE
    assert held(world, saga)[2][0] == SHIPPED


async def test_what_is_awaited_goes_first_then_what_is_not_booked_then_what_is(begin: Begin) -> None:
    """A milk is booked at one warehouse, the other is awaited, and so is the cheese."""
    world = World()
    world.inventory.shelves.clear()
    world.inventory.receive("1", milk=1)
    order = order_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            assert await units(saga) == [[(1, 0, 1)], [(1, 1, 1), (2, 0, 1)]]
            reply = await cancel(saga, (1, 1))
            assert reply["refunded"]["amount"] == "2.70"
            assert await statuses(saga) == [S.BOOKED, S.AWAITED, S.CANCELLED]
            assert await units(saga) == [[(1, 0, 1)], [(2, 0, 1)], [(1, 1, 1)]]
            assert held(world, saga)[3] == (RELEASED, {"milk": 1})
            assert "CancelShipment" not in world.calls
            await arrives(saga, world)
            await parcels_are(saga, S.BOOKED, S.BOOKED, S.CANCELLED)
            assert (await cancel(saga, (1, 1)))["refunded"]["amount"] == "2.70"
            await parcels_are(saga, S.CANCELLED, S.BOOKED, S.CANCELLED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == CHEESE


@pytest.mark.parametrize("how", ["all that is awaited", "some of what is reserved"])
async def test_of_an_order_that_is_sent_all_together(begin: Begin, how: str) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.WAIT, delivery=Delivery.ALL_TOGETHER)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            assert await statuses(saga) == [S.RESERVED, S.AWAITED]
            if how == "all that is awaited":
                await cancel(saga, (2, 1))
                await parcels_are(saga, S.BOOKED, S.CANCELLED)
                await saga.report("DISPATCHED", "DELIVERED")
                paid = MILK
            else:
                await cancel(saga, (1, 1))
                await parcels_are(saga, S.RESERVED, S.AWAITED, S.CANCELLED)
                assert "CancelShipment" not in world.calls
                await arrives(saga, world)
                await parcels_are(saga, S.BOOKED, S.BOOKED, S.CANCELLED)
                await saga.report("DISPATCHED", "DELIVERED", parcel=1)
                await saga.report("DISPATCHED", "DELIVERED", parcel=2)
                paid = ONE_MILK + CHEESE
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == paid


async def test_the_rest_of_a_parcel_that_nobody_picked_up_is_booked_anew(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
        await saga.env.fast_forward(saga.handle, order.dispatch_seconds + 60)
        with saga.env.with_time_skipping_disabled():
            await status_is(saga, OrderStatus.UNDELIVERED)
            assert (await cancel(saga, (1, 2)))["refunded"]["amount"] == "5.40"
            await parcels_are(saga, S.CANCELLED, S.BOOKED)
            assert (await saga.state()).trouble is None
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == CHEESE


async def test_units_of_several_lines_and_parcels_at_once(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await cancel(saga, (1, 1), (2, 1))
            assert (reply["refunded"]["amount"], reply["detail"]) == ("20.70", "Cancelled: 1 of Milk, 1 of Cheese.")
            assert await statuses(saga) == [S.CANCELLED, S.CANCELLED, S.BOOKED]
            await saga.report("DISPATCHED", "DELIVERED", parcel=3)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == ONE_MILK


async def test_to_cancel_every_unit_is_to_cancel_the_order(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await cancel(saga, (1, 2), (2, 1))
            assert (reply["status"], reply["refunded"]["amount"]) == (OrderStatus.CANCELLED, "23.40")
            assert (await saga.handle.result()).code == ErrorCode.CANCELLED_BY_REQUEST
    assert_settled(world, order)
    assert "SplitReservation" not in world.calls


async def test_when_all_that_has_not_arrived_is_cancelled_the_order_is_over(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await parcels_are(saga, S.DELIVERED, S.BOOKED)
            reply = await cancel(saga, (2, 1))
            assert (reply["status"], reply["refunded"]["amount"]) == (OrderStatus.COMPLETED, "18.00")
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == MILK


async def test_shares_of_units_add_up_to_the_cent(begin: Begin) -> None:
    world, order = World(), place_order(priced=True)
    order = order.model_copy(update={"total": order.total})
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            line = order.lines[0]
            await cancel(saga, (1, 1))
            assert order.total.minor - net(world, order) == line.share_of(1, 1).total
            await cancel(saga, (1, 1))
            assert order.total.minor - net(world, order) == line.share_of(0, 2).total
            await saga.report("DISPATCHED", "DELIVERED", parcel=3)
            await saga.handle.result()


# ── What cannot be cancelled ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_more_is_cancelled_than_there_is(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            assert await why_not(saga, (1, 3)) == (ErrorCode.CONFLICT, {1: 2, 2: 1})
            assert await why_not(saga, (3, 1)) == (ErrorCode.CONFLICT, {1: 2, 2: 1})
            assert await why_not(saga, (2, 1), (2, 1)) == (ErrorCode.CONFLICT, {1: 2, 2: 1})
            await saga.report("DISPATCHED", parcel=2)
            await parcels_are(saga, S.BOOKED, S.SHIPPED)
            assert await why_not(saga, (2, 1)) == (ErrorCode.ALREADY_DISPATCHED, {1: 2})
            await cancel(saga, (1, 1))
            assert await why_not(saga, (1, 2)) == (ErrorCode.CONFLICT, {1: 1})
            await saga.report("DISPATCHED", "DELIVERED", parcel=3)
            await saga.report("DELIVERED", parcel=2)
            await saga.handle.result()
    assert net(world, order) == ONE_MILK + CHEESE


async def test_an_order_has_no_more_than_twenty_parcels(begin: Begin) -> None:
    world, order = World(), place_order()
    milk, cheese = order.lines
    lines = (milk.model_copy(update={"quantity": 40}), cheese)
    order = order.model_copy(update={"lines": lines, "total": milk.unit_price * 40 + cheese.unit_price})
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            for _ in range(19):
                await cancel(saga, (1, 1))
            assert await why_not(saga, (1, 1)) == (ErrorCode.CONFLICT, {})
            assert net(world, order) == (milk.unit_price * 21 + cheese.unit_price).minor
            await saga.report("DISPATCHED", "DELIVERED", parcel=20)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == (milk.unit_price * 21 + cheese.unit_price).minor


# ── Races with the carrier ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_parcel_that_has_left_keeps_all_its_units(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.shipping.move(order.order_id, 1, ShipmentStatus.DISPATCHED)  # the saga has not heard of it yet
            assert await refusal_of(saga, "cancel", wish((1, 1))) == ErrorCode.ALREADY_DISPATCHED
            assert "SplitReservation" not in world.calls
        await saga.deliver()
    assert_settled(world, order)


async def test_who_is_too_late_for_one_parcel_is_told_what_of_the_other_was_cancelled(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.shipping.move(order.order_id, 2, ShipmentStatus.DISPATCHED)
            reply = await cancel(saga, (1, 1), (2, 1))
            assert reply["refunded"]["amount"] == "2.70"
            assert reply["detail"] == "Cancelled: 1 of Milk. Not cancelled: 1 of Cheese; parcel 2 has left."
            await parcels_are(saga, S.CANCELLED, S.BOOKED, S.BOOKED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.report("DISPATCHED", "DELIVERED", parcel=3)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == ONE_MILK + CHEESE


async def test_the_new_parcel_may_leave_before_the_saga_knows_that_it_is_booked(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()

            def it_leaves_at_once() -> None:
                world.shipping.move(order.order_id, 2, ShipmentStatus.DISPATCHED)
                unavailable()

            world.after["CreateShipment"] = [it_leaves_at_once]
            await cancel(saga, (1, 1))
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == ONE_MILK + CHEESE


@pytest.mark.parametrize("how", ["not done", "done without an answer", "refused by mistake"])
@pytest.mark.parametrize(
    "command", ["CancelShipment", "SplitReservation", "ReleaseInventory", "RefundPayment", "CreateShipment", "AdvanceOrder"]
)
async def test_what_follows_the_carriers_answer_succeeds_whatever_is_in_its_way(begin: Begin, command: str, how: str) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            if how == "done without an answer":
                world.after[command] = [unavailable] * 4
            else:
                world.before[command] = [unavailable] * 4 if how == "not done" else [refused(ErrorCode.VALIDATION_FAILED)]
            cancelling = asyncio.create_task(cancel(saga, (1, 1), key="once"))
            if how == "refused by mistake":
                await eventually(lambda: _has_met(world, command))
        if how == "refused by mistake":
            await saga.env.fast_forward(saga.handle, 301)
        with saga.env.with_time_skipping_disabled():
            await cancelling
            assert await statuses(saga) == [S.CANCELLED, S.BOOKED]
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == ONE_MILK + CHEESE
    assert held(world, saga) == {1: (RELEASED, {"milk": 1}), 2: (SHIPPED, {"milk": 1, "cheese": 1})}


async def _has_met(world: World, command: str) -> bool:
    """Whether what is in the way of a command has been."""
    return not world.before[command]


async def test_what_is_left_waits_for_a_carrier_that_is_away_for_long(begin: Begin) -> None:
    """After an hour of faults an order that is being placed would be undone; what is left of this one is wanted."""
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["CreateShipment"] = [unavailable] * 100  # for more than an hour and a half
            cancelling = asyncio.create_task(cancel(saga, (1, 1)))

            async def asked() -> bool:
                return world.calls.count("CreateShipment") > 2

            await eventually(asked)
        await saga.env.fast_forward(saga.handle, 2 * 3600)
        with saga.env.with_time_skipping_disabled():
            await cancelling
            assert await statuses(saga) == [S.CANCELLED, S.BOOKED]
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == ONE_MILK + CHEESE


async def test_what_is_left_and_cannot_be_sent_is_called_off_too(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["CreateShipment"] = [refused(ErrorCode.ADDRESS_UNDELIVERABLE)]
            reply = await cancel(saga, (1, 1))
            assert (reply["status"], reply["refunded"]["amount"]) == (OrderStatus.CANCELLED, "2.70")
            assert (await saga.handle.result()).status == OrderStatus.CANCELLED
    assert_settled(world, order)


# ── Several wishes ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_wishes_at_once_are_both_carried_out_or_refused(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["CancelShipment"] = [unavailable] * 4
            answers = await asyncio.gather(
                *[cancel(saga, (1, quantity)) for quantity in (1, 1, 1)], cancel(saga, (2, 1)), return_exceptions=True
            )
            refused = [answer for answer in answers if isinstance(answer, WorkflowUpdateFailedError)]
            await eventually(lambda: _is_settled(saga))
            assert net(world, order) in (CHEESE, 0)
            # Of four wishes, one is for a third milk. If all that was left is cancelled before its turn, it is told that.
            assert len(refused) == 1 or (not refused and net(world, order) == 0)


async def _is_settled(saga: Saga) -> bool:
    return (await saga.state()).waiting_for in ("the warehouse to dispatch", "nothing")


async def test_a_wish_that_is_repeated_is_carried_out_once(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            first = await cancel(saga, (1, 1), id="cancel-1", key="cancel-1")
            for again in ("cancel-1", "another"):
                assert await cancel(saga, (1, 1), id=again, key="cancel-1") == first
            await saga.handle.signal("cancel", wish((1, 1), key="cancel-1"))
            assert net(world, order) == ONE_MILK + CHEESE
            await cancel(saga, (1, 1), id="cancel-2")
            assert net(world, order) == CHEESE
            await cancel(saga, (1, 1), id="cancel-2", key="cancel-3")  # Temporal itself knows the update's id
            await saga.report("DISPATCHED", parcel=3)
            await status_is(saga, OrderStatus.SHIPPED)
            assert await cancel(saga, (1, 1), id="late", key="cancel-1") == first
            await saga.report("DELIVERED", parcel=3)
            await saga.handle.result()
    assert net(world, order) == CHEESE


async def test_a_wish_for_units_falls_with_the_order(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["CancelShipment"] = [unavailable] * 4
            full = asyncio.create_task(saga.handle.execute_update("cancel", {"reason": "never mind"}))

            async def asked() -> bool:
                return "CancelShipment" in world.calls

            await eventually(asked)
            reply = await cancel(saga, (1, 1))
            assert (reply["status"], reply["refunded"]["amount"]) == (OrderStatus.CANCELLED, "23.40")
            assert await full == reply
            await saga.handle.result()
    assert_settled(world, order)


async def test_all_of_the_order_can_be_cancelled_while_units_are(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["SplitReservation"] = [unavailable] * 4
            some = asyncio.create_task(cancel(saga, (1, 1)))

            async def asked() -> bool:
                return "SplitReservation" in world.calls

            await eventually(asked)
            reply = await saga.handle.execute_update("cancel", {"reason": "never mind"})
            assert reply["status"] == OrderStatus.CANCELLED
            assert (await some)["refunded"]["amount"] == "2.70"
            await saga.handle.result()
    assert_settled(world, order)


async def test_units_and_splits_follow_one_another(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.update("split_parcel", ANN | {"parcel": 1, "lines": [{"line_id": 1, "quantity": 1}]})
            await cancel(saga, (1, 1))
            await parcels_are(saga, S.BOOKED, S.CANCELLED)
            await cancel(saga, (1, 1))
            await parcels_are(saga, S.CANCELLED, S.CANCELLED, S.BOOKED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=3)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == CHEESE


# ── Orders that are still being placed ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("approved", [True, False])
async def test_a_wish_waits_until_the_order_is_confirmed_or_falls_with_it(begin: Begin, approved: bool) -> None:
    world, order = World(), place_order(needs_review=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.IN_REVIEW
            assert await why_not(saga, (1, 3)) == (ErrorCode.CONFLICT, {1: 2, 2: 1})
            waiting = asyncio.create_task(cancel(saga, (1, 1)))
            await saga.handle.signal("cancel", wish((2, 1), requested_by="operator"))

            async def noted() -> bool:
                timeline = await saga.handle.query("timeline")
                return [entry["what"] for entry in timeline].count("Somebody wants to cancel some of it") == 2

            await eventually(noted)
            assert not waiting.done()
            await saga.update("approve" if approved else "reject", ANN)
            reply = await waiting
            if approved:
                assert reply["refunded"]["amount"] == "2.70"
                await parcels_are(saga, S.CANCELLED, S.CANCELLED, S.BOOKED)
                await saga.report("DISPATCHED", "DELIVERED", parcel=3)
            else:
                assert (reply["status"], reply["refunded"]["amount"]) == (OrderStatus.CANCELLED, "0.00")
            await saga.handle.result()
    assert net(world, order) == (ONE_MILK if approved else 0)


async def test_a_signal_that_cannot_be_taken_says_why_in_the_timeline(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.handle.signal("cancel", wish((1, 3)))

            async def noted() -> bool:
                return any(
                    entry["what"] == "A wish to cancel some of it was not taken" for entry in await saga.handle.query("timeline")
                )

            await eventually(noted)
            await saga.deliver()
    assert_settled(world, order)


async def test_a_wish_is_carried_out_once_although_the_saga_goes_on_in_another_run(begin: Begin) -> None:
    """Its answer, too, is known there."""
    world, order = World(), place_order()
    request = {"reason": "too many", "requested_by": "customer", "lines": [{"line_id": 1, "quantity": 1}], "key": "once"}
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            first = await saga.handle.execute_update("cancel", request)
            run = (await saga.handle.describe()).run_id
            for _ in range(1000):
                await saga.handle.signal("shipment_updated", {"status": "DISPATCHED", "parcel": 9})

            async def renewed() -> bool:
                return (await saga.handle.describe()).run_id != run

            await eventually(renewed)
            assert await saga.handle.execute_update("cancel", request) == first
            assert net(world, order) == ONE_MILK + CHEESE
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED


async def test_a_repaired_saga_carries_out_the_wish_that_it_is_started_with(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.handle.terminate("test")
            reached = len(world.orders.records[order.order_id].history)
            so_far = OrderSoFar.model_validate(
                {"status": OrderStatus.CONFIRMED, "reached": reached, "warehouse_id": "410", "cancel": wish((1, 1), key="kept")}
            )
            await saga.start(OrderRun(**dict(order), so_far=so_far))
            await parcels_are(saga, S.CANCELLED, S.BOOKED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            assert (await saga.handle.result()).status == OrderStatus.COMPLETED
    assert net(world, order) == ONE_MILK + CHEESE

"""What the saga promises when things go wrong, each named after the finding that it mends (S1 to S13), or the requirement."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from contracts.errors import ErrorCode
from contracts.inventory import ReservationStatus
from contracts.orders import OrderState, OrderStatus
from contracts.parcels import CHOICES, ParcelChoice, Trouble
from contracts.payments import PaymentStatus
from contracts.shipments import ShipmentStatus
from temporal.client import data_converter
from testing.model import World
from testing.model.inventory import Promise
from testing.model.world import refused, unavailable
from testing.sagas import Saga, assert_settled, place_order
from tests.conftest import eventually
from tests.workflows.conftest import Begin
from tests.workflows.test_order import cancel, status_is

CHUNK = 50
UNDOS = {"ReleaseInventory", "RefundPayment", "CancelShipment"}
ANN = {"by": "ann", "reason": "looked at it"}


async def state_of(saga: Saga) -> OrderState:
    return OrderState.model_validate(await saga.handle.query("status", result_type=OrderState))


async def update(saga: Saga, name: str, argument: dict[str, Any]) -> OrderState:
    return OrderState.model_validate(await saga.handle.execute_update(name, argument, result_type=OrderState))


async def refusal_of(saga: Saga, name: str, argument: dict[str, Any]) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as refusal:
        await saga.handle.execute_update(name, argument)
    assert isinstance(refusal.value.cause, ApplicationError)
    return refusal.value.cause


async def in_trouble(saga: Saga, trouble: Trouble) -> None:
    """Lead a confirmed order's parcel into trouble."""
    if trouble in (Trouble.LOST, Trouble.RETURNED):
        await saga.handle.signal("shipment_updated", {"status": "DISPATCHED"})
        await saga.handle.signal("shipment_updated", {"status": trouble.upper()})
    else:
        if trouble == Trouble.SILENT:
            await saga.handle.signal("shipment_updated", {"status": "DISPATCHED"})
            await status_is(saga, OrderStatus.SHIPPED)
        await saga.env.fast_forward(saga.handle, 10 * 86_400 + 60 if trouble == Trouble.SILENT else 3 * 86_400 + 60)
    await status_is(saga, OrderStatus.UNDELIVERED)
    assert (await state_of(saga)).trouble == trouble


# ── S1 to S6: undos ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_s1_no_undo_runs_within_the_task_that_decided_it(begin: Begin) -> None:
    world, order = World(), place_order()
    world.before["ProcessPayment"] = [refused(ErrorCode.PAYMENT_DECLINED)]
    async with begin(world, order) as saga:
        await saga.place()
        await saga.handle.result()
        events = (await saga.handle.fetch_history()).events
    scheduled = {
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    }
    assert {"ReleaseInventory", "RefundPayment"} <= scheduled
    within_tasks = [
        (await data_converter.decode(list(marker.details["data"].payloads)))[0]["activity_type"]
        for event in events
        if (marker := event.marker_recorded_event_attributes).marker_name
    ]
    assert within_tasks
    assert not UNDOS & set(within_tasks)


@pytest.mark.parametrize("code", [ErrorCode.NOT_FOUND, ErrorCode.VALIDATION_FAILED, ErrorCode.METHOD_NOT_ALLOWED])
async def test_s2_only_a_named_refusal_makes_a_cancel_too_late(begin: Begin, code: ErrorCode) -> None:
    world, order = World(), place_order()
    world.before["CreateShipment"] = [refused(ErrorCode.ADDRESS_UNDELIVERABLE)]
    world.before["CancelShipment"] = [refused(code)] * 2
    async with begin(world, order) as saga:
        outcome = await saga.place()
        state = await saga.handle.result()
    assert (state.status, state.code, outcome.code) == (
        OrderStatus.CANCELLED,
        ErrorCode.ADDRESS_UNDELIVERABLE,
        ErrorCode.ADDRESS_UNDELIVERABLE,
    )
    assert_settled(world, order)


async def test_s3_money_and_stock_wait_for_the_parcel_s_answer_however_long(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()

        def it_leaves_meanwhile() -> None:
            world.shipping.parcels[order.order_id, 1].status = ShipmentStatus.DISPATCHED
            unavailable()

        world.before["CancelShipment"] = [*[unavailable] * 12, it_leaves_meanwhile]
        assert (await refusal_of(saga, "cancel", {"reason": "too slow"})).type == ErrorCode.ALREADY_DISPATCHED
        assert not {"RefundPayment", "ReleaseInventory"} & set(world.calls)
        await saga.deliver()
    assert_settled(world, order)


async def test_s4_an_order_in_another_currency_can_be_cancelled(begin: Begin) -> None:
    world, order = World(), place_order(currency="EUR")
    world.before["ReserveInventory"] = [refused(ErrorCode.OUT_OF_STOCK)]
    async with begin(world, order) as saga:
        assert (await saga.place()).code == ErrorCode.OUT_OF_STOCK
        await saga.handle.result()
    assert world.orders.advances[-1].refunded is not None
    assert world.orders.advances[-1].refunded.currency == "EUR"
    assert_settled(world, order)


async def test_s5_an_undo_that_is_refused_stays_pending_and_its_history_short(begin: Begin) -> None:
    world, order = World(), place_order()
    world.before["ReleaseInventory"] = [refused(ErrorCode.CONFLICT)] * 12
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            cancelling = asyncio.create_task(cancel(saga))
        with suppress(RPCError):  # at last it has ended
            while not cancelling.done():
                await saga.env.fast_forward(saga.handle, 301)  # to the next try
        reply = await cancelling
        await saga.handle.result()
        events = (await saga.handle.fetch_history()).events
    assert reply.status == OrderStatus.CANCELLED
    assert world.calls.count("ReleaseInventory") == 13
    scheduled = [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]
    assert scheduled.count("ReleaseInventory") == 1
    assert_settled(world, order)


@pytest.mark.parametrize("command", ["ShipInventory", "AdvanceOrder"])
async def test_s6_cancelling_the_workflow_is_heeded_whatever_it_waits_for(begin: Begin, command: str) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before[command] = [unavailable] * 1000
            await saga.handle.signal("shipment_updated", {"status": "DISPATCHED"})
            world.shipping.parcels[order.order_id, 1].status = ShipmentStatus.DISPATCHED

            async def retrying() -> bool:
                return world.calls.count(command) > 2

            await eventually(retrying)
            await saga.handle.cancel()
            world.before[command].clear()

            async def heeded() -> bool:
                return any(entry["what"] == "Cannot be cancelled any more" for entry in await saga.handle.query("timeline"))

            await eventually(heeded)
        await saga.deliver()
    assert_settled(world, order)


# ── Undos that an operator ends ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("done", [True, False])
async def test_an_operator_ends_an_undo_by_hand_and_the_reason_is_kept(begin: Begin, done: bool) -> None:
    world, order = World(), place_order()
    world.before["RefundPayment"] = [unavailable] * 10_000
    async with begin(world, order) as saga:
        await saga.place()
        cancelling = asyncio.create_task(cancel(saga))

        async def stuck() -> bool:
            return (await state_of(saga)).stuck_undos == ("refund-payment",)

        await eventually(stuck)
        wrong = await refusal_of(saga, "settle_undo", ANN | {"undo": "release-inventory", "done": True})
        assert wrong.type == ErrorCode.UNDO_NOT_STUCK
        by_hand = {"undo": "refund-payment", "done": done, "refunded": {"amount": "23.40", "currency": "USD"} if done else None}
        await update(saga, "settle_undo", ANN | by_hand)
        reply = await cancelling
        state = await saga.handle.result()
        timeline = await saga.handle.query("timeline")
    assert reply.refunded.minor == (2340 if done else 0)
    assert state.status == OrderStatus.CANCELLED
    assert state.given_up == (() if done else ("refund-payment: by ann: looked at it",))
    assert any("refund-payment" in (entry["for_staff"] or "") and "ann" in entry["for_staff"] for entry in timeline)


# ── S7: decisions ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_s7_a_decision_is_answered_and_a_late_one_refused_with_the_reason(begin: Begin, decision: str) -> None:
    world, order = World(), place_order(needs_review=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            own = await refusal_of(saga, decision, {"by": str(order.customer_id), "reason": "mine"})
            assert own.type == ErrorCode.OWN_ORDER
            assert (await update(saga, decision, ANN)).status == OrderStatus.IN_REVIEW
            late = await refusal_of(saga, decision, ANN)
            assert late.type == ErrorCode.NOT_IN_REVIEW
            end = OrderStatus.CONFIRMED if decision == "approve" else OrderStatus.CANCELLED
            await status_is(saga, end)
        if decision == "approve":
            assert world.payments.payments[order.order_id, 1].status == PaymentStatus.CAPTURED
            await saga.deliver()
    assert_settled(world, order)


async def test_s11_what_staff_say_is_kept_from_customers(begin: Begin) -> None:
    world, order = World(), place_order(needs_review=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await update(saga, "reject", {"by": "ann", "reason": "stolen card"})
        state = await saga.handle.result()
        timeline = await saga.handle.query("timeline")
    told = [(entry["what"], entry["detail"]) for entry in timeline]
    assert "stolen" not in f"{told} {state.detail} {world.orders.advances[-1].detail}"
    assert "stolen card" in (world.orders.advances[-1].for_staff or "")


# ── S10: parcels that do not arrive ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("trouble", "choice"), [(trouble, choice) for trouble in Trouble for choice in CHOICES[trouble]])
async def test_s10_a_parcel_in_trouble_waits_for_a_decision(begin: Begin, trouble: Trouble, choice: ParcelChoice) -> None:
    world, order = World(), place_order(currency="EUR")
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await in_trouble(saga, trouble)
            if trouble != Trouble.NOT_PICKED_UP:
                world.shipping.parcels[order.order_id, 1].status = ShipmentStatus.DISPATCHED
            if impossible := set(ParcelChoice) - set(CHOICES[trouble]):
                refusal = await refusal_of(saga, "decide_parcel", ANN | {"choice": min(impossible)})
                assert refusal.type == ErrorCode.CHOICE_NOT_POSSIBLE
            await update(saga, "decide_parcel", ANN | {"choice": choice})
            if choice == ParcelChoice.RESEND:
                await status_is(saga, OrderStatus.CONFIRMED)
                for status in ("DISPATCHED", "DELIVERED"):
                    await saga.handle.signal("shipment_updated", {"status": status, "parcel": 2})
            elif (trouble, choice) == (Trouble.RETURNED, ParcelChoice.WAIT):
                await saga.handle.signal("shipment_updated", {"status": "DELIVERED"})  # an old report: it is here
                await update(saga, "decide_parcel", ANN | {"choice": ParcelChoice.REFUND_AND_RESTOCK})
                choice = ParcelChoice.REFUND_AND_RESTOCK
            elif choice == ParcelChoice.WAIT:
                for status in ("DISPATCHED", "IN_TRANSIT", "DELIVERED"):
                    await saga.handle.signal("shipment_updated", {"status": status})
            state = await saga.handle.result()
    end = {
        ParcelChoice.WAIT: OrderStatus.COMPLETED,
        ParcelChoice.RESEND: OrderStatus.COMPLETED,
        ParcelChoice.REFUND: OrderStatus.CANCELLED if trouble == Trouble.NOT_PICKED_UP else OrderStatus.REFUNDED,
        ParcelChoice.REFUND_AND_RESTOCK: OrderStatus.REFUNDED,
    }
    assert state.status == end[choice]
    if choice == ParcelChoice.REFUND_AND_RESTOCK or (choice, trouble) == (ParcelChoice.RESEND, Trouble.RETURNED):
        assert world.inventory.promises[order.order_id, 1].status == ReservationStatus.RESTOCKED
    assert_settled(world, order)


async def test_s10_the_usual_is_done_when_nobody_decides(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await in_trouble(saga, Trouble.RETURNED)
        await saga.env.fast_forward(saga.handle, order.decision_seconds + 60)
        state = await saga.handle.result()
    assert state.status == OrderStatus.REFUNDED
    assert world.inventory.promises[order.order_id, 1].status == ReservationStatus.RESTOCKED
    assert_settled(world, order)


async def test_s10_goods_that_cannot_be_sent_again_leave_the_decision_open(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await in_trouble(saga, Trouble.LOST)
            world.before["ReserveInventory"] = [refused(ErrorCode.OUT_OF_STOCK)]
            await update(saga, "decide_parcel", ANN | {"choice": "resend"})

            async def told() -> bool:
                return any("could not be sent again" in entry["what"] for entry in await saga.handle.query("timeline"))

            await eventually(told)
            assert (await state_of(saga)).status == OrderStatus.UNDELIVERED
            await update(saga, "decide_parcel", ANN | {"choice": "refund"})
            state = await saga.handle.result()
    assert state.status == OrderStatus.REFUNDED
    assert_settled(world, order)


async def test_s12_a_cancel_that_comes_as_a_signal_is_settled_too(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()
        await saga.handle.signal("cancel", {"reason": "changed my mind", "requested_by": "customer"})
        state = await saga.handle.result()
    assert (state.status, state.detail) == (OrderStatus.CANCELLED, "Cancelled: changed my mind")
    assert_settled(world, order)


# ── Long lives ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def flood(saga: Saga, name: str, argument: dict[str, Any], count: int) -> None:
    """Send so many signals, as fast as the worker takes them: Temporal itself refuses more than 10,000 that nobody has taken."""
    for _ in range(count // CHUNK):
        await asyncio.gather(*[saga.handle.signal(name, argument) for _ in range(CHUNK)])
        await state_of(saga)


@pytest.mark.timeout(600)
async def test_thousands_of_signals_leave_every_history_short(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await flood(saga, "shipment_updated", {"status": "DISPATCHED"}, 1500)
            await flood(saga, "approve", ANN, 1500)
            await saga.handle.signal("shipment_updated", {"status": "DELIVERED"})
            state = await saga.handle.result()
        lengths = [
            run.history_length
            async for run in saga.env.client.list_workflows(f"WorkflowId = '{saga.handle.id}'")
            if run.history_length is not None
        ]
    assert state.status == OrderStatus.COMPLETED
    assert len(lengths) > 1
    assert max(lengths) < 2_500
    assert_settled(world, order)


async def test_a_held_order_goes_on_in_another_run_and_is_approved(begin: Begin) -> None:
    world, order = World(), place_order(needs_review=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            first = (await saga.handle.describe()).run_id
            await flood(saga, "approve", {"by": str(order.customer_id), "reason": "mine"}, 1000)

            async def goes_on() -> bool:
                found = await saga.handle.describe()
                return found.run_id != first and found.status == WorkflowExecutionStatus.RUNNING

            await eventually(goes_on, timeout_s=60)
            assert (await state_of(saga)).status == OrderStatus.IN_REVIEW
            await update(saga, "approve", ANN)
            await status_is(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    assert_settled(world, order)


@pytest.mark.parametrize("status", [OrderStatus.PENDING, OrderStatus.PAID, OrderStatus.CONFIRMED, OrderStatus.CANCELLING])
async def test_a_lost_workflow_is_repaired_by_one_that_undoes_what_it_left_behind(begin: Begin, status: OrderStatus) -> None:
    world, order = World(), place_order()
    world.orders.accept(order).history = [OrderStatus.PENDING, status]
    world.inventory.promises[order.order_id, 1] = Promise(ReservationStatus.RESERVED)
    so_far = {"status": status, "reached": 2, "cancel": {"reason": "its workflow was lost", "requested_by": "ann"}}
    async with begin(world, order) as saga:
        run = order.model_dump(mode="json") | {"so_far": so_far}
        await saga.env.client.start_workflow("Order", run, id=saga.handle.id, task_queue=saga.queue)
        state = await saga.handle.result()
    assert state.status == OrderStatus.CANCELLED
    assert not {"ReserveInventory", "ProcessPayment"} & set(world.calls)
    assert_settled(world, order)

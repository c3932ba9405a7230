"""The order saga against a real Temporal server with skipped time: each branch, each fault, each cancel."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import ErrorCode
from contracts.orders import CancelReply, OrderState, OrderStatus
from contracts.payments import PaymentStatus
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.payment import FLAGGED
from testing.model.world import refused, unavailable
from testing.sagas import Saga, assert_settled, place_order
from tests.conftest import PATIENCE_S, eventually
from tests.workflows.conftest import Begin

FORWARD = ["ReserveInventory", "ProcessPayment", "CreateShipment", "AdvanceOrder"]
"""The commands of an order that meets no trouble, in order."""


async def status_is(saga: Saga, status: OrderStatus) -> None:
    async def check() -> bool:
        state = await saga.handle.query("status", result_type=OrderState)
        return bool(state.status == status)

    await eventually(check, what=f"status {status}")


async def test_an_order_is_confirmed_and_completed(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        outcome = await saga.place()
        assert (outcome.status, outcome.code, outcome.tracking_number) == (OrderStatus.CONFIRMED, None, "TRK1")
        assert world.calls[: len(FORWARD)] == FORWARD
        state = await saga.deliver()
    assert state.status == OrderStatus.COMPLETED
    assert len(world.notifications.mails) == 1
    assert_settled(world, order)


async def test_the_happy_path_stays_cheap(begin: Begin) -> None:
    """Each event costs the server: a change that adds some should be noticed."""
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()

        async def mailed() -> bool:
            return bool(world.notifications.mails)

        await eventually(mailed)
        history = await saga.handle.fetch_history()
    assert len(history.events) <= 18


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("ReserveInventory", ErrorCode.OUT_OF_STOCK),
        ("ProcessPayment", ErrorCode.PAYMENT_DECLINED),
        ("CreateShipment", ErrorCode.ADDRESS_UNDELIVERABLE),
    ],
)
async def test_a_refusal_undoes_what_was_done(begin: Begin, command: str, code: ErrorCode) -> None:
    world, order = World(), place_order()
    world.before[command] = [refused(code)]
    async with begin(world, order) as saga:
        outcome = await saga.place()
        assert outcome.code == code
        state = await saga.handle.result()
    assert (state.status, state.code) == (OrderStatus.CANCELLED, code)
    assert_settled(world, order)
    assert world.orders.advances[-1].code == code


@pytest.mark.parametrize("command", FORWARD)
async def test_a_fault_at_any_step_is_outlasted(begin: Begin, command: str) -> None:
    world, order = World(), place_order()
    world.before[command] = [unavailable] * 5
    async with begin(world, order) as saga:
        outcome = await saga.place()
        assert outcome.status == OrderStatus.CONFIRMED
        await saga.deliver()
    assert_settled(world, order)


@pytest.mark.parametrize("command", FORWARD)
async def test_a_lost_reply_at_any_step_happens_once(begin: Begin, command: str) -> None:
    world, order = World(), place_order()
    world.after[command] = [unavailable] * 3
    async with begin(world, order) as saga:
        assert (await saga.place()).status == OrderStatus.CONFIRMED
        await saga.deliver()
    assert_settled(world, order)


async def test_a_service_that_stays_down_ends_the_order_and_undoes_it(begin: Begin) -> None:
    world, order = World(), place_order()
    world.before["ReserveInventory"] = [unavailable] * 1000
    async with begin(world, order) as saga:
        outcome = await saga.place()
        assert outcome.code == ErrorCode.SERVICE_UNAVAILABLE
        await saga.handle.result()
    assert_settled(world, order)


async def cancel(saga: Saga, reason: str = "changed my mind") -> CancelReply:
    reply: Any = await saga.handle.execute_update("cancel", {"reason": reason}, result_type=CancelReply)
    return CancelReply.model_validate(reply)


@pytest.mark.parametrize("command", FORWARD)
@pytest.mark.parametrize("happened", [False, True], ids=["before", "after"])
async def test_a_cancel_during_any_step_settles_everything(begin: Begin, command: str, happened: bool) -> None:
    """The step is being retried when the cancel comes; it may or may not have happened."""
    world, order = World(), place_order()
    script = world.after if happened else world.before
    script[command] = [unavailable] * 1000
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.start()

            async def retrying() -> bool:
                return world.calls.count(command) > 2

            await eventually(retrying)
            cancelling = asyncio.create_task(cancel(saga))

            async def asked() -> bool:
                state = await saga.handle.query("timeline")
                return any("wants to cancel" in entry["what"] for entry in state)

            await eventually(asked)
            script[command].clear()
            reply = await cancelling
        state = await saga.handle.result()
    assert reply.status == state.status == OrderStatus.CANCELLED
    assert_settled(world, order)


async def test_a_cancel_before_dispatch_refunds_and_says_so(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()
        replies = await asyncio.gather(cancel(saga), cancel(saga))
        assert {reply.refunded.amount for reply in replies} == {order.total.amount}
        await saga.handle.result()
    undone = world.calls[world.calls.index("CancelShipment") :]
    assert (undone[0], undone[-1]) == ("CancelShipment", "AdvanceOrder")
    assert {"RefundPayment", "ReleaseInventory"} < set(undone)
    assert_settled(world, order)


async def test_news_that_comes_while_a_cancel_is_settled_does_not_make_it_forgotten(begin: Begin) -> None:
    """Temporal fails the workflow's task if a signal comes while it ends the workflow; updates that were only in it are gone."""
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()
        signals = []

        def news() -> None:
            update = {"status": "BOOKED"}
            signals.append(asyncio.create_task(saga.handle.signal("shipment_updated", update)))
            unavailable()

        world.before["CancelShipment"] = [news]
        with saga.env.with_time_skipping_disabled():
            reply = await cancel(saga)
        assert (await saga.handle.result()).status == reply.status == OrderStatus.CANCELLED
        await asyncio.gather(*signals)
    assert_settled(world, order)


async def test_a_cancel_is_answered_also_if_the_parcel_arrives_first(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()
        cancelling: list[asyncio.Task[CancelReply]] = []

        def cancel_now() -> None:
            cancelling.append(asyncio.create_task(cancel(saga)))
            unavailable()

        world.before["ShipInventory"] = [cancel_now]
        with saga.env.with_time_skipping_disabled():
            state = await saga.deliver()
        # Accepted, it is refused; if not, it finds no workflow any more, and the order service answers from its record.
        with pytest.raises((WorkflowUpdateFailedError, RPCError)) as refusal:
            async with asyncio.timeout(PATIENCE_S):
                await cancelling[0]
    if isinstance(refusal.value, WorkflowUpdateFailedError):
        assert isinstance(refusal.value.cause, ApplicationError)
        assert refusal.value.cause.type == ErrorCode.ALREADY_DISPATCHED
    else:
        assert isinstance(refusal.value, RPCError)
        assert refusal.value.status == RPCStatusCode.NOT_FOUND
    assert state.status == OrderStatus.COMPLETED
    assert_settled(world, order)


async def test_a_cancel_after_dispatch_is_refused_and_the_order_goes_on(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()
        # The parcel has left, but the saga has not heard of it yet: shipping knows better.
        world.shipping.parcels[order.order_id, 1].status = ShipmentStatus.DISPATCHED
        for _ in range(2):
            with pytest.raises(WorkflowUpdateFailedError) as refusal:
                await cancel(saga)
            assert isinstance(refusal.value.cause, ApplicationError)
            assert refusal.value.cause.type == ErrorCode.ALREADY_DISPATCHED
        await saga.handle.signal("shipment_updated", {"status": "DISPATCHED"})
        await status_is(saga, OrderStatus.SHIPPED)
        with pytest.raises(WorkflowUpdateFailedError):
            await cancel(saga)
        state = await saga.deliver()
    assert state.status == OrderStatus.COMPLETED
    assert_settled(world, order)


async def test_cancelling_the_workflow_itself_settles_everything_too(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()
        await saga.handle.cancel()
        state = await saga.handle.result()
    assert state.status == OrderStatus.CANCELLED
    assert_settled(world, order)


async def test_an_undo_that_keeps_failing_is_shown_and_does_not_stop_the_others(begin: Begin) -> None:
    world, order = World(), place_order()
    world.before["RefundPayment"] = [unavailable] * 12
    async with begin(world, order) as saga:
        await saga.place()
        reply = await cancel(saga)
        assert reply.refunded == order.total
        timeline = await saga.handle.query("timeline")
        await saga.handle.result()
    assert any("refund-payment does not succeed" in (entry["for_staff"] or "") for entry in timeline)
    first_release, last_refund = (
        world.calls.index("ReleaseInventory"),
        len(world.calls) - world.calls[::-1].index("RefundPayment"),
    )
    assert first_release < last_refund
    assert_settled(world, order)


async def test_an_undo_that_is_refused_is_tried_again_until_it_lands(begin: Begin) -> None:
    world, order = World(), place_order()
    world.before["ReleaseInventory"] = [refused(ErrorCode.CONFLICT)] * 3
    async with begin(world, order) as saga:
        await saga.place()
        await cancel(saga)
        await saga.handle.result()
    assert_settled(world, order)


async def test_a_notification_that_fails_changes_nothing(begin: Begin) -> None:
    world, order = World(), place_order()
    world.before["SendNotification"] = [unavailable] * 1000
    async with begin(world, order) as saga:
        assert (await saga.place()).status == OrderStatus.CONFIRMED
        state = await saga.deliver()
    assert state.status == OrderStatus.COMPLETED
    assert world.notifications.mails == {}
    assert_settled(world, order)


@pytest.mark.parametrize("by_provider", [True, False])
async def test_a_held_order_is_approved(begin: Begin, by_provider: bool) -> None:
    world, order = World(), place_order(needs_review=not by_provider)
    world.payments.bank.flags = by_provider
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.IN_REVIEW
            # What the provider flags is taken already; what our own rules flag is only held.
            held = PaymentStatus.CAPTURED if by_provider else PaymentStatus.AUTHORIZED
            assert world.payments.payments[order.order_id, 1].status == held
            await saga.handle.signal("approve", {"by": "ann", "reason": "known customer"})
        await status_is(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    assert_settled(world, order)
    assert OrderStatus.IN_REVIEW in world.orders.records[order.order_id].history


async def test_g7_a_decision_by_the_order_s_own_customer_is_not_taken(begin: Begin) -> None:
    world, order = World(), place_order(needs_review=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            for by in (str(order.customer_id), order.customer_id.hex.upper(), f"Ann <urn:uuid:{order.customer_id}>"):
                await saga.handle.signal("approve", {"by": by, "reason": "it is fine"})
            state = await saga.handle.query("status", result_type=OrderState)
            assert state.status == OrderStatus.IN_REVIEW
            await saga.handle.signal("reject", {"by": str(uuid4()), "reason": "stolen card"})
        state = await saga.handle.result()
        timeline = await saga.handle.query("timeline")
    assert (state.status, state.code) == (OrderStatus.CANCELLED, ErrorCode.REVIEW_REJECTED)
    assert sum("decision was not taken" in entry["what"] for entry in timeline) == 3
    assert_settled(world, order)


@pytest.mark.parametrize(
    ("by_total", "hurried", "told"),
    [
        (True, (), f"total: reached the threshold; {FLAGGED}"),
        (True, ("card: too much",), f"total: reached the threshold; card: too much; {FLAGGED}"),
        (False, ("customer: too much", "card: too much"), f"customer: too much; card: too much; {FLAGGED}"),
        (False, (), FLAGGED),
    ],
)
async def test_g7_the_record_says_why_an_order_is_held_and_the_customer_s_timeline_does_not(
    begin: Begin, by_total: bool, hurried: tuple[str, ...], told: str
) -> None:
    world, order = World(), place_order(needs_review=by_total)
    world.payments.review, world.payments.bank.flags = hurried, True
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            outcome = await saga.place()
            assert (outcome.status, outcome.detail) == (OrderStatus.IN_REVIEW, "Held for review.")
            state = await saga.handle.query("status", result_type=OrderState)
            timeline = await saga.handle.query("timeline")
        await saga.handle.signal("reject", {"by": "ann", "reason": "stolen card"})
        await saga.handle.result()
    assert world.orders.advances[0].review_reason == told
    assert told in state.waiting_for
    assert told not in str([entry | {"for_staff": None} for entry in timeline])


async def test_what_the_provider_flags_is_taken_and_goes_back_if_it_is_rejected(begin: Begin) -> None:
    world, order = World(), place_order()
    world.payments.bank.flags = True
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.handle.signal("reject", {"by": "ann", "reason": "stolen card"})
        state = await saga.handle.result()
    assert (state.status, state.code) == (OrderStatus.CANCELLED, ErrorCode.REVIEW_REJECTED)
    assert world.payments.payments[order.order_id, 1].status == PaymentStatus.REFUNDED
    assert world.orders.records[order.order_id].refunded == order.total
    assert_settled(world, order)


async def test_a_held_order_is_rejected(begin: Begin) -> None:
    world, order = World(), place_order(needs_review=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
        await saga.handle.signal("reject", {"by": "ann", "reason": "stolen card"})
        state = await saga.handle.result()
    assert (state.status, state.code) == (OrderStatus.CANCELLED, ErrorCode.REVIEW_REJECTED)
    assert_settled(world, order)


async def test_a_held_order_that_nobody_decides_on_is_cancelled_at_its_deadline(begin: Begin) -> None:
    world, order = World(), place_order(needs_review=True)
    async with begin(world, order) as saga:
        await saga.place()
        state = await saga.handle.result()
    assert (state.status, state.code) == (OrderStatus.CANCELLED, ErrorCode.REVIEW_EXPIRED)
    assert_settled(world, order)


async def test_reports_of_the_carrier_may_be_repeated_and_skip_one_another(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        await saga.place()
        for status in ("DELIVERED", "DISPATCHED", "DELIVERED"):
            await saga.handle.signal("shipment_updated", {"status": status})
        state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert_settled(world, order)


async def test_the_same_request_five_times_is_one_order(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        outcomes = await asyncio.gather(*[saga.place() for _ in range(5)])
        assert all(outcome == outcomes[0] for outcome in outcomes)
        await saga.deliver()
    assert world.calls.count("ProcessPayment") == 1
    assert_settled(world, order)

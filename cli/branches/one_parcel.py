"""The branches of orders that are sent in one parcel."""

import asyncio
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from cli.branches.stage import (
    ANN,
    GONE,
    UNTIL_GIVEN_UP_S,
    WITHIN_S,
    Branch,
    Play,
    Stage,
    after,
    cancelled,
    decided,
    delivered,
    meets,
    placed,
    reaching,
    reported,
    reviewed,
    signalled,
    then,
    then_delivered,
    told,
    workflow_cancelled,
)
from contracts.errors import ErrorCode
from contracts.money import Money
from contracts.orders import CancelRequest, OrderRun, OrderSoFar, OrderStatus
from contracts.shipments import ShipmentStatus
from testing.model.world import WAREHOUSE, refused, unavailable
from testing.shop import until
from workflows import order_steps
from workflows.parcels import Parcel


async def capture_refused(stage: Stage) -> None:
    stage.world.before["CapturePayment"] = [refused(ErrorCode.PAYMENT_DECLINED)]


async def cancelled_with_the_start(stage: Stage) -> None:
    client, order = stage.saga.env.client, stage.saga.order
    await client.start_workflow(
        "Order",
        order,
        id=stage.saga.handle.id,
        task_queue=stage.saga.queue,
        start_signal="cancel",
        start_signal_args=[CancelRequest(reason="changed my mind")],
    )


async def cancelled_while_paying(stage: Stage) -> None:
    stage.world.before["ProcessPayment"] = [unavailable] * 10_000
    await stage.saga.start()
    await stage.calls("ProcessPayment", 3)
    cancelling = asyncio.create_task(stage.cancel())
    await stage.tells("wants to cancel")
    await cancelling


async def given_up(stage: Stage) -> None:
    """A step that fails for half a day."""
    stage.world.before["CreateShipment"] = GONE.copy()
    await stage.saga.start()
    await stage.calls("CreateShipment", 3)
    await stage.later(UNTIL_GIVEN_UP_S)


def stuck(command: str) -> Play:
    """An undo does not succeed."""

    async def play(stage: Stage) -> None:
        stage.world.before[command] = [unavailable] * 100_000
        await stage.saga.handle.signal("cancel", {"reason": "changed my mind"})
        await stage.later(60)
        await stage.tells("does not succeed")

    return play


refund_stuck = stuck("RefundPayment")


async def mended(stage: Stage) -> None:
    for faults in stage.world.before.values():
        faults.clear()
    await stage.later(120)


async def refund_refused(stage: Stage) -> None:
    """No answer to an undo: it is tried again after a while."""
    stage.world.before["RefundPayment"] = [refused(ErrorCode.VALIDATION_FAILED)]
    await stage.saga.handle.signal("cancel", {"reason": "changed my mind"})
    await stage.later(60)
    await stage.tells("does not succeed")
    await stage.later(600)


def settled(*, done: bool, **more: Any) -> Play:
    return told("settle_undo", ANN | {"undo": "refund-payment", "done": done, **more})


async def refund_failed_by_hand(stage: Stage) -> None:
    """As with `temporal activity fail`: it undoes nothing, so the undo begins again."""
    stage.world.before["RefundPayment"] = [activity.raise_complete_async]
    await stage.saga.handle.signal("cancel", {"reason": "changed my mind"})
    await stage.calls("RefundPayment")
    run_id = (await stage.saga.handle.describe()).run_id
    refund = stage.saga.env.client.get_async_activity_handle(
        workflow_id=stage.saga.handle.id, run_id=run_id, activity_id="refund-payment"
    )
    await refund.fail(ApplicationError("somebody thought that this would help", non_retryable=True))


async def parcel_stuck(stage: Stage) -> None:
    """Nobody can tell whether the parcel can be cancelled, until it has left."""
    stage.world.before["CancelShipment"] = [unavailable] * 100_000
    await stage.saga.handle.signal("cancel", {"reason": "changed my mind"})
    await stage.later(60)
    await stage.tells("does not succeed")
    stage.leaves()
    stage.world.before["CancelShipment"].clear()
    await stage.later(120)
    await stage.tells("Cannot be cancelled")


async def left_unheard_of(stage: Stage) -> None:
    stage.leaves()


async def cancelled_after_it_left(stage: Stage) -> None:
    """Nobody hears that the parcel was booked, until it has left; meanwhile the customer cancels."""
    stage.world.after["CreateShipment"] = [unavailable] * 100_000
    await stage.saga.start()
    await stage.calls("CreateShipment", 3)
    stage.leaves()
    await stage.cancel()
    await delivered(stage)


async def left_in_a_lost_task(stage: Stage) -> None:
    """A task that was lost had gone as far as the parcel, which has left when the customer cancels."""
    order = stage.saga.order
    stage.world.before["ReserveInventory"] = [unavailable] * 100_000
    await stage.saga.start()
    await stage.calls("ReserveInventory", 3)
    for step in (
        order_steps.reserve_inventory(order),
        order_steps.process_payment(order, order.total, order.payment_token),
        order_steps.create_shipment(order, Parcel(1, (), warehouse_id=WAREHOUSE), 1),
    ):
        stage.world.handle(step.argument)
    stage.leaves()
    await stage.cancel()
    await delivered(stage)


def cancelled_while_confirming(*steps: Play) -> Play:
    """The order's record is away when it should be told that the order is confirmed, and the customer cancels."""

    async def play(stage: Stage) -> None:
        stage.world.before["AdvanceOrder"] = [unavailable] * 100_000
        await stage.saga.start()
        await stage.calls("AdvanceOrder", 3)
        await stage.saga.handle.signal("cancel", {"reason": "changed my mind"})
        await stage.tells("wants to cancel")
        for step in steps:
            await step(stage)
        stage.world.before["AdvanceOrder"].clear()
        await stage.later(120)

    return play


async def cancelled_twice(stage: Stage) -> None:
    await refund_stuck(stage)
    again = asyncio.create_task(stage.cancel())
    await mended(stage)
    await again


async def cancelled_when_settled(stage: Stage) -> None:
    """The order ends only when its mail is given up; until then somebody may cancel again."""
    stage.world.before["SendNotification"] = [unavailable] * 100_000
    await stage.saga.place()
    await stage.calls("SendNotification", 3)
    await stage.cancel()
    await stage.cancel()
    await stage.later(700)


async def decision_overtaken(stage: Stage) -> None:
    """A decision is accepted while the saga is busy, and the parcel moves on before it can be carried out."""
    stage.world.before["AdvanceOrder"] = [unavailable] * 100_000
    told = stage.world.calls.count("AdvanceOrder")
    await stage.saga.report("LOST")
    await stage.calls("AdvanceOrder", told + 3)
    await stage.decide("refund")
    await stage.saga.report("IN_TRANSIT")
    stage.world.before["AdvanceOrder"].clear()
    await stage.later(120)
    await stage.tells("came to nothing")
    await stage.saga.report("DELIVERED")


async def sent_again_unheard_of(stage: Stage) -> None:
    """Nobody hears that another parcel was booked, until the saga gives up; by then it has left."""
    booked = stage.world.calls.count("CreateShipment")
    stage.world.after["CreateShipment"] = GONE.copy()
    await stage.decide("resend")
    await stage.calls("CreateShipment", booked + 3)
    stage.world.shipping.move(stage.saga.order.order_id, 2, ShipmentStatus.DISPATCHED)
    await stage.later(UNTIL_GIVEN_UP_S)


async def talked_about(stage: Stage) -> None:
    """So much happens that only the beginning and the end of the timeline are kept."""
    for number in range(210):
        await stage.saga.handle.signal("reject", {"by": "ann", "reason": f"for the {number}th time"})
    await stage.tells("209th")


async def out_of_stock(stage: Stage) -> None:
    stage.world.before["ReserveInventory"] = [refused(ErrorCode.OUT_OF_STOCK)]


async def flooded(stage: Stage) -> None:
    """So many signals that the history gets long."""
    stage.first_run_id = first = (await stage.saga.handle.describe()).run_id

    async def goes_on() -> bool:
        await stage.saga.handle.signal("reject", {"by": str(stage.saga.order.customer_id), "reason": "mine"})
        return (await stage.saga.handle.describe()).run_id != first

    await until(goes_on, "the order to go on in another run", WITHIN_S)


def away(command: str) -> Play:
    async def play(stage: Stage) -> None:
        stage.world.before[command] = GONE.copy()

    return play


def repaired(status: OrderStatus, *, cancels: bool = True) -> Play:
    """A workflow that takes the place of one that was lost."""

    async def play(stage: Stage) -> None:
        record = stage.world.orders.accept(stage.saga.order)
        record.history = [OrderStatus.PENDING] if status == OrderStatus.PENDING else [OrderStatus.PENDING, status]
        wish = CancelRequest(reason="its workflow was lost", requested_by="ann")
        so_far = OrderSoFar(status=status, reached=len(record.history), cancel=wish if cancels else None)
        await stage.saga.start(OrderRun(**dict(stage.saga.order), so_far=so_far))

    return play


DOWN = [unavailable] * 5
HELD = {"needs_review": True}
EUROS = {"currency": "EUR"}
S = OrderStatus
DISPATCH_S, SILENCE_S, DECISION_S = 3 * 86_400, 10 * 86_400, 3 * 86_400
SILENT = (reported("DISPATCHED"), reaching(S.SHIPPED), after(SILENCE_S))
LOST, RETURNED = reported("DISPATCHED", "LOST"), reported("DISPATCHED", "IN_TRANSIT", "RETURNED")
SENT_AGAIN = (reaching(S.CONFIRMED), reported("DISPATCHED", "DELIVERED", parcel=2))

ONE_PARCEL: dict[str, Branch] = {
    # placing
    "confirmed": Branch(placed, is_open=True),
    "delivered": Branch(then(delivered)),
    "shipped": Branch(then(reported("DISPATCHED"), reaching(S.SHIPPED)), is_open=True),
    "delivered_at_once": Branch(then(reported("DELIVERED"))),
    "free_of_charge": Branch(then(delivered), options={"total": Money.zero("USD")}),
    "out_of_stock": Branch(meets(before={"ReserveInventory": [refused(ErrorCode.OUT_OF_STOCK)]})),
    "declined": Branch(meets(before={"ProcessPayment": [refused(ErrorCode.PAYMENT_DECLINED)]})),
    "undeliverable": Branch(meets(before={"CreateShipment": [refused(ErrorCode.ADDRESS_UNDELIVERABLE)]})),
    "inventory_down": Branch(meets(before={"ReserveInventory": DOWN})),
    "payment_down": Branch(meets(before={"ProcessPayment": DOWN})),
    "shipping_down": Branch(meets(before={"CreateShipment": DOWN})),
    "record_down": Branch(meets(before={"AdvanceOrder": DOWN})),
    "notification_down": Branch(meets(before={"SendNotification": DOWN})),
    "declined_after_a_fault": Branch(meets(before={"ProcessPayment": [*DOWN, refused(ErrorCode.PAYMENT_DECLINED)]})),
    "notification_refused": Branch(meets(before={"SendNotification": [refused(ErrorCode.TEMPLATE_INVALID)]})),
    "given_up": Branch(given_up),
    # review
    "in_review": Branch(reviewed(), is_open=True, options=HELD),
    "review_approved": Branch(reviewed(told("approve"), reaching(S.CONFIRMED), delivered), options=HELD),
    "review_approved_by_signal": Branch(reviewed(signalled("approve"), reaching(S.CONFIRMED), delivered), options=HELD),
    "review_rejected": Branch(reviewed(told("reject")), options=HELD),
    "review_expired": Branch(reviewed(after(86_400)), options=HELD),
    "review_rejected_by_signal": Branch(reviewed(signalled("reject")), options=HELD),
    "hold_declined": Branch(meets(before={"ProcessPayment": [refused(ErrorCode.PAYMENT_DECLINED)]}), options=HELD),
    "capture_given_up": Branch(reviewed(away("CapturePayment"), told("approve"), after(UNTIL_GIVEN_UP_S)), options=HELD),
    "capture_declined": Branch(reviewed(capture_refused, told("approve")), options=HELD),
    # cancels
    "cancelled": Branch(then(cancelled)),
    "cancelled_in_euros": Branch(then(cancelled), options=EUROS),
    "cancelled_by_signal": Branch(then(signalled("cancel", {"reason": "changed my mind"}))),
    "cancelled_with_the_start": Branch(cancelled_with_the_start),
    "cancelled_while_paying": Branch(cancelled_while_paying),
    "cancelled_in_review": Branch(reviewed(cancelled), options=HELD),
    "cancelled_too_late": Branch(then(left_unheard_of, cancelled, delivered)),
    "cancelled_after_it_left": Branch(cancelled_after_it_left),
    "cancelled_after_a_lost_task": Branch(left_in_a_lost_task),
    "cancelled_while_confirming": Branch(cancelled_while_confirming()),
    "cancelled_too_late_while_confirming": Branch(then_delivered(cancelled_while_confirming(left_unheard_of))),
    "cancelled_twice": Branch(then(cancelled_twice)),
    "cancelled_when_settled": Branch(cancelled_when_settled),
    "workflow_cancelled": Branch(then(workflow_cancelled)),
    "workflow_cancelled_in_review": Branch(reviewed(workflow_cancelled), options=HELD),
    "refund_stuck": Branch(then(refund_stuck, mended)),
    "workflow_cancelled_while_cancelling": Branch(then(refund_stuck, workflow_cancelled, mended)),
    "refund_refused": Branch(then(refund_refused)),
    "refund_failed_by_hand": Branch(then(refund_failed_by_hand)),
    "release_stuck": Branch(then(stuck("ReleaseInventory"), mended)),
    "refund_settled_by_hand": Branch(then(refund_stuck, settled(done=True, refunded={"amount": "23.40", "currency": "USD"}))),
    "refund_given_up": Branch(then(refund_stuck, settled(done=False))),
    "parcel_stuck_then_gone": Branch(then(parcel_stuck, delivered)),
    # parcels in trouble
    "not_picked_up_waited": Branch(then(after(DISPATCH_S), decided("wait"), reaching(S.CONFIRMED), delivered)),
    "not_picked_up_picked_up": Branch(then(after(DISPATCH_S), reaching(S.UNDELIVERED), delivered)),
    "not_picked_up_refunded": Branch(then(after(DISPATCH_S), decided("refund"))),
    "silent_waited": Branch(then(*SILENT, decided("wait"), reaching(S.SHIPPED), reported("DELIVERED"))),
    "silent_resent": Branch(then(*SILENT, decided("resend"), *SENT_AGAIN)),
    "silent_refunded": Branch(then(*SILENT, decided("refund"))),
    "silent_then_lost": Branch(then(*SILENT, reaching(S.UNDELIVERED), reported("LOST"), decided("refund"))),
    "lost_found": Branch(then(LOST, reaching(S.UNDELIVERED), reported("IN_TRANSIT", "DELIVERED"))),
    "lost_waited": Branch(then(LOST, decided("wait"), reported("DELIVERED"))),
    "lost_resent": Branch(then(LOST, decided("resend"), *SENT_AGAIN)),
    "lost_resent_cancelled": Branch(then(LOST, decided("resend"), reaching(S.CONFIRMED), cancelled)),
    "lost_resend_refused": Branch(then(LOST, reaching(S.UNDELIVERED), out_of_stock, decided("resend"), decided("refund"))),
    "lost_refunded_by_default": Branch(then(LOST, reaching(S.UNDELIVERED), after(DECISION_S))),
    "lost_refunded_by_signal": Branch(
        then(LOST, reaching(S.UNDELIVERED), signalled("decide_parcel", ANN | {"choice": "refund"}))
    ),
    "lost_resent_unheard_of": Branch(then(LOST, sent_again_unheard_of, reported("DELIVERED", parcel=2))),
    "lost_resent_found": Branch(
        then(LOST, decided("resend"), reaching(S.CONFIRMED), reported("IN_TRANSIT", "RETURNED"), *SENT_AGAIN)
    ),
    "lost_reported_again": Branch(
        then(LOST, reaching(S.UNDELIVERED), reported("DISPATCHED", "LOST", "BOOKED"), reported("IN_TRANSIT", "DELIVERED"))
    ),
    "lost_found_after_a_decision": Branch(then(decision_overtaken)),
    "decisions_not_taken": Branch(
        then(
            signalled("approve"),
            signalled("decide_parcel", ANN | {"choice": "refund"}),
            LOST,
            reaching(S.UNDELIVERED),
            signalled("decide_parcel", ANN | {"choice": "refund_and_restock"}),
            signalled("cancel", {"reason": "changed my mind"}),
            reported("IN_TRANSIT", "DELIVERED"),
        )
    ),
    "much_talked_about": Branch(then(talked_about, delivered)),
    "returned_restocked": Branch(then(RETURNED, decided("refund_and_restock"))),
    "returned_resent": Branch(then(RETURNED, decided("resend"), *SENT_AGAIN)),
    # other runs
    "long": Branch(then(flooded, delivered), is_long=True),
    "long_in_review": Branch(reviewed(flooded, told("approve"), reaching(S.CONFIRMED), delivered), options=HELD, is_long=True),
    "long_in_trouble": Branch(then(LOST, reaching(S.UNDELIVERED), flooded, decided("refund")), is_long=True),
    "repaired_pending": Branch(repaired(S.PENDING)),
    "repaired_confirmed": Branch(repaired(S.CONFIRMED)),
    "repaired_delivered": Branch(repaired(S.DELIVERED, cancels=False)),
    "repaired_cancelling": Branch(repaired(S.CANCELLING)),
}

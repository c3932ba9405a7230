"""Every branch of the order saga, as it is played to be recorded (cli/histories.py): what a customer, an operator, a carrier or a
failing service does to one order."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from contracts.errors import ErrorCode
from contracts.inventory import StockUpdate, WhenShort
from contracts.orders import CancelRequest, Delivery, OrderRun, OrderSoFar, OrderStatus, Outcome
from contracts.parcels import ParcelStatus
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.world import WAREHOUSE, refused, unavailable
from testing.sagas import Saga
from testing.shop import until
from workflows import order_steps
from workflows.parcels import Parcel

WITHIN_S = 120.0
ANN = {"by": "ann", "reason": "looked at it"}


@dataclass
class Stage:
    """What a branch is played on."""

    saga: Saga
    world: World
    first_run_id: str = ""
    """Of an order that goes on in another run."""

    async def cancel(self) -> None:
        with suppress(WorkflowUpdateFailedError):
            await self.saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})

    async def decide(self, choice: str) -> None:
        """About the parcel, once it is in trouble."""
        await self.reaches(OrderStatus.UNDELIVERED)
        await self.saga.update("decide_parcel", ANN | {"choice": choice})

    async def reaches(self, status: OrderStatus) -> None:
        async def there() -> bool:
            return (await self.saga.state()).status == status

        await until(there, f"the order to be {status}", WITHIN_S)

    async def tells(self, words: str) -> None:
        """Returns once the timeline says so, to staff or customers."""

        async def told() -> bool:
            return any(words in f"{entry['what']} {entry['for_staff']}" for entry in await self.saga.handle.query("timeline"))

        await until(told, f"the timeline to tell: {words}", WITHIN_S)

    async def calls(self, command: str, times: int = 1) -> None:
        async def called() -> bool:
            return self.world.calls.count(command) >= times

        await until(called, f"{command} to be called {times} times", WITHIN_S)

    async def parcels_are(self, *statuses: ParcelStatus) -> None:
        async def there() -> bool:
            return [parcel.status for parcel in (await self.saga.state()).parcels] == [*statuses]

        await until(there, f"the parcels to be {', '.join(statuses)}", WITHIN_S)

    async def later(self, seconds: float) -> None:
        """Let so much time pass for the saga."""
        await self.saga.env.fast_forward(self.saga.handle, timedelta(seconds=seconds + 60))

    def leaves(self) -> None:
        """The carrier takes the parcel; the saga does not hear of it yet."""
        self.world.shipping.move(self.saga.order.order_id, 1, ShipmentStatus.DISPATCHED)


Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Branch:
    """One way through the saga. Played with the clock standing still, but for what the branch itself skips."""

    play: Play
    is_open: bool = False
    """Whether the saga still runs afterwards."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the order."""
    is_long: bool = False
    """Whether it goes on in another run; both histories are kept."""
    world: Callable[[], World] = World
    """Where it is played: by default at one warehouse that has everything."""


def meets(*, before: Mapping[str, Sequence[Callable[[], None]]], after: Play | None = None) -> Play:
    """An order whose calls meet trouble; if it is confirmed all the same, it is delivered."""

    async def play(stage: Stage) -> None:
        stage.world.before |= {command: list(faults) for command, faults in before.items()}
        if (await stage.saga.place()).status == OrderStatus.CONFIRMED:
            await (after or delivered)(stage)

    return play


async def nothing(stage: Stage) -> None:
    """No more than is played anyway."""


async def notified(stage: Stage) -> None:
    await stage.calls("SendNotification")


async def delivered(stage: Stage) -> None:
    await stage.saga.report("DISPATCHED", "IN_TRANSIT", "DELIVERED")


async def placed(stage: Stage) -> None:
    await stage.saga.place()
    await notified(stage)


def then(*steps: Play) -> Play:
    """A confirmed order, and what happens to it."""

    async def play(stage: Stage) -> None:
        await placed(stage)
        for step in steps:
            await step(stage)

    return play


def reported(*statuses: str, parcel: int = 1) -> Play:
    async def play(stage: Stage) -> None:
        await stage.saga.report(*statuses, parcel=parcel)

    return play


def decided(choice: str) -> Play:
    async def play(stage: Stage) -> None:
        await stage.decide(choice)

    return play


def after(seconds: float) -> Play:
    async def play(stage: Stage) -> None:
        await stage.later(seconds)

    return play


def reaching(status: OrderStatus) -> Play:
    async def play(stage: Stage) -> None:
        await stage.reaches(status)

    return play


async def cancelled(stage: Stage) -> None:
    await stage.cancel()


def then_delivered(play: Play) -> Play:
    async def played(stage: Stage) -> None:
        await play(stage)
        await delivered(stage)

    return played


async def workflow_cancelled(stage: Stage) -> None:
    await stage.saga.handle.cancel()


def then_cancelled(play: Play) -> Play:
    async def played(stage: Stage) -> None:
        await play(stage)
        await cancelled(stage)

    return played


def then_later(play: Play, seconds: float) -> Play:
    async def played(stage: Stage) -> None:
        await play(stage)
        await stage.later(seconds)

    return played


def tells(words: str) -> Play:
    async def play(stage: Stage) -> None:
        await stage.tells(words)

    return play


def reviewed(*steps: Play) -> Play:
    """An order that is held, and what happens to it."""

    async def play(stage: Stage) -> None:
        await stage.saga.place()
        for step in steps:
            await step(stage)

    return play


def told(name: str, argument: Mapping[str, Any] = ANN) -> Play:
    """By an update."""

    async def play(stage: Stage) -> None:
        await stage.saga.update(name, dict(argument))

    return play


def signalled(name: str, argument: Mapping[str, Any] = ANN) -> Play:
    async def play(stage: Stage) -> None:
        await stage.saga.handle.signal(name, dict(argument))

    return play


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
    """A step that fails for an hour."""
    stage.world.before["CreateShipment"] = [unavailable] * 100_000
    await stage.saga.start()
    await stage.calls("CreateShipment", 3)
    await stage.later(3700)


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
    stage.world.after["CreateShipment"] = [unavailable] * 100_000
    await stage.decide("resend")
    await stage.calls("CreateShipment", booked + 3)
    stage.world.shipping.move(stage.saga.order.order_id, 2, ShipmentStatus.DISPATCHED)
    await stage.later(3700)


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
        stage.world.before[command] = [unavailable] * 100_000

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
    stage.world.before["ReserveInventory"].clear()
    for step in (
        order_steps.reserve_inventory(order),
        order_steps.process_payment(order, order.total, order.payment_token),
        order_steps.create_shipment(order, Parcel(1, (), warehouse_id="1"), 1),
    ):
        stage.world.handle(step.argument)
    stage.leaves()
    stage.world.before["ReserveInventory"] = [unavailable] * 2
    await stage.cancel()
    await arriving(1)(stage)


def paid_again(*cards: str, before: Sequence[Callable[[], None]] = ()) -> Play:
    """The first card is declined, and others are tried."""

    async def play(stage: Stage) -> None:
        stage.world.before["ProcessPayment"] = [refused(ErrorCode.PAYMENT_DECLINED), *before]
        await stage.saga.place()
        for card in cards:
            await stage.saga.handle.execute_update("pay", {"payment_token": card})

    return play


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


DOWN = [unavailable] * 5
DECLINED = refused(ErrorCode.PAYMENT_DECLINED)
PATIENT: dict[str, Any] = {"pay_again_seconds": 900}
IN_PARTS: dict[str, Any] = {"may_split": True}
WAITING: dict[str, Any] = {"may_split": True, "when_short": WhenShort.WAIT}
ASKED: dict[str, Any] = {"may_split": True, "when_short": WhenShort.ASK}
P = ParcelStatus
HELD = {"needs_review": True}
EUROS = {"currency": "EUR"}
S = OrderStatus
DISPATCH_S, SILENCE_S, DECISION_S = 3 * 86_400, 10 * 86_400, 3 * 86_400
SILENT = (reported("DISPATCHED"), reaching(S.SHIPPED), after(SILENCE_S))
LOST, RETURNED = reported("DISPATCHED", "LOST"), reported("DISPATCHED", "IN_TRANSIT", "RETURNED")
SENT_AGAIN = (reaching(S.CONFIRMED), reported("DISPATCHED", "DELIVERED", parcel=2))

BRANCHES: dict[str, Branch] = {
    # placing
    "confirmed": Branch(placed, is_open=True),
    "delivered": Branch(then(delivered)),
    "shipped": Branch(then(reported("DISPATCHED"), reaching(S.SHIPPED)), is_open=True),
    "delivered_at_once": Branch(then(reported("DELIVERED"))),
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
    "capture_given_up": Branch(reviewed(away("CapturePayment"), told("approve"), after(3700)), options=HELD),
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
    "repaired_payment_due": Branch(repaired_and_paid, options=PATIENT),
    # another card
    "paid_again": Branch(then_delivered(paid_again("tok_other")), options=PATIENT),
    "paid_again_declined": Branch(then_delivered(paid_again("tok_other", "tok_third", before=[DECLINED])), options=PATIENT),
    "payment_due": Branch(paid_again(), options=PATIENT, is_open=True),
    "payment_due_expired": Branch(then_later(paid_again(), 960), options=PATIENT),
    "payment_due_cancelled": Branch(then_cancelled(paid_again()), options=PATIENT),
    # parcels
    "parcels_delivered": Branch(then(arriving(2, 1)), options=IN_PARTS, world=two_warehouses),
    "parcels_delivered_in_turn": Branch(
        then(reported("DISPATCHED", parcel=1), reported("DISPATCHED", "DELIVERED", parcel=2), reported("DELIVERED", "DELIVERED")),
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
    "parcels_partly_cancelled": Branch(then(parcel_left(1), cancelled, arriving(1)), options=IN_PARTS, world=two_warehouses),
    "parcels_second_too_heavy": Branch(second_is_too_heavy, options=IN_PARTS, world=two_warehouses),
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

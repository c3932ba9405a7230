"""The branches of orders whose money is taken as their parcels leave: what is held is taken, gone, held anew, or declined."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import WorkflowUpdateFailedError

from cli.branches.one_parcel import LOST, flooded
from cli.branches.parts import (
    DECLINED,
    arriving,
    cheese_arrives,
    parcel_decided,
    parcel_left,
    parcels,
    two_warehouses,
    without_cheese,
)
from cli.branches.stage import (
    Branch,
    Play,
    Stage,
    after,
    cancelled,
    decided,
    delivered,
    reaching,
    reported,
    reviewed,
    signalled,
    tells,
    then,
    told,
)
from contracts.errors import ErrorCode
from contracts.inventory import WhenShort
from contracts.orders import CaptureAt, OrderRun, OrderSoFar, OrderStatus, TimelineEntry
from contracts.parcels import ParcelStatus
from testing.model import World
from testing.model.world import refused, unavailable
from testing.shop import until
from workflows import order_steps
from workflows.parcels import Parcel

HELD_FOR = timedelta(days=7)
NEARLY = 6.6 * 86_400
"""So many seconds after it was held, it has been held anew."""
FAILED_REFUND = {"attempt": 1, "key": "parcel-2", "amount": {"amount": "18.00", "currency": "USD"}, "failure": "account_closed"}


def held_for_a_week(world: Callable[[], World]) -> Callable[[], World]:
    """Where the provider holds for so long."""

    def made() -> World:
        shop = world()
        shop.payments.bank.held_until = datetime.now(UTC) + HELD_FOR
        return shop

    return made


def takes_once() -> World:
    world = two_warehouses()
    world.payments.bank.multi_capture = False
    return world


def next_calls(command: str, *faults: Callable[[], None]) -> Play:
    async def play(stage: Stage) -> None:
        stage.world.before[command] = [*faults]

    return play


def hold_ends(attempt: int = 1) -> Play:
    """At the provider."""

    async def play(stage: Stage) -> None:
        stage.world.payments.expire(stage.saga.order.order_id, attempt)

    return play


async def held_for_a_week_each(stage: Stage) -> None:
    """Whatever is held from now on."""
    bank = stage.world.payments.bank
    ends = [datetime.now(UTC) + number * HELD_FOR for number in range(2, 20)]

    def for_another() -> None:
        bank.held_until = ends.pop(0)

    stage.world.before["ProcessPayment"] = [for_another] * len(ends)


async def held_for_longer(stage: Stage) -> None:
    """What is held from now on."""
    stage.world.payments.bank.held_until = None


async def much_was_bought(stage: Stage) -> None:
    stage.world.payments.review = ("too much in a day",)


async def card_is_due(stage: Stage) -> None:
    async def due() -> bool:
        return any("pay" in wait.updates for wait in (await stage.saga.state()).waits)

    await until(due, "another card to be waited for", 120)


def paid_with(card: str) -> Play:
    async def play(stage: Stage) -> None:
        await stage.saga.handle.execute_update("pay", {"payment_token": card})

    return play


def attempts_are(number: int) -> Play:
    async def play(stage: Stage) -> None:
        await stage.calls("ProcessPayment", number)

    return play


async def repaired_and_left(stage: Stage) -> None:
    """Its workflow was lost while its parcel was booked."""
    order = stage.saga.order
    for step in (order_steps.reserve_inventory(order), order_steps.process_payment(order, order.total, order.payment_token)):
        stage.world.handle(step.argument)
    stage.world.orders.accept(order).history += [OrderStatus.RESERVED, OrderStatus.PAID, OrderStatus.CONFIRMED]
    entry = TimelineEntry(at=datetime.now(UTC), what="Looked after by the shop", status=OrderStatus.CONFIRMED)
    so_far = OrderSoFar(timeline=(entry,), status=OrderStatus.CONFIRMED, reached=4, warehouse_id="410")
    await stage.saga.start(OrderRun(**dict(order), so_far=so_far))
    await delivered(stage)


async def offer_overtaken(stage: Stage) -> None:
    """The parcel is being taken off the stock when its customer sends another card, and is paid by what is still held."""
    stage.world.before["ShipInventory"] = [unavailable] * 5
    await stage.saga.report("DISPATCHED")
    await stage.calls("ShipInventory", 3)
    with suppress(WorkflowUpdateFailedError):
        await paid_with("tok_late")(stage)


async def gone_in_a_lost_task(stage: Stage) -> None:
    """A task that was lost had gone as far as the parcel, which left before the customer cancels."""
    order = stage.saga.order
    stage.world.before["ReserveInventory"] = [unavailable] * 100_000
    await stage.saga.start()
    await stage.calls("ReserveInventory", 3)
    for step in (
        order_steps.reserve_inventory(order),
        order_steps.process_payment(order, order.total, order.payment_token),
        order_steps.create_shipment(order, Parcel(1, (), warehouse_id="410"), 1),
    ):
        stage.world.handle(step.argument)
    stage.leaves()
    await stage.cancel()
    await delivered(stage)


P = ParcelStatus
HELD: dict[str, Any] = {"capture_at": CaptureAt.DISPATCH, "pay_again_seconds": 900}
IN_PARTS: dict[str, Any] = {**HELD, "may_split": True, "priced": True}
WAITING: dict[str, Any] = {**IN_PARTS, "when_short": WhenShort.WAIT}
SLOW: dict[str, Any] = {**HELD, "dispatch_seconds": 30 * 86_400}
NOT_HELD = refused(ErrorCode.NOT_HELD)
FIRST_ARRIVED = (arriving(1), parcels(P.DELIVERED, P.AWAITED))

AT_DISPATCH: dict[str, Branch] = {
    "dispatch_delivered": Branch(then(delivered), options=HELD),
    "dispatch_reviewed": Branch(
        reviewed(told("approve"), reaching(OrderStatus.CONFIRMED), delivered), options={**HELD, "needs_review": True}
    ),
    "dispatch_cancelled": Branch(then(cancelled), options=HELD),
    "dispatch_lost_refunded": Branch(then(LOST, decided("refund")), options=HELD),
    "dispatch_parcels": Branch(then(arriving(2, 1)), options=IN_PARTS, world=two_warehouses),
    "dispatch_parcels_resent": Branch(
        then(
            reported("DISPATCHED", "LOST", parcel=2),
            parcels(P.BOOKED, P.UNDELIVERED),
            parcel_decided("resend", 2),
            parcels(P.BOOKED, P.RESENT, P.BOOKED),
            arriving(1, 3),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "dispatch_parcels_rest_cancelled": Branch(
        then(arriving(1), parcels(P.DELIVERED, P.BOOKED), cancelled), options=IN_PARTS, world=two_warehouses
    ),
    "dispatch_parcels_partly_cancelled": Branch(
        then(parcel_left(1), cancelled, arriving(1)), options=IN_PARTS, world=two_warehouses
    ),
    "dispatch_taken_once": Branch(then(arriving(1, 2)), options=IN_PARTS, world=takes_once),
    "dispatch_hold_gone": Branch(then(hold_ends(), much_was_bought, delivered), options=HELD),
    "dispatch_declined_paid": Branch(
        then(
            hold_ends(),
            next_calls("ProcessPayment", DECLINED, DECLINED),
            delivered,
            card_is_due,
            paid_with("tok_no"),
            paid_with("tok_yes"),
        ),
        options=HELD,
    ),
    "dispatch_declined_owed": Branch(
        then(
            next_calls("CapturePayment", NOT_HELD),
            next_calls("ProcessPayment", DECLINED),
            reported("DISPATCHED"),
            card_is_due,
            after(900),
            tells("were not paid"),
            reported("DELIVERED"),
        ),
        options=HELD,
    ),
    "dispatch_declined_refunded": Branch(
        then(
            hold_ends(),
            next_calls("ProcessPayment", DECLINED),
            reported("DISPATCHED", "LOST", parcel=1),
            card_is_due,
            parcel_decided("refund", 1),
            parcels(P.REFUNDED, P.BOOKED),
            arriving(2),
        ),
        options=IN_PARTS,
        world=two_warehouses,
    ),
    "dispatch_renewed": Branch(
        then(
            *FIRST_ARRIVED,
            held_for_longer,
            after(NEARLY),
            attempts_are(2),
            cheese_arrives,
            parcels(P.DELIVERED, P.BOOKED),
            arriving(2),
        ),
        options=WAITING,
        world=held_for_a_week(without_cheese),
    ),
    "dispatch_renewed_often": Branch(
        then(
            *FIRST_ARRIVED,
            held_for_a_week_each,
            after(20 * 7 * 86_400),
            tells("The payment is not held any more"),
            cheese_arrives,
            parcels(P.DELIVERED, P.BOOKED),
            arriving(2),
        ),
        options=WAITING,
        world=held_for_a_week(without_cheese),
    ),
    "dispatch_renewed_cancelled": Branch(
        then(held_for_longer, after(NEARLY), attempts_are(2), cancelled), options=SLOW, world=held_for_a_week(World)
    ),
    "dispatch_expired_card": Branch(
        then(
            *FIRST_ARRIVED,
            held_for_longer,
            next_calls("ProcessPayment", DECLINED, DECLINED),
            after(NEARLY),
            card_is_due,
            cheese_arrives,
            parcels(P.DELIVERED, P.RESERVED),
            paid_with("tok_no"),
            paid_with("tok_yes"),
            parcels(P.DELIVERED, P.BOOKED),
            arriving(2),
        ),
        options=WAITING,
        world=held_for_a_week(without_cheese),
    ),
    "dispatch_expired_card_rest_called_off": Branch(
        then(*FIRST_ARRIVED, next_calls("ProcessPayment", DECLINED), after(NEARLY), card_is_due, after(86_400)),
        options=WAITING,
        world=held_for_a_week(without_cheese),
    ),
    "dispatch_expired_card_left": Branch(
        then(next_calls("ProcessPayment", DECLINED), after(NEARLY), card_is_due, delivered),
        options=SLOW,
        world=held_for_a_week(World),
    ),
    "dispatch_long": Branch(
        then(flooded, parcels(P.BOOKED, P.AWAITED), cheese_arrives, parcels(P.BOOKED, P.BOOKED), arriving(1, 2)),
        options=WAITING,
        world=without_cheese,
        is_long=True,
    ),
    "dispatch_repaired": Branch(repaired_and_left, options=HELD),
    "dispatch_gone_in_a_lost_task": Branch(gone_in_a_lost_task, options=HELD),
    "dispatch_offer_overtaken": Branch(
        then(next_calls("ProcessPayment", DECLINED), after(NEARLY), card_is_due, offer_overtaken, reported("DELIVERED")),
        options=SLOW,
        world=held_for_a_week(World),
    ),
    "refund_failed": Branch(
        then(signalled("refund_failed", FAILED_REFUND), signalled("refund_failed", FAILED_REFUND), delivered),
    ),
}

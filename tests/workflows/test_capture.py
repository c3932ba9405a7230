"""Money that is taken as parcels leave: held first, taken for each parcel, held anew before the provider lets go, and never left
held, or taken for what was not sent."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.errors import ErrorCode
from contracts.inventory import WhenShort
from contracts.orders import Actor, CaptureAt, OrderRun, OrderSoFar, OrderStatus, PlaceOrder
from contracts.parcels import ParcelStatus
from contracts.payments import PaymentStatus
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.world import refused, unavailable
from testing.sagas import Saga, assert_settled, place_order, playing, skipping_time
from tests.conftest import eventually
from tests.workflows.conftest import Begin
from tests.workflows.test_order import status_is
from tests.workflows.test_parts import (
    ANN,
    CHEESE,
    MILK,
    arrives,
    net,
    parcels_are,
    refusal_of,
    two_warehouses,
    without_cheese,
)
from tests.workflows.test_pay_again import pay
from workflows.capture import MOST_HOLDS

P, DECLINED = ParcelStatus, refused(ErrorCode.PAYMENT_DECLINED)
WEEK, A_DAY = timedelta(days=7), 86_400


def held_order(**options: Any) -> PlaceOrder:
    return place_order().model_copy(update={"capture_at": CaptureAt.DISPATCH, **options})


def held_in_parts(**options: Any) -> PlaceOrder:
    return held_order(may_split=True, **options)


def paid(world: World, order: PlaceOrder, attempt: int = 1) -> tuple[PaymentStatus, int, int, int]:
    """One attempt: its status; what it took, gave back and holds, in cents."""
    payment = world.payments.payments[order.order_id, attempt]
    return payment.status, payment.captured_minor, payment.refunded_minor, payment.held_minor


def attempts(world: World, order: PlaceOrder) -> int:
    return sum(order_id == order.order_id for order_id, _ in world.payments.payments)


async def timeline(saga: Saga) -> str:
    return "\n".join(
        f"{entry['what']} | {entry['detail']} | {entry['for_staff']}" for entry in await saga.handle.query("timeline")
    )


async def taken(world: World, order: PlaceOrder, minor: int) -> None:
    async def so() -> bool:
        return net(world, order) == minor

    await eventually(so)


async def card_is_due(saga: Saga) -> None:
    async def so() -> bool:
        return any("pay" in wait.updates for wait in (await saga.state()).waits)

    await eventually(so)


async def test_the_money_is_held_until_the_parcel_leaves(begin: Begin) -> None:
    world, order = World(), held_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.CONFIRMED
            assert paid(world, order) == (PaymentStatus.AUTHORIZED, 0, 0, MILK + CHEESE)
            assert "Payment authorised: 23.40 USD" in await timeline(saga)
            await saga.report("DISPATCHED")
            await status_is(saga, OrderStatus.SHIPPED)
            assert paid(world, order) == (PaymentStatus.CAPTURED, MILK + CHEESE, 0, 0)
        await saga.deliver()
    assert (world.calls.count("CapturePayment"), world.calls.count("ReleaseHold")) == (1, 0)
    assert_settled(world, order)


async def test_each_parcel_is_paid_when_it_leaves(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", parcel=2)
            await parcels_are(saga, P.BOOKED, P.SHIPPED)
            assert paid(world, order) == (PaymentStatus.CAPTURED, CHEESE, 0, MILK)
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await saga.report("DELIVERED", parcel=2)
            await saga.handle.result()
    assert world.payments.payments[order.order_id, 1].captures == {"parcel-2": CHEESE, "parcel-1": MILK}
    assert paid(world, order) == (PaymentStatus.CAPTURED, MILK + CHEESE, 0, 0)
    assert_settled(world, order)


async def test_a_parcel_that_is_only_reported_delivered_or_lost_has_left_as_well(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DELIVERED", parcel=1)
            await saga.report("LOST", parcel=2)
            await parcels_are(saga, P.DELIVERED, P.UNDELIVERED)
            assert paid(world, order) == (PaymentStatus.CAPTURED, MILK + CHEESE, 0, 0)
            await saga.update("decide_parcel", ANN | {"choice": "refund", "parcel": 2})
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert paid(world, order) == (PaymentStatus.CAPTURED, MILK + CHEESE, CHEESE, 0)


@pytest.mark.parametrize("why", ["order", "payment"])
async def test_what_needs_a_review_has_one_and_nothing_is_taken_after_it(begin: Begin, why: str) -> None:
    world, order = World(), held_order(needs_review=why == "order")
    if why == "payment":
        world.payments.review = ("too much in a day",)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.IN_REVIEW
            await saga.update("approve", ANN)
            await status_is(saga, OrderStatus.CONFIRMED)
            assert paid(world, order) == (PaymentStatus.AUTHORIZED, 0, 0, MILK + CHEESE)
        await saga.deliver()
    assert_settled(world, order)


async def test_what_the_provider_flags_is_looked_at_before_any_of_it_is_taken(begin: Begin) -> None:
    world, order = World(), held_order()
    world.payments.bank.flags = True
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.IN_REVIEW
            await saga.update("approve", ANN)
            await status_is(saga, OrderStatus.CONFIRMED)
            assert paid(world, order) == (PaymentStatus.AUTHORIZED, 0, 0, MILK + CHEESE)
        await saga.deliver()
    assert_settled(world, order)


async def test_who_cancels_before_it_leaves_has_paid_nothing(begin: Begin) -> None:
    world, order = World(), held_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
        await saga.handle.result()
    assert (reply["status"], float(reply["refunded"]["amount"])) == (OrderStatus.CANCELLED, 0)
    assert paid(world, order) == (PaymentStatus.VOIDED, 0, 0, 0)
    assert_settled(world, order)


async def test_what_is_called_off_before_it_leaves_is_never_taken_and_nothing_goes_back(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.shipping.move(order.order_id, 1, ShipmentStatus.DISPATCHED)
            reply = await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
            assert float(reply["refunded"]["amount"]) == 0
            await parcels_are(saga, P.BOOKED, P.CANCELLED)
            assert "Parcel 2 cancelled; refunded 0.00 USD" in await timeline(saga)
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert paid(world, order) == (PaymentStatus.CAPTURED, MILK, 0, 0)
    assert world.orders.records[order.order_id].refunded in (None, order.total - order.total)


async def test_the_last_one_to_be_called_off_lets_go_of_the_rest(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await parcels_are(saga, P.DELIVERED, P.BOOKED)
            await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert paid(world, order) == (PaymentStatus.CAPTURED, MILK, 0, 0)


async def test_a_lost_order_gives_back_what_was_taken(begin: Begin) -> None:
    world, order = World(), held_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "LOST")
            await status_is(saga, OrderStatus.UNDELIVERED)
            await saga.update("decide_parcel", ANN | {"choice": "refund"})
            state = await saga.handle.result()
    assert state.status == OrderStatus.REFUNDED
    assert world.orders.records[order.order_id].refunded == order.total
    assert_settled(world, order)


async def test_what_is_sent_again_is_paid_once_and_gives_back_what_was_paid(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "LOST", parcel=2)
            await parcels_are(saga, P.BOOKED, P.UNDELIVERED)
            await saga.update("decide_parcel", ANN | {"choice": "resend", "parcel": 2})
            await parcels_are(saga, P.BOOKED, P.RESENT, P.BOOKED)
            await saga.report("DISPATCHED", "LOST", parcel=3)
            await parcels_are(saga, P.BOOKED, P.RESENT, P.UNDELIVERED)
            assert net(world, order) == CHEESE
            await saga.update("decide_parcel", ANN | {"choice": "refund", "parcel": 3})
            await parcels_are(saga, P.BOOKED, P.RESENT, P.REFUNDED)
            assert net(world, order) == 0
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await saga.handle.result()
    assert net(world, order) == MILK
    assert attempts(world, order) == 1


async def test_a_free_parcel_takes_nothing(begin: Begin) -> None:
    [milk, cheese] = place_order(priced=True).lines
    assert milk.amounts
    free = milk.model_copy(
        update={"amounts": milk.amounts.model_copy(update={"items": 0, "discount": 0, "shipping": 0, "tax": 0})}
    )
    world, order = two_warehouses(), held_in_parts(lines=(free, cheese), total=place_order().lines[1].unit_price)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.handle.result()
    assert world.calls.count("CapturePayment") == 1
    assert paid(world, order) == (PaymentStatus.CAPTURED, CHEESE, 0, 0)


# ── What was held is gone ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_provider_that_takes_only_once_is_asked_anew_for_the_rest_with_the_same_card(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts()
    world.payments.bank.multi_capture = False
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.handle.result()
    assert [paid(world, order, attempt)[1:] for attempt in (1, 2)] == [(MILK, 0, 0), (CHEESE, 0, 0)]
    assert_settled(world, order)


async def test_a_charge_that_is_only_held_because_much_was_bought_is_taken_all_the_same(begin: Begin) -> None:
    world, order = World(), held_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.payments.expire(order.order_id, 1)
            world.payments.review = ("too much in a day",)
        await saga.deliver()
    assert paid(world, order, 2) == (PaymentStatus.CAPTURED, MILK + CHEESE, 0, 0)
    assert_settled(world, order)


async def test_what_was_taken_by_two_attempts_goes_back_by_both(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts()
    world.payments.bank.multi_capture = False
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            for parcel in (1, 2):
                await saga.report("DISPATCHED", "LOST", parcel=parcel)
            await parcels_are(saga, P.UNDELIVERED, P.UNDELIVERED)
            await saga.update("decide_parcel", ANN | {"choice": "refund", "parcel": 1})
            await parcels_are(saga, P.REFUNDED, P.UNDELIVERED)
            await saga.update("decide_parcel", ANN | {"choice": "refund", "parcel": 2})
            await saga.handle.result()
    assert world.orders.records[order.order_id].refunded == order.total
    assert_settled(world, order)


async def test_a_card_that_is_declined_for_what_has_left_is_asked_to_be_another(begin: Begin) -> None:
    world, order = World(), held_order(pay_again_seconds=900)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.payments.expire(order.order_id, 1)
            world.before["ProcessPayment"] = [DECLINED] * 2
            await saga.report("DISPATCHED", "DELIVERED")
            await status_is(saga, OrderStatus.DELIVERED)
            [wait] = (await saga.state()).waits
            assert (wait.part, wait.who, wait.updates) == ("payment", (Actor.CUSTOMER,), ("pay",))
            assert world.orders.advances[-1].pay_until == wait.until
            again = await pay(saga, "tok_no")
            assert (again.code, again.pay_until) == (ErrorCode.PAYMENT_DECLINED, wait.until)
            assert (await pay(saga, "tok_yes")).code is None
        await saga.handle.result()
    assert paid(world, order, 4) == (PaymentStatus.CAPTURED, MILK + CHEESE, 0, 0)
    assert world.orders.advances[-1].pay_until is None
    assert_settled(world, order)


async def test_nobody_pays_for_what_has_left_and_it_stays_owed(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts(pay_again_seconds=900)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["CapturePayment"] = [refused(ErrorCode.NOT_HELD)]
            world.before["ProcessPayment"] = [DECLINED]
            await saga.report("DISPATCHED", parcel=1)
            await card_is_due(saga)
        await saga.env.fast_forward(saga.handle, 960)
        with saga.env.with_time_skipping_disabled():

            async def given_up() -> bool:
                return bool((await saga.state()).given_up)

            await eventually(given_up)
            assert "5.40 USD were not paid" in await timeline(saga)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.report("DELIVERED", parcel=1)
            state = await saga.handle.result()
    assert state.status == OrderStatus.COMPLETED
    assert state.given_up == ("capture 5.40 USD of parcel 1: nobody paid with another card in time",)
    assert net(world, order) == CHEESE
    assert world.payments.held(order.order_id) == 0


async def test_what_is_given_back_need_not_be_paid_any_more(begin: Begin) -> None:
    world, order = two_warehouses(), held_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.payments.expire(order.order_id, 1)
            world.before["ProcessPayment"] = [DECLINED]
            await saga.report("DISPATCHED", "LOST", parcel=1)
            await card_is_due(saga)
            await parcels_are(saga, P.UNDELIVERED, P.BOOKED)
            await saga.update("decide_parcel", ANN | {"choice": "refund", "parcel": 1})
            await parcels_are(saga, P.REFUNDED, P.BOOKED)
            assert await refusal_of(saga, "pay", {"payment_token": "tok_late"}) == ErrorCode.PAYMENT_NOT_DUE
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.handle.result()
    assert net(world, order) == CHEESE


# ── It is held anew ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def waiting(begin_at: World, order: PlaceOrder, saga: Saga) -> None:
    """Its first parcel has arrived; the goods of the other one are still awaited."""
    begin_at.payments.bank.held_until = datetime.now(UTC) + WEEK
    await saga.place()
    await saga.report("DISPATCHED", "DELIVERED", parcel=1)
    await parcels_are(saga, P.DELIVERED, P.AWAITED)
    assert paid(begin_at, order) == (PaymentStatus.CAPTURED, MILK, 0, CHEESE)


async def test_what_is_held_is_held_anew_before_the_provider_lets_go(begin: Begin) -> None:
    world, order = without_cheese(), held_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await waiting(world, order, saga)
            world.payments.bank.held_until = datetime.now(UTC) + 2 * WEEK
        await saga.env.fast_forward(saga.handle, timedelta(days=6.6))
        with saga.env.with_time_skipping_disabled():

            async def renewed() -> bool:
                return attempts(world, order) == 2 and paid(world, order)[3] == 0

            await eventually(renewed)
            assert paid(world, order, 2) == (PaymentStatus.AUTHORIZED, 0, 0, CHEESE)
            await arrives(saga, world)
            await parcels_are(saga, P.DELIVERED, P.BOOKED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.handle.result()
    assert [paid(world, order, attempt)[1:] for attempt in (1, 2)] == [(MILK, 0, 0), (CHEESE, 0, 0)]
    assert_settled(world, order)


async def test_what_was_held_anew_often_is_charged_when_it_leaves(begin: Begin) -> None:
    """There are only so many attempts to pay: nobody is asked for a card that could not be tried any more."""
    world, order = without_cheese(), held_in_parts(when_short=WhenShort.WAIT)
    ends = [datetime.now(UTC) + number * WEEK for number in range(2, 40)]

    def for_another_week() -> None:
        world.payments.bank.held_until = ends.pop(0)

    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await waiting(world, order, saga)
            world.before["ProcessPayment"] = [for_another_week] * len(ends)
        await saga.env.fast_forward(saga.handle, 20 * WEEK)
        with saga.env.with_time_skipping_disabled():

            async def let_go() -> bool:
                return not world.payments.held(order.order_id)

            await eventually(let_go)
            assert attempts(world, order) == MOST_HOLDS
            assert f"The payment is not held any more | None | it was held {MOST_HOLDS} times" in await timeline(saga)
            await arrives(saga, world)
            await parcels_are(saga, P.DELIVERED, P.BOOKED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.handle.result()
    assert paid(world, order, MOST_HOLDS + 1)[1:] == (CHEESE, 0, 0)
    assert_settled(world, order)


async def test_a_card_that_has_expired_meanwhile_is_replaced_before_anything_is_booked(begin: Begin) -> None:
    world, order = without_cheese(), held_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await waiting(world, order, saga)
            world.payments.bank.held_until = None
            world.before["ProcessPayment"] = [DECLINED]
        await saga.env.fast_forward(saga.handle, timedelta(days=6.6))
        with saga.env.with_time_skipping_disabled():
            await card_is_due(saga)
            waits = {wait.part: wait for wait in (await saga.state()).waits}
            assert (waits["payment"].then, waits["payment"].updates) == ("what has not left is called off", ("pay", "cancel"))
            await arrives(saga, world)
            await parcels_are(saga, P.DELIVERED, P.RESERVED)
            assert (await pay(saga, "tok_new")).code is None
            await parcels_are(saga, P.DELIVERED, P.BOOKED)
            assert paid(world, order)[3] == 0
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.handle.result()
    assert paid(world, order, 3) == (PaymentStatus.CAPTURED, CHEESE, 0, 0)
    assert_settled(world, order)


async def test_nobody_has_another_card_and_what_has_not_left_is_called_off(begin: Begin) -> None:
    world, order = without_cheese(), held_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await waiting(world, order, saga)
            world.before["ProcessPayment"] = [DECLINED]
        await saga.env.fast_forward(saga.handle, timedelta(days=6.6))
        with saga.env.with_time_skipping_disabled():
            await card_is_due(saga)
        await saga.env.fast_forward(saga.handle, timedelta(days=1))
        state = await saga.handle.result()
        told = await timeline(saga)
    assert state.status == OrderStatus.COMPLETED
    assert "Parcel 2 cancelled; refunded 0.00 USD | No card could be charged for it." in told
    assert net(world, order) == MILK
    assert world.payments.held(order.order_id) == 0


async def test_an_order_of_which_nothing_has_left_is_cancelled_then(begin: Begin) -> None:
    world, order = World(), held_order(dispatch_seconds=30 * A_DAY)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            world.payments.bank.held_until = datetime.now(UTC) + WEEK
            await saga.place()
            world.before["ProcessPayment"] = [DECLINED]
        await saga.env.fast_forward(saga.handle, timedelta(days=8))
        state = await saga.handle.result()
    assert (state.status, state.detail) == (OrderStatus.CANCELLED, "No card could be charged for it.")
    assert_settled(world, order)


async def test_a_parcel_that_leaves_while_another_card_is_asked_for_is_taken_of_what_is_still_held(begin: Begin) -> None:
    world, order = World(), held_order(dispatch_seconds=30 * A_DAY)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            world.payments.bank.held_until = datetime.now(UTC) + WEEK
            await saga.place()
            world.before["ProcessPayment"] = [DECLINED]
        await saga.env.fast_forward(saga.handle, timedelta(days=6.6))
        with saga.env.with_time_skipping_disabled():
            await card_is_due(saga)
            await saga.report("DISPATCHED")
            await status_is(saga, OrderStatus.SHIPPED)
            assert await refusal_of(saga, "pay", {"payment_token": "tok_late"}) == ErrorCode.PAYMENT_NOT_DUE
            await saga.report("DELIVERED")
            await saga.handle.result()
    assert paid(world, order) == (PaymentStatus.CAPTURED, MILK + CHEESE, 0, 0)
    assert world.orders.advances[-1].pay_until is None
    assert_settled(world, order)


async def test_who_cancels_after_it_was_held_anew_has_paid_nothing(begin: Begin) -> None:
    world, order = World(), held_order(dispatch_seconds=30 * A_DAY)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            world.payments.bank.held_until = datetime.now(UTC) + WEEK
            await saga.place()
            world.payments.bank.held_until = None
        await saga.env.fast_forward(saga.handle, timedelta(days=6.6))
        with saga.env.with_time_skipping_disabled():
            assert paid(world, order, 2) == (PaymentStatus.AUTHORIZED, 0, 0, MILK + CHEESE)
            await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
        await saga.handle.result()
    assert paid(world, order, 2) == (PaymentStatus.VOIDED, 0, 0, 0)
    assert_settled(world, order)


# ── Races, other runs ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_cancels_while_the_price_is_being_taken_is_told_that_it_has_left(begin: Begin) -> None:
    world, order = World(), held_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["CapturePayment"] = [unavailable] * 3
            world.shipping.move(order.order_id, 1, ShipmentStatus.DISPATCHED)
            await saga.report("DISPATCHED")

            async def asked() -> bool:
                return "CapturePayment" in world.calls

            await eventually(asked)
            cancelling = asyncio.create_task(refusal_of(saga, "cancel", {"reason": "too late", "requested_by": "customer"}))
            assert await cancelling == ErrorCode.ALREADY_DISPATCHED
        await saga.deliver()
    assert world.payments.payments[order.order_id, 1].captures == {"parcel-1": MILK + CHEESE}
    assert_settled(world, order)


async def test_what_is_split_off_is_paid_by_itself(begin: Begin) -> None:
    world, order = World(), held_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.update("split_parcel", ANN | {"parcel": 1, "lines": [{"line_id": 1, "quantity": 1}]})
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await taken(world, order, MILK // 2)
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await saga.handle.result()
    assert world.payments.payments[order.order_id, 1].captures == {"parcel-2": MILK // 2, "parcel-1": MILK // 2 + CHEESE}
    assert_settled(world, order)


async def test_another_run_knows_what_is_held_and_what_was_taken() -> None:
    world, order = without_cheese(), held_in_parts(when_short=WhenShort.WAIT)
    async with skipping_time(long=60) as env, playing(env, world, order) as saga:
        with env.with_time_skipping_disabled():
            await waiting(world, order, saga)
            world.payments.bank.held_until = datetime.now(UTC) + 2 * WEEK
            first = (await saga.handle.describe()).run_id
            for _ in range(40):
                await saga.handle.signal("stock_updated", {"parcel": 3, "status": "AWAITED"})

            async def in_another_run() -> bool:
                return (await saga.handle.describe()).run_id != first

            await eventually(in_another_run)
        await env.fast_forward(saga.handle, timedelta(days=6.6))
        with env.with_time_skipping_disabled():

            async def renewed() -> bool:
                return attempts(world, order) == 2

            await eventually(renewed)
            await arrives(saga, world)
            await parcels_are(saga, P.DELIVERED, P.BOOKED)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.handle.result()
    assert [paid(world, order, attempt)[1:] for attempt in (1, 2)] == [(MILK, 0, 0), (CHEESE, 0, 0)]
    assert_settled(world, order)


async def test_a_repaired_order_goes_on_with_what_its_newest_attempt_holds(begin: Begin) -> None:
    world, order = World(), held_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await saga.handle.terminate()
            record = world.orders.records[order.order_id]
            so_far = OrderSoFar(status=OrderStatus.CONFIRMED, reached=len(record.history), warehouse_id="410")
            await saga.start(OrderRun(**dict(order), so_far=so_far))
        await saga.deliver()
    assert paid(world, order) == (PaymentStatus.CAPTURED, MILK + CHEESE, 0, 0)
    assert_settled(world, order)


async def test_a_card_is_in_no_timeline_and_no_state(begin: Begin) -> None:
    world, order = World(), held_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.payments.expire(order.order_id, 1)
            world.before["ProcessPayment"] = [DECLINED]
            await saga.report("DISPATCHED")
            await card_is_due(saga)
            await pay(saga, "tok_secret")
            seen = await timeline(saga) + (await saga.state()).model_dump_json()
            told = "".join(advance.model_dump_json() for advance in world.orders.advances)
        await saga.deliver()
    assert "tok_" not in seen + told


# ── Refunds that fail late ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_refund_that_has_failed_since_is_noted_once(begin: Begin) -> None:
    failed = {"attempt": 1, "key": "parcel-2", "amount": {"amount": "18.00", "currency": "USD"}, "failure": "account_closed"}
    world, order = two_warehouses(), place_order(may_split=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            for _ in range(2):
                await saga.handle.signal("refund_failed", failed)
            state = await saga.state()
            assert (await timeline(saga)).count("A refund has not arrived") == 1
            await saga.report("DISPATCHED", "DELIVERED", parcel=1)
            await saga.report("DISPATCHED", "DELIVERED", parcel=2)
            await saga.handle.result()
    assert state.given_up == ("refund parcel-2 of attempt 1: 18.00 USD did not arrive (account_closed)",)

"""A declined card keeps the goods for a while, and another card may be tried: never two live charges, never a wrong last word."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from contracts.errors import ErrorCode
from contracts.inventory import ReservationStatus
from contracts.orders import Actor, OrderStatus, Outcome, PlaceOrder
from contracts.payments import PaymentStatus
from testing.model import World
from testing.model.world import refused, unavailable
from testing.sagas import Saga, assert_settled, place_order
from tests.conftest import eventually
from tests.workflows.conftest import Begin

DECLINED = refused(ErrorCode.PAYMENT_DECLINED)
A_WHILE = 900


def patient_order(**options: Any) -> PlaceOrder:
    """Its shop waits a quarter of an hour for another card."""
    return place_order(**options).model_copy(update={"pay_again_seconds": A_WHILE})


async def pay(saga: Saga, card: str = "tok_other") -> Outcome:
    return Outcome.model_validate(await saga.handle.execute_update("pay", {"payment_token": card}, result_type=Outcome))


async def test_another_card_confirms_the_order_as_the_next_attempt(begin: Begin) -> None:
    world, order = World(), patient_order()
    world.before["ProcessPayment"] = [DECLINED]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            first = await saga.place()
            state = await saga.state()
            second = await pay(saga)
        await saga.deliver()
    assert (first.status, first.code, first.is_definite) == (OrderStatus.PAYMENT_DUE, ErrorCode.PAYMENT_DECLINED, False)
    assert first.pay_until is not None
    [wait] = state.waits
    assert (wait.part, wait.who, wait.until, wait.updates) == ("payment", (Actor.CUSTOMER,), first.pay_until, ("pay", "cancel"))
    assert (second.status, second.code) == (OrderStatus.CONFIRMED, None)
    assert world.payments.payments[order.order_id, 2].status == PaymentStatus.CAPTURED
    assert world.orders.records[order.order_id].history[1:4] == [
        OrderStatus.RESERVED,
        OrderStatus.PAYMENT_DUE,
        OrderStatus.PAID,
    ]
    assert_settled(world, order)


async def test_a_declined_order_without_patience_ends_at_once(begin: Begin) -> None:
    world, order = World(), place_order()
    world.before["ProcessPayment"] = [DECLINED]
    async with begin(world, order) as saga:
        outcome = await saga.place()
        await saga.handle.result()
    assert (outcome.code, outcome.is_definite) == (ErrorCode.PAYMENT_DECLINED, True)
    assert_settled(world, order)


async def test_without_another_card_in_time_the_order_ends_for_the_reason_that_was_told(begin: Begin) -> None:
    world, order = World(), patient_order()
    world.before["ProcessPayment"] = [DECLINED]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            assert world.inventory.promises[order.order_id, 1].status == ReservationStatus.RESERVED
        await saga.env.fast_forward(saga.handle, A_WHILE + 60)
        state = await saga.handle.result()
    assert (state.status, state.code) == (OrderStatus.CANCELLED, ErrorCode.PAYMENT_DECLINED)
    record = world.orders.records[order.order_id]
    assert record.outcome is not None
    assert (record.outcome.code, record.outcome.is_definite) == (ErrorCode.PAYMENT_DECLINED, True)
    assert_settled(world, order)


async def test_cards_that_are_declined_do_not_prolong_the_time(begin: Begin) -> None:
    world, order = World(), patient_order()
    world.before["ProcessPayment"] = [DECLINED] * 3
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            first = await saga.place()
            again = [await pay(saga), await pay(saga)]
            assert [outcome.pay_until for outcome in again] == [first.pay_until] * 2
            last = await pay(saga)
        await saga.deliver()
    assert last.status == OrderStatus.CONFIRMED
    assert world.payments.payments[order.order_id, 4].status == PaymentStatus.CAPTURED
    assert_settled(world, order)


async def test_who_cancels_meanwhile_has_it_cancelled(begin: Begin) -> None:
    world, order = World(), patient_order()
    world.before["ProcessPayment"] = [DECLINED]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await saga.handle.execute_update("cancel", {"reason": "no other card", "requested_by": "customer"})
        state = await saga.handle.result()
    assert reply["status"] == OrderStatus.CANCELLED
    assert state.code == ErrorCode.CANCELLED_BY_REQUEST
    assert_settled(world, order)


async def test_a_card_that_may_have_been_charged_when_the_order_is_cancelled_is_given_back(begin: Begin) -> None:
    world, order = World(), patient_order()
    world.before["ProcessPayment"] = [DECLINED]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.after["ProcessPayment"] = [unavailable] * 1000  # charged, and nobody hears of it
            paying = asyncio.create_task(pay(saga))

            async def charged() -> bool:
                return (order.order_id, 2) in world.payments.payments

            await eventually(charged)
            await saga.handle.execute_update("cancel", {"reason": "enough", "requested_by": "customer"})
            told = await paying
        await saga.handle.result()
    assert told.code == ErrorCode.CANCELLED_BY_REQUEST
    assert world.payments.payments[order.order_id, 2].status == PaymentStatus.REFUNDED
    assert_settled(world, order)


@pytest.mark.parametrize("due", [True, False])
async def test_a_card_is_taken_only_while_one_is_due(begin: Begin, due: bool) -> None:
    world, order = World(), patient_order()
    if due:
        world.before["ProcessPayment"] = [DECLINED, *[unavailable] * 4]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            first = asyncio.create_task(pay(saga)) if due else None

            async def tried() -> bool:
                return world.calls.count("ProcessPayment") > 1

            if due:
                await eventually(tried)
            with pytest.raises(WorkflowUpdateFailedError) as refusal:
                await pay(saga, "tok_third")
            assert isinstance(refusal.value.cause, ApplicationError)
            assert refusal.value.cause.type == ErrorCode.PAYMENT_NOT_DUE
            if first:
                assert (await first).status == OrderStatus.CONFIRMED
        await saga.deliver()
    assert (order.order_id, 3) not in world.payments.payments
    assert_settled(world, order)


async def test_a_held_order_pays_with_the_card_that_was_taken(begin: Begin) -> None:
    world, order = World(), patient_order(needs_review=True)
    world.before["ProcessPayment"] = [DECLINED]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            assert (await pay(saga)).status == OrderStatus.IN_REVIEW
            await saga.update("approve", {"by": "ann", "reason": "known"})
        await saga.deliver()
    assert world.payments.payments[order.order_id, 2].status == PaymentStatus.CAPTURED
    assert_settled(world, order)

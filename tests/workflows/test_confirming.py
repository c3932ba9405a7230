"""A payment that the customer has to confirm, e.g. at the bank: the goods are kept until it is, nothing is taken of an order that
comes to nothing, and no message is needed that may be lost."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from contracts.errors import ErrorCode
from contracts.inventory import ReservationStatus
from contracts.orders import Actor, CaptureAt, OrderStatus, Outcome, PlaceOrder
from contracts.payment_actions import ActionDue, ActionKind
from contracts.payments import PaymentStatus
from testing.model import World
from testing.model.payment import ACTIONS
from testing.model.world import refused, unavailable
from testing.sagas import Saga, assert_settled, place_order, playing, skipping_time
from tests.conftest import eventually
from tests.workflows.conftest import Begin

A_WHILE = 900
SHOP = "https://shop.example/thanks"
ANN = {"by": "ann", "reason": "looked at it"}


def careful_bank(kind: ActionKind = ActionKind.REDIRECT) -> World:
    """It asks the customer before it pays."""
    world = World()
    world.payments.bank.asks = kind
    return world


def order_of_somebody(**options: Any) -> PlaceOrder:
    """Its customer is there, and can be asked."""
    return place_order(return_url=SHOP, action_seconds=A_WHILE, **options)


async def told(saga: Saga, attempt: int = 1) -> None:
    """What the payment service tells when the payment has moved on."""
    await saga.handle.signal("payment_answered", {"attempt": attempt})


async def act(world: World, saga: Saga, *, confirms: bool = True, attempt: int = 1) -> None:
    """What the customer does, and the saga hears of."""
    world.payments.act(saga.order.order_id, attempt, confirms=confirms)
    await told(saga, attempt)


async def pay(saga: Saga, **request: Any) -> Outcome:
    paid = await saga.handle.execute_update("pay", {"payment_token": "tok_other", **request}, result_type=Outcome)
    return Outcome.model_validate(paid)


async def reaches(saga: Saga, status: OrderStatus) -> None:
    async def there() -> bool:
        return (await saga.state()).status == status

    await eventually(there)


def action_of(world: World, order: PlaceOrder) -> ActionDue | None:
    """What the record was told last that the customer has to do."""
    return world.orders.records[order.order_id].action


def status_of(world: World, order: PlaceOrder, attempt: int = 1) -> PaymentStatus:
    return world.payments.payments[order.order_id, attempt].status


@pytest.mark.parametrize("kind", ActionKind)
async def test_what_the_customer_confirms_is_taken_and_the_order_goes_on(begin: Begin, kind: ActionKind) -> None:
    world, order = careful_bank(kind), order_of_somebody()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            outcome = await saga.place()
            state, action = await saga.state(), action_of(world, order)
            await act(world, saga)
            await reaches(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
        timeline = await saga.handle.query("timeline")
    assert (outcome.status, outcome.code, outcome.is_definite) == (OrderStatus.ACTION_REQUIRED, None, False)
    assert action is not None
    assert action.model_dump(exclude={"until"}) == ACTIONS[kind].model_dump()
    [wait] = state.waits
    assert (wait.part, wait.who, wait.until, wait.updates) == ("payment", (Actor.CUSTOMER,), action.until, ("cancel",))
    record = world.orders.records[order.order_id]
    assert record.history[1:4] == [OrderStatus.RESERVED, OrderStatus.ACTION_REQUIRED, OrderStatus.PAID]
    assert record.action is None
    words = {ActionKind.REDIRECT: "confirm the payment", ActionKind.TRANSFER: "transfer the money"}[kind]
    assert any(f"The customer has to {words} by" in entry["what"] for entry in timeline)
    assert_settled(world, order)


async def test_where_nobody_is_there_to_confirm_it_the_card_is_declined(begin: Begin) -> None:
    world, order = careful_bank(), place_order()
    async with begin(world, order) as saga:
        assert (await saga.place()).code == ErrorCode.PAYMENT_DECLINED
        await saga.handle.result()
    assert_settled(world, order)


async def test_who_does_not_come_has_the_order_cancelled_and_paid_nothing(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            assert world.inventory.promises[order.order_id, 1].status == ReservationStatus.RESERVED
        await saga.env.fast_forward(saga.handle, A_WHILE + 60)
        state = await saga.handle.result()
    assert (state.status, state.code) == (OrderStatus.CANCELLED, ErrorCode.PAYMENT_NOT_CONFIRMED)
    record = world.orders.records[order.order_id]
    assert record.outcome is not None
    assert (record.outcome.code, record.outcome.is_definite) == (ErrorCode.PAYMENT_NOT_CONFIRMED, True)
    assert status_of(world, order) == PaymentStatus.VOIDED
    assert_settled(world, order)


async def test_at_the_deadline_it_is_asked_once_more_in_case_the_word_was_lost(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.payments.act(order.order_id, 1, confirms=True)  # nobody tells
        await saga.env.fast_forward(saga.handle, A_WHILE + 60)
        with saga.env.with_time_skipping_disabled():
            await reaches(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    assert_settled(world, order)


async def test_who_confirms_while_the_order_is_undone_gets_the_money_back(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody()
    world.payments.bank.confirms_late = True
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
        await saga.env.fast_forward(saga.handle, A_WHILE + 60)
        state = await saga.handle.result()
    assert (state.status, state.code) == (OrderStatus.CANCELLED, ErrorCode.PAYMENT_NOT_CONFIRMED)
    assert status_of(world, order) == PaymentStatus.REFUNDED
    assert world.orders.records[order.order_id].refunded == order.total
    assert_settled(world, order)


async def test_words_that_change_nothing_keep_it_waiting_and_do_not_prolong_it(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            action = action_of(world, order)
            await told(saga, attempt=2)
            for word in (2, 3):
                await told(saga)

                async def asked(times: int = word) -> bool:
                    return world.calls.count("ProcessPayment") >= times

                await eventually(asked)
            assert (await saga.state()).status == OrderStatus.ACTION_REQUIRED
        await saga.env.fast_forward(saga.handle, A_WHILE + 60)
        state = await saga.handle.result()
    assert state.code == ErrorCode.PAYMENT_NOT_CONFIRMED
    assert action is not None
    [ended] = [advance for advance in world.orders.advances if OrderStatus.CANCELLING in advance.path]
    assert world.calls.count("ProcessPayment") == 4
    assert ended.code == ErrorCode.PAYMENT_NOT_CONFIRMED
    assert_settled(world, order)


async def test_another_page_to_confirm_it_on_is_told(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            before = action_of(world, order)
            paid, other = world.payments.payments[order.order_id, 1], "https://bank.example/other"
            paid.action = ACTIONS[ActionKind.REDIRECT].model_copy(update={"url": other})
            await told(saga)

            async def is_told() -> bool:
                action = action_of(world, order)
                return action is not None and action.url == other

            await eventually(is_told)
            after = action_of(world, order)
            await act(world, saga)
            await reaches(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    assert before is not None
    assert after is not None
    assert after.until == before.until
    assert_settled(world, order)


async def test_who_refuses_to_confirm_it_may_bring_another_card(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody(pay_again_seconds=A_WHILE)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await act(world, saga, confirms=False)
            await reaches(saga, OrderStatus.PAYMENT_DUE)
            second = await pay(saga, return_url="https://shop.example/again")
            assert (second.status, second.code) == (OrderStatus.ACTION_REQUIRED, None)
            await act(world, saga, attempt=2)
            await reaches(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    assert world.orders.records[order.order_id].history[1:6] == [
        OrderStatus.RESERVED,
        OrderStatus.ACTION_REQUIRED,
        OrderStatus.PAYMENT_DUE,
        OrderStatus.ACTION_REQUIRED,
        OrderStatus.PAID,
    ]
    assert status_of(world, order, 2) == PaymentStatus.CAPTURED
    assert_settled(world, order)


async def test_without_patience_a_refusal_at_the_bank_ends_the_order(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await act(world, saga, confirms=False)
        state = await saga.handle.result()
    assert (state.status, state.code) == (OrderStatus.CANCELLED, ErrorCode.PAYMENT_DECLINED)
    assert_settled(world, order)


async def test_another_card_may_have_to_be_confirmed_and_is_declined_no_later_than_was_told(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody(pay_again_seconds=A_WHILE)
    world.before["ProcessPayment"] = [refused(ErrorCode.PAYMENT_DECLINED)]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            first = await saga.place()
            assert (await pay(saga)).status == OrderStatus.ACTION_REQUIRED
            await act(world, saga, confirms=False, attempt=2)
            await reaches(saga, OrderStatus.PAYMENT_DUE)
            [wait] = (await saga.state()).waits
            assert wait.until == first.pay_until
            world.payments.bank.asks = None
            assert (await pay(saga)).status == OrderStatus.CONFIRMED
        await saga.deliver()
    assert_settled(world, order)


async def test_no_other_card_is_taken_while_one_is_to_be_confirmed(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody(pay_again_seconds=A_WHILE)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            with pytest.raises(WorkflowUpdateFailedError) as refusal:
                await pay(saga)
            assert isinstance(refusal.value.cause, ApplicationError)
            assert refusal.value.cause.type == ErrorCode.PAYMENT_NOT_DUE
            await act(world, saga)
            await reaches(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    assert_settled(world, order)


@pytest.mark.parametrize("late", [False, True])
async def test_who_cancels_meanwhile_has_it_cancelled(begin: Begin, late: bool) -> None:
    world, order = careful_bank(), order_of_somebody()
    world.payments.bank.confirms_late = late
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await saga.handle.execute_update("cancel", {"reason": "no phone", "requested_by": "customer"})
        state = await saga.handle.result()
    assert (reply["status"], state.code) == (OrderStatus.CANCELLED, ErrorCode.CANCELLED_BY_REQUEST)
    assert float(reply["refunded"]["amount"]) == (23.4 if late else 0)
    assert_settled(world, order)


async def test_who_confirms_before_the_answer_has_come_is_heard(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody()

    def confirms() -> None:
        world.payments.act(order.order_id, 1, confirms=True)
        unavailable()

    world.after["ProcessPayment"] = [confirms]
    async with begin(world, order) as saga:
        assert (await saga.place()).status == OrderStatus.CONFIRMED
        await saga.deliver()
    assert_settled(world, order)


@pytest.mark.parametrize("by_rule", [True, False])
async def test_what_is_confirmed_may_be_held_for_review_after_that(begin: Begin, by_rule: bool) -> None:
    world, order = careful_bank(), order_of_somebody(needs_review=by_rule)
    world.payments.bank.flags = not by_rule
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await act(world, saga)
            await reaches(saga, OrderStatus.IN_REVIEW)
            assert status_of(world, order) == (PaymentStatus.AUTHORIZED if by_rule else PaymentStatus.CAPTURED)
            await saga.update("approve", ANN)
            await reaches(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    assert status_of(world, order) == PaymentStatus.CAPTURED
    assert_settled(world, order)


@pytest.mark.parametrize("approves", [True, False])
async def test_what_was_transferred_is_held_for_review_although_it_is_taken(begin: Begin, approves: bool) -> None:
    world, order = careful_bank(ActionKind.TRANSFER), order_of_somebody(needs_review=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await act(world, saga)
            await reaches(saga, OrderStatus.IN_REVIEW)
            assert status_of(world, order) == PaymentStatus.CAPTURED
            await saga.update("approve" if approves else "reject", ANN)
            if approves:
                await reaches(saga, OrderStatus.CONFIRMED)
        if approves:
            await saga.deliver()
        state = await saga.handle.result()
    assert state.status == (OrderStatus.COMPLETED if approves else OrderStatus.CANCELLED)
    assert status_of(world, order) == (PaymentStatus.CAPTURED if approves else PaymentStatus.REFUNDED)
    assert_settled(world, order)


async def test_what_is_taken_as_parcels_leave_is_confirmed_first(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody(capture_at=CaptureAt.DISPATCH)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            assert (await saga.place()).status == OrderStatus.ACTION_REQUIRED
            await act(world, saga)
            await reaches(saga, OrderStatus.CONFIRMED)
            assert status_of(world, order) == PaymentStatus.AUTHORIZED
        await saga.deliver()
    assert status_of(world, order) == PaymentStatus.CAPTURED
    assert_settled(world, order)


async def test_a_saga_that_goes_on_in_another_run_still_knows_what_it_waits_for() -> None:
    world, order = careful_bank(), order_of_somebody(pay_again_seconds=A_WHILE)
    world.before["ProcessPayment"] = [refused(ErrorCode.PAYMENT_DECLINED)]
    async with skipping_time(long=60) as env, playing(env, world, order) as saga:
        with env.with_time_skipping_disabled():
            first = await saga.place()
            await pay(saga, return_url="https://shop.example/again")
            action, run = action_of(world, order), (await saga.handle.describe()).run_id

            async def goes_on() -> bool:
                await told(saga, attempt=2)
                return (await saga.handle.describe()).run_id != run

            await eventually(goes_on)
            assert (await saga.place()).status == OrderStatus.ACTION_REQUIRED
            [wait] = (await saga.state()).waits
            assert action is not None
            assert wait.until == action.until
            await act(world, saga, confirms=False, attempt=2)
            await reaches(saga, OrderStatus.PAYMENT_DUE)
            [wait] = (await saga.state()).waits
            assert wait.until == first.pay_until
            assert (await pay(saga)).status == OrderStatus.ACTION_REQUIRED
            await act(world, saga, attempt=3)
            await reaches(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    cards = {command.attempt: (command.payment_token, command.return_url) for command in world.payments.asked}
    assert cards == {
        2: ("tok_other", "https://shop.example/again"),
        3: ("tok_other", "https://shop.example/again"),
    }
    assert_settled(world, order)


async def test_the_word_may_come_while_the_question_is_asked_again(begin: Begin) -> None:
    world, order = careful_bank(), order_of_somebody()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["ProcessPayment"] = [unavailable] * 3
            await told(saga)

            async def asked() -> bool:
                return world.calls.count("ProcessPayment") > 2

            await eventually(asked)
            await asyncio.gather(act(world, saga), told(saga))
            await reaches(saga, OrderStatus.CONFIRMED)
        await saga.deliver()
    assert_settled(world, order)

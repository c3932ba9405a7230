"""The branches of orders whose customer has to confirm the payment, and of payments that the provider flags."""

from datetime import UTC, datetime
from typing import Any

from cli.branches.one_parcel import flooded
from cli.branches.stage import (
    Branch,
    Play,
    Stage,
    after,
    cancelled,
    delivered,
    reaching,
    reviewed,
    told,
    workflow_cancelled,
)
from contracts.orders import CaptureAt, OrderRun, OrderSoFar, OrderStatus
from contracts.payment_actions import ActionDue, ActionKind
from testing.model import World
from testing.model.payment import ACTIONS
from testing.model.world import WAREHOUSE
from workflows import order_steps


def asking(kind: ActionKind = ActionKind.REDIRECT, *, flags: bool = False) -> World:
    """Its bank asks the customer first."""
    world = World()
    world.payments.bank.asks, world.payments.bank.flags = kind, flags
    return world


def asking_for_a_transfer() -> World:
    return asking(ActionKind.TRANSFER)


def asking_and_flagging() -> World:
    return asking(flags=True)


def flagging() -> World:
    """Its payment provider wants everything to be looked at."""
    world = World()
    world.payments.bank.flags = True
    return world


def answered(attempt: int = 1) -> Play:
    """The payment service tells that the payment has moved on, be it so or not."""

    async def play(stage: Stage) -> None:
        asked = stage.world.calls.count("ProcessPayment")
        await stage.saga.handle.signal("payment_answered", {"attempt": attempt})
        await stage.calls("ProcessPayment", asked + 1)

    return play


def acts(confirms: bool, attempt: int = 1) -> Play:
    """The customer confirms the payment, or refuses to; nobody tells."""

    async def play(stage: Stage) -> None:
        stage.world.payments.act(stage.saga.order.order_id, attempt, confirms=confirms)

    return play


async def on_another_page(stage: Stage) -> None:
    """The bank wants the payment to be confirmed elsewhere."""
    paid = stage.world.payments.payments[stage.saga.order.order_id, 1]
    paid.action = ACTIONS[ActionKind.REDIRECT].model_copy(update={"url": "https://bank.example/other"})


def offered(card: str) -> Play:
    async def play(stage: Stage) -> None:
        argument = {"payment_token": card, "return_url": "https://shop.example/again"}
        await stage.saga.handle.execute_update("pay", argument)

    return play


async def repaired_and_confirmed(stage: Stage) -> None:
    """Its workflow was lost while the payment was to be confirmed."""
    order = stage.saga.order
    charging = order_steps.process_payment(order, order.total, order.payment_token, 1, order.return_url)
    for step in (order_steps.reserve_inventory(order), charging):
        stage.world.handle(step.argument)
    stage.world.orders.accept(order).history += [OrderStatus.RESERVED, OrderStatus.ACTION_REQUIRED]
    action = ActionDue(**dict(ACTIONS[ActionKind.REDIRECT]), until=datetime(2099, 1, 1, tzinfo=UTC))
    so_far = OrderSoFar(status=OrderStatus.ACTION_REQUIRED, reached=3, action=action, warehouse_id=WAREHOUSE)
    await stage.saga.start(OrderRun(**dict(order), so_far=so_far))
    for step_on in (*YES, *GOES_ON):
        await step_on(stage)


S = OrderStatus
HERE: dict[str, Any] = {"return_url": "https://shop.example/thanks"}
PATIENT: dict[str, Any] = {**HERE, "pay_again_seconds": 900}
YES, NO = (acts(True), answered()), (acts(False), answered())
GOES_ON = (reaching(S.CONFIRMED), delivered)

TO_CONFIRM: dict[str, Branch] = {
    "to_confirm": Branch(reviewed(), options=HERE, world=asking, is_open=True),
    "to_confirm_yes": Branch(reviewed(*YES, *GOES_ON), options=HERE, world=asking),
    "to_confirm_no": Branch(reviewed(*NO), options=HERE, world=asking),
    "to_confirm_expired": Branch(reviewed(after(900)), options=HERE, world=asking),
    "to_confirm_untold": Branch(reviewed(acts(True), after(900), *GOES_ON), options=HERE, world=asking),
    "to_confirm_told_for_nothing": Branch(reviewed(answered(), *YES, *GOES_ON), options=HERE, world=asking),
    "to_confirm_elsewhere": Branch(reviewed(on_another_page, answered(), *YES, *GOES_ON), options=HERE, world=asking),
    "to_confirm_cancelled": Branch(reviewed(cancelled), options=HERE, world=asking),
    "to_confirm_workflow_cancelled": Branch(reviewed(workflow_cancelled), options=HERE, world=asking),
    "to_confirm_another_card": Branch(
        reviewed(*NO, reaching(S.PAYMENT_DUE), offered("tok_other"), acts(True, 2), answered(2), *GOES_ON),
        options=PATIENT,
        world=asking,
    ),
    "to_confirm_two_cards_refused": Branch(
        reviewed(
            *NO, reaching(S.PAYMENT_DUE), offered("tok_other"), acts(False, 2), answered(2), reaching(S.PAYMENT_DUE), after(900)
        ),
        options=PATIENT,
        world=asking,
    ),
    "to_confirm_reviewed": Branch(
        reviewed(*YES, reaching(S.IN_REVIEW), told("approve"), *GOES_ON), options=HERE, world=asking_and_flagging
    ),
    "to_confirm_dispatch": Branch(reviewed(*YES, *GOES_ON), options={**HERE, "capture_at": CaptureAt.DISPATCH}, world=asking),
    "to_confirm_long": Branch(reviewed(flooded, *YES, *GOES_ON), options=HERE, world=asking, is_long=True),
    "to_transfer": Branch(reviewed(*YES, *GOES_ON), options=HERE, world=asking_for_a_transfer),
    "repaired_to_confirm": Branch(repaired_and_confirmed, options=HERE, world=asking),
    "flagged_approved": Branch(reviewed(told("approve"), *GOES_ON), world=flagging),
    "flagged_rejected": Branch(reviewed(told("reject")), world=flagging),
    "flagged_dispatch": Branch(reviewed(told("approve"), *GOES_ON), options={"capture_at": CaptureAt.DISPATCH}, world=flagging),
}

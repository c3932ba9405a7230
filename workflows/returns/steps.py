"""The steps of a return's saga: which activity, with what command, under which name. All of them are durable activities."""

from activities.inventory import InventoryActivities
from activities.order import OrderActivities
from activities.payment import PaymentActivities
from activities.shipping import ShippingActivities
from contracts.errors import ErrorCode
from contracts.ids import replacement_id_for
from contracts.inventory import ReceiveReturn
from contracts.money import Money
from contracts.payments import GiveBack
from contracts.returns import AdvanceReturn, PlaceReplacement, Resolution, ReturnAdvanced, ReturnedUnits, ReturnRun
from contracts.shipments import CancelReturnLabel, CreateReturnLabel, ReturnLabel
from temporal.retries import HAS_TO_SUCCEED, OUTSIDE
from workflows.returns.rules import shelved
from workflows.saga import Undo
from workflows.steps import Step

NOT_REPLACED = frozenset(
    {
        ErrorCode.PRODUCT_UNKNOWN,
        ErrorCode.VALIDATION_FAILED,
        ErrorCode.ADDRESS_UNDELIVERABLE,
        ErrorCode.CUSTOMER_FORGOTTEN,
        ErrorCode.CONFLICT,
    }
)
"""Refusals after which the money goes back instead of other goods."""


def create_return_label(run: ReturnRun) -> Step[CreateReturnLabel, ReturnLabel]:
    weight = {line.line_id: line.weight_grams for line in run.order_lines}
    command = CreateReturnLabel(
        order_id=run.order_id,
        number=run.number,
        customer_id=run.customer_id,
        ship_from=run.ship_from,
        warehouse_id=run.warehouse_id,
        weight_grams=max(sum(weight[line.line_id] * line.quantity for line in run.lines), 1),
    )
    return Step(ShippingActivities.create_return_label, command, "Create return label", OUTSIDE)


def cancel_return_label(run: ReturnRun) -> Undo:
    """Once the carrier has the parcel, it comes."""
    command = CancelReturnLabel(order_id=run.order_id, number=run.number, reason="nothing comes by it")
    step = Step(ShippingActivities.cancel_return_label, command, "Cancel return label", HAS_TO_SUCCEED)
    return Undo(step, ends_on=frozenset({ErrorCode.ALREADY_DISPATCHED}))


def receive_return(run: ReturnRun, came: tuple[ReturnedUnits, ...], warehouse_id: str) -> Undo:
    command = ReceiveReturn(order_id=run.order_id, number=run.number, warehouse_id=warehouse_id, lines=shelved(came))
    return Undo(Step(InventoryActivities.receive_return, command, "Receive return", HAS_TO_SUCCEED))


def give_back(command: GiveBack) -> Undo:
    return Undo(Step(PaymentActivities.give_back, command, f"Give back {command.key}", HAS_TO_SUCCEED))


def place_replacement(run: ReturnRun, credit: Money) -> Undo:
    """Other goods, or the same once more. Refused for good, the money goes back instead."""
    is_same = run.resolution == Resolution.RESEND
    command = PlaceReplacement(
        order_id=run.order_id,
        number=run.number,
        replacement_id=replacement_id_for(run.order_id, run.number),
        lines=() if is_same else run.exchange_for,
        units=run.lines if is_same else (),
        credit=credit,
        payment_token=run.payment_token,
    )
    return Undo(Step(OrderActivities.place_replacement, command, "Place replacement", HAS_TO_SUCCEED), ends_on=NOT_REPLACED)


def advance_return(command: AdvanceReturn) -> Step[AdvanceReturn, ReturnAdvanced]:
    return Step(OrderActivities.advance_return, command, "Advance return", HAS_TO_SUCCEED)

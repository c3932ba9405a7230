"""Orders that are amended: each kind, and what stands in the way."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from temporalio.client import WorkflowUpdateFailedError

from cli.branches.parts import arriving, parcels, two_warehouses
from cli.branches.stage import Branch, Play, Stage, cancelled, then
from contracts.errors import ErrorCode
from contracts.money import Money
from contracts.orders import Amendment, CaptureAt
from contracts.parcels import ParcelStatus
from contracts.pricing import LineAmounts
from contracts.shipments import ShipmentStatus
from testing.model.world import refused

P = ParcelStatus


def amended(number: int = 1, *, owed: int | None = None, line1: str | None = None, **units: int) -> Play:
    """So many units of products of the order. `owed`: what it costs before, in cents."""

    async def play(stage: Stage) -> None:
        order = stage.saga.order
        lines = [
            line.model_copy(
                update={
                    "line_id": line.line_id or place,
                    "quantity": quantity,
                    "amounts": LineAmounts(items=line.unit_price.minor * quantity),
                }
            )
            for place, line in enumerate(order.lines, start=1)
            if (quantity := units.get(line.product_id, line.quantity))
        ]
        wanted = Amendment(
            number=number,
            lines=tuple(lines),
            total=Money.from_minor(sum(line.total.minor for line in lines), order.total.currency),
            ship_to=order.ship_to.model_copy(update={"line1": line1}) if line1 else order.ship_to,
            owed_before=order.total if owed is None else Money.from_minor(owed, order.total.currency),
            by="customer",
        )
        stage.world.orders.ask_amendment(order.order_id, wanted)
        with suppress(WorkflowUpdateFailedError):
            await stage.saga.handle.execute_update("amend", wanted)

    return play


def meeting(command: str, code: ErrorCode) -> Play:
    """The next call of this kind is refused."""

    async def play(stage: Stage) -> None:
        stage.world.before[command] = [refused(code)]

    return play


async def dispatched_unheard(stage: Stage) -> None:
    """The warehouse is faster; the saga does not hear of it yet."""
    stage.world.shipping.move(stage.saga.order.order_id, 1, ShipmentStatus.DISPATCHED)


async def second_parcel_refused(stage: Stage) -> None:
    def the_next_is_refused() -> None:
        stage.world.before["CreateShipment"] = [refused(ErrorCode.ADDRESS_UNDELIVERABLE)]

    stage.world.before["CreateShipment"] = [the_next_is_refused]


IN_TWO: Mapping[str, Any] = {"options": {"may_split": True}, "world": two_warehouses}
AT_DISPATCH: Mapping[str, Any] = {"options": {"capture_at": CaptureAt.DISPATCH}}
AMENDED: Mapping[str, Branch] = {
    "amended_more": Branch(then(amended(milk=4), arriving(1, 2))),
    "amended_less": Branch(then(amended(milk=1), arriving(2))),
    "amended_line_gone": Branch(then(amended(cheese=0), amended(2, owed=540, milk=3), arriving(2, 3))),
    "amended_address": Branch(
        then(amended(line1="2 Side St"), parcels(P.CANCELLED, P.CANCELLED, P.BOOKED, P.BOOKED), arriving(3, 4)), **IN_TWO
    ),
    "amended_then_cancelled": Branch(then(amended(milk=1, cheese=2), cancelled)),
    "amendment_out_of_stock": Branch(then(amended(milk=2000), arriving(1))),
    "amendment_declined": Branch(then(meeting("ProcessPayment", ErrorCode.PAYMENT_DECLINED), amended(milk=3), arriving(1))),
    "amendment_not_captured": Branch(
        then(meeting("CapturePayment", ErrorCode.PAYMENT_DECLINED), amended(milk=1, cheese=2), arriving(3))
    ),
    "amendment_overtaken": Branch(then(dispatched_unheard, amended(milk=1), arriving(1))),
    "amendment_undeliverable": Branch(then(second_parcel_refused, amended(line1="nowhere"), arriving(5, 6)), **IN_TWO),
    "amended_at_dispatch": Branch(then(amended(milk=4), arriving(1, 2)), **AT_DISPATCH),
}

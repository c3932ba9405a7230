"""The branches of the saga of a return."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from temporalio.client import WorkflowUpdateFailedError

from cli.branches.stage import ANN, GONE
from contracts.errors import ErrorCode
from contracts.money import Money
from contracts.orders import LineRequest
from contracts.returns import Resolution, ReturnKind, ReturnReason, ReturnTerms, SendBack
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.world import refused, unavailable
from testing.return_sagas import DAY, ReturnSaga, everything, paid
from testing.sagas import place_order

Play = Callable[[ReturnSaga], Awaitable[None]]
MILK = {"line_id": 1, "quantity": 1, "condition": "good"}
TO_SEND, TO_DECIDE, TO_ARRIVE = "to send the goods back", "approve or reject", "to arrive"
LOOKED_AT: dict[str, Any] = {"terms": ReturnTerms(needs_approval=True)}
CLAIM: dict[str, Any] = {"kind": ReturnKind.CLAIM, "reason": ReturnReason.DAMAGED}
RESEND = CLAIM | {"resolution": Resolution.RESEND}
EXCHANGE: Mapping[str, Any] = {
    "resolution": Resolution.EXCHANGE,
    "exchange_for": (LineRequest(product_id="cheese", quantity=1),),
}
FEES = ReturnTerms(
    restocking_percent=10, damaged_percent=50, label_cost=Money(amount=Decimal("1.50"), currency="USD"), arrival_seconds=DAY
)


@dataclass(frozen=True)
class ReturnBranch:
    """One way through the saga of a return, which ends. Played with the clock standing still, but for what it skips itself."""

    play: Play
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the return."""
    world: Callable[[], World] = World


def then(*steps: Play) -> Play:
    """A return that was asked for, and what happens to it."""

    async def play(saga: ReturnSaga) -> None:
        await saga.start()
        for step in steps:
            await step(saga)

    return play


def waits(words: str) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.waits_for(words)

    return play


def received(*lines: dict[str, Any]) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.waits_for(TO_SEND)
        await saga.receive(*lines)

    return play


def reported(*statuses: str) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.report(*statuses)

    return play


def decided(name: str) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.waits_for(TO_DECIDE)
        await saga.update(name, ANN)

    return play


def signalled(name: str, argument: Mapping[str, Any] = ANN) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.handle.signal(name, argument)

    return play


def later(seconds: float) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.later(seconds)

    return play


def tells(words: str) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.tells(words)

    return play


def meets(command: str, *faults: Callable[[], None]) -> Play:
    """What its next calls meet."""

    async def play(saga: ReturnSaga) -> None:
        saga.world.before[command] = list(faults)

    return play


def called(command: str, times: int = 2) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.calls(command, times)

    return play


def settled(undo: str, *, done: bool, **more: Any) -> Play:
    async def play(saga: ReturnSaga) -> None:
        await saga.later(60)
        await saga.waits_for(undo)
        await saga.update("settle_undo", ANN | {"undo": undo, "done": done, **more})

    return play


async def received_at_once(saga: ReturnSaga) -> None:
    await saga.receive(*everything())


def replacement_ended(status: str, credit_back: str) -> Play:
    ended = {"status": status, "credit_back": {"amount": credit_back, "currency": "USD"}}

    async def play(saga: ReturnSaga) -> None:
        await saga.waits_for(TO_ARRIVE)
        await saga.handle.signal("replacement_ended", ended)

    return play


async def decided_by_its_customer(saga: ReturnSaga) -> None:
    await saga.handle.signal("approve", {"by": str(saga.run.customer_id), "reason": "it is mine"})


async def cancelled(saga: ReturnSaga) -> None:
    with suppress(WorkflowUpdateFailedError):
        await saga.cancel()


async def workflow_cancelled(saga: ReturnSaga) -> None:
    await saga.handle.cancel()


async def mended(saga: ReturnSaga) -> None:
    for faults in saga.world.before.values():
        faults.clear()
    await saga.later(60)


async def with_the_carrier(saga: ReturnSaga) -> None:
    """The saga does not hear of it yet."""
    saga.world.shipping.move_label(saga.run.order_id, 1, ShipmentStatus.DISPATCHED)


async def came_while_cancelled(saga: ReturnSaga) -> None:
    saga.world.before["CancelReturnLabel"] = [unavailable] * 10_000
    cancelling = asyncio.create_task(cancelled(saga))
    await saga.calls("CancelReturnLabel")
    receiving = asyncio.create_task(saga.receive(*everything()))
    await saga.calls("CancelReturnLabel", 3)
    await mended(saga)
    await receiving
    await cancelling


def meeting(command: str, *faults: Callable[[], None]) -> Callable[[], World]:
    """Where its first calls meet this."""

    def made() -> World:
        world = World()
        world.before[command] = list(faults)
        return world

    return made


def cheaper() -> World:
    """What is sent instead costs less."""
    world = World()
    world.returns.price = Money(amount=Decimal("18.00"), currency="USD")
    return world


def paid_with_credit() -> tuple[Mapping[str, Any], Callable[[], World]]:
    """A return of an order that replaced another: 20.00 of it were paid with that one's money."""
    first, order = place_order(), place_order(priced=True)
    lines = tuple(
        line.model_copy(update={"amounts": line.amounts.model_copy(update={"credit": credit})})
        for line, credit in zip(order.lines, (540, 1460), strict=True)
        if line.amounts
    )

    def world() -> World:
        made = World()
        paid(made, first.order_id, first.customer_id)
        return made

    return {"order": order.model_copy(update={"lines": lines}), "credit_order_id": first.order_id}, world


_CREDIT, _WITH_CREDIT = paid_with_credit()
_STUCK = (refused(ErrorCode.REFUND_FAILED),) * 1000
_DOWN = (unavailable,) * 10_000

RETURNS: Mapping[str, ReturnBranch] = {
    "return_received": ReturnBranch(then(received(*everything()))),
    "return_with_fees": ReturnBranch(then(received(*everything(cheese="damaged"))), {"terms": FEES}),
    "return_received_in_part": ReturnBranch(then(received(MILK))),
    "return_nothing_came": ReturnBranch(then(received()), EXCHANGE),
    "return_dropped_off": ReturnBranch(then(received(*everything())), {"send_back": SendBack.DROP_OFF}),
    "return_paid_with_credit": ReturnBranch(then(received(*everything())), _CREDIT, _WITH_CREDIT),
    # labels
    "return_label_refused": ReturnBranch(
        then(received(*everything())),
        world=meeting("CreateReturnLabel", refused(ErrorCode.ADDRESS_UNDELIVERABLE)),
    ),
    "return_label_given_up": ReturnBranch(
        # Half a day, hour by hour: Temporal skips only so many times at once.
        then(called("CreateReturnLabel"), *[later(3600)] * 12, received(*everything())),
        world=meeting("CreateReturnLabel", *GONE),
    ),
    "return_came_before_its_label": ReturnBranch(
        then(called("CreateReturnLabel"), received_at_once),
        world=meeting("CreateReturnLabel", *_DOWN),
    ),
    "return_cancelled_before_its_label": ReturnBranch(
        then(called("CreateReturnLabel"), cancelled), world=meeting("CreateReturnLabel", *_DOWN)
    ),
    # decisions
    "return_approved": ReturnBranch(then(decided("approve"), received(*everything())), LOOKED_AT),
    "return_approved_by_signal": ReturnBranch(
        then(
            waits(TO_DECIDE),
            decided_by_its_customer,
            signalled("approve"),
            signalled("approve"),
            signalled("reject"),
            received(*everything()),
        ),
        LOOKED_AT,
    ),
    "return_rejected": ReturnBranch(then(decided("reject")), LOOKED_AT),
    "return_rejected_by_signal": ReturnBranch(then(waits(TO_DECIDE), signalled("reject")), LOOKED_AT),
    "return_not_decided": ReturnBranch(then(waits(TO_DECIDE), later(3 * DAY), received(*everything())), LOOKED_AT),
    "claim_approved": ReturnBranch(then(decided("approve")), CLAIM | LOOKED_AT),
    "claim_not_decided": ReturnBranch(then(waits(TO_DECIDE), later(3 * DAY)), CLAIM | LOOKED_AT),
    # deadlines, and what the carrier reports
    "return_expired": ReturnBranch(then(waits(TO_SEND), later(7 * DAY), tells("Reminded"), later(14 * DAY))),
    "return_on_its_way": ReturnBranch(
        then(
            waits(TO_SEND),
            reported("DISPATCHED", "IN_TRANSIT", "DISPATCHED"),
            tells("on its way"),
            reported("DELIVERED"),
            waits("the warehouse to look"),
            received_at_once,
        ),
    ),
    "return_on_its_way_expired": ReturnBranch(
        then(waits(TO_SEND), reported("DISPATCHED"), tells("on its way"), later(2 * DAY)), {"terms": FEES}
    ),
    "return_lost": ReturnBranch(then(waits(TO_SEND), reported("DISPATCHED", "LOST"))),
    "return_went_back": ReturnBranch(
        then(waits(TO_SEND), reported("DISPATCHED", "RETURNED"), tells("went back"), received(*everything()))
    ),
    # cancelled
    "return_cancelled": ReturnBranch(then(waits(TO_SEND), cancelled)),
    "return_cancelled_before_approval": ReturnBranch(then(waits(TO_DECIDE), cancelled), LOOKED_AT),
    "return_cancelled_by_signal": ReturnBranch(then(waits(TO_SEND), signalled("cancel", {"reason": "changed my mind"}))),
    "return_cancelled_twice": ReturnBranch(
        then(
            waits(TO_SEND),
            meets("CancelReturnLabel", *_DOWN),
            signalled("cancel", {"reason": "changed my mind"}),
            signalled("cancel", {"reason": "I said so"}),
            called("CancelReturnLabel"),
            mended,
        )
    ),
    "return_workflow_cancelled": ReturnBranch(then(waits(TO_SEND), workflow_cancelled)),
    "return_workflow_cancelled_too_late": ReturnBranch(
        then(
            meets("GiveBack", *_DOWN),
            received(*everything()),
            called("GiveBack"),
            workflow_cancelled,
            tells("too late to cancel"),
            mended,
        )
    ),
    "return_cancelled_too_late": ReturnBranch(
        then(waits(TO_SEND), with_the_carrier, cancelled, waits("the carrier to bring"), received_at_once)
    ),
    "return_came_while_cancelled": ReturnBranch(then(waits(TO_SEND), came_while_cancelled)),
    # settled
    "claim_refunded": ReturnBranch(then(), CLAIM),
    "claim_resent": ReturnBranch(then(replacement_ended("COMPLETED", "0.00")), RESEND),
    "exchange": ReturnBranch(then(received(*everything()), replacement_ended("CANCELLED", "18.00")), EXCHANGE, cheaper),
    "exchange_refused": ReturnBranch(
        then(meets("PlaceReplacement", refused(ErrorCode.CONFLICT)), received(*everything())), EXCHANGE
    ),
    "claim_resent_by_hand": ReturnBranch(
        then(settled("place-replacement", done=True)),
        RESEND,
        world=meeting("PlaceReplacement", *[refused(ErrorCode.NOT_FOUND)] * 1000),
    ),
    "return_refunded_by_hand": ReturnBranch(
        then(
            meets("GiveBack", *_STUCK),
            received(*everything()),
            settled("give-back-return-1", done=True, refunded={"amount": "23.40", "currency": "USD"}),
        )
    ),
    "return_refund_given_up": ReturnBranch(
        then(meets("GiveBack", *_STUCK), received(*everything()), settled("give-back-return-1", done=False))
    ),
}

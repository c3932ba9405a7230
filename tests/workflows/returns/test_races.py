"""Messages that come twice, early, late or at once; steps that do not succeed; tasks that are lost."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from contracts.errors import ErrorCode
from contracts.orders import OrderStatus
from contracts.returns import ReplacementEnded, Resolution, ReturnKind, ReturnReason, ReturnStatus, ReturnTerms
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.world import WAREHOUSE, refused, unavailable
from testing.return_sagas import ANN, DAY, ReturnSaga, everything, return_run
from tests.workflows.returns.conftest import BeginReturn
from tests.workflows.returns.test_story import CAME, WAITS_FOR_GOODS, ends, usd

_S = ReturnStatus
LOOKED_AT = ReturnTerms(needs_approval=True)
SETTLED_BY_HAND = ANN | {"undo": "give-back-return-1"}


async def refusal_of(saga: ReturnSaga, name: str, argument: dict[str, Any]) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as refusal:
        await saga.handle.execute_update(name, argument)
    assert isinstance(refusal.value.cause, ApplicationError)
    return refusal.value.cause


def receipt(*lines: dict[str, Any], by: str = "ann") -> dict[str, Any]:
    return {"by": by, "reason": "counted", "lines": list(lines), "warehouse_id": WAREHOUSE}


# ── What is not taken ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_decision_is_taken_once_and_by_a_colleague(begin: BeginReturn) -> None:
    async with begin(World(), return_run(terms=LOOKED_AT)) as saga:
        own = {"by": str(saga.run.customer_id), "reason": "please"}
        assert (await refusal_of(saga, "approve", own)).type == ErrorCode.OWN_ORDER
        assert (await refusal_of(saga, "reject", own)).type == ErrorCode.OWN_ORDER
        assert (await refusal_of(saga, "receive", receipt(*everything()))).type == ErrorCode.RETURN_NOT_OPEN
        answers = await asyncio.gather(
            saga.update("approve", ANN, "one"), saga.update("approve", ANN, "two"), return_exceptions=True
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["ReturnState", "WorkflowUpdateFailedError"]
        assert (await refusal_of(saga, "reject", ANN)).type == ErrorCode.RETURN_NOT_OPEN
        await saga.handle.signal("reject", ANN)
        await saga.tells("A decision was not taken")
        await saga.receive(*everything())
        await ends(saga, *CAME)


async def test_a_receipt_is_taken_once_and_never_for_more_than_was_announced(begin: BeginReturn) -> None:
    async with begin(World(), return_run(units=(2, 0))) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        milk = {"line_id": 1, "quantity": 2, "condition": "good"}
        too_many = await refusal_of(saga, "receive", receipt(milk, milk | {"quantity": 1, "condition": "damaged"}))
        assert (too_many.type, too_many.details[0]) == (ErrorCode.NOT_RETURNABLE, {"line_ids": [1]})
        unknown = await refusal_of(saga, "receive", receipt(milk | {"line_id": 2}))
        assert (unknown.type, unknown.details[0]) == (ErrorCode.NOT_RETURNABLE, {"line_ids": [2]})
        own = receipt(milk, by=str(saga.run.customer_id))
        assert (await refusal_of(saga, "receive", own)).type == ErrorCode.OWN_ORDER
        first = await saga.receive(milk, update_id="box-1")
        await ends(saga, *CAME)
        assert await saga.receive(milk, update_id="box-1") == first
    assert saga.given == {"return-1": "5.40"}


async def test_another_receipt_comes_too_late(begin: BeginReturn) -> None:
    world = World()
    world.before["ReceiveReturn"] = [unavailable] * 10_000
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        assert (await saga.receive(*everything())).status == _S.RECEIVED
        assert (await refusal_of(saga, "receive", receipt())).type == ErrorCode.RETURN_NOT_OPEN
        assert (await refusal_of(saga, "cancel", {"reason": "no"})).type == ErrorCode.RETURN_NOT_OPEN
        world.before["ReceiveReturn"].clear()
        await saga.later(60)
        await ends(saga, *CAME)
    assert saga.given == {"return-1": "23.40"}


async def test_a_claim_that_is_approved_takes_no_receipt_and_no_cancellation(begin: BeginReturn) -> None:
    world = World()
    world.before["GiveBack"] = [unavailable] * 10_000
    async with begin(world, return_run(kind=ReturnKind.CLAIM, reason=ReturnReason.DEFECTIVE)) as saga:
        await saga.reaches(_S.SETTLING)
        assert (await refusal_of(saga, "receive", receipt(*everything()))).type == ErrorCode.RETURN_NOT_OPEN
        assert (await refusal_of(saga, "cancel", {"reason": "no"})).type == ErrorCode.RETURN_NOT_OPEN
        await saga.handle.signal("cancel", {"reason": "no"})
        await saga.tells("too late to cancel")
        world.before["GiveBack"].clear()
        await saga.later(60)
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.SETTLING, _S.COMPLETED)


# ── Cancelling ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["update", "signal", "temporal"])
async def test_it_is_cancelled_while_somebody_looks_at_it(begin: BeginReturn, how: str) -> None:
    world = World()
    async with begin(world, return_run(terms=LOOKED_AT)) as saga:
        await saga.waits_for("approve or reject")
        if how == "update":
            assert (await saga.cancel()).status == _S.CANCELLED
        elif how == "signal":
            await saga.handle.signal("cancel", {"reason": "changed my mind"})
        else:
            await saga.handle.cancel()
        await ends(saga, _S.REQUESTED, _S.CANCELLED)
    assert "CreateReturnLabel" not in world.calls


async def test_all_who_cancel_get_the_same_answer(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        answers = await asyncio.gather(saga.cancel(), saga.cancel())
        assert {answer.status for answer in answers} == {_S.CANCELLED}
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.CANCELLED)
    assert world.calls.count("CancelReturnLabel") == 1


async def test_its_workflow_is_cancelled_too_late(begin: BeginReturn) -> None:
    world = World()
    world.before["GiveBack"] = [unavailable] * 10_000
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive(*everything())
        await saga.calls("GiveBack")
        await saga.handle.cancel()
        await saga.tells("too late to cancel")
        world.before["GiveBack"].clear()
        await saga.later(60)
        await ends(saga, *CAME)
    assert saga.given == {"return-1": "23.40"}


async def test_the_carrier_turns_out_to_have_the_parcel(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run()) as saga:
        due = (await saga.waits_for(WAITS_FOR_GOODS)).due_at
        world.shipping.move_label(saga.run.order_id, 1, ShipmentStatus.DISPATCHED)
        assert (await refusal_of(saga, "cancel", {"reason": "no"})).type == ErrorCode.RETURN_NOT_OPEN
        assert ((await saga.waits_for("the carrier to bring")).due_at or due) != due
        assert (await refusal_of(saga, "cancel", {"reason": "no"})).type == ErrorCode.RETURN_NOT_OPEN
        await saga.receive(*everything())
        await ends(saga, *CAME)


async def test_goods_that_come_while_it_is_cancelled_are_taken(begin: BeginReturn) -> None:
    world = World()
    world.before["CancelReturnLabel"] = [unavailable] * 10_000
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        cancelling = asyncio.create_task(refusal_of(saga, "cancel", {"reason": "no"}))
        await saga.calls("CancelReturnLabel")
        receiving = asyncio.create_task(saga.receive(*everything()))
        await saga.calls("CancelReturnLabel", 3)
        world.before["CancelReturnLabel"].clear()
        await saga.later(60)
        assert (await receiving).status != _S.APPROVED
        assert (await cancelling).type == ErrorCode.RETURN_NOT_OPEN
        await ends(saga, *CAME)


async def test_goods_that_come_while_it_expires_are_taken(begin: BeginReturn) -> None:
    world = World()
    world.before["CancelReturnLabel"] = [unavailable] * 10_000
    async with begin(world, return_run(terms=ReturnTerms(arrival_seconds=DAY))) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.later(DAY)
        await saga.calls("CancelReturnLabel", 2)
        receiving = asyncio.create_task(saga.receive(*everything()))
        await saga.calls("CancelReturnLabel", 4)
        world.before["CancelReturnLabel"].clear()
        await saga.later(60)
        await receiving
        await ends(saga, *CAME)
    assert saga.given == {"return-1": "23.40"}


async def test_it_would_expire_and_the_carrier_turns_out_to_have_the_parcel(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run(terms=ReturnTerms(arrival_seconds=DAY))) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        world.shipping.move_label(saga.run.order_id, 1, ShipmentStatus.DISPATCHED)
        await saga.later(DAY)
        await saga.waits_for("the carrier to bring")
        await saga.later(DAY)
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.SETTLING, _S.COMPLETED)
    assert saga.given == {"return-1": "23.40"}  # its customer has done what was asked


@pytest.mark.parametrize("what", ["receive", "cancel"])
async def test_nobody_waits_for_a_label_that_cannot_be_booked(begin: BeginReturn, what: str) -> None:
    world = World()
    world.before["CreateReturnLabel"] = [unavailable] * 10_000
    async with begin(world, return_run()) as saga:
        await saga.calls("CreateReturnLabel", 2)
        if what == "receive":
            await saga.receive(*everything())
            await ends(saga, *CAME)
        else:
            await saga.cancel()
            await ends(saga, _S.REQUESTED, _S.APPROVED, _S.CANCELLED)
    assert world.labels_of(saga.run.order_id) == {1: ShipmentStatus.CANCELLED}  # nor can it be booked any more


# ── Steps that do not succeed ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("done", "refunded"), [(True, "23.40"), (False, None)])
async def test_money_that_cannot_go_back_is_settled_by_hand(begin: BeginReturn, done: bool, refunded: str | None) -> None:
    world = World()
    world.before["GiveBack"] = [refused(ErrorCode.REFUND_FAILED)] * 10_000
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        assert (await refusal_of(saga, "settle_undo", SETTLED_BY_HAND | {"done": True})).type == ErrorCode.UNDO_NOT_STUCK
        await saga.receive(*everything())
        await saga.later(60)
        state = await saga.waits_for("these steps to succeed: give-back-return-1")
        assert state.stuck_undos == ("give-back-return-1",)
        own = SETTLED_BY_HAND | {"done": True, "by": str(saga.run.customer_id)}
        assert (await refusal_of(saga, "settle_undo", own)).type == ErrorCode.OWN_ORDER
        money = usd(refunded).model_dump(mode="json") if refunded else None
        await saga.update("settle_undo", SETTLED_BY_HAND | {"done": done, "refunded": money})
        await ends(saga, *CAME)
        state = await saga.state()
    assert state.refunded == (usd(refunded) if refunded else None)
    assert bool(state.given_up) is not done
    assert saga.given == {}


async def test_a_replacement_that_cannot_be_placed_is_settled_by_hand(begin: BeginReturn) -> None:
    world = World()
    world.before["PlaceReplacement"] = [refused(ErrorCode.NOT_FOUND)] * 10_000
    run = return_run(kind=ReturnKind.CLAIM, reason=ReturnReason.DEFECTIVE, resolution=Resolution.RESEND)
    async with begin(world, run) as saga:
        await saga.reaches(_S.SETTLING)
        await saga.later(60)
        await saga.waits_for("place-replacement")
        await saga.update("settle_undo", ANN | {"undo": "place-replacement", "done": True})
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.SETTLING, _S.COMPLETED)
    assert saga.given == {}


async def test_replies_that_are_lost_move_nothing_twice(begin: BeginReturn) -> None:
    world = World()
    for command in ("CreateReturnLabel", "AdvanceReturn", "ReceiveReturn", "GiveBack", "CancelReturnLabel"):
        world.after[command] = [unavailable] * 2
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive(*everything())
        await ends(saga, *CAME)
    assert saga.given == {"return-1": "23.40"}
    assert world.inventory.shelves[WAREHOUSE]["milk"].restocked == 2
    assert world.calls.count("GiveBack") == 3


async def test_a_replacement_that_ends_before_it_is_known_to_be_placed(begin: BeginReturn) -> None:
    world = World()
    world.after["PlaceReplacement"] = [unavailable] * 10_000
    run = return_run(kind=ReturnKind.CLAIM, reason=ReturnReason.DEFECTIVE, resolution=Resolution.RESEND)
    async with begin(world, run) as saga:
        await saga.calls("PlaceReplacement")
        ended = ReplacementEnded(status=OrderStatus.CANCELLED, credit_back=usd("99.99"))
        await saga.handle.signal("replacement_ended", ended)
        await saga.calls("PlaceReplacement", 2)
        world.after["PlaceReplacement"].clear()
        await saga.later(60)
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.SETTLING, _S.COMPLETED)
    assert saga.given == {"return-1-back": "23.40"}  # never more than it was worth


async def test_reports_and_signals_that_come_before_it_has_begun(begin: BeginReturn) -> None:
    async with begin(World(), return_run(terms=LOOKED_AT)) as saga:
        await saga.report("IN_TRANSIT")
        await saga.handle.signal("replacement_ended", ReplacementEnded(status=OrderStatus.COMPLETED, credit_back=usd("1.00")))
        await saga.handle.signal("approve", ANN)
        await saga.waits_for("the carrier to bring")
        await saga.receive(*everything())
        await ends(saga, *CAME)
    assert saga.given == {"return-1": "23.40"}

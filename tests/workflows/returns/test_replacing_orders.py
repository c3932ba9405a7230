"""The saga of an order that a return brought tells that return's saga how it ended."""

import pytest
from temporalio.testing import WorkflowEnvironment

from contracts.ids import replacement_id_for
from contracts.money import Money
from contracts.orders import PlaceOrder, Replaces
from contracts.returns import Resolution, ReturnKind, ReturnReason, ReturnRun, ReturnStatus
from testing.model import World
from testing.return_sagas import return_run, returning
from testing.sagas import place_order, playing
from tests.workflows.returns.test_story import ends

CREDIT = (400, 1600)


def replacement_of(run: ReturnRun) -> PlaceOrder:
    """Milk and cheese for 23.40, of which 20.00 are credit."""
    order = place_order(priced=True)
    lines = tuple(
        line.model_copy(update={"amounts": line.amounts.model_copy(update={"credit": credit})})
        for line, credit in zip(order.lines, CREDIT, strict=True)
        if line.amounts
    )
    return order.model_copy(
        update={
            "order_id": replacement_id_for(run.order_id, run.number),
            "customer_id": run.customer_id,
            "lines": lines,
            "total": Money.from_minor(340, "USD"),
            "replaces": Replaces(order_id=run.order_id, number=run.number),
        }
    )


@pytest.mark.parametrize(("is_delivered", "given"), [(True, {}), (False, {"return-1-back": "20.00"})])
async def test_a_return_hears_of_the_end_of_the_order_that_it_brought(
    env: WorkflowEnvironment, is_delivered: bool, given: dict[str, str]
) -> None:
    world = World()
    run = return_run(kind=ReturnKind.CLAIM, reason=ReturnReason.DAMAGED, resolution=Resolution.RESEND)
    order = replacement_of(run)
    async with returning(env, world, run) as saga, playing(env, world, order) as replacing:
        await saga.start()
        await saga.waits_for("to arrive")
        await replacing.place()
        if is_delivered:
            await replacing.deliver()
        else:
            await replacing.handle.execute_update("cancel", {"reason": "changed my mind"})
        await ends(saga, ReturnStatus.REQUESTED, ReturnStatus.APPROVED, ReturnStatus.SETTLING, ReturnStatus.COMPLETED)
    assert saga.given == given


async def test_a_return_that_is_gone_keeps_no_order_from_ending(env: WorkflowEnvironment) -> None:
    order = replacement_of(return_run())
    async with playing(env, World(), order) as replacing:
        await replacing.place()
        state = await replacing.deliver()
        told = [entry["what"] for entry in await replacing.handle.query("timeline")]
    assert state.status == "COMPLETED"
    assert told[-1] == "The return that brought it is over"

"""What Temporal knows of a real saga, whether a worker is up or not; and that the saga takes the calls that are named."""

import asyncio
import json
import shlex
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from contracts.errors import ErrorCode
from contracts.inventory import WhenShort
from contracts.orders import CancelReply, CancelRequest, OrderStatus, PlaceOrder
from services.order.explaining import Cause, StaffExplanation, explained, explained_to_customer
from services.order.model import Order
from temporal.explaining import SagaSeen, saga_seen
from temporal.names import ORDER_WORKFLOW
from testing.model import World
from testing.model.world import refused, unavailable
from testing.sagas import Saga, place_order
from tests.conftest import eventually
from tests.workflows.conftest import Begin
from tests.workflows.test_parts import order_in_parts, two_warehouses, without_cheese
from tests.workflows.test_pay_again import DECLINED, patient_order


async def test_a_step_that_is_retried_is_seen_since_its_first_try(begin: Begin, env: WorkflowEnvironment) -> None:
    world, order = World(), place_order()
    world.before["CreateShipment"] = [unavailable] * 100_000
    tries: list[SagaSeen] = []
    async with begin(world, order) as saga:
        with env.with_time_skipping_disabled():
            await saga.start()

            async def is_retried_again() -> bool:
                seen = await saga_seen(env.client, order.order_id)
                if (
                    seen.steps
                    and seen.steps[0].last_error
                    and seen.steps[0].attempt not in [each.steps[0].attempt for each in tries]
                ):
                    tries.append(seen)
                return len(tries) == 3

            await eventually(is_retried_again, what="three tries")
        world.before["CreateShipment"] = []
        await saga.deliver()
        over = await saga_seen(env.client, order.order_id)
    steps = [seen.steps[0] for seen in tries]
    assert {(step.step, step.activity, step.last_error) for step in steps} == {
        ("create-shipment", "CreateShipment", "down for a moment")
    }
    assert len({step.since for step in steps}) == 1
    assert steps[0].until is not None
    assert all(step.runs or (step.next_try and step.next_try > step.since) for step in steps)
    assert steps[0].last_worker in [worker.identity for worker in tries[0].workers or ()]
    assert (over.exists, over.runs, over.ended_as, over.steps) == (True, False, "completed", ())
    assert over.ended_at is not None


async def test_a_saga_that_no_worker_has_taken_is_seen_with_since_when_it_waits(env: WorkflowEnvironment) -> None:
    saga = Saga(env, "nobody-works-here", place_order())
    assert await saga_seen(env.client, saga.order.order_id) == SagaSeen()
    with env.with_time_skipping_disabled():
        await saga.start()
        seen = await saga_seen(env.client, saga.order.order_id)
    assert (seen.runs, seen.workers, seen.state) == (True, (), None)
    assert seen.silence
    assert seen.task is not None
    assert not seen.task.runs
    await saga.handle.terminate()


@workflow.defn(name=ORDER_WORKFLOW, sandboxed=False)
class Mistaken:
    """A build with a mistake: its tasks fail."""

    @workflow.run
    async def run(self, order: PlaceOrder) -> None:
        raise RuntimeError("a mistake in the code")


async def test_a_build_with_a_mistake_is_told_from_one_without_workers(env: WorkflowEnvironment) -> None:
    saga = Saga(env, f"orders-{uuid4()}", place_order())
    async with Worker(env.client, task_queue=saga.queue, workflows=[Mistaken]):
        with env.with_time_skipping_disabled():
            await saga.start()

            async def fails() -> bool:
                told = explained(Order.placed(saga.order), await saga_seen(env.client, saga.order.order_id))
                return told.cause == Cause.WORKER_FAILS

            await eventually(fails, what="tasks that fail")
            seen = await saga_seen(env.client, saga.order.order_id)
    assert seen.task is not None
    assert seen.task.attempt > 1
    assert seen.workers
    await saga.handle.terminate()


async def test_a_stuck_undo_is_seen_with_what_its_service_says(begin: Begin, env: WorkflowEnvironment) -> None:
    world, order = World(), place_order()
    world.before["RefundPayment"] = [refused(ErrorCode.CONFLICT)] * 100_000
    async with begin(world, order) as saga:
        await saga.place()
        request = CancelRequest(reason="changed my mind", requested_by="customer")
        cancelling = asyncio.create_task(saga.handle.execute_update("cancel", request, result_type=CancelReply))

        async def is_stuck() -> bool:
            seen = await saga_seen(env.client, order.order_id)
            return bool(seen.state and seen.state.stuck_undos and seen.steps[0].attempt > 1)

        await eventually(is_stuck, what="the stuck undo")
        seen = await saga_seen(env.client, order.order_id)
        [undo] = seen.steps
        assert (undo.step, undo.until, undo.last_error) == ("refund-payment", None, "no: conflict")
        world.before["RefundPayment"] = []
        await cancelling


async def explained_now(saga: Saga) -> StaffExplanation:
    seen = await saga_seen(saga.env.client, saga.order.order_id)
    record = Order.placed(saga.order)
    assert explained_to_customer(record, seen).parts
    return explained(record, seen)


def named(told: StaffExplanation) -> dict[str, Any]:
    """What each update that is named is sent, by the command line for it."""
    calls = [call for part in told.parts for call in part.calls] + [*told.calls]
    lines = [shlex.split(call.command) for call in calls if call.command and " workflow update " in call.command]
    return {line[line.index("--name") + 1]: json.loads(line[line.index("--input") + 1]) for line in lines}


@pytest.mark.parametrize(
    ("update", "order", "world"),
    [
        ("approve", place_order(needs_review=True), World()),
        ("reject", place_order(needs_review=True), World()),
        ("pay", patient_order(), World()),
        ("answer_shortage", order_in_parts(when_short=WhenShort.ASK), without_cheese()),
        ("decide_parcel", order_in_parts(), two_warehouses()),
        ("split_parcel", order_in_parts(), two_warehouses()),
        ("cancel", place_order(), World()),
    ],
)
async def test_a_saga_takes_each_call_that_is_named(begin: Begin, update: str, order: PlaceOrder, world: World) -> None:
    if update == "pay":
        world.before["ProcessPayment"] = [DECLINED]
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            if update == "decide_parcel":
                await saga.report("DISPATCHED", "LOST", parcel=2)

                async def is_lost() -> bool:
                    return (await saga.state()).status == OrderStatus.UNDELIVERED

                await eventually(is_lost, what="the lost parcel")
            told = await explained_now(saga)
            assert told.cause == (Cause.WORLD if update in ("split_parcel", "cancel") else Cause.SOMEBODY)
            if update not in ("approve", "reject", "split_parcel", "cancel"):
                part = next(part for part in told.parts if update in str(part.calls))
                assert part.until is not None
                assert part.then
            await saga.handle.execute_update(update, named(told)[update])
        with suppress(RPCError):  # one that was cancelled has ended
            await saga.handle.terminate()

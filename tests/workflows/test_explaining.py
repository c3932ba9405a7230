"""What Temporal knows of a real saga, whether a worker is up or not."""

import asyncio

from temporalio.testing import WorkflowEnvironment

from contracts.errors import ErrorCode
from contracts.orders import CancelReply, CancelRequest
from temporal.explaining import SagaSeen, saga_seen
from testing.model import World
from testing.model.world import refused, unavailable
from testing.sagas import Saga, place_order
from tests.conftest import eventually
from tests.workflows.conftest import Begin


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

"""Sagas of returns as the order service starts, tells and asks them, on a real server, with histories encrypted."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.worker import Worker

from activities import all_activities
from chassis.clients import Unavailable
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.ids import replacement_id_for, return_workflow_id
from contracts.orders import CancelRequest, Decision, Replaces, UndoSettlement
from contracts.returns import (
    Condition,
    ReceivedLine,
    Resolution,
    ReturnKind,
    ReturnLabelUpdate,
    ReturnReason,
    ReturnReceipt,
    ReturnRun,
    ReturnStatus,
    ReturnTerms,
)
from contracts.shipments import ShipmentStatus
from embedded.temporal import TemporalServer
from temporal.client import TemporalSettings, connect
from temporal.names import ORDER_QUEUE
from temporal.orders import OrderSagas
from temporal.refusals import RefusalInterceptor
from temporal.returns import ReturnSagas
from testing.model import World
from testing.model.world import WAREHOUSE, unavailable
from testing.return_sagas import paid, return_run
from testing.sagas import place_order
from tests.conftest import eventually
from tests.services.order.conftest import codec_for
from tests.services.order.test_histories import raw_history
from worker import WORKFLOWS

ANN = Decision(by="ann", reason="looked at it")
PATIENCE_S = 60


@dataclass
class Desk:
    """What the order service has at hand, beside a worker."""

    returns: ReturnSagas
    orders: OrderSagas
    world: World
    client: Client

    async def start(self, run: ReturnRun) -> bool:
        self.world.returns.accept(run)
        paid(self.world, run.order_id, run.customer_id)
        return await self.returns.start(run)

    async def has(self, run: ReturnRun, status: ReturnStatus) -> None:
        async def there() -> bool:
            try:
                state = await self.returns.state(run.order_id, run.number)
            except Unavailable:
                return False
            return state is not None and state.status == status

        await eventually(there, timeout_s=PATIENCE_S, what=f"the return to be {status}")


@pytest_asyncio.fixture
async def desk(database: Database, temporal_server: TemporalServer) -> AsyncIterator[Desk]:
    settings, codec, world = TemporalSettings(temporal_address=temporal_server.address), codec_for(database), World()
    client = await connect(settings, codec)
    worker = Worker(
        client,
        task_queue=ORDER_QUEUE,
        workflows=WORKFLOWS,
        activities=all_activities(lambda service: world),
        interceptors=[RefusalInterceptor()],
        graceful_shutdown_timeout=timedelta(seconds=0),
    )
    sagas = ReturnSagas(settings, codec_for(database)), OrderSagas(settings, codec_for(database))
    async with worker, sagas[0] as returns, sagas[1] as orders:
        yield Desk(returns, orders, world, client)


async def test_a_return_is_started_once_decided_once_and_received_once(desk: Desk) -> None:
    run = return_run(terms=ReturnTerms(needs_approval=True))
    assert await desk.start(run)
    assert not await desk.returns.start(run)
    assert await desk.returns.is_running(run.order_id, 1)
    await desk.has(run, ReturnStatus.REQUESTED)
    approved = await desk.returns.approve(run.order_id, 1, ANN, "key-1")
    assert approved == await desk.returns.approve(run.order_id, 1, ANN, "key-1")
    with pytest.raises(Refusal) as refused:
        await desk.returns.reject(run.order_id, 1, ANN, "key-2")
    assert refused.value.code == ErrorCode.RETURN_NOT_OPEN
    assert await desk.returns.label_updated(run.order_id, 1, ReturnLabelUpdate(status=ShipmentStatus.IN_TRANSIT))

    async def on_its_way() -> bool:
        state = await desk.returns.state(run.order_id, 1)
        return state is not None and "the carrier" in state.waiting_for

    await eventually(on_its_way, timeout_s=PATIENCE_S, what="the parcel to be on its way")
    with pytest.raises(Refusal) as too_late:
        await desk.returns.cancel(run.order_id, 1, CancelRequest(reason="no"), "key-3")
    assert too_late.value.code == ErrorCode.RETURN_NOT_OPEN
    came = ReceivedLine(line_id=1, quantity=2, condition=Condition.GOOD)
    receipt = ReturnReceipt(by="bob", reason="counted", lines=(came,), warehouse_id=WAREHOUSE)
    first = await desk.returns.receive(run.order_id, 1, receipt, "box-1")
    assert first
    await desk.has(run, ReturnStatus.COMPLETED)
    assert await desk.returns.receive(run.order_id, 1, receipt, "box-1") == first
    told = await desk.returns.timeline(run.order_id, 1)
    assert told
    assert told[0].what == "Requested"
    seen = await desk.returns.seen(run.order_id, 1)
    assert (seen.exists, seen.runs) == (True, False)
    assert not await desk.returns.is_running(run.order_id, 1)
    history = await raw_history(desk.client, return_workflow_id(run.order_id, 1))
    assert [words for words in (run.ship_from.name, run.ship_from.line1, "looked at it") if words.encode() in history] == []


async def test_a_return_that_is_not_there_is_told_as_such(desk: Desk) -> None:
    nobody = uuid4()
    assert await desk.returns.state(nobody, 1) is None
    assert await desk.returns.timeline(nobody, 1) is None
    assert await desk.returns.approve(nobody, 1, ANN, "key") is None
    assert await desk.returns.cancel(nobody, 1, CancelRequest(reason="no"), "key") is None
    assert not await desk.returns.label_updated(nobody, 1, ReturnLabelUpdate(status=ShipmentStatus.LOST))
    assert not await desk.returns.is_running(nobody, 1)
    assert not (await desk.returns.seen(nobody, 1)).exists


async def test_a_return_s_stuck_steps_are_listed_with_the_orders_and_settled_by_hand(desk: Desk) -> None:
    run = return_run(kind=ReturnKind.CLAIM, reason=ReturnReason.DAMAGED, number=3)
    desk.world.before["GiveBack"] = [unavailable] * 100_000
    await desk.start(run)

    async def listed() -> bool:
        return [(undo.undo, undo.of_return) for undo in await desk.orders.stuck() if undo.order_id == run.order_id] == [
            ("give-back-return-3", 3)
        ]

    await eventually(listed, timeout_s=2 * PATIENCE_S, what="the stuck step")
    assert (await desk.returns.seen(run.order_id, 3)).steps[0].step == "give-back-return-3"
    assert await desk.orders.retry_undo(run.order_id, "give-back-return-3", 3)
    assert not await desk.orders.retry_undo(run.order_id, "give-back-return-3")
    by_hand = UndoSettlement(by="ann", reason="paid in cash", undo="give-back-return-3", done=True)
    assert await desk.orders.settle_undo(run.order_id, by_hand, 3)
    await desk.has(run, ReturnStatus.COMPLETED)


async def test_an_order_tells_its_return_under_the_key_of_their_customer(desk: Desk) -> None:
    run = return_run(kind=ReturnKind.CLAIM, reason=ReturnReason.DAMAGED, resolution=Resolution.RESEND)
    await desk.start(run)
    order = place_order().model_copy(
        update={
            "order_id": replacement_id_for(run.order_id, 1),
            "customer_id": run.customer_id,
            "replaces": Replaces(order_id=run.order_id, number=1),
        }
    )
    desk.world.orders.accept(order)
    await desk.orders.start(order, "key")
    await desk.orders.cancel(order.order_id, CancelRequest(reason="changed my mind"), "cancel", timedelta(seconds=PATIENCE_S))
    await desk.has(run, ReturnStatus.COMPLETED)
    history = await raw_history(desk.client, return_workflow_id(run.order_id, 1))
    assert b"credit_back" not in history

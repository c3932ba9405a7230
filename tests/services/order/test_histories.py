"""What an order leaves in Temporal: the API, the saga and the worker's codec together, on real servers."""

from datetime import timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, Worker

from activities import all_activities
from chassis.clock import utc_now
from chassis.database import Database
from chassis.store import UnitOfWork, transaction
from contracts.errors import ErrorCode
from contracts.identity import Role
from contracts.ids import order_id_of, order_workflow_id
from contracts.orders import OrderState, OrderStatus
from contracts.shipments import ShipmentStatus, ShipmentUpdate
from embedded.temporal import TemporalServer
from services.order.app import build
from services.order.model import CustomerKey
from temporal.client import TemporalSettings, connect, data_converter
from temporal.names import ORDER_WORKFLOW, STUCK_UNDO
from temporal.orders import OrderSagas
from temporal.refusals import RefusalInterceptor
from testing.model import World
from testing.sagas import place_order
from tests.conftest import TokenMint, eventually, running_api
from tests.services.order.conftest import SHIP_TO, Catalogue, codec_for, settings_for
from tests.services.order.test_api import place
from tests.services.order.test_with_saga import Customer, RecordedWorld, api, world
from worker import SANDBOX, WORKFLOWS

__all__ = ["api", "world"]
PERSONAL = (SHIP_TO.name, SHIP_TO.line1, SHIP_TO.city, SHIP_TO.postal_code, "pm_card_visa", "mistake", "it is full of")


async def raw_history(client: Client, workflow_id: str) -> bytes:
    """All of it, as Temporal keeps it."""
    request = GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id), maximum_page_size=1000
    )
    answer = await client.workflow_service.get_workflow_execution_history(request)
    return answer.history.SerializeToString()


async def test_g10_a_history_holds_nothing_personal(
    api: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client, world: RecordedWorld
) -> None:
    def broken() -> None:
        raise RuntimeError("disk of Ada Lovelace: it is full of letters")

    world.before["SendNotification"] = [broken] * 4
    ann = Customer(api, mint)
    url = (await ann.place()).headers["location"]
    await ann.cancel(url)
    await ann.has(url, "CANCELLED")
    workflow_id = f"order-{url.rpartition('/')[2]}"
    await temporal_client.get_workflow_handle(workflow_id).result()
    history = await raw_history(temporal_client, workflow_id)
    assert str(ann.id).encode() in history  # ids are there, to find it by
    assert [words for words in PERSONAL if words.encode() in history] == []


async def placed(ann: Customer) -> tuple[str, str]:
    """The address of a confirmed order, and the id of its workflow."""
    response = await ann.place()
    assert response.status_code == 201
    url = response.headers["location"]
    return url, f"order-{url.rpartition('/')[2]}"


async def test_an_encrypted_history_replays(
    api: httpx2.AsyncClient, mint: TokenMint, temporal_client: Client, world: RecordedWorld
) -> None:
    ann = Customer(api, mint)
    url, workflow_id = await placed(ann)
    await ann.cancel(url)
    await ann.has(url, "CANCELLED")
    history = await temporal_client.get_workflow_handle(workflow_id).fetch_history()
    kept = WorkflowHistory.from_json(workflow_id, history.to_json())

    def replayer(converter: DataConverter) -> Replayer:
        return Replayer(workflows=WORKFLOWS, data_converter=converter, workflow_runner=SANDBOX)

    await replayer(temporal_client.data_converter).replay_workflow(kept)
    with pytest.raises(RuntimeError):
        await replayer(data_converter).replay_workflow(kept)


@workflow.defn(name=ORDER_WORKFLOW, sandboxed=False)
class Stuck:
    """An order with an undo that does not succeed, from its first moment."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            "RefundPayment", activity_id="refund-payment", start_to_close_timeout=timedelta(minutes=1)
        )


@activity.defn(name="RefundPayment")
async def broken_refund() -> None:
    raise ApplicationError("the bank of Ada Lovelace is closed")


async def test_what_went_wrong_is_told_to_operators_in_clear(
    database: Database, temporal_server: TemporalServer, temporal_client: Client
) -> None:
    order_id, queue = uuid4(), str(uuid4())
    stuck = TypedSearchAttributes([SearchAttributePair(STUCK_UNDO, "refund-payment")])
    worker = Worker(temporal_client, task_queue=queue, workflows=[Stuck], activities=[broken_refund])
    async with worker, OrderSagas(TemporalSettings(temporal_address=temporal_server.address), codec_for(database)) as sagas:
        experiment, handle = [
            await temporal_client.start_workflow(ORDER_WORKFLOW, id=workflow_id, task_queue=queue, search_attributes=stuck)
            for workflow_id in (f"experiment-{order_id}", order_workflow_id(order_id))
        ]

        async def told() -> bool:
            found = {undo.order_id: undo.last_error for undo in await sagas.stuck()}
            return found.get(order_id) == "the bank of Ada Lovelace is closed"

        await eventually(told, timeout_s=60, what="a stuck undo")
        pending = (await handle.describe()).raw_description.pending_activities[0]
        assert b"Lovelace" not in pending.SerializeToString()
        await handle.terminate()
        await experiment.terminate()


@transaction
async def destroy(work: UnitOfWork, customer_id: UUID) -> None:
    """And say that the customer is to be forgotten."""
    key = await work.get(CustomerKey, customer_id)
    assert key
    key.forget_requested_at = utc_now()
    key.destroy()


async def test_who_was_forgotten_is_told_as_such_and_harms_nobody(
    api: httpx2.AsyncClient,
    mint: TokenMint,
    database: Database,
    catalogue: Catalogue,
    temporal_server: TemporalServer,
    world: RecordedWorld,
) -> None:
    ann = Customer(api, mint)
    url, workflow_id = await placed(ann)
    await ann.cancel(url)
    await ann.has(url, "CANCELLED")
    await destroy(database, ann.id)
    async with running_api(build(settings_for(database, catalogue, temporal_server.address)), mint) as later:
        timeline = await later.get(f"{url}/timeline", headers=mint.headers(Role.SUPPORT))
        assert (timeline.status_code, timeline.json()["source"]) == (200, "history")
        again = await place(later, ann.headers, key="another")
        assert (again.status_code, again.json()["code"]) == (410, "customer_forgotten")
        same = await later.get(url, headers=ann.headers)
        assert (same.status_code, same.json()["status"]) == (200, "CANCELLED")
    order_id, update = order_id_of(workflow_id), ShipmentUpdate(status=ShipmentStatus.LOST)
    assert order_id
    async with OrderSagas(TemporalSettings(temporal_address=temporal_server.address), codec_for(database)) as sagas:
        assert not await sagas.shipment_updated(order_id, update)
        assert await sagas.state(order_id) is None


async def test_an_order_under_way_whose_customer_was_forgotten_fails_once(
    database: Database, temporal_server: TemporalServer
) -> None:
    settings, codec = TemporalSettings(temporal_address=temporal_server.address), codec_for(database, lifetime_s=0)
    client, plain = await connect(settings, codec), await connect(settings)
    world, order = World(), place_order(needs_review=True)
    world.orders.accept(order)
    workflow_id, queue = order_workflow_id(order.order_id), str(uuid4())
    codec.belongs_to(workflow_id, order.customer_id)
    activities = all_activities(lambda service: world)
    async with Worker(client, task_queue=queue, workflows=WORKFLOWS, activities=activities, interceptors=[RefusalInterceptor()]):
        handle = await client.start_workflow(ORDER_WORKFLOW, order, id=workflow_id, task_queue=queue)

        async def held() -> bool:
            state = await handle.query("status", rpc_timeout=timedelta(seconds=60))
            return OrderState.model_validate(state).status == OrderStatus.IN_REVIEW

        await eventually(held, timeout_s=60, what="an order in review")
        await destroy(database, order.customer_id)
        await plain.get_workflow_handle(workflow_id).signal("cancel", {"reason": "mistake"})

        async def failed() -> bool:
            return (await handle.describe()).status == WorkflowExecutionStatus.FAILED

        await eventually(failed, timeout_s=60, what="the end of the workflow")
    events = (await plain.get_workflow_handle(workflow_id).fetch_history()).events
    failure = events[-1].workflow_execution_failed_event_attributes.failure
    assert failure.application_failure_info.type == ErrorCode.CUSTOMER_FORGOTTEN
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in [event.event_type for event in events]

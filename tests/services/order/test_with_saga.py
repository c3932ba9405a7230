"""The order service together with the real workflow: what clients and staff are told while it runs, and ever after.

The other services are those of the saga's own tests; the record is this service's."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx2
import pytest_asyncio
from pydantic import BaseModel
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import all_activities
from activities.calls import Reply
from chassis.access import Grant, Reach
from chassis.database import Database
from chassis.dependencies import provided
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.ids import order_workflow_id
from contracts.orders import AdvanceOrder
from contracts.payment_actions import ActionKind
from contracts.payments import AnsweredPayment
from contracts.shipments import ShipmentStatus, ShipmentUpdate
from embedded.temporal import TemporalServer
from services.order import commands
from services.order.app import build
from services.order.commands import OrderService
from temporal.names import ORDER_QUEUE
from temporal.refusals import RefusalInterceptor
from testing.model import World
from testing.model.world import unavailable
from tests.conftest import TokenMint, eventually, running_api
from tests.services.order.conftest import Catalogue, settings_for
from tests.services.order.test_api import place, without_trace
from worker import WORKFLOWS

SECRET = "stolen card"


class RecordedWorld(World):
    """The world of the saga's tests with this service's record in it."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        if not isinstance(body, AdvanceOrder):
            return await super().post(path, body, reply)
        if self.before["AdvanceOrder"]:
            self.before["AdvanceOrder"].pop(0)()
        progress = await commands.advance_order(self.database, body)
        assert isinstance(progress, reply)
        return progress


def worker_in(world: RecordedWorld, temporal_client: Client) -> Worker:
    """Works on the sagas while it is open."""
    return Worker(
        temporal_client,
        task_queue=ORDER_QUEUE,
        workflows=WORKFLOWS,
        activities=all_activities(lambda service: world),
        interceptors=[RefusalInterceptor()],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


@pytest_asyncio.fixture
async def world(database: Database, temporal_client: Client) -> AsyncIterator[RecordedWorld]:
    """Somebody works on the sagas."""
    world = RecordedWorld(database)
    async with worker_in(world, temporal_client):
        yield world


@pytest_asyncio.fixture
async def api(
    database: Database, catalogue: Catalogue, mint: TokenMint, temporal_server: TemporalServer, world: RecordedWorld
) -> AsyncIterator[httpx2.AsyncClient]:
    async with running_api(build(settings_for(database, catalogue, temporal_server.address, wait_s=25)), mint) as client:
        yield client


@pytest_asyncio.fixture
async def orders_in_a_hurry(
    database: Database, catalogue: Catalogue, temporal_server: TemporalServer
) -> AsyncIterator[OrderService]:
    """The same service where clients do not wait long."""
    service = build(settings_for(database, catalogue, temporal_server.address, wait_s=1))
    async with service.opened(frozenset()):
        yield provided(service.api, OrderService)


class Customer:
    """Somebody who places one order."""

    def __init__(self, api: httpx2.AsyncClient, mint: TokenMint) -> None:
        self.api, self.id = api, uuid4()
        self.headers = mint.headers(Role.CUSTOMER, subject=self.id)

    async def place(self) -> httpx2.Response:
        return await place(self.api, self.headers, prefer="")

    async def see(self, path: str) -> httpx2.Response:
        return await self.api.get(path, headers=self.headers)

    async def cancel(self, url: str, reason: str = "mistake") -> httpx2.Response:
        return await self.api.post(f"{url}/cancel", json={"reason": reason}, headers=self.headers)

    async def has(self, url: str, status: str) -> None:
        async def reached() -> bool:
            return bool((await self.see(url)).json()["status"] == status)

        await eventually(reached, timeout_s=60, what=f"status {status}")


async def test_a_confirmed_order_is_told_alike_for_ever(api: httpx2.AsyncClient, mint: TokenMint) -> None:
    ann = Customer(api, mint)
    first = await ann.place()
    assert (first.status_code, first.json()["status"]) == (201, "CONFIRMED")
    url = first.headers["location"]
    assert (await ann.see(url)).json()["status"] == "CONFIRMED"
    assert "idempotent-replayed" not in first.headers
    cancelled = await ann.cancel(url)
    assert (cancelled.status_code, cancelled.json()["status"], cancelled.json()["refunded"]["amount"]) == (
        200,
        "CANCELLED",
        "9.12",
    )
    assert (await ann.cancel(url)).json() == cancelled.json()
    again = await ann.place()
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    assert (await ann.see(url)).json()["status"] == "CANCELLED"


async def test_a_payment_is_confirmed_at_the_bank_and_the_order_says_how(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld, temporal_client: Client
) -> None:
    world.payments.bank.asks = ActionKind.REDIRECT
    ann = Customer(api, mint)
    first = await ann.place()
    assert (first.status_code, first.json()["status"]) == (202, "ACTION_REQUIRED")
    action = first.json()["payment_action"]
    assert (action["kind"], action["url"], action["transfer"]) == ("redirect", "https://bank.example/confirm", None)
    url = first.headers["location"]
    seen = (await ann.see(url)).json()
    assert (seen["status"], seen["payment_action"]) == ("ACTION_REQUIRED", action)
    [part] = (await ann.see(f"{url}/explain")).json()["parts"]
    assert (part["until"], [call["url"] for call in part["calls"]]) == (action["until"], [action["url"]])
    again = await ann.place()
    assert (again.status_code, again.json()["payment_action"]) == (202, action)
    assert [command.return_url for command in world.payments.asked] == ["http://127.0.0.1:8080/api/v1/payments/return"]
    [order] = (await api.get("/api/v1/orders?status=ACTION_REQUIRED", headers=ann.headers)).json()["items"]
    order_id = UUID(order["order_id"])
    world.payments.act(order_id, 1, confirms=True)
    saga = temporal_client.get_workflow_handle(order_workflow_id(order_id))
    await saga.signal("payment_answered", AnsweredPayment(attempt=1))
    await ann.has(url, "CONFIRMED")
    confirmed = await ann.place()
    assert (confirmed.status_code, confirmed.json()["status"]) == (201, "CONFIRMED")
    assert (await ann.see(url)).json()["payment_action"] is None


async def test_a_refused_order_is_told_alike_for_ever(api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld) -> None:
    def declined() -> None:
        raise Refusal(ErrorCode.PAYMENT_DECLINED, "The bank said no.", extra={"decline_code": "lost_card"})

    world.before["ProcessPayment"] = [declined]
    ann = Customer(api, mint)
    first = await ann.place()
    assert (first.status_code, first.json()["code"], first.json()["decline_code"]) == (422, "payment_declined", "lost_card")
    again = await ann.place()
    assert (again.status_code, without_trace(again)) == (422, without_trace(first))
    await ann.has(f"/api/v1/orders/{first.json()['order_id']}", "CANCELLED")
    assert without_trace(await ann.place()) == without_trace(first)


async def test_s7_s11_a_rejection_is_answered_and_its_reason_stays_with_staff(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld
) -> None:
    world.payments.bank.flags = True
    ann, operator = Customer(api, mint), uuid4()
    held = await ann.place()
    assert (held.status_code, held.json()["status"]) == (202, "IN_REVIEW")
    url, support = held.headers["location"], mint.headers(Role.SUPPORT, subject=operator)
    seen = (await api.get(url, headers=support)).json()
    assert "an operator to approve or reject" in seen["waiting_for"]
    decided = await api.post(f"{url}/reject", json={"reason": SECRET}, headers=support)
    assert decided.status_code == 200
    await ann.has(url, "CANCELLED")
    late = await api.post(f"{url}/approve", json={"reason": "but"}, headers=support)
    assert (late.status_code, late.json()["code"]) == (409, "not_in_review")
    refusal = await ann.place()
    assert (refusal.status_code, refusal.json()["code"], refusal.headers["idempotent-replayed"]) == (
        409,
        "review_rejected",
        "true",
    )
    for told in (refusal, await ann.see(url), await ann.see(f"{url}/timeline"), await ann.cancel(url)):
        assert SECRET not in told.text
        assert str(operator) not in told.text
    timeline = await api.get(f"{url}/timeline", headers=support)
    assert SECRET in timeline.text
    assert SECRET in (await api.get(url, headers=support)).json()["for_staff"]


async def test_s12_a_cancel_whose_refund_does_not_succeed_yet_says_so(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld, orders_in_a_hurry: OrderService
) -> None:
    ann = Customer(api, mint)
    url = (await ann.place()).headers["location"]
    world.before["RefundPayment"] = [unavailable] * 1000
    hurried = await orders_in_a_hurry.cancel(UUID(url.rpartition("/")[2]), "mistake", _grant(ann))
    assert not hasattr(hurried, "refunded")  # where it is, not what was settled
    await ann.has(url, "CANCELLING")
    world.before["RefundPayment"] = []
    await ann.has(url, "CANCELLED")
    assert (await ann.cancel(url)).status_code == 200


async def test_s10_a_lost_parcel_is_decided_about(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld, orders_in_a_hurry: OrderService
) -> None:
    ann, support = Customer(api, mint), mint.headers(Role.SUPPORT)
    first = await ann.place()
    url, order_id = first.headers["location"], UUID(first.json()["order_id"])
    early = await api.post(f"{url}/parcel-decision", json={"choice": "refund", "reason": "x"}, headers=support)
    assert (early.status_code, early.json()["code"]) == (409, "no_decision_pending")
    for status in (ShipmentStatus.DISPATCHED, ShipmentStatus.LOST):
        assert await orders_in_a_hurry.sagas.shipment_updated(order_id, ShipmentUpdate(status=status))
    await ann.has(url, "UNDELIVERED")
    seen = (await api.get(url, headers=support)).json()
    assert (seen["trouble"], seen["choices"]) == ("lost", ["refund", "resend", "wait"])
    assert not {"trouble", "choices"} & set((await ann.see(url)).json())
    wrong = await api.post(f"{url}/parcel-decision", json={"choice": "refund_and_restock", "reason": "x"}, headers=support)
    assert (wrong.status_code, wrong.json()["code"]) == (409, "choice_not_possible")
    decided = await api.post(f"{url}/parcel-decision", json={"choice": "refund", "reason": "gone"}, headers=support)
    assert decided.status_code == 200
    await ann.has(url, "REFUNDED")
    assert (await ann.see(url)).json()["refunded"]["amount"] == "9.12"
    assert (await ann.cancel(url)).status_code == 409
    assert (await ann.place()).json() == first.json()


def _grant(customer: Customer) -> Grant:
    return Grant(Principal(customer.id, frozenset({Role.CUSTOMER}), 0), frozenset({Reach.OWN}))

"""Why an order is where it is, asked over HTTP of real sagas whose histories are encrypted: each service down, no worker, no
Temporal, no history; and who is told what."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client

from chassis.clients import Unavailable
from chassis.database import Database
from contracts.identity import Role
from contracts.ids import order_workflow_id
from contracts.shipments import ShipmentStatus, ShipmentUpdate
from services.order.commands import OrderService
from services.order.explaining import UPDATES
from temporal import explaining
from tests.conftest import TokenMint, eventually
from tests.services.order.test_api import place
from tests.services.order.test_with_saga import RecordedWorld, api, orders_in_a_hurry, worker_in, world
from workflows.order import OrderWorkflow

__all__ = ["api", "orders_in_a_hurry", "world"]

Json = dict[str, Any]
UNTOLD = ("http://", "connect", "worker", "build", "temporal", "command", "commerce", "attempt", "operator", "last_error")
"""What no customer reads."""


def down(service: str) -> Callable[[], None]:
    def fault() -> None:
        raise Unavailable(f"{service}: cannot connect to http://{service}:8000")

    return fault


class Asking:
    """An order's customer and somebody of support, who both ask about it."""

    def __init__(self, client: httpx2.AsyncClient, mint: TokenMint) -> None:
        self._client, self._mint = client, mint
        self.customer = uuid4()
        self.url = ""

    async def place(self) -> UUID:
        placed = await place(self._client, self._mint.headers(Role.CUSTOMER, subject=self.customer))
        assert placed.status_code == 202, placed.text
        self.url = placed.headers["location"]
        return UUID(placed.json()["order_id"])

    async def staff(self) -> Json:
        return await self._as(Role.SUPPORT)

    async def its_customer(self, *more: Role) -> Json:
        told = await self._as(Role.CUSTOMER, *more, subject=self.customer)
        for word in UNTOLD:
            assert word not in str(told).lower(), f"{word} in {told}"
        return told

    async def until(self, cause: str, is_so: Callable[[Json], bool] = lambda told: True) -> Json:
        """What staff are told, once this is the cause."""
        told: Json = {}

        async def is_told() -> bool:
            nonlocal told
            told = await self.staff()
            return bool(told["cause"] == cause) and is_so(told)

        await eventually(is_told, what=f"an order explained by {cause}")
        return told

    async def _as(self, *roles: Role, subject: UUID | None = None) -> Json:
        headers = self._mint.headers(*roles, subject=subject or uuid4())
        response = await self._client.get(f"{self.url}/explain", headers=headers)
        assert response.status_code == 200, response.text
        told: Json = response.json()
        return told


@pytest.mark.parametrize(
    ("service", "command", "status"),
    [
        ("inventory", "ReserveInventory", "PENDING"),
        ("payment", "ProcessPayment", "RESERVED"),
        ("shipping", "CreateShipment", "PAID"),
        ("order", "AdvanceOrder", "CONFIRMED"),
    ],
)
async def test_a_service_that_is_down_is_named_with_attempt_error_and_next_try(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld, service: str, command: str, status: str
) -> None:
    world.before[command] = [down(service)] * 100_000
    asking = Asking(api, mint)
    await asking.place()
    told = await asking.until("step_fails", lambda told: told["parts"][0]["attempt"] > 2)
    part = told["parts"][0]
    assert (told["status"], told["source"], part["service"]) == (status, "workflow", service)
    assert f"cannot connect to http://{service}:8000" in part["last_error"]
    assert f"cannot connect to http://{service}:8000" in told["headline"]
    assert part["next_try"] is None or datetime.fromisoformat(part["next_try"]) >= datetime.fromisoformat(part["since"])
    later = await asking.until("step_fails", lambda told: told["parts"][0]["attempt"] > part["attempt"])
    assert later["parts"][0]["since"] == part["since"], "since the first try, not the last"
    assert "http" not in (await asking.its_customer())["headline"]
    world.before[command] = []
    settled = await asking.until("world")
    assert (settled["status"], settled["parts"][0]["who"]) == ("CONFIRMED", ["warehouse"])


async def test_a_mail_that_cannot_be_queued_keeps_no_order_waiting(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld
) -> None:
    world.before["SendNotification"] = [down("notification")] * 100_000
    asking = Asking(api, mint)
    await asking.place()
    told = await asking.until("world", lambda told: len(told["parts"]) > 1 and told["parts"][1]["attempt"] > 1)
    assert [part["who"] for part in told["parts"]] == [["warehouse"], ["platform", "operator"]]
    assert (told["parts"][1]["service"], told["parts"][1]["then"]) == ("notification", "it is left out")
    assert len((await asking.its_customer())["parts"]) == 1


async def test_an_undo_that_fails_is_named_and_may_be_tried_now(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld
) -> None:
    world.before["RefundPayment"] = [down("payment")] * 100_000
    asking = Asking(api, mint)
    order_id = await asking.place()
    await asking.until("world")
    headers = mint.headers(Role.CUSTOMER, subject=asking.customer) | {"Prefer": "respond-async"}
    cancelling = api.post(f"{asking.url}/cancel", json={"reason": "mistake"}, headers=headers)

    async def look() -> None:
        told = await asking.until("undo_fails", lambda told: told["parts"][0]["attempt"] > 1)
        part = told["parts"][0]
        assert (told["status"], part["part"], part["service"]) == ("CANCELLING", "undo refund-payment", "payment")
        assert part["calls"][-1]["command"] == f"commerce undo retry {order_id} refund-payment"
        assert part["then"] == "it is tried until it succeeds"
        customer = await asking.its_customer()
        assert ("payment", "the money to go back") in [(part["part"], part["waiting_for"]) for part in customer["parts"]]
        world.before["RefundPayment"] = []

    await asyncio.gather(cancelling, look())
    over = await asking.until("over")
    assert over["headline"].startswith("Cancelled on ")
    assert (over["parts"], over["calls"], over["code"]) == ([], [], "cancelled_by_request")


async def test_each_decision_is_explained_with_the_call_that_makes_it(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld, orders_in_a_hurry: OrderService
) -> None:
    world.payments.bank.flags = True
    asking = Asking(api, mint)
    order_id = await asking.place()
    held = await asking.until("somebody")
    calls = {call["path"].rpartition("/")[2]: call for part in held["parts"] for call in part["calls"]}
    assert set(calls) == {"approve", "reject"}
    customer = await asking.its_customer()
    assert [call["path"] for call in customer["calls"]] == [f"{asking.url}/cancel"]
    assert customer["parts"][0]["calls"] == []
    support = mint.headers(Role.SUPPORT)
    approve = calls["approve"]
    answer = await api.request(approve["method"], approve["path"], json=approve["body"], headers=support)
    assert answer.status_code == 200
    await asking.until("world")
    for status in (ShipmentStatus.DISPATCHED, ShipmentStatus.LOST):
        assert await orders_in_a_hurry.sagas.shipment_updated(order_id, ShipmentUpdate(status=status))
    lost = await asking.until("somebody")
    [decide] = lost["parts"][0]["calls"]
    assert decide["choices"] == ["refund", "resend", "wait"]
    answer = await api.request(decide["method"], decide["path"], json=decide["body"], headers=support)
    assert answer.status_code == 200, answer.text
    over = await asking.until("over")
    assert (over["status"], over["source"]) == ("REFUNDED", "record")


async def test_an_order_without_a_worker_is_explained_by_what_temporal_and_the_record_know(
    client: httpx2.AsyncClient, mint: TokenMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(client, mint)
    await asking.place()
    monkeypatch.setattr(explaining, "POLLS", timedelta(0))  # workers of other tests asked for work a moment ago
    told = await asking.until("no_worker")
    assert (told["source"], told["saga"]["workers"], told["saga"]["runs"]) == ("temporal", [], True)
    assert told["saga"]["task_since"]
    assert [part["who"] for part in told["parts"]] == [["operator"], ["platform"]]
    customer = await asking.its_customer()
    assert [part["waiting_for"] for part in customer["parts"]] == ["the shop to go on with it", "the goods to be reserved"]
    assert [call["path"] for call in customer["calls"]] == [f"{asking.url}/cancel"]


async def test_a_worker_that_has_just_gone_is_told_with_when_it_asked_last(
    client: httpx2.AsyncClient, mint: TokenMint, database: Database, temporal_client: Client
) -> None:
    asking = Asking(client, mint)
    async with worker_in(RecordedWorld(database), temporal_client):
        await asking.place()
        await asking.until("world")
    told = await asking.until("no_answer")
    assert (told["status"], told["source"]) == ("CONFIRMED", "temporal")
    assert "none answers; the last one asked for work at" in told["headline"]
    assert [part["who"] for part in told["parts"]] == [["operator"], ["warehouse"]]
    assert (await asking.its_customer())["parts"][1]["waiting_for"].startswith("the warehouse")


async def test_an_order_is_explained_without_temporal(lonely_client: httpx2.AsyncClient, mint: TokenMint) -> None:
    asking = Asking(lonely_client, mint)
    await asking.place()
    told = await asking.until("temporal_away")
    assert (told["status"], told["source"], told["saga"]) == ("PENDING", "record", None)
    first = told["parts"][0]
    assert "so that its saga can be started" in first["waiting_for"]
    assert first["last_error"]
    assert first["next_try"]
    assert (await asking.its_customer())["parts"][0]["waiting_for"] == "the shop to go on with it"


async def test_an_order_is_explained_when_its_history_is_gone(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld, temporal_client: Client
) -> None:
    asking = Asking(api, mint)
    order_id = await asking.place()
    await asking.until("world")
    handle = temporal_client.get_workflow_handle(order_workflow_id(order_id))
    await handle.terminate("by mistake")
    lost = await asking.until("lost")
    assert "terminated" in lost["headline"]
    assert lost["parts"][0]["since"] == lost["saga"]["ended_at"]
    execution = WorkflowExecution(workflow_id=handle.id)
    request = DeleteWorkflowExecutionRequest(namespace=temporal_client.namespace, workflow_execution=execution)
    await temporal_client.workflow_service.delete_workflow_execution(request)
    gone = await asking.until("lost", lambda told: "unknown to Temporal" in told["headline"])
    assert gone["source"] == "record"
    assert gone["parts"][0]["calls"][0]["command"].startswith(f"commerce orders repair {order_id}")
    customer = await asking.its_customer()
    assert (customer["status"], customer["calls"]) == ("CONFIRMED", [])


async def test_staff_read_an_order_of_their_own_as_its_customer(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld
) -> None:
    asking = Asking(api, mint)
    await asking.place()
    await asking.until("world")
    assert "cause" not in await asking.its_customer(Role.SUPPORT)
    stranger = await api.get(f"{asking.url}/explain", headers=mint.headers(Role.CUSTOMER))
    assert (stranger.status_code, stranger.json()["code"]) == (404, "not_found")


async def test_each_call_that_is_named_exists(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for name in workflow._Definition.must_from_class(OrderWorkflow).updates:
        way = UPDATES.get(str(name))
        if way and way.under:
            assert "post" in paths[f"/api/v1/orders/{{order_id}}/{way.under}"]

"""`commerce returns`: shown from record and saga; decided about and received by whoever has the platform at hand."""

import json
from collections.abc import AsyncIterator

import pytest_asyncio
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from chassis.database import Database
from contracts.ids import return_workflow_id
from contracts.orders import PlaceOrder
from embedded.temporal import TemporalServer
from temporal.client import TemporalSettings, connect
from temporal.names import ORDER_QUEUE
from tests.cli.conftest import Command
from tests.services.order.conftest import database, temporal_server
from tests.services.order.scripted import ScriptedReturn
from tests.services.order.test_returns import asked, delivered

__all__ = ["database", "temporal_server"]
WHY = ("--reason", "known customer", "--by", "ann")


@pytest_asyncio.fixture
async def client(temporal_server: TemporalServer) -> AsyncIterator[Client]:
    """Somebody works on the sagas of returns."""
    client = await connect(TemporalSettings(temporal_address=temporal_server.address))
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=ORDER_QUEUE, workflows=[ScriptedReturn], workflow_runner=runner):
        yield client


@pytest_asyncio.fixture
async def order(database: Database) -> PlaceOrder:
    """It has a return that is just asked for: no saga was started yet."""
    order = await delivered(database)
    await asked(database, order, 2, comment="Too small")
    return order


@pytest_asyncio.fixture
async def env(database: Database, temporal_server: TemporalServer) -> dict[str, str]:
    return {
        "DATABASE_URL_ORDER": database.url,
        "TEMPORAL_ADDRESS": temporal_server.address,
        "HISTORIES_IN_CLEAR": "true",
        "COLUMNS": "200",
    }


async def test_returns_are_listed_and_shown(commerce: Command, env: dict[str, str], order: PlaceOrder, client: Client) -> None:
    listed = await commerce(env, "returns", "list")
    assert listed.exit_code == 0, listed.output
    assert str(order.order_id) in listed.output
    assert "2 x milk (changed_mind)" in listed.output
    assert "REQUESTED" not in (await commerce(env, "returns", "list", "--status", "COMPLETED")).output
    assert (await commerce(env, "returns", "list", "--status", "LOST")).exit_code == 1
    shown = await commerce(env, "returns", "show", order.order_id, 1, "--json")
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.output)
    assert (facts["status"], facts["comment"], facts["worth"]) == (
        "REQUESTED",
        "Too small",
        "3.00 USD, if all comes in good condition",
    )
    assert [entry["what"] for entry in facts["timeline"]] == ["Return asked for"]
    assert (await commerce(env, "returns", "show", order.order_id, 2)).exit_code == 1


async def test_a_return_is_approved_and_received(
    commerce: Command, env: dict[str, str], order: PlaceOrder, client: Client
) -> None:
    approved = await commerce(env, "returns", "approve", order.order_id, 1, *WHY)
    assert approved.exit_code == 0, approved.output
    assert "is APPROVED" in approved.output
    for wrong in (("--good", "one"), ("--good", "1=3"), ("--all", "--nothing"), ()):
        assert (await commerce(env, "returns", "receive", order.order_id, 1, "--by", "bob", *wrong)).exit_code == 1
    came = ("--good", "1=1", "--damaged", "1=1", "--warehouse", "410")
    received = await commerce(env, "returns", "receive", order.order_id, 1, "--by", "bob", *came)
    assert received.exit_code == 0, received.output
    handle = client.get_workflow_handle(return_workflow_id(order.order_id, 1))
    assert await handle.query(ScriptedReturn.asked) == [
        "approve ann: known customer", "receive at 410: 1 good of line 1, 1 damaged of line 1",
    ]  # fmt: skip


async def test_a_return_is_rejected_or_called_off(
    commerce: Command, env: dict[str, str], order: PlaceOrder, client: Client
) -> None:
    for what, status in (("reject", "REJECTED"), ("cancel", "CANCELLED")):
        done = await commerce(env, "returns", what, order.order_id, 1, *WHY)
        assert done.exit_code == 0, done.output
        assert f"is {status}" in done.output

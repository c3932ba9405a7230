"""What an order leaves in Temporal: the API, the saga and the worker's codec together, on real servers."""

import httpx2
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client

from tests.conftest import TokenMint
from tests.services.order.conftest import SHIP_TO
from tests.services.order.test_with_saga import Customer, RecordedWorld, api, world

__all__ = ["api", "world"]
PERSONAL = (SHIP_TO.name, SHIP_TO.line1, SHIP_TO.city, SHIP_TO.postal_code, "tok_visa", "mistake", "it is full of")


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

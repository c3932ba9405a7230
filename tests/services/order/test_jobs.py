"""The jobs of the order process, on a real Temporal server: what waits for a person is counted."""

from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from chassis.database import Database
from chassis.jobs import Job
from embedded.temporal import TemporalServer
from services.order.app import build
from temporal.names import ORDER_STATUS, ORDER_WORKFLOW, PARCEL_TROUBLE, STUCK_UNDO
from tests.conftest import eventually
from tests.services.order.conftest import Catalogue, new_order, settings_for

Sample = tuple[str, dict[str, str]]
COUNTED: tuple[Sample, ...] = (
    ("orders_waiting", {"for": "review"}),
    ("orders_waiting", {"for": "parcel_decision"}),
    ("saga_undos_stuck", {}),
)


async def test_orders_that_wait_for_a_person_are_counted(
    database: Database,
    catalogue: Catalogue,
    temporal_server: TemporalServer,
    temporal_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chassis.figures.SHARE", 0)
    service = build(settings_for(database, catalogue, temporal_server.address))
    [count] = [job for job in service.jobs if isinstance(job, Job) and job.name == "take figures"]

    async def counted() -> list[float | None]:
        await count.work()
        return [REGISTRY.get_sample_value(name, labels) for name, labels in COUNTED]

    async def started(*attributes: tuple[SearchAttributeKey[str], str]) -> None:
        pairs = [SearchAttributePair(key, value) for key, value in attributes]
        await temporal_client.start_workflow(
            ORDER_WORKFLOW,
            new_order(),
            id=f"counted-{uuid4()}",
            task_queue="nobody-works-here",
            search_attributes=TypedSearchAttributes(pairs),
        )

    async with service.opened(frozenset()):
        before = await counted()
        assert None not in before
        await started((ORDER_STATUS, "IN_REVIEW"))
        for trouble in ("lost", "silent"):
            await started((ORDER_STATUS, "UNDELIVERED"), (PARCEL_TROUBLE, trouble))
        await started((ORDER_STATUS, "CANCELLING"), (STUCK_UNDO, "Refund payment"))

        async def grown() -> bool:
            now = await counted()
            return [after - (earlier or 0) for after, earlier in zip(now, before, strict=True) if after is not None] == [1, 2, 1]

        await eventually(grown, what="the count")

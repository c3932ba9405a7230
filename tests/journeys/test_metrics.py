"""Dashboards and alerts ask for metrics that the platform offers: all of its processes are asked, after orders of every kind."""

import asyncio
import json
import re

import aiohttp

from contracts.platform import EDGE, SERVICES, WORKER
from testing.scenarios import orders as plays
from testing.stage import Stage
from tests.conftest import eventually
from tests.deploy.observability import asked_for

NOT_ON_A_QUIET_PLATFORM = {
    "refunds_owed": "there is none while no refund is owed",
    "refunds_owed_amount": "there is none while no refund is owed",
    "temporal_activity_execution_failed_total": "no durable step has failed",
    "temporal_local_activity_execution_failed_total": "no step has failed",
    "temporal_workflow_task_execution_failed_total": "no workflow task has failed",
    "temporal_sticky_cache_miss_total": "no order was replayed",
    "temporal_sticky_cache_total_forced_eviction_total": "the cache was large enough",
    "temporal_request_failure_total": "no request to Temporal has failed",
    "temporal_long_request_failure_total": "no long poll has failed",
    "gateway_rate_limited_total": "nobody asked too often",
    "database_replica_reads_total": "no service has a replica",
    "payments_owed": "no refund failed, and the provider tells of no money that we do not know",
    "payment_disputes_open": "nobody disputes a payment",
}
"""Metrics that are there only after something has happened, and why there are none here. That those of Temporal's SDK have these
names was seen by making it fail."""
OF_PROMETHEUS_ITSELF = {"up"}


async def metrics_of(stage: Stage) -> dict[str, set[str]]:
    """The names of the samples that each process offers."""
    ports = json.loads((stage.platform.data_dir / "ports.json").read_text())
    pages = [process.identifier for process in (*SERVICES, EDGE, WORKER)] + ["gateway_metrics", "worker_sdk_metrics"]
    async with aiohttp.ClientSession() as http:

        async def names(page: str) -> set[str]:
            async with http.get(f"http://127.0.0.1:{ports[page]}/metrics") as response:
                assert response.status == 200
                return set(re.findall(r"^(\w+)[{ ]", await response.text(), re.MULTILINE))

        return dict(zip(pages, await asyncio.gather(*map(names, pages)), strict=True))


async def test_dashboards_and_alerts_ask_for_metrics_that_there_are(stage: Stage) -> None:
    for play in (plays.declined, plays.held_and_approved, plays.cancelled_in_time, plays.out_of_stock):
        await stage.placed(play)
    await stage.delivered(await stage.placed())
    asked = asked_for()
    expected = set().union(*asked.values()) - OF_PROMETHEUS_ITSELF - set(NOT_ON_A_QUIET_PLATFORM)

    offered: set[str] = set()

    async def are_offered() -> bool:
        """Envoy adds up its histograms every few seconds, and the figures of all orders are taken now and then."""
        offered.update(*(await metrics_of(stage)).values())
        return {"envoy_vhost_route_upstream_rq_time_bucket", "orders_in_flight", "orders_waiting"} <= offered

    await eventually(are_offered, what="those metrics that take a while")
    missing = {place: found for place, names in asked.items() if (found := (names & expected) - offered)}
    assert not missing
    assert set(NOT_ON_A_QUIET_PLATFORM) <= set().union(*asked.values())


async def test_figures_of_all_orders_are_offered_by_the_order_service_alone(stage: Stage) -> None:
    offering = {page for page, names in (await metrics_of(stage)).items() if "orders_in_flight" in names}
    assert offering == {"order"}

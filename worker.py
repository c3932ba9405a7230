"""The Temporal worker: runs the workflows of orders and returns, and their activities. `python -m worker`."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from fastapi import APIRouter
from pydantic import Field, SecretStr
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities import all_activities
from chassis.clients import HttpSession, ServiceClient, ServiceTokens
from chassis.service import new_app, run_process, serve
from chassis.settings import ProcessSettings
from contracts.budgets import DRAIN_S, SERVICE_CALL_S, STEP_CALL_S
from contracts.platform import local_url
from temporal.client import TemporalSettings, connect
from temporal.codec import HistoryCodec
from temporal.keys import DataKeys, HistorySettings, KeysOfOrderService
from temporal.names import ORDER_QUEUE
from temporal.refusals import RefusalInterceptor
from temporal.step_log import StepLog
from temporal.versions import VersionSettings
from workflows.order import OrderWorkflow
from workflows.returns.story import ReturnWorkflow

WORKFLOWS: list[type[Any]] = [OrderWorkflow, ReturnWorkflow]

SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules(
        "activities",
        "contracts",
        "pydantic",
        "temporal",
        "workflows.order_steps",
        "workflows.parcels",
        "workflows.progress",
        "workflows.returns.progress",
        "workflows.returns.rules",
        "workflows.returns.steps",
        "workflows.saga",
        "workflows.shields",
        "workflows.steps",
        "workflows.waits",
    )
)
"""For tests and replays: it catches what is not deterministic. Only the workflow's own modules are loaded anew for each run."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BUCKETS = dict.fromkeys(("workflow_task_schedule_to_start_latency", "activity_schedule_to_start_latency"), SECONDS)
"""Of figures of Temporal's SDK whose buckets begin at a tenth of a second otherwise."""


class WorkerSettings(ProcessSettings, TemporalSettings, VersionSettings, HistorySettings):
    """What the worker reads."""

    order_url: str = local_url("order")
    inventory_url: str = local_url("inventory")
    payment_url: str = local_url("payment")
    shipping_url: str = local_url("shipping")
    notification_url: str = local_url("notification")
    service_client_secret: SecretStr = Field(validation_alias="SERVICE_CLIENT_SECRET_WORKER")
    workflow_sandbox: bool = False
    """Run workflows in the SDK's sandbox, as every test and replay does. Why not here: docs/adr/0010."""
    worker_metrics_address: str | None = None
    """Where Temporal's SDK offers its metrics to Prometheus, e.g. 0.0.0.0:9464."""


class Services:
    """The services that the worker calls."""

    def __init__(self, settings: WorkerSettings, http: HttpSession) -> None:
        self._settings, self._http = settings, http
        self._tokens = ServiceTokens(http, settings.identity_url, "worker", settings.service_client_secret)

    def client(self, name: str, timeout_s: float = STEP_CALL_S) -> ServiceClient:
        return ServiceClient(name, getattr(self._settings, f"{name}_url"), self._http, self._tokens, timeout_s=timeout_s)


def history_codec(settings: WorkerSettings, services: Services) -> HistoryCodec | None:
    """What encrypts histories; None: they are in clear."""
    master = settings.master_keys()
    if master is None:
        return None
    # A workflow's task waits for a key: it must be there long before the task is given to another worker.
    keys = DataKeys(KeysOfOrderService(services.client("order", SERVICE_CALL_S)), master)
    return HistoryCodec(keys, writes_in_clear=settings.histories_in_clear)


def order_worker(client: Client, settings: WorkerSettings, services: Services) -> Worker:
    """The worker on the orders queue. Nothing comes to it until its build is promoted: `commerce release promote`."""
    tell_in_fields()
    return Worker(
        client,
        task_queue=ORDER_QUEUE,
        workflows=WORKFLOWS,
        activities=all_activities(services.client),
        interceptors=[StepLog(), RefusalInterceptor()],
        deployment_config=WorkerDeploymentConfig(
            version=WorkerDeploymentVersion(settings.temporal_deployment_name, settings.build_id),
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.PINNED,
        ),
        workflow_runner=SANDBOX if settings.workflow_sandbox else UnsandboxedWorkflowRunner(),
        max_cached_workflows=500,
        max_concurrent_workflow_tasks=50,
        max_concurrent_activities=100,
        max_concurrent_local_activities=50,
        graceful_shutdown_timeout=timedelta(seconds=DRAIN_S),
    )


def tell_in_fields() -> None:
    """What a line of the SDK belongs to stands in its fields (chassis/logs.py), and not once more in its message."""
    workflow.logger.workflow_info_on_message = activity.logger.activity_info_on_message = False


async def main(settings: WorkerSettings) -> None:
    """Run until SIGTERM."""
    runtime = _runtime(settings.worker_metrics_address)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(HttpSession())
        services = Services(settings, http)
        client = await _connect_when_there(settings, history_codec(settings, services), runtime)
        await stack.enter_async_context(order_worker(client, settings, services))
        app = new_app("Worker", "", list[APIRouter](), {"temporal": client.service_client.check_health})
        await serve(app, settings)


async def _connect_when_there(settings: WorkerSettings, codec: HistoryCodec | None, runtime: Runtime) -> Client:
    while True:
        try:
            return await connect(settings, codec, runtime=runtime)
        except RuntimeError:  # what the SDK raises while the server is not there yet
            await asyncio.sleep(0.2)


def _runtime(metrics_address: str | None) -> Runtime:
    metrics = None
    if metrics_address:
        metrics = PrometheusConfig(
            bind_address=metrics_address,
            counters_total_suffix=True,
            unit_suffix=True,
            durations_as_seconds=True,
            histogram_bucket_overrides=BUCKETS,
        )
    return Runtime(telemetry=TelemetryConfig(metrics=metrics))


if __name__ == "__main__":
    settings = WorkerSettings()
    run_process("worker", settings, lambda: main(settings))

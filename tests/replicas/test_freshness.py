"""How fresh each answer is: said in the API's own document, and kept."""

from importlib import import_module

import httpx2
import pytest

from chassis.access import AccessTable
from chassis.dependencies import provided
from chassis.freshness import MAY_LAG, PRESENT, oldest_s
from chassis.replica import Replica
from chassis.service import Service
from contracts.identity import Role
from contracts.platform import SERVICE_NAMES
from embedded.ports import free_port
from tests.access import Operation, operations
from tests.conftest import TokenMint, eventually, running_api
from tests.deploy.platform import FRESH, SETTINGS, compose, interpolate
from tests.input.test_bounds import document
from tests.replicas.conftest import Replicated
from tests.replicas.test_replica import value

LAG = {
    "identity": {"/api/v1/users"},
    "catalog": {"/api/v1/products", "/api/v1/categories"},
    "order": {"/api/v1/orders", "/api/v1/returns", "/api/v1/discounts", "/api/v1/discounts/{code}/redemptions"},
    "payment": {
        "/api/v1/payments",
        "/api/v1/payments/ledger",
        "/api/v1/payments/owed",
        "/api/v1/payments/disputes",
        "/api/v1/payments/news",
        "/api/v1/payments/bank-entries",
        "/api/v1/payments/bank-orders",
    },
    "inventory": {"/api/v1/warehouses", "/api/v1/stock"},
    "shipping": {
        "/api/v1/shipments",
        "/api/v1/shipping/dispatch-list",
        "/api/v1/tracking/{tracking_number}",
    },
    "notification": {"/api/v1/notifications", "/api/v1/notification-templates", "/api/v1/notifications/templates"},
    "analytics": {
        "/api/v1/reports/summary",
        "/api/v1/reports/sales-by-day",
        "/api/v1/reports/top-products",
        "/api/v1/reports/customers",
        "/api/v1/reports/customers/{customer_id}",
    },
}
"""What may lag: lists, reports, tracking. All else is read from the primary: the one thing that somebody has just written, what a
process of ours decides by, and whatever rights rest on (sessions, the security log)."""


@pytest.mark.parametrize("name", SERVICE_NAMES)
def test_every_get_says_how_fresh_it_is(name: str) -> None:
    reads = {path: item["get"] for path, item in document(name)["paths"].items() if "get" in item and "/health/" not in path}
    lags = {path for path, operation in reads.items() if operation["description"].endswith(MAY_LAG)}
    assert lags == LAG[name]
    assert lags == {path for path, operation in reads.items() if "Age" in operation["responses"]["200"].get("headers", {})}
    present = {path for path, operation in reads.items() if operation["description"].endswith(PRESENT)}
    assert present == set(reads) - lags


@pytest.mark.parametrize("name", SERVICE_NAMES)
async def test_every_get_reads_where_it_says(
    name: str, servers: Replicated, mint: TokenMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await _service(name, servers, monkeypatch)
    access: AccessTable = import_module(f"services.{name}.access").ACCESS
    async with running_api(service, mint) as client:
        replica = provided(service.api, Replica)

        async def is_fit() -> bool:
            return replica.trouble() is None

        for operation in operations(access, document(name)):
            if operation.method == "GET":
                await eventually(is_fit)
                assert await _may_read_from_the_replica(client, mint, operation) == (operation.path in LAG[name]), operation.path


async def _may_read_from_the_replica(client: httpx2.AsyncClient, mint: TokenMint, operation: Operation) -> bool:
    before = _reads()
    request = operation.request({"kind": "order_confirmed"})
    role = Role.SERVICE if operation.path.startswith("/internal/") else Role.ADMIN
    response = await client.request(**request | {"headers": request["headers"] | mint.headers(role)})
    assert response.status_code in (200, 404), response.text
    reads = {outcome: now - before[outcome] for outcome, now in _reads().items()}
    assert ("Age" in response.headers) == (reads["used"] == 1)
    assert sum(reads.values()) <= 1
    return sum(reads.values()) == 1


def _reads() -> dict[str, float]:
    """How many queries a replica might have answered, and did. On a busy machine it may fail to do so in time."""
    name = "database_replica_reads_total"
    return {outcome: value(name, outcome=outcome) for outcome in ("used", "refused", "failed", "unfit")}


async def _service(name: str, servers: Replicated, monkeypatch: pytest.MonkeyPatch) -> Service:
    """As Docker Compose would start it, on a database of the test and its replica."""
    for variable, told in compose()["services"][name]["environment"].items():
        monkeypatch.setenv(variable, interpolate(str(told), FRESH))
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")  # nobody: it is done without
    url = await servers.databases.new(name)
    monkeypatch.setenv(f"DATABASE_URL_{name.upper()}", url)
    monkeypatch.setenv(f"DATABASE_READ_URL_{name.upper()}", servers.read_url(url))
    service: Service = import_module(f"services.{name}.app").build(SETTINGS[name]())
    return service


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ([], float("inf")),
        (["no-store"], float("inf")),
        (["max-age=3"], 3.0),
        (['max-age="3", max-stale', "max-age=2"], 2.0),
        (["No-Cache"], 0.0),
        (["max-age=3", "no-cache"], 0.0),
        (["max-age=-1"], 0.0),
        (["max-age="], 0.0),
    ],
)
def test_a_caller_says_how_old_an_answer_may_be(cache_control: list[str], seconds: float) -> None:
    assert oldest_s(cache_control) == seconds

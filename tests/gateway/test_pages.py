"""What the gateway says itself: the health of the whole, one document, its page, metrics."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import utc_now
from contracts.identity import Role
from embedded import kafka
from gateway.openapi import merge
from gateway.pages import STATIC
from gateway.routes import RouteTable
from tests.conftest import TokenMint
from tests.gateway.conftest import NOWHERE, FrontDoor, Shop, Start

REF = "#/components/schemas/"


def document(paths: dict[str, Any], schemas: dict[str, Any] | None = None) -> dict[str, Any]:
    components = {"schemas": schemas or {}, "securitySchemes": {"HTTPBearer": {"type": "http", "scheme": "bearer"}}}
    return {"openapi": "3.1.0", "info": {"description": "Text."}, "paths": paths, "components": components}


def operation(schema: str, **more: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF + schema}}}
    return {"summary": schema, "tags": ["x"], "responses": {"200": {"content": content}}, **more}


def test_only_public_endpoints_are_documented() -> None:
    paths = {
        "/api/v1/products/{product_id}": {"get": operation("Product"), "put": operation("Product"), "parameters": []},
        "/internal/v1/products/lookup": {"post": operation("Secret")},
        "/health/live": {"get": operation("Secret")},
        "/api/v1/orders": {"get": operation("Secret")},
    }
    schemas = {"Product": {"properties": {"price": {"$ref": REF + "Money"}}}, "Money": {}, "Secret": {}}
    merged = merge({"catalog": document(paths, schemas)}, RouteTable(), ["order"])
    assert set(merged["paths"]) == {"/api/v1/products/{product_id}"}
    assert set(merged["paths"]["/api/v1/products/{product_id}"]) == {"get", "put", "parameters"}
    assert set(merged["components"]["schemas"]) == {"Product", "Money"}
    assert merged["x-unavailable"] == ["order"]
    assert "Secret" not in str(merged)


def test_who_needs_a_token_is_told_so() -> None:
    paths = {
        "/api/v1/products": {"get": operation("P", security=[]), "post": operation("P")},
        "/api/v1/products/mine": {"get": operation("P", security=[{"HTTPBearer": []}])},
    }
    merged = merge({"catalog": document(paths, {"P": {}})}, RouteTable(), [])
    assert "security" not in merged["paths"]["/api/v1/products"]["get"]
    assert merged["paths"]["/api/v1/products"]["post"]["security"] == [{"bearer": []}]
    assert merged["paths"]["/api/v1/products/mine"]["get"]["security"] == [{"bearer": []}]
    assert list(merged["components"]["securitySchemes"]) == ["bearer"]


def test_components_of_one_name_are_kept_apart_if_they_differ() -> None:
    page = {"properties": {"items": {"$ref": REF + "Item"}}}
    catalog = document(
        {"/api/v1/products": {"get": operation("Page")}}, {"Page": page, "Item": {"title": "product"}, "Problem": {}}
    )
    order = document(
        {"/api/v1/orders": {"get": operation("Page"), "post": operation("Problem")}},
        {"Page": page, "Item": {"title": "order"}, "Problem": {}},
    )
    catalog["paths"]["/api/v1/products"]["post"] = operation("Problem")
    merged = merge({"catalog": catalog, "order": order}, RouteTable(), [])
    schemas = merged["components"]["schemas"]
    assert set(schemas) == {"Page", "Item", "Problem", "OrderPage", "OrderItem"}

    def items_of(path: str) -> str:
        content = merged["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        item = schemas[content.removeprefix(REF)]["properties"]["items"]["$ref"]
        return str(schemas[item.removeprefix(REF)]["title"])

    assert (items_of("/api/v1/products"), items_of("/api/v1/orders")) == ("product", "order")


async def test_one_document_for_all_services_that_are_up(start: Start, shop: Shop) -> None:
    shop["catalog"].document = document({"/api/v1/products": {"get": operation("P")}}, {"P": {"title": "product"}})
    shop["order"].document = document({"/api/v1/orders": {"get": operation("P")}}, {"P": {"title": "order"}})
    client = (await start(payment_url=NOWHERE)).client
    response = await client.get("/openapi.json")
    merged = response.json()
    assert set(merged["paths"]) == {"/api/v1/products", "/api/v1/orders"}
    assert "payment" in merged["x-unavailable"]
    assert "catalog" not in merged["x-unavailable"]
    assert "127.0.0.1" not in response.text
    again = await client.get("/openapi.json", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_docs_page_needs_nothing_from_elsewhere(front_door: FrontDoor) -> None:
    client = front_door.client
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "'self'" in page.headers["content-security-policy"]
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert link.startswith("/docs/")
        assert (await client.get(link)).status_code == 200
    assert sum(file.stat().st_size for file in STATIC.rglob("*") if file.is_file()) < 2_000_000


async def test_g12_a_forged_host_leads_nowhere(front_door: FrontDoor, mint: TokenMint) -> None:
    headers = mint.headers(Role.ADMIN) | {"Host": "evil.example"}
    for path in ("/", "/docs/", "/health/", "/api/v1/products/", "/api/v1/orders/"):
        response = await front_door.client.get(path, headers=headers)
        assert "evil" not in response.headers.get("location", ""), path
    assert (await front_door.client.get("/", headers=headers)).headers["location"] == "/docs"


async def test_whom_to_tell_of_a_hole(front_door: FrontDoor) -> None:
    response = await front_door.client.get("/.well-known/security.txt")
    assert response.headers["content-type"].startswith("text/plain")
    fields = dict(line.split(": ", 1) for line in response.text.splitlines())
    assert fields["Contact"].startswith("mailto:")
    assert utc_now() < datetime.fromisoformat(fields["Expires"]) < utc_now() + timedelta(days=365)


async def test_the_health_of_the_whole(start: Start, shop: Shop, tmp_path: Path) -> None:
    async with kafka.running(tmp_path) as broker:
        own = {"kafka_bootstrap_servers": broker.bootstrap}
        shop["payment"].checks = {"database": "ok", "temporal": "ok"}
        door = await start(worker_url=shop["payment"].url, **own)
        health = await door.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "up"), health.text
        assert set(health.json()["parts"]) == {*shop, "worker", "redis", "kafka", "postgresql", "temporal"}
        assert health.json()["parts"]["catalog"]["latency_ms"] > 0

        shop["order"].checks, shop["payment"].checks = {"database": "ConnectionRefusedError"}, {"database": "ok"}
        lame = await start(analytics_url=NOWHERE, worker_url=NOWHERE, **own)
        health = await lame.client.get("/health")
        parts = health.json()["parts"]
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert {name for name, part in parts.items() if part["status"] == "down"} == {
            "analytics",
            "worker",
            "order",
            "postgresql",
        }
        assert parts["order"]["reason"] == "not ready: database"
        assert parts["postgresql"]["reason"] == "not reached by order"
        assert parts["temporal"] == {"status": "unknown", "latency_ms": None, "reason": "nobody who uses it answers"}
        assert "127.0.0.1" not in health.text
        assert (await lame.client.get("/health/live")).json() == {"status": "live"}
        assert (await lame.client.get("/health/ready")).status_code == 200

    dead = await start(
        **{f"{name}_url": NOWHERE for name in shop}, redis_url="redis://127.0.0.1:1/0", kafka_bootstrap_servers="127.0.0.1:1"
    )
    health = await dead.client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "down")
    assert "127.0.0.1" not in health.text


async def test_metrics_are_within_the_platform(front_door: FrontDoor, mint: TokenMint) -> None:
    await front_door.client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
    metrics = await front_door.metrics()
    counted = 'envoy_vhost_route_upstream_rq{envoy_response_code="200",envoy_virtual_host="api",envoy_route="api_v1_orders"}'
    assert counted in metrics
    assert 'envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="order"}' in metrics
    outside = await front_door.client.get("/metrics")
    assert (outside.status_code, outside.json()["code"]) == (404, "not_found")
    own = await front_door.client.get(f"{front_door.settings.edge_url}/metrics")
    assert "gateway_shared_limits_unavailable_total" in own.text


@pytest.mark.parametrize("path", ["/", "/quitquitquit", "/stats", "/config_dump", "/metrics/../config_dump", "/ready/x"])
async def test_nothing_else_of_envoys_admin_interface_is_open(front_door: FrontDoor, path: str) -> None:
    base = f"http://127.0.0.1:{front_door.settings.metrics_port}"
    for method in ("GET", "POST"):
        assert (await front_door.client.request(method, base + path)).status_code == 404
    assert (await front_door.client.post(f"{base}/metrics")).status_code == 404
    assert (front_door.directory / "envoy-admin.sock").stat().st_mode & 0o777 == 0o600

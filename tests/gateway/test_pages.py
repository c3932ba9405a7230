"""What the gateway says itself: the health of the whole, one document, its page, metrics."""

import re
from typing import Any

import httpx2
import pytest

from contracts.identity import Role
from embedded.ports import free_port
from gateway.openapi import merge
from gateway.pages import STATIC
from gateway.routes import RouteTable
from tests.conftest import TokenMint
from tests.gateway.conftest import Shop, Start

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
    client = await start(payment_url=f"http://127.0.0.1:{free_port()}")
    response = await client.get("/openapi.json")
    merged = response.json()
    assert set(merged["paths"]) == {"/api/v1/products", "/api/v1/orders"}
    assert "payment" in merged["x-unavailable"]
    assert "catalog" not in merged["x-unavailable"]
    assert "127.0.0.1" not in response.text
    again = await client.get("/openapi.json", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_docs_page_needs_nothing_from_elsewhere(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/")).headers["location"] == "/docs"
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "'self'" in page.headers["content-security-policy"]
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert link.startswith("/docs/")
        assert (await client.get(link)).status_code == 200
    assert sum(file.stat().st_size for file in STATIC.rglob("*") if file.is_file()) < 2_000_000


async def test_the_health_of_the_whole(start: Start, shop: Shop) -> None:
    client = await start()
    health = await client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "up")
    assert set(health.json()["parts"]) == {*shop, "rate_limits"}
    assert health.json()["parts"]["catalog"]["latency_ms"] > 0

    lame = await start(analytics_url=f"http://127.0.0.1:{free_port()}", worker_url=f"http://127.0.0.1:{free_port()}")
    health = await lame.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert {name for name, part in health.json()["parts"].items() if part["status"] == "down"} == {"analytics", "worker"}
    assert "127.0.0.1" not in health.text
    assert (await lame.get("/health/live")).json() == {"status": "live"}
    assert (await lame.get("/health/ready")).status_code == 200

    nothing = f"http://127.0.0.1:{free_port()}"
    dead = await start(**{f"{name}_url": nothing for name in shop}, redis_url="redis://127.0.0.1:1/0")
    health = await dead.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "down")
    ready = await dead.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]) == (503, {"identity_keys": "OSError"})


async def test_once_ready_it_stays_ready_without_identity(start: Start, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await start()
    assert (await client.get("/health/ready")).status_code == 200
    monkeypatch.setattr(shop["identity"], "jwks", None)
    assert (await client.get("/health/ready")).status_code == 200


async def test_metrics_are_for_those_who_may(start: Start, shop: Shop, mint: TokenMint) -> None:
    local = await start()
    await local.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
    metrics = await local.get("/metrics")
    assert 'gateway_requests_total{method="GET",route="/api/v1/orders",service="order",status="200"}' in metrics.text
    assert "gateway_request_seconds_bucket" in metrics.text
    # Through a proxy that the gateway was not told of, everybody would come from its address.
    hidden = await local.get("/metrics", headers={"X-Forwarded-For": "203.0.113.1"})
    assert (hidden.status_code, hidden.json()["code"]) == (404, "not_found")
    closed = await start(metrics_allowed="192.0.2.0/24")
    assert (await closed.get("/metrics")).status_code == 404
    proxied = await start(metrics_allowed="192.0.2.0/24", trusted_proxies="127.0.0.1")
    assert (await proxied.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"})).status_code == 200
    assert (await proxied.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7, 203.0.113.1"})).status_code == 404

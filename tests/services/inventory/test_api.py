"""Inventory's API: who may do what, what errors look like, pages."""

from uuid import uuid4

import httpx2
import pytest

from contracts.base import LARGEST_QUANTITY
from contracts.errors import Refusal
from contracts.identity import Role
from contracts.inventory import MovementKind
from services.inventory.model import Cause, Stock
from tests.conftest import TokenMint


async def receive(client: httpx2.AsyncClient, mint: TokenMint, key: str = "k1", **levels: int) -> httpx2.Response:
    headers = mint.headers(Role.WAREHOUSE) | {"Idempotency-Key": key}
    await client.put("/api/v1/warehouses/w1", params={"name": "One"}, headers=headers)
    lines = [{"product_id": product, "quantity": quantity} for product, quantity in levels.items()]
    return await client.post(
        "/api/v1/stock/receipts", json={"warehouse_id": "w1", "reference": "d1", "lines": lines}, headers=headers
    )


async def test_a_stranger_sees_nothing_and_a_customer_cannot_change_stock(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    assert (await client.get("/api/v1/stock")).json()["code"] == "unauthenticated"
    response = await client.post("/api/v1/stock/receipts", json={}, headers=mint.headers(Role.CUSTOMER))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    body = {"order_id": str(uuid4()), "lines": [{"product_id": "milk", "quantity": 1}]}
    response = await client.post("/internal/v1/reservations", json=body, headers=mint.headers(Role.ADMIN))
    assert response.status_code == 403


async def test_a_retried_receipt_counts_once(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    headers = mint.headers(Role.WAREHOUSE) | {"Idempotency-Key": "k1"}
    await client.put("/api/v1/warehouses/w1", params={"name": "One"}, headers=headers)
    body = {"warehouse_id": "w1", "reference": "d1", "lines": [{"product_id": "milk", "quantity": 3}]}
    first = await client.post("/api/v1/stock/receipts", json=body, headers=headers)
    again = await client.post("/api/v1/stock/receipts", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    level = {"warehouse_id": "w1", "product_id": "milk", "on_hand": 3, "reserved": 0, "available": 3, "version": 2}
    assert first.json() == again.json() == [level]
    other = await client.post("/api/v1/stock/receipts", json=body | {"reference": "d2"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_bad_field_is_named_and_not_echoed(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    response = await receive(client, mint, milk=-3)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "validation_failed"
    assert [error["field"] for error in problem["errors"]] == ["lines.0.quantity"]
    assert "-3" not in response.text


async def test_stock_comes_in_pages(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await receive(client, mint, a=1, b=2, c=3)
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/v1/stock", params=params, headers=mint.headers(Role.SUPPORT))).json()
        seen += [item["product_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == ["a", "b", "c"]
    bad = await client.get("/api/v1/stock", params={"cursor": "nonsense"}, headers=mint.headers(Role.SUPPORT))
    assert bad.json()["code"] == "invalid_cursor"


async def test_g11_a_warehouse_has_no_control_characters_in_its_name(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    response = await client.put("/api/v1/warehouses/309?name=%08", headers=mint.headers(Role.ADMIN))
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")
    assert (await client.put("/api/v1/warehouses/309?name=%20", headers=mint.headers(Role.ADMIN))).status_code == 422


def test_g11_a_shelf_holds_no_more_than_its_column() -> None:
    stock = Stock(warehouse_id="w1", product_id="milk", on_hand=LARGEST_QUANTITY - 1)
    delivery = Cause(MovementKind.RECEIPT, "d1")
    stock.move(1, delivery)
    with pytest.raises(Refusal):
        stock.move(1, delivery)
    assert stock.on_hand == LARGEST_QUANTITY


async def test_announced_goods_are_listed_moved_received_and_cancelled(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    headers = mint.headers(Role.WAREHOUSE)
    where = {"name": "One", "country": "US", "region": "OH", "postal_code": "45202"}
    warehouse = (await client.put("/api/v1/warehouses/w1", params=where, headers=headers)).json()
    renamed = (await client.put("/api/v1/warehouses/w1", params={"name": "Uno"}, headers=headers)).json()
    place = {"country": "US", "region": "OH", "postal_code": "45202"}
    assert (warehouse["place"], renamed["place"], renamed["name"]) == (place, place, "Uno")
    announcement = {"warehouse_id": "w1", "product_id": "milk", "quantity": 5, "expected_on": "2099-01-02", "reference": "p1"}

    async def announce(key: str) -> httpx2.Response:
        path = "/api/v1/expected-receipts"
        return await client.post(path, json=announcement, headers=headers | {"Idempotency-Key": key})

    first, again, second = await announce("a"), await announce("a"), await announce("b")
    assert (first.status_code, first.json()) == (201, again.json())
    path = f"/api/v1/expected-receipts/{first.json()['receipt_id']}"
    stale = headers | {"If-Match": '"9"'}
    assert (await client.post(f"{path}/move", json={"expected_on": "2099-01-01"}, headers=stale)).json()["current_version"] == 1
    moved = await client.post(
        f"{path}/move", json={"expected_on": "2099-01-01"}, headers=headers | {"If-Match": first.headers["ETag"]}
    )
    assert (moved.json()["expected_on"], moved.headers["ETag"]) == ("2099-01-01", '"2"')
    line = {"product_id": "milk", "quantity": 2, "expected_receipt_id": first.json()["receipt_id"]}
    receipt = {"warehouse_id": "w1", "reference": "d1", "lines": [line]}
    key = {"Idempotency-Key": "d1"}
    assert (await client.post("/api/v1/stock/receipts", json=receipt, headers=headers | key)).json()[0]["on_hand"] == 2
    cancelled = await client.post(f"/api/v1/expected-receipts/{second.json()['receipt_id']}/cancel", headers=headers)
    assert cancelled.json()["status"] == "CANCELLED"
    seen: list[tuple[str, int, str]] = []
    cursor = None
    while cursor or not seen:
        params = {"limit": "1", "product_id": "milk"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/v1/expected-receipts", params=params, headers=headers)).json()
        seen += [(item["expected_on"], item["quantity"], item["status"]) for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [("2099-01-01", 3, "EXPECTED"), ("2099-01-02", 5, "CANCELLED")]
    unknown = await client.post(f"/api/v1/expected-receipts/{uuid4()}/cancel", headers=headers)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


async def test_staff_see_who_waits_for_a_product_and_when_there_will_be_some(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await receive(client, mint, bread=1)
    for quantity in (2, 3):
        waits = {"order_id": str(uuid4()), "customer_id": str(uuid4()), "when_short": "wait"}
        lines = [{"product_id": "milk", "quantity": quantity}]
        reply = await client.post("/internal/v1/reservations", json=waits | {"lines": lines}, headers=mint.headers(Role.SERVICE))
        assert [parcel["status"] for parcel in reply.json()["parcels"]] == ["AWAITED"]
    support = mint.headers(Role.SUPPORT)
    page = (await client.get("/api/v1/backorders", params={"product_id": "milk", "limit": "1"}, headers=support)).json()
    rest = await client.get("/api/v1/backorders", params={"product_id": "milk", "cursor": page["next_cursor"]}, headers=support)
    assert [item["lines"][0]["quantity"] for item in (*page["items"], *rest.json()["items"])] == [2, 3]
    assert not (await client.get("/api/v1/backorders", params={"product_id": "bread"}, headers=support)).json()["items"]
    outlook = (await client.get("/api/v1/backorders/products/milk", headers=support)).json()
    assert outlook == {"product_id": "milk", "available": 0, "waiting": 2, "awaited": 5, "expected": 0, "next_on": None}

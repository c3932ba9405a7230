"""Reports over HTTP: for staff, in bounded periods, in pages."""

from uuid import UUID, uuid4

import httpx2
import pytest

from chassis.database import Database
from chassis.paging import encode_cursor
from contracts.identity import Role
from tests.conftest import TokenMint
from tests.services.analytics.conftest import at, consume, line, order

OCTOBER = {"from": "2026-10-01", "to": "2026-10-31"}


async def pages(client: httpx2.AsyncClient, mint: TokenMint, report: str, **query: str) -> list[dict[str, object]]:
    """All items of a report, two by two."""
    items: list[dict[str, object]] = []
    params = {"limit": "2"} | query
    while True:
        response = await client.get(f"/api/v1/reports/{report}", params=params, headers=mint.headers(Role.ADMIN))
        assert response.status_code == 200, response.text
        page = response.json()
        assert len(page["items"]) <= 2
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        params["cursor"] = page["next_cursor"]


async def test_every_list_comes_in_pages_without_gaps_or_repeats(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    # Equal values on purpose: the page break falls between them.
    for number in range(5):
        bought = order(line(f"p{number}", 1, "5.00"), line("same", 1, "2.00"), customer_id=UUID(int=number + 1))
        await consume(database, [bought.created(at(number + 1)), bought.confirmed(at(number + 1))])
    days = await pages(client, mint, "sales-by-day", **OCTOBER)
    assert [item["day"] for item in days] == [f"2026-10-0{n}" for n in range(1, 6)]
    by_revenue = await pages(client, mint, "top-products", **OCTOBER)
    assert [item["product_id"] for item in by_revenue] == ["same", "p0", "p1", "p2", "p3", "p4"]
    by_quantity = await pages(client, mint, "top-products", **OCTOBER, by="quantity")
    assert [item["product_id"] for item in by_quantity] == ["same", "p0", "p1", "p2", "p3", "p4"]
    customers = await pages(client, mint, "customers")
    assert [UUID(str(item["customer_id"])).int for item in customers] == [1, 2, 3, 4, 5]
    one_day = await pages(client, mint, "top-products", **{"from": "2026-10-02", "to": "2026-10-02"})
    assert [item["product_id"] for item in one_day] == ["p1", "same"]
    assert await pages(client, mint, "customers", currency="EUR") == []


async def test_one_customer_with_what_became_of_the_orders(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    customer_id = uuid4()
    kept, returned, refused = (order(line("milk", n, "1.50"), customer_id=customer_id) for n in (1, 2, 3))
    await consume(database, [kept.created(at(1)), kept.confirmed(at(1)), kept.completed(at(9))])
    await consume(database, [returned.created(at(2)), returned.confirmed(at(2))])
    await consume(database, [returned.cancelled(at(3), was_confirmed=True, refunded=returned.total), refused.created(at(4))])
    response = await client.get(f"/api/v1/reports/customers/{customer_id}", headers=mint.headers(Role.ADMIN))
    detail = response.json()
    assert detail["values"] == [
        {
            "currency": "USD",
            "customer_id": str(customer_id),
            "orders": 3,
            "revenue": "4.50",
            "refunds": "3.00",
            "value": "1.50",
            "first_order_at": "2026-10-01T12:00:00Z",
            "last_order_at": "2026-10-04T12:00:00Z",
        }
    ]
    assert [(each["status"], each["total"], each["refunded"]) for each in detail["recent_orders"]] == [
        ("PENDING", "4.50", "0.00"),
        ("CANCELLED", "3.00", "3.00"),
        ("COMPLETED", "1.50", "0.00"),
    ]
    unknown = await client.get(f"/api/v1/reports/customers/{uuid4()}", headers=mint.headers(Role.ADMIN))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-10-02", "to": "2026-10-01"},
        {"from": "2025-10-01", "to": "2026-10-02"},
        {"from": "yesterday"},
        {"to": "9999-12-31"},
        {"from": "0001-01-01", "to": "0001-01-02"},
        {"currency": "dollars"},
        {"limit": "201"},
    ],
)
async def test_a_question_without_bounds_is_refused(client: httpx2.AsyncClient, mint: TokenMint, query: dict[str, str]) -> None:
    response = await client.get("/api/v1/reports/sales-by-day", params=query, headers=mint.headers(Role.ADMIN))
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("cursor", ["nonsense", encode_cursor("no number", "p1"), encode_cursor(1)])
async def test_a_cursor_that_no_list_gave_is_refused(client: httpx2.AsyncClient, mint: TokenMint, cursor: str) -> None:
    response = await client.get("/api/v1/reports/top-products", params={"cursor": cursor}, headers=mint.headers(Role.ADMIN))
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_without_dates_a_period_is_the_last_thirty_days(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    summary = (await client.get("/api/v1/reports/summary", headers=mint.headers(Role.ADMIN))).json()
    first, last = (int(summary[name].replace("-", "")) for name in ("first_day", "last_day"))
    assert first < last
    assert summary["sales"] == summary["cancellations"] == []

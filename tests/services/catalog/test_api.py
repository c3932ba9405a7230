"""The catalogue's API: who may do what, what errors look like, ETags, pages, retries."""

from typing import Any

import httpx2

from chassis.paging import encode_cursor
from contracts.catalog import ProductsFound
from contracts.identity import Role
from tests.conftest import TokenMint


def row(product_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "product_id": product_id,
        "name": f"Cheese {product_id}",
        "department": "Grocery",
        "category": "Cheese",
        "weight_grams": 200,
        "price": {"amount": "2.09"},
    } | fields


async def load(client: httpx2.AsyncClient, mint: TokenMint, *rows: dict[str, Any]) -> dict[str, int]:
    response = await client.post("/api/v1/products/import", json={"products": rows}, headers=mint.headers(Role.ADMIN))
    assert response.status_code == 200, response.text
    counts: dict[str, int] = response.json()
    return counts


async def test_everybody_reads_and_only_admins_write(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await load(client, mint, row("1"))
    for path in ("/api/v1/products", "/api/v1/products/1", "/api/v1/categories"):
        assert (await client.get(path)).status_code == 200
    writes = [
        ("POST", "/api/v1/products"),
        ("POST", "/api/v1/products/import"),
        ("PATCH", "/api/v1/products/1"),
        ("PUT", "/api/v1/products/1/price"),
        ("DELETE", "/api/v1/products/1"),
        ("POST", "/api/v1/categories"),
        ("PUT", "/api/v1/categories/grocery"),
        ("DELETE", "/api/v1/categories/grocery"),
    ]
    for method, path in writes:
        stranger = await client.request(method, path, json={})
        assert (stranger.status_code, stranger.json()["code"]) == (401, "unauthenticated"), path
        for role in (Role.CUSTOMER, Role.SUPPORT, Role.WAREHOUSE, Role.SERVICE):
            response = await client.request(method, path, json={}, headers=mint.headers(role))
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), (path, role)
    lookup = await client.post("/internal/v1/products/lookup", json={"product_ids": ["1"]}, headers=mint.headers(Role.ADMIN))
    assert lookup.status_code == 403


async def test_a_product_from_its_making_to_its_end(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    admin = mint.headers(Role.ADMIN)
    await client.post("/api/v1/categories", json={"name": "Grocery"}, headers=admin)
    category = await client.post("/api/v1/categories", json={"name": "Soft Cheese", "parent_id": "grocery"}, headers=admin)
    soft_cheese = {"category_id": "grocery.soft-cheese", "name": "Soft Cheese", "parent_id": "grocery", "version": 1}
    assert (category.json(), category.headers["etag"]) == (soft_cheese, '"1"')
    new = {
        "product_id": "79289",
        "name": "Cream Cheese",
        "category_id": "grocery.soft-cheese",
        "brand": "National",
        "weight_grams": 227,
        "price": {"amount": "2.1", "currency": "USD"},
    }
    created = await client.post("/api/v1/products", json=new, headers=admin)
    assert (created.status_code, created.headers["etag"]) == (201, '"1"')
    assert created.json() == {
        **new,
        "description": None,
        "package_size": None,
        "category": "Soft Cheese",
        "department_id": "grocery",
        "department": "Grocery",
        "price": {"amount": "2.10", "currency": "USD"},
        "version": 1,
    }
    twice = await client.post("/api/v1/products", json=new, headers=admin)
    assert (twice.status_code, twice.json()["code"]) == (409, "product_exists")

    path = "/api/v1/products/79289"
    changed = await client.patch(path, json={"brand": None, "name": "Brie"}, headers=admin | {"If-Match": '"1"'})
    assert (changed.json()["brand"], changed.json()["name"], changed.headers["etag"]) == (None, "Brie", '"2"')
    stale = await client.patch(path, json={"name": "Feta"}, headers=admin | {"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"], stale.json()["current_version"]) == (412, "stale_version", 2)
    assert stale.json()["current"] == changed.json()
    blind = await client.patch(path, json={"name": "Feta"}, headers=admin)
    assert blind.json()["errors"][0]["field"] == "If-Match"
    price = {"amount": "3.00", "currency": "USD"}
    stale = await client.put(f"{path}/price", json=price, headers=admin | {"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["current"]) == (412, changed.json())
    priced = await client.put(f"{path}/price", json=price, headers=admin)
    assert (priced.json()["price"]["amount"], priced.json()["version"], priced.headers["etag"]) == ("3.00", 3, '"3"')
    assert (await client.get(path)).json() == priced.json()

    stale = await client.delete(path, headers=admin | {"If-Match": '"2"'})
    assert (stale.status_code, stale.json()["current"]) == (412, priced.json())
    assert (await client.delete(path, headers=admin)).status_code == 204
    for gone in (await client.get(path), await client.delete(path, headers=admin)):
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_nobody_changes_a_category_that_they_have_not_seen(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    admin = mint.headers(Role.ADMIN)
    await load(client, mint, row("1"))
    path = "/api/v1/categories/grocery.cheese"
    seen = await client.get(path)
    assert (seen.json()["name"], seen.headers["etag"]) == ("Cheese", '"1"')
    renamed = await client.put(path, json={"name": "Fromage", "parent_id": "grocery"}, headers=admin | {"If-Match": '"1"'})
    assert (renamed.status_code, renamed.json()["version"], renamed.headers["etag"]) == (200, 2, '"2"')
    late = [
        await client.put(path, json={"name": "Formaggio", "parent_id": "grocery"}, headers=admin | {"If-Match": '"1"'}),
        await client.delete(path, headers=admin | {"If-Match": '"1"'}),
    ]
    for refused in late:
        assert (refused.status_code, refused.json()["code"]) == (412, "stale_version")
        assert (refused.json()["current_version"], refused.json()["current"]) == (2, renamed.json())
    again = await client.put(path, json={"name": "Fromage", "parent_id": "grocery"}, headers=admin)  # changes nothing
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')
    assert (await client.get(path)).json() == renamed.json()
    await client.delete("/api/v1/products/1", headers=admin)
    assert (await client.delete(path, headers=admin | {"If-Match": '"2"'})).status_code == 204
    for gone in (await client.get(path), await client.delete(path, headers=admin)):
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_the_document_says_of_each_change_that_it_may_be_too_late(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = [
        (method.upper(), path, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    conditional = {
        (method, path)
        for method, path, operation in operations
        if any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ()))
    }
    assert conditional == {
        ("PATCH", "/api/v1/products/{product_id}"),
        ("PUT", "/api/v1/products/{product_id}/price"),
        ("DELETE", "/api/v1/products/{product_id}"),
        ("PUT", "/api/v1/categories/{category_id}"),
        ("DELETE", "/api/v1/categories/{category_id}"),
    }
    assert {(method, path) for method, path, operation in operations if "412" in operation["responses"]} == conditional


async def test_a_client_that_has_the_product_gets_no_body(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await load(client, mint, row("1"))
    first = await client.get("/api/v1/products/1")
    assert (first.headers["etag"], first.headers["content-type"]) == ('"1"', "application/json")
    again = await client.get("/api/v1/products/1", headers={"If-None-Match": 'W/"1"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"1"')
    other = await client.get("/api/v1/products/1", headers={"If-None-Match": '"11"'})
    assert other.status_code == 200


async def test_a_retried_create_gives_the_first_reply(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await load(client, mint, row("1"))
    headers = mint.headers(Role.ADMIN) | {"Idempotency-Key": "k1"}
    new = {"product_id": "2", "name": "Brie", "category_id": "grocery.cheese", "weight_grams": 1, "price": {"amount": "1.00"}}
    first = await client.post("/api/v1/products", json=new, headers=headers)
    again = await client.post("/api/v1/products", json=new, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    other = await client.post("/api/v1/products", json=new | {"name": "Feta"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    for _ in range(2):
        made = await client.post("/api/v1/categories", json={"name": "Deli"}, headers=headers)
        assert made.json()["category_id"] == "deli"


async def test_import_counts_and_bounds(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    assert await load(client, mint, row("1"), row("2")) == {"created": 2, "updated": 0, "unchanged": 0, "skipped": 0}
    assert await load(client, mint, row("1"), row("2", name="New")) == {
        "created": 0, "updated": 1, "unchanged": 1, "skipped": 0,
    }  # fmt: skip
    headers = mint.headers(Role.ADMIN)
    bodies = {
        "products": [[], [row(str(n)) for n in range(1001)], [row("1"), row("1")]],
        "products.0.price": [[row("1", price={"amount": "0.001"})], [row("1", price={"amount": "-5"})]],
        "products.0.weight_grams": [[row("1", weight_grams=0)], [row("1", weight_grams=10_000_000)]],
        "products.0.product_id": [[row("../etc")], [row("x" * 41)]],
        "products.0.category": [[row("1", category="---")]],
        "products.0.colour": [[row("1", colour="red")]],
    }
    for field, attempts in bodies.items():
        for products in attempts:
            response = await client.post("/api/v1/products/import", json={"products": products}, headers=headers)
            assert (response.status_code, response.json()["code"]) == (422, "validation_failed"), field
            assert field.startswith(response.json()["errors"][0]["field"]), response.text


async def test_lists_come_in_pages(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await load(client, mint, *[row(str(n), category=f"Cheese {n}") for n in range(5)])
    for path, item_id, expected in (
        ("/api/v1/products", "product_id", ["0", "1", "2", "3", "4"]),
        ("/api/v1/products?q=cheese", "product_id", ["0", "1", "2", "3", "4"]),
        ("/api/v1/categories", "category_id", ["grocery", *[f"grocery.cheese-{n}" for n in range(5)]]),
    ):
        seen: list[str] = []
        cursor = None
        while True:
            params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get(httpx2.URL(path).copy_merge_params(params))).json()
            assert len(page["items"]) <= 2
            seen += [item[item_id] for item in page["items"]]
            cursor = page["next_cursor"]
            if not cursor:
                break
        assert seen == expected


async def test_bad_questions_are_refused(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await load(client, mint, *[row(str(n)) for n in range(3)])
    cursor = (await client.get("/api/v1/products", params={"limit": 1})).json()["next_cursor"]
    for params, code in (
        ({"cursor": "nonsense"}, "invalid_cursor"),
        ({"cursor": cursor, "q": "cheese"}, "invalid_cursor"),
        ({"limit": 201}, "validation_failed"),
        ({"q": "x" * 201}, "validation_failed"),
        ({"min_price": "NaN"}, "validation_failed"),
        ({"category": "No/Such"}, "validation_failed"),
        ({"q": "zero\x00byte"}, "malformed_request"),
        ({"cursor": encode_cursor("zero\x00byte")}, "invalid_cursor"),
    ):
        response = await client.get("/api/v1/products", params=params)
        assert response.json()["code"] == code, params
    patch = await client.patch("/api/v1/products/1", json={"name": None}, headers=mint.headers(Role.ADMIN) | {"If-Match": '"1"'})
    assert [error["field"] for error in patch.json()["errors"]] == ["name"]
    zero = await client.patch(
        "/api/v1/products/1",
        json={"name": "a\nb", "description": "a\nb\x00"},
        headers=mint.headers(Role.ADMIN) | {"If-Match": '"1"'},
    )
    assert [error["field"] for error in zero.json()["errors"]] == ["name", "description"]


async def test_look_up_for_orders(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await load(client, mint, row("1"), row("2", price={"amount": "3.5"}))
    service = mint.headers(Role.SERVICE)
    body = {"product_ids": ["2", "nothing", "1"]}
    response = await client.post("/internal/v1/products/lookup", json=body, headers=service)
    found = ProductsFound.model_validate(response.json())
    assert [(item.product_id, str(item.price), item.weight_grams) for item in found.products] == [
        ("2", "3.50 USD", 200),
        ("1", "2.09 USD", 200),
    ]
    assert found.missing == ["nothing"]
    too_many = {"product_ids": [str(n) for n in range(101)]}
    assert (await client.post("/internal/v1/products/lookup", json=too_many, headers=service)).status_code == 422


async def test_g11_a_category_cannot_move_to_a_department_that_is_none(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    await load(client, mint, row("1"))
    for parent in ("nowhere", "grocery.cheese"):
        change = {"name": "Cheese", "parent_id": parent}
        response = await client.put("/api/v1/categories/grocery.cheese", json=change, headers=mint.headers(Role.ADMIN))
        assert (response.status_code, response.json()["code"]) == (422, "category_unknown")

"""Who gets in: tokens, roles, sessions, and whose address counts."""

import pytest

from contracts.identity import Role
from tests.conftest import TokenMint
from tests.gateway.conftest import FrontDoor


async def test_everybody_may_look_at_products(front_door: FrontDoor) -> None:
    response = await front_door.client.get("/api/v1/products/milk", params={"x": "1 2"})
    assert response.status_code == 200
    assert front_door["catalog"].seen[0].target == "/api/v1/products/milk?x=1+2"


async def test_without_a_token_there_are_no_orders(front_door: FrontDoor) -> None:
    response = await front_door.client.get("/api/v1/orders")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    assert not front_door.seen


async def test_a_token_is_checked_and_passed_on(front_door: FrontDoor, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER)
    response = await front_door.client.get("/api/v1/orders", headers=headers)
    assert response.status_code == 200
    assert front_door["order"].seen[0].header("authorization") == headers["Authorization"]


@pytest.mark.parametrize("kind", ["expired", "forged", "garbage", "empty", "basic", "query"])
async def test_a_bad_token_is_no_token(front_door: FrontDoor, mint: TokenMint, kind: str) -> None:
    authorization = {
        "expired": f"Bearer {mint.token(Role.CUSTOMER, expires_in=-90)}",
        "forged": f"Bearer {TokenMint().token(Role.ADMIN)}",
        "garbage": "Bearer x.y.z",
        "empty": "Bearer",
        "basic": "Basic dXNlcjpwYXNz",
        "query": "",
    }[kind]
    query = f"?access_token={mint.token(Role.CUSTOMER)}" if kind == "query" else ""
    response = await front_door.client.get(f"/api/v1/orders{query}", headers={"Authorization": authorization})
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert not front_door["order"].seen
    # Where no token is needed, an old one does no harm.
    for method, path in (("GET", "/api/v1/products"), ("POST", "/api/v1/auth/refresh")):
        response = await front_door.client.request(method, path, headers={"Authorization": authorization})
        assert response.status_code == 200


async def test_clocks_may_differ_by_a_minute(front_door: FrontDoor, mint: TokenMint) -> None:
    headers = {"Authorization": f"Bearer {mint.token(Role.CUSTOMER, expires_in=-30)}"}
    assert (await front_door.client.get("/api/v1/orders", headers=headers)).status_code == 200


async def test_roles_are_checked_at_the_door(front_door: FrontDoor, mint: TokenMint) -> None:
    customer, staff = mint.headers(Role.CUSTOMER), mint.headers(Role.SUPPORT)
    for path, method in (("/api/v1/reports/daily", "GET"), ("/api/v1/stock", "GET"), ("/api/v1/products", "POST")):
        refused = await front_door.client.request(method, path, headers=customer)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert not front_door.seen
    for path, method in (("/api/v1/reports/daily", "GET"), ("/api/v1/stock", "GET"), ("/api/v1/products", "POST")):
        assert (await front_door.client.request(method, path, headers=staff)).status_code == 200

"""The route table: what passes the front door, and that a path has one spelling."""

import re
from posixpath import normpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.identity import Role
from gateway.routes import ADMIN, BUYING, PATH, PUBLIC, ROUTES, SIGNED_IN, STAFF, SUPPORT, RouteTable

table = RouteTable()


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/.well-known/jwks.json", "identity"),
        ("/api/v1/auth/login", "identity"),
        ("/api/v1/users", "identity"),
        ("/api/v1/users/me", "identity"),
        ("/api/v1/products/milk-1", "catalog"),
        ("/api/v1/products/a%20b%C3%A9", "catalog"),
        ("/api/v1/categories", "catalog"),
        ("/api/v1/orders/5f/timeline", "order"),
        ("/api/v1/payments", "payment"),
        ("/api/v1/discounts/SPRING/redemptions", "order"),
        ("/api/v1/warehouses/w1", "inventory"),
        ("/api/v1/stock/receipts", "inventory"),
        ("/api/v1/stock/w1/milk", "inventory"),
        ("/api/v1/shipping/rates", "shipping"),
        ("/api/v1/shipments/5f/events", "shipping"),
        ("/api/v1/tracking/T1", "shipping"),
        ("/api/v1/carriers/webhook", "shipping"),
        ("/api/v1/notifications", "notification"),
        ("/api/v1/notification-templates/x", "notification"),
        ("/api/v1/reports/daily", "analytics"),
    ],
)
def test_a_public_path_has_its_service(path: str, service: str) -> None:
    route = table.find(path)
    assert route is not None
    assert route.service == service


@pytest.mark.parametrize(
    "path",
    [
        "/", "/internal/v1/reservations", "/health/ready", "/metrics", "/openapi.json", "/api", "/api/v1", "/api/v2/products",
        "/API/v1/products", "/api/v1/Products", "/api/v1/productsx", "/api/v1/products-export", "/api/v1/internal",
        "/api/v1/carriers", "/api/v1/carriers/webhook/x", "/.well-known/jwks.json/x", "/.well-known/openid-configuration",
        "/%61pi/v1/products",
    ],
)  # fmt: skip
def test_all_else_does_not_exist(path: str) -> None:
    assert table.find(path) is None


TRICKS_IN_A_REQUEST_LINE = [
    "//internal/v1/reservations",
    "/api/v1//internal",
    "/api/v1/products/../../../internal/v1/x",
    "/api/v1/../internal/v1/x",
    "/api/v1/./products",
    "/api/v1/products/..",
    "/api/v1/products/.",
    "/api/v1/products/%2e%2e/%2e%2e/internal",
    "/api/v1/products/%2E%2E/x",
    "/api/v1/products/.%2e/x",
    "/api/v1/products/..%2f..%2finternal",
    "/api/v1/products%2f..%2f..%2f..%2finternal%2fv1",
    "/api/v1/products/%2Finternal",
    "/api/v1/products/%5c..%5cinternal",
    "/api/v1/products/..\\..\\internal",
    "/api/v1/products/%252e%252e/internal",
    "/api/v1/products/%00",
    "/api/v1/products/%0d%0aX-Evil:%201",
    "/api/v1/products/%7f",
    "/api/v1/products/%zz",
    "/api/v1/products/%2",
    "api/v1/products",
    "http://127.0.0.1/internal",
    "*",
]
TRICKS = [*TRICKS_IN_A_REQUEST_LINE, "", "/api/v1/products?x", "/api/v1/products#x"]


@pytest.mark.parametrize("path", TRICKS)
def test_a_second_spelling_is_refused(path: str) -> None:
    assert re.fullmatch(PATH, path) is None
    assert table.find(path) is None


@pytest.mark.parametrize("path", ["/", "/a/", "/.well-known/x", "/a/...", "/a/..b", "/a/.b", "/a/b.", "/a/a%20b%C3%A9%3f%41"])
def test_what_only_looks_like_a_trick_is_none(path: str) -> None:
    assert re.fullmatch(PATH, path)


@given(st.text("/.%2eEfF5cCinternalAPI\\", max_size=30))
def test_whatever_passes_cannot_climb(tail: str) -> None:
    """However the rest is written: decoded once or twice, it stays beneath the prefix that was checked."""
    path = f"/api/v1/products/{tail}"
    route = table.find(path)
    if route is None:
        return
    for decoded in (path, unquote(path), unquote(unquote(path))):
        clean = decoded.replace("\\", "/")
        assert normpath(clean).startswith("/api/v1/products"), decoded
        assert "//" not in clean


def test_the_front_door_lets_no_process_of_ours_in() -> None:
    for route in ROUTES:
        for who in route.methods.values():
            assert who is None or Role.SERVICE not in who


def test_who_may_what() -> None:
    def who(method: str, path: str) -> frozenset[Role] | None:
        route = table.find(path)
        assert route is not None
        return route.methods[method]

    assert who("GET", "/api/v1/products") is PUBLIC
    assert who("POST", "/api/v1/products") == ADMIN
    assert who("GET", "/api/v1/orders") == SIGNED_IN  # a warehouse reads the returns that it expects
    assert who("GET", "/api/v1/payments") == BUYING
    assert who("POST", "/api/v1/orders") == SIGNED_IN
    assert who("GET", "/api/v1/stock") == STAFF
    assert who("POST", "/api/v1/carriers/webhook") is PUBLIC
    assert who("GET", "/api/v1/reports/daily") == SUPPORT

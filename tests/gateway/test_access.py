"""The front door's coarse table against the services' own: it admits exactly whom they admit to something there."""

from importlib import import_module

import pytest

from chassis.access import AccessTable, Open
from contracts.identity import Role
from gateway.routes import ROUTES, SERVICES, Route

OUTSIDE = ("/api/", "/.well-known/")


def access_of(service: str) -> AccessTable:
    import_module(f"services.{service}.app")
    access: AccessTable = import_module(f"services.{service}.access").ACCESS
    return access


def admitted(route: Route, method: str) -> frozenset[Role] | None:
    """Whom the service admits to any operation under this route; None is everybody."""
    roles: set[Role] = set()
    for operation in access_of(route.service).routes:
        if method in (operation.methods or ()) and route_of(operation.path_format) is route:
            if isinstance(operation.rule, Open):
                return None
            roles |= operation.rule.keys()
    return frozenset(roles)


def route_of(path: str) -> Route | None:
    """The route with the longest prefix."""
    found = [route for route in ROUTES if path == route.prefix or (path.startswith(f"{route.prefix}/") and not route.exact)]
    return max(found, key=lambda route: len(route.prefix), default=None)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.prefix)
def test_the_front_door_admits_whom_the_service_admits(route: Route) -> None:
    for method, who in route.methods.items():
        assert who == admitted(route, "GET" if method == "HEAD" else method), method


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_for_people_passes_the_front_door(service: str) -> None:
    for operation in access_of(service).routes:
        if operation.path_format.startswith(OUTSIDE):
            route = route_of(operation.path_format)
            assert route is not None
            assert route.service == service
            assert (operation.methods or set()) <= set(route.methods)

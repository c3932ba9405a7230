"""The vocabulary of access tables: what a table that does not fit its operations does, and what a caller reaches."""

from uuid import UUID, uuid4

import pytest
from fastapi import APIRouter
from sqlmodel import col

from chassis.access import AccessTable, Grant, Open, Reach
from chassis.service import new_app
from chassis.tokens import Principal
from contracts.identity import Role
from services.shipping.model import Shipment


async def read_it() -> None: ...


def test_an_operation_without_a_row_does_not_start() -> None:
    with pytest.raises(KeyError, match="read_it"):
        AccessTable({"write_it": Open.PUBLIC}).router().get("/it")(read_it)


def test_a_row_without_an_operation_does_not_start() -> None:
    access = AccessTable({"read_it": Open.PUBLIC, "write_it": Open.PUBLIC})
    router = access.router()
    router.get("/it")(read_it)
    with pytest.raises(ValueError, match="write_it"):
        new_app("It", "", [router], {}, access)


@pytest.mark.parametrize("router", [APIRouter(), AccessTable({"read_it": Open.PUBLIC}).router()], ids=["no table", "another's"])
def test_a_router_that_the_table_does_not_guard_does_not_start(router: APIRouter) -> None:
    router.get("/it")(read_it)
    with pytest.raises(ValueError, match="access table"):
        new_app("It", "", [router], {}, AccessTable({"read_it": Open.PUBLIC}))


def granted(*reach: Reach, subject: UUID | None = None, warehouses: frozenset[str] | None = None) -> Grant:
    return Grant(Principal(subject or uuid4(), frozenset({Role.CUSTOMER}), 0, warehouses=warehouses), frozenset(reach))


ME, OTHER = uuid4(), uuid4()
HERE = frozenset({"here"})


@pytest.mark.parametrize(
    ("caller", "reached"),
    [
        (granted(Reach.ALL), {"mine here", "theirs here", "theirs there", "nobody's nowhere"}),
        (granted(Reach.OWN, subject=ME), {"mine here"}),
        (granted(Reach.OWN), set()),
        (granted(Reach.WAREHOUSES), {"mine here", "theirs here", "theirs there", "nobody's nowhere"}),
        (granted(Reach.WAREHOUSES, warehouses=HERE), {"mine here", "theirs here"}),
        (granted(Reach.WAREHOUSES, warehouses=frozenset()), set()),
        (granted(Reach.OWN, Reach.WAREHOUSES, subject=ME, warehouses=frozenset({"there"})), {"mine here", "theirs there"}),
    ],
)
def test_what_a_caller_reaches(caller: Grant, reached: set[str]) -> None:
    rows = {
        "mine here": (ME, "here"),
        "theirs here": (OTHER, "here"),
        "theirs there": (OTHER, "there"),
        "nobody's nowhere": (None, None),
    }
    assert {name for name, (owner, warehouse) in rows.items() if caller.reaches(owner=owner, warehouse=warehouse)} == reached


def test_the_condition_names_only_what_the_caller_reaches() -> None:
    def condition(caller: Grant) -> str:
        rows = caller.rows(owner=col(Shipment.customer_id), warehouse=col(Shipment.warehouse_id))
        return str(rows.compile(compile_kwargs={"literal_binds": True})).replace(ME.hex, "me")

    assert condition(granted(Reach.ALL)) == condition(granted(Reach.WAREHOUSES)) == "true"
    assert condition(granted(Reach.OWN, subject=ME)) == "shipments.customer_id = 'me'"
    assert condition(granted(Reach.WAREHOUSES, warehouses=HERE)) == "shipments.warehouse_id IN ('here')"
    both = granted(Reach.OWN, Reach.WAREHOUSES, subject=ME, warehouses=HERE)
    assert condition(both) == "shipments.customer_id = 'me' OR shipments.warehouse_id IN ('here')"
    assert granted(Reach.OWN).rows(warehouse=col(Shipment.warehouse_id)).compile().string == "false"

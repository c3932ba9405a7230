"""The vocabulary of access tables: what a table that does not fit its operations does, and what a caller reaches."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col

from chassis.access import AccessTable, Grant, Open, Reach
from chassis.dependencies import from_app, provide
from chassis.service import new_app
from chassis.tokens import Principal, TokenVerifier
from contracts.identity import Role
from services.shipping.model import Shipment
from tests.conftest import TokenMint


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


class Weigh(BaseModel):
    """A command of a made-up service."""

    model_config = ConfigDict(extra="forbid")

    grams: Annotated[int, Field(gt=0)]


class Weight(BaseModel):
    kilograms: Decimal


@dataclass(frozen=True)
class Scales:
    """What the service has and its operation asks for."""

    error: Decimal


@pytest_asyncio.fixture
async def scales(mint: TokenMint) -> AsyncIterator[httpx2.AsyncClient]:
    access = AccessTable({"weigh": {Role.SERVICE: Reach.ALL}})
    router = access.router()

    @router.post("/internal/v1/weigh", status_code=201)
    async def weigh(scales: Annotated[Scales, from_app(Scales)], command: Weigh) -> Weight:
        return Weight(kilograms=command.grams / Decimal(1000) + scales.error)

    app = new_app("Scales", "", [router], {}, access)
    provide(app, Scales, Scales(Decimal("0.001")))
    provide(app, TokenVerifier, mint.verifier("catalog"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        yield client


async def test_a_step_of_a_saga_gets_its_body_and_the_things_of_its_app(scales: httpx2.AsyncClient, mint: TokenMint) -> None:
    reply = await scales.post("/internal/v1/weigh", json={"grams": 500}, headers=mint.headers(Role.SERVICE))
    assert (reply.status_code, reply.json()) == (201, {"kilograms": "0.501"})
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("role", "body", "media_type", "status", "code", "fields"),
    [
        (None, b'{"grams": 1}', "application/json", 401, "unauthenticated", None),
        (Role.ADMIN, b'{"grams": 1}', "application/json", 403, "forbidden", None),
        (Role.SERVICE, b'{"grams": 0, "x": 1}', "application/json", 422, "validation_failed", {"grams", "x"}),
        (Role.SERVICE, b'{"grams": ', "application/json", 400, "malformed_request", None),
        (Role.SERVICE, b'{"grams": 1}', "text/plain", 422, "validation_failed", {"body"}),
        (Role.SERVICE, b"", "application/json", 400, "malformed_request", None),
    ],
)
async def test_what_is_wrong_with_a_step_is_told_like_everywhere(
    scales: httpx2.AsyncClient,
    mint: TokenMint,
    role: Role | None,
    body: bytes,
    media_type: str,
    status: int,
    code: str,
    fields: set[str] | None,
) -> None:
    headers = {"Content-Type": media_type} | (mint.headers(role) if role else {})
    reply = await scales.post("/internal/v1/weigh", content=body, headers=headers)
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (status, code)
    assert ({error["field"] for error in problem["errors"]} if "errors" in problem else None) == fields


async def test_a_step_of_a_saga_is_documented(scales: httpx2.AsyncClient) -> None:
    operation = (await scales.get("/openapi.json")).json()["paths"]["/internal/v1/weigh"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Weigh")
    assert operation["responses"]["201"]["content"]["application/json"]["schema"]["$ref"].endswith("/Weight")

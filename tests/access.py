"""The matrix of who may what: every operation of a service, asked by everybody, held against the table of the service.

The operations come from the service's own OpenAPI document, what is expected from its table, so that a new endpoint is covered
as soon as it is there. Each request is a valid one about rows that were made for it.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import httpx2
from hypothesis import find
from hypothesis import strategies as st

from chassis.access import AccessTable, Open, Reach, Rule
from contracts.identity import Role
from tests.conftest import TokenMint

OUR_OWN = ("/health/",)
"""Of every process, for its supervisor."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Asker:
    """Somebody who asks. `owner`: the customer whom the rows are about; `at`: the warehouses that a warehouse role is for."""

    name: str
    roles: frozenset[Role]
    owner: bool = False
    at: tuple[str, ...] | None = None


HERE = "<the warehouse of the rows>"
ASKERS = (
    Asker("nobody", frozenset()),
    Asker("the customer", frozenset({Role.CUSTOMER}), owner=True),
    Asker("another customer", frozenset({Role.CUSTOMER})),
    Asker("support", frozenset({Role.SUPPORT})),
    Asker("warehouse", frozenset({Role.WAREHOUSE})),
    Asker("warehouse here", frozenset({Role.WAREHOUSE}), at=(HERE,)),
    Asker("warehouse elsewhere", frozenset({Role.WAREHOUSE}), at=("elsewhere",)),
    Asker("the customer, who works in a warehouse elsewhere", frozenset({Role.CUSTOMER, Role.WAREHOUSE}), True, ("elsewhere",)),
    Asker("admin", frozenset({Role.ADMIN})),
    Asker("service", frozenset({Role.SERVICE})),
)


@dataclass(frozen=True)
class Rows:
    """Rows that were made for one request: whose they are, and what requests about them say, by the name of the field."""

    values: Mapping[str, Any]
    owner: UUID | None = None
    warehouse: str = ""
    other_warehouse: str | None = None
    """A second one that a request names; who works at the first works there too."""
    anybody_else: UUID | None = None
    """Who all other askers are, where the service looks them up; somebody unknown if absent."""
    login: UUID | None = None
    """The session of anybody else, where the service looks it up."""


class Answer(StrEnum):
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    HIDDEN = "hidden"
    """As if the row did not exist; a list is empty."""
    GRANTED = "granted"


def reach_of(rule: Rule, asker: Asker) -> set[Reach]:
    return set() if isinstance(rule, Open) else {rule[role] for role in asker.roles if role in rule}


def expected(rule: Rule, asker: Asker) -> Answer:
    """What the table promises this asker about a row."""
    if isinstance(rule, Open):
        return Answer.GRANTED
    if not asker.roles:
        return Answer.UNAUTHENTICATED
    reach = reach_of(rule, asker)
    if not reach:
        return Answer.FORBIDDEN
    sees = (
        Reach.ALL in reach
        or (Reach.OWN in reach and asker.owner)
        or (Reach.WAREHOUSES in reach and (asker.at is None or HERE in asker.at))
    )
    return Answer.GRANTED if sees else Answer.HIDDEN


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    rule: Rule
    spec: Json
    document: Json

    @property
    def is_about_a_row(self) -> bool:
        """Whether a request names a row; otherwise it lists, or makes something of one's own."""
        body = _resolved(self._body_schema, self.document)
        return "{" in self.path or any(name.endswith("warehouse_id") for name in body.get("required", ()))

    @property
    def is_list(self) -> bool:
        answer = self.spec["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        return "next_cursor" in _resolved(answer, self.document).get("properties", {})

    @property
    def _body_schema(self) -> Json:
        content: Json = self.spec.get("requestBody", {}).get("content", {}).get("application/json", {})
        schema: Json = content.get("schema", {})
        examples = [example["value"] for example in content.get("examples", {}).values()]
        return {**schema, "examples": examples} if examples else schema

    @property
    def takes_a_file(self) -> bool:
        """Whether its body is no JSON: then no example of it is sent."""
        content = self.spec.get("requestBody", {}).get("content", {})
        return bool(content) and "application/json" not in content

    def request(self, values: Mapping[str, Any]) -> Json:
        """A valid request, as arguments of `client.request`."""
        path = self.path
        query: dict[str, str] = {}
        headers: dict[str, str] = {}
        for parameter in self.spec.get("parameters", ()):
            name, place = parameter["name"], parameter["in"]
            if not parameter.get("required"):
                continue
            value = str(sample({**parameter["schema"], **_examples(parameter)}, self.document, values, name))
            if place == "path":
                path = path.replace(f"{{{name}}}", value)
            else:
                (query if place == "query" else headers)[name] = value
        if self.method == "POST" and "Idempotency-Key" not in headers:
            headers["Idempotency-Key"] = uuid4().hex
        request: Json = {"method": self.method, "url": path, "params": query, "headers": headers}
        if self._body_schema:
            request["json"] = sample(self._body_schema, self.document, values)
        return request


def operations(access: AccessTable, document: Json) -> list[Operation]:
    """Every operation in the document with its rule. KeyError: one that the table has no row for."""
    rules = {(method, route.path_format): route.rule for route in access.routes for method in route.methods or ()}
    return [
        Operation(method.upper(), path, rules[method.upper(), path], spec, document)
        for path, item in document["paths"].items()
        if not path.startswith(OUR_OWN)
        for method, spec in item.items()
    ]


async def assert_access(
    service: str, client: httpx2.AsyncClient, mint: TokenMint, make_rows: Callable[[], Awaitable[Rows]]
) -> None:
    """Ask everything as everybody, and be answered as the table says."""
    access: AccessTable = import_module(f"services.{service}.access").ACCESS
    document = (await client.get("/openapi.json")).json()
    await make_rows()  # somebody else's, which must not show
    wrong = []
    for operation in operations(access, document):
        for asker in ASKERS:
            rows = await make_rows()
            request = operation.request(rows.values)
            at = _warehouses_of(asker, rows)
            if asker.roles:
                subject = rows.owner if asker.owner else rows.anybody_else or uuid4()
                request["headers"] |= mint.headers(*asker.roles, subject=subject, session_id=rows.login, warehouses=at)
            response = await client.request(**request)
            promise = expected(operation.rule, asker)
            if not _keeps(promise, operation, asker, rows, response):
                answer = f"{response.status_code} {response.text[:300]}"
                wrong.append(f"{operation.method} {operation.path} by {asker.name}: {promise}, but {answer}")
    assert not wrong, "\n".join(wrong)


def _warehouses_of(asker: Asker, rows: Rows) -> list[str] | None:
    if asker.at is None:
        return None
    here = [rows.warehouse, *([rows.other_warehouse] if rows.other_warehouse else [])]
    return [warehouse for place in asker.at for warehouse in (here if place == HERE else [place])]


def _keeps(promise: Answer, operation: Operation, asker: Asker, rows: Rows, response: httpx2.Response) -> bool:
    """Whether this answer keeps what the table promises."""
    status = response.status_code
    code = response.json().get("code") if response.headers.get("content-type") == "application/problem+json" else None
    if operation.rule is Open.PROOF:
        return 400 <= status < 500  # a token is no proof, whoever's it is
    if promise == Answer.UNAUTHENTICATED:
        return status == 401
    if promise == Answer.FORBIDDEN:
        return (status, code) == (403, "forbidden")
    if promise == Answer.HIDDEN and operation.is_list and not operation.is_about_a_row:
        return status == 200 and _shows_none(response.json()["items"], rows)
    if promise == Answer.HIDDEN and operation.is_about_a_row:
        return code in ("not_found", "warehouse_unknown")
    if operation.path.startswith("/internal/"):
        return status not in (401, 403) and status < 500
    if status == 422 and operation.takes_a_file:
        return True  # what is in it was looked at
    if status in (401, 403, 404, 422) or status >= 500:
        return False
    if operation.is_list and Reach.ALL not in (reach := reach_of(operation.rule, asker)) and reach:
        items = response.json()["items"]
        return bool(items) and all(_is_within(item, asker, rows) for item in items)
    return True


def _shows_none(items: Sequence[Json], rows: Rows) -> bool:
    """Whether a list has none of those rows. Only somebody whom the service knows has others of their own."""
    if rows.anybody_else is None:
        return not items
    return not any(item.get(name) == value for item in items for name, value in rows.values.items())


def _is_within(item: Json, asker: Asker, rows: Rows) -> bool:
    """Whether an item of a list is one of those rows, as far as it tells."""
    if asker.at is None and Role.WAREHOUSE in asker.roles:
        return True
    return item.get("customer_id") in (None, str(rows.owner)) or item.get("warehouse_id") == rows.warehouse


def sample(schema: Json, document: Json, values: Mapping[str, Any], name: str = "") -> Any:
    """A value that fits the schema: what `values` has for its name, else its example, else the simplest that fits."""
    if name in values:
        return values[name]
    schema = _resolved(schema, document)
    if schema.get("examples"):
        return _with(schema["examples"][0], values)
    for key in ("const", "default"):
        if schema.get(key) is not None:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return sample(schema[key][0], document, values)
    match schema.get("type"):
        case "object":
            properties: Json = schema.get("properties", {})
            told = [key for key in properties if key in schema.get("required", ()) or key in values]
            return {key: sample(properties[key], document, values, key) for key in told}
        case "array":
            return [sample(schema["items"], document, values)] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return False
    return _text(schema)


def _text(schema: Json) -> str:
    match schema.get("format"):
        case "uuid":
            return str(uuid4())
        case "date-time":
            return "2026-11-26T12:00:00Z"
        case "date":
            return "2026-11-26"
        case "email":
            return "ada@example.com"
    shortest: int = schema.get("minLength", 1)
    return _matching(schema["pattern"], shortest) if "pattern" in schema else "x" * shortest


@cache
def _matching(pattern: str, shortest: int) -> str:
    return find(st.from_regex(re.compile(pattern), fullmatch=True), lambda text: len(text) >= shortest)


def _with(example: Any, values: Mapping[str, Any]) -> Any:
    """The example, about the rows that `values` names."""
    if isinstance(example, dict):
        return {key: values[key] if key in values else _with(value, values) for key, value in example.items()}
    return [_with(item, values) for item in example] if isinstance(example, list) else example


def _examples(parameter: Json) -> Json:
    return {"examples": [parameter["example"]]} if "example" in parameter else {}


def _resolved(schema: Json, document: Json) -> Json:
    while "$ref" in schema:
        kind = schema["$ref"].rpartition("/")[2]
        schema = {**document["components"]["schemas"][kind], **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema

"""What a machine that follows the document would not think of: made-up cursors, control characters, numbers beyond all bounds.

Whatever is in the merged document is tried, each part of each input for itself, the rest of the request being as it should.
"""

import base64
import copy
import json
import time
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import openapi
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok
from yarl import URL

from contracts.identity import Role
from testing.stage import Stage
from tests.fuzz import media_types  # noqa: F401 - registers how a body is written that is not JSON
from tests.fuzz.conftest import SLOWEST, token_of

Json = dict[str, Any]
KEYS: tuple[Any, ...] = (
    1, -1, None, True, "", "x", "\ud800", "\x00", 2**31, 2**63, -(2**63) - 1, 10**100, 1e308, float("nan"), float("inf"),
    "1e999999", "NaN", "Infinity", "0001-01-01", "9999-12-31", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", [], {},
)  # fmt: skip
"""For the parts of a sort key: of other types, and beyond what Python or PostgreSQL can hold."""
PARAMETERS = ("%00", "%08", "%0A", "%C2%85", "%ED%A0%80", "%FF", "9" * 400, "-1", "1e999999", "NaN", "%D9%A3", "0", "")
"""As they stand in the address."""
HEADERS = ("\u00ff", "9" * 400, '"99999999999999"', '"-1"', "*", "NaN", "")
BODIES = (
    "", "null", "[]", "{}", "0", '"\\ud800"', '{"\\ud800": 1}', '{"a\\u0000": 1}', "[" * 100_000, '{"a":' * 50_000, "NaN",
    '{"a": Infinity}', "9" * 5000, '{"a": 1, "a": 2}', "\ufeff{}", "{", "\x00",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    "\ud800", "\x00", "a\x08b", "\x85", "9" * 50_000, "", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", None, True,
    [], {}, -1, 2**31, 2**63, 10**400, 1e308, -1e308, float("nan"), float("inf"), "1e999999", "-Infinity", 0.1 + 0.2, "0",
)  # fmt: skip
"""For each single value in a body."""
METHODS = ("get", "put", "post", "delete", "patch")
NO_TEXTS = ("\ud800", "\x00", "a\x08b", "\x85")


class Attacker:
    """An administrator who sends what no client library would. `faults` are commands that repeat what failed."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str, seconds: float) -> None:
        """`seconds`: after so long a test makes up no more; on a slow machine it looks at less, and does not fail for that."""
        self._http, self._url, self._token = http, url, token
        self._until = time.monotonic() + seconds
        self.sent = 0
        self.faults: list[str] = []

    @property
    def has_time(self) -> bool:
        return time.monotonic() < self._until

    async def send(self, method: str, target: str, body: str | None = None, headers: Json | None = None) -> tuple[int, Any]:
        """The status of the answer, and its body where that is JSON. The target is sent as it is."""
        data = None if body is None else body.encode("utf-8", "surrogatepass")
        sent = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **(headers or {})}
        async with self._http.request(method, URL(self._url + target, encoded=True), data=data, headers=sent) as response:
            content = await response.read()
        self.sent += 1
        if response.status >= 500:
            shown = "".join(f" -H '{name}: {value}'" for name, value in (headers or {}).items())
            self.faults.append(f"{response.status}: curl -X {method} '{target}'{shown} -d '{(body or '')[:300]}'")
        return response.status, json.loads(content) if response.content_type.endswith("json") else None


@pytest_asyncio.fixture
async def attacker(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Attacker]:
    token = await token_of(stage, "attacker", Role.ADMIN, Role.CUSTOMER)
    async with aiohttp.ClientSession() as http:
        seconds = SLOWEST * float(request.config.getoption("--fuzz-seconds"))
        attacker = Attacker(http, stage.platform.url("gateway"), token, seconds)
        yield attacker
    print(f"{attacker.sent} requests")


def test_a_request_of_every_operation_can_be_made_up(document: Json) -> None:
    described = {(method, path) for path, item in document["paths"].items() for method in item if method in METHODS}
    assert {(case.method.lower(), case.path) for case in examples(document)} == described


async def test_g11_a_cursor_that_somebody_made_up_is_refused_by_every_list(document: Json, attacker: Attacker) -> None:
    lists = [case for case in examples(document, "get") if "cursor" in parameters(case, "query")]
    assert len(lists) > 10
    wrong = []
    for case in lists:
        path = f"{case.formatted_path}?{urlencode(required(case))}"
        _, page = await attacker.send("GET", f"{path}&limit=1")
        real = decoded(page["next_cursor"]) if page and page.get("next_cursor") else []
        keys = [[value] * length for length in (1, 2) for value in KEYS]
        keys += [[*real[:n], value, *real[n + 1 :]] for n in range(len(real)) for value in KEYS]
        for key in keys:
            status, body = await attacker.send("GET", f"{path}&cursor={encoded(key)}")
            if status not in (200, 404, 422) or (status == 422 and body["code"] != "invalid_cursor"):
                wrong.append(f"{status} {path} {json.dumps(key)}")
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def turn(request: pytest.FixtureRequest) -> Random:
    """In which the operations are tried, since there may be no time for all of them."""
    return Random(int(request.config.getoption("--fuzz-seed")))


async def test_g11_no_parameter_and_no_header_is_a_fault(document: Json, attacker: Attacker, turn: Random) -> None:
    for case in examples(document, turn=turn):
        path, headers = case.formatted_path, dict(case.headers)
        body = None if case.body is NOT_SET else json.dumps(case.body)
        for name in parameters(case, "path"):
            for value in PARAMETERS:
                hostile = case.path.replace(f"{{{name}}}", value or "x")
                await attacker.send(case.method, filled(hostile, case.path_parameters), body, headers)
        for name in parameters(case, "query"):
            for value in PARAMETERS:
                status, _ = await attacker.send(case.method, f"{path}?{name}={value}", body, headers)
                assert not (value in ("%00", "%08", "%0A", "%C2%85") and status < 400), (path, name, value)
        for name in {"If-Match", "If-None-Match", "Idempotency-Key", "Prefer", "Accept-Language"} | parameters(case, "header"):
            for value in HEADERS:
                await attacker.send(case.method, path, body, {**headers, name: value})
        if not attacker.has_time:
            break
    assert not attacker.faults, "\n".join(attacker.faults)


async def test_g11_no_body_is_a_fault_and_none_has_control_characters(document: Json, attacker: Attacker, turn: Random) -> None:
    for case in examples(document, turn=turn):
        if case.body is NOT_SET:
            continue
        for body in BODIES:
            await attacker.send(case.method, case.formatted_path, body, dict(case.headers))
        for place in places(case.body):
            for value in VALUES:
                hostile = json.dumps(replaced(case.body, place, value))
                status, _ = await attacker.send(case.method, case.formatted_path, hostile, dict(case.headers))
                assert not (value in NO_TEXTS and status < 400), (case.method, case.path, place, value)
        if not attacker.has_time:
            break
    assert not attacker.faults, "\n".join(attacker.faults)


def examples(document: Json, *methods: str, turn: Random | None = None) -> Iterator[Any]:
    """Of each operation the richest of some cases that its description allows."""
    operations = list(openapi.from_dict(document).get_all_operations())
    if turn:
        turn.shuffle(operations)
    for result in operations:
        assert isinstance(result, Ok), result
        operation = result.ok()
        if methods and operation.method not in methods:
            continue
        yield max(some_cases(operation), key=lambda case: 0 if case.body is NOT_SET else len(list(places(case.body))))


def some_cases(operation: Any) -> list[Any]:
    cases: list[Any] = []

    @seed(1)
    @settings(max_examples=20, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy())
    def draw(case: Any) -> None:
        cases.append(case)

    draw()
    return cases


def required(case: Any) -> Json:
    """What a query must have."""
    names = {each.name for each in case.operation.iter_parameters() if each.location.value == "query" and each.is_required}
    return {name: value for name, value in (case.query or {}).items() if name in names}


def parameters(case: Any, location: str) -> set[str]:
    return {parameter.name for parameter in case.operation.iter_parameters() if parameter.location.value == location}


def filled(path: str, values: Json) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", str(value))
    return path


def places(body: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each single value; of a list only the first item."""
    if isinstance(body, dict) and body:
        for name, value in body.items():
            yield from places(value, (*at, name))
    elif isinstance(body, list) and body:
        yield from places(body[0], (*at, 0))
    else:
        yield at


def replaced(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The body with another value at this place."""
    if not place:
        return value
    changed = copy.copy(body)
    changed[place[0]] = replaced(body[place[0]], place[1:], value)
    return changed


def encoded(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).rstrip(b"=").decode()


def decoded(cursor: str) -> list[Any]:
    key: list[Any] = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return key

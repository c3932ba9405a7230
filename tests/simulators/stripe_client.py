"""A client of the Stripe simulator that holds every reply against Stripe's own schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx2
from openapi_schema_validator import OAS30Validator

SPEC = Path(__file__).parents[2] / "simulators" / "stripe" / "spec"
KEY = "test-key"


@cache
def document() -> dict[str, Any]:
    """The subset of Stripe's description, with our additions to it."""
    subset, more = (json.loads((SPEC / name).read_text()) for name in ("openapi.subset.json", "additions.json"))
    for path, operations in more["paths"].items():
        subset["paths"].setdefault(path, {}).update(operations)
    subset["components"]["schemas"].update(more["components"]["schemas"])
    return cast(dict[str, Any], subset)


@cache
def fixtures() -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((SPEC / "fixtures.json").read_text()))


@cache
def _validator(schema: str) -> OAS30Validator:
    return OAS30Validator({**json.loads(schema), "components": document()["components"]})


def problems(schema: Mapping[str, Any], instance: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in _validator(json.dumps(schema)).iter_errors(instance)]


def problems_of(name: str, instance: object) -> list[str]:
    return problems({"$ref": f"#/components/schemas/{name}"}, instance)


def problems_of_event(event: Mapping[str, Any]) -> list[str]:
    of_it = event["data"]["object"]
    return [*problems_of("event", event), *problems_of(of_it["object"], of_it)]


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    found = [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), path) for path in document()["paths"]]
    return sorted(found, key=lambda each: each[1].count("{"))


def reply_schema(method: str, path: str, status: int) -> Mapping[str, Any]:
    template = next(template for pattern, template in _paths() if pattern.fullmatch(path))
    operation = document()["paths"][template][method.lower()]
    if status != 200:
        return {"$ref": "#/components/schemas/error"}
    return cast(Mapping[str, Any], operation["responses"]["200"]["content"]["application/json"]["schema"])


def request_schema(method: str, path: str) -> tuple[Mapping[str, Any], str]:
    """The schema of a form, or of a query by its parameters' names; and the path as it is described."""
    template = next(template for pattern, template in _paths() if pattern.fullmatch(path))
    operation = document()["paths"][template][method.lower()]
    if method == "POST":
        return operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"], template
    names = [parameter["name"] for parameter in operation["parameters"] if parameter.get("in") == "query"]
    return {name: {} for parameter in names for name in (parameter, f"{parameter}[]", f"{parameter}[0]")}, template


def encode(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested values with brackets, as Stripe takes them."""
    return list(_encoded(params))


def _encoded(params: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        key = f"{within}[{name}]" if within else name
        if isinstance(value, Mapping):
            yield from _encoded(value, key)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _encoded(dict(enumerate(value)), key)  # type: ignore[arg-type]
        else:
            yield key, str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.body["error"])

    @property
    def refusal(self) -> tuple[int, str | None]:
        return self.status, self.error.get("code")


class Stripe:
    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def call(self, method: str, path: str, params: Mapping[str, Any], key: str | None = None) -> Reply:
        headers = {} if key is None else {"Idempotency-Key": key}
        if method == "GET":
            response = await self.http.get(path, params=dict(encode(params)))
        else:
            response = await self.http.post(path, data=dict(encode(params)), headers=headers)
        body = response.json()
        assert not problems(reply_schema(method, path, response.status_code), body), (path, body)
        assert response.headers["request-id"].startswith("req_")
        assert response.headers["content-type"] == "application/json"
        return Reply(response.status_code, body, response.headers)

    async def try_post(self, path: str, key: str | None = None, **params: Any) -> Reply:
        return await self.call("POST", path, params, key)

    async def post(self, path: str, key: str | None = None, **params: Any) -> Any:
        reply = await self.call("POST", path, params, key)
        assert reply.status == 200, reply.body
        return reply.body

    async def get(self, path: str, **params: Any) -> Any:
        reply = await self.call("GET", path, params)
        assert reply.status == 200, reply.body
        return reply.body

    # ── What most tests begin with ───────────────────────────────────────────────────────────────────────────────────────

    async def intent(self, card: str | None = "pm_card_visa", reference: str = "order-1/1", **more: Any) -> Any:
        """A payment that is known; no bank was asked yet."""
        params = {"amount": 12_50, "currency": "eur", "metadata": {"reference": reference}, **more}
        return await self.post("/v1/payment_intents", **params, **({"payment_method": card} if card else {}))

    async def confirm(self, intent: Any, key: str | None = None, **params: Any) -> Reply:
        return await self.try_post(f"/v1/payment_intents/{intent['id']}/confirm", key, **params)

    async def paid(self, card: str = "pm_card_visa", reference: str = "order-1/1", **more: Any) -> Any:
        reply = await self.confirm(await self.intent(card, reference), **more)
        assert reply.body["status"] == "succeeded", reply.body
        return reply.body

    async def held(self, card: str = "pm_card_visa", reference: str = "order-1/1", **more: Any) -> Any:
        options = {"card": {"request_multicapture": "if_available"}}
        intent = await self.intent(card, reference, capture_method="manual", payment_method_options=options)
        reply = await self.confirm(intent, **more)
        assert reply.body["status"] == "requires_capture", reply.body
        return reply.body

    async def look(self, intent: Any, *expand: str) -> Any:
        return await self.get(f"/v1/payment_intents/{intent['id']}", **({"expand": expand} if expand else {}))

    async def charge_of(self, intent: Any) -> Any:
        return (await self.look(intent, "latest_charge"))["latest_charge"]

    async def all(self, path: str, **params: Any) -> list[Any]:
        """Everything of a list, the oldest first."""
        found: list[Any] = []
        after: dict[str, Any] = {}
        while True:
            page = await self.get(path, limit=100, **params, **after)
            found += page["data"]
            if not page["has_more"]:
                return found[::-1]
            after = {"starting_after": found[-1]["id"]}

    # ── What is not Stripe's ─────────────────────────────────────────────────────────────────────────────────────────────

    async def control(self, path: str, **body: Any) -> Any:
        response = await self.http.post(f"/_{path}", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def dashboard(self, path: str, **body: Any) -> Any:
        return await self.control(f"dashboard/{path}", **body)

    async def faults(self, **switches: Any) -> Any:
        return await self.control("control/faults", **switches)

    async def totals(self) -> Any:
        return (await self.http.get("/_control/ledger")).json()

    async def sums(self, currency: str = "EUR") -> Any:
        return (await self.totals())["currencies"].get(currency)

    async def pending(self) -> int:
        return cast(int, (await self.http.get("/_control/webhooks")).json()["pending"])

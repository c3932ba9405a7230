"""Everything that any endpoint takes has bounds: nobody can forget them in a new one."""

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter

from chassis.service import new_app
from contracts.platform import SERVICE_NAMES
from tests.conftest import ROOT

Json = dict[str, Any]
BOUNDED_FORMATS = {"uuid", "date", "date-time", "time"}


def document(service: str) -> Json:
    """What a service says about all its endpoints, the internal ones too."""
    routers: list[APIRouter] = []
    for name in sorted({path.stem for path in (ROOT / "services" / service).glob("*api*") if path.suffix in ("", ".py")}):
        module = importlib.import_module(f"services.{service}.{name}")
        own = [value for value in vars(module).values() if isinstance(value, APIRouter)]
        routers += getattr(module, "ROUTERS", None) or own
    access = importlib.import_module(f"services.{service}.access").ACCESS
    return new_app(service, "", routers, {}, access).openapi()


def inputs(document: Json) -> Iterator[tuple[str, Json]]:
    """The schema of each parameter and body, with a name for it."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", ()):
                yield f"{name} {parameter['in']} {parameter['name']}", parameter["schema"]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield f"{name} body", content["schema"]


def unbounded(schema: Json, components: Json, where: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """What in a schema may be as long or as large as it likes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from unbounded(components[name], components, where, seen | {name})
        return
    for kind in ("anyOf", "oneOf", "allOf"):
        for choice in schema.get(kind, ()):
            yield from unbounded(choice, components, where, seen)
    if schema.keys() & {"enum", "const"}:
        return
    match schema.get("type"):
        case "string" if not (
            "maxLength" in schema or schema.get("format") in BOUNDED_FORMATS or is_bounded(schema.get("pattern", ".*"))
        ):
            yield f"{where}: a string of any length"
        case "integer" | "number" if not (
            schema.keys() & {"minimum", "exclusiveMinimum"} and schema.keys() & {"maximum", "exclusiveMaximum"}
        ):
            yield f"{where}: a number without bounds"
        case "array":
            if "maxItems" not in schema:
                yield f"{where}: a list of any length"
            yield from unbounded(schema.get("items", {}), components, f"{where}[]", seen)
        case "object":
            for name, value in schema.get("properties", {}).items():
                yield from unbounded(value, components, f"{where}.{name}", seen)
            others = schema.get("additionalProperties", False)
            if others:
                if "maxProperties" not in schema:
                    yield f"{where}: any number of fields"
                yield from unbounded(others if isinstance(others, dict) else {}, components, f"{where}.*", seen)
        case None if not schema.keys() & {"anyOf", "oneOf", "allOf"}:
            yield f"{where}: anything at all"


def is_bounded(pattern: str) -> bool:
    """Whether no more than so many characters match: it has both ends, and nothing in it repeats without end."""
    without_classes = re.sub(r"\\.", "x", re.sub(r"\[(\\.|[^\]\\])*\]", "x", pattern))
    anchored = pattern.startswith("^") and pattern.endswith("$")
    return anchored and not re.search(r"[*+]|\{\d+,\}", without_classes)


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_g11_every_input_of_every_endpoint_has_bounds(service: str) -> None:
    described = document(service)
    components = described.get("components", {}).get("schemas", {})
    found = [fault for name, schema in inputs(described) for fault in unbounded(schema, components, name)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "string"}, "a string of any length"),
        ({"type": "string", "pattern": "^a+$"}, "a string of any length"),
        ({"type": "string", "pattern": "a"}, "a string of any length"),
        ({"type": "string", "pattern": r"^[A-Za-z+*\]]{1,40}$"}, None),
        ({"type": "string", "pattern": r"^\+[0-9]{1,15}$"}, None),
        ({"type": "string", "format": "uuid"}, None),
        ({"type": "integer", "minimum": 0}, "a number without bounds"),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 9}, None),
        ({"type": "array", "items": {"type": "boolean"}}, "a list of any length"),
        ({"type": "object", "additionalProperties": True}, "any number of fields"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, "a string of any length"),
        ({}, "anything at all"),
    ],
)
def test_the_rule_sees_what_has_no_bounds(schema: Json, fault: str | None) -> None:
    found = list(unbounded(schema, {}, "it"))
    assert found[:1] == ([f"it: {fault}"] if fault else [])

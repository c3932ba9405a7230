"""What is a break and what is not, by who wrote and who reads."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from cli.release.compare import compare_apis, compare_events, compare_surfaces
from cli.release.documents import asyncapi, openapi
from cli.release.surface import Kind, Part, surface

Json = dict[str, Any]
NO_FACTS: Json = {
    "workflows": {},
    "handlers": {},
    "start": {},
    "ids": {},
    "search_attributes": {},
    "activities": {},
    "steps": {},
    "time_outs": {},
}


class Address(BaseModel):
    """What both releases have."""

    street: str
    floor: int | None = None


class Old(BaseModel):
    """Of the release before."""

    model_config = {"use_attribute_docstrings": True}

    id: str
    to: Address
    note: Annotated[str, Field(max_length=100)] = ""
    wait: int = 60
    """In seconds."""
    tags: list[str] = []


def of(kind: Any, place: str) -> Json:
    """A surface with this one payload."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schemas, shared = TypeAdapter.json_schemas([("it", "validation", adapter), ("it", "serialization", adapter)])
    types = {place: {"read": schemas["it", "validation"], "written": schemas["it", "serialization"]}}
    return {"facts": NO_FACTS, "types": types, "$defs": shared.get("$defs", {})}


def broken(new: Any, place: str, old: Any = Old) -> list[str]:
    return [difference.removeprefix(place) for difference in compare_surfaces(of(old, place), of(new, place))]


ARGUMENT, REPLY, SIGNAL = "activity Send argument", "activity Send result", "signal cancel argument"


def changed(**fields: Any) -> type[BaseModel]:
    """The old one with other fields; None: without."""
    hints = {name: (info.annotation, info) for name, info in Old.model_fields.items()}
    wanted = {name: hint for name, hint in (hints | fields).items() if hint is not None}
    return type(
        "Old",
        (BaseModel,),
        {"__annotations__": {name: hint[0] for name, hint in wanted.items()}}
        | {name: hint[1] for name, hint in wanted.items() if hint[1] is not ...},
    )


@pytest.mark.parametrize("place", [ARGUMENT, REPLY, SIGNAL])
def test_nothing_changed(place: str) -> None:
    assert broken(Old, place) == []


@pytest.mark.parametrize("place", [ARGUMENT, REPLY, SIGNAL])
@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"note": None}, ".note: removed"),
        ({"actor": (str, ...)}, ".actor: is required, and is new"),
        ({"tags": (list[str], ...)}, ".tags: is required, and was optional"),
        ({"id": (int, ...)}, ".id: is string where integer is expected"),
        ({"tags": (list[int], [])}, ".tags[]: is string where integer is expected"),
        ({"wait": (int, 90)}, ".wait: by default 90, and was 60"),
        ({"wait": (int, Field(60, description="In minutes."))}, ".wait: in minutes, and was in seconds"),
        ({"note": (str, Field("", max_length=10))}, ".note: at most 10 long, and was 100"),
    ],
)
def test_what_breaks_whoever_reads(place: str, fields: Json, difference: str) -> None:
    assert difference in broken(changed(**fields), place)


@pytest.mark.parametrize("place", [ARGUMENT, REPLY, SIGNAL])
def test_a_new_field_with_a_default_breaks_nothing(place: str) -> None:
    assert broken(changed(actor=(str | None, None)), place) == []


def test_what_is_wider_breaks_older_readers_only() -> None:
    wider = changed(note=(str, Field("", max_length=200)))
    assert broken(wider, ARGUMENT) == []
    assert broken(wider, REPLY) == [".note: at most 100 long, and was 200"]


def test_a_reader_that_refuses_what_it_does_not_know() -> None:
    class Strict(BaseModel):
        model_config = {"extra": "forbid"}
        reason: str

    class More(BaseModel):
        model_config = {"extra": "forbid"}
        reason: str
        channel: str | None = None

    assert broken(More, SIGNAL, Strict) == [".channel: is refused by readers that do not know it"]
    assert broken(More, ARGUMENT, Strict) == []
    assert broken(Strict, ARGUMENT, More) == [".channel: removed"]


def test_what_is_within_what_is_within() -> None:
    class Far(BaseModel):
        street: Annotated[str, Field(pattern="^[A-Z]")]
        floor: int | None = None

    assert broken(changed(to=(Far, ...)), ARGUMENT) == [".to.street: pattern ^[A-Z], and was without"]


def test_names_and_promises() -> None:
    def facts(**changed: Any) -> Json:
        step = {"activity": "Pay", "give_up_after_s": 3600.0, "maximum_attempts": None, "maximum_interval_s": 60.0}
        return NO_FACTS | {
            "handlers": {"update": ["cancel"]},
            "search_attributes": {"OrderStatus": "Keyword"},
            "steps": {"pay": step | {"final_refusals": ["declined"]} | changed},
        }

    def differ(new: Json) -> list[str]:
        return compare_surfaces({"facts": facts(), "types": {}}, {"facts": new, "types": {}})

    assert differ(facts(give_up_after_s=None)) == []
    assert differ(facts(give_up_after_s=60.0)) == ["step pay: given up after 60 s, and was given up after 3600 s"]
    assert differ(facts(final_refusals=["declined", "expired"])) == ["step pay: ends on expired, which was tried again"]
    assert differ(facts() | {"handlers": {"update": ["cancel", "pause"]}}) == []
    assert differ(facts() | {"handlers": {"update": []}}) == ["update cancel: removed"]
    assert differ(facts() | {"search_attributes": {"OrderStatus": "Text"}}) == [
        "search attribute OrderStatus: Text, and was Keyword"
    ]


def test_events() -> None:
    old, new = asyncapi(), asyncapi()
    assert compare_events(old, new) == []
    del new["components"]["schemas"]["StockLine"]["properties"]["quantity"]
    new["components"]["messages"]["ShipmentLost"]["bindings"]["kafka"]["key"]["description"] = "`partitionkey`: {shipment_id}"
    del new["channels"]["order-events"]["messages"]["OrderCompleted"]
    found = compare_events(old, new)
    assert "event InventoryReserved.data.lines[].quantity: removed" in found
    assert any(difference.startswith("event ShipmentLost, key:") for difference in found)
    assert "event OrderCompleted on order-events: removed" in found


def test_the_api() -> None:
    old, new = openapi(), openapi()
    assert compare_apis(old, new) == []
    place = new["paths"]["/api/v1/orders"]["post"]
    place["parameters"].append({"in": "header", "name": "X-Shop", "required": True, "schema": {"type": "string"}})
    new["components"]["schemas"]["LineRequest"]["properties"]["quantity"]["maximum"] = 10
    del new["paths"]["/api/v1/orders"]["get"]
    found = compare_apis(old, new)
    assert "POST /api/v1/orders header X-Shop: is required, and is new" in found
    assert "POST /api/v1/orders body.lines[].quantity: at most 10, and was 1000" in found
    assert "GET /api/v1/orders: removed" in found


def test_the_surface_knows_the_types() -> None:
    assert surface().type_of(Kind.ACTIVITY, "RefundPayment", Part.ARGUMENT).__name__ == "RefundPayment"
    assert surface().type_of(Kind.ACTIVITY, "Unknown", Part.ARGUMENT) is None
    document = surface().document()
    assert compare_surfaces(document, document) == []

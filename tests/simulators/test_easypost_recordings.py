"""What the simulator answers has the shape of what EasyPost was recorded to answer: each recorded request is played to it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from simulators.easypost.app import Settings, create_app
from simulators.easypost.news import signed
from tests.simulators.easypost import KEY, SPEC, Connect, Shop, buy, drained

RECORDED = json.loads(SPEC.read_text())
EXCHANGES = {recorded["name"]: recorded["exchanges"] for recorded in RECORDED["exchanges"]}
NOT_PLAYED = {"error_404_string_list"}
"""Of a resource that the simulator does not have."""
FORMS = {
    "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    "address time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"),
    "event time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    "price": re.compile(r"\d+\.\d\d"),
    "fee": re.compile(r"\d+\.\d{5}"),
    "id": re.compile(r"[a-z]+_[0-9a-f]{32}"),
}
SAME = frozenset({"object", "mode", "code", "field", "billing_type", "currency", "label_size", "label_file_type", "type"})
"""Fields that have the recorded value."""
FREE = frozenset({"id", "user_id", "url", "message", "created_at", "updated_at", "datetime", "name", "est_delivery_date"})

Kinds = dict[tuple[str, str], set[str]]


def form_of(value: Any) -> str:
    """The type of a value; of a text, how it is written, if that can be told."""
    if isinstance(value, str):
        return next((name for name, form in FORMS.items() if form.fullmatch(value)), "text")
    return {dict: "object", list: "list", bool: "bool", int: "int", float: "float", type(None): "null"}[type(value)]


def parts(value: Any, kind: str) -> Iterator[tuple[str, str, Any]]:
    """Kind of object, field and value, of all that is in an answer."""
    if isinstance(value, dict):
        kind = value.get("object", kind)
        for field, part in value.items():
            yield kind, field, part
            yield from parts(part, f"{kind}.{field}")
    elif isinstance(value, list):
        for part in value:
            yield from parts(part, kind)


def learned() -> Kinds:
    """The forms that each field of each kind of object has in any recording."""
    kinds: Kinds = defaultdict(set)
    answers = [exchange["response"]["json"] for exchanges in EXCHANGES.values() for exchange in exchanges]
    for answer in (*answers, json.loads(RECORDED["webhook"]["request"]["body_raw"])):
        for kind, field, value in parts(answer, "answer"):
            kinds[kind, field].add(form_of(value))
            if value == "<REDACTED>":  # there may have been none
                kinds[kind, field].add("null")
    return kinds


KINDS = learned()


def assert_alike(recorded: Any, found: Any, path: str = "answer") -> None:
    """`found` has each field that was recorded, no others than such an object is known to have, each of a known form."""
    if isinstance(recorded, dict):
        assert isinstance(found, dict), path
        assert set(recorded) <= set(found), f"{path}: {set(recorded) - set(found)} missing"
        for field, value in recorded.items():
            if field in SAME and value is not None and not path.endswith("rates"):
                assert found[field] == value, f"{path}.{field}"
            assert_alike(value, found[field], f"{path}.{field}")
    elif isinstance(recorded, list):
        assert isinstance(found, list), path
        # What it costs to follow a parcel changed between the recordings.
        assert path.endswith("trackers.fees") or bool(found) == bool(recorded), f"{path}: {found}"
        for first, second in zip(recorded, found, strict=False):
            assert_alike(first, second, path)
    elif recorded is not None and path.rpartition(".")[2] not in FREE and found is not None:
        assert form_of(found) == form_of(recorded), f"{path}: {found!r}, recorded {recorded!r}"


def assert_known(found: Any) -> None:
    for kind, field, value in parts(found, "answer"):
        if "options" not in kind:
            assert form_of(value) in KINDS[kind, field], f"{kind}.{field}: {value!r}, recorded {KINDS[kind, field]}"


@pytest_asyncio.fixture
async def carriers(tmp_path: Path, connect: Connect) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(Settings(data_dir=tmp_path, api_key=KEY))
    async with app.running(), connect(app) as client:
        yield client


async def prepare(name: str, carriers: httpx2.AsyncClient) -> dict[str, str]:
    """What was there before the recording began: recorded ids, and ours for them."""
    if name == "tracker_create_retrieve":  # it was recorded for the second time within three months
        await carriers.post("/v2/trackers", json={"tracker": {"tracking_code": "EZ1000000001"}})
    if name == "event_list":
        for number in range(1, 8):
            await carriers.post("/v2/trackers", json={"tracker": {"tracking_code": f"EZ{number}00000000{number}"}})
    if name == "shipment_refund":
        recorded = EXCHANGES[name][0]["response"]["json"]["id"]
        bought = await buy(carriers, options={"label_format": "PNG"})
        return {recorded: bought["id"]}
    return {}


@pytest.mark.parametrize("name", sorted(set(EXCHANGES) - NOT_PLAYED))
async def test_answers_are_shaped_as_recorded(carriers: httpx2.AsyncClient, name: str) -> None:
    ours = await prepare(name, carriers)
    for exchange in EXCHANGES[name]:
        request, response = exchange["request"], exchange["response"]
        sent = json.dumps({"uri": request["uri"].removeprefix("https://api.easypost.com"), "json": request["json"]})
        for recorded_id, our_id in ours.items():
            sent = sent.replace(recorded_id, our_id)
        wanted = json.loads(sent)
        answer = await carriers.request(request["method"], wanted["uri"], json=wanted["json"])
        assert answer.status_code == response["status"], answer.text
        assert answer.headers["content-type"].split(";")[0] == "application/json"
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-ep-request-uuid"])
        assert ("location" in response["headers"]) <= ("location" in answer.headers)
        found = answer.json()
        assert_alike(response["json"], found)
        assert_known(found)
        ours |= named(response["json"], found)


def named(recorded: Any, found: Any) -> dict[str, str]:
    """Our ids of the objects that later requests of a recording name."""
    ids = {recorded["id"]: found["id"]} if isinstance(recorded, dict) and "id" in recorded else {}
    if isinstance(recorded, dict) and recorded.get("rates"):
        ours = {(rate["carrier"], rate["service"]): rate["id"] for rate in found["rates"]}
        ids |= {rate["id"]: ours[rate["carrier"], rate["service"]] for rate in recorded["rates"]}
    return ids


@pytest.mark.parametrize(
    "change",
    [
        {"fees": None},
        {"is_return": "no"},
        {"created_at": "2025-03-07 16:46"},
        {"rates": []},
        {"object": "Order"},
        {"weather": "fine"},
        {"selected_rate": {"object": "Rate", "rate": 6.07}},
    ],
)
def test_the_comparison_sees_what_differs(change: dict[str, Any]) -> None:
    recorded = EXCHANGES["shipment_create_rates"][0]["response"]["json"]
    assert_alike(recorded, recorded)
    assert_known(recorded)

    def compared() -> None:
        assert_alike(recorded, {**recorded, **change})
        assert_known({**recorded, **change})

    with pytest.raises(AssertionError):
        compared()


def test_the_comparison_sees_what_is_missing() -> None:
    recorded = EXCHANGES["shipment_create_rates"][0]["response"]["json"]
    with pytest.raises(AssertionError, match="messages"):
        assert_alike(recorded, {field: value for field, value in recorded.items() if field != "messages"})


async def test_the_recorded_parcel_costs_what_it_cost(carriers: httpx2.AsyncClient) -> None:
    exchange = EXCHANGES["shipment_create_rates"][0]
    found = (await carriers.post("/v2/shipments", json=exchange["request"]["json"])).json()

    def prices(shipment: Any) -> dict[str, tuple[str, int]]:
        return {rate["service"]: (rate["rate"], rate["delivery_days"]) for rate in shipment["rates"] if rate["carrier"] == "USPS"}

    assert prices(found) == prices(exchange["response"]["json"])
    assert found["usps_zone"] == exchange["response"]["json"]["usps_zone"]


def test_the_published_signature_is_computed_again() -> None:
    webhook = RECORDED["webhook"]
    body = webhook["request"]["body_raw"].encode()
    assert signed(webhook["webhook_secret"], body) == webhook["request"]["headers"]["X-Hmac-Signature"]
    assert signed(webhook["webhook_secret"], body + b" ") != webhook["request"]["headers"]["X-Hmac-Signature"]


async def test_deliveries_are_shaped_as_published(tmp_path: Path, connect: Connect, shop: Shop, until: Any) -> None:
    app = create_app(Settings(data_dir=tmp_path, api_key=KEY, webhook=shop.target()))
    async with app.running(), connect(app) as carriers:
        await buy(carriers)
        await carriers.post("/_control/hand-over", json={"references": ["order-1"]})
        await until(lambda: drained(carriers))
    published = json.loads(RECORDED["webhook"]["request"]["body_raw"])
    told = shop.accepted[-1]
    assert told["description"] == published["description"] == "tracker.updated"
    assert told["previous_attributes"] == {"status": "pre_transit"}
    assert list(told) == list(published)
    assert_alike({**published, "mode": "test", "result": {**published["result"], "mode": "test"}}, told)
    assert_known(told)

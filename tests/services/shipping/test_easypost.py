"""The adapter to EasyPost: what is sent, and what its recorded answers mean; signatures; units; faults."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import simulators.easypost
from chassis.clients import HttpSession, NotUnderstood, Unavailable
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.shipments import ShipmentLine, ShipmentStatus
from services.shipping.adapters import EasyPost
from services.shipping.adapters.easypost import _Shipment, _to_create, inches, ounces
from services.shipping.ports import Consignment, Place, RefundNews, RefundState, Size, TrackerNews
from services.shipping.sending import SAMPLE
from tests.services.shipping.conftest import API_KEY, WEBHOOK_SECRET, CarrierSimulator
from tests.services.shipping.parcels import ADDRESS, signed

SPEC = json.loads((Path(simulators.easypost.__file__).parent / "spec" / "exchanges.json").read_text())
_EXCHANGES = {group["name"]: group["exchanges"] for group in SPEC["exchanges"]}
RECORDED: dict[str, dict[str, Any]] = {
    "request": _EXCHANGES["shipment_create_rates"][0]["request"]["json"],
    "offered": _EXCHANGES["shipment_buy_label_tracker"][0]["response"]["json"],
    "bought": _EXCHANGES["shipment_buy_label_tracker"][1]["response"]["json"],
    "refund asked": _EXCHANGES["shipment_refund"][0]["response"]["json"],
}
"""Of the real EasyPost."""
CONSIGNMENT = Consignment("ref", SAMPLE, Place(ADDRESS), Size(254, 203, 102), 437, "standard")


def adapter(*secrets: str) -> EasyPost:
    return EasyPost(HttpSession(), "https://api.easypost.com", SecretStr("key"), [SecretStr(secret) for secret in secrets])


def test_units() -> None:
    assert [ounces(grams) for grams in (0, 1, 437, 1000, 30_000)] == [0.1, 0.1, 15.4, 35.3, 1058.2]
    assert [inches(mm) for mm in (0, 254, 600)] == [0.1, 10.0, 23.6]


def test_what_a_real_answer_to_a_purchase_means() -> None:
    shipment = _Shipment.model_validate(RECORDED["bought"])
    label = shipment.label()
    assert label is not None
    assert (label.tracking_number, label.carrier, label.service) == ("9400100208303109505657", "USPS", "GroundAdvantage")
    assert (label.cost, label.refund) == (Money(amount=Decimal("6.07"), currency="USD"), None)
    assert label.url is not None
    assert label.url.startswith("https://easypost-files.s3.us-west-2.amazonaws.com/")
    assert [(rate.ours().service, rate.ours().days) for rate in shipment.rates] == [
        ("Express", 1), ("Priority", 2), ("GroundAdvantage", 3),
    ]  # fmt: skip
    offered = _Shipment.model_validate(RECORDED["offered"])
    assert (offered.label(), bool(offered.rates)) == (None, True)
    refunded = _Shipment.model_validate(RECORDED["refund asked"]).label()
    assert refunded is not None
    assert refunded.refund == RefundState.SUBMITTED


def test_what_is_sent_is_what_the_recording_sent() -> None:
    request = RECORDED["request"]["shipment"]
    sent = _to_create(CONSIGNMENT)
    assert sent["parcel"] == request["parcel"]
    assert set(sent["to_address"]) <= set(request["to_address"]) | {"company"}
    assert "customs_info" not in sent


def test_customs_are_told_what_is_in_it() -> None:
    line = ShipmentLine(
        product_id="p1",
        name="Sweet shirts",
        quantity=2,
        unit_price=Money(amount=Decimal("11.50")),
        weight_grams=156,
        hs_code="654321",
    )
    abroad = ADDRESS.model_copy(update={"country": "CA", "region": "ON", "postal_code": "K1A 0B1"})
    sent = _to_create(Consignment("ref", SAMPLE, Place(abroad), Size(100, 100, 100), 400, "standard", lines=[line]))
    customs, known = sent["customs_info"], RECORDED["request"]["shipment"]["customs_info"]
    assert set(customs) <= set(known)
    assert customs["customs_items"] == [
        {
            "description": "Sweet shirts",
            "quantity": 2,
            "value": 23.0,
            "currency": "USD",
            "weight": 11.0,
            "origin_country": "US",
            "hs_tariff_number": "654321",
        }
    ]
    unknown = _to_create(Consignment("ref", SAMPLE, Place(abroad), Size(100, 100, 100), 400, "standard"))
    assert [item["weight"] for item in unknown["customs_info"]["customs_items"]] == [14.1]


def test_of_a_return_it_is_told_the_way_there() -> None:
    sent = _to_create(Consignment("ref", Place(ADDRESS), SAMPLE, Size(100, 100, 100), 400, "standard", is_return=True))
    assert (sent["is_return"], sent["to_address"]["city"], sent["from_address"]["city"]) == (True, "Cincinnati", "San Francisco")


def test_the_published_delivery_is_genuine_and_understood() -> None:
    secret, body = SPEC["webhook"]["webhook_secret"], SPEC["webhook"]["request"]["body_raw"]
    signature = SPEC["webhook"]["request"]["headers"]["X-Hmac-Signature"]
    told = adapter("another secret 12345", secret).news({"x-hmac-signature": signature}, body.encode())
    assert isinstance(told, TrackerNews)
    assert (told.id, told.tracking_number, told.status, told.word) == ("evt_1", "1", ShipmentStatus.IN_TRANSIT, "IN_TRANSIT")
    assert told.occurred_at.isoformat() == "2024-08-02T19:26:51+00:00"
    for wrong_body, header in (
        (body + " ", signature),
        (body, None),
        (body, ""),
        (body, "hmac-sha256-hex="),
        (body, signature[:-1] + "é"),
    ):
        with pytest.raises(Refusal) as refused:
            adapter(secret).news({"x-hmac-signature": header} if header is not None else {}, wrong_body.encode())
        assert refused.value.code == ErrorCode.INVALID_SIGNATURE


@given(st.text(max_size=100), st.binary(max_size=50))
def test_no_header_gets_by_or_breaks_it(header: str, body: bytes) -> None:
    with pytest.raises(Refusal):
        adapter(WEBHOOK_SECRET).news({"x-hmac-signature": header}, body)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "1",
        '{"id": "evt_1"}',
        '{"id": "evt_1", "description": "tracker.updated", "result": {}}',
        '{"id": "\\u0000", "description": "tracker.updated"}',
        '{"id": "evt_1", "description": "tracker.updated", "result": {"tracking_code": "1", "status": "delivered",'
        ' "updated_at": "0001-01-01T00:00:00+14:00"}}',
        '{"id": "evt_1", "description": "tracker.updated", "result": {"tracking_code": "1", "status": "x; drop",'
        ' "updated_at": "2026-01-01T00:00:00Z"}}',
        "[" * 5_000,
    ],
)
def test_signed_nonsense_is_refused(body: str) -> None:
    with pytest.raises(Refusal) as refused:
        adapter(WEBHOOK_SECRET).news({"x-hmac-signature": signed(body, WEBHOOK_SECRET)["X-Hmac-Signature"]}, body.encode())
    assert refused.value.code == ErrorCode.VALIDATION_FAILED


def test_events_that_do_not_concern_us_are_no_news() -> None:
    def news(event: dict[str, Any]) -> object:
        body = json.dumps(event)
        return adapter(WEBHOOK_SECRET).news({"x-hmac-signature": signed(body, WEBHOOK_SECRET)["X-Hmac-Signature"]}, body.encode())

    assert news({"id": "evt_1", "description": "batch.created", "result": {"id": "batch_1"}}) is None
    tracker = {"tracking_code": "1", "status": "pre_transit", "updated_at": "2026-01-01T00:00:00Z"}
    assert news({"id": "evt_1", "description": "tracker.created", "result": tracker}) is None
    refund = {"id": "evt_1", "description": "refund.successful", "result": {"shipment_id": "shp_1", "status": "refunded"}}
    assert news(refund) == RefundNews("evt_1", "shp_1", RefundState.REFUNDED)


async def test_a_whole_life_of_a_label(carrier: EasyPost, simulator: CarrierSimulator) -> None:
    offer = await carrier.offer(CONSIGNMENT)
    assert {rate.carrier for rate in offer.rates} >= {"USPS"}
    assert await carrier.find(offer.provider_id) is None
    rate = min(offer.rates, key=lambda rate: rate.cost.minor)
    label = await carrier.buy(offer.provider_id, rate)
    assert (label.cost, label.carrier, label.service) == (rate.cost, rate.carrier, rate.service)
    assert await carrier.find(offer.provider_id) == label
    with pytest.raises(Refusal) as refused:
        await carrier.buy(offer.provider_id, rate)
    assert refused.value.code == ErrorCode.CONFLICT
    picture = await carrier.picture(CONSIGNMENT, label)
    assert (picture.content_type, picture.content[:4]) == ("application/pdf", b"%PDF")
    told = await carrier.track(offer.provider_id)
    assert told is not None
    assert told.status is None
    await simulator.faults(refund_ms=0)
    assert await carrier.refund(offer.provider_id) == RefundState.SUBMITTED
    assert await carrier.refund(offer.provider_id) in (RefundState.SUBMITTED, RefundState.REFUNDED)


async def test_a_label_that_was_used_is_not_taken_back(carrier: EasyPost, simulator: CarrierSimulator) -> None:
    offer = await carrier.offer(CONSIGNMENT)
    label = await carrier.buy(offer.provider_id, offer.rates[0])
    await simulator.hand_over(label.tracking_number)
    assert await carrier.refund(offer.provider_id) == RefundState.REJECTED
    told = await carrier.track(offer.provider_id)
    assert told is not None
    assert told.status == ShipmentStatus.IN_TRANSIT


async def test_addresses_are_looked_at(carrier: EasyPost) -> None:
    good = await carrier.verify(ADDRESS)
    assert good.address is not None
    assert (good.address.line1, good.address.city) == ("12 MAIN STREET", "CINCINNATI")
    bad = await carrier.verify(ADDRESS.model_copy(update={"city": "Nowhere"}))
    assert (bad.address, [error.field for error in bad.errors]) == (None, ["line1"])
    assert bad.errors[0].code == "address_not_found"


async def test_nobody_goes_there_or_nobody_knows_it(carrier: EasyPost, simulator: CarrierSimulator) -> None:
    nowhere = Consignment(
        "ref", SAMPLE, Place(ADDRESS.model_copy(update={"city": "Nowhere"})), Size(100, 100, 100), 400, "standard"
    )
    with pytest.raises(Refusal) as refused:
        await carrier.offer(nowhere)
    assert refused.value.code == ErrorCode.ADDRESS_UNDELIVERABLE
    await simulator.faults(fail_rates=True)
    offer = await carrier.offer(CONSIGNMENT)
    assert (offer.rates, bool(offer.messages)) == ([], True)


@pytest.mark.parametrize(
    ("switches", "fault"),
    [({"down": True}, Unavailable), ({"limit_next": 1}, Unavailable), ({"lose_replies_next": 1}, Unavailable)],
)
async def test_faults_are_no_answers(
    carrier: EasyPost, simulator: CarrierSimulator, switches: dict[str, Any], fault: type[Exception]
) -> None:
    await simulator.faults(**switches)
    with pytest.raises(fault):
        await carrier.offer(CONSIGNMENT)


async def test_without_credit_or_with_a_wrong_key_somebody_has_to_look(carrier: EasyPost, simulator: CarrierSimulator) -> None:
    offer = await carrier.offer(CONSIGNMENT)
    await simulator.faults(no_credit=True)
    with pytest.raises(NotUnderstood):
        await carrier.buy(offer.provider_id, offer.rates[0])
    async with HttpSession() as http:
        with pytest.raises(NotUnderstood):
            await EasyPost(http, simulator.url, SecretStr("wrong " + API_KEY)).offer(CONSIGNMENT)


async def test_a_label_is_fetched_from_nowhere_else(carrier: EasyPost) -> None:
    offer = await carrier.offer(CONSIGNMENT)
    label = await carrier.buy(offer.provider_id, offer.rates[0])
    for url in ("http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "", f"{label.url}x"):
        with pytest.raises(NotUnderstood):
            await carrier.picture(CONSIGNMENT, type(label)(label.tracking_number, "USPS", "x", label.cost, url))

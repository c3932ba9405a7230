"""EasyPost's own library takes the simulator for EasyPost: a parcel's whole life, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from easypost.easypost_client import EasyPostClient
from easypost.errors.api.invalid_request_error import InvalidRequestError
from easypost.errors.api.not_found_error import NotFoundError
from easypost.errors.api.payment_error import PaymentError
from easypost.errors.api.rate_limit_error import RateLimitError
from easypost.errors.api.unauthorized_error import UnauthorizedError
from easypost.util import validate_webhook

from tests.simulators.easypost import CUSTOMER, CUSTOMS, KEY, LISBON, PARCEL, SECRET, WAREHOUSE, Shop, drained, switch

Until = Callable[..., Awaitable[Any]]
Start = Callable[..., Awaitable[Any]]


def client(process: Any, key: str = KEY) -> EasyPostClient:
    return EasyPostClient(key, api_base=f"http://127.0.0.1:{process.port}/v2")


def a_life(carriers: EasyPostClient) -> Any:
    address = carriers.address.create(verify=True, **CUSTOMER)
    assert address.verifications.delivery.success
    assert carriers.address.verify(address.id).zip == address.zip
    parcel = carriers.parcel.create(**PARCEL)
    shipment = carriers.shipment.create(to_address=address, from_address=WAREHOUSE, parcel=parcel, reference="order-1")
    assert carriers.shipment.retrieve("order-1").id == shipment.id
    assert shipment.to_address.id == address.id
    cheapest = shipment.lowest_rate(carriers=["UPSDAP", "FedExDefault"])
    bought = carriers.shipment.buy(shipment.id, rate=cheapest)
    assert (bought.selected_rate.carrier, bought.selected_rate.rate) == ("UPSDAP", cheapest.rate)
    label = httpx2.get(carriers.shipment.label(shipment.id, file_format="PDF").postage_label.label_pdf_url, timeout=30)
    assert label.content.startswith(b"%PDF")
    tracker = carriers.tracker.retrieve(bought.tracker.id)
    assert (tracker.status, tracker.tracking_code) == ("pre_transit", bought.tracking_code)
    assert carriers.tracker.create(tracking_code=bought.tracking_code, carrier="UPSDAP").id == tracker.id
    return bought


def abroad(carriers: EasyPostClient) -> Any:
    customs = carriers.customs_info.create(**CUSTOMS)
    shipment = carriers.shipment.create(to_address=LISBON, from_address=WAREHOUSE, parcel=PARCEL, customs_info=customs)
    assert {rate.carrier for rate in shipment.rates} == {"USPS", "UPSDAP", "FedExDefault"}
    assert carriers.shipment.regenerate_rates(shipment.id)["rates"][0].service == "ExpressMailInternational"
    return carriers.shipment.retrieve(shipment.id)


async def test_a_parcels_life(start_process: Start, shop: Shop, until: Until) -> None:
    process = await start_process("easypost", CARRIER_WEBHOOK_URL=shop.url, CARRIER_WEBHOOK_SECRET=SECRET)
    carriers = client(process)
    bought = await asyncio.to_thread(a_life, carriers)
    await process.http.post("/_control/hand-over", json={"references": ["order-1"]})
    await process.http.post("/_control/advance", json={"to": "delivered", "all": True})
    await until(lambda: drained(process.http))
    for headers, body in shop.requests:
        event = validate_webhook(body, headers, SECRET)
        assert event["result"]["id"] == bought.tracker.id
    assert shop.statuses() == ["in_transit", "delivered"]
    shipment = await asyncio.to_thread(carriers.shipment.retrieve, bought.id)
    assert shipment.tracker.status == "delivered"
    with pytest.raises(InvalidRequestError) as refused:
        await asyncio.to_thread(carriers.shipment.refund, bought.id)
    assert refused.value.code == "SHIPMENT.REFUND.UNAVAILABLE"


async def test_a_label_that_is_given_back(start_process: Start, until: Until) -> None:
    process = await start_process("easypost")
    await switch(process.http, refund_ms=20)
    carriers = client(process)
    shipment = await asyncio.to_thread(abroad, carriers)
    await asyncio.to_thread(carriers.shipment.buy, shipment.id, rate=shipment.lowest_rate())
    assert (await asyncio.to_thread(carriers.shipment.refund, shipment.id)).refund_status == "submitted"

    async def refunded() -> bool:
        return bool((await asyncio.to_thread(carriers.shipment.retrieve, shipment.id)).refund_status == "refunded")

    await until(refunded)
    assert [refund.status for refund in (await asyncio.to_thread(carriers.refund.all))["refunds"]] == ["refunded"]
    assert (await asyncio.to_thread(carriers.event.all, page_size=1))["has_more"]


async def test_lists_and_webhooks(start_process: Start, shop: Shop) -> None:
    carriers = client(await start_process("easypost"))

    def look() -> None:
        for _ in range(3):
            carriers.shipment.create(to_address=CUSTOMER, from_address=WAREHOUSE, parcel=PARCEL)
        first = carriers.shipment.all(page_size=2, purchased="false")
        second = carriers.shipment.get_next_page(first, page_size=2)
        ids = [shipment.id for page in (first, second) for shipment in page["shipments"]]
        assert (len(set(ids)), second["has_more"]) == (3, False)
        trackers = carriers.tracker.retrieve_batch(tracking_codes=["EZ1000000001", "EZ4000000004"]).trackers
        assert [tracker.status for tracker in trackers] == ["pre_transit", "delivered"]
        hook = carriers.webhook.create(url=shop.url, webhook_secret=SECRET)
        assert [each.id for each in carriers.webhook.all()["webhooks"]] == [hook.id]
        carriers.webhook.delete(hook.id)
        assert carriers.webhook.all()["webhooks"] == []

    await asyncio.to_thread(look)


async def test_errors_are_understood(start_process: Start) -> None:
    process = await start_process("easypost")
    carriers = client(process)

    def wrong() -> None:
        with pytest.raises(InvalidRequestError) as missing:
            carriers.shipment.create()
        assert missing.value.code == "PARAMETER.REQUIRED"
        assert missing.value.json_body["error"]["errors"] == [{"field": "shipment", "message": "cannot be blank"}]
        with pytest.raises(NotFoundError):
            carriers.shipment.retrieve("shp_unheard_of")
        with pytest.raises(UnauthorizedError):
            client(process, "wrong").shipment.all()
        with pytest.raises(InvalidRequestError) as nowhere:
            carriers.address.create_and_verify(**{**CUSTOMER, "city": "Nowhere"})
        assert nowhere.value.code == "ADDRESS.VERIFY.FAILURE"

    await asyncio.to_thread(wrong)
    shipment = await asyncio.to_thread(carriers.shipment.create, to_address=CUSTOMER, from_address=WAREHOUSE, parcel=PARCEL)
    await switch(process.http, no_credit=True)
    with pytest.raises(PaymentError):
        await asyncio.to_thread(carriers.shipment.buy, shipment.id, rate=shipment.rates[0])
    await switch(process.http, limit_next=1)
    with pytest.raises(RateLimitError):
        await asyncio.to_thread(carriers.shipment.retrieve, shipment.id)

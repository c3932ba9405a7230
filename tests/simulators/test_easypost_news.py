"""What the carriers tell: signed, in order per parcel, at least once, also across a restart; and out of order on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest_asyncio

from simulators.easypost.app import Settings, create_app, read_settings
from simulators.easypost.news import signed
from tests.simulators.easypost import (
    KEY,
    SECRET,
    Connect,
    Shop,
    advance,
    buy,
    drained,
    hand_over,
    header,
    ledger,
    refund,
    refusal,
    seen,
    switch,
)

Until = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture
async def carriers(tmp_path: Path, connect: Connect, shop: Shop) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(Settings(data_dir=tmp_path, api_key=KEY, webhook=shop.target()))
    async with app.running(), connect(app) as client:
        yield client


async def carried(carriers: httpx2.AsyncClient, reference: str = "order-1") -> Any:
    """The label of a parcel that was handed over, and delivered by way of two more stages."""
    label = await buy(carriers, reference)
    await hand_over(carriers, reference)
    for to in ("in_transit", "out_for_delivery", "delivered"):
        await advance(carriers, to, references=[reference])
    return label


WAY = ["in_transit", "in_transit", "out_for_delivery", "delivered"]


async def test_webhooks_are_signed_ordered_and_retried_until_accepted(
    carriers: httpx2.AsyncClient, shop: Shop, until: Until
) -> None:
    shop.refusals = {"out_for_delivery": [503, 404, 302, 500]}  # the later news must wait for it
    await carried(carriers)
    await until(lambda: drained(carriers))
    assert shop.statuses() == WAY
    assert len(shop.requests) == 1 + 4 + 4
    assert len({event["id"] for event in shop.accepted}) == 5
    for request in shop.requests:
        assert header(request) == signed(SECRET, request[1])


async def test_news_of_a_purchase_and_of_a_refund(carriers: httpx2.AsyncClient, shop: Shop, until: Until) -> None:
    await switch(carriers, refund_ms=10)
    label = await buy(carriers)
    await refund(carriers, label["id"])

    async def told() -> bool:
        return len(shop.accepted) == 2

    await until(told)
    created, given_back = shop.accepted
    assert (created["description"], created["result"]["status"]) == ("tracker.created", "pre_transit")
    assert created["result"]["shipment_id"] == label["id"]
    assert given_back["description"] == "refund.successful"
    assert given_back["result"]["shipment_id"] == label["id"]
    assert (given_back["result"]["status"], given_back["result"]["tracking_code"]) == ("refunded", label["tracking_code"])


async def test_the_events_can_be_looked_up(carriers: httpx2.AsyncClient, shop: Shop, until: Until) -> None:
    await switch(carriers, webhooks_held=True)
    await carried(carriers)
    events = (await carriers.get("/v2/events")).json()["events"]
    assert {event["status"] for event in events} == {"pending"}
    assert "result" not in events[0]
    await switch(carriers, webhooks_held=False)
    await until(lambda: drained(carriers))
    event = (await carriers.get(f"/v2/events/{events[0]['id']}")).json()
    assert (event["status"], event["completed_urls"], event["pending_urls"]) == ("completed", [shop.url], [])
    assert event["previous_attributes"] == {"status": "out_for_delivery"}
    assert refusal(await carriers.get("/v2/events/evt_1")) == (404, "NOT_FOUND")


async def test_webhooks_can_be_held_and_come_twice(carriers: httpx2.AsyncClient, shop: Shop, until: Until) -> None:
    await switch(carriers, webhooks_held=True, webhooks_twice=True)
    await carried(carriers)
    assert not await drained(carriers)
    assert shop.requests == []
    await switch(carriers, webhooks_held=False)
    await until(lambda: drained(carriers))
    assert set(Counter(event["id"] for event in shop.accepted).values()) == {2}
    assert len({body for _, body in shop.requests}) == 5  # the second time to the letter as the first


async def test_webhooks_can_come_with_the_newest_first(carriers: httpx2.AsyncClient, shop: Shop, until: Until) -> None:
    await switch(carriers, webhooks_held=True, webhooks_newest_first=True)
    await carried(carriers)
    await switch(carriers, webhooks_held=False)
    await until(lambda: drained(carriers))
    assert shop.statuses() == WAY[::-1]
    updated = [event["result"]["updated_at"] for event in shop.accepted]
    assert updated == sorted(updated, reverse=True)  # which tells a receiver what is old


async def test_webhooks_can_come_late(carriers: httpx2.AsyncClient, shop: Shop, until: Until) -> None:
    await switch(carriers, webhooks_late_ms=300)
    await buy(carriers)
    assert (await seen(carriers, "order-1"))["status"] == "pre_transit"
    assert shop.requests == []
    await until(lambda: drained(carriers))
    assert len(shop.accepted) == 1


async def test_who_registers_hears_too_until_it_is_removed(carriers: httpx2.AsyncClient, shop: Shop, until: Until) -> None:
    own = (await carriers.get("/v2/webhooks")).json()["webhooks"]
    assert [hook["url"] for hook in own] == [shop.url]
    wanted = {"url": shop.url, "webhook_secret": "another", "custom_headers": [{"name": "X-From", "value": "carriers"}]}
    hook = (await carriers.post("/v2/webhooks", json={"webhook": wanted})).json()
    assert "webhook_secret" not in hook
    assert (await carriers.get(f"/v2/webhooks/{hook['id']}")).json() == hook
    label = await buy(carriers)
    await until(lambda: drained(carriers))
    proofs = {request[0].get("X-From"): header(request) for request in shop.requests}
    body = shop.requests[0][1]
    assert proofs == {None: signed(SECRET, body), "carriers": signed("another", body)}
    await switch(carriers, webhooks_held=True)
    await hand_over(carriers, label["tracking_code"])
    assert (await carriers.delete(f"/v2/webhooks/{hook['id']}")).status_code == 200
    await switch(carriers, webhooks_held=False)
    await until(lambda: drained(carriers))
    assert shop.statuses() == ["in_transit"]
    assert refusal(await carriers.get(f"/v2/webhooks/{hook['id']}")) == (404, "NOT_FOUND")


async def test_a_registered_webhook_outlives_a_restart(tmp_path: Path, connect: Connect, shop: Shop, until: Until) -> None:
    settings = Settings(data_dir=tmp_path, api_key=KEY)
    app = create_app(settings)
    async with app.running(), connect(app) as carriers:
        await carriers.post("/v2/webhooks", json={"webhook": {"url": shop.url, "webhook_secret": SECRET}})
    app = create_app(settings)
    async with app.running(), connect(app) as carriers:
        await buy(carriers)
        await until(lambda: drained(carriers))
    assert header(shop.requests[0]) == signed(SECRET, shop.requests[0][1])


def test_of_several_secrets_the_first_one_signs(tmp_path: Path) -> None:
    environment = {
        "SIMULATOR_DATA_DIR": str(tmp_path),
        "CARRIER_API_KEY": KEY,
        "CARRIER_WEBHOOK_URL": "http://shop",
        "CARRIER_WEBHOOK_SECRET": "new, old",
    }
    webhook = read_settings(environment).webhook
    assert webhook is not None
    assert list(webhook.sign("{}", 0).values()) == [signed("new", b"{}")]


async def test_webhooks_wait_out_a_dead_shop_and_a_killed_carrier(
    start_process: Callable[..., Awaitable[Any]], shop: Shop, free_port: Callable[[], int], until: Until
) -> None:
    process = await start_process(
        "easypost", CARRIER_WEBHOOK_URL=f"http://127.0.0.1:{free_port()}/", CARRIER_WEBHOOK_SECRET=SECRET
    )
    label = await carried(process.http)
    before = await ledger(process.http)

    async def failed_once() -> bool:
        oldest = (await process.http.get("/_control/webhooks")).json()["oldest_pending"]
        return bool(oldest["attempts"] > 0)

    await until(failed_once)
    await process.kill()
    process.environment["CARRIER_WEBHOOK_URL"] = shop.url
    await process.start()
    await until(lambda: drained(process.http))
    assert shop.statuses() == WAY
    assert await ledger(process.http) == before
    assert (await seen(process.http, label["id"]))["status"] == "delivered"


async def test_a_purchase_whose_answer_is_lost_is_found_again(start_process: Callable[..., Awaitable[Any]]) -> None:
    process = await start_process("easypost")
    await switch(process.http, lose_replies_next=1)
    try:
        await buy(process.http)
        raise AssertionError("the answer was not lost")
    except httpx2.TransportError:
        pass
    shipment = await seen(process.http, "order-1")
    assert shipment["selected_rate"] is None  # it was the answer to the creation
    await switch(process.http, lose_replies_next=1)
    try:
        await process.http.post(f"/v2/shipments/{shipment['id']}/buy", json={"rate": {"id": shipment["rates"][0]["id"]}})
        raise AssertionError("the answer was not lost")
    except httpx2.TransportError:
        pass
    found = await seen(process.http, shipment["id"])
    assert found["selected_rate"]["id"] == shipment["rates"][0]["id"]
    assert (await ledger(process.http))["bought"] == 1

"""The parcel carrier: one parcel per reference, no cancelling what has left, and news that always arrives."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web

from simulators._webhooks import WebhookTarget, signature
from simulators.carrier import SIGNATURE, Settings, create_app

pytestmark = pytest.mark.asyncio

ADDRESS = {
    "name": "A. Customer",
    "line1": "1 Long Street",
    "city": "Lisbon",
    "postal_code": "1100-001",
    "country": "PT",
}
PARCEL = {"reference": "order-1/shipment", "service": "standard", "to": ADDRESS, "weight_grams": 2_500}
ONE = "/v1/shipments/order-1/shipment"
SECRET = "webhook-secret"
Connect = Callable[[Any], httpx2.AsyncClient]
Until = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture
async def carrier(tmp_path: Path, connect: Connect) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(Settings(data_dir=tmp_path, api_key="test-key"))
    async with app.running(), connect(app) as client:
        yield client


class Shop:
    """A webhook receiver on a real socket, that refuses news of a status as it is told to."""

    def __init__(self) -> None:
        self.refusals: dict[str, list[int]] = {}
        self.requests: list[tuple[str, str]] = []
        self.accepted: list[dict[str, Any]] = []
        self.url = ""

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.requests.append((request.headers["X-Carrier-Signature"], body))
        news = json.loads(body)
        if refusals := self.refusals.get(news["status"]):
            return web.Response(status=refusals.pop())
        self.accepted.append(news)
        return web.Response(status=204)

    def target(self) -> WebhookTarget:
        def sign(body: str, at: int) -> dict[str, str]:
            return {SIGNATURE: signature(body, SECRET, at)}

        return WebhookTarget(url=self.url, sign=sign, first_wait=0.01, longest_wait=0.02)


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    application = web.Application()
    application.router.add_post("/webhooks", shop.receive)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks"
    yield shop
    await runner.cleanup()


async def book(client: httpx2.AsyncClient, **changes: object) -> httpx2.Response:
    return await client.post("/v1/shipments", json={**PARCEL, **changes})


async def advance(client: httpx2.AsyncClient, to: str, **which: object) -> Any:
    return (await client.post("/_control/advance", json={"to": to, **which})).json()


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_books_once_per_reference(carrier: httpx2.AsyncClient) -> None:
    responses = await asyncio.gather(*(book(carrier) for _ in range(20)))
    assert {response.status_code for response in responses} == {201}
    parcel = responses[0].json()
    assert parcel["status"] == "booked"
    assert parcel["cost"] == {"amount": 490 + 2 * 80, "currency": "EUR"}
    assert {response.json()["tracking_number"] for response in responses} == {parcel["tracking_number"]}
    assert "Lisbon" in (await carrier.get(parcel["label_url"])).text
    assert (await carrier.get("/_control/ledger")).json() == {
        "references": 1,
        "by_status": {"booked": 1},
        "attempts": 20,
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"to": {**ADDRESS, "postal_code": "00000-1"}}, "address_undeliverable"),
        ({"to": {**ADDRESS, "city": "Nowhere"}}, "address_undeliverable"),
        ({"weight_grams": 150_001}, "parcel_too_heavy"),
        ({"weight_grams": 0}, "invalid_request"),
        ({"to": "Lisbon"}, "invalid_request"),
    ],
)
async def test_refuses_what_it_cannot_carry(carrier: httpx2.AsyncClient, changes: Any, code: str) -> None:
    assert code_of(await book(carrier, **changes)) == (422, code)
    assert (await book(carrier)).status_code == 201  # a better request may follow


async def test_cancel_before_pickup(carrier: httpx2.AsyncClient) -> None:
    await book(carrier)
    for _ in range(2):
        assert (await carrier.post(f"{ONE}/cancel")).json()["status"] == "cancelled"
    assert code_of(await carrier.post(f"{ONE}/pickup")) == (409, "reference_cancelled")
    assert code_of(await book(carrier)) == (409, "reference_cancelled")


async def test_a_booking_after_its_cancellation_is_refused(carrier: httpx2.AsyncClient) -> None:
    cancelled = (await carrier.post(f"{ONE}/cancel")).json()
    assert (cancelled["status"], cancelled["tracking_number"]) == ("cancelled", None)
    assert code_of(await book(carrier)) == (409, "reference_cancelled")


@pytest.mark.parametrize("progress", [None, "in_transit", "delivered", "lost", "returned"])
async def test_cancel_after_pickup_is_refused(carrier: httpx2.AsyncClient, progress: str | None) -> None:
    await book(carrier)
    for _ in range(2):
        assert (await carrier.post(f"{ONE}/pickup")).json()["status"] == "picked_up"
    if progress:
        assert (await advance(carrier, progress, all=True))["advanced"] == 1
    assert code_of(await carrier.post(f"{ONE}/cancel")) == (409, "already_dispatched")
    assert (await carrier.get(ONE)).json()["status"] == (progress or "picked_up")


async def test_only_picked_up_parcels_advance(carrier: httpx2.AsyncClient) -> None:
    await book(carrier)
    answer = await advance(carrier, "delivered", references=["order-1/shipment", "unheard-of"])
    assert answer == {
        "advanced": 0,
        "references": [],
        "skipped": {"order-1/shipment": "booked", "unheard-of": "unknown"},
    }


@pytest.mark.parametrize("found", ["in_transit", "delivered", "returned"])
@pytest.mark.parametrize("where", ["picked_up", "in_transit"])
async def test_s10_a_lost_parcel_may_turn_up(
    tmp_path: Path, connect: Connect, shop: Shop, until: Until, where: str, found: str
) -> None:
    app = create_app(Settings(data_dir=tmp_path, api_key="test-key", webhook=shop.target()))
    async with app.running(), connect(app) as carrier:
        await book(carrier)
        await carrier.post(f"{ONE}/pickup")
        way = ["lost", found] if where == "picked_up" else ["in_transit", "lost", found]
        if where == "in_transit":
            await advance(carrier, where, all=True)
        assert (await advance(carrier, "lost", all=True))["advanced"] == 1
        for to in ("lost", "delivered", "returned"):
            assert (await advance(carrier, to, all=True))["advanced"] == 0  # it is not under way
        assert (await advance(carrier, found, references=["order-1/shipment"]))["advanced"] == 1
        await until(lambda: drained(carrier))
        assert (await carrier.get(ONE)).json()["status"] == found
    assert [news["status"] for news in shop.accepted] == way


async def test_s10_a_parcel_that_came_back_or_arrived_is_at_its_end(carrier: httpx2.AsyncClient) -> None:
    for end in ("returned", "delivered"):
        await book(carrier, reference=end)
        await carrier.post(f"/v1/shipments/{end}/pickup")
        await advance(carrier, end, references=[end])
        for to in ("in_transit", "delivered", "lost", "returned"):
            answer = await advance(carrier, to, references=[end])
            assert answer == {"advanced": 0, "references": [], "skipped": {end: end}}


async def test_flaky_town_and_failing_cancels(carrier: httpx2.AsyncClient) -> None:
    statuses = [(await book(carrier, to={**ADDRESS, "city": "Flakytown"})).status_code for _ in range(4)]
    assert statuses == [503, 503, 503, 201]
    await carrier.post("/_control/faults", json={"fail_cancels": True})
    assert (await carrier.post(f"{ONE}/cancel")).status_code == 503
    await carrier.delete("/_control/faults")
    assert (await carrier.post(f"{ONE}/cancel")).status_code == 200


async def test_listing_pages_through_the_ledger(carrier: httpx2.AsyncClient) -> None:
    for number in range(3):
        await book(carrier, reference=f"order-{number}")
    first = (await carrier.get("/v1/shipments", params={"limit": 2})).json()
    second = (await carrier.get("/v1/shipments", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [row["reference"] for row in first["data"] + second["data"]] == ["order-0", "order-1", "order-2"]
    assert second["next_cursor"] is None


async def test_webhooks_are_signed_ordered_and_retried_until_accepted(
    tmp_path: Path, connect: Connect, shop: Shop, until: Until
) -> None:
    shop.refusals = {"in_transit": [503, 404, 302, 500]}  # the later news must wait for it
    app = create_app(Settings(data_dir=tmp_path, api_key="test-key", webhook=shop.target()))
    async with app.running(), connect(app) as carrier:
        await book(carrier)
        await carrier.post(f"{ONE}/pickup")
        await advance(carrier, "in_transit", all=True)
        await advance(carrier, "delivered", references=["order-1/shipment"])
        await until(lambda: drained(carrier))
    assert [news["status"] for news in shop.accepted] == ["in_transit", "delivered"]
    assert len(shop.requests) == 6
    assert len({news["id"] for news in shop.accepted}) == 2
    for header, body in shop.requests:
        at, digest = (part.split("=")[1] for part in header.split(","))
        expected = hmac.new(SECRET.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
        assert hmac.compare_digest(digest, expected)


async def drained(client: httpx2.AsyncClient) -> bool:
    return bool((await client.get("/_control/webhooks")).json()["pending"] == 0)


async def test_webhooks_wait_out_a_dead_shop_and_a_killed_carrier(
    start_process: Callable[..., Awaitable[Any]], shop: Shop, free_port: Callable[[], int], until: Until
) -> None:
    process = await start_process(
        "carrier", CARRIER_WEBHOOK_URL=f"http://127.0.0.1:{free_port()}/", CARRIER_WEBHOOK_SECRET=SECRET
    )
    await book(process.http)
    await process.http.post(f"{ONE}/pickup")
    await advance(process.http, "in_transit", all=True)
    await advance(process.http, "delivered", all=True)

    async def failed_once() -> bool:
        oldest = (await process.http.get("/_control/webhooks")).json()["oldest_pending"]
        return bool(oldest["attempts"] > 0)

    await until(failed_once)
    await process.kill()
    process.environment["CARRIER_WEBHOOK_URL"] = shop.url
    await process.start()
    await until(lambda: drained(process.http))
    assert [news["status"] for news in shop.accepted] == ["in_transit", "delivered"]
    assert (await process.http.get(ONE)).json()["status"] == "delivered"


async def test_delivers_by_itself_when_asked_to(tmp_path: Path, connect: Connect, shop: Shop, until: Until) -> None:
    settings = Settings(data_dir=tmp_path, api_key="test-key", webhook=shop.target(), deliver_after=timedelta(seconds=0.01))
    app = create_app(settings)
    async with app.running(), connect(app) as carrier:
        await book(carrier)
        await carrier.post(f"{ONE}/pickup")

        async def delivered() -> bool:
            return bool(shop.accepted)

        await until(delivered)
    assert [news["status"] for news in shop.accepted] == ["delivered"]

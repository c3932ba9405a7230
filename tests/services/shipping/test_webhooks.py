"""What the carrier tells: proven to be from it, applied once, never backwards."""

import hashlib
import hmac
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.dependencies import provide
from chassis.tokens import TokenVerifier
from chassis.webhooks import TOLERANCE_SECONDS, verify_signature
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.shipments import CreateShipment, ShipmentStatus
from services.shipping import commands, queries
from services.shipping.adapters import HttpCarrier
from services.shipping.app import build
from simulators._webhooks import signature
from tests.conftest import ADMIN, Databases, TokenMint, eventually
from tests.services.shipping.conftest import WEBHOOK_SECRET, CarrierSimulator, listening, running_carrier, settings
from tests.services.shipping.parcels import (
    as_sent,
    envelopes_of,
    events_of,
    history_of,
    news,
    order,
    sent_again,
    shipment_of,
    undo,
)

PATH = "/api/v1/carriers/webhook"
BODY = b'{"id": "evt_1"}'
T = 1_700_000_000


def sign(body: bytes, at: int, secret: str = WEBHOOK_SECRET) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("age", [0, TOLERANCE_SECONDS, -TOLERANCE_SECONDS])
def test_a_fresh_signature_is_taken(age: int) -> None:
    for header in (
        f"t={T},v1={sign(BODY, T)}",
        f"t={T}, v1={'0' * 64}, v1={sign(BODY, T)}",
        signature(BODY.decode(), WEBHOOK_SECRET, T),
    ):
        verify_signature(header, BODY, SecretStr(WEBHOOK_SECRET), T + age)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"t={T}",
        f"v1={sign(BODY, T)}",
        f"t={T},v1=",
        f"t={T},v1={sign(BODY, T, 'another')}",
        f"t={T},v1={sign(b'{}', T)}",
        f"t={T + 1},v1={sign(BODY, T)}",
        f"t={T},t={T + 1},v1={sign(BODY, T)}",
        f"t={T},v1=é{sign(BODY, T)}",
        f"t=٣,v1={sign(BODY, T)}",
        f"t=-1,v1={sign(BODY, -1)}",
        f"t={T - 301},v1={sign(BODY, T - 301)}",
        f"t={T + 301},v1={sign(BODY, T + 301)}",
    ],
)
def test_anything_else_is_not(header: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        verify_signature(header, BODY, SecretStr(WEBHOOK_SECRET), T)
    assert refused.value.code == ErrorCode.INVALID_SIGNATURE


@given(st.text(max_size=100), st.binary(max_size=50))
def test_no_header_gets_by_or_breaks_it(header: str, body: bytes) -> None:
    with pytest.raises(Refusal):
        verify_signature(header, body, SecretStr(WEBHOOK_SECRET), T)


async def test_only_the_carrier_may_tell(client: httpx2.AsyncClient) -> None:
    body = json.dumps(as_sent(news(order(), "delivered")))
    now = int(time.time())
    for headers in ({}, {"X-Carrier-Signature": signature(body, "another secret", now)}):
        response = await client.post(PATH, content=body, headers={"Content-Type": "application/json", **headers})
        assert (response.status_code, response.json()["code"]) == (401, "invalid_signature")
    for content, status in ((body, 204), ("{", 400), ('{"id": "evt_1"}', 422)):
        headers = {"Content-Type": "application/json", "X-Carrier-Signature": signature(content, WEBHOOK_SECRET, now)}
        assert (await client.post(PATH, content=content, headers=headers)).status_code == status


async def test_g11_signed_news_of_a_day_that_no_clock_shows_is_refused(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcel = order()
    service = mint.headers(Role.SERVICE)
    created = await client.post("/internal/v1/shipments/create", json=parcel.model_dump(mode="json"), headers=service)
    assert created.status_code == 200
    for occurred_at in ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"):
        told = json.dumps(as_sent(news(parcel, "in_transit")) | {"occurred_at": occurred_at})
        headers = {"Content-Type": "application/json", "X-Carrier-Signature": signature(told, WEBHOOK_SECRET, int(time.time()))}
        response = await client.post(PATH, content=told, headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "validation_failed"), occurred_at


async def dispatched(database: Database, carrier: HttpCarrier) -> CreateShipment:
    parcel = order()
    booked = await commands.create_shipment(database, carrier, parcel)
    await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
    return parcel


async def test_told_twice_it_is_applied_once(database: Database, carrier: HttpCarrier) -> None:
    parcel = await dispatched(database, carrier)
    moving, arrived = news(parcel, "in_transit"), news(parcel, "delivered")
    for each in (moving, moving, arrived, arrived, moving):
        await commands.apply_carrier_news(database, each)
    assert await events_of(database, parcel.order_id) == [
        "ShipmentCreated", "ShipmentDispatched", "TrackingUpdated IN_TRANSIT", "ShipmentDelivered",
    ]  # fmt: skip
    assert await history_of(database, parcel.order_id) == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "DELIVERED"]


async def test_late_news_moves_nothing_back(database: Database, carrier: HttpCarrier) -> None:
    parcel = await dispatched(database, carrier)
    earlier = utc_now() - timedelta(hours=1)
    for each in (news(parcel, "delivered"), news(parcel, "in_transit", occurred_at=earlier), news(parcel, "delivered")):
        await commands.apply_carrier_news(database, each)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.DELIVERED
    assert (await events_of(database, parcel.order_id))[2:] == ["ShipmentDelivered"]
    history = await history_of(database, parcel.order_id)
    assert history == ["IN_TRANSIT", "BOOKED", "DISPATCHED", "DELIVERED", "DELIVERED"]  # by their own time


@pytest.mark.parametrize("told", ["delivered", "lost", "returned"])
@pytest.mark.parametrize("prepare", ["booked", "pending", "being cancelled"])
async def test_what_the_carrier_moved_without_us_is_made_up_for(
    database: Database, carrier: HttpCarrier, simulator: CarrierSimulator, prepare: str, told: str
) -> None:
    parcel = order(city="Lostville" if prepare == "pending" else "Dayton")
    if prepare == "pending":
        with pytest.raises(Unavailable):
            await commands.create_shipment(database, carrier, parcel)
    else:
        await commands.create_shipment(database, carrier, parcel)
    await simulator.post(parcel.order_id, "pickup")
    if prepare == "being cancelled":
        await simulator.faults(fail_cancels=True)
        with pytest.raises(Unavailable):
            await commands.cancel_shipment(database, carrier, undo(parcel))
    await commands.apply_carrier_news(database, news(parcel, told, tracking_number="TRK77"))
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched", f"Shipment{told.capitalize()}"]
    assert ((await shipment_of(database, parcel.order_id)).tracking_number == "TRK77") == (prepare == "pending")
    with pytest.raises(Refusal) as refused:
        await commands.cancel_shipment(database, carrier, undo(parcel))
    assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    assert (await commands.create_shipment(database, carrier, parcel)).status == told.upper()


async def tell(database: Database, parcel: CreateShipment, *statuses: str) -> None:
    for status in statuses:
        await commands.apply_carrier_news(database, news(parcel, status))


@pytest.mark.parametrize("end", ["lost", "returned"])
@pytest.mark.parametrize("before", [(), ("in_transit",)])
async def test_s10_a_parcel_that_is_lost_or_comes_back_is_told_of(
    database: Database, carrier: HttpCarrier, end: str, before: tuple[str, ...]
) -> None:
    parcel = await dispatched(database, carrier)
    await tell(database, parcel, *before, end, end)
    shipment = await shipment_of(database, parcel.order_id)
    assert (shipment.status, shipment.parcel) == (end.upper(), 1)
    event = (await envelopes_of(database, parcel.order_id))[-1]
    assert event["type"] == f"Shipment{end.capitalize()}"
    data = event["data"]
    assert (data["order_id"], data["parcel"]) == (str(parcel.order_id), 1)
    assert (data["customer_id"], data["tracking_number"]) == (str(parcel.customer_id), shipment.tracking_number)
    assert data["occurred_at"]
    assert (await events_of(database, parcel.order_id)).count(event["type"]) == 1
    assert (await history_of(database, parcel.order_id))[:-1] == ["BOOKED", "DISPATCHED", *map(str.upper, before), end.upper()]
    with pytest.raises(Refusal) as refused:
        await commands.cancel_shipment(database, carrier, undo(parcel))
    assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    handed_over = await commands.dispatch_shipment(database, carrier, ADMIN, shipment.shipment_id)
    assert handed_over.status == end.upper()


@pytest.mark.parametrize(
    ("found", "event"),
    [("in_transit", "TrackingUpdated IN_TRANSIT"), ("delivered", "ShipmentDelivered"), ("returned", "ShipmentReturned")],
)
async def test_s10_a_lost_parcel_may_turn_up(database: Database, carrier: HttpCarrier, found: str, event: str) -> None:
    parcel = await dispatched(database, carrier)
    await tell(database, parcel, "lost", found)
    assert (await shipment_of(database, parcel.order_id)).status == found.upper()
    assert (await events_of(database, parcel.order_id))[2:] == ["ShipmentLost", event]


async def test_s10_a_lost_parcel_may_be_delivered_by_hand(database: Database, carrier: HttpCarrier) -> None:
    parcel = await dispatched(database, carrier)
    await tell(database, parcel, "lost")
    shipment = await shipment_of(database, parcel.order_id)
    await commands.deliver_shipment(database, ADMIN, shipment.shipment_id)
    assert (await events_of(database, parcel.order_id))[2:] == ["ShipmentLost", "ShipmentDelivered"]


@pytest.mark.parametrize("end", ["delivered", "returned"])
async def test_s10_what_arrived_or_came_back_is_at_its_end(database: Database, carrier: HttpCarrier, end: str) -> None:
    parcel = await dispatched(database, carrier)
    await tell(database, parcel, end)
    told = await events_of(database, parcel.order_id)
    await tell(database, parcel, "lost", "in_transit", "delivered", "returned")
    assert (await shipment_of(database, parcel.order_id)).status == end.upper()
    assert await events_of(database, parcel.order_id) == told


@pytest.mark.parametrize(("sooner", "later"), [("lost", "in_transit"), ("in_transit", "lost")])
async def test_s10_of_a_loss_and_a_find_the_later_one_counts_whichever_is_told_first(
    database: Database, carrier: HttpCarrier, sooner: str, later: str
) -> None:
    hour = timedelta(hours=1)
    for first, second in ((sooner, later), (later, sooner)):
        parcel = await dispatched(database, carrier)
        for status in (first, second):
            at = utc_now() + (hour if status == later else timedelta(0))
            await commands.apply_carrier_news(database, news(parcel, status, occurred_at=at))
        assert (await shipment_of(database, parcel.order_id)).status == later.upper()


async def test_s10_news_is_of_the_parcel_whose_reference_it_names(database: Database, carrier: HttpCarrier) -> None:
    first = await dispatched(database, carrier)
    second = sent_again(first)
    booked = await commands.create_shipment(database, carrier, second)
    await commands.dispatch_shipment(database, carrier, ADMIN, booked.shipment_id)
    await tell(database, first, "lost")
    await tell(database, second, "delivered")
    statuses = [(await shipment_of(database, first.order_id, parcel)).status for parcel in (1, 2)]
    assert statuses == [ShipmentStatus.LOST, ShipmentStatus.DELIVERED]
    told = [(each["type"], each["data"]["parcel"]) for each in await envelopes_of(database, first.order_id)]
    assert told[-2:] == [("ShipmentLost", 1), ("ShipmentDelivered", 2)]
    view = await queries.track(database, ADMIN, booked.tracking_number or "")
    assert (view.parcel, view.status) == (2, ShipmentStatus.DELIVERED)


async def test_news_of_a_cancelled_parcel_does_not_revive_it(database: Database, carrier: HttpCarrier) -> None:
    parcel = order()
    await commands.create_shipment(database, carrier, parcel)
    await commands.cancel_shipment(database, carrier, undo(parcel))
    await commands.apply_carrier_news(database, news(parcel, "in_transit"))
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.CANCELLED


@pytest.mark.parametrize("reference", ["not-ours", "6b1e5e1e-0000-4000-8000-000000000000"])
async def test_news_of_a_parcel_that_is_not_ours_is_ignored(database: Database, reference: str) -> None:
    await commands.apply_carrier_news(database, news(order(), "delivered", reference=reference))


async def test_from_the_carriers_hands_to_the_customers_eyes(databases: Databases, mint: TokenMint, tmp_path: Path) -> None:
    """The simulator signs and sends by itself, over sockets both ways."""
    parcel, returned = order(), order()
    url = await databases.new("shipping")
    shop: dict[str, Any] = {}

    async def gate(scope: Any, receive: Any, send: Any) -> None:
        await shop["api"](scope, receive, send)

    async with listening(gate) as shop_url, running_carrier(tmp_path, shop_url + PATH) as simulator:
        service = build(settings(url, simulator.url))
        provide(service.api, TokenVerifier, mint.verifier("shipping"))
        shop["api"] = service.api
        async with service.opened(), httpx2.AsyncClient(base_url=shop_url) as client:
            for each in (parcel, returned):
                body = each.model_dump(mode="json")
                booked = (
                    await client.post("/internal/v1/shipments/create", json=body, headers=mint.headers(Role.SERVICE))
                ).json()
                await client.post(f"/api/v1/shipments/{booked['shipment_id']}/dispatch", headers=mint.headers(Role.WAREHOUSE))
            await simulator.advance("in_transit", parcel.order_id, returned.order_id)
            await simulator.advance("delivered", parcel.order_id)
            await simulator.advance("returned", returned.order_id)

            async def way(of: CreateShipment) -> list[str]:
                headers = mint.headers(Role.CUSTOMER, subject=of.customer_id)
                [item] = (await client.get("/api/v1/shipments", headers=headers)).json()["items"]
                tracking = await client.get(f"/api/v1/tracking/{item['tracking_number']}", headers=headers)
                return [event["status"] for event in tracking.json()["events"]]

            async def arrived() -> bool:
                return (await way(parcel))[-1:] == ["DELIVERED"] and (await way(returned))[-1:] == ["RETURNED"]

            await eventually(arrived, what="the news")
            assert await way(parcel) == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "DELIVERED"]
            assert await way(returned) == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "RETURNED"]

"""What the carrier tells us: only genuine news, each piece once, in whatever order and whether or not we knew it already."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.dependencies import provide
from chassis.tokens import TokenVerifier
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.shipments import CreateShipment, ShipmentStatus
from services.shipping import queries
from services.shipping.app import build
from services.shipping.commands import parcels
from services.shipping.commands.news import apply_carrier_news, ask_about_silent
from services.shipping.sending import Sending
from tests.conftest import ADMIN, Databases, TokenMint, changing, eventually
from tests.services.shipping.conftest import OLD_SECRET, WEBHOOK_SECRET, CarrierSimulator, listening, running_carrier, settings
from tests.services.shipping.parcels import (
    envelopes_of,
    events_of,
    history_of,
    news,
    order,
    package_of,
    sent_again,
    shipment_of,
    signed,
    tell,
    undo,
)

PATH = "/api/v1/carriers/webhook"


async def test_only_the_carrier_may_tell(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcel = order()
    created = await client.post(
        "/internal/v1/shipments/create", json=parcel.model_dump(mode="json"), headers=mint.headers(Role.SERVICE)
    )
    told = {
        "id": "evt_1",
        "description": "tracker.updated",
        "result": {
            "tracking_code": created.json()["tracking_number"],
            "status": "in_transit",
            "updated_at": "2026-11-27T12:00:00Z",
        },
    }
    body = json.dumps(told)
    for headers in ({"Content-Type": "application/json"}, signed(body, "another secret"), signed(body + " ", WEBHOOK_SECRET)):
        response = await client.post(PATH, content=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, "invalid_signature")
    for content, status in ((body, 204), ("{", 400), ('{"id": "evt_1"}', 422), ('{"id": "evt_1", "description": "x.y"}', 204)):
        assert (await client.post(PATH, content=content, headers=signed(content, WEBHOOK_SECRET))).status_code == status
    assert (await client.post(PATH, content=body, headers=signed(body, OLD_SECRET))).status_code == 204
    shown = await client.get(f"/internal/v1/shipments/{parcel.order_id}", headers=mint.headers(Role.SERVICE))
    assert shown.json()["status"] == "IN_TRANSIT"


async def dispatched(database: Database, sending: Sending) -> CreateShipment:
    parcel = order()
    booked = await parcels.create_shipment(database, sending, parcel)
    await parcels.dispatch_shipment(database, ADMIN, booked.shipment_id)
    return parcel


async def test_told_twice_it_is_applied_once(database: Database, sending: Sending) -> None:
    parcel = await dispatched(database, sending)
    moving, arrived = await news(database, parcel, "in_transit"), await news(database, parcel, "delivered")
    for each in (moving, moving, arrived, arrived, moving):
        await apply_carrier_news(database, each)
    assert await events_of(database, parcel.order_id) == [
        "ShipmentCreated", "ShipmentDispatched", "TrackingUpdated IN_TRANSIT", "ShipmentDelivered",
    ]  # fmt: skip
    assert await history_of(database, parcel.order_id) == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "DELIVERED"]


async def test_late_news_moves_nothing_back(database: Database, sending: Sending) -> None:
    parcel = await dispatched(database, sending)
    earlier = utc_now() - timedelta(hours=1)
    await tell(database, parcel, "delivered")
    await tell(database, parcel, "in_transit", occurred_at=earlier)
    await tell(database, parcel, "delivered")
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.DELIVERED
    assert (await events_of(database, parcel.order_id))[2:] == ["ShipmentDelivered"]
    history = await history_of(database, parcel.order_id)
    assert history == ["IN_TRANSIT", "BOOKED", "DISPATCHED", "DELIVERED", "DELIVERED"]  # by their own time


WORDS = {"failure": "Lost", "return_to_sender": "Returned", "delivered": "Delivered"}


@pytest.mark.parametrize("told", WORDS)
@pytest.mark.parametrize("prepare", ["booked", "pending"])
async def test_what_the_carrier_moved_without_us_is_made_up_for(
    database: Database, sending: Sending, prepare: str, told: str
) -> None:
    parcel = order(city="Lostville" if prepare == "pending" else "Dayton")
    if prepare == "pending":
        with pytest.raises(Unavailable):
            await parcels.create_shipment(database, sending, parcel)
    else:
        await parcels.create_shipment(database, sending, parcel)
    await tell(database, parcel, told)
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched", f"Shipment{WORDS[told]}"]
    with pytest.raises(Refusal) as refused:
        await parcels.cancel_shipment(database, undo(parcel))
    assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    assert (await parcels.create_shipment(database, sending, parcel)).status == WORDS[told].upper()


@pytest.mark.parametrize("end", ["failure", "return_to_sender"])
@pytest.mark.parametrize("before", [(), ("in_transit",)])
async def test_s10_a_parcel_that_is_lost_or_comes_back_is_told_of(
    database: Database, sending: Sending, end: str, before: tuple[str, ...]
) -> None:
    parcel = await dispatched(database, sending)
    await tell(database, parcel, *before, end, end)
    shipment = await shipment_of(database, parcel.order_id)
    assert (shipment.status, shipment.parcel) == (WORDS[end].upper(), 1)
    envelope = (await envelopes_of(database, parcel.order_id))[-1]
    assert envelope["type"] == f"Shipment{WORDS[end]}"
    data = envelope["data"]
    assert (data["order_id"], data["parcel"]) == (str(parcel.order_id), 1)
    assert (data["customer_id"], data["tracking_number"]) == (str(parcel.customer_id), shipment.tracking_number)
    assert data["occurred_at"]
    assert (await events_of(database, parcel.order_id)).count(envelope["type"]) == 1
    assert (await history_of(database, parcel.order_id))[:-1] == [
        "BOOKED",
        "DISPATCHED",
        *map(str.upper, before),
        WORDS[end].upper(),
    ]
    with pytest.raises(Refusal) as refused:
        await parcels.cancel_shipment(database, undo(parcel))
    assert refused.value.code == ErrorCode.ALREADY_DISPATCHED
    handed_over = await parcels.dispatch_shipment(database, ADMIN, shipment.shipment_id)
    assert handed_over.status == WORDS[end].upper()


@pytest.mark.parametrize(
    ("found", "then"),
    [
        ("in_transit", "TrackingUpdated IN_TRANSIT"),
        ("out_for_delivery", "TrackingUpdated IN_TRANSIT"),
        ("delivered", "ShipmentDelivered"),
        ("return_to_sender", "ShipmentReturned"),
    ],
)
async def test_s10_a_lost_parcel_may_turn_up(database: Database, sending: Sending, found: str, then: str) -> None:
    parcel = await dispatched(database, sending)
    await tell(database, parcel, "failure", found)
    assert (await events_of(database, parcel.order_id))[2:] == ["ShipmentLost", then]


async def test_s10_a_lost_parcel_may_be_delivered_by_hand(database: Database, sending: Sending) -> None:
    parcel = await dispatched(database, sending)
    await tell(database, parcel, "failure")
    shipment = await shipment_of(database, parcel.order_id)
    await parcels.deliver_shipment(database, ADMIN, shipment.shipment_id)
    assert (await events_of(database, parcel.order_id))[2:] == ["ShipmentLost", "ShipmentDelivered"]


@pytest.mark.parametrize("end", ["delivered", "return_to_sender"])
async def test_s10_what_arrived_or_came_back_is_at_its_end(database: Database, sending: Sending, end: str) -> None:
    parcel = await dispatched(database, sending)
    await tell(database, parcel, end)
    told = await events_of(database, parcel.order_id)
    await tell(database, parcel, "failure", "in_transit", "delivered", "return_to_sender")
    assert (await shipment_of(database, parcel.order_id)).status == WORDS[end].upper()
    assert await events_of(database, parcel.order_id) == told


@pytest.mark.parametrize(("sooner", "later"), [("failure", "in_transit"), ("in_transit", "failure")])
async def test_s10_of_a_loss_and_a_find_the_later_one_counts_whichever_is_told_first(
    database: Database, sending: Sending, sooner: str, later: str
) -> None:
    hour = timedelta(hours=1)
    for first, second in ((sooner, later), (later, sooner)):
        parcel = await dispatched(database, sending)
        for status in (first, second):
            await tell(database, parcel, status, occurred_at=utc_now() + (hour if status == later else timedelta(0)))
        expected = ShipmentStatus.LOST if later == "failure" else ShipmentStatus.IN_TRANSIT
        assert (await shipment_of(database, parcel.order_id)).status == expected


@pytest.mark.parametrize("word", ["error", "a_new_word"])
async def test_words_that_mean_nothing_to_us_are_shown_and_move_nothing(database: Database, sending: Sending, word: str) -> None:
    parcel = await dispatched(database, sending)
    await tell(database, parcel, word)
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.DISPATCHED
    assert (await history_of(database, parcel.order_id))[-1] == word.upper()


async def test_that_it_waits_to_be_fetched_is_told(database: Database, sending: Sending) -> None:
    parcel = await dispatched(database, sending)
    await tell(database, parcel, "in_transit", "available_for_pickup")
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.IN_TRANSIT
    assert (await history_of(database, parcel.order_id))[2:] == ["IN_TRANSIT", "AVAILABLE_FOR_PICKUP"]


async def test_a_label_that_somebody_else_voids_counts_no_more(database: Database, sending: Sending) -> None:
    parcel = order()
    await parcels.create_shipment(database, sending, parcel)
    await tell(database, parcel, "cancelled")
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.CANCELLED


async def test_s10_news_is_of_the_parcel_whose_reference_it_names(database: Database, sending: Sending) -> None:
    first = await dispatched(database, sending)
    second = sent_again(first)
    booked = await parcels.create_shipment(database, sending, second)
    await parcels.dispatch_shipment(database, ADMIN, booked.shipment_id)
    await tell(database, first, "failure")
    await tell(database, second, "delivered")
    statuses = [(await shipment_of(database, first.order_id, parcel)).status for parcel in (1, 2)]
    assert statuses == [ShipmentStatus.LOST, ShipmentStatus.DELIVERED]
    told = [(each["type"], each["data"]["parcel"]) for each in await envelopes_of(database, first.order_id)]
    assert told[-2:] == [("ShipmentLost", 1), ("ShipmentDelivered", 2)]
    view = await queries.track(database, ADMIN, booked.tracking_number or "")
    assert (view.parcel, view.status) == (2, ShipmentStatus.DELIVERED)


async def test_a_cancelled_parcel_that_a_carrier_has_is_not_revived_and_told_of(database: Database, sending: Sending) -> None:
    parcel = order()
    await parcels.create_shipment(database, sending, parcel)
    await parcels.cancel_shipment(database, undo(parcel))
    assert not (await shipment_of(database, parcel.order_id)).strayed
    await tell(database, parcel, "in_transit")
    shipment = await shipment_of(database, parcel.order_id)
    assert (shipment.status, shipment.strayed) == (ShipmentStatus.CANCELLED, True)
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "TrackingUpdated CANCELLED"]


async def test_several_packages_have_arrived_when_all_have(database: Database, sending: Sending) -> None:
    parcel = order(70_000)
    booked = await parcels.create_shipment(database, sending, parcel)
    packages = [await package_of(database, booked.shipment_id, number) for number in (1, 2, 3)]

    async def told(number: int, status: str) -> ShipmentStatus:
        package = packages[number - 1]
        of = await news(database, parcel, status, provider_id=package.provider_id, tracking_number=package.tracking_number)
        await apply_carrier_news(database, of)
        return (await shipment_of(database, parcel.order_id)).status

    assert await told(1, "delivered") == ShipmentStatus.IN_TRANSIT
    assert await told(2, "failure") == ShipmentStatus.LOST
    assert await told(2, "delivered") == ShipmentStatus.IN_TRANSIT
    assert await told(3, "delivered") == ShipmentStatus.DELIVERED
    for package in packages:
        assert (await queries.track(database, ADMIN, package.tracking_number or "")).order_id == parcel.order_id


@pytest.mark.parametrize("provider_id", [None, "shp_not_ours"])
async def test_news_of_a_parcel_that_is_not_ours_is_ignored(
    database: Database, sending: Sending, provider_id: str | None
) -> None:
    parcel = await dispatched(database, sending)
    await tell(database, parcel, "delivered", provider_id=provider_id, tracking_number="NOT-OURS")
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.DISPATCHED


async def test_a_parcel_whose_news_was_lost_is_asked_about(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    parcel, still_here = await dispatched(database, sending), await dispatched(database, sending)
    await simulator.hand_over(parcel.order_id)
    await simulator.advance("delivered", parcel.order_id)
    for each in (parcel, still_here):
        found = await package_of(database, (await shipment_of(database, each.order_id)).shipment_id)
        async with changing(database) as work:
            package = await work.get(type(found), found.package_id)
            assert package is not None
            package.ask_at = utc_now() - timedelta(days=1000)  # before those of other tests
    await simulator.faults(down=True)
    assert await ask_about_silent(database, sending, limit=2) == 2
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.DISPATCHED
    await simulator.repair()
    for each in (parcel, still_here):
        found = await package_of(database, (await shipment_of(database, each.order_id)).shipment_id)
        assert found.ask_at is not None
        assert found.ask_at > utc_now()
        async with changing(database) as work:
            package = await work.get(type(found), found.package_id)
            assert package is not None
            package.ask_at = utc_now() - timedelta(days=1000)
    assert await ask_about_silent(database, sending, limit=2) == 2
    assert (await shipment_of(database, parcel.order_id)).status == ShipmentStatus.DELIVERED
    assert (await shipment_of(database, still_here.order_id)).status == ShipmentStatus.DISPATCHED
    assert await events_of(database, parcel.order_id) == ["ShipmentCreated", "ShipmentDispatched", "ShipmentDelivered"]


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
            await simulator.hand_over(parcel.order_id, returned.order_id)
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
            # That it was scanned once more is told, and moves nothing.
            assert await way(parcel) == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "IN_TRANSIT", "DELIVERED"]
            assert await way(returned) == ["BOOKED", "DISPATCHED", "IN_TRANSIT", "IN_TRANSIT", "RETURNED"]

"""Shipping's API: who may do what, what errors look like, pages, faults of the carrier."""

from typing import Any

import httpx2

from contracts.identity import Role
from contracts.shipments import CreateShipment
from tests.conftest import TokenMint
from tests.services.shipping.conftest import CarrierSimulator
from tests.services.shipping.parcels import ADDRESS, order, sent_again


async def create(client: httpx2.AsyncClient, mint: TokenMint, parcel: CreateShipment) -> httpx2.Response:
    return await client.post(
        "/internal/v1/shipments/create", json=parcel.model_dump(mode="json"), headers=mint.headers(Role.SERVICE)
    )


async def shipments(client: httpx2.AsyncClient, headers: dict[str, str], **params: str) -> list[dict[str, Any]]:
    """All pages."""
    items: list[dict[str, Any]] = []
    while True:
        page = (await client.get("/api/v1/shipments", params=params, headers=headers)).json()
        items += page["items"]
        if not page["next_cursor"]:
            return items
        params["cursor"] = page["next_cursor"]


async def test_a_stranger_gets_nowhere(client: httpx2.AsyncClient) -> None:
    shipment = "/api/v1/shipments/00000000-0000-0000-0000-000000000000"
    for path in ("/api/v1/shipments", shipment, "/api/v1/tracking/TRK1", shipment.replace("/api", "/internal")):
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    for path in (
        "/api/v1/shipping/rates",
        "/api/v1/shipping/address-checks",
        f"{shipment}/dispatch",
        f"{shipment}/deliver",
        "/internal/v1/shipments/create",
        "/internal/v1/shipments/cancel",
    ):
        response = await client.post(path, json={})
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


async def test_customers_see_their_own_and_change_nothing(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcel, other = order(), order()
    for each in (parcel, other):
        assert (await create(client, mint, each)).status_code == 200
    owner, stranger = (mint.headers(Role.CUSTOMER, subject=each.customer_id) for each in (parcel, other))
    [mine] = await shipments(client, owner)
    assert (mine["order_id"], mine["status"], mine["carrier_cost"]) == (str(parcel.order_id), "BOOKED", None)
    assert mine["ship_to"] == ADDRESS.model_dump()
    package = mine["packages"][0]
    assert (package["tracking_number"], package["rates"], package["cost"]) == (mine["tracking_number"], [], None)
    path = f"/api/v1/shipments/{mine['shipment_id']}"
    assert (await client.get(path, headers=owner)).json() == mine
    tracking = f"/api/v1/tracking/{mine['tracking_number']}"
    assert (await client.get(tracking, headers=owner)).json()["status"] == "BOOKED"
    for hidden in (path, tracking):
        response = await client.get(hidden, headers=stranger)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert await shipments(client, stranger, order_id=str(parcel.order_id)) == []
    for action in ("dispatch", "deliver"):
        for headers in (owner, mint.headers(Role.SUPPORT)):
            assert (await client.post(f"{path}/{action}", headers=headers)).json()["code"] == "forbidden"
    for role in (Role.CUSTOMER, Role.WAREHOUSE, Role.ADMIN):
        body = {"order_id": str(parcel.order_id), "reason": "no"}
        response = await client.post("/internal/v1/shipments/cancel", json=body, headers=mint.headers(role))
        assert response.json()["code"] == "forbidden"


async def test_staff_see_all_in_pages_by_order_and_by_status(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcels = [order() for _ in range(5)]
    for parcel in parcels:
        await create(client, mint, parcel)
    staff = mint.headers(Role.WAREHOUSE)
    found = await shipments(client, staff, limit="2")
    assert [item["order_id"] for item in found] == [str(parcel.order_id) for parcel in reversed(parcels)]
    package = found[0]["packages"][0]
    [chosen] = [rate for rate in package["rates"] if rate["chosen"]]
    assert found[0]["carrier_cost"] == package["cost"] == chosen["price"]
    assert (package["sold_by"], package["carrier"], package["refund"]) == ("easypost", chosen["carrier"], "none")
    dispatched = await client.post(f"/api/v1/shipments/{found[0]['shipment_id']}/dispatch", headers=staff)
    assert (dispatched.status_code, dispatched.json()["status"]) == (200, "DISPATCHED")
    assert [item["order_id"] for item in await shipments(client, staff, status="DISPATCHED")] == [found[0]["order_id"]]
    assert len(await shipments(client, staff, status="BOOKED", limit="3")) == 4
    assert len(await shipments(client, staff, order_id=found[2]["order_id"])) == 1
    for params, code in (({"cursor": "nonsense"}, "invalid_cursor"), ({"limit": "201"}, "validation_failed")):
        assert (await client.get("/api/v1/shipments", params=params, headers=staff)).json()["code"] == code


async def test_a_parcels_way_is_told(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcel = order()
    booked = (await create(client, mint, parcel)).json()
    staff = mint.headers(Role.WAREHOUSE)
    path = f"/api/v1/shipments/{booked['shipment_id']}"
    early = await client.post(f"{path}/deliver", headers=staff)
    assert (early.status_code, early.json()["code"]) == (409, "illegal_transition")
    for action in ("dispatch", "deliver"):
        assert (await client.post(f"{path}/{action}", headers=staff)).status_code == 200
    owner = mint.headers(Role.CUSTOMER, subject=parcel.customer_id)
    way = (await client.get(f"/api/v1/tracking/{booked['tracking_number']}", headers=owner)).json()
    assert [event["status"] for event in way["events"]] == ["BOOKED", "DISPATCHED", "DELIVERED"]
    assert (way["status"], way["order_id"]) == ("DELIVERED", str(parcel.order_id))
    service = mint.headers(Role.SERVICE)
    internal = await client.get(f"/internal/v1/shipments/{parcel.order_id}", headers=service)
    assert internal.json() == booked | {"status": "DELIVERED"}
    body = {"order_id": str(parcel.order_id), "reason": "cancelled"}
    late = await client.post("/internal/v1/shipments/cancel", json=body, headers=service)
    told = late.json()
    assert (late.status_code, told["code"], told["tracking_number"]) == (409, "already_dispatched", booked["tracking_number"])


async def test_who_has_an_old_version_of_a_parcel_changes_nothing(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    booked = (await create(client, mint, order())).json()
    staff = mint.headers(Role.WAREHOUSE)
    path = f"/api/v1/shipments/{booked['shipment_id']}"
    shown = await client.get(path, headers=staff)
    first = shown.headers["etag"]
    assert first == f'"{shown.json()["version"]}"'
    for action, status in (("dispatch", "DISPATCHED"), ("deliver", "DELIVERED")):
        before = await client.get(path, headers=staff)
        done = await client.post(f"{path}/{action}", headers=staff | {"If-Match": before.headers["etag"]})
        assert (done.status_code, done.json()["status"]) == (200, status)
        after = await client.get(path, headers=staff)
        assert done.headers["etag"] == after.headers["etag"] != before.headers["etag"]
        assert done.json() == after.json()
        for seen in (first, before.headers["etag"]):
            stale = await client.post(f"{path}/{action}", headers=staff | {"If-Match": seen})
            assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")
            assert (stale.json()["current"], stale.json()["current_version"]) == (after.json(), after.json()["version"])
        assert (await client.get(path, headers=staff)).headers["etag"] == after.headers["etag"]
    assert (await client.post(f"{path}/deliver", headers=staff)).headers["etag"] == after.headers["etag"]
    malformed = await client.post(f"{path}/deliver", headers=staff | {"If-Match": "*"})
    assert (malformed.status_code, malformed.json()["errors"][0]["field"]) == (422, "If-Match")


async def test_an_old_version_tells_nothing_of_a_parcel_elsewhere(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    booked = (await create(client, mint, order())).json()
    elsewhere = mint.headers(Role.WAREHOUSE, warehouses=["309"]) | {"If-Match": '"999"'}
    for action in ("dispatch", "deliver"):
        hidden = await client.post(f"/api/v1/shipments/{booked['shipment_id']}/{action}", headers=elsewhere)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "not_found")


async def test_s10_an_order_has_as_many_parcels_as_it_was_sent(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    first = order()
    booked = [(await create(client, mint, each)).json() for each in (first, sent_again(first))]
    owner = mint.headers(Role.CUSTOMER, subject=first.customer_id)
    shown = await shipments(client, owner, order_id=str(first.order_id))
    assert [(item["parcel"], item["tracking_number"]) for item in shown] == [
        (parcel, booked[parcel - 1]["tracking_number"]) for parcel in (2, 1)
    ]
    for parcel in (1, 2):
        path = f"/internal/v1/shipments/{first.order_id}"
        internal = await client.get(path, params={"parcel": parcel}, headers=mint.headers(Role.SERVICE))
        assert internal.json() == booked[parcel - 1]
        way = (await client.get(f"/api/v1/tracking/{booked[parcel - 1]['tracking_number']}", headers=owner)).json()
        assert (way["parcel"], way["order_id"]) == (parcel, str(first.order_id))


async def test_refusals_and_faults_are_told_apart(
    client: httpx2.AsyncClient, mint: TokenMint, simulator: CarrierSimulator
) -> None:
    for changes, weight, code in (({"city": "Nowhere"}, 1, "address_undeliverable"), ({}, 150_001, "parcel_too_heavy")):
        refused = await create(client, mint, order(weight, **changes))
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    await simulator.faults(down=True)
    parcel = order()
    fault = await create(client, mint, parcel)
    assert (fault.status_code, fault.json()["code"]) == (503, "service_unavailable")
    assert fault.headers["retry-after"]
    await simulator.repair()
    assert (await create(client, mint, parcel)).json()["status"] == "BOOKED"
    cancel = {"order_id": str(parcel.order_id), "reason": "cancelled"}
    service = mint.headers(Role.SERVICE)
    assert (await client.post("/internal/v1/shipments/cancel", json=cancel, headers=service)).json()["status"] == "CANCELLED"
    late = await create(client, mint, parcel)
    assert (late.status_code, late.json()["code"]) == (409, "shipment_cancelled")


async def test_a_tombstone_is_shown_to_staff_alone(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcel = order()
    body = {"order_id": str(parcel.order_id), "reason": "cancelled"}
    tombstone = (await client.post("/internal/v1/shipments/cancel", json=body, headers=mint.headers(Role.SERVICE))).json()
    path = f"/api/v1/shipments/{tombstone['shipment_id']}"
    assert (await client.get(path, headers=mint.headers(Role.SUPPORT))).json()["customer_id"] is None
    owner = mint.headers(Role.CUSTOMER, subject=parcel.customer_id)
    assert (await client.get(path, headers=owner)).status_code == 404
    assert await shipments(client, owner) == []


async def test_rates(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    async def quote(ship_to: dict[str, Any], weight_grams: object = 2500) -> Any:
        body = {"ship_to": ship_to, "weight_grams": weight_grams, "warehouse_id": "410"}
        return (await client.post("/api/v1/shipping/rates", json=body, headers=mint.headers(Role.CUSTOMER))).json()

    assert await quote(ADDRESS.model_dump()) == {
        "zone": "domestic",
        "rates": [
            {"service": "standard", "price": {"amount": "7.50", "currency": "USD"}, "days": 4},
            {"service": "express", "price": {"amount": "18.10", "currency": "USD"}, "days": 1},
        ],
    }
    assert (await quote({"country": "US", "postal_code": "99501"}))["zone"] == "remote"
    assert (await quote({"country": "KP", "postal_code": "1"}))["code"] == "address_undeliverable"
    assert (await quote({"country": "US", "postal_code": "45202"}, 150_001))["code"] == "parcel_too_heavy"
    for weight in (0, 10_000_001, "2", 1.5):
        assert (await quote({"country": "US", "postal_code": "45202"}, weight))["code"] == "validation_failed"
    wrong = await quote({"country": "US", "postal_code": "45202", "regoin": "OH"})
    assert [error["field"] for error in wrong["errors"]] == ["ship_to.regoin"]


async def test_address_checks(client: httpx2.AsyncClient, mint: TokenMint, simulator: CarrierSimulator) -> None:
    async def check(**address: object) -> Any:
        body = {"address": address}
        return await client.post("/api/v1/shipping/address-checks", json=body, headers=mint.headers(Role.CUSTOMER))

    good = await check(**ADDRESS.model_dump())
    assert good.json() == {
        "deliverable": True,
        "address": ADDRESS.model_dump()
        | {
            "name": "A. CUSTOMER",
            "line1": "12 MAIN STREET",
            "city": "CINCINNATI",
            "postal_code": good.json()["address"]["postal_code"],
        },
        "zone": "domestic",
        "errors": [],
        "checked_by": "carrier",
    }
    assert good.json()["address"]["postal_code"].startswith("45202-")
    nowhere = (await check(**ADDRESS.model_dump() | {"city": "Nowhere"})).json()
    assert (nowhere["deliverable"], nowhere["address"], nowhere["checked_by"]) == (False, None, "carrier")
    assert [(error["field"], error["code"]) for error in nowhere["errors"]] == [("line1", "address_not_found")]
    await simulator.faults(down=True)
    ours = (await check(**ADDRESS.model_dump())).json()
    assert (ours["deliverable"], ours["checked_by"], ours["address"]["line1"]) == (True, "shop", "12 Main Street")
    await simulator.repair()
    bad = await check(**ADDRESS.model_dump() | {"postal_code": "nonsense", "line1": None})
    assert (bad.status_code, bad.json()["deliverable"], bad.json()["address"]) == (200, False, None)
    wrong = {error["field"]: error["code"] for error in bad.json()["errors"]}
    assert wrong == {"postal_code": "address_invalid", "line1": "address_required"}
    assert "nonsense" not in bad.text
    assert (await check(line1="x" * 201)).json()["code"] == "validation_failed"


async def test_the_document_shows_examples(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation.get("summary") for operation in operations)
    assert document["components"]["schemas"]["RatesRequest"]["properties"]["weight_grams"]["examples"] == [2500]

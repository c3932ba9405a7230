"""What a warehouse needs: labels, the list of what is to be handed over, pick lists and packing slips."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from pydantic import SecretStr

from chassis.clients import HttpSession, Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from contracts.identity import Role
from contracts.money import Money
from contracts.shipments import CreateReturnLabel, CreateShipment, ShipmentLine
from services.shipping import documents
from services.shipping.adapters import EasyPost, OwnFleet
from services.shipping.commands import parcels
from services.shipping.commands.labels import fetch_labels, label_of
from services.shipping.ports import Consignment, Label, Picture, Place, Size
from services.shipping.sending import SAMPLE, Sending
from tests.conftest import ADMIN, TokenMint
from tests.services.shipping.conftest import API_KEY, CarrierSimulator
from tests.services.shipping.parcels import ADDRESS, label, lines, order, package_of, undo


async def create(client: httpx2.AsyncClient, mint: TokenMint, command: CreateShipment | CreateReturnLabel) -> dict[str, Any]:
    path = "shipments/create" if isinstance(command, CreateShipment) else "shipping/create-return-label"
    body, service = command.model_dump(mode="json"), mint.headers(Role.SERVICE)
    response = await client.post(f"/internal/v1/{path}", json=body, headers=service)
    assert response.status_code == 200, response.text
    booked: dict[str, Any] = response.json()
    return booked


class Away(EasyPost):
    """Where labels are kept, nobody answers."""

    async def picture(self, consignment: Consignment, label: Label) -> Picture:
        raise Unavailable("nobody answers")


async def test_labels_are_fetched_once_and_kept(database: Database, sending: Sending, simulator: CarrierSimulator) -> None:
    parcel = order()
    booked = await parcels.create_shipment(database, sending, parcel)
    async with HttpSession() as http:
        away = Sending([Away(http, simulator.url, SecretStr(API_KEY))])
        while await fetch_labels(database, away):
            pass
        with pytest.raises(Unavailable):
            await label_of(database, away, ADMIN, booked.shipment_id, 1)
    package = await package_of(database, booked.shipment_id)
    assert package.label_at is not None
    assert package.label_at > utc_now()
    picture = await label_of(database, sending, ADMIN, booked.shipment_id, 1)
    assert (picture.content_type, picture.content[:4]) == ("application/pdf", b"%PDF")
    assert (await package_of(database, booked.shipment_id)).label_at is None
    assert await label_of(database, away, ADMIN, booked.shipment_id, 1) == picture


async def test_the_job_fetches_what_was_bought(database: Database, sending: Sending) -> None:
    booked = await parcels.create_shipment(database, sending, order())
    while await fetch_labels(database, sending):
        pass
    assert (await package_of(database, booked.shipment_id)).label_at is None


class Mad(EasyPost):
    """What it answers for one parcel, nobody has thought of."""

    mad_about = ""

    async def picture(self, consignment: Consignment, label: Label) -> Picture:
        if consignment.reference == self.mad_about:
            raise RuntimeError("what is this?")
        return await super().picture(consignment, label)


async def test_labels_that_were_fetched_are_kept_whatever_becomes_of_the_next(
    database: Database, sending: Sending, simulator: CarrierSimulator
) -> None:
    booked = [await parcels.create_shipment(database, sending, order()) for _ in range(3)]
    packages = [await package_of(database, each.shipment_id) for each in booked]
    async with HttpSession() as http:
        mad = Mad(http, simulator.url, SecretStr(API_KEY))
        mad.mad_about = packages[1].reference
        with pytest.raises(RuntimeError):
            await fetch_labels(database, Sending([mad]))
    assert (await package_of(database, booked[0].shipment_id)).label_at is None


async def test_our_own_label_is_drawn_by_us(database: Database) -> None:
    vans = Sending([OwnFleet()])
    booked = await parcels.create_shipment(database, vans, order())
    picture = await label_of(database, vans, ADMIN, booked.shipment_id, 1)
    assert picture.content.startswith(b"%PDF")


async def test_who_has_a_label(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    parcel = order()
    back = label(parcel)
    booked = await create(client, mint, parcel)
    await create(client, mint, back)
    owner, warehouse = mint.headers(Role.CUSTOMER, subject=parcel.customer_id), mint.headers(Role.WAREHOUSE)
    path = f"/api/v1/shipments/{booked['shipment_id']}/label"
    printed = await client.get(path, headers=warehouse)
    assert (printed.status_code, printed.headers["content-type"]) == (200, "application/pdf")
    refused = await client.get(path, headers=owner)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    for number, code in ((2, "not_found"), (21, "validation_failed")):
        assert (await client.get(path, params={"package": number}, headers=warehouse)).json()["code"] == code
    params = {"direction": "inbound", "order_id": str(parcel.order_id)}
    [mine] = (await client.get("/api/v1/shipments", params=params, headers=owner)).json()["items"]
    own = await client.get(f"/api/v1/shipments/{mine['shipment_id']}/label", headers=owner)
    assert (own.status_code, own.content[:4]) == (200, b"%PDF")
    stranger = mint.headers(Role.CUSTOMER)
    assert (await client.get(f"/api/v1/shipments/{mine['shipment_id']}/label", headers=stranger)).status_code == 404
    await client.post(
        "/internal/v1/shipments/cancel", json=undo(parcel).model_dump(mode="json"), headers=mint.headers(Role.SERVICE)
    )
    called_off = await client.get(path, headers=warehouse)
    assert (called_off.status_code, called_off.json()["code"]) == (409, "shipment_cancelled")


async def test_what_is_to_be_handed_over_the_oldest_promise_first(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    usual = [lines(order(), ("milk", 2, 1_000), ("cheese", 1, 500)) for _ in range(3)]
    fast = lines(order(), ("apple", 3, 800)).model_copy(update={"service": "express"})
    elsewhere = order().model_copy(update={"warehouse_id": "411"})
    for command in (*usual, fast, elsewhere):
        await create(client, mint, command)
    await create(client, mint, label(usual[0]))
    staff = mint.headers(Role.WAREHOUSE, warehouses=["410"])
    found: list[dict[str, Any]] = []
    params = {"warehouse_id": "410", "limit": "3"}
    while True:
        page = (await client.get("/api/v1/shipping/dispatch-list", params=params, headers=staff)).json()
        found += page["items"]
        if not page["next_cursor"]:
            break
        params["cursor"] = page["next_cursor"]
    assert [item["order_id"] for item in found] == [str(command.order_id) for command in (fast, *usual)]
    assert [(line["product_id"], line["quantity"]) for line in found[1]["lines"]] == [("milk", 2), ("cheese", 1)]
    assert all(item["tracking_numbers"] and item["carriers"] for item in found)
    handed = await client.post(f"/api/v1/shipments/{found[0]['shipment_id']}/dispatch", headers=staff)
    assert handed.status_code == 200
    left = (await client.get("/api/v1/shipping/dispatch-list", params={"warehouse_id": "410"}, headers=staff)).json()["items"]
    assert len(left) == 3
    hidden = (await client.get("/api/v1/shipping/dispatch-list", params={"warehouse_id": "411"}, headers=staff)).json()["items"]
    assert hidden == []
    picked = await client.get("/api/v1/shipping/pick-list.pdf", params={"warehouse_id": "410"}, headers=staff)
    assert (picked.status_code, picked.headers["content-type"], picked.content[:4]) == (200, "application/pdf", b"%PDF")
    slip = await client.get(f"/api/v1/shipments/{found[1]['shipment_id']}/packing-slip.pdf", headers=staff)
    assert (slip.status_code, slip.headers["content-type"], slip.content[:4]) == (200, "application/pdf", b"%PDF")
    customer = mint.headers(Role.CUSTOMER, subject=usual[0].customer_id)
    for path in ("shipping/dispatch-list?warehouse_id=410", "shipping/pick-list.pdf?warehouse_id=410"):
        assert (await client.get(f"/api/v1/{path}", headers=customer)).json()["code"] == "forbidden"


# ── The papers ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that is written on a paper."""
    words: list[str] = []

    def noted(text: str, written: Callable[[str], str] = documents.written) -> str:
        words.append(text)
        return written(text)

    monkeypatch.setattr(documents, "written", noted)
    return words


def line(product: str, name: str, quantity: int) -> ShipmentLine:
    return ShipmentLine(product_id=product, name=name, quantity=quantity, unit_price=Money(amount=Decimal(2)))


def test_letters_that_the_font_has_stay_and_others_are_written_in_latin_ones() -> None:
    for name in ("Ångström Łukasz", "Ελένη", "Улица Ленина", "Nguyễn Thị"):
        assert documents.written(name) == name
    assert documents.written("東京") == "DongJing*"
    assert documents.written("Käse 乳酪") == "Käse RuLao*"


def test_a_pick_list_sums_products_in_the_order_of_their_numbers(said: list[str]) -> None:
    pdf = documents.pick_list(
        "410", date(2026, 11, 27), 2, [line("b", "Bread", 1), line("a", "Ale", 2), line("b", "Bread", 3)], is_all=False
    )
    assert pdf.startswith(b"%PDF")
    assert said[-8:] == ["a", "Ale", "2", "", "b", "Bread", "4", ""]
    assert "2026-11-27: 2 parcels, 6 units" in said
    assert any("There are more" in each for each in said)


def test_a_packing_slip_names_no_price(said: list[str]) -> None:
    slip = documents.Slip(uuid4(), 1, 2, 1, ["9400"], ADDRESS, [line("a", "Ale", 2)])
    assert documents.packing_slip(slip).startswith(b"%PDF")
    assert said[-3:] == ["a", "Ale", "2"]
    assert {"Parcel 1 of 2, in 1 package", "Tracking number 9400", "12 Main Street", "Cincinnati OH 45202"} <= set(said)
    assert not any("USD" in each for each in said)


def test_our_own_label_says_from_where_to_where(said: list[str]) -> None:
    consignment = Consignment("ref", SAMPLE, Place(ADDRESS), Size(250, 180, 120), 2_620, "standard")
    pdf = documents.own_label(consignment, Label("OWN12345678901234", "Own fleet", "standard", Money(amount=Decimal(3))))
    assert pdf.count(b"/Type /Page\n") == 1
    assert {"417 Montgomery Street", "12 Main Street", "2.62 kg", "OWN12345678901234"} <= set(said)

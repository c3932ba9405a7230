"""Amendments: what an order is and costs with one, its record, and the endpoints with the real saga."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select
from temporalio.client import Client
from typer.testing import CliRunner

from chassis.database import Database
from cli.main import app
from contracts.catalog import CatalogProduct
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.money import Money
from contracts.orders import (
    AdvanceOrder,
    AmendedLine,
    AmendmentOutcome,
    AmendmentTerms,
    OrderLine,
    OrderStatus,
    PlaceOrder,
    Speed,
)
from contracts.parcels import OrderParcel, ParcelLine, ParcelStatus
from contracts.pricing import DiscountKind
from contracts.shipments import ShipmentStatus
from embedded.temporal import TemporalServer
from services.order import commands
from services.order.app import build
from services.order.commands.amendment_records import amendments_of
from services.order.model import DiscountTerms, DiscountUses, Order, OrderAmendment, Redemption
from services.order.model.amending import Amended, FrozenReduction, amended, owed_for, require_amendable, speed_of
from services.order.model.placing import Terms, parcel_of
from services.order.model.pricing import Reduction, price
from services.order.ports import TaxRate
from testing.model.world import refused, unavailable
from tests.conftest import TokenMint, running_api
from tests.services.order.conftest import MASTER_KEY, SHIP_TO, TARIFF, Catalogue, settings_for
from tests.services.order.test_api import body
from tests.services.order.test_record import events
from tests.services.order.test_with_saga import Customer, RecordedWorld, worker_in

VAT = TaxRate("VAT 19 %", Decimal("0.19"))
TERMS = Terms(
    review_threshold=Money(amount=Decimal(500)), review_seconds=1, decision_seconds=1, dispatch_seconds=1, silence_seconds=1
)


def usd(minor: int) -> Money:
    return Money.from_minor(minor, "USD")


def product(name: str, minor: int = 500) -> CatalogProduct:
    return CatalogProduct(product_id=name, name=name.title(), price=usd(minor), weight_grams=500)


def ordered(*units: int, parcels: tuple[OrderParcel, ...] = (), reductions: tuple[Reduction, ...] = ()) -> Order:
    """A confirmed order with a line for each, of p0, p1, …, at 1.01, 2.02, …"""
    lines = [
        OrderLine(product_id=f"p{n}", name=f"P{n}", quantity=quantity, unit_price=usd(101 * (n + 1)), weight_grams=500)
        for n, quantity in enumerate(units)
    ]
    priced = price(lines, parcels=[parcel_of(lines, TARIFF, Speed.STANDARD)], taxes=[VAT], reductions=reductions)
    order = Order.placed(
        PlaceOrder(
            order_id=uuid4(),
            customer_id=uuid4(),
            lines=priced.lines,
            total=priced.charges.total,
            charges=priced.charges,
            ship_to=SHIP_TO,
            payment_token="pm_card_visa",
            placed_at="2026-11-27T12:00:00Z",
        )
    )
    path = (OrderStatus.RESERVED, OrderStatus.PAID, OrderStatus.CONFIRMED)
    order.advance(AdvanceOrder(order_id=order.order_id, after=1, path=path, parcels=parcels, warehouse_id="1"))
    return order


def change(order: Order, *lines: AmendedLine, earlier: tuple[OrderAmendment, ...] = (), **more: Any) -> Amended:
    terms = AmendmentTerms(lines=list(lines), **{name: more.pop(name) for name in ("ship_to", "shipping") if name in more})
    products = [product(line.product_id) for line in lines if line.product_id and line.product_id != "gone"]
    return amended(order, terms, products, tariff=TARIFF, taxes=[VAT], terms=TERMS, earlier=earlier, **more)


def units(line_id: int, quantity: int) -> AmendedLine:
    return AmendedLine(line_id=line_id, quantity=quantity)


def new(product_id: str, quantity: int = 1) -> AmendedLine:
    return AmendedLine(product_id=product_id, quantity=quantity)


def codes_of_errors(refusal: Refusal) -> list[tuple[str, str]]:
    return [(error["field"], error["code"]) for error in refusal.extra["errors"]]


@given(st.data())
def test_an_amended_order_adds_up_and_keeps_what_it_does_not_change(data: st.DataObject) -> None:
    order = ordered(*data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5), label="units"))
    ids = [line.line_id or 0 for line in order.order_lines]
    changes = [
        units(line_id, data.draw(st.integers(0, 12))) for line_id in data.draw(st.lists(st.sampled_from(ids), unique=True))
    ]
    added = [new(name, data.draw(st.integers(1, 5))) for name in data.draw(st.sets(st.sampled_from(["a", "b", "c"])))]
    if not changes and not added:
        return
    before = {line.line_id: line for line in order.order_lines}
    wanted = {line_id: line.quantity for line_id, line in before.items()} | {it.line_id: it.quantity for it in changes}
    if not added and (not any(wanted.values()) or wanted == {line_id: line.quantity for line_id, line in before.items()}):
        with pytest.raises(Refusal) as refusal:
            change(order, *changes)
        assert codes_of_errors(refusal.value)[0][1] == ("nothing_different" if any(wanted.values()) else "nothing_left")
        return
    found = change(order, *changes, *added)
    charges, lines = found.priced.charges, found.priced.lines
    assert sum(line.amounts.total for line in lines if line.amounts) == charges.total.minor
    assert found.owed_before == order.total
    assert found.difference == charges.total - order.total
    for line in lines:
        known = before.get(line.line_id)
        assert (line.unit_price, line.quantity) == (
            (known.unit_price, wanted[line.line_id])
            if known
            else (usd(500), next(it.quantity for it in added if it.product_id == line.product_id))
        )
    assert {line.line_id for line in lines if line.line_id not in before} == set(range(len(ids) + 1, len(ids) + 1 + len(added)))
    assert len(lines) == len([quantity for quantity in wanted.values() if quantity]) + len(added)
    for line in lines:
        shares = [line.share_of(first, 1).total for first in range(line.quantity)]
        assert sum(shares) == (line.amounts.total if line.amounts else 0)


def test_another_address_and_speed_cost_what_they_do_there() -> None:
    order = ordered(2)
    faster = change(order, shipping=Speed.EXPRESS)
    assert faster.difference == usd(1071)  # 14.90 instead of 5.90, and 19 % tax
    assert faster.priced.charges.parcels[0].service == "express"
    assert change(order, ship_to=SHIP_TO.model_copy(update={"line1": "2 Side St"})).difference == usd(0)


def test_what_cannot_be_so_is_named() -> None:
    order = ordered(2, 1)
    for lines, errors in [
        ((units(1, 0), units(2, 0)), [("lines", "nothing_left")]),
        ((units(1, 2),), [("lines", "nothing_different")]),
        ((units(7, 1), new("p0")), [("lines.0.line_id", "no_such_line"), ("lines.1.product_id", "has_a_line")]),
    ]:
        with pytest.raises(Refusal) as refusal:
            change(order, *lines)
        assert codes_of_errors(refusal.value) == errors
    with pytest.raises(Refusal) as refusal:
        change(order, new("gone"))
    assert refusal.value.code == ErrorCode.PRODUCT_UNKNOWN


def test_units_that_were_cancelled_are_no_part_of_it() -> None:
    kept = OrderParcel(parcel=1, status=ParcelStatus.BOOKED, lines=(ParcelLine(line_id=1, product_id="p0", quantity=2),))
    gone = OrderParcel(
        parcel=2,
        status=ParcelStatus.CANCELLED,
        lines=(ParcelLine(line_id=1, product_id="p0", quantity=1, first=2), ParcelLine(line_id=2, product_id="p1", quantity=1)),
    )
    order = ordered(3, 1, parcels=(kept, gone))
    assert owed_for(order).minor < order.total.minor
    found = change(order, units(1, 3))
    assert [(line.line_id, line.quantity) for line in found.priced.lines] == [(1, 3)]
    assert found.owed_before == owed_for(order)


@pytest.mark.parametrize("units_of_it", [4, 1])
def test_codes_hold_as_they_were_while_their_minimum_is_reached(units_of_it: int) -> None:
    ten = Reduction("TEN", DiscountKind.PERCENT, percent=Decimal(10))
    order = ordered(3, reductions=(ten,))
    found = change(order, units(1, units_of_it), reductions=[FrozenReduction(ten, minimum_minor=300)])
    assert found.priced.charges.discount.minor == (40 if units_of_it == 4 else 0)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (ParcelStatus.SHIPPED, ErrorCode.ALREADY_DISPATCHED),
        (ParcelStatus.RESENT, ErrorCode.ALREADY_DISPATCHED),
        (ParcelStatus.CANCELLED, None),
    ],
)
def test_an_order_of_which_something_has_left_is_not_amended(status: ParcelStatus, code: ErrorCode | None) -> None:
    line = ParcelLine(line_id=1, product_id="p0", quantity=1)
    order = ordered(2, parcels=(OrderParcel(parcel=1, status=status, lines=(line,)),))
    if code:
        with pytest.raises(Refusal) as refusal:
            require_amendable(order)
        assert refusal.value.code == code
    else:
        require_amendable(order)
    assert speed_of(order) == Speed.STANDARD


# ── With the saga and the record ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest_asyncio.fixture
async def world(database: Database, temporal_client: Client) -> AsyncIterator[RecordedWorld]:
    world = RecordedWorld(database)
    async with worker_in(world, temporal_client):
        yield world


@pytest_asyncio.fixture
async def api(
    database: Database, catalogue: Catalogue, mint: TokenMint, temporal_server: TemporalServer, world: RecordedWorld
) -> AsyncIterator[httpx2.AsyncClient]:
    world.inventory.receive("410", bread=50)
    async with running_api(build(settings_for(database, catalogue, temporal_server.address, wait_s=25)), mint) as client:
        yield client


async def amend(
    api: httpx2.AsyncClient, headers: dict[str, str], url: str, body: dict[str, Any], key: str = "a1", **more: str
) -> httpx2.Response:
    return await api.post(f"{url}/amendments", json=body, headers=headers | {"Idempotency-Key": key, **more})


async def placed(api: httpx2.AsyncClient, mint: TokenMint) -> tuple[Customer, str]:
    ann = Customer(api, mint)
    response = await ann.place()
    assert response.json()["status"] == "CONFIRMED"
    return ann, response.headers["location"]


MORE = {"lines": [{"line_id": 1, "quantity": 3}, {"product_id": "bread", "quantity": 1}]}


async def test_an_order_is_previewed_amended_and_read(
    api: httpx2.AsyncClient, mint: TokenMint, database: Database, world: RecordedWorld
) -> None:
    ann, url = await placed(api, mint)
    before = (await ann.see(url)).json()
    preview = (await api.post(f"{url}/amendments/preview", json=MORE, headers=ann.headers)).json()
    assert (preview["needs_staff"], preview["to_give_back"]["amount"]) == (False, "0.00")
    assert (await ann.see(url)).json() == before
    stale = await amend(api, ann.headers, url, MORE, **{"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["current"]["total"]) == (412, before["total"])
    for replayed in (False, True):
        answer = await amend(api, ann.headers, url, MORE)
        assert (answer.status_code, "idempotent-replayed" in answer.headers) == (201, replayed)
        told = answer.json()
        assert (told["status"], told["charged"], told["total"]) == ("APPLIED", preview["to_charge"], preview["total"])
        assert "by" not in told
    order = (await ann.see(url)).json()
    assert order["total"] == preview["total"]
    assert order["charges"] == preview["charges"]
    assert [(line["line_id"], line["product_id"], line["quantity"]) for line in order["lines"]] == [
        (1, "milk", 3),
        (2, "bread", 1),
    ]
    assert [(parcel["parcel"], parcel["status"]) for parcel in order["parcels"]] == [(1, "BOOKED"), (2, "BOOKED")]
    [event] = [event for event in await events(database) if event["type"] == "OrderAmended"]
    assert event["data"]["total_before"] == before["total"]
    other = await amend(api, ann.headers, url, {"shipping": "express"})
    assert other.json()["code"] == "idempotency_key_reused"
    less = await amend(api, ann.headers, url, {"lines": [{"line_id": 2, "quantity": 0}]}, "a2")
    again = await amend(api, ann.headers, url, {"lines": [{"product_id": "bread", "quantity": 2}]}, "a3")
    assert less.json()["given_back"]["amount"] > "0"
    assert [line["line_id"] for line in again.json()["lines"]] == [1, 3]  # an id is never given twice
    staff = mint.headers(Role.SUPPORT)
    page = (await api.get(f"{url}/amendments", params={"limit": 2}, headers=staff)).json()
    assert [(item["number"], item["status"], item["by"]) for item in page["items"]] == [
        (3, "APPLIED", "customer"),
        (2, "APPLIED", "customer"),
    ]
    rest = (await api.get(f"{url}/amendments", params={"cursor": page["next_cursor"]}, headers=staff)).json()
    assert [item["number"] for item in rest["items"]] == [1]
    assert (await ann.see(url)).json()["refunded"]["amount"] == "0.00"
    reply = (await ann.cancel(url)).json()
    assert reply["refunded"] == again.json()["total"]
    stranger = mint.headers(Role.CUSTOMER)
    assert (await amend(api, stranger, url, MORE, "s1")).status_code == 404
    assert (await api.get(f"{url}/amendments", headers=stranger)).status_code == 404
    assert (await amend(api, ann.headers, url, MORE, "a4")).json()["code"] == "not_amendable"


async def test_a_refused_amendment_leaves_the_order_as_it_was(
    api: httpx2.AsyncClient, mint: TokenMint, world: RecordedWorld
) -> None:
    ann, url = await placed(api, mint)
    before = (await ann.see(url)).json()
    for _ in range(2):
        short = await amend(api, ann.headers, url, {"lines": [{"product_id": "bread", "quantity": 51}]})
        assert (short.status_code, short.json()["code"]) == (409, "out_of_stock")
    world.before["ProcessPayment"] = [refused(ErrorCode.PAYMENT_DECLINED)]
    declined = await amend(api, ann.headers, url, MORE, "a2")
    assert (declined.status_code, declined.json()["code"]) == (422, "payment_declined")
    ours = {name: value for name, value in (await ann.see(url)).json().items() if name not in ("version", "updated_at")}
    assert ours == {name: value for name, value in before.items() if name not in ("version", "updated_at")}
    items = (await ann.see(f"{url}/amendments")).json()["items"]
    assert [(item["status"], item["code"]) for item in items] == [("REFUSED", "payment_declined"), ("REFUSED", "out_of_stock")]
    order_id = url.rpartition("/")[2]
    world.shipping.move(world_order(world), 1, ShipmentStatus.DISPATCHED)
    late = await amend(api, ann.headers, url, {"shipping": "express"}, "a3")
    assert (late.json()["code"], order_id in late.text) == ("already_dispatched", True)


def world_order(world: RecordedWorld) -> UUID:
    [(order_id, _)] = world.shipping.parcels
    return order_id


async def test_a_dear_one_is_for_staff(api: httpx2.AsyncClient, mint: TokenMint, catalogue: Catalogue) -> None:
    ann, url = await placed(api, mint)
    catalogue.put("bread", "600.00")
    preview = (await api.post(f"{url}/amendments/preview", json=MORE, headers=ann.headers)).json()
    assert preview["needs_staff"]
    asked = await amend(api, ann.headers, url, MORE)
    assert (asked.status_code, asked.json()["code"]) == (409, "amendment_needs_staff")
    made = await amend(api, mint.headers(Role.SUPPORT), url, MORE)
    assert (made.status_code, made.json()["by_staff"]) == (201, True)


async def test_a_code_is_used_on_as_it_was_and_given_back_when_it_takes_nothing_off_any_more(
    api: httpx2.AsyncClient, mint: TokenMint, database: Database
) -> None:
    terms = DiscountTerms(kind=DiscountKind.PERCENT, percent=Decimal(10), minimum=Money(amount=Decimal(3)))
    await commands.put_discount(database, "TEN", terms)
    ann = Customer(api, mint)
    headers = ann.headers | {"Idempotency-Key": "k1"}
    response = await api.post("/api/v1/orders", json=body(milk=2) | {"discount_codes": ["TEN"]}, headers=headers)
    url = response.headers["location"]
    await commands.put_discount(database, "TEN", DiscountTerms(kind=DiscountKind.PERCENT, percent=Decimal(50), enabled=False))
    more = (await amend(api, ann.headers, url, {"lines": [{"line_id": 1, "quantity": 4}]})).json()
    assert more["charges"]["discount"]["amount"] == "0.60"

    async def used() -> tuple[int, int, bool]:
        async with database.reading() as session:
            redemption = (await session.exec(select(Redemption))).one()
            uses = (await session.exec(select(DiscountUses))).one()
        return uses.times_used, redemption.amount_minor, redemption.given_back_at is None

    assert await used() == (1, 60, True)
    less = (await amend(api, ann.headers, url, {"lines": [{"line_id": 1, "quantity": 1}]}, "a2")).json()
    assert less["charges"]["discounts"] == []
    assert (await used())[0::2] == (0, False)
    await ann.cancel(url)
    assert (await used())[0::2] == (0, False)


async def test_who_asks_while_its_saga_cannot_be_told_may_ask_again(
    api: httpx2.AsyncClient, mint: TokenMint, database: Database, world: RecordedWorld
) -> None:
    ann, url = await placed(api, mint)
    world.before["AdvanceOrder"] = [unavailable] * 2
    answer = await amend(api, ann.headers, url, MORE)
    assert answer.json()["status"] == "APPLIED"
    [row] = await amendments_of(database, world_order_of(url))
    told = AmendmentOutcome(number=row.number, charged=usd(1), given_back=usd(0), closed=usd(0))
    again = AdvanceOrder(order_id=row.order_id, after=4, path=(), amendment=told)
    await commands.advance_order(database, again)  # a word that is repeated changes nothing
    assert [each.charged_minor for each in await amendments_of(database, row.order_id)] == [row.charged_minor]
    assert len([event for event in await events(database) if event["type"] == "OrderAmended"]) == 1


def world_order_of(url: str) -> UUID:
    return UUID(url.rpartition("/")[2])


async def test_commerce_tells_what_it_would_come_to_and_makes_it(
    api: httpx2.AsyncClient,
    mint: TokenMint,
    database: Database,
    catalogue: Catalogue,
    temporal_server: TemporalServer,
    tmp_path: Path,
) -> None:
    ann, url = await placed(api, mint)
    env = {
        "DATABASE_URL_ORDER": database.url,
        "CATALOG_URL": catalogue.url,
        "SHIPPING_URL": catalogue.url,
        "IDENTITY_URL": catalogue.url,
        "TEMPORAL_ADDRESS": temporal_server.address,
        "SERVICE_CLIENT_SECRET_ORDER": "secret",
        "CUSTOMER_KEYS_MASTER": MASTER_KEY,
    }

    async def commerce(*words: str) -> tuple[int, str]:
        arguments = ["amend", url.rpartition("/")[2], "--by", "ann", "--data", str(tmp_path), *words]
        result = await asyncio.to_thread(lambda: CliRunner().invoke(app, arguments, env=env))
        return result.exit_code, result.output

    before = (await ann.see(url)).json()
    code, told = await commerce("--line", "1:3", "--add", "bread:1")
    assert (code, "instead of" in told, "--apply" in told) == (0, True, True)
    assert (await ann.see(url)).json() == before
    code, told = await commerce("--line", "1:3", "--add", "bread:1", "--apply")
    assert (code, "Amendment 1 is APPLIED" in told) == (0, True), told
    assert [line["quantity"] for line in (await ann.see(url)).json()["lines"]] == [3, 1]
    assert await commerce("--line", "9:3") == (1, "validation_failed: The order cannot be amended so.\n")
    assert (await commerce("--line", "x"))[0] == 1

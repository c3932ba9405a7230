"""Quotes, and what an order is priced by: tariffs and taxes."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest
from pydantic import SecretStr
from sqlmodel import col

from chassis.clients import HttpSession, ServiceClient, ServiceTokens, Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import locked
from contracts.errors import ErrorCode
from contracts.identity import Role
from contracts.ids import quote_id_for
from contracts.shipments import LookUpTariff
from services.order import commands
from services.order.adapters import TaxTable
from services.order.cache import Tariffs
from services.order.model import Quote
from tests.conftest import TokenMint, changing
from tests.services.order.conftest import SHIP_TO, Catalogue
from tests.services.order.test_api import body, place

BERLIN = {"name": "Ann", "line1": "Unter den Linden 1", "city": "Berlin", "postal_code": "10117", "country": "DE"}


async def ask(client: httpx2.AsyncClient, headers: dict[str, str], key: str = "q1", **change: object) -> httpx2.Response:
    request = {name: value for name, value in (body() | change).items() if name != "payment_token"}
    return await client.post("/api/v1/orders/quote", json=request, headers=headers | {"Idempotency-Key": key})


async def order(client: httpx2.AsyncClient, headers: dict[str, str], **change: object) -> httpx2.Response:
    headers = headers | {"Idempotency-Key": str(uuid4()), "Prefer": "respond-async"}
    return await client.post("/api/v1/orders", json=body() | change, headers=headers)


async def lapse(database: Database) -> None:
    async with changing(database) as work:
        for quote in await work.all(locked(Quote, col(Quote.valid_until).is_not(None))):
            quote.valid_until = utc_now()


async def test_a_quote_is_what_the_order_then_costs(client: httpx2.AsyncClient, catalogue: Catalogue, mint: TokenMint) -> None:
    customer = uuid4()
    headers = mint.headers(Role.CUSTOMER, subject=customer)
    response = await ask(client, headers)
    assert response.status_code == 201
    quote = response.json()
    assert quote["quote_id"] == str(quote_id_for(customer, "q1"))
    sums = {name: quote["charges"][name]["amount"] for name in ("items", "shipping", "tax", "total")}
    assert sums == {"items": "3.00", "shipping": "5.90", "tax": "0.22", "total": "9.12"}
    assert quote["charges"]["taxes"][0] == {
        "name": "Sales tax, California",
        "rate": "0.0725",
        "amount": {"amount": "0.22", "currency": "USD"},
    }
    catalogue.put("milk", "9.99")
    for change in {"quote_id": quote["quote_id"]}, {"quote_id": quote["quote_id"], "when_short": "wait"}:
        placed = await order(client, headers, **change)
        assert placed.status_code == 202
        assert (placed.json()["total"]["amount"], placed.json()["charges"]) == ("9.12", quote["charges"])
        assert placed.json()["lines"] == quote["lines"]
    assert (await order(client, headers)).json()["total"]["amount"] != "9.12"


async def test_who_asks_again_gets_the_same_quote(client: httpx2.AsyncClient, catalogue: Catalogue, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    first = await ask(client, headers)
    catalogue.put("milk", "9.99")
    assert (await ask(client, headers)).json() == first.json()
    other = await ask(client, headers, ship_to=BERLIN)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await ask(client, headers, key="q2")).json()["quote_id"] != first.json()["quote_id"]


async def test_a_quote_is_for_one_order_of_one_customer(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    quote_id = (await ask(client, headers)).json()["quote_id"]
    changes: list[dict[str, Any]] = [
        {"lines": [{"product_id": "milk", "quantity": 1}]},
        {"ship_to": BERLIN},
        {"shipping": "express"},
        {"warehouse_id": "410"},
    ]
    for change in changes:
        refused = await order(client, headers, quote_id=quote_id, **change)
        assert (refused.status_code, refused.json()["code"]) == (409, ErrorCode.QUOTE_MISMATCH)
    stranger = await order(client, mint.headers(Role.CUSTOMER, subject=uuid4()), quote_id=quote_id)
    assert (stranger.status_code, stranger.json()["code"]) == (409, ErrorCode.QUOTE_EXPIRED)


async def test_a_quote_ends(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    quote_id = (await ask(client, headers)).json()["quote_id"]
    placed = (body() | {"quote_id": quote_id}, headers | {"Idempotency-Key": "o1", "Prefer": "respond-async"})
    accepted = await client.post("/api/v1/orders", json=placed[0], headers=placed[1])
    await lapse(database)
    refused = await order(client, headers, quote_id=quote_id)
    assert (refused.status_code, refused.json()["code"]) == (409, ErrorCode.QUOTE_EXPIRED)
    await commands.purge_quotes(database)
    assert await commands.find_quote(database, quote_id) is None
    # What was accepted stays so, whatever became of its quote.
    again = await client.post("/api/v1/orders", json=placed[0], headers=placed[1])
    assert again.json()["order_id"] == accepted.json()["order_id"]


async def test_what_is_wrong_with_an_order_is_told_by_its_quote(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    antarctica = BERLIN | {"country": "AQ", "city": "McMurdo"}
    for change, code in (
        ({"lines": [{"product_id": "gold", "quantity": 1}]}, "product_unknown"),
        ({"ship_to": antarctica}, "address_undeliverable"),
    ):
        for response in (await ask(client, headers, key=str(uuid4()), **change), await order(client, headers, **change)):
            assert (response.status_code, response.json()["code"]) == (422, code)
    # A quote is not paid, so it takes no token.
    paid = await client.post("/api/v1/orders/quote", json=body(), headers=headers | {"Idempotency-Key": "k"})
    assert (paid.status_code, [error["field"] for error in paid.json()["errors"]]) == (422, ["payment_token"])


async def test_shipping_is_asked_once_for_many_addresses_and_may_be_away_then(
    lonely_client: httpx2.AsyncClient, catalogue: Catalogue, mint: TokenMint
) -> None:
    headers = mint.headers(Role.CUSTOMER, subject=uuid4())
    catalogue.shipping_away = True
    away = await place(lonely_client, headers)
    assert (away.status_code, away.json()["code"]) == (503, "service_unavailable")
    catalogue.shipping_away = False
    catalogue.tariffs.clear()
    assert (await place(lonely_client, headers)).status_code == 202
    catalogue.shipping_away = True
    for n, postal_code in enumerate(("94105", "94110", "94133")):
        placed = await order(lonely_client, headers, ship_to=SHIP_TO.model_dump() | {"postal_code": postal_code, "line1": str(n)})
        assert placed.status_code == 202
    assert len(catalogue.tariffs) == 1


async def test_an_old_tariff_holds_while_shipping_is_away(catalogue: Catalogue) -> None:
    async with HttpSession() as http:
        tokens = ServiceTokens(http, catalogue.url, "order", SecretStr("secret"))
        tariffs = Tariffs(ServiceClient("shipping", catalogue.url, http, tokens), lives_s=0)
        here = LookUpTariff.to("US", "CA", "94105")
        first = await tariffs.of(here)
        assert await tariffs.of(here) == first
        assert len(catalogue.tariffs) == 2
        catalogue.shipping_away = True
        assert await tariffs.of(here) == first
        with pytest.raises(Unavailable):
            await tariffs.of(LookUpTariff.to("US", "NY", "10001"))


async def test_taxes_are_those_of_the_region_or_of_the_country() -> None:
    taxes = TaxTable.shipped()

    async def rates(country: str, region: str | None = None) -> list[tuple[str, str, bool]]:
        return [(tax.name, str(tax.rate), tax.on_shipping) for tax in await taxes.rates(country, region)]

    assert await rates("DE", "Berlin") == [("VAT 19 %", "0.19", True)]
    assert await rates("US", "CA") == [("Sales tax, California", "0.0725", False)]
    assert await rates("US", "OR") == []
    assert await rates("CA", "QC") == [("GST 5 %", "0.05", True), ("QST 9.975 %", "0.09975", True)]
    assert await rates("ZZ") == []

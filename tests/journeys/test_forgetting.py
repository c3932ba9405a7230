"""A customer asks to be forgotten while one order is on its way: it arrives, and then nobody knows any more who that was."""

from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg

from audit import AuditSettings, run_audit
from cli.client import Person
from contracts.address import FORGOTTEN
from contracts.orders import OrderStatus
from contracts.platform import SERVICE_NAMES
from testing.stage import Stage
from tests.conftest import eventually
from tests.personal import found_in

EMAIL, NAME, STREET, PHONE = "grace.hopper@example.org", "Grace Brewster Hopper", "1906 Compiler Crescent", "+16175550142"
CARD, WORDS = "pm_card_visa_gracehopper", "my cat Mabel sat on the keyboard"
SHIP_TO = {"name": NAME, "line1": STREET, "city": "Boston", "region": "MA", "postal_code": "02108", "country": "US"}
PERSONAL = ("grace", "hopper", "compiler crescent", "6175550142", "mabel")


async def test_nothing_of_a_forgotten_customer_is_left_but_the_books(stage: Stage) -> None:
    shop, grace = stage.shop, Person(stage.shop.gateway, EMAIL, "correct horse battery", NAME)
    await shop.welcome(grace)
    await tell_about_oneself(stage, grace)
    delivered, cancelled, open_ = [await ordered(stage, grace) for _ in range(3)]
    await stage.delivered(delivered)
    assert (await shop.cancel(grace, cancelled, WORDS)).status == 200
    customer_id = (await shop.order(open_))["customer_id"]
    assert {word for word in PERSONAL if await left_of(stage, word)} == set(PERSONAL)

    erased = await shop.ask(grace, "POST", "/users/me/erasure", {"current_password": "correct horse battery"})
    assert (erased.status, erased.body["user_id"]) == (202, customer_id)
    await eventually(partial(has_left, stage, customer_id, 1), what="the orders that have ended to be forgotten")
    for order_id in (delivered, cancelled):
        assert (await shop.order(order_id))["ship_to"]["line1"] == FORGOTTEN
    assert (await shop.order(open_))["ship_to"] == {**SHIP_TO, "line2": None}
    assert await left_of(stage, "mabel") == []

    await stage.delivered(open_)
    await eventually(partial(has_left, stage, customer_id, 0), what="the last order to be forgotten")
    await eventually(partial(nothing_is_left, stage), what="nothing personal in any database")
    progress = await shop.call(shop.support, "GET", f"/customers/{customer_id}/erasure")
    assert progress["forgotten_at"]
    order = await shop.order(open_)
    assert (order["status"], order["ship_to"]["country"]) == (OrderStatus.COMPLETED, "US")
    assert order["lines"]
    assert await key_of(stage, customer_id) == (None, None)
    again = await shop.gateway.ask("POST", "/api/v1/auth/login", {"email": EMAIL, "password": "correct horse battery"})
    assert again.status == 401
    report = await run_audit(AuditSettings.of(stage.platform.env), wait_s=120)
    assert [str(violation) for violation in report.violations] == []


async def tell_about_oneself(stage: Stage, grace: Person) -> None:
    token = await grace.token()
    me = await stage.shop.gateway.call("GET", "/api/v1/users/me", token=token)
    profile = {"name": NAME, "phone": PHONE, "addresses": [SHIP_TO]}
    headers = {"If-Match": f'"{me["version"]}"'}
    changed = await stage.shop.gateway.ask("PATCH", "/api/v1/users/me", profile, token=token, headers=headers)
    assert changed.status == 200, changed.body


async def ordered(stage: Stage, grace: Person) -> str:
    """An order that is confirmed, and told of."""
    purchase = replace(stage.next_purchase().paid_with(CARD).sent_to(SHIP_TO), customer=grace)
    placed = await stage.shop.place(purchase)
    assert placed.status == 201, placed.words
    return await stage.tells(placed.order_id, "Confirmation queued")


async def left_of(stage: Stage, *words: str) -> list[str]:
    """Where something of these words stands, in the databases of all services."""
    urls = [stage.platform.env[f"DATABASE_URL_{name.upper()}"] for name in SERVICE_NAMES]
    return [line for url in urls for line in await found_in(url, words)]


async def nothing_is_left(stage: Stage) -> bool:
    return not await left_of(stage, *PERSONAL)


async def has_left(stage: Stage, customer_id: str, orders: int) -> bool:
    """Whether so many orders are still to be forgotten."""
    shop = stage.shop
    reply = await shop.ask(shop.support, "GET", f"/customers/{customer_id}/erasure")
    return reply.status == 200 and reply.body["orders_left"] == orders


async def key_of(stage: Stage, customer_id: str) -> tuple[Any, Any]:
    connection = await asyncpg.connect(stage.platform.env["DATABASE_URL_ORDER"].replace("+asyncpg", ""))
    try:
        row = await connection.fetchrow("select wrapped, master_key_id from customer_keys where customer_id = $1", customer_id)
        assert row is not None
        return row["wrapped"], row["master_key_id"]
    finally:
        await connection.close()

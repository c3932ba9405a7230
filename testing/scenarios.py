"""Which baskets meet which trouble, what happens then, and what must come of it.

Baskets are numbered in the order in which they are played; those that weigh too much for a parcel are not counted. Number 2
of every 40 gets the first scenario below, number 5 the next, and so on; the rest are ordinary. Each scenario is a function that
plays one order and says what it saw; the recorder of histories and the journeys of the test suite play them too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from contracts.orders import OrderStatus
from services.shipping.model.rates import HEAVIEST_GRAMS
from testing.households import nowhere
from testing.shop import Placed, Purchase, Shop, in_words

GROUP = 40
FIRST, STRIDE = 2, 3
MORE_THAN_THERE_IS = 1000
"""Stores have 500 of each product."""


@dataclass(frozen=True)
class Seen:
    """What one play showed, in words that can be compared with what was expected."""

    placed: Placed
    then: str = ""


Play = Callable[[Shop, Purchase], Awaitable[Seen]]


@dataclass(frozen=True)
class Scenario:
    """`answer`: to POST /orders. `then`: of what followed at once. `end`: where the order is when all is quiet."""

    name: str
    what: str
    play: Play
    answer: str
    end: str
    then: str = ""


async def just_order(shop: Shop, purchase: Purchase) -> Seen:
    return Seen(await shop.place(purchase))


async def declined(shop: Shop, purchase: Purchase) -> Seen:
    return Seen(await shop.place(purchase.paid_with("tok_declined")))


async def held_and_approved(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.paid_with("tok_review"))
    reply = await shop.decide(placed.order_id, "approve", "known customer")
    if reply.status < 400:
        await shop.reaches(placed.order_id, OrderStatus.CONFIRMED)
    return Seen(placed, f"approve {in_words(reply.status, reply.body)}")


async def held_and_rejected(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.paid_with("tok_review"))
    reply = await shop.decide(placed.order_id, "reject", "card reported stolen")
    return Seen(placed, f"reject {in_words(reply.status, reply.body)}")


async def held_and_forgotten(shop: Shop, purchase: Purchase) -> Seen:
    return Seen(await shop.place(purchase.paid_with("tok_review")))


async def out_of_stock(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.with_first_quantity(MORE_THAN_THERE_IS))
    short = [line["product_id"] for line in placed.body.get("lines", ()) if "available" in line]
    named = short == [purchase.body["lines"][0]["product_id"]]
    return Seen(placed, "names the line" if named else f"names {short}")


async def answers_on_the_fourth_try(shop: Shop, purchase: Purchase) -> Seen:
    return await _charged(shop, await shop.place(purchase.paid_with("tok_flaky_3")))


async def lost_reply(shop: Shop, purchase: Purchase) -> Seen:
    return await _charged(shop, await shop.place(purchase.paid_with("tok_lost_reply")))


async def unbookable(shop: Shop, purchase: Purchase) -> Seen:
    return Seen(await shop.place(purchase.sent_to(nowhere(dict(purchase.body["ship_to"])))))


async def cancelled_in_time(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    reply = await shop.cancel(purchase.customer, placed.order_id)
    if reply.status >= 400:
        return Seen(placed, f"cancel {in_words(reply.status, reply.body)}")
    in_full = reply.body["refunded"] == placed.body["total"]
    return Seen(placed, f"cancel {reply.status}, {'all' if in_full else reply.body['refunded']['amount']} refunded")


async def cancelled_too_late(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    await shop.dispatch(placed.order_id)
    reply = await shop.cancel(purchase.customer, placed.order_id)
    return Seen(placed, f"cancel {in_words(reply.status, reply.body)}")


async def sent_five_times(shop: Shop, purchase: Purchase) -> Seen:
    answers = await asyncio.gather(*[shop.place(purchase) for _ in range(5)])
    orders = len({placed.order_id for placed in answers})
    worst = max(answers, key=lambda placed: (placed.status, placed.ms))
    return Seen(worst, f"{orders} order, {(await _charged(shop, worst)).then}")


async def _charged(shop: Shop, placed: Placed) -> Seen:
    """With what the payment provider has in its books."""
    if not placed.order_id:
        return Seen(placed, "no order")
    charge = await shop.charge(placed.order_id)
    asked = "once" if charge["attempts"] == 1 else f"{charge['attempts']} times"
    return Seen(placed, f"{charge['status']}, asked {asked}")


CONFIRMED, HELD = "201", "202"
DONE, CANCELLED = "COMPLETED", "CANCELLED"

ORDINARY = Scenario("ordinary", "meets no trouble", just_order, CONFIRMED, DONE)
TOO_HEAVY = Scenario(
    "too heavy",
    f"weighs more than {HEAVIEST_GRAMS // 1000} kg: no carrier takes it",
    just_order,
    "422 parcel_too_heavy",
    f"{CANCELLED} parcel_too_heavy",
)
TROUBLES = (
    Scenario(
        "card declined",
        "is paid with a card that the bank declines, and with no other one in time",
        declined,
        "402 payment_declined",
        f"{CANCELLED} payment_declined",
    ),
    Scenario(
        "review: approved",
        "is paid with a card that needs review; support approves",
        held_and_approved,
        HELD,
        DONE,
        "approve 200",
    ),
    Scenario(
        "review: rejected",
        "is paid with a card that needs review; support rejects",
        held_and_rejected,
        HELD,
        f"{CANCELLED} review_rejected",
        "reject 200",
    ),
    Scenario(
        "review: expired",
        "is paid with a card that needs review; nobody decides in time",
        held_and_forgotten,
        HELD,
        f"{CANCELLED} review_expired",
    ),
    Scenario(
        "out of stock",
        f"wants {MORE_THAN_THERE_IS} of its first product",
        out_of_stock,
        "409 out_of_stock",
        f"{CANCELLED} out_of_stock",
        "names the line",
    ),
    Scenario(
        "fourth try",
        "meets a payment provider that fails three times",
        answers_on_the_fourth_try,
        CONFIRMED,
        DONE,
        "captured, asked 4 times",
    ),
    Scenario(
        "lost reply",
        "is charged, but the provider's reply gets lost",
        lost_reply,
        CONFIRMED,
        DONE,
        "captured, asked 2 times",
    ),
    Scenario(
        "no such place",
        "goes to an address that the carrier does not know",
        unbookable,
        "422 address_undeliverable",
        f"{CANCELLED} address_undeliverable",
    ),
    Scenario(
        "cancelled in time",
        "is cancelled by its customer before dispatch",
        cancelled_in_time,
        CONFIRMED,
        f"{CANCELLED} cancelled_by_request",
        "cancel 200, all refunded",
    ),
    Scenario(
        "cancelled too late",
        "is dispatched; then its customer tries to cancel",
        cancelled_too_late,
        CONFIRMED,
        DONE,
        "cancel 409 already_dispatched",
    ),
    Scenario(
        "sent five times",
        "is sent five times at once, under one key",
        sent_five_times,
        CONFIRMED,
        DONE,
        "1 order, captured, asked once",
    ),
)
PLACES = {FIRST + STRIDE * index: scenario for index, scenario in enumerate(TROUBLES)}
"""By number within each group of GROUP."""


def rule_of(scenario: Scenario) -> str:
    """In words, which baskets get it."""
    place = next((number for number, other in PLACES.items() if other is scenario), None)
    if place is not None:
        return f"{place}, {place + GROUP}, {place + 2 * GROUP} …"
    return f"above {HEAVIEST_GRAMS // 1000} kg" if scenario is TOO_HEAVY else "all others"


def scenario_for(number: int) -> Scenario:
    """Of the basket with this number; the first is 1."""
    return PLACES.get((number - 1) % GROUP + 1, ORDINARY)

"""Which baskets meet what, what happens then, and what must come of it.

Baskets are numbered in the order in which they are played; those that weigh too much for a parcel are not counted. Number 2
of every 50 gets the first scenario below, number 4 the next, and so on; the rest are ordinary. Each scenario is a function that
plays one order and says what it saw; the recorder of histories and the journeys of the test suite play them too.

What comes from two warehouses is a basket and one more product, which only the depots have; what is out of stock is a basket and
one more product, which nobody has (`cli.stocking`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.stocking import AT_THE_DEPOTS, DISCOUNT_CODE, OUT_OF_STOCK, PERCENT_OFF
from contracts.money import Money
from contracts.orders import OrderStatus
from contracts.parcels import ParcelChoice, ParcelStatus
from contracts.pricing import LineAmounts
from services.shipping.model.rates import HEAVIEST_GRAMS
from testing.households import nowhere
from testing.shop import Placed, Purchase, Shop, in_words

GROUP = 50
FIRST, STRIDE = 2, 2
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


async def paid_with_another_card(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.paid_with("tok_declined"))
    paid = await shop.pay(purchase, placed.order_id)
    return Seen(placed, f"pay {in_words(paid.status, paid.body)}")


async def from_two_warehouses(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(AT_THE_DEPOTS))
    return Seen(placed, f"parcels {_parcels(await shop.order(placed.order_id))}")


async def parcel_lost(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(AT_THE_DEPOTS))
    order_id, parcel = placed.order_id, _parcel_with(AT_THE_DEPOTS, await shop.order(placed.order_id))
    await shop.dispatch(order_id, parcel)
    await shop.parcel_reaches(order_id, parcel, ParcelStatus.SHIPPED)
    await shop.lose(order_id, parcel)
    await shop.parcel_reaches(order_id, parcel, ParcelStatus.UNDELIVERED)
    reply = await shop.decide_parcel(order_id, parcel, ParcelChoice.REFUND, "lost by the carrier")
    if reply.status >= 400:
        return Seen(placed, f"refund {in_words(reply.status, reply.body)}")
    order = await shop.parcel_reaches(order_id, parcel, ParcelStatus.REFUNDED)
    share = _price_of(AT_THE_DEPOTS, order)
    return Seen(placed, f"refund {reply.status}, {_as_share(_minor(order['refunded']), share)} went back")


async def cancelled_in_part(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(AT_THE_DEPOTS))
    order = await shop.order(placed.order_id)
    await shop.dispatch(placed.order_id, _parcel_with(AT_THE_DEPOTS, order))
    reply = await shop.cancel(purchase.customer, placed.order_id)
    if reply.status >= 400:
        return Seen(placed, f"cancel {in_words(reply.status, reply.body)}")
    rest = _minor(order["total"]) - _price_of(AT_THE_DEPOTS, order)
    return Seen(placed, f"cancel {reply.status}, {_as_share(_minor(reply.body['refunded']), rest)} went back")


async def waited_for(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(OUT_OF_STOCK).asking(when_short="wait"))
    return Seen(placed, f"parcels {_parcels(await shop.order(placed.order_id))}")


async def left_out(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(OUT_OF_STOCK).asking(when_short="drop"))
    order = await shop.order(placed.order_id)
    captured = (await shop.charge(placed.order_id))["captured_amount"]
    share = _price_of(OUT_OF_STOCK, order)
    return Seen(placed, f"parcels {_parcels(order)}; {_as_share(_minor(order['total']) - captured, share)} was not charged")


async def asked(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(OUT_OF_STOCK).asking(when_short="ask"))
    parcel = _parcel_with(OUT_OF_STOCK, await shop.order(placed.order_id))
    reply = await shop.ask(purchase.customer, "POST", f"/orders/{placed.order_id}/shortage", {"choice": "drop"})
    if reply.status >= 400:
        return Seen(placed, f"answer {in_words(reply.status, reply.body)}")
    order = await shop.parcel_reaches(placed.order_id, parcel, ParcelStatus.CANCELLED)
    share = _price_of(OUT_OF_STOCK, order)
    return Seen(placed, f"answer {reply.status}, {_as_share(_minor(order['refunded']), share)} went back")


async def quoted(shop: Shop, purchase: Purchase) -> Seen:
    quote = await shop.quote(purchase)
    placed = await shop.place(purchase.asking(quote_id=quote["quote_id"]))
    return Seen(placed, "as quoted" if placed.body.get("charges") == quote["charges"] else "not as quoted")


async def with_discount_code(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.asking(discount_codes=[DISCOUNT_CODE]))
    goods, discount = (_minor(placed.body["charges"][part]) for part in ("items", "discount"))
    is_right = abs(100 * discount - PERCENT_OFF * goods) <= 50  # cents are whole
    return Seen(placed, f"{PERCENT_OFF} % off" if is_right else f"{discount} of {goods} cents off")


async def express(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.asking(shipping="express"))
    return Seen(placed, f"booked as {(await shop.carried(placed.order_id))['service']}")


def _parcels(order: Mapping[str, Any]) -> str:
    """Where each parcel is: `BOOKED, AWAITED`."""
    return ", ".join(sorted(parcel["status"] for parcel in order["parcels"]))


def _parcel_with(product_id: str, order: Mapping[str, Any]) -> int:
    """The number of the order's parcel that has this product. Raises LookupError."""
    having = [parcel for parcel in order["parcels"] if product_id in {line["product_id"] for line in parcel["lines"]}]
    return int(having[0]["parcel"])


def _price_of(product_id: str, order: Mapping[str, Any]) -> int:
    """What the customer pays for the line with this product, in minor units."""
    line = next(line for line in order["lines"] if line["product_id"] == product_id)
    return LineAmounts.model_validate(line["amounts"]).total


def _minor(money: Mapping[str, Any]) -> int:
    return Money.model_validate(money).minor


def _as_share(minor: int, share: int) -> str:
    return "its share" if minor == share else f"{minor} instead of {share} cents"


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
STORIES = (
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
    Scenario(
        "another card",
        "is paid with a card that the bank declines, and then with another one",
        paid_with_another_card,
        "402 payment_declined",
        DONE,
        "pay 201",
    ),
    Scenario(
        "two warehouses",
        "names no store, and comes from two warehouses, in two parcels",
        from_two_warehouses,
        CONFIRMED,
        DONE,
        "parcels BOOKED, BOOKED",
    ),
    Scenario(
        "parcel lost",
        "comes in two parcels; the carrier loses one, and support gives its price back",
        parcel_lost,
        CONFIRMED,
        DONE,
        "refund 200, its share went back",
    ),
    Scenario(
        "cancelled in part",
        "comes in two parcels; its customer cancels it when one has left",
        cancelled_in_part,
        CONFIRMED,
        DONE,
        "cancel 200, its share went back",
    ),
    Scenario(
        "out of stock: waited",
        "wants something that is nowhere, and waits for it; it is sent in a second parcel, once some have arrived",
        waited_for,
        CONFIRMED,
        DONE,
        "parcels AWAITED, BOOKED",
    ),
    Scenario(
        "out of stock: left out",
        "wants something that is nowhere, and does without it",
        left_out,
        CONFIRMED,
        DONE,
        "parcels BOOKED, CANCELLED; its share was not charged",
    ),
    Scenario(
        "out of stock: asked",
        "wants something that is nowhere; its customer is asked, and does without it",
        asked,
        CONFIRMED,
        DONE,
        "answer 200, its share went back",
    ),
    Scenario(
        "quoted",
        "is quoted first, and ordered at that",
        quoted,
        CONFIRMED,
        DONE,
        "as quoted",
    ),
    Scenario(
        "discount code",
        f"uses the code {DISCOUNT_CODE}",
        with_discount_code,
        CONFIRMED,
        DONE,
        f"{PERCENT_OFF} % off",
    ),
    Scenario(
        "express",
        "is sent by express",
        express,
        CONFIRMED,
        DONE,
        "booked as express",
    ),
)
PLACES = {FIRST + STRIDE * index: scenario for index, scenario in enumerate(STORIES)}
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

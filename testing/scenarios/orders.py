"""Plays of orders until they are on their way."""

import asyncio
from collections.abc import Mapping
from typing import Any

from cli.stocking import AT_THE_DEPOTS, DISCOUNT_CODE, OUT_OF_STOCK, PERCENT_OFF
from contracts.orders import OrderStatus
from contracts.parcels import ParcelChoice, ParcelStatus
from contracts.pricing import LineAmounts
from testing.households import nowhere
from testing.scenarios.seen import Seen, as_share, minor
from testing.shop import Placed, Purchase, Shop, in_words

MORE_THAN_THERE_IS = 1000
"""Stores have 500 of each product."""


async def just_order(shop: Shop, purchase: Purchase) -> Seen:
    return Seen(await shop.place(purchase))


async def declined(shop: Shop, purchase: Purchase) -> Seen:
    return Seen(await shop.place(purchase.paid_with("pm_card_visa_chargeDeclined")))


async def held_and_approved(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.paid_with("pm_card_riskLevelElevated"))
    reply = await shop.decide(placed.order_id, "approve", "known customer")
    if reply.status < 400:
        await shop.reaches(placed.order_id, OrderStatus.CONFIRMED)
    return Seen(placed, f"approve {in_words(reply.status, reply.body)}")


async def held_and_rejected(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.paid_with("pm_card_riskLevelElevated"))
    reply = await shop.decide(placed.order_id, "reject", "card reported stolen")
    return Seen(placed, f"reject {in_words(reply.status, reply.body)}")


async def held_and_forgotten(shop: Shop, purchase: Purchase) -> Seen:
    return Seen(await shop.place(purchase.paid_with("pm_card_riskLevelElevated")))


async def out_of_stock(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.with_first_quantity(MORE_THAN_THERE_IS))
    short = [line["product_id"] for line in placed.body.get("lines", ()) if "available" in line]
    named = short == [purchase.body["lines"][0]["product_id"]]
    return Seen(placed, "names the line" if named else f"names {short}")


async def answers_on_the_fourth_try(shop: Shop, purchase: Purchase) -> Seen:
    return await _charged(shop, await shop.place(purchase.paid_with("pm_sim_flaky")))


async def lost_reply(shop: Shop, purchase: Purchase) -> Seen:
    return await _charged(shop, await shop.place(purchase.paid_with("pm_sim_lost_reply")))


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
    placed = await shop.place(purchase.paid_with("pm_card_visa_chargeDeclined"))
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
    return Seen(placed, f"refund {reply.status}, {as_share(minor(order['refunded']), share)} went back")


async def cancelled_in_part(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(AT_THE_DEPOTS))
    order = await shop.order(placed.order_id)
    await shop.dispatch(placed.order_id, _parcel_with(AT_THE_DEPOTS, order))
    reply = await shop.cancel(purchase.customer, placed.order_id)
    if reply.status >= 400:
        return Seen(placed, f"cancel {in_words(reply.status, reply.body)}")
    rest = minor(order["total"]) - _price_of(AT_THE_DEPOTS, order)
    return Seen(placed, f"cancel {reply.status}, {as_share(minor(reply.body['refunded']), rest)} went back")


async def waited_for(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(OUT_OF_STOCK).asking(when_short="wait"))
    return Seen(placed, f"parcels {_parcels(await shop.order(placed.order_id))}")


async def left_out(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(OUT_OF_STOCK).asking(when_short="drop"))
    order = await shop.order(placed.order_id)
    captured = (await shop.charge(placed.order_id)).captured
    share = _price_of(OUT_OF_STOCK, order)
    return Seen(placed, f"parcels {_parcels(order)}; {as_share(minor(order['total']) - captured, share)} was not charged")


async def asked(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.from_anywhere_with(OUT_OF_STOCK).asking(when_short="ask"))
    parcel = _parcel_with(OUT_OF_STOCK, await shop.order(placed.order_id))
    reply = await shop.ask(purchase.customer, "POST", f"/orders/{placed.order_id}/shortage", {"choice": "drop"})
    if reply.status >= 400:
        return Seen(placed, f"answer {in_words(reply.status, reply.body)}")
    order = await shop.parcel_reaches(placed.order_id, parcel, ParcelStatus.CANCELLED)
    share = _price_of(OUT_OF_STOCK, order)
    return Seen(placed, f"answer {reply.status}, {as_share(minor(order['refunded']), share)} went back")


async def quoted(shop: Shop, purchase: Purchase) -> Seen:
    quote = await shop.quote(purchase)
    placed = await shop.place(purchase.asking(quote_id=quote["quote_id"]))
    return Seen(placed, "as quoted" if placed.body.get("charges") == quote["charges"] else "not as quoted")


async def with_discount_code(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.asking(discount_codes=[DISCOUNT_CODE]))
    goods, discount = (minor(placed.body["charges"][part]) for part in ("items", "discount"))
    is_right = abs(100 * discount - PERCENT_OFF * goods) <= 50  # cents are whole
    return Seen(placed, f"{PERCENT_OFF} % off" if is_right else f"{discount} of {goods} cents off")


async def express(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.asking(shipping="express"))
    days = (await shop.rate_of(placed.order_id))["days"]
    return Seen(placed, "booked for the next day" if days == 1 else f"booked for in {days} days")


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


async def _charged(shop: Shop, placed: Placed) -> Seen:
    """With what the payment provider has in its books."""
    if not placed.order_id:
        return Seen(placed, "no order")
    charge = await shop.charge(placed.order_id)
    total = minor((await shop.order(placed.order_id))["total"])
    return Seen(placed, f"{charge.status} once" if charge.captured == total else f"{charge.status} {charge.captured} of {total}")

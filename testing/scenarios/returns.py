"""Plays of what comes after the delivery: goods that come back, other ones instead, and claims; and of orders that are changed
before."""

from collections.abc import Mapping
from typing import Any

from cli.stocking import AT_THE_DEPOTS
from contracts.pricing import LineAmounts
from contracts.returns import ReturnStatus
from testing.scenarios.seen import Seen, as_share, minor
from testing.shop import Purchase, Shop, in_words

CARD = "pm_card_visa"


async def returned(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    order = await shop.arrives(placed.order_id)
    asked = await shop.ask_to_return(purchase, order["order_id"], lines=[_one_unit("wrong_size")])
    if asked.status >= 400:
        return Seen(placed, f"return {in_words(asked.status, asked.body)}")
    await _comes_back(shop, asked.body, "good")
    ended = await shop.return_reaches(asked.body, ReturnStatus.COMPLETED)
    return Seen(placed, f"return {asked.status}, {as_share(minor(ended['refunded']), _worth_of_one(order))} went back")


async def came_to_nothing(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    order = await shop.arrives(placed.order_id)
    asked = await shop.ask_to_return(purchase, order["order_id"], lines=[_one_unit("changed_mind")], send_back="drop_off")
    if asked.status >= 400:
        return Seen(placed, f"return {in_words(asked.status, asked.body)}")
    await shop.return_reaches(asked.body, ReturnStatus.APPROVED)
    again = await shop.ask_to_return(purchase, order["order_id"], "-again", lines=_every_unit(order, "changed_mind"))
    reply = await shop.about_return(purchase.customer, asked.body, "cancel", {"reason": "I keep it"})
    return Seen(placed, f"return {asked.status}, all of it {in_words(again.status, again.body)}, cancel {reply.status}")


async def exchanged(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    order = await shop.arrives(placed.order_id)
    other = [{"product_id": AT_THE_DEPOTS, "quantity": 1}]
    asked = await shop.ask_to_return(
        purchase,
        order["order_id"],
        lines=[_one_unit("changed_mind")],
        resolution="exchange",
        exchange_for=other,
        payment_token=CARD,
    )
    if asked.status >= 400:
        return Seen(placed, f"exchange {in_words(asked.status, asked.body)}")
    await _comes_back(shop, asked.body, "good")
    ended, instead = await _replaced(shop, asked.body)
    credit = minor(instead["charges"]["credit"])
    goes_back = _worth_of_one(order) - credit
    is_settled = not (goes_back and minor(instead["total"]))  # the difference is paid, or goes back
    words = as_share(minor(ended["refunded"]), goes_back) if is_settled else "both a part of it and more was charged"
    return Seen(placed, f"exchange {asked.status}, {words} went back")


async def claimed(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    order = await shop.arrives(placed.order_id)
    asked = await shop.ask_to_return(purchase, order["order_id"], kind="claim", resolution="resend", lines=[_one_unit("damaged")])
    if asked.status >= 400:
        return Seen(placed, f"claim {in_words(asked.status, asked.body)}")
    reply = await shop.about_return(shop.support, asked.body, "approve", {"reason": "photos show it"})
    if reply.status >= 400:
        return Seen(placed, f"approve {in_words(reply.status, reply.body)}")
    _, instead = await _replaced(shop, asked.body)
    costs = "nothing" if not minor(instead["total"]) else instead["total"]["amount"]
    return Seen(placed, f"claim {asked.status}, sent again for {costs}")


async def one_unit_cancelled(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.with_first_quantity(2))
    body = {"reason": "one is enough", "lines": [{"line_id": 1, "quantity": 1}]}
    reply = await shop.ask(purchase.customer, "POST", f"/orders/{placed.order_id}/cancel", body)
    if reply.status >= 400:
        return Seen(placed, f"cancel {in_words(reply.status, reply.body)}")
    order = await shop.order(placed.order_id)
    share = LineAmounts.model_validate(order["lines"][0]["amounts"]).of(2, 1, 1).total
    return Seen(placed, f"cancel {reply.status}, {as_share(minor(order['refunded']), share)} went back")


async def amended(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    first = placed.body["lines"][0]
    reply = await shop.amend(purchase, placed.order_id, [{"line_id": 1, "quantity": first["quantity"] + 1}])
    if reply.status >= 400:
        return Seen(placed, f"amend {in_words(reply.status, reply.body)}")
    order = await shop.order(placed.order_id)
    difference = minor(order["total"]) - minor(placed.body["total"])
    moved = minor(reply.body["charged"]) - minor(reply.body["given_back"])
    more = order["lines"][0]["quantity"] - first["quantity"]
    return Seen(placed, f"amend {reply.status}, {more} more, {as_share(moved, difference)} was charged")


async def _comes_back(shop: Shop, asked: Mapping[str, Any], condition: str) -> None:
    """All of it is sent by its label, and looked at."""
    await shop.return_reaches(asked, ReturnStatus.APPROVED)
    lines = [{"line_id": line["line_id"], "quantity": line["quantity"], "condition": condition} for line in asked["lines"]]
    await shop.receive_return(asked, lines)


async def _replaced(shop: Shop, asked: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The return at its end, and the order that it brought, which has arrived."""
    replacement_id = (await shop.return_brings(asked))["replacement_id"]
    instead = await shop.arrives(replacement_id)
    return await shop.return_reaches(asked, ReturnStatus.COMPLETED), instead


def _one_unit(reason: str) -> dict[str, Any]:
    return {"line_id": 1, "quantity": 1, "reason": reason}


def _every_unit(order: Mapping[str, Any], reason: str) -> list[dict[str, Any]]:
    return [{"line_id": line["line_id"], "quantity": line["quantity"], "reason": reason} for line in order["lines"]]


def _worth_of_one(order: Mapping[str, Any]) -> int:
    """What the customer has paid for the first unit of the first line, in minor units."""
    line = order["lines"][0]
    return LineAmounts.model_validate(line["amounts"]).of(line["quantity"], 0, 1).total

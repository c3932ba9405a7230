"""Prices: a line has the price that the catalogue's own history says its product had when it was ordered."""

from collections import defaultdict
from datetime import timedelta

from audit.books import PriceRow, Source
from audit.rule import rule
from audit.rules.words import at, minor, money
from audit.verdict import Check
from audit.world import World

PRICE_LAG = timedelta(minutes=1)
"""An order is placed a moment after its prices were read, and by another machine's clock than that of the catalogue."""


@rule("Each line has a price that its product had just then", Source.ORDER, Source.CATALOG)
def price_was_the_catalogues(world: World, check: Check) -> None:
    periods: dict[str, list[PriceRow]] = defaultdict(list)
    for price in world.books.prices:
        periods[price.product_id].append(price)
    for line in world.books.lines:
        order = world.orders.get(line.order_id)
        if order is None or world.is_fresh(order.placed_at):
            continue
        priced_at = line.amended_at or order.placed_at
        had = {
            money(price.amount, price.currency)
            for price in periods[line.product_id]
            if price.valid_from - PRICE_LAG <= priced_at and (price.valid_to is None or priced_at <= price.valid_to + PRICE_LAG)
        }
        check.among(
            line.order_id,
            f"price of {line.product_id} at {at(priced_at)}",
            had or {None},
            money(minor(line.amount, line.currency), line.currency),
            line.order_id,
        )

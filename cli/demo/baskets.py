"""Which baskets are played, and whether they can be: everything that is wrong with a file is told before anything is started."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.stocking import UNITS
from data.baskets import Basket, read_baskets, read_products
from data.catalogue import import_row
from services.shipping.model.rates import HEAVIEST_GRAMS
from testing.scenarios import TOO_HEAVY, Scenario, scenario_for

MOST_LINES, LARGEST_QUANTITY = 100, 1000
NAMED = 5
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class BadBaskets(ValueError):
    """A file of baskets cannot be played: the message says why, line by line."""


@dataclass(frozen=True)
class Chosen:
    """One basket, and what will happen to it."""

    basket: Basket
    scenario: Scenario


def choose(path: Path | None, orders: int) -> list[Chosen]:
    """The first so many baskets of a file (without `path`: of ours), each with its scenario.

    Raises BadBaskets, BadRow, OSError.
    """
    baskets = read_baskets(path)[:orders]
    weights = {product.product_id: int(import_row(product)["weight_grams"]) for product in read_products()}
    _check(baskets, weights)
    chosen: list[Chosen] = []
    number = 0
    for basket in baskets:
        heavy = sum(weights[product] * quantity for product, quantity in basket.lines) > HEAVIEST_GRAMS
        number += not heavy
        chosen.append(Chosen(basket, TOO_HEAVY if heavy else scenario_for(number)))
    return chosen


def _check(baskets: Sequence[Basket], weights: dict[str, int]) -> None:
    wrong = [f"basket {basket.basket_id}: {what}" for basket in baskets for what in _wrong_with(basket, weights)]
    if not baskets:
        wrong = ["there is no basket in it"]
    wrong = wrong or _too_much(baskets)
    if wrong:
        more = [f"… and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
        raise BadBaskets("\n".join(["These baskets cannot be ordered:", *wrong[:NAMED], *more]))


def _wrong_with(basket: Basket, weights: dict[str, int]) -> list[str]:
    unknown = [product for product, _ in basket.lines if product not in weights]
    wrong = [f"the catalogue has no product {', '.join(unknown[:NAMED])}"] if unknown else []
    ids = {"household_id": basket.household_id, "store_id": basket.store_id}
    wrong += [
        f"{name} {value!r} is not an id: letters, digits, - and _" for name, value in ids.items() if not _ID.fullmatch(value)
    ]
    if len(basket.lines) > MOST_LINES:
        wrong.append(f"has {len(basket.lines)} products; an order takes {MOST_LINES}")
    wrong += [
        f"wants {many} of {product}; an order takes {LARGEST_QUANTITY}"
        for product, many in basket.lines
        if many > LARGEST_QUANTITY
    ]
    return wrong


def _too_much(baskets: Sequence[Basket]) -> list[str]:
    wanted = Counter[tuple[str, str]]()
    for basket in baskets:
        wanted.update({(basket.store_id, product): quantity for product, quantity in basket.lines})
    return [
        f"together they want {many} of product {product} at store {store}, which has {UNITS}: play fewer with --orders"
        for (store, product), many in wanted.items()
        if many > UNITS
    ]

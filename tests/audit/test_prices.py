"""Prices: no forged one gets by."""

from datetime import timedelta
from decimal import Decimal

import pytest

from audit.books import Books
from audit.rules import judge, prices
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases, found
from tests.audit.shop import EARLIER, NOW, Shop, change, every_kind, everything, of, remove, the


def an_order_was_sold_for_a_cent(books: Books) -> None:
    """And every other book says so, too: as when the price that an order is placed with was forged."""
    order_id = the(books, S.CONFIRMED).order_id
    change(books.lines, of(order_id), amount=Decimal("0.01"))


def a_price_was_in_another_currency(books: Books) -> None:
    change(books.prices, everything, currency="EUR")


def a_price_had_been_over_for_long(books: Books) -> None:
    change(books.prices, everything, valid_to=EARLIER - timedelta(minutes=5))


def a_price_came_long_after(books: Books) -> None:
    change(books.prices, everything, valid_from=EARLIER + timedelta(minutes=5))


def a_product_was_never_on_sale(books: Books) -> None:
    remove(books.prices, everything)


TAMPERINGS: Tamperings = {
    "price_was_the_catalogues": [
        an_order_was_sold_for_a_cent,
        a_price_was_in_another_currency,
        a_price_had_been_over_for_long,
        a_price_came_long_after,
        a_product_was_never_on_sale,
    ],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(prices, TAMPERINGS)


@pytest.mark.parametrize("seconds", [-30, 0, 30])
def test_a_price_that_changes_while_an_order_is_placed_is_right_before_and_after(seconds: int) -> None:
    books = every_kind()
    moment = EARLIER + timedelta(seconds=seconds)
    was = books.prices[0]
    books.prices = [was._replace(valid_to=moment), was._replace(amount=999, valid_from=moment)]
    assert not judge(books).violations
    change(books.lines, everything, amount=Decimal("9.99"))
    assert not judge(books).violations


def test_an_order_that_was_placed_just_now_is_not_held_against_a_look_from_before() -> None:
    shop = Shop()
    shop.place(S.CONFIRMED, at=NOW)
    books = shop.books()
    remove(books.prices, everything)
    assert not found(books, "price_was_the_catalogues")

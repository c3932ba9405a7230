"""Discount codes: no use that is not counted, and no reduction without one."""

from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest

from audit import queries
from audit.books import Books, DiscountUsesRow, RedemptionRow
from audit.rules import discounts
from chassis.database import Database
from contracts.money import Money
from contracts.orders import AdvanceOrder, OrderStatus
from services.order import commands
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases
from tests.audit.shop import CODE, S, change, of, the
from tests.conftest import Databases
from tests.races.order import CODE as RACED
from tests.races.order import UNLIMITED, discounted


def a_use_was_not_counted(books: Books) -> None:
    change(books.discount_uses, lambda row: row.code == CODE, counted=books.discount_uses[0].counted - 1)


def a_code_that_nobody_uses_is_used_up(books: Books) -> None:
    change(books.discount_uses, lambda row: row.code == "UNUSED", counted=1)


def a_code_took_something_off_without_being_used(books: Books) -> None:
    change(books.redemptions, of(the(books, S.CONFIRMED).order_id), amount=None, currency=None, is_held=False)


def a_code_took_more_off_than_its_use_says(books: Books) -> None:
    change(books.redemptions, of(the(books, S.CONFIRMED).order_id), charged=Decimal("1.01"))


def a_code_is_used_by_an_order_that_is_charged_in_full(books: Books) -> None:
    change(books.redemptions, of(the(books, S.CONFIRMED).order_id), charged=None, charged_currency=None)


def a_cancelled_order_uses_its_code(books: Books) -> None:
    change(books.redemptions, of(the(books, S.CANCELLED).order_id), is_held=True)


def a_confirmed_order_gave_its_code_back(books: Books) -> None:
    change(books.redemptions, of(the(books, S.CONFIRMED).order_id), is_held=False)


TAMPERINGS: Tamperings = {
    "discount_uses_are_counted": [a_use_was_not_counted, a_code_that_nobody_uses_is_used_up],
    "redemptions_are_charged": [
        a_code_took_something_off_without_being_used,
        a_code_took_more_off_than_its_use_says,
        a_code_is_used_by_an_order_that_is_charged_in_full,
    ],
    "cancelled_orders_gave_their_codes_back": [a_cancelled_order_uses_its_code, a_confirmed_order_gave_its_code_back],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(discounts, TAMPERINGS)


async def test_the_books_are_read_as_the_service_keeps_them(databases: Databases) -> None:
    url = await databases.new("order")
    database = Database(url, pool_size=2)
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    kept, cancelled, forged = [discounted(uuid4(), uuid4()) for _ in range(3)]
    try:
        await commands.put_discount(database, RACED, UNLIMITED)
        for order in (kept, cancelled, forged):
            await commands.accept_order(database, order)
        path = (OrderStatus.CANCELLING, OrderStatus.CANCELLED)
        word = AdvanceOrder(order_id=cancelled.order_id, after=1, path=path, refunded=Money.zero())
        await commands.advance_order(database, word)
        await connection.execute("delete from redemptions where order_id = $1", forged.order_id)
        [uses] = await connection.fetch(queries.DISCOUNT_USES)
        rows = await connection.fetch(queries.REDEMPTIONS)
    finally:
        await connection.close()
        await database.close()
    assert DiscountUsesRow(*uses) == DiscountUsesRow(RACED, counted=2, held=1)
    off = Decimal(1)
    assert {RedemptionRow(*row) for row in rows} == {
        RedemptionRow(kept.order_id, RACED, 100, "USD", True, off, "USD"),
        RedemptionRow(cancelled.order_id, RACED, 100, "USD", False, off, "USD"),
        RedemptionRow(forged.order_id, RACED, None, None, False, off, "USD"),
    }

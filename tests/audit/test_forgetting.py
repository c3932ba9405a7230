"""Forgetting: of a customer whom identity has forgotten nothing is left, and what is left to others stays."""

from datetime import timedelta
from uuid import uuid4

import pytest

from audit.books import Books, OrderRow
from audit.rules import forgetting, judge
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases, found
from tests.audit.shop import NOW, change, every_kind, everything, of, remove


def of_the_forgotten(books: Books, status: S = S.COMPLETED) -> OrderRow:
    customer = books.forgotten[0].customer_id
    return next(row for row in books.orders if row.customer_id == customer and row.status == status)


def account_has_a_name(books: Books) -> None:
    change(books.forgotten, everything, left="name")


def order_names_its_customer(books: Books) -> None:
    change(books.orders, of(of_the_forgotten(books).order_id), names_person=True)


def refused_order_names_its_customer(books: Books) -> None:
    change(books.orders, of(of_the_forgotten(books, S.CANCELLED).order_id), names_person=True)


def payment_knows_the_card(books: Books) -> None:
    change(books.payments, of(of_the_forgotten(books).order_id), names_person=True)


def parcel_says_where_it_went(books: Books) -> None:
    change(books.shipments, of(of_the_forgotten(books).order_id), names_person=True)


def key_lives(books: Books) -> None:
    change(books.keys, everything, is_live=True)


def order_service_never_heard(books: Books) -> None:
    remove(books.keys, everything)


def key_went_before_the_last_order(books: Books) -> None:
    order_names_its_customer(books)


TAMPERINGS: Tamperings = {
    "forgotten_accounts_are_blank": [account_has_a_name],
    "forgotten_orders_are_blank": [order_names_its_customer, refused_order_names_its_customer],
    "forgotten_payments_are_blank": [payment_knows_the_card],
    "forgotten_parcels_are_blank": [parcel_says_where_it_went],
    "forgotten_keys_are_destroyed": [key_lives, order_service_never_heard, key_went_before_the_last_order],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(forgetting, TAMPERINGS)


def test_who_was_only_just_forgotten_is_in_flight() -> None:
    books = every_kind()
    change(books.forgotten, everything, forgotten_at=NOW - timedelta(seconds=10))
    change(books.keys, everything, is_live=True, is_forgotten=False)
    for order in (of_the_forgotten(books), of_the_forgotten(books, S.CANCELLED)):
        for rows in (books.orders, books.payments):
            change(rows, of(order.order_id), names_person=True)
    judgement = judge(books)
    assert not judgement.violations
    assert {item.why for item in judgement.in_flight} >= {"COMPLETED, to be forgotten", "CANCELLED, to be forgotten"}


def test_an_open_order_goes_on_naming_its_customer() -> None:
    books = every_kind()
    confirmed = next(row for row in books.orders if row.status == S.CONFIRMED)
    change(books.orders, of(confirmed.order_id), customer_id=books.forgotten[0].customer_id)
    change(books.keys, everything, is_live=True, is_forgotten=False)
    assert not judge(books).violations


def test_somebody_else_is_nobodys_business() -> None:
    books = every_kind()
    change(books.forgotten, everything, customer_id=uuid4())
    assert [violation.what for violation in found(books, "forgotten_keys_are_destroyed")] == ["takes orders"]

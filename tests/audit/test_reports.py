"""Reports: what was counted wrongly is seen."""

import pytest

from audit.books import Books
from audit.rules import reports
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases
from tests.audit.shop import change, of, remove, the


def report_has_another_total(books: Books) -> None:
    change(books.facts, of(the(books, S.CONFIRMED).order_id), total_minor=99)


def report_missed_a_refund(books: Books) -> None:
    change(books.facts, of(the(books, S.REFUNDED).order_id), refunded_minor=0)


def report_missed_a_confirmation(books: Books) -> None:
    change(books.facts, of(the(books, S.CONFIRMED).order_id), is_confirmed=False)


def report_does_not_know_an_order(books: Books) -> None:
    remove(books.facts, of(the(books, S.CONFIRMED).order_id))


def revenue_was_counted_twice(books: Books) -> None:
    change(books.sums, lambda row: row.what == "revenue (minor units)", kept=999_999)


TAMPERINGS: Tamperings = {
    "reports_know_each_order": [
        report_has_another_total,
        report_missed_a_refund,
        report_missed_a_confirmation,
        report_does_not_know_an_order,
    ],
    "report_sums_add_up": [revenue_was_counted_twice],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(reports, TAMPERINGS)

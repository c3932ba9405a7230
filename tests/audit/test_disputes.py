"""Refunds and disputes: what the provider says and we do not, and what nobody has put on the list of what is owed, is seen."""

import pytest

from audit.books import Books, DebtRow, DisputeRow, RefundRow
from audit.rules import disputes, judge
from contracts.ids import payment_reference
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases
from tests.audit.shop import EARLIER, NOW, add, every_kind, the


def reference(books: Books, status: S = S.COMPLETED) -> str:
    return payment_reference(the(books, status).order_id, 1)


def provider_refunded_by_hand(books: Books) -> None:
    add(books.provider_refunds, RefundRow(reference(books), "re_1", "succeeded", 100, "USD", EARLIER))


def our_refund_never_came_there(books: Books) -> None:
    add(books.refunds, RefundRow(reference(books), "re_1", "SUCCEEDED", 100, "USD", EARLIER, "line-1"))


def a_refund_failed_there(books: Books) -> None:
    our_refund_never_came_there(books)
    add(books.provider_refunds, RefundRow(reference(books), "re_1", "failed", 100, "USD", EARLIER))


def provider_has_a_dispute_that_we_do_not_know(books: Books) -> None:
    add(books.provider_disputes, DisputeRow(reference(books), "dp_1", "open", 100, "USD", EARLIER))


def a_dispute_was_decided_there(books: Books) -> None:
    add(books.disputes, DisputeRow(reference(books), "dp_1", "open", 100, "USD", EARLIER))
    add(books.provider_disputes, DisputeRow(reference(books), "dp_1", "lost", 100, "USD", EARLIER))


def a_failed_refund_is_on_no_list(books: Books) -> None:
    add(books.refunds, RefundRow(reference(books), None, "FAILED", 100, "USD", EARLIER, "line-1", "charge_disputed"))


def a_lost_dispute_is_on_no_list(books: Books) -> None:
    for rows in (books.disputes, books.provider_disputes):
        add(rows, DisputeRow(reference(books), "dp_1", "lost", 100, "USD", EARLIER))


TAMPERINGS: Tamperings = {
    "refunds_agree": [provider_refunded_by_hand, our_refund_never_came_there, a_refund_failed_there],
    "disputes_agree": [provider_has_a_dispute_that_we_do_not_know, a_dispute_was_decided_there],
    "what_failed_is_owed": [a_failed_refund_is_on_no_list, a_lost_dispute_is_on_no_list],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(disputes, TAMPERINGS)


def test_what_went_wrong_and_is_listed_is_no_violation() -> None:
    books = every_kind()
    a_failed_refund_is_on_no_list(books)
    a_lost_dispute_is_on_no_list(books)
    add(books.debts, DebtRow("failed_refund", reference(books), "line-1"))
    add(books.debts, DebtRow("lost_dispute", reference(books), "dp_1"))
    assert not judge(books).violations


def test_news_may_be_on_its_way() -> None:
    books = every_kind()
    add(books.provider_disputes, DisputeRow(reference(books), "dp_1", "open", 100, "USD", NOW))
    assert not judge(books).violations

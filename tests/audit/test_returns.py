"""Returns: tampering with what they gave back is seen."""

from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from audit.books import Books, ReturnFactRow, ReturnRefundRow, ReturnRow
from audit.rules import returns
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases, found
from tests.audit.shop import EARLIER, add, change, every_kind, of, remove


def returned(books: Books) -> UUID:
    return books.returns[0].order_id


def record_says_less(books: Books) -> None:
    change(books.returns, of(returned(books)), refunded_minor=499)


def refund_is_missing(books: Books) -> None:
    change(books.return_refunds, of(returned(books)), told=0)


def more_went_back_than_it_is_worth(books: Books) -> None:
    change(books.returns, of(returned(books)), value=None)


def a_rejected_return_gave_back(books: Books) -> None:
    change(books.returns, of(returned(books)), status="REJECTED", refunded_minor=0)


def nobody_returned_it(books: Books) -> None:
    change(books.return_refunds, of(returned(books)), key="return-2")


def analytics_lacks_it(books: Books) -> None:
    remove(books.return_facts, of(returned(books)))


def analytics_says_more(books: Books) -> None:
    change(books.return_facts, of(returned(books)), refunded_minor=501)


TAMPERINGS: Tamperings = {
    "returns_gave_back": [
        record_says_less,
        refund_is_missing,
        more_went_back_than_it_is_worth,
        a_rejected_return_gave_back,
    ],
    "return_refunds_have_returns": [nobody_returned_it],
    "reports_know_each_return": [analytics_lacks_it, analytics_says_more],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(returns, TAMPERINGS)


def test_what_returns_gave_back_is_owed_no_more() -> None:
    """Money that left without a return is missed, and what a return gave back is not."""
    books = every_kind()
    assert not found(books, "money_in_our_ledger")
    change(books.return_refunds, of(returned(books)), moved=0)
    assert found(books, "money_in_our_ledger")
    assert found(books, "refund_is_told")


def test_credit_goes_back_from_the_payment_that_holds_it() -> None:
    books = every_kind()
    replacement = uuid4()
    of_credit = ReturnRow(replacement, 2, "return", "COMPLETED", None, None, EARLIER, "USD", Decimal(3), 300, returned(books))
    add(books.returns, of_credit)
    add(books.return_facts, ReturnFactRow(replacement, 2, "USD", 300))
    key = f"return-2-of-{replacement.hex[:8]}"
    add(books.return_refunds, ReturnRefundRow(returned(books), key, 300, 0))
    assert not found(books, "returns_gave_back")
    assert not found(books, "return_refunds_have_returns")
    remove(books.return_refunds, lambda row: row.key == key)
    assert found(books, "returns_gave_back")

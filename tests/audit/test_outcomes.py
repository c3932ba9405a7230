"""Outcomes: who tells something else than the others is found out."""

import pytest

from audit.books import Books
from audit.rules import judge, outcomes
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases, found
from tests.audit.shop import change, every_kind, of, the

DECLINED = "payment_declined"


def client_was_never_told(books: Books) -> None:
    change(books.orders, of(the(books, S.CONFIRMED).order_id), outcome_status=None)


def client_was_told_another_reason(books: Books) -> None:
    change(books.orders, of(the(books, S.CANCELLED).order_id), outcome_code="reservation_released")


def client_was_refused_what_was_then_confirmed(books: Books) -> None:
    change(books.orders, of(the(books, S.CONFIRMED).order_id), outcome_status="CANCELLED", outcome_code=DECLINED)


def client_was_refused_what_had_been_confirmed(books: Books) -> None:
    order = the(books, S.CANCELLED, refunded=True)
    change(books.orders, of(order.order_id), outcome_status="CANCELLED", outcome_code=order.code)


def client_was_told_of_a_confirmation_that_never_was(books: Books) -> None:
    change(books.orders, of(the(books, S.CANCELLED).order_id), outcome_status="CONFIRMED", outcome_code=None)


def client_was_told_nothing_definite(books: Books) -> None:
    change(books.orders, of(the(books, S.CONFIRMED).order_id), outcome_status="RESERVED")


def workflow_ended_otherwise(books: Books) -> None:
    change(books.workflows, of(the(books, S.COMPLETED).order_id), result="CANCELLED")


def workflow_ended_for_another_reason(books: Books) -> None:
    change(books.workflows, of(the(books, S.CANCELLED).order_id), result_code="reservation_released")


def workflow_is_listed_otherwise(books: Books) -> None:
    change(books.workflows, of(the(books, S.CONFIRMED).order_id), listed_as="SHIPPED")


def workflow_is_listed_for_another_reason(books: Books) -> None:
    change(books.workflows, of(the(books, S.CANCELLED).order_id), failure_reason="reservation_released")


def workflow_is_listed_as_failed_and_is_not(books: Books) -> None:
    change(books.workflows, of(the(books, S.COMPLETED).order_id), failure_reason=DECLINED)


def analytics_missed_a_cancellation(books: Books) -> None:
    change(books.facts, of(the(books, S.CANCELLED).order_id), is_cancelled=False)


def analytics_missed_a_refund(books: Books) -> None:
    change(books.facts, of(the(books, S.REFUNDED).order_id), is_refunded=False)


def analytics_counts_it_twice(books: Books) -> None:
    change(books.facts, of(the(books, S.COMPLETED).order_id), is_cancelled=True)


def analytics_knows_another_reason(books: Books) -> None:
    change(books.facts, of(the(books, S.CANCELLED).order_id), cancel_code="reservation_released")


TAMPERINGS: Tamperings = {
    "client_was_told_the_truth": [
        client_was_never_told,
        client_was_told_another_reason,
        client_was_refused_what_was_then_confirmed,
        client_was_refused_what_had_been_confirmed,
        client_was_told_of_a_confirmation_that_never_was,
        client_was_told_nothing_definite,
    ],
    "workflow_tells_the_same": [
        workflow_ended_otherwise,
        workflow_ended_for_another_reason,
        workflow_is_listed_otherwise,
        workflow_is_listed_for_another_reason,
        workflow_is_listed_as_failed_and_is_not,
    ],
    "analytics_tells_the_same": [
        analytics_missed_a_cancellation,
        analytics_missed_a_refund,
        analytics_counts_it_twice,
        analytics_knows_another_reason,
    ],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(outcomes, TAMPERINGS)


@pytest.mark.parametrize("teller", ["client", "row", "workflow result", "search attributes", "analytics"])
def test_s1_whoever_of_the_five_tells_another_reason_is_found_out(teller: str) -> None:
    """A worker that died in the wrong moment made an order that was declined end as one whose reservation was released."""
    books = every_kind()
    order_id = next(order.order_id for order in books.orders if order.code == DECLINED)
    wrong = "reservation_released"
    match teller:
        case "client":
            change(books.orders, of(order_id), outcome_code=wrong)
        case "row":
            change(books.orders, of(order_id), code=wrong)
        case "workflow result":
            change(books.workflows, of(order_id), result_code=wrong)
        case "search attributes":
            change(books.workflows, of(order_id), failure_reason=wrong)
        case _:
            change(books.facts, of(order_id), cancel_code=wrong)
    violations = judge(books).violations
    assert {violation.order_id for violation in violations} == {order_id}
    assert all({DECLINED, wrong} <= {*f"{each.expected} {each.found}".split()} for each in violations)


def test_an_order_that_is_held_has_no_outcome_yet() -> None:
    books = every_kind()
    assert the(books, S.IN_REVIEW).outcome_status is None
    assert not judge(books).violations


def test_a_result_that_was_not_read_is_not_compared() -> None:
    books = every_kind()
    change(books.workflows, of(the(books, S.COMPLETED).order_id), result=None, result_code=None)
    assert not found(books, "workflow_tells_the_same")

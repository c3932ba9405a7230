"""Money: tampering with amounts, charges and ledgers is seen."""

import json
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from audit.books import Books, ChargeRow, PaymentRow
from audit.rules import judge, money
from contracts.ids import payment_reference
from contracts.orders import OrderStatus as S
from contracts.parcels import Trouble
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases, found
from tests.audit.shop import EARLIER, NOW, TOTAL, add, by_reference, change, every_kind, of, remove, the


def our_capture_is_missing(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), captured_moved=0)


def our_refund_is_missing(books: Books) -> None:
    change(books.payments, of(the(books, S.CANCELLED, refunded=True).order_id), refunded_moved=0)


def our_refund_of_a_lost_parcel_is_missing(books: Books) -> None:
    change(books.payments, of(the(books, S.REFUNDED).order_id), refunded_moved=0)


def we_gave_back_what_is_still_owed(books: Books) -> None:
    change(books.payments, of(the(books, S.UNDELIVERED).order_id), refunded_moved=TOTAL)


def more_is_held_than_was_taken(books: Books) -> None:
    change(
        books.payments, of(the(books, S.COMPLETED).order_id), amount=2 * TOTAL, authorized=2 * TOTAL, authorized_moved=2 * TOTAL
    )


def our_payment_is_in_euros(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), currency="EUR")


def provider_took_a_cent_more(books: Books) -> None:
    change(books.charges, by_reference(the(books, S.COMPLETED).order_id), captured=TOTAL + 1)


def provider_never_refunded(books: Books) -> None:
    order_id = the(books, S.CANCELLED, refunded=True).order_id
    change(books.charges, by_reference(order_id), status="captured", refunded=0)


def provider_took_euros(books: Books) -> None:
    change(books.charges, by_reference(the(books, S.SHIPPED).order_id), currency="EUR")


def provider_charged_nobody(books: Books) -> None:
    add(books.charges, charge(uuid4()))


def provider_has_a_foreign_reference(books: Books) -> None:
    add(books.charges, charge(uuid4())._replace(reference="invoice 7"))


def provider_charged_the_same_reference_twice(books: Books) -> None:
    add(books.charges, charge(the(books, S.CONFIRMED).order_id))


def provider_charged_a_second_attempt(books: Books) -> None:
    add(books.charges, charge(the(books, S.CONFIRMED).order_id, attempt=2))


def we_paid_one_attempt_twice(books: Books) -> None:
    add(books.payments, books.payments[0])


def our_reference_is_another_orders(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), reference=payment_reference(uuid4(), 1))


def provider_forgot_a_charge(books: Books) -> None:
    remove(books.charges, by_reference(the(books, S.CONFIRMED).order_id))


def we_forgot_a_payment(books: Books) -> None:
    remove(books.payments, of(the(books, S.CONFIRMED).order_id))


def provider_says_voided(books: Books) -> None:
    change(books.charges, by_reference(the(books, S.IN_REVIEW).order_id), status="voided")


def provider_id_differs(books: Books) -> None:
    change(books.charges, by_reference(the(books, S.CONFIRMED).order_id), provider_id="ch_other")


def we_refunded_more_than_we_took(books: Books) -> None:
    change(books.payments, of(the(books, S.CANCELLED, refunded=True).order_id), captured_moved=TOTAL - 1)


def provider_refunded_more_than_it_took(books: Books) -> None:
    change(books.charges, by_reference(the(books, S.CANCELLED, refunded=True).order_id), refunded=TOTAL + 1)


def payment_says_refunded_without_a_movement(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), status="REFUNDED", refunded=TOTAL)


def payment_says_it_took_less(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), captured=TOTAL - 1)


def movement_in_another_currency(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), other_currency=1)


def ledger_lost_an_entry(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), ledger_provider=0)


def ledger_does_not_balance(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), unbalanced=1)


def nobody_knows_what_became_of_a_refund(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), unanswered=1)


def hold_was_let_go_and_nobody_said_so(books: Books) -> None:
    change(books.payments, of(the(books, S.IN_REVIEW).order_id), voided_moved=TOTAL)


def order_promises_a_refund(books: Books) -> None:
    change(books.orders, of(the(books, S.CANCELLED).order_id), refunded_minor=TOTAL)


def total_is_not_the_lines(books: Books) -> None:
    change(books.orders, of(the(books, S.IN_REVIEW).order_id), lines_total=Decimal("12.51"))


def goods_are_not_at_their_prices(books: Books) -> None:
    change(books.orders, of(the(books, S.CONFIRMED).order_id), lines_total=Decimal("12.51"))


def charges_are_not_the_shares_of_the_lines(books: Books) -> None:
    order = the(books, S.CONFIRMED)
    change(books.orders, of(order.order_id), amounts=(*order.amounts[:2], 1, *order.amounts[3:]))


def total_is_not_the_charges(books: Books) -> None:
    order = the(books, S.CONFIRMED)
    assert order.charges
    change(books.orders, of(order.order_id), charges=(*order.charges[:4], Decimal("12.51")), amounts=(*order.amounts[:4], 1251))


TAMPERINGS: Tamperings = {
    "money_in_our_ledger": [
        our_capture_is_missing,
        our_refund_is_missing,
        our_refund_of_a_lost_parcel_is_missing,
        we_gave_back_what_is_still_owed,
        our_payment_is_in_euros,
    ],
    "money_at_the_provider": [provider_took_a_cent_more, provider_never_refunded, provider_took_euros],
    "charge_has_order": [provider_charged_nobody, provider_has_a_foreign_reference],
    "one_charge": [
        provider_charged_the_same_reference_twice,
        provider_charged_a_second_attempt,
        we_paid_one_attempt_twice,
        our_reference_is_another_orders,
    ],
    "ledgers_agree": [
        provider_forgot_a_charge,
        we_forgot_a_payment,
        provider_says_voided,
        provider_id_differs,
        provider_took_a_cent_more,
        provider_never_refunded,
    ],
    "refunds_within_captures": [we_refunded_more_than_we_took, provider_refunded_more_than_it_took],
    "payments_add_up": [
        payment_says_refunded_without_a_movement,
        payment_says_it_took_less,
        movement_in_another_currency,
        ledger_lost_an_entry,
        ledger_does_not_balance,
        hold_was_let_go_and_nobody_said_so,
    ],
    "movements_are_answered": [nobody_knows_what_became_of_a_refund],
    "hold_has_order": [more_is_held_than_was_taken],
    "refund_is_told": [order_promises_a_refund],
    "total_is_the_lines": [
        total_is_not_the_lines,
        goods_are_not_at_their_prices,
        charges_are_not_the_shares_of_the_lines,
        total_is_not_the_charges,
    ],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(money, TAMPERINGS)


def test_a_violation_names_the_order_and_both_values() -> None:
    books = every_kind()
    order = the(books, S.CONFIRMED)
    change(books.charges, by_reference(order.order_id), captured=0, status="authorized")
    violation = next(each for each in judge(books).violations if each.rule == "money_at_the_provider")
    assert (violation.order_id, violation.subject) == (order.order_id, str(order.order_id))
    assert (violation.expected, violation.found) == ("12.50 USD", "0.00 USD")


def test_a_double_charge_is_seen_also_while_the_order_moves() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    change(books.orders, of(order_id), updated_at=NOW)
    add(books.charges, charge(order_id, attempt=2))
    assert found(books, "one_charge")


def test_while_an_order_moves_the_provider_may_know_more_than_we_and_never_less() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    change(books.orders, of(order_id), updated_at=NOW)
    nothing_yet = {"authorized_moved": 0, "captured_moved": 0, "authorized": 0, "captured": 0, "ledger_provider": 0}
    change(books.payments, of(order_id), status="INITIATED", **nothing_yet)
    assert not judge(books).violations
    change(books.payments, of(order_id), status="CAPTURED", captured_moved=TOTAL)
    change(books.charges, by_reference(order_id), status="authorized", captured=0)
    assert found(books, "ledgers_agree")


def test_undos_that_overtook_their_steps_leave_rows_that_nobody_else_knows() -> None:
    books = every_kind()
    order_id = the(books, S.CANCELLED).order_id
    tombstone = PaymentRow(order_id, 1, payment_reference(order_id, 1), "VOIDED", "USD", 0, 0, None, True, 0, 0, 0, 0, 0)
    add(books.payments, tombstone)
    assert not judge(books).violations


def test_a_charge_that_was_reversed_before_it_came_is_void() -> None:
    books = every_kind()
    order_id = the(books, S.CANCELLED).order_id
    reference = payment_reference(order_id, 1)
    asked = PaymentRow(order_id, 1, reference, "VOIDED", "USD", TOTAL, 0, None, False, 0, 0, 0, 0, 0)
    add(books.payments, asked)
    add(books.charges, ChargeRow(reference, None, "reversed", None, 0, 0, 0, EARLIER))
    assert not judge(books).violations


def test_a_second_card_after_a_declined_one_is_one_charge() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    first = payment_reference(order_id, 1)
    for rows in (books.payments, books.charges):
        change(rows, lambda row: row.reference == first, reference=payment_reference(order_id, 2))
    change(books.payments, of(order_id), attempt=2)
    declined = PaymentRow(order_id, 1, first, "DECLINED", "USD", TOTAL, 0, None, False, 0, 0, 0, 0, 0)
    add(books.payments, declined)
    add(books.charges, ChargeRow(first, "ch_1", "declined", "USD", TOTAL, 0, 0, EARLIER))
    assert not judge(books).violations


def test_an_undo_that_was_given_up_by_hand_is_named_with_what_it_left_open() -> None:
    books = every_kind()
    order_id = the(books, S.CANCELLED, refunded=True).order_id
    change(books.orders, of(order_id), refunded_minor=0)
    change(books.facts, of(order_id), refunded_minor=0)
    change(books.payments, of(order_id), status="CAPTURED", refunded=0, refunded_moved=0, ledger_provider=TOTAL)
    change(books.charges, by_reference(order_id), status="captured", refunded=0)
    change(books.workflows, of(order_id), given_up=("Refund payment: given up by ann: the charge is disputed",))
    violations = judge(books).violations
    assert {violation.rule for violation in violations} == {"money_in_our_ledger", "money_at_the_provider"}
    assert all("given up by ann: the charge is disputed" in violation.found for violation in violations)
    assert all(violation.found.startswith("12.50 USD") for violation in violations)


@pytest.mark.parametrize("trouble", list(Trouble))
def test_the_total_is_owed_while_somebody_decides_about_the_parcel(trouble: Trouble) -> None:
    books = every_kind()
    order_id = the(books, S.UNDELIVERED, trouble=trouble).order_id
    change(books.charges, by_reference(order_id), captured=TOTAL - 1)
    violation = next(each for each in found(books, "money_at_the_provider"))
    assert (violation.order_id, violation.expected, violation.found) == (order_id, "12.50 USD", "12.49 USD")


@pytest.mark.parametrize(
    ("status", "trouble", "owed"),
    [
        (S.CONFIRMED, None, 0),
        (S.SHIPPED, None, TOTAL),
        (S.UNDELIVERED, Trouble.NOT_PICKED_UP, 0),
        (S.UNDELIVERED, Trouble.LOST, TOTAL),
        (S.COMPLETED, None, TOTAL),
    ],
)
def test_where_money_is_taken_at_dispatch_what_has_left_is_owed(status: S, trouble: Trouble | None, owed: int) -> None:
    books = every_kind()
    order_id = the(books, status, trouble=trouble).order_id if trouble else the(books, status).order_id
    change(books.orders, of(order_id), at_dispatch=True)
    assert bool(found(books, "money_in_our_ledger")) == (owed != TOTAL)
    held = {"captured_moved": 0, "captured": 0, "ledger_provider": 0, "ledger_held": TOTAL, "status": "AUTHORIZED"}
    change(books.payments, of(order_id), **held)
    change(books.charges, by_reference(order_id), captured=0, status="authorized")
    assert bool(found(books, "money_in_our_ledger")) == (owed != 0)


def test_of_parcels_those_that_have_left_are_owed_at_dispatch() -> None:
    books = every_kind()
    order = the(books, S.CONFIRMED)
    price = {"amount": f"{TOTAL / 200:.2f}", "currency": "USD"}
    lines = json.dumps([{"line_id": 1, "product_id": "milk", "name": "Milk", "quantity": 2, "unit_price": price}])
    parcels = [
        {"parcel": 1, "status": "SHIPPED", "lines": [{"line_id": 1, "product_id": "milk", "quantity": 1}]},
        {"parcel": 2, "status": "BOOKED", "lines": [{"line_id": 1, "product_id": "milk", "quantity": 1, "first": 1}]},
    ]
    told = order._replace(told_parcels=json.dumps(parcels), priced_lines=lines)
    assert (told.owed_minor, told._replace(at_dispatch=True).owed_minor) == (TOTAL, TOTAL // 2)


def test_what_another_card_is_waited_for_is_no_difference_yet() -> None:
    books = every_kind()
    order_id = the(books, S.SHIPPED).order_id
    change(books.orders, of(order_id), at_dispatch=True, is_due=True)
    nothing = {"captured_moved": 0, "captured": 0, "authorized_moved": 0, "authorized": 0, "ledger_provider": 0}
    change(books.payments, of(order_id), status="VOIDED", **nothing)
    change(books.charges, by_reference(order_id), captured=0, status="voided")
    assert not judge(books).violations


def charge(order_id: UUID, attempt: int = 1) -> ChargeRow:
    return ChargeRow(payment_reference(order_id, attempt), "ch_2", "captured", "USD", TOTAL, TOTAL, 0, EARLIER)

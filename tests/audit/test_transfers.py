"""Bank transfers: what the bank says and we do not, and what came in and is neither taken nor owed, is seen."""

from datetime import timedelta

import pytest

from audit.bank import rows_in
from audit.books import BankEntryRow, BankOrderRow, BankRow, Books, PaymentRow, TransferRow
from audit.rules import judge, transfers
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamper, Tamperings, assert_complete, cases, found
from tests.audit.shop import EARLIER, NOW, TOTAL, add, change, every_kind, of, remove, the

PAID, BACK = "RF18539007547034", "RF45G72UUR"
"""References of an order that was paid, and of one that was and has its money back."""
ORDER = "e2e-1"


def by_transfer() -> Books:
    """Right books, with two orders that were paid by transfer. For one a coin too much came in, and something for nothing."""
    books = every_kind()
    books.transfers, books.bank_entries, books.bank_orders, books.bank = [], [], [], []
    for order, reference in ((the(books, S.COMPLETED), PAID), (the(books, S.CANCELLED, refunded=True), BACK)):
        payment = payment_of(books, order.order_id)
        change(books.payments, of(order.order_id), provider_id=reference)
        own = payment.reference
        books.charges = [row for row in books.charges if row.reference != own]
        books.provider_refunds = [row for row in books.provider_refunds if row.reference != own]
        gone = TOTAL if reference == BACK else 0
        add(books.transfers, TransferRow(reference, TOTAL, gone, True, 0, False))
        came_in(books, f"in-{reference}", TOTAL + (not gone), TOTAL, reference)
    came_in(books, "in-3", 500, 0, None)
    add(books.bank_orders, BankOrderRow(ORDER, BACK, "SUCCEEDED", TOTAL, "USD", EARLIER))
    add(books.bank, BankRow("out-1", False, "12.50", "USD", ORDER, False, EARLIER))
    add(books.bank, BankRow("out-2", False, "99.00", "USD", "rent", False, EARLIER))
    return books


def payment_of(books: Books, order_id: object) -> PaymentRow:
    return next(row for row in books.payments if row.order_id == order_id)


def came_in(books: Books, name: str, minor: int, taken: int, reference: str | None) -> None:
    add(books.bank, BankRow(name, True, f"{minor / 100:.2f}", "USD", None, False, EARLIER))
    add(books.bank_entries, BankEntryRow(name, minor, "USD", reference, None, taken, minor - taken))


def we_lost_an_entry(books: Books) -> None:
    remove(books.bank_entries, lambda row: row.entry_id == "in-3")


def we_made_one_up(books: Books) -> None:
    remove(books.bank, lambda row: row.entry_id == "in-3")


def we_booked_more_than_came(books: Books) -> None:
    change(books.bank_entries, lambda row: row.entry_id == "in-3", amount=501, owed=501)


def we_booked_another_currency(books: Books) -> None:
    change(books.bank_entries, lambda row: row.entry_id == "in-3", currency="EUR")


def the_rest_is_on_no_list(books: Books) -> None:
    change(books.bank_entries, lambda row: row.entry_id == "in-3", owed=0)


def what_came_before_the_undo_is_on_no_list(books: Books) -> None:
    add(books.transfers, TransferRow("RF6518K5", 100, 0, False, 0, True))
    came_in(books, "in-4", 100, 100, "RF6518K5")


def a_transfer_has_received_more_than_its_entries(books: Books) -> None:
    change(books.transfers, lambda row: row.reference == PAID, received=TOTAL + 1)


def a_payment_took_what_never_came(books: Books) -> None:
    change(books.transfers, lambda row: row.reference == PAID, is_captured=False)


def a_payment_does_not_know_what_goes_back(books: Books) -> None:
    change(books.transfers, lambda row: row.reference == PAID, refunded=1)


def a_payment_has_no_transfer(books: Books) -> None:
    remove(books.transfers, lambda row: row.reference == PAID)
    remove(books.bank_entries, lambda row: row.reference == PAID)


def the_bank_paid_twice(books: Books) -> None:
    add(books.bank, BankRow("out-3", False, "12.50", "USD", ORDER, False, EARLIER))


def the_bank_never_paid(books: Books) -> None:
    remove(books.bank, lambda row: row.entry_id == "out-1")


def the_bank_paid_less(books: Books) -> None:
    change(books.bank, lambda row: row.entry_id == "out-1", amount="12.49")


def it_came_back_and_we_do_not_know(books: Books) -> None:
    add(books.bank, BankRow("in-5", True, "12.50", "USD", ORDER, True, EARLIER))


def the_bank_paid_what_we_think_was_refused(books: Books) -> None:
    change(books.bank_orders, lambda row: row.end_to_end_id == ORDER, state="FAILED")


def the_bank_paid_and_we_still_wait(books: Books) -> None:
    change(books.bank_orders, lambda row: row.end_to_end_id == ORDER, state="SENT", settled_at=None)


TAMPERINGS: Tamperings = {
    "credits_agree": [we_lost_an_entry, we_made_one_up, we_booked_more_than_came, we_booked_another_currency],
    "rest_is_owed": [the_rest_is_on_no_list, what_came_before_the_undo_is_on_no_list],
    "transfers_add_up": [
        a_transfer_has_received_more_than_its_entries,
        a_payment_took_what_never_came,
        a_payment_does_not_know_what_goes_back,
        a_payment_has_no_transfer,
    ],
    "debits_agree": [
        the_bank_paid_twice,
        the_bank_never_paid,
        the_bank_paid_less,
        it_came_back_and_we_do_not_know,
        the_bank_paid_what_we_think_was_refused,
        the_bank_paid_and_we_still_wait,
    ],
}


def test_right_books_are_right() -> None:
    assert judge(by_transfer()).violations == []


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    books = by_transfer()
    tamper(books)
    violations = found(books, rule)
    assert violations
    assert all(violation.expected != violation.found for violation in violations)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(transfers, TAMPERINGS)


def test_what_the_bank_has_just_booked_may_be_on_its_way() -> None:
    books = by_transfer()
    add(books.bank, BankRow("in-9", True, "1.00", "USD", None, False, NOW - timedelta(milliseconds=100)))
    assert judge(books).violations == []


def test_a_statement_is_of_the_shops_account() -> None:
    document = b"""<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><Stmt>
        <Acct><Id><IBAN>DE02120300000000202051</IBAN></Id></Acct></Stmt></BkToCstmrStmt></Document>"""
    assert rows_in(document, "DE02120300000000202051") == []
    with pytest.raises(ValueError, match="another account"):
        rows_in(document, "DE89370400440532013000")
    with pytest.raises(ValueError, match=r"camt\.053"):
        rows_in(document.replace(b"camt.053", b"camt.052"), "DE02120300000000202051")

"""Mails: a confirmation too many, too few or lost is seen."""

from uuid import uuid4

import pytest

from audit.books import Books, DeliveryRow, MailRow
from audit.rules import judge, mails
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases, confirmation
from tests.audit.shop import EARLIER, add, change, every_kind, of, remove, the


def no_confirmation(books: Books) -> None:
    order_id = the(books, S.CONFIRMED).order_id
    remove(books.notifications, of(order_id))


def confirmation_failed(books: Books) -> None:
    change(books.notifications, of(the(books, S.CONFIRMED).order_id), status="FAILED")


def two_confirmations(books: Books) -> None:
    notification = confirmation(the(books, S.CONFIRMED).order_id)
    add(books.notifications, notification)


def confirmation_of_a_refused_order(books: Books) -> None:
    add(books.notifications, confirmation(the(books, S.CANCELLED).order_id))


def mail_server_lost_a_mail(books: Books) -> None:
    remove(books.mails, lambda mail: mail.number == 2)


def mail_server_has_a_foreign_mail(books: Books) -> None:
    add(books.mails, MailRow(99, f"<{uuid4()}@shop.example>", EARLIER))


def customer_got_two_confirmations(books: Books) -> None:
    second = confirmation(the(books, S.CONFIRMED).order_id)
    add(books.notifications, second)
    add(books.deliveries, DeliveryRow(uuid4(), second.notification_id, "email", "SENT", 1, 1, EARLIER))
    add(books.mails, MailRow(99, f"<{books.deliveries[-1].delivery_id}@shop.example>", EARLIER))


def an_attempt_is_missing(books: Books) -> None:
    change(books.deliveries, lambda row: row is books.deliveries[0], attempts=2)


def sent_without_an_attempt(books: Books) -> None:
    change(books.deliveries, lambda row: row is books.deliveries[0], attempts=0, tries=0)


def a_delivery_of_nothing(books: Books) -> None:
    add(books.deliveries, DeliveryRow(uuid4(), uuid4(), "sms", "PENDING", 0, 0, None))


TAMPERINGS: Tamperings = {
    "one_confirmation": [no_confirmation, confirmation_failed, two_confirmations, confirmation_of_a_refused_order],
    "attempts_are_written_down": [an_attempt_is_missing, sent_without_an_attempt, a_delivery_of_nothing],
    "mails_agree": [mail_server_lost_a_mail, mail_server_has_a_foreign_mail, customer_got_two_confirmations],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(mails, TAMPERINGS)


def test_the_same_mail_may_come_twice() -> None:
    books = every_kind()
    add(books.mails, books.mails[0]._replace(number=99))
    judgement = judge(books)
    assert not judgement.violations
    assert next(result.note for result in judgement.results if result.code == "mails_agree") == "1 came more than once"


def test_a_mail_server_that_was_emptied_is_not_asked_for_what_came_before() -> None:
    books = every_kind()
    last = books.mails[-1]
    remove(books.mails, lambda mail: mail is not last)
    assert not judge(books).violations

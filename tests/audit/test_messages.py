"""SMS and push messages: one that is lost, foreign, sent too often, or called what it is not, is seen."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from audit.books import Books, DeliveryRow, MessageRow
from audit.rules import judge, messages
from contracts.ids import sample_id
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases
from tests.audit.shop import EARLIER, NOW, add, change, every_kind, remove, uuid7


def first(books: Books, channel: str) -> DeliveryRow:
    return next(row for row in books.deliveries if row.channel == channel)


def this(delivery: DeliveryRow) -> Callable[[Any], bool]:
    return lambda row: bool(row.delivery_id == delivery.delivery_id)


def its_message(delivery: DeliveryRow) -> Callable[[Any], bool]:
    return lambda row: row.message_id in (str(delivery.delivery_id), delivery.delivery_id.hex)


def provider_lost_an_sms(books: Books) -> None:
    remove(books.sms, its_message(first(books, "sms")))


def provider_has_a_foreign_sms(books: Books) -> None:
    add(books.sms, MessageRow(f"SM{uuid4().hex}", str(uuid7(EARLIER)), "arrived", EARLIER, EARLIER))


def provider_knows_the_sms_by_another_name(books: Books) -> None:
    change(books.deliveries, this(first(books, "sms")), provider_id=f"SM{uuid4().hex}")


def sms_went_twice_by_one_attempt(books: Books) -> None:
    again = EARLIER + timedelta(seconds=5)
    sms = next(row for row in books.sms if its_message(first(books, "sms"))(row))
    add(books.sms, sms._replace(provider_id=f"SM{uuid4().hex}", received_at=again, changed_at=again))


def sms_went_that_was_not_to_be_sent(books: Books) -> None:
    change(books.deliveries, this(first(books, "sms")), status="SUPPRESSED", attempts=0, tries=0, sent_at=None, provider_id=None)


def sms_is_called_delivered_that_failed(books: Books) -> None:
    change(books.sms, its_message(first(books, "sms")), status="failed")


def sms_is_called_bounced_that_arrived(books: Books) -> None:
    change(books.deliveries, this(first(books, "sms")), status="BOUNCED")


def push_service_lost_a_message(books: Books) -> None:
    remove(books.pushed, its_message(first(books, "push")))


def push_service_has_a_foreign_message(books: Books) -> None:
    add(books.pushed, MessageRow(uuid4().hex, "", "on its way", EARLIER, EARLIER))


def push_message_went_twice_by_one_attempt(books: Books) -> None:
    add(books.pushed, books.pushed[0]._replace(provider_id=uuid4().hex))


TAMPERINGS: Tamperings = {
    "sms_agree": [
        provider_lost_an_sms,
        provider_has_a_foreign_sms,
        provider_knows_the_sms_by_another_name,
        sms_went_twice_by_one_attempt,
        sms_went_that_was_not_to_be_sent,
    ],
    "pushed_agree": [push_service_lost_a_message, push_service_has_a_foreign_message, push_message_went_twice_by_one_attempt],
    "sms_arrived": [sms_is_called_delivered_that_failed, sms_is_called_bounced_that_arrived],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(messages, TAMPERINGS)


def test_what_a_killed_process_had_sent_comes_twice() -> None:
    books = every_kind()
    add(books.pushed, books.pushed[0]._replace(provider_id=uuid4().hex, received_at=EARLIER + timedelta(minutes=2)))
    judgement = judge(books)
    assert not judgement.violations
    assert next(result.note for result in judgement.results if result.code == "pushed_agree") == "1 came more than once"


def test_each_attempt_may_have_been_taken() -> None:
    books = every_kind()
    push_message_went_twice_by_one_attempt(books)
    change(books.deliveries, this(first(books, "push")), attempts=2, tries=2)
    assert not judge(books).violations


def test_what_was_sent_and_is_not_written_down_yet_is_in_flight() -> None:
    books = every_kind()
    change(books.deliveries, this(first(books, "sms")), status="PENDING", attempts=0, tries=0, sent_at=None, provider_id=None)
    judgement = judge(books)
    assert not judgement.violations
    assert ["not written down" in item.why for item in judgement.in_flight] == [True]


def test_news_that_is_under_way_is_in_flight() -> None:
    books = every_kind()
    change(books.deliveries, this(first(books, "sms")), status="SENT")
    judgement = judge(books)
    assert not judgement.violations
    assert ["nobody has told us" in item.why for item in judgement.in_flight] == [True]


def test_what_changed_a_moment_ago_is_not_judged() -> None:
    books = every_kind()
    change(books.sms, its_message(first(books, "sms")), status="failed", changed_at=NOW)
    add(books.sms, MessageRow(f"SM{uuid4().hex}", str(uuid7(NOW)), "on its way", NOW, NOW))
    assert not judge(books).violations


def test_samples_are_no_deliveries() -> None:
    books = every_kind()
    add(books.sms, MessageRow(f"SM{uuid4().hex}", str(sample_id()), "arrived", EARLIER, EARLIER))
    add(books.pushed, MessageRow(uuid4().hex, sample_id().hex, "on its way", EARLIER, EARLIER))
    add(books.mails, books.mails[-1]._replace(number=99, message_id=f"<{sample_id()}@shop.example>"))
    assert not judge(books).violations

"""Dead letters: one that nobody settled is told, and told once."""

from uuid import uuid4

from audit.books import Books, DeadLetterRow, Source
from audit.rules import dead_letters, judge
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamperings, assert_complete, assert_seen
from tests.audit.shop import EARLIER, every_kind, the, unapply


def analytics_could_not_apply_an_event(books: Books) -> None:
    event = next(each for each in books.events[Source.ORDER] if each.key == str(the(books, S.CONFIRMED).order_id))
    letter = DeadLetterRow(
        Source.ANALYTICS, event.event_id, False, event.type, event.key, event.topic, "ValidationError: total", EARLIER
    )
    books.dead_letters = [letter]
    unapply(books, Source.ANALYTICS, event)


def a_record_was_no_event(books: Books) -> None:
    books.dead_letters = [DeadLetterRow(Source.ORDER, uuid4(), False, None, None, "order-events", "no JSON", EARLIER)]


TAMPERINGS: Tamperings = {"dead_letters_are_settled": [analytics_could_not_apply_an_event, a_record_was_no_event]}


def test_an_open_dead_letter_is_a_violation() -> None:
    for rule, tampers in TAMPERINGS.items():
        for tamper in tampers:
            assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(dead_letters, TAMPERINGS)


def test_an_event_in_a_dead_letter_is_told_once_with_its_order_and_the_error() -> None:
    books = every_kind()
    analytics_could_not_apply_an_event(books)
    (violation,) = judge(books).violations
    assert violation.rule == "dead_letters_are_settled"
    assert violation.order_id == the(books, S.CONFIRMED).order_id
    assert "ValidationError: total" in violation.found


def test_an_event_that_was_put_back_is_in_flight_until_it_is_applied() -> None:
    books = every_kind()
    analytics_could_not_apply_an_event(books)
    books.dead_letters[0] = books.dead_letters[0]._replace(is_replayed=True)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.subject for item in judgement.in_flight] == [str(the(books, S.CONFIRMED).order_id)]

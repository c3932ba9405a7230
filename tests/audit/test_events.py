"""Events: one that was lost, passed over or sent out of turn is seen."""

from datetime import timedelta

import pytest

from audit.books import Books, Source
from audit.rules import events, judge
from contracts.orders import OrderStatus as S
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases, found
from tests.audit.shop import NOW, Shop, change, every_kind, everything, of, remove, the, unapply


def events_were_swapped(books: Books) -> None:
    key = str(the(books, S.COMPLETED).order_id)
    first = next(event for event in books.events[Source.SHIPPING] if event.key == key)
    change(books.events[Source.SHIPPING], lambda event: event is first, offset=first.seq + 1_000)


def an_event_was_passed_over(books: Books) -> None:
    event = books.events[Source.ORDER][0]
    unapply(books, Source.ANALYTICS, event)


def an_event_was_lost(books: Books) -> None:
    events = books.events[Source.ORDER]
    remove(events, lambda event: event is events[0])


TAMPERINGS: Tamperings = {
    "events_keep_their_order": [events_were_swapped],
    "events_are_applied": [an_event_was_passed_over],
    "effects_have_events": [an_event_was_lost],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    # What is not published yet is in flight, until somebody has waited for it.
    assert_complete(events, TAMPERINGS, but=["events_are_published"])


def test_events_on_their_way_are_in_flight_and_so_are_the_reports_on_them() -> None:
    books = every_kind()
    confirmed = the(books, S.CONFIRMED).order_id
    events = books.events[Source.ORDER]
    last = max(position for position, event in enumerate(events) if event.key == str(confirmed))
    unapply(books, Source.ANALYTICS, events[last])
    change(events, lambda event: event is events[last], published_at=None, partition=None, offset=None)
    change(books.facts, of(confirmed), is_confirmed=False)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.subject for item in judgement.in_flight] == ["order outbox"]


def test_an_event_behind_all_that_was_applied_is_on_its_way() -> None:
    books = every_kind()
    last = max(
        (event for event in books.events[Source.ORDER] if event.event_id in books.inboxes[Source.ANALYTICS]),
        key=lambda event: event.seq,
    )
    unapply(books, Source.ANALYTICS, last)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.subject for item in judgement.in_flight] == ["analytics inbox"]


def test_an_event_published_again_is_not_passed_over_by_effects_of_long_ago() -> None:
    books = every_kind()
    event = books.events[Source.ORDER][0]
    unapply(books, Source.ANALYTICS, event)
    change(books.events[Source.ORDER], lambda row: row is event, published_at=NOW)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.subject for item in judgement.in_flight] == ["analytics inbox"]


def test_events_older_than_the_outbox_keeps_them_need_not_be_there() -> None:
    shop = Shop()
    shop.place(S.COMPLETED, at=NOW - timedelta(days=4))
    books = shop.books()
    for producer in (Source.ORDER, Source.SHIPPING):
        remove(books.events[producer], everything)
    assert not found(books, "effects_have_events")

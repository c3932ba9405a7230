"""Each rule is silent over right books and speaks up over wrong ones; what still moves is neither right nor wrong."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.books import NO_RESULT, Books, ChargeRow, MailRow, NotificationRow, ParcelRow, PaymentRow, Source, WorkflowRow
from audit.rules import RULES, judge, unsettled
from audit.verdict import InFlight, Violation
from contracts.ids import payment_reference
from contracts.orders import OrderStatus as S
from tests.audit.shop import EARLIER, NOW, TOTAL, Shop, add, change, every_kind, remove, the, unapply

Tamper = Callable[[Books], None]


def of(order_id: UUID) -> Callable[[Any], bool]:
    """Rows of this order."""
    return lambda row: bool(row.order_id == order_id)


def found(books: Books, rule: str) -> list[Violation]:
    return [violation for violation in judge(books).violations if violation.rule == rule]


# ── One tampering for each way in which a rule can be broken ─────────────────────────────────────────────────────────────


def our_capture_is_missing(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), captured_moved=0)


def our_refund_is_missing(books: Books) -> None:
    change(books.payments, of(the(books, S.CANCELLED, refunded=True).order_id), refunded_moved=0)


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


def payment_says_refunded_without_a_transaction(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), status="REFUNDED", refunded=TOTAL)


def transaction_in_another_currency(books: Books) -> None:
    change(books.payments, of(the(books, S.CONFIRMED).order_id), other_currency=1)


def hold_was_let_go_and_nobody_said_so(books: Books) -> None:
    change(books.payments, of(the(books, S.IN_REVIEW).order_id), voided_moved=TOTAL)


def order_promises_a_refund(books: Books) -> None:
    change(books.orders, of(the(books, S.CANCELLED).order_id), refunded_minor=TOTAL)


def total_is_not_the_lines(books: Books) -> None:
    change(books.orders, of(the(books, S.CONFIRMED).order_id), lines_total=Decimal("12.51"))


def an_order_was_sold_for_a_cent(books: Books) -> None:
    """And every other book says so, too: as when the price that an order is placed with was forged."""
    order_id = the(books, S.CONFIRMED).order_id
    change(books.lines, of(order_id), amount=Decimal("0.01"))


def a_price_was_in_another_currency(books: Books) -> None:
    change(books.prices, everything, currency="EUR")


def a_price_had_been_over_for_long(books: Books) -> None:
    change(books.prices, everything, valid_to=EARLIER - timedelta(minutes=5))


def a_price_came_long_after(books: Books) -> None:
    change(books.prices, everything, valid_from=EARLIER + timedelta(minutes=5))


def a_product_was_never_on_sale(books: Books) -> None:
    remove(books.prices, everything)


def a_unit_vanished(books: Books) -> None:
    change(books.stock, everything, on_hand=books.stock[0].moved - 1)


def movement_without_goods(books: Books) -> None:
    change(books.stock, everything, moved=books.stock[0].moved + 1)


def receipt_was_changed(books: Books) -> None:
    change(books.stock, everything, received=books.stock[0].received + 1)


def reservation_counts_twice(books: Books) -> None:
    change(books.stock, everything, reserved=books.stock[0].promised + 2)


def stock_row_is_gone(books: Books) -> None:
    change(books.stock, everything, on_hand=None, reserved=None)


def sold_what_is_not_there(books: Books) -> None:
    change(books.stock, everything, on_hand=1, reserved=2)


def stock_is_negative(books: Books) -> None:
    change(books.stock, everything, on_hand=-1, reserved=-1)


def cancelled_order_keeps_its_goods(books: Books) -> None:
    change(books.reservations, of(the(books, S.CANCELLED).order_id), status="HELD")


def confirmed_order_lost_its_goods(books: Books) -> None:
    change(books.reservations, of(the(books, S.CONFIRMED).order_id), status="EXPIRED")


def confirmed_orders_goods_expire(books: Books) -> None:
    change(books.reservations, of(the(books, S.CONFIRMED).order_id), expires_at=NOW)


def shipped_goods_are_still_reserved(books: Books) -> None:
    change(books.reservations, of(the(books, S.SHIPPED).order_id), status="HELD")


def other_goods_were_reserved(books: Books) -> None:
    change(books.reservations, of(the(books, S.COMPLETED).order_id), lines="milk x 3")


def nothing_was_reserved(books: Books) -> None:
    remove(books.reservations, of(the(books, S.CONFIRMED).order_id))


def cancelled_order_has_a_live_shipment(books: Books) -> None:
    change(books.shipments, of(the(books, S.CANCELLED, refunded=True).order_id), status="BOOKED")


def shipped_order_has_no_shipment(books: Books) -> None:
    remove(books.shipments, of(the(books, S.SHIPPED).order_id))


def cancelled_orders_parcel_left(books: Books) -> None:
    change(books.parcels, by_reference(the(books, S.CANCELLED, refunded=True).order_id), status="picked_up")


def completed_orders_parcel_never_left(books: Books) -> None:
    change(books.parcels, by_reference(the(books, S.COMPLETED).order_id), status="booked")


def we_say_it_left_and_the_carrier_does_not(books: Books) -> None:
    change(books.shipments, of(the(books, S.CONFIRMED).order_id), status="DISPATCHED")


def tracking_numbers_differ(books: Books) -> None:
    change(books.parcels, by_reference(the(books, S.SHIPPED).order_id), tracking_number="TRKOTHER")


def carrier_has_a_parcel_of_nobody(books: Books) -> None:
    add(books.parcels, ParcelRow(str(uuid4()), "booked", "TRK1", EARLIER))


def carrier_has_two_parcels_of_one_order(books: Books) -> None:
    add(books.parcels, books.parcels[0])


def we_have_two_shipments_of_one_order(books: Books) -> None:
    add(books.shipments, books.shipments[0])


def carrier_forgot_a_cancelled_parcel(books: Books) -> None:
    remove(books.parcels, by_reference(the(books, S.CANCELLED, refunded=True).order_id))


def an_order_was_deleted(books: Books) -> None:
    remove(books.orders, of(the(books, S.CONFIRMED).order_id))


def reservation_for_nobody(books: Books) -> None:
    change(books.reservations, of(the(books, S.CANCELLED).order_id), order_id=uuid4())


def workflow_is_missing(books: Books) -> None:
    remove(books.workflows, of(the(books, S.CONFIRMED).order_id))


def another_workflow_works_on_it(books: Books) -> None:
    change(books.workflows, of(the(books, S.CONFIRMED).order_id), run_id=str(uuid4()))


def workflow_ended_without_an_order(books: Books) -> None:
    add(books.workflows, saga(uuid4(), "COMPLETED"))


def workflow_id_is_no_orders(books: Books) -> None:
    add(books.workflows, saga(uuid4())._replace(order_id=None, workflow_id="order-7"))


def workflow_was_terminated(books: Books) -> None:
    change(books.workflows, of(the(books, S.CONFIRMED).order_id), status="TERMINATED", closed_at=EARLIER)


def workflow_runs_on(books: Books) -> None:
    change(books.workflows, of(the(books, S.COMPLETED).order_id), status="RUNNING", closed_at=None)


def nobody_works_on_a_pending_order(books: Books) -> None:
    change(books.orders, of(the(books, S.COMPLETED).order_id), status="PENDING")


def workflow_failed(books: Books) -> None:
    change(books.workflows, of(the(books, S.CANCELLED).order_id), status="FAILED", result=None)


def workflow_returned_something_else(books: Books) -> None:
    change(books.workflows, of(the(books, S.COMPLETED).order_id), result=NO_RESULT)


def workflow_ended_otherwise(books: Books) -> None:
    change(books.workflows, of(the(books, S.COMPLETED).order_id), result="CANCELLED")


def workflow_is_listed_otherwise(books: Books) -> None:
    change(books.workflows, of(the(books, S.CONFIRMED).order_id), listed_as="SHIPPED")


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


def report_has_another_total(books: Books) -> None:
    change(books.facts, of(the(books, S.CONFIRMED).order_id), total=Decimal("0.99"))


def report_missed_a_cancellation(books: Books) -> None:
    change(books.facts, of(the(books, S.CANCELLED).order_id), is_cancelled=False)


def report_does_not_know_an_order(books: Books) -> None:
    remove(books.facts, of(the(books, S.CONFIRMED).order_id))


def revenue_was_counted_twice(books: Books) -> None:
    change(books.sums, lambda row: row.what == "revenue", kept=Decimal("9999.99"))


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
    add(books.mails, MailRow(99, f"<{second.notification_id}@shop.example>", EARLIER))


TAMPERINGS: dict[str, list[Tamper]] = {
    "money_in_our_ledger": [our_capture_is_missing, our_refund_is_missing, our_payment_is_in_euros],
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
        payment_says_refunded_without_a_transaction,
        transaction_in_another_currency,
        hold_was_let_go_and_nobody_said_so,
    ],
    "refund_is_told": [order_promises_a_refund],
    "total_is_the_lines": [total_is_not_the_lines],
    "price_was_the_catalogues": [
        an_order_was_sold_for_a_cent,
        a_price_was_in_another_currency,
        a_price_had_been_over_for_long,
        a_price_came_long_after,
        a_product_was_never_on_sale,
    ],
    "stock_is_its_movements": [a_unit_vanished, movement_without_goods, stock_row_is_gone],
    "stock_is_received_less_shipped": [a_unit_vanished, receipt_was_changed],
    "reserved_is_the_open_reservations": [reservation_counts_twice, stock_row_is_gone],
    "never_oversold": [sold_what_is_not_there, stock_is_negative],
    "reservation_fits": [
        cancelled_order_keeps_its_goods,
        confirmed_order_lost_its_goods,
        confirmed_orders_goods_expire,
        shipped_goods_are_still_reserved,
        other_goods_were_reserved,
        nothing_was_reserved,
    ],
    "shipment_fits": [cancelled_order_has_a_live_shipment, shipped_order_has_no_shipment],
    "parcel_fits": [cancelled_orders_parcel_left, completed_orders_parcel_never_left],
    "parcels_agree": [
        cancelled_order_has_a_live_shipment,
        cancelled_orders_parcel_left,
        we_say_it_left_and_the_carrier_does_not,
        tracking_numbers_differ,
        carrier_has_a_parcel_of_nobody,
        carrier_has_two_parcels_of_one_order,
        we_have_two_shipments_of_one_order,
        carrier_forgot_a_cancelled_parcel,
    ],
    "nothing_without_an_order": [an_order_was_deleted, reservation_for_nobody, carrier_has_a_parcel_of_nobody],
    "order_has_saga": [workflow_is_missing, another_workflow_works_on_it],
    "saga_has_order": [workflow_ended_without_an_order, workflow_id_is_no_orders],
    "ends_together": [workflow_was_terminated, workflow_runs_on, nobody_works_on_a_pending_order],
    "saga_completes": [workflow_was_terminated, workflow_failed, workflow_returned_something_else],
    "same_status": [workflow_ended_otherwise, workflow_is_listed_otherwise, nobody_works_on_a_pending_order],
    "events_keep_their_order": [events_were_swapped],
    "events_are_applied": [an_event_was_passed_over],
    "effects_have_events": [an_event_was_lost],
    "reports_know_each_order": [report_has_another_total, report_missed_a_cancellation, report_does_not_know_an_order],
    "report_sums_add_up": [revenue_was_counted_twice],
    "one_confirmation": [no_confirmation, confirmation_failed, two_confirmations, confirmation_of_a_refused_order],
    "mails_agree": [mail_server_lost_a_mail, mail_server_has_a_foreign_mail, customer_got_two_confirmations],
}


@pytest.mark.parametrize(
    ("rule", "tamper"),
    [pytest.param(rule, each, id=f"{rule}-{each.__name__}") for rule in TAMPERINGS for each in TAMPERINGS[rule]],
)
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    books = every_kind()
    assert not judge(books).violations
    tamper(books)
    violations = found(books, rule)
    assert violations
    assert all(violation.expected != violation.found for violation in violations)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    # Unpublished events are in flight until somebody has waited for them; `unsettled` is tested below.
    assert {rule.code for rule in RULES} - set(TAMPERINGS) == {"events_are_published"}


def test_a_violation_names_the_order_and_both_values() -> None:
    books = every_kind()
    order = the(books, S.CONFIRMED)
    change(books.charges, by_reference(order.order_id), captured=0, status="authorized")
    violation = next(each for each in judge(books).violations if each.rule == "money_at_the_provider")
    assert (violation.order_id, violation.subject) == (order.order_id, str(order.order_id))
    assert (violation.expected, violation.found) == ("12.50 USD", "0.00 USD")


# ── What moves ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [S.PENDING, S.RESERVED, S.PAID, S.DELIVERED, S.CANCELLING])
def test_an_order_that_moves_is_in_flight(status: S) -> None:
    books = every_kind()
    order_id = the(books, S.COMPLETED).order_id
    change(books.orders, of(order_id), status=status)
    change(books.workflows, of(order_id), status="RUNNING", closed_at=None, result=None)
    judgement = judge(books)
    assert not judgement.violations
    assert [(item.order_id, item.why) for item in judgement.in_flight] == [(order_id, status)]


def test_an_order_that_changed_a_moment_ago_is_in_flight() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    change(books.orders, of(order_id), updated_at=NOW - timedelta(milliseconds=300))
    remove(books.shipments, of(order_id))
    remove(books.parcels, by_reference(order_id))
    judgement = judge(books)
    assert not judgement.violations
    assert [item.order_id for item in judgement.in_flight] == [order_id]


def test_an_order_whose_saga_is_at_work_is_in_flight() -> None:
    """A cancellation is told to the order when all undos have landed, so that its money may be back while it is CONFIRMED."""
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    change(books.payments, of(order_id), status="REFUNDED", refunded=TOTAL, refunded_moved=TOTAL)
    change(books.charges, by_reference(order_id), status="refunded", refunded=TOTAL)
    assert {violation.order_id for violation in judge(books).violations} == {order_id}
    books.busy = frozenset({order_id})
    assert not judge(books).violations


def test_undos_that_do_not_land_are_in_flight() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    change(books.workflows, of(order_id), listed_as="CANCELLING", stuck_undo="Refund payment")
    remove(books.shipments, of(order_id))
    remove(books.parcels, by_reference(order_id))
    judgement = judge(books)
    assert not judgement.violations
    assert "Refund payment" in judgement.in_flight[0].why


@pytest.mark.parametrize(("status", "parcel"), [(S.CONFIRMED, "picked_up"), (S.CONFIRMED, "delivered"), (S.SHIPPED, "delivered")])
def test_news_of_the_carrier_is_in_flight(status: S, parcel: str) -> None:
    books = every_kind()
    order_id = the(books, status).order_id
    change(books.parcels, by_reference(order_id), status=parcel)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.order_id for item in judgement.in_flight] == [order_id]


def test_a_saga_that_has_not_opened_its_order_is_in_flight() -> None:
    books = every_kind()
    order_id = uuid4()
    add(books.workflows, saga(order_id))
    judgement = judge(books)
    assert not judgement.violations
    assert [item.order_id for item in judgement.in_flight] == [order_id]


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


@pytest.mark.parametrize("tamper", [a_unit_vanished, reservation_counts_twice, sold_what_is_not_there])
def test_what_may_never_be_is_seen_also_while_orders_move(tamper: Tamper) -> None:
    books = every_kind()
    change(books.orders, everything, updated_at=NOW)
    tamper(books)
    assert judge(books).violations


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
    change(books.payments, of(order_id), status="INITIATED", captured_moved=0)
    assert not judge(books).violations
    change(books.payments, of(order_id), status="CAPTURED", captured_moved=TOTAL)
    change(books.charges, by_reference(order_id), status="authorized", captured=0)
    assert found(books, "ledgers_agree")


# ── What is allowed ──────────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_a_person_may_see_a_parcel_arrive_before_the_carrier_says_so() -> None:
    books = every_kind()
    change(books.parcels, by_reference(the(books, S.COMPLETED).order_id), status="in_transit")
    assert not judge(books).violations


def test_temporal_forgets_old_workflows() -> None:
    shop = Shop()
    long_ago = NOW - timedelta(days=2)
    shop.place(S.COMPLETED, at=long_ago)
    confirmed = shop.place(S.CONFIRMED, at=long_ago)
    books = shop.books()
    remove(books.workflows, everything)
    assert {violation.order_id for violation in judge(books).violations} == {confirmed}


def test_a_repeated_request_for_a_forgotten_order_is_no_second_saga() -> None:
    shop = Shop()
    order_id = shop.place(S.COMPLETED, at=NOW - timedelta(days=2))
    books = shop.books()
    change(books.workflows, of(order_id), run_id=str(uuid4()), started_at=EARLIER, listed_as="PENDING", result="CANCELLED")
    assert not judge(books).violations


def test_a_reset_workflow_is_judged_by_its_newest_run() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    before = next(row for row in books.workflows if row.order_id == order_id)
    change(books.workflows, of(order_id), status="TERMINATED", closed_at=EARLIER)
    add(books.workflows, before._replace(run_id=str(uuid4()), started_at=EARLIER + timedelta(seconds=1)))
    assert not judge(books).violations


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


def test_events_older_than_the_outbox_keeps_them_need_not_be_there() -> None:
    shop = Shop()
    shop.place(S.COMPLETED, at=NOW - timedelta(days=4))
    books = shop.books()
    for producer in (Source.ORDER, Source.SHIPPING):
        remove(books.events[producer], everything)
    assert not found(books, "effects_have_events")


@pytest.mark.parametrize("seconds", [-30, 0, 30])
def test_a_price_that_changes_while_an_order_is_placed_is_right_before_and_after(seconds: int) -> None:
    books = every_kind()
    moment = EARLIER + timedelta(seconds=seconds)
    was = books.prices[0]
    books.prices = [was._replace(valid_to=moment), was._replace(amount=Decimal("9.99"), valid_from=moment)]
    assert not judge(books).violations
    change(books.lines, everything, amount=Decimal("9.99"))
    assert not judge(books).violations


def test_an_order_that_was_placed_just_now_is_not_held_against_a_look_from_before() -> None:
    shop = Shop()
    shop.place(S.CONFIRMED, at=NOW)
    books = shop.books()
    remove(books.prices, everything)
    assert not found(books, "price_was_the_catalogues")


# ── What cannot be read ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_rules_are_left_out_where_their_books_cannot_be_read() -> None:
    books = every_kind()
    books.charges = []
    books.unreadable[Source.PROVIDER] = "ClientConnectorError"
    judgement = judge(books)
    assert not judgement.violations
    skipped = {result.code for result in judgement.results if result.skipped}
    assert skipped == {"money_at_the_provider", "charge_has_order", "one_charge", "ledgers_agree"}


def test_without_temporal_nobody_knows_what_moves() -> None:
    books = every_kind()
    books.workflows = []
    books.unreadable[Source.TEMPORAL] = "RPCError"
    remove(books.shipments, of(the(books, S.CONFIRMED).order_id))
    judgement = judge(books)
    assert {violation.rule for violation in judgement.violations} == {"parcels_agree"}
    assert {item.order_id for item in judgement.in_flight} == {
        order.order_id for order in books.orders if order.status not in (S.COMPLETED, S.CANCELLED)
    }


def test_without_the_order_service_nobody_knows_which_order_is_missing() -> None:
    books = every_kind()
    books.orders = []
    books.unreadable[Source.ORDER] = "ConnectionRefusedError"
    judgement = judge(books)
    assert not judgement.violations
    assert not judgement.in_flight


# ── The wait ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_moves_all_the_time_and_gets_nowhere_is_a_violation() -> None:
    began = NOW
    stuck = InFlight("a", "PENDING", began - timedelta(seconds=5), uuid4())
    nobody_knows = InFlight("b", "on its way")
    moved_meanwhile = InFlight("c", "PAID", began + timedelta(seconds=5))
    new = InFlight("d", "PENDING", began - timedelta(seconds=5))
    result = unsettled([[stuck, nobody_knows, moved_meanwhile], [stuck, nobody_knows, moved_meanwhile, new]], began)
    assert [violation.subject for violation in result.violations] == ["a", "b"]
    assert result.violations[0].order_id == stuck.order_id
    assert result.compared == 4


# ── In general ───────────────────────────────────────────────────────────────────────────────────────────────────────────

resting = st.sampled_from([S.IN_REVIEW, S.CONFIRMED, S.SHIPPED, S.COMPLETED, S.CANCELLED])
orders = st.lists(st.tuples(resting, st.booleans(), st.integers(1, 10_000)), min_size=1, max_size=8)


def shop_of(placed: list[tuple[S, bool, int]]) -> Books:
    shop = Shop()
    for status, flag, total in placed:
        shop.place(status, was_confirmed=flag and status == S.CANCELLED, total=total)
    return shop.books()


@given(orders)
def test_right_books_are_right_whatever_was_ordered(placed: list[tuple[S, bool, int]]) -> None:
    judgement = judge(shop_of(placed))
    assert not judgement.violations
    assert not judgement.in_flight


@given(orders, st.data())
def test_no_amount_in_a_ledger_can_be_changed_unseen(placed: list[tuple[S, bool, int]], data: st.DataObject) -> None:
    books = shop_of([*placed, (S.CONFIRMED, False, TOTAL)])
    rows: Any = data.draw(st.sampled_from([books.payments, books.charges, books.stock]))
    position = data.draw(st.integers(0, len(rows) - 1))
    amounts = {
        PaymentRow: ("amount", "refunded", "captured_moved", "refunded_moved"),
        ChargeRow: ("amount", "captured", "refunded"),
    }
    name = data.draw(
        st.sampled_from(amounts.get(type(rows[0]), ("on_hand", "reserved", "moved", "received", "promised", "shipped")))
    )
    by = data.draw(st.integers(-3, 3).filter(bool))
    rows[position] = rows[position]._replace(**{name: getattr(rows[position], name) + by})
    assert judge(books).violations


# ── Small things ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def everything(row: object) -> bool:
    return True


def by_reference(order_id: UUID) -> Callable[[Any], bool]:
    """Rows in the books of the outside world."""
    return lambda row: bool(row.reference.startswith(str(order_id)))


def charge(order_id: UUID, attempt: int = 1) -> ChargeRow:
    return ChargeRow(payment_reference(order_id, attempt), "ch_2", "captured", "USD", TOTAL, TOTAL, 0, EARLIER)


def saga(order_id: UUID, status: str = "RUNNING") -> WorkflowRow:
    closed_at = None if status == "RUNNING" else EARLIER
    return WorkflowRow(order_id, f"order-{order_id}", str(uuid4()), status, EARLIER, closed_at, "PENDING", None, None)


def confirmation(order_id: UUID) -> NotificationRow:
    return NotificationRow(uuid4(), order_id, "order_confirmed", "SENT", EARLIER, EARLIER)

"""Parcels: none lives that should not, and the carrier's ledger is ours."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from audit.books import Books, ParcelRow, ShipmentRow
from audit.rules import judge, parcels
from audit.rules.parcels import GIVEN_BACK_AFTER
from contracts.orders import OrderStatus as S
from contracts.parcels import Trouble
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases, found
from tests.audit.shop import EARLIER, add, by_reference, change, every_kind, of, remove, send_again, the


def cancelled_order_has_a_live_shipment(books: Books) -> None:
    change(books.shipments, of(the(books, S.CANCELLED, refunded=True).order_id), status="BOOKED")


def shipped_order_has_no_shipment(books: Books) -> None:
    remove(books.shipments, of(the(books, S.SHIPPED).order_id))


def cancelled_orders_parcel_left(books: Books) -> None:
    change(books.parcels, by_reference(the(books, S.CANCELLED, refunded=True).order_id), status="in_transit")


def completed_orders_parcel_never_left(books: Books) -> None:
    change(books.parcels, by_reference(the(books, S.COMPLETED).order_id), status="booked")


def we_say_it_left_and_the_carrier_does_not(books: Books) -> None:
    change(books.shipments, of(the(books, S.CONFIRMED).order_id), status="IN_TRANSIT")


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


def refunded_orders_parcel_was_never_sent(books: Books) -> None:
    order_id = the(books, S.REFUNDED).order_id
    change(books.shipments, of(order_id), status="BOOKED")
    change(books.parcels, by_reference(order_id), status="booked")


def first_parcel_can_still_leave(books: Books) -> None:
    order = the(books, S.UNDELIVERED, trouble=Trouble.LOST)
    send_again(books, order)
    change(books.shipments, lambda row: row.order_id == order.order_id and row.parcel == 1, status="BOOKED")
    change(books.parcels, lambda row: row.reference == str(order.order_id), status="booked")


def orders_second_parcel_lives_although_it_was_cancelled(books: Books) -> None:
    order_id = the(books, S.CANCELLED, refunded=True).order_id
    add(books.shipments, ShipmentRow(order_id, 2, "BOOKED", "none", "TRK2", False, EARLIER))
    add(books.parcels, ParcelRow(f"{order_id}-2", "booked", "TRK2", EARLIER))


def carrier_lost_what_we_think_is_back(books: Books) -> None:
    change(books.parcels, by_reference(the(books, S.REFUNDED, trouble=Trouble.RETURNED).order_id), status="lost")


def return_at(status: str) -> Callable[[Any], bool]:
    """The label of the shop's one return at this status."""
    number = {"COMPLETED": 1, "APPROVED": 2, "CANCELLED": 3}[status]
    return lambda row: bool(row.parcel == number)


def cancelled_return_has_a_live_label(books: Books) -> None:
    change(books.labels, return_at("CANCELLED"), status="BOOKED")


def expired_return_has_a_live_label(books: Books) -> None:
    change(books.returns, lambda row: row.status == "APPROVED", status="EXPIRED")


def cancelled_return_is_on_its_way(books: Books) -> None:
    change(books.labels, return_at("CANCELLED"), status="IN_TRANSIT")


def label_of_no_return(books: Books) -> None:
    remove(books.returns, lambda row: row.status == "APPROVED")


def return_has_another_tracking_number(books: Books) -> None:
    change(books.returns, lambda row: row.status == "APPROVED", tracking_number="RETOTHER")


def label_has_another_tracking_number(books: Books) -> None:
    change(books.labels, return_at("APPROVED"), tracking_number="RETOTHER")


def carrier_never_heard_of_a_label(books: Books) -> None:
    remove(books.parcels, lambda row: row.reference.endswith("-return-2"))


def carrier_fetches_what_nobody_returns(books: Books) -> None:
    add(books.parcels, ParcelRow(f"{books.returns[0].order_id}-return-9", "booked", "RET9", EARLIER))


def carrier_moves_a_cancelled_return(books: Books) -> None:
    change(books.parcels, lambda row: row.reference.endswith("-return-3"), status="in_transit")


def label_is_not_given_back(books: Books) -> None:
    change(books.parcels, by_reference(the(books, S.CANCELLED, refunded=True).order_id), status="booked")


def returns_label_is_not_given_back(books: Books) -> None:
    change(books.parcels, lambda row: row.reference.endswith("-return-3"), status="booked")


def label_was_to_be_given_back_long_ago(books: Books) -> None:
    label_is_not_given_back(books)
    order_id, since = the(books, S.CANCELLED, refunded=True).order_id, EARLIER - GIVEN_BACK_AFTER
    change(books.shipments, of(order_id), refund="due", not_needed_since=since)


TAMPERINGS: Tamperings = {
    "label_fits": [
        cancelled_return_has_a_live_label,
        expired_return_has_a_live_label,
        cancelled_return_is_on_its_way,
        label_of_no_return,
        return_has_another_tracking_number,
    ],
    "labels_agree": [
        cancelled_return_is_on_its_way,
        label_has_another_tracking_number,
        carrier_never_heard_of_a_label,
        carrier_fetches_what_nobody_returns,
        carrier_moves_a_cancelled_return,
    ],
    "shipment_fits": [
        cancelled_order_has_a_live_shipment,
        shipped_order_has_no_shipment,
        refunded_orders_parcel_was_never_sent,
        first_parcel_can_still_leave,
        orders_second_parcel_lives_although_it_was_cancelled,
    ],
    "parcel_fits": [
        cancelled_orders_parcel_left,
        completed_orders_parcel_never_left,
        orders_second_parcel_lives_although_it_was_cancelled,
    ],
    "parcels_agree": [
        cancelled_order_has_a_live_shipment,
        cancelled_orders_parcel_left,
        we_say_it_left_and_the_carrier_does_not,
        tracking_numbers_differ,
        carrier_has_a_parcel_of_nobody,
        carrier_has_two_parcels_of_one_order,
        we_have_two_shipments_of_one_order,
        carrier_forgot_a_cancelled_parcel,
        carrier_lost_what_we_think_is_back,
    ],
    "labels_are_given_back": [label_is_not_given_back, returns_label_is_not_given_back, label_was_to_be_given_back_long_ago],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(parcels, TAMPERINGS)


@pytest.mark.parametrize(
    ("status", "parcel"),
    [
        (S.CONFIRMED, "in_transit"),
        (S.CONFIRMED, "delivered"),
        (S.SHIPPED, "delivered"),
        (S.SHIPPED, "lost"),
        (S.SHIPPED, "returned"),
    ],
)
def test_news_of_the_carrier_is_in_flight(status: S, parcel: str) -> None:
    books = every_kind()
    order_id = the(books, status).order_id
    change(books.parcels, by_reference(order_id), status=parcel)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.order_id for item in judgement.in_flight] == [order_id]


def test_a_person_may_see_a_parcel_arrive_before_the_carrier_says_so() -> None:
    books = every_kind()
    change(books.parcels, by_reference(the(books, S.COMPLETED).order_id), status="in_transit")
    assert not judge(books).violations


@pytest.mark.parametrize(
    ("trouble", "parcel"),
    [
        (Trouble.NOT_PICKED_UP, "in_transit"),
        (Trouble.SILENT, "delivered"),
        (Trouble.SILENT, "lost"),
        (Trouble.LOST, "delivered"),
        (Trouble.LOST, "returned"),
    ],
)
def test_a_parcel_in_trouble_that_turns_up_is_news(trouble: Trouble, parcel: str) -> None:
    books = every_kind()
    order_id = the(books, S.UNDELIVERED, trouble=trouble).order_id
    change(books.parcels, by_reference(order_id), status=parcel)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.order_id for item in judgement.in_flight] == [order_id]


def test_an_order_whose_silent_parcel_was_waited_for_is_shipped() -> None:
    books = every_kind()
    order = the(books, S.UNDELIVERED, trouble=Trouble.SILENT)
    change(books.orders, of(order.order_id), status=S.SHIPPED, trouble=None, path=(*order.path, S.SHIPPED))
    change(books.workflows, of(order.order_id), listed_as=S.SHIPPED)
    judgement = judge(books)
    assert not judgement.violations
    assert not judgement.in_flight


def test_s10_a_lost_parcel_that_nobody_was_told_of_stays_in_flight() -> None:
    """So that an audit that waits says that it does not come to rest."""
    books = every_kind()
    order = the(books, S.UNDELIVERED, trouble=Trouble.LOST)
    change(books.orders, of(order.order_id), status=S.SHIPPED, trouble=None, path=order.path[:-1])
    change(books.workflows, of(order.order_id), listed_as=S.SHIPPED)
    assert "news of its parcel" in judge(books).in_flight[0].why


def test_a_second_parcel_is_right_and_the_first_one_may_turn_up() -> None:
    books = every_kind()
    order = the(books, S.UNDELIVERED, trouble=Trouble.LOST)
    send_again(books, order)
    assert not judge(books).violations
    change(books.parcels, lambda row: row.reference == str(order.order_id), status="delivered")
    assert not judge(books).violations


def test_a_cancelled_order_may_have_lost_a_parcel_before() -> None:
    books = every_kind()
    order_id = the(books, S.CANCELLED, refunded=True).order_id
    change(books.shipments, of(order_id), status="LOST")
    change(books.parcels, by_reference(order_id), status="lost")
    assert found(books, "shipment_fits")
    assert found(books, "parcel_fits")
    add(books.shipments, ShipmentRow(order_id, 2, "CANCELLED", "none", "TRK2", False, EARLIER))
    add(books.parcels, ParcelRow(f"{order_id}-2", "cancelled", "TRK2", EARLIER))
    assert not judge(books).violations


@pytest.mark.parametrize(("ours", "carried"), [("BOOKED", "in_transit"), ("PENDING", "booked"), ("IN_TRANSIT", "delivered")])
def test_news_of_a_returns_parcel_may_be_under_way(ours: str, carried: str) -> None:
    books = every_kind()
    change(books.labels, return_at("APPROVED"), status=ours)
    change(books.parcels, lambda row: row.reference.endswith("-return-2"), status=carried)
    judgement = judge(books)
    assert not judgement.violations
    assert any("return 2" in each.subject for each in judgement.in_flight)


def test_a_label_that_is_being_given_back_is_in_flight() -> None:
    books = every_kind()
    label_is_not_given_back(books)
    order_id = the(books, S.CANCELLED, refunded=True).order_id
    change(books.shipments, of(order_id), refund="due", not_needed_since=EARLIER)
    judgement = judge(books)
    assert not judgement.violations
    assert any("given back" in each.why for each in judgement.in_flight)


def test_of_a_called_off_parcel_no_label_need_have_been_bought() -> None:
    books = every_kind()
    order_id = the(books, S.CANCELLED, refunded=True).order_id
    remove(books.parcels, by_reference(order_id))
    change(books.shipments, of(order_id), refund="due", not_needed_since=EARLIER, tracking_number=None)
    assert not judge(books).violations


def test_of_what_our_own_vans_carry_no_carrier_knows() -> None:
    books = every_kind()
    for status in (S.CONFIRMED, S.SHIPPED, S.COMPLETED):
        order_id = the(books, status).order_id
        remove(books.parcels, by_reference(order_id))
        change(books.shipments, of(order_id), sold_by="tariff")
    assert not judge(books).violations


def test_further_packages_belong_to_their_parcel() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    add(books.parcels, ParcelRow(f"{order_id}/2", "booked", "TRKMORE", EARLIER))
    assert not judge(books).violations

"""Orders in parts: each parcel is judged by itself, and an order that waits for another card is at rest and owes nothing."""

from collections.abc import Callable

import pytest
from pydantic import TypeAdapter

from audit.books import Books, OrderRow, ParcelRow, ReservationRow, ShipmentRow
from audit.rules import judge
from contracts.ids import parcel_reference
from contracts.money import Money
from contracts.orders import OrderLine
from contracts.orders import OrderStatus as S
from contracts.parcels import OrderParcel, ParcelLine, ParcelStatus, Trouble
from contracts.pricing import LineAmounts
from tests.audit.shop import EARLIER, TOTAL, Shop, add, at_place, by_reference, change, every_kind, of, remove, the

P = ParcelStatus
LINE = OrderLine(
    line_id=1,
    product_id="milk",
    name="Milk",
    quantity=2,
    unit_price=Money.from_minor(TOTAL // 2, "USD"),
    amounts=LineAmounts(items=TOTAL - 101, shipping=101),
)


def parcel(number: int, status: ParcelStatus, trouble: Trouble | None = None) -> OrderParcel:
    line = ParcelLine(line_id=1, product_id="milk", quantity=1, first=number - 1)
    return OrderParcel(parcel=number, status=status, lines=(line,), trouble=trouble)


def tell(books: Books, order: OrderRow, *parcels: OrderParcel, status: S = S.PARTIALLY_SHIPPED) -> None:
    """The order's saga has told of these parcels."""
    told = TypeAdapter(tuple[OrderParcel, ...]).dump_json(parcels).decode()
    path = (*order.path, status) if status != order.status else order.path
    lines = TypeAdapter(tuple[OrderLine, ...]).dump_json((LINE,)).decode()
    change(books.orders, of(order.order_id), status=status, path=path, told_parcels=told, priced_lines=lines)
    change(books.workflows, of(order.order_id), listed_as=status)


def in_two_parcels() -> tuple[Books, OrderRow]:
    """Right books in which a unit of one order has left, and the other waits for goods."""
    books = every_kind()
    order = the(books, S.CONFIRMED)
    order_id = order.order_id
    change(books.reservations, of(order_id), status="SHIPPED", lines="milk x 1")
    add(books.reservations, ReservationRow(order_id, 2, "AWAITED", EARLIER, "milk x 1"))
    stock = books.stock[0]
    change(
        books.stock,
        at_place,
        reserved=(stock.reserved or 0) - 2,
        promised=stock.promised - 2,
        shipped=stock.shipped + 1,
        on_hand=(stock.on_hand or 0) - 1,
        moved=stock.moved - 1,
    )
    change(books.shipments, of(order_id), status="DISPATCHED")
    change(books.parcels, by_reference(order_id), status="in_transit")
    tell(books, order, parcel(1, P.SHIPPED), parcel(2, P.AWAITED))
    return books, order


def test_an_order_in_parts_is_right_part_by_part() -> None:
    books, order = in_two_parcels()
    judgement = judge(books)
    assert not judgement.violations
    assert order.order_id not in {item.order_id for item in judgement.in_flight}


def second_parcel_was_booked_without_goods(books: Books, order: OrderRow) -> None:
    add(books.shipments, ShipmentRow(order.order_id, 2, "BOOKED", "none", "TRK2", False, EARLIER))
    add(books.parcels, ParcelRow(parcel_reference(order.order_id, 2), "booked", "TRK2", EARLIER))


def second_parcel_waits_for_nothing(books: Books, order: OrderRow) -> None:
    remove(books.reservations, lambda row: row.order_id == order.order_id and row.parcel == 2)


def first_parcel_has_other_goods(books: Books, order: OrderRow) -> None:
    change(books.reservations, lambda row: row.order_id == order.order_id and row.parcel == 1, lines="milk x 2")


def first_parcel_never_left(books: Books, order: OrderRow) -> None:
    change(books.shipments, of(order.order_id), status="BOOKED")
    change(books.parcels, by_reference(order.order_id), status="booked")


def a_third_parcel_lives_of_which_the_order_does_not_know(books: Books, order: OrderRow) -> None:
    add(books.reservations, ReservationRow(order.order_id, 3, "AWAITED", EARLIER, "milk x 1"))
    add(books.shipments, ShipmentRow(order.order_id, 3, "BOOKED", "none", "TRK3", False, EARLIER))
    add(books.parcels, ParcelRow(parcel_reference(order.order_id, 3), "booked", "TRK3", EARLIER))


@pytest.mark.parametrize(
    ("tamper", "rules"),
    [
        (second_parcel_was_booked_without_goods, {"shipment_fits", "parcel_fits"}),
        (second_parcel_waits_for_nothing, {"reservation_fits"}),
        (first_parcel_has_other_goods, {"reservation_fits"}),
        (first_parcel_never_left, {"shipment_fits"}),
        (a_third_parcel_lives_of_which_the_order_does_not_know, {"reservation_fits", "shipment_fits", "parcel_fits"}),
    ],
)
def test_each_parcel_is_judged_by_itself(tamper: Callable[[Books, OrderRow], None], rules: set[str]) -> None:
    books, order = in_two_parcels()
    tamper(books, order)
    assert {violation.rule for violation in judge(books).violations if violation.order_id == order.order_id} >= rules


def test_news_of_one_parcel_and_goods_that_have_just_come_are_in_flight() -> None:
    books, order = in_two_parcels()
    change(books.parcels, by_reference(order.order_id), status="delivered")
    assert [item.order_id for item in judge(books).in_flight] == [order.order_id]
    assert not judge(books).violations
    books, order = in_two_parcels()
    change(books.reservations, lambda row: row.order_id == order.order_id and row.parcel == 2, status="RESERVED")
    change(books.stock, at_place, reserved=(books.stock[0].reserved or 0) + 1, promised=books.stock[0].promised + 1)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.order_id for item in judgement.in_flight] == [order.order_id]


def test_one_of_several_parcels_may_be_sent_again() -> None:
    books, order = in_two_parcels()
    change(books.shipments, of(order.order_id), status="LOST")
    change(books.parcels, by_reference(order.order_id), status="lost")
    add(books.reservations, ReservationRow(order.order_id, 3, "RESERVED", EARLIER, "milk x 1"))
    change(books.stock, at_place, reserved=(books.stock[0].reserved or 0) + 1, promised=books.stock[0].promised + 1)
    add(books.shipments, ShipmentRow(order.order_id, 3, "BOOKED", "none", "TRK3", False, EARLIER))
    add(books.parcels, ParcelRow(parcel_reference(order.order_id, 3), "booked", "TRK3", EARLIER))
    tell(books, order, parcel(1, P.RESENT), parcel(2, P.AWAITED), parcel(3, P.BOOKED), status=S.CONFIRMED)
    assert not judge(books).violations


def one_of_two_was_cancelled() -> tuple[Books, OrderRow]:
    """Right books in which a unit of one order has left, and the price of the other one went back."""
    books, order = in_two_parcels()
    order_id, back = order.order_id, LINE.amounts.of(2, 1, 1).total if LINE.amounts else 0
    change(books.reservations, lambda row: row.order_id == order_id and row.parcel == 2, status="RELEASED")
    tell(books, order, parcel(1, P.SHIPPED), parcel(2, P.CANCELLED), status=S.SHIPPED)
    change(books.orders, of(order_id), refunded_minor=back)
    change(books.payments, of(order_id), refunded=back, refunded_moved=back, ledger_provider=TOTAL - back)
    change(books.charges, by_reference(order_id), refunded=back)
    return books, order


def test_an_order_owes_what_its_parcels_that_count_cost() -> None:
    books, order = one_of_two_was_cancelled()
    assert not judge(books).violations
    change(books.orders, of(order.order_id), refunded_minor=0)
    change(books.payments, of(order.order_id), refunded=0, refunded_moved=0, ledger_provider=TOTAL)
    change(books.charges, by_reference(order.order_id), refunded=0)
    violations = [violation for violation in judge(books).violations if violation.order_id == order.order_id]
    assert {violation.rule for violation in violations} == {"money_in_our_ledger", "money_at_the_provider"}
    assert {(violation.expected, violation.found) for violation in violations} == {("6.24 USD", "12.50 USD")}


def test_an_order_whose_payment_is_to_be_confirmed_owes_nothing_until_its_saga_has_heard_that_it_was() -> None:
    shop = Shop()
    order_id = shop.place(S.ACTION_REQUIRED)
    books = shop.books()
    judgement = judge(books)
    assert not judgement.violations
    assert not judgement.in_flight
    change(books.charges, by_reference(order_id), status="captured", captured=TOTAL)
    judgement = judge(books)
    assert not judgement.violations
    assert [found.why for found in judgement.in_flight] == ["ACTION_REQUIRED, news of its payment is under way"]
    paid = {"captured": TOTAL, "captured_moved": TOTAL, "authorized": TOTAL, "authorized_moved": TOTAL}
    change(books.payments, of(order_id), status="CAPTURED", ledger_provider=TOTAL, **paid)
    assert not judge(books).violations


@pytest.mark.parametrize("taken", [0, TOTAL - 1, TOTAL])
def test_what_the_provider_flags_is_taken_while_somebody_looks_at_it_all_of_it_or_nothing(taken: int) -> None:
    shop = Shop()
    order_id = shop.place(S.IN_REVIEW)
    books = shop.books()
    ours, theirs = ("CAPTURED", "captured") if taken else ("AUTHORIZED", "authorized")
    left = {"ledger_held": TOTAL - taken, "ledger_provider": taken}
    change(books.payments, of(order_id), status=ours, captured=taken, captured_moved=taken, **left)
    change(books.charges, by_reference(order_id), status=theirs, captured=taken)
    assert bool({violation.rule for violation in judge(books).violations}) == (taken == TOTAL - 1)


def test_an_order_that_waits_for_another_card_is_at_rest_and_owes_nothing() -> None:
    shop = Shop()
    order_id = shop.place(S.PAYMENT_DUE, declined=True)
    books = shop.books()
    judgement = judge(books)
    assert not judgement.violations
    assert not judgement.in_flight
    change(books.payments, of(order_id), captured_moved=1_250)
    assert judge(books).violations

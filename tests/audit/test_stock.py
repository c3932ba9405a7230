"""Stock: whatever vanishes, or is promised to nobody or twice, is seen."""

import pytest

from audit.books import Books, ReservationRow, WaitingRow
from audit.rules import judge, stock
from contracts.orders import OrderStatus as S
from contracts.parcels import Trouble
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases
from tests.audit.shop import EARLIER, NOW, QUANTITY, add, at_place, change, every_kind, everything, of, remove, send_again, the


def a_unit_vanished(books: Books) -> None:
    change(books.stock, everything, on_hand=books.stock[0].moved - 1)


def movement_without_goods(books: Books) -> None:
    change(books.stock, everything, moved=books.stock[0].moved + 1)


def stock_row_is_gone(books: Books) -> None:
    change(books.stock, everything, on_hand=None, reserved=None)


def receipt_was_changed(books: Books) -> None:
    change(books.stock, everything, received=books.stock[0].received + 1)


def adjustment_was_changed(books: Books) -> None:
    change(books.stock, at_place, corrected=books.stock[0].corrected - 1)


def transfer_never_arrived(books: Books) -> None:
    """The other warehouse does not know of it: its own books are right."""
    change(books.stock, lambda row: not at_place(row), on_hand=0, moved=0, transferred=0)


def transfer_was_lost_on_the_way(books: Books) -> None:
    change(books.stock, lambda row: not at_place(row), on_hand=9, moved=9, transferred=9)


def what_came_back_was_not_put_on_the_shelf(books: Books) -> None:
    change(books.stock, everything, on_hand=books.stock[0].moved - QUANTITY, moved=books.stock[0].moved - QUANTITY)


def reservation_counts_twice(books: Books) -> None:
    change(books.stock, everything, reserved=books.stock[0].promised + 2)


def sold_what_is_not_there(books: Books) -> None:
    change(books.stock, everything, on_hand=1, reserved=2)


def stock_is_negative(books: Books) -> None:
    change(books.stock, everything, on_hand=-1, reserved=-1)


def cancelled_order_keeps_its_goods(books: Books) -> None:
    change(books.reservations, of(the(books, S.CANCELLED).order_id), status="RESERVED")


def confirmed_order_lost_its_goods(books: Books) -> None:
    change(books.reservations, of(the(books, S.CONFIRMED).order_id), status="RELEASED")


def goods_on_the_shelf_are_to_be_shipped(books: Books) -> None:
    change(books.reservations, of(the(books, S.UNDELIVERED, trouble=Trouble.LOST).order_id), status="RESERVED")


def goods_that_never_left_are_shipped(books: Books) -> None:
    change(books.reservations, of(the(books, S.UNDELIVERED, trouble=Trouble.NOT_PICKED_UP).order_id), status="SHIPPED")


def refunded_orders_goods_are_promised(books: Books) -> None:
    change(books.reservations, of(the(books, S.REFUNDED).order_id), status="RESERVED")


def first_parcels_goods_are_promised_too(books: Books) -> None:
    order = the(books, S.UNDELIVERED, trouble=Trouble.LOST)
    send_again(books, order)
    change(books.reservations, lambda row: row.order_id == order.order_id and row.parcel == 1, status="RESERVED")


def shipped_goods_are_still_reserved(books: Books) -> None:
    change(books.reservations, of(the(books, S.SHIPPED).order_id), status="RESERVED")


def other_goods_were_reserved(books: Books) -> None:
    change(books.reservations, of(the(books, S.COMPLETED).order_id), lines="milk x 3")


def nothing_was_reserved(books: Books) -> None:
    remove(books.reservations, of(the(books, S.CONFIRMED).order_id))


def goods_are_there_and_nobody_gives_them_to_who_waits(books: Books) -> None:
    books.waiting = [WaitingRow(the(books, S.CONFIRMED).order_id, 2, "410", EARLIER)]


def part_of_a_completed_order_waits(books: Books) -> None:
    order_id = the(books, S.COMPLETED).order_id
    change(books.reservations, of(order_id), plan=1)
    add(books.reservations, ReservationRow(order_id, 2, "AWAITED", EARLIER, "milk x 1", 1))


def damage_is_still_on_the_shelf(books: Books) -> None:
    change(books.stock, at_place, written_off=0)


def a_return_was_not_put_on_the_shelf(books: Books) -> None:
    change(books.stock, at_place, returned=1, damaged=0, written_off=0)


def more_came_back_than_was_sent(books: Books) -> None:
    change(books.back, everything, back=QUANTITY + 1)


def inventory_never_heard_of_a_return(books: Books) -> None:
    remove(books.received, everything)


def inventory_received_other_goods(books: Books) -> None:
    change(books.received, everything, lines="milk: 1 + 0")


def inventory_received_what_never_came(books: Books) -> None:
    change(books.returns, everything, came=None)


def inventory_received_a_return_of_nobody(books: Books) -> None:
    remove(books.returns, everything)


TAMPERINGS: Tamperings = {
    "damage_is_written_off": [damage_is_still_on_the_shelf],
    "no_more_back_than_shipped": [more_came_back_than_was_sent],
    "returns_were_received": [
        inventory_never_heard_of_a_return,
        inventory_received_other_goods,
        inventory_received_what_never_came,
        inventory_received_a_return_of_nobody,
    ],
    "stock_is_its_movements": [a_unit_vanished, movement_without_goods, stock_row_is_gone],
    "stock_is_received_less_shipped": [
        a_return_was_not_put_on_the_shelf,
        a_unit_vanished,
        receipt_was_changed,
        adjustment_was_changed,
        what_came_back_was_not_put_on_the_shelf,
    ],
    "transfers_arrive": [transfer_never_arrived, transfer_was_lost_on_the_way],
    "reserved_is_the_open_reservations": [reservation_counts_twice, stock_row_is_gone],
    "never_oversold": [sold_what_is_not_there, stock_is_negative],
    "nobody_waits_in_vain": [goods_are_there_and_nobody_gives_them_to_who_waits],
    "reservation_fits": [
        part_of_a_completed_order_waits,
        cancelled_order_keeps_its_goods,
        confirmed_order_lost_its_goods,
        shipped_goods_are_still_reserved,
        other_goods_were_reserved,
        nothing_was_reserved,
        goods_on_the_shelf_are_to_be_shipped,
        goods_that_never_left_are_shipped,
        refunded_orders_goods_are_promised,
        first_parcels_goods_are_promised_too,
    ],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(stock, TAMPERINGS)


@pytest.mark.parametrize("tamper", [a_unit_vanished, reservation_counts_twice, sold_what_is_not_there])
def test_what_may_never_be_is_seen_also_while_orders_move(tamper: Tamper) -> None:
    books = every_kind()
    change(books.orders, everything, updated_at=NOW)
    tamper(books)
    assert judge(books).violations


def test_goods_that_were_reserved_again_for_a_second_parcel_are_right() -> None:
    books = every_kind()
    send_again(books, the(books, S.UNDELIVERED, trouble=Trouble.LOST))
    assert not judge(books).violations


def test_a_parcel_that_could_not_be_sent_again_leaves_no_trace_in_the_stock() -> None:
    books = every_kind()
    order_id = the(books, S.UNDELIVERED, trouble=Trouble.LOST).order_id
    add(books.reservations, ReservationRow(order_id, 2, "RELEASED", EARLIER, None))
    assert not judge(books).violations


def test_who_waits_for_goods_that_came_a_moment_ago_or_have_not_come_is_no_finding() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    books.waiting = [WaitingRow(order_id, 2, "410", NOW), WaitingRow(order_id, 3, None, None)]
    assert not judge(books).violations


def test_the_parts_of_an_order_may_each_be_where_they_are() -> None:
    books = every_kind()
    order_id = the(books, S.SHIPPED).order_id
    change(books.reservations, of(order_id), plan=1)
    add(books.reservations, ReservationRow(order_id, 2, "AWAITED", EARLIER, "milk x 1", 1))
    assert not judge(books).violations

"""Who is filled first, and what day those who wait are told: the rules, without a database."""

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import given, settings

from contracts.inventory import StockLine
from services.inventory.model.planning import Available
from services.inventory.model.waiting import Announced, Awaiting, by_day, expected_days, filled

TODAY = date(2026, 11, 27)
IN_A_WEEK = TODAY + timedelta(7)
PRODUCTS, WAREHOUSES = ("bread", "milk"), ("w1", "w2")


def waits(number: int, at: str | None = None, **lines: int) -> Awaiting:
    return Awaiting(
        (UUID(int=number), 1), [StockLine(product_id=product, quantity=units) for product, units in lines.items()], at
    )


def comes(days: int, warehouse_id: str = "w1", **lines: int) -> list[Announced]:
    return [Announced(warehouse_id, product, units, TODAY + timedelta(days=days)) for product, units in lines.items()]


def numbers(found: list[tuple[Awaiting, str]]) -> list[tuple[int, str]]:
    return [(parcel.key[0].int, warehouse) for parcel, warehouse in found]


def test_the_oldest_comes_first_and_who_does_not_fit_keeps_nobody_waiting() -> None:
    queue = [waits(1, milk=5), waits(2, milk=2), waits(3, milk=2), waits(4, milk=1)]
    assert numbers(filled(queue, {"w1": {"milk": 3}})) == [(2, "w1"), (4, "w1")]
    assert numbers(filled(queue, {"w1": {"milk": 7}})) == [(1, "w1"), (2, "w1")]


def test_a_parcel_is_filled_whole_from_one_warehouse_and_only_from_where_it_may() -> None:
    stock = {"w1": {"milk": 1}, "w2": {"milk": 1, "bread": 1}}
    assert numbers(filled([waits(1, milk=2)], stock)) == []
    assert numbers(filled([waits(1, milk=1, bread=1)], stock)) == [(1, "w2")]
    assert numbers(filled([waits(1, "w1", milk=1, bread=1), waits(2, "w2", milk=1)], stock)) == [(2, "w2")]


def test_what_is_announced_is_promised_once_the_oldest_first() -> None:
    queue = [waits(1, milk=2), waits(2, milk=2), waits(3, milk=2), waits(4, "w2", milk=1)]
    days = expected_days(queue, {}, [*comes(3, milk=3), *comes(9, milk=1)], TODAY)
    assert [days[parcel.key] for parcel in queue] == [TODAY + timedelta(3), TODAY + timedelta(9), None, None]


def test_what_is_overdue_promises_nothing() -> None:
    queue = [waits(1, milk=2)]
    assert expected_days(queue, {}, comes(-1, milk=9), TODAY) == {queue[0].key: None}
    assert expected_days(queue, {}, comes(0, milk=9), TODAY) == {queue[0].key: TODAY}


def test_a_parcel_is_expected_when_its_last_line_is_at_one_warehouse() -> None:
    queue = [waits(1, milk=1, bread=1)]
    announced = [*comes(2, "w1", milk=1), *comes(5, "w2", bread=1), *comes(7, "w1", bread=1)]
    assert expected_days(queue, {}, announced, TODAY) == {queue[0].key: TODAY + timedelta(7)}
    assert expected_days(queue, {"w2": {"milk": 1}}, announced, TODAY) == {queue[0].key: TODAY + timedelta(5)}


def parted(lines: Awaiting, *announced: Announced, queue: Sequence[Awaiting] = (), most: int = 20) -> list[dict[str, int]]:
    found = by_day(lines.lines, queue, {}, announced, TODAY, warehouse_id=lines.warehouse_id, most=most)
    return [{line.product_id: line.quantity for line in parcel} for parcel in found]


def test_what_comes_on_one_day_to_one_warehouse_comes_together() -> None:
    wanted = waits(1, bread=1, milk=1, oil=1)
    same = [*comes(3, "w1", bread=1, milk=1), *comes(9, "w1", oil=1)]
    assert parted(wanted, *same) == [{"bread": 1, "milk": 1}, {"oil": 1}]
    assert parted(wanted, *comes(3, "w2", bread=1), *same) == [{"bread": 1, "milk": 1}, {"oil": 1}]
    elsewhere = [*comes(3, "w1", bread=1), *comes(3, "w2", milk=1, oil=1)]
    assert parted(wanted, *elsewhere) == [{"bread": 1}, {"milk": 1, "oil": 1}]


def test_what_nobody_knows_the_day_of_comes_together_and_last() -> None:
    assert parted(waits(1, bread=1, milk=1, oil=1), *comes(3, milk=1), *comes(-1, oil=9)) == [{"milk": 1}, {"bread": 1, "oil": 1}]
    assert parted(waits(1, "w2", bread=1, milk=1), *comes(3, "w1", milk=1)) == [{"bread": 1, "milk": 1}]
    assert parted(waits(1, bread=1, milk=1)) == [{"bread": 1, "milk": 1}]


def test_days_are_those_behind_the_queue() -> None:
    wanted, announced = waits(2, bread=1, milk=1), [*comes(2, bread=1, milk=1), *comes(5, milk=1)]
    assert parted(wanted, *announced) == [{"bread": 1, "milk": 1}]
    assert parted(wanted, *announced, queue=[waits(1, milk=1)]) == [{"bread": 1}, {"milk": 1}]


def test_there_are_no_more_parcels_than_there_may_be() -> None:
    announced = [*comes(9, bread=1), *comes(2, milk=1), *comes(5, oil=1)]
    assert parted(waits(1, bread=1, milk=1, oil=1), *announced) == [{"milk": 1}, {"oil": 1}, {"bread": 1}]
    assert parted(waits(1, bread=1, milk=1, oil=1), *announced, most=2) == [{"milk": 1}, {"oil": 1, "bread": 1}]


parcels = st.lists(
    st.tuples(st.sampled_from([None, *WAREHOUSES]), st.dictionaries(st.sampled_from(PRODUCTS), st.integers(1, 4), min_size=1)),
    max_size=6,
)
shelves = st.dictionaries(st.sampled_from(WAREHOUSES), st.dictionaries(st.sampled_from(PRODUCTS), st.integers(0, 6)))


@settings(max_examples=300, deadline=None)
@given(parcels, shelves)
def test_nothing_is_promised_twice_and_nobody_who_fits_is_left(
    wanted: list[tuple[str | None, dict[str, int]]], available: Available
) -> None:
    queue = [waits(number, at, **lines) for number, (at, lines) in enumerate(wanted)]
    found = filled(queue, available)
    left = {warehouse: dict(stock) for warehouse, stock in available.items()}
    for parcel, warehouse in found:
        assert parcel.warehouse_id in (None, warehouse)
        for line in parcel.lines:
            left[warehouse][line.product_id] -= line.quantity
    assert all(units >= 0 for stock in left.values() for units in stock.values())
    assert [parcel.key for parcel, _ in found] == sorted(parcel.key for parcel, _ in found)
    assert filled([parcel for parcel in queue if parcel not in [done for done, _ in found]], left) == []
    # Who can be filled now is expected today.
    days = expected_days(queue, available, [], TODAY)
    assert {key for key, day in days.items() if day == TODAY} == {parcel.key for parcel, _ in found}


arrivals = st.lists(
    st.builds(Announced, st.sampled_from(WAREHOUSES), st.sampled_from(PRODUCTS), st.integers(1, 4), st.dates(TODAY, IN_A_WEEK)),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(parcels, shelves, arrivals, st.dictionaries(st.sampled_from(PRODUCTS), st.integers(1, 4), min_size=1), st.integers(1, 3))
def test_no_line_comes_later_in_its_parcel_than_alone(
    wanted: list[tuple[str | None, dict[str, int]]],
    available: Available,
    announced: list[Announced],
    lines: dict[str, int],
    most: int,
) -> None:
    queue, new = [waits(number, at, **of) for number, (at, of) in enumerate(wanted)], waits(99, None, **lines)
    found = by_day(new.lines, queue, available, announced, TODAY, most=most)
    assert sorted((line for parcel in found for line in parcel), key=str) == sorted(new.lines, key=str)
    assert len(found) <= most
    if most > 1:  # of two lines
        for parcel in found:
            days = [
                expected_days([*queue, Awaiting(new.key, some)], available, announced, TODAY)[new.key]
                for some in (parcel, *([line] for line in parcel))
            ]
            assert len(set(days)) == 1

"""From which warehouses an order comes: the policy, held against plain statements of what it promises."""

from itertools import combinations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from contracts.inventory import Place, StockLine
from services.inventory.model.planning import MOST_PARCELS, Available, Plan, distance, planned

PRODUCTS = ("bread", "cheese", "milk", "oil")
WAREHOUSES = ("w0", "w1", "w2", "w3", "w4")
quantities = st.dictionaries(st.sampled_from(PRODUCTS), st.integers(1, 6), min_size=1)
shelves = st.dictionaries(st.sampled_from(WAREHOUSES), st.dictionaries(st.sampled_from(PRODUCTS), st.integers(0, 6)))
distances = st.fixed_dictionaries({warehouse: st.integers(0, 3) for warehouse in WAREHOUSES})


def lines(wanted: dict[str, int]) -> list[StockLine]:
    return [StockLine(product_id=product, quantity=quantity) for product, quantity in wanted.items()]


def sent(plan: Plan) -> dict[str, dict[str, int]]:
    return {part.warehouse_id: {line.product_id: line.quantity for line in part.lines} for part in plan.parts}


def whole_covers(wanted: dict[str, int], available: Available, warehouses: tuple[str, ...]) -> bool:
    return all(any(available[name].get(product, 0) >= units for name in warehouses) for product, units in wanted.items())


@settings(max_examples=500, deadline=None)
@given(quantities, shelves, distances, st.booleans(), st.booleans(), st.integers(1, 6))
def test_every_unit_is_planned_once_and_none_that_is_not_there(
    wanted: dict[str, int], available: Available, far: dict[str, int], may_split: bool, rest_waits: bool, most: int
) -> None:
    plan = planned(lines(wanted), available, may_split=may_split, rest_waits=rest_waits, distances=far, most=most)
    taken = sent(plan)
    assert len(taken) == len(plan.parts) <= (most if may_split else 1)
    assert len(plan.parts) + bool(rest_waits and plan.short) <= most or (most == 1 and not may_split)
    for warehouse, stock in taken.items():
        assert stock
        assert all(0 < units <= available[warehouse].get(product, 0) for product, units in stock.items())
    short = {line.product_id: line for line in plan.short}
    rest = {line.product_id: line.quantity for line in plan.rest}
    for product, units in wanted.items():
        planned_units = sum(stock.get(product, 0) for stock in taken.values())
        assert planned_units + rest.get(product, 0) == units
        assert (short[product].requested, short[product].available) == (units, planned_units) if product in short else True
        if may_split and most >= len(WAREHOUSES) + 1:  # nothing that is there is left out
            assert planned_units == min(units, sum(stock.get(product, 0) for stock in available.values()))


@settings(max_examples=500, deadline=None)
@given(quantities, shelves, distances)
def test_it_comes_in_the_fewest_parcels_from_the_nearest_warehouses(
    wanted: dict[str, int], available: Available, far: dict[str, int]
) -> None:
    plan = planned(lines(wanted), available, may_split=True, distances=far)
    choices = [choice for size in range(1, 6) for choice in combinations(sorted(available), size)]
    whole = [choice for choice in choices if whole_covers(wanted, available, choice)]
    if whole:
        fewest = min(map(len, whole))
        nearest = min(sum(far[name] for name in choice) for choice in whole if len(choice) == fewest)
        assert not plan.short
        assert (len(plan.parts), sum(far[part.warehouse_id] for part in plan.parts)) == (fewest, nearest)
        assert all(stock[product] == wanted[product] for stock in sent(plan).values() for product in stock)
        if fewest == 1:  # then it does not matter whether it may be split
            assert plan == planned(lines(wanted), available, distances=far)
        return
    enough = [
        choice
        for choice in choices
        if all(sum(available[name].get(product, 0) for name in choice) >= units for product, units in wanted.items())
    ]
    assert bool(enough) != bool(plan.short)
    if enough:
        assert len(plan.parts) == min(map(len, enough))


def test_of_equally_near_warehouses_the_first_by_id_sends() -> None:
    stock = {"w2": {"milk": 5}, "w1": {"milk": 5}, "w0": {"milk": 1}}
    assert sent(planned(lines({"milk": 2}), stock)) == {"w1": {"milk": 2}}
    assert sent(planned(lines({"milk": 2}), stock, distances={"w1": 3, "w2": 1})) == {"w2": {"milk": 2}}


def test_a_line_is_cut_only_if_no_warehouse_has_it_whole() -> None:
    stock = {"w0": {"milk": 3, "bread": 1}, "w1": {"milk": 3}, "w2": {"milk": 4, "bread": 1}, "w3": {"bread": 2}}
    assert sent(planned(lines({"milk": 4, "bread": 2}), stock, may_split=True)) == {"w2": {"milk": 4}, "w3": {"bread": 2}}
    cut = planned(lines({"milk": 7, "bread": 2}), stock, may_split=True)
    assert (len(cut.parts), cut.short) == (2, ())


def test_what_may_not_be_split_comes_from_the_warehouse_that_lacks_least() -> None:
    stock = {"w0": {"milk": 3}, "w1": {"milk": 3, "bread": 1}}
    plan = planned(lines({"milk": 3, "bread": 2}), stock, rest_waits=True)
    assert sent(plan) == {"w1": {"milk": 3, "bread": 1}}
    assert plan.rest == (StockLine(product_id="bread", quantity=1),)


def test_no_more_parcels_than_an_order_may_have() -> None:
    stock = {f"w{number:02}": {f"p{number}": 1} for number in range(30)}
    wanted = {f"p{number}": 1 for number in range(30)}
    assert len(planned(lines(wanted), stock, may_split=True).parts) == MOST_PARCELS
    waiting = planned(lines(wanted), stock, may_split=True, rest_waits=True)
    assert (len(waiting.parts), len(waiting.rest)) == (MOST_PARCELS - 1, 11)


def test_with_many_warehouses_each_next_one_has_most_of_what_is_left() -> None:
    """Too many choices to compare: it is quick, and everything is still sent once."""
    stock = {f"w{number:03}": {f"p{(number + step) % 60}": 2 for step in range(4)} for number in range(60)}
    plan = planned(lines({f"p{number}": 2 for number in range(60)}), stock, may_split=True)
    assert not plan.short
    assert len(plan.parts) <= MOST_PARCELS
    assert sum(line.quantity for part in plan.parts for line in part.lines) == 120


OHIO = Place(country="US", region="OH", postal_code="45202")


@pytest.mark.parametrize(
    ("warehouse", "far"),
    [
        (Place(country="US", region="OH", postal_code="452 99"), 0),
        (Place(country="US", region="OH", postal_code="45999"), 1),
        (Place(country="US", region="IN", postal_code="47001"), 2),
        (Place(country="US", region="OH", postal_code=""), 2),
        (Place(country="US", region="CA", postal_code="90001"), 3),
        (Place(country="DE", region=None, postal_code="45202"), 5),
        (None, 5),
    ],
)
def test_how_far_a_warehouse_is_goes_by_postal_zone(warehouse: Place | None, far: int) -> None:
    assert distance(warehouse, OHIO) == far
    assert distance(warehouse, None) == 0

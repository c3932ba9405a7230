"""Whatever is split and cancelled of an order, in whatever sequence: what goes back is the price of the units that are gone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from contracts.orders import LineUnits, OrderLine
from contracts.parcels import ParcelStatus
from contracts.pricing import LineAmounts
from testing.sagas import place_order
from workflows.parcels import Parcel, Parcels

S = ParcelStatus
IN_THE_HOUSE = (S.AWAITED, S.RESERVED, S.BOOKED)
amounts = st.builds(
    lambda items, off, shipping, tax, credit: LineAmounts(
        items=items, discount=min(off, items), shipping=shipping, tax=tax, credit=min(credit, items - min(off, items))
    ),
    *[st.integers(0, 10_000) for _ in range(5)],
)
lines = st.lists(st.tuples(st.integers(1, 7), st.none() | amounts), min_size=1, max_size=3)
wanted = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3)
deeds = st.lists(
    st.tuples(
        st.sampled_from(("cancel", "split", "move")), st.integers(0, 30), wanted, st.sampled_from((*IN_THE_HOUSE, S.SHIPPED))
    ),
    max_size=12,
)


def cancel(parcels: Parcels, units: list[LineUnits]) -> list[Parcel]:
    """As the workflow does it, when the carrier lets it."""
    called_off = []
    for taken in parcels.last_units(units):
        if taken.is_whole:
            called_off.append(taken.parcel)
            continue
        other = parcels.apart(taken, parcels.tried + 1)
        had_label = taken.parcel.has_label
        parcels.split(taken.parcel, other)
        called_off.append(taken.parcel if had_label else other)
    for parcel in called_off:
        parcel.status = S.CANCELLED
    return called_off


def units_of(parcels: list[Parcel]) -> Counter[tuple[int, int]]:
    return Counter((line.line_id, line.first + at) for each in parcels for line in each.lines for at in range(line.quantity))


@given(lines, deeds)
def test_what_goes_back_is_the_price_of_the_units_that_are_gone(
    ordered: list[tuple[int, LineAmounts | None]], deeds: list[tuple[str, int, list[tuple[int, int]], ParcelStatus]]
) -> None:
    price = place_order().lines[0].unit_price
    order_lines = tuple(
        OrderLine(line_id=line_id, product_id=f"p{line_id}", name="-", quantity=quantity, unit_price=price, amounts=share)
        for line_id, (quantity, share) in enumerate(ordered, start=1)
    )
    total = sum(line.share_of(0, line.quantity).total for line in order_lines)
    order = place_order().model_copy(update={"lines": order_lines})
    parcels = Parcels(order)
    parcels.assume_one("1")
    refunded = 0
    for deed, number, wish, status in deeds:
        units = [LineUnits(line_id=line_id, quantity=quantity) for line_id, quantity in wish]
        parcel = list(parcels)[number % len(parcels)]
        if deed == "cancel":
            before = parcels.cancellable()
            gone = cancel(parcels, units)
            refunded += parcels.price_of(gone).minor
            asked = Counter[int]()
            for one in units:
                asked[one.line_id] += one.quantity
            taken = {line_id: min(quantity, before.get(line_id, 0)) for line_id, quantity in asked.items()}
            after = parcels.cancellable()
            assert {line_id: before.get(line_id, 0) - after.get(line_id, 0) for line_id in asked} == taken
        elif deed == "split" and parcel.is_in_the_house and (other := parcels.part_of(parcel, units)):
            parcels.split(parcel, other)
        elif deed == "move" and parcel.is_in_the_house:
            parcel.status = status
        assert units_of(list(parcels)) == {(line.line_id, at): 1 for line in order_lines for at in range(line.quantity)}
        assert all(each.lines for each in parcels)
        assert total == parcels.price_of(parcels.counting).minor + refunded


def test_what_is_awaited_is_cancelled_first_and_of_that_the_last_units() -> None:
    milk = place_order().lines[0].model_copy(update={"quantity": 5, "line_id": 1})
    parcels = Parcels(place_order().model_copy(update={"lines": (milk,)}))
    parcels.assume_one("1")
    for status in (S.AWAITED, S.RESERVED):
        first = next(iter(parcels))
        other = parcels.part_of(first, [LineUnits(line_id=1, quantity=2)])
        assert other
        other.status = status
        parcels.split(first, other)
    next(iter(parcels)).status = S.BOOKED
    assert [(each.status, each.lines[0].first) for each in parcels] == [(S.BOOKED, 0), (S.AWAITED, 3), (S.RESERVED, 1)]

    def taken(units: int) -> list[tuple[ParcelStatus, int, int]]:
        found = parcels.last_units([LineUnits(line_id=1, quantity=units)])
        return [(each.parcel.status, each.lines[0].first, each.lines[0].quantity) for each in found]

    assert taken(1) == [(S.AWAITED, 4, 1)]
    assert taken(3) == [(S.AWAITED, 3, 2), (S.RESERVED, 2, 1)]
    assert taken(5) == [(S.BOOKED, 0, 1), (S.AWAITED, 3, 2), (S.RESERVED, 1, 2)]
    assert parcels.last_units([LineUnits(line_id=9, quantity=1)]) == []

"""Which boxes a parcel goes in, what is billed for a box, and which rate is bought: pure rules."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.shipments import ShipmentLine
from services.shipping.model.choosing import Preference, choose
from services.shipping.model.packing import BOXES, MOST_PACKAGES, Box, billable_grams, billed, pack
from services.shipping.model.rates import HEAVIEST_GRAMS
from services.shipping.ports import Rate, Size


def line(product: str, quantity: int, grams: int) -> ShipmentLine:
    price = Money(amount=Decimal(2))
    return ShipmentLine(product_id=product, name=product, quantity=quantity, unit_price=price, weight_grams=grams)


@pytest.mark.parametrize(
    ("grams", "boxes"),
    [
        (1, ["envelope"]),
        (883, ["envelope"]),
        (884, ["small"]),
        (2_160, ["small"]),
        (2_161, ["medium"]),
        (7_840, ["medium"]),
        (18_900, ["large"]),
        (30_000, ["largest"]),
        (30_001, ["large", "large"]),
        (150_000, ["largest"] * 5),
    ],
)
def test_the_smallest_box_that_holds_it(grams: int, boxes: list[str]) -> None:
    packed = pack(grams, (), BOXES)
    assert [one.box.name for one in packed] == boxes
    assert sum(one.goods_grams for one in packed) == grams
    assert packed[0].weight_grams == packed[0].goods_grams + packed[0].box.own_grams


def test_units_stay_whole_and_one_that_is_too_heavy_goes_alone() -> None:
    packed = pack(61_000, [line("milk", 3, 1_000), line("anvil", 1, 45_000), line("flour", 13, 1_000)], BOXES)
    assert [[(each.product_id, each.quantity) for each in one.lines] for one in packed] == [
        [("milk", 3)], [("anvil", 1)], [("flour", 13)],
    ]  # fmt: skip
    assert packed[1].box.name == "largest"


def test_where_nobody_knows_the_lines_weights_the_papers_are_in_the_first() -> None:
    packed = pack(40_000, [line("milk", 3, 0)], BOXES)
    assert [len(one.lines) for one in packed] == [1, 0]


def test_too_many_packages_are_too_heavy() -> None:
    tiny = (Box(name="tiny", length=100, width=100, height=100, own_grams=0, most_grams=100),)
    for lines in ((), [line("milk", 3_000, 1)]):
        with pytest.raises(Refusal) as refused:
            pack(3_000, lines, tiny)
        assert refused.value.code == ErrorCode.PARCEL_TOO_HEAVY


LINES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 31_000)), max_size=6)


@given(LINES)
def test_all_of_it_is_packed_and_no_box_is_too_full(amounts: list[tuple[int, int]]) -> None:
    lines = [line(f"p{number}", quantity, grams) for number, (quantity, grams) in enumerate(amounts)]
    weight = sum(each.weight_grams * each.quantity for each in lines)
    if weight > HEAVIEST_GRAMS:
        return
    packed = pack(max(weight, 1), lines, BOXES)
    assert len(packed) <= MOST_PACKAGES
    assert sum(one.goods_grams for one in packed) in (weight, max(weight, 1))
    for product in lines:
        units = [each.quantity for one in packed for each in one.lines if each.product_id == product.product_id]
        assert sum(units) == product.quantity
    for one in packed:
        heaviest = max((each.weight_grams for each in one.lines), default=0)
        assert one.goods_grams <= max(one.box.holds_grams, heaviest)
        assert all(each.quantity > 0 for each in one.lines)


def test_room_is_billed_as_weight() -> None:
    size = Size(600, 400, 400)
    assert size.millilitres == 96_000
    assert [billable_grams(grams, size, 5_000) for grams in (1, 19_200, 25_000)] == [19_200, 19_200, 25_000]
    assert (billed(1, size, "USPS"), billed(1, size, "FedEx")) == (16_000, 19_200)
    assert billable_grams(1, Size(10, 10, 10), 5_000) == 1


def rate(name: str, cents: int, days: int | None) -> Rate:
    return Rate(name, "C", name, Money.from_minor(cents, "USD"), days)


SLOW, FAIR, FAST, VAGUE = rate("slow", 500, 7), rate("fair", 700, 4), rate("fast", 2_000, 1), rate("vague", 100, None)
ALL = [SLOW, FAIR, FAST, VAGUE]


@pytest.mark.parametrize(
    ("rates", "service", "days", "preference", "chosen"),
    [
        (ALL, "standard", 4, "price", FAIR),
        (ALL, "standard", 4, "speed", FAST),
        (ALL, "standard", 9, "price", SLOW),
        (ALL, "standard", None, "price", VAGUE),
        (ALL, "express", 4, "price", FAST),
        ([SLOW, FAIR], "express", 1, "price", FAIR),  # none in time: the fastest
        ([SLOW, VAGUE], "standard", 1, "price", SLOW),
        ([VAGUE], "standard", 1, "price", VAGUE),
        ([rate("dear", 900, 4), FAIR], "express", 4, "price", FAIR),
    ],
)
def test_which_rate_is_bought(rates: list[Rate], service: str, days: int | None, preference: str, chosen: Rate) -> None:
    choice = choose(rates, service, days, Preference(preference))
    assert choice is not None
    assert (choice.rate, bool(choice.reason)) == (chosen, True)


def test_of_nothing_nothing_is_chosen() -> None:
    assert choose([], "standard", 4, Preference.PRICE) is None

"""What orders cost: whatever lines, parcels, reductions and taxes, the parts add up to the cent."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import Money
from contracts.orders import OrderLine
from contracts.pricing import DiscountKind, LineAmounts
from contracts.returns import ReturnLine, ReturnReason
from services.order.model.pricing import PlannedParcel, Priced, Reduction, as_it_was, price, spread, with_credit
from services.order.ports import TaxRate

VAT = TaxRate("VAT 19 %", Decimal("0.19"))


def line(cents: int, quantity: int = 1, grams: int = 500) -> OrderLine:
    price = Money.from_minor(cents, "USD")
    return OrderLine(product_id="p", name="P", quantity=quantity, unit_price=price, weight_grams=grams)


def parcel(cents: int, *units: int) -> PlannedParcel:
    return PlannedParcel(service="standard", price=Money.from_minor(cents, "USD"), days=4, units=units)


def percent(value: str) -> Reduction:
    return Reduction("P", DiscountKind.PERCENT, percent=Decimal(value))


def amount(cents: int) -> Reduction:
    return Reduction("A", DiscountKind.AMOUNT, amount_minor=cents)


FREE_SHIPPING = Reduction("F", DiscountKind.FREE_SHIPPING)


def shares(priced: Priced, field: str) -> list[int]:
    return [getattr(line.amounts, field) for line in priced.lines]


def test_goods_shipping_and_tax_on_top_make_the_total() -> None:
    priced = price([line(1000, 2), line(500)], parcels=[parcel(590, 2, 1)], taxes=[VAT])
    charges = priced.charges
    assert [charges.items.minor, charges.shipping.minor, charges.tax.minor, charges.total.minor] == [2500, 590, 587, 3677]
    assert [line.line_id for line in priced.lines] == [1, 2]
    assert shares(priced, "shipping") == [393, 197]  # by weight: 1000 g and 500 g
    assert charges.taxes[0].amount.minor == 587
    assert sum(shares(priced, "total")) == 3677


def test_tax_that_is_included_does_not_change_the_total() -> None:
    charges = price([line(1190)], parcels=[parcel(595, 1)], taxes=[VAT], prices_include_tax=True).charges
    assert [charges.total.minor, charges.tax.minor] == [1785, 285]


def test_tax_is_of_shipping_only_where_shipping_is_taxed() -> None:
    ohio = TaxRate("Sales tax, Ohio", Decimal("0.1"), on_shipping=False)
    assert price([line(1000)], parcels=[parcel(500, 1)], taxes=[ohio]).charges.tax.minor == 100


def test_two_taxes_are_each_told_with_what_they_come_to() -> None:
    taxes = [TaxRate("GST", Decimal("0.05")), TaxRate("QST", Decimal("0.09975"))]
    charges = price([line(10000)], parcels=[], taxes=taxes).charges
    assert [tax.amount.minor for tax in charges.taxes] == [500, 998]
    assert charges.total.minor == 11498


def test_reductions_are_taken_one_after_the_other_and_taxed_no_more() -> None:
    priced = price([line(1000), line(3000)], parcels=[], reductions=[percent("10"), amount(600)], taxes=[VAT])
    assert shares(priced, "discount") == [250, 750]
    assert [discount.amount.minor for discount in priced.charges.discounts] == [400, 600]
    assert priced.charges.tax.minor == 570


def test_an_amount_takes_off_no_more_than_the_goods_cost() -> None:
    charges = price([line(1000)], parcels=[parcel(500, 1)], reductions=[amount(5000), percent("50")]).charges
    assert [charges.discount.minor, charges.total.minor] == [1000, 500]
    assert [discount.code for discount in charges.discounts] == ["A"]  # nothing was left for the second


def test_free_shipping_takes_off_what_the_parcels_cost() -> None:
    charges = price([line(1000, 2)], parcels=[parcel(590, 1), parcel(990, 1)], reductions=[FREE_SHIPPING]).charges
    assert [(parcel.price.minor, parcel.charged.minor) for parcel in charges.parcels] == [(590, 0), (990, 0)]
    assert [charges.discount.minor, charges.shipping.minor, charges.total.minor] == [0, 0, 2000]
    assert charges.discounts[0].amount.minor == 1580


def test_parcels_are_free_from_what_the_goods_cost_after_reductions() -> None:
    threshold = Money(amount=Decimal(20))
    for reductions, total in ([], 2000), ([amount(1)], 1999 + 590):
        charges = price([line(2000)], parcels=[parcel(590, 1)], reductions=reductions, free_shipping_from=threshold).charges
        assert charges.total.minor == total


def test_a_parcel_that_is_priced_in_another_currency_is_not_charged() -> None:
    euros = OrderLine(product_id="p", name="P", quantity=1, unit_price=Money(amount=Decimal(5), currency="EUR"))
    assert str(price([euros], parcels=[parcel(590, 1)]).charges.total) == "5.00 EUR"


def test_each_parcel_is_paid_by_the_lines_that_are_in_it() -> None:
    priced = price([line(100, 2), line(100)], parcels=[parcel(590, 2, 0), parcel(990, 0, 1)])
    assert shares(priced, "shipping") == [590, 990]


def test_what_weighs_nothing_shares_by_units() -> None:
    priced = price([line(100, 3, grams=0), line(100, 1, grams=0)], parcels=[parcel(400, 3, 1)])
    assert shares(priced, "shipping") == [300, 100]


def test_a_total_that_is_no_sum_of_money_is_refused() -> None:
    with pytest.raises(OverflowError):
        price([line(9_999_999_999_999)], parcels=[], taxes=[VAT])


@given(st.integers(0, 10**13), st.lists(st.integers(0, 10**13), min_size=1, max_size=10))
def test_what_is_spread_adds_up_and_each_has_its_share(amount: int, weights: list[int]) -> None:
    parts = spread(amount, weights)
    assert sum(parts) == amount
    whole = sum(weights)
    if whole:
        assert all(abs(part * whole - amount * weight) < whole for part, weight in zip(parts, weights, strict=True))


CENTS = st.integers(0, 200_000)
LINES = st.lists(st.builds(line, CENTS, st.integers(1, 50), st.integers(0, 5000)), min_size=1, max_size=6)
REDUCTIONS = st.lists(
    st.one_of(st.builds(percent, st.decimals(0, 100, places=2).map(str)), st.builds(amount, CENTS), st.just(FREE_SHIPPING)),
    max_size=5,
)
TAXES = st.lists(st.builds(TaxRate, st.just("Tax"), st.decimals(0, "0.3", places=5), st.booleans()), max_size=3)


@st.composite
def priced_orders(draw: st.DrawFn) -> Priced:
    lines = draw(LINES)
    first = [draw(st.integers(0, line.quantity)) for line in lines]
    parts = [first, [line.quantity - units for line, units in zip(lines, first, strict=True)]]
    return price(
        lines,
        parcels=[parcel(draw(st.integers(0, 20_000)), *units) for units in parts if any(units)],
        reductions=draw(REDUCTIONS),
        taxes=draw(TAXES),
        prices_include_tax=draw(st.booleans()),
        free_shipping_from=draw(st.none() | st.builds(Money.from_minor, CENTS, st.just("USD"))),
    )


def fields(amounts: LineAmounts) -> dict[str, int]:
    return {name: getattr(amounts, name) for name in ("items", "discount", "shipping", "tax", "total")}


@given(priced_orders())
def test_the_lines_add_up_to_the_charges(priced: Priced) -> None:
    charges = priced.charges
    for name in ("items", "discount", "shipping", "tax", "total"):
        assert getattr(charges, name).minor == sum(shares(priced, name))
        assert min(shares(priced, name)) >= 0
    added = 0 if charges.prices_include_tax else charges.tax.minor
    assert charges.total.minor == charges.items.minor - charges.discount.minor + charges.shipping.minor + added
    assert charges.shipping.minor == sum(parcel.charged.minor for parcel in charges.parcels)
    assert charges.tax.minor == sum(tax.amount.minor for tax in charges.taxes)
    off_goods = [discount for discount in charges.discounts if discount.kind != DiscountKind.FREE_SHIPPING]
    assert charges.discount.minor == sum(discount.amount.minor for discount in off_goods)
    assert all(discount.amount.minor > 0 for discount in charges.discounts)


@given(priced_orders(), st.data())
def test_the_units_of_a_line_add_up_to_it_however_they_are_parted(priced: Priced, data: st.DataObject) -> None:
    for line in priced.lines:
        cuts = sorted(data.draw(st.sets(st.integers(1, line.quantity))) | {0, line.quantity})
        assert line.amounts
        parts = [fields(line.amounts.of(line.quantity, first, after - first)) for first, after in pairwise(cuts)]
        assert {name: sum(part[name] for part in parts) for name in parts[0]} == fields(line.amounts)
        assert all(value >= 0 for part in parts for value in part.values())


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 9)), min_size=1, max_size=5),
    st.integers(0, 2000),
    st.integers(0, 100),
    st.booleans(),
    st.integers(0, 60_000),
)
def test_credit_adds_up_and_no_unit_has_more_of_it_than_it_costs(
    goods: list[tuple[int, int]], shipping: int, off: int, included: bool, credit: int
) -> None:
    lines = [line(cents, quantity) for cents, quantity in goods]
    priced = price(
        lines,
        parcels=[parcel(shipping, *[quantity for _, quantity in goods])],
        reductions=[percent(str(off))],
        taxes=[VAT],
        prices_include_tax=included,
    )
    paid = with_credit(priced, credit)
    used = min(credit, priced.charges.total.minor)
    assert (paid.charges.credit.minor if paid.charges.credit else 0) == used
    assert paid.charges.total.minor == priced.charges.total.minor - used >= 0
    assert sum(shares(paid, "credit")) == used
    assert sum(shares(paid, "total")) == paid.charges.total.minor
    for each in paid.lines:
        assert each.amounts
        units = [each.share_of(n, 1) for n in range(each.quantity)]
        assert all(0 <= unit.credit <= unit.price for unit in units)
        assert sum(unit.credit for unit in units) == each.amounts.credit
        assert sum(unit.total for unit in units) == each.amounts.total


@given(st.integers(1, 5000), st.integers(2, 9), st.data())
def test_what_is_sent_once_more_costs_what_it_cost(cents: int, quantity: int, data: st.DataObject) -> None:
    sold = price([line(cents, quantity), line(700, 3)], parcels=[parcel(590, quantity, 3)], reductions=[amount(99)], taxes=[VAT])
    first = data.draw(st.integers(0, quantity - 1))
    units = data.draw(st.integers(1, quantity - first))
    parts = [
        ReturnLine(line_id=n, product_id="p", quantity=many, first=start, parcel=1, reason=ReturnReason.DAMAGED)
        for n, start, many in ((1, first, units), (2, 0, 1), (2, 2, 1))
    ]
    again = as_it_was(sold.lines, parts, sold.charges)
    worth = sum(sold.lines[part.line_id - 1].share_of(part.first, part.quantity).price for part in parts)
    assert again.charges.total.minor == worth == sum(shares(again, "total"))
    assert [line.quantity for line in again.lines] == [units, 2]
    free = with_credit(again, worth)
    assert free.charges.total == Money.zero()
    assert set(shares(free, "total")) == {0}

"""What a return comes to: shares of what was paid, over any returns of one order, for any units in any condition."""

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.address import Address
from contracts.money import Money
from contracts.orders import OrderLine
from contracts.pricing import LineAmounts
from contracts.returns import (
    SHOPS_FAULT,
    Condition,
    ReceivedLine,
    Resolution,
    ReturnedUnits,
    ReturnKind,
    ReturnLine,
    ReturnReason,
    ReturnRun,
    ReturnTerms,
    settlement_of,
    units_that_came,
)

FREE = ReturnTerms()
CENTS = st.integers(0, 100_000)


@st.composite
def order_lines(draw: st.DrawFn) -> tuple[OrderLine, ...]:
    """Of an order that was paid in part with the credit of a return."""
    lines = []
    for line_id in range(1, draw(st.integers(1, 3)) + 1):
        items, quantity = draw(CENTS), draw(st.integers(1, 7))
        amounts = LineAmounts(
            items=items,
            discount=draw(st.integers(0, items)),
            shipping=draw(CENTS),
            tax=draw(CENTS),
            tax_included=draw(st.booleans()),
        )
        lines.append(
            OrderLine(
                line_id=line_id,
                product_id=f"product-{line_id}",
                name="Goods",
                quantity=quantity,
                unit_price=Money.from_minor(items // quantity, "USD"),
                weight_grams=100,
                amounts=amounts.model_copy(update={"credit": draw(st.integers(0, amounts.price))}),
            )
        )
    return tuple(lines)


@st.composite
def returns(draw: st.DrawFn, reasons: Collection[ReturnReason] = tuple(ReturnReason)) -> tuple[tuple[OrderLine, ...], list[Any]]:
    """An order's lines, and returns of parts of them that have no unit in common and leave none out."""
    lines = draw(order_lines())
    parts: list[list[ReturnLine]] = [[], [], []]
    for line in lines:
        first = 0
        while first < line.quantity:
            units = draw(st.integers(1, line.quantity - first))
            parts[draw(st.integers(0, 2))].append(
                ReturnLine(
                    line_id=line.line_id or 0,
                    product_id=line.product_id,
                    first=first,
                    quantity=units,
                    parcel=1,
                    reason=draw(st.sampled_from(sorted(reasons))),
                )
            )
            first += units
    return lines, [part for part in parts if part]


terms = st.builds(
    ReturnTerms,
    restocking_percent=st.integers(0, 100),
    damaged_percent=st.integers(0, 100),
    label_cost=st.one_of(st.none(), CENTS.map(lambda minor: Money.from_minor(minor, "USD"))),
)


def run_of(lines: tuple[OrderLine, ...], part: list[ReturnLine], agreed: ReturnTerms, number: int = 1) -> ReturnRun:
    return ReturnRun(
        order_id=UUID(int=1),
        number=number,
        customer_id=UUID(int=2),
        kind=ReturnKind.RETURN,
        resolution=Resolution.REFUND,
        order_lines=lines,
        lines=tuple(part),
        ship_from=Address(name="Ann", line1="1 Main St", city="Springfield", region="IL", postal_code="62701", country="US"),
        warehouse_id="410",
        currency="USD",
        terms=agreed,
        requested_at=datetime(2026, 11, 1, tzinfo=UTC),
    )


@given(returns())
def test_the_shares_of_all_returns_of_an_order_add_up_to_the_cent(made: tuple[tuple[OrderLine, ...], list[Any]]) -> None:
    lines, parts = made
    settled = [settlement_of(run_of(lines, part, FREE, number)) for number, part in enumerate(parts, start=1)]
    price = sum(line.amounts.price for line in lines if line.amounts)
    credit = sum(line.amounts.credit for line in lines if line.amounts)
    assert sum(it.value.minor for it in settled) == sum(it.goods.minor for it in settled) == price
    assert sum(it.of_credit.minor for it in settled) == credit
    assert sum(it.of_payment.minor for it in settled) == price - credit


@given(returns(), terms, st.data())
def test_never_more_goes_back_than_was_paid_of_each_payment(
    made: tuple[tuple[OrderLine, ...], list[Any]], agreed: ReturnTerms, data: st.DataObject
) -> None:
    lines, parts = made
    payment = credit = 0
    for part in parts:
        came = None
        if data.draw(st.booleans()):
            came = tuple(ReturnedUnits(line=line, condition=data.draw(st.sampled_from(Condition))) for line in part)
        settled = settlement_of(run_of(lines, part, agreed), came)
        assert 0 <= settled.of_credit.minor <= settled.value.minor <= settled.goods.minor
        assert settled.value + settled.restocking + settled.label == settled.goods
        payment, credit = payment + settled.of_payment.minor, credit + settled.of_credit.minor
    assert payment <= sum(line.amounts.total for line in lines if line.amounts)
    assert credit <= sum(line.amounts.credit for line in lines if line.amounts)


@given(returns(SHOPS_FAULT), terms)
def test_what_is_the_shop_s_fault_costs_no_fee(made: tuple[tuple[OrderLine, ...], list[Any]], agreed: ReturnTerms) -> None:
    lines, (part, *_) = made
    damaged = tuple(ReturnedUnits(line=line, condition=Condition.DAMAGED) for line in part)
    assert settlement_of(run_of(lines, part, agreed), damaged) == settlement_of(run_of(lines, part, FREE))


@given(returns(), st.data())
def test_what_came_is_some_of_what_was_announced_each_unit_once(
    made: tuple[tuple[OrderLine, ...], list[Any]], data: st.DataObject
) -> None:
    _, (part, *_) = made
    announced = Counter[int]()
    for line in part:
        announced[line.line_id] += line.quantity
    received = []
    for line_id, quantity in announced.items():
        good = data.draw(st.integers(0, quantity))
        damaged = data.draw(st.integers(0, quantity - good))
        counted = {Condition.GOOD: good, Condition.DAMAGED: damaged}
        received += [ReceivedLine(line_id=line_id, quantity=it, condition=how) for how, it in counted.items() if it]
    came = units_that_came(part, received)
    units = Counter((it.line.line_id, unit) for it in came for unit in range(it.line.first, it.line.first + it.line.quantity))
    known = {(line.line_id, unit) for line in part for unit in range(line.first, line.first + line.quantity)}
    assert set(units) <= known
    assert set(units.values()) <= {1}
    told = Counter[tuple[int, Condition]]()
    for it in came:
        told[it.line.line_id, it.condition] += it.line.quantity
    assert told == Counter({(it.line_id, it.condition): it.quantity for it in received})


def test_more_than_was_announced_cannot_have_come() -> None:
    line = ReturnLine(line_id=1, product_id="milk", quantity=2, parcel=1, reason=ReturnReason.WRONG_SIZE)
    with pytest.raises(ValueError, match="more came"):
        units_that_came([line], [ReceivedLine(line_id=1, quantity=3, condition=Condition.GOOD)])
    with pytest.raises(ValueError, match="more came"):
        units_that_came([line], [ReceivedLine(line_id=2, quantity=1, condition=Condition.GOOD)])

"""The order's one table of moves, and money's arithmetic."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import Money
from contracts.orders import FINAL_STATUSES, NEXT_STATUS, OrderStatus


def test_every_status_leads_to_an_end_and_none_leads_back() -> None:
    def ends(status: OrderStatus, seen: frozenset[OrderStatus]) -> set[OrderStatus]:
        assert status not in seen, "an order would go round in circles"
        if not NEXT_STATUS[status]:
            return {status}
        return set().union(*(ends(following, seen | {status}) for following in NEXT_STATUS[status]))

    assert set(NEXT_STATUS) == set(OrderStatus)
    assert ends(OrderStatus.PENDING, frozenset()) == FINAL_STATUSES == {OrderStatus.COMPLETED, OrderStatus.CANCELLED}


def test_what_has_left_cannot_be_cancelled() -> None:
    for status in (OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED):
        assert OrderStatus.CANCELLING not in NEXT_STATUS[status]


@given(st.integers(-(10**9), 10**9), st.sampled_from(["USD", "EUR", "JPY", "KWD"]))
def test_minor_units_and_amounts_are_the_same_money(minor: int, currency: str) -> None:
    assert Money.from_minor(minor, currency).minor == minor


def test_currencies_never_mix() -> None:
    with pytest.raises(ValueError, match="cannot mix"):
        Money(amount=Decimal(1), currency="USD") + Money(amount=Decimal(1), currency="EUR")

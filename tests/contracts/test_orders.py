"""The order's one table of moves, and money's arithmetic."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.money import Money
from contracts.orders import FINAL_STATUSES, NEXT_STATUS, CardToken, DiscountCode, OrderStatus

LEADS_BACK = frozenset({OrderStatus.UNDELIVERED, OrderStatus.ACTION_REQUIRED})


def test_every_status_leads_to_an_end_and_only_a_parcel_in_trouble_or_a_card_to_be_confirmed_leads_back() -> None:
    def reached(
        status: OrderStatus, seen: frozenset[OrderStatus], ignored: frozenset[OrderStatus] = frozenset()
    ) -> frozenset[OrderStatus]:
        for following in NEXT_STATUS[status] - seen - ignored:
            seen |= reached(following, seen | {following}, ignored)
        return seen

    assert set(NEXT_STATUS) == set(OrderStatus)
    assert {OrderStatus.COMPLETED, OrderStatus.REFUNDED, OrderStatus.CANCELLED} == FINAL_STATUSES
    assert reached(OrderStatus.PENDING, frozenset()) == set(OrderStatus) - {OrderStatus.PENDING}
    for status in set(OrderStatus) - FINAL_STATUSES:
        assert reached(status, frozenset()) & FINAL_STATUSES
        assert status not in reached(status, frozenset(), ignored=LEADS_BACK) - LEADS_BACK


def test_what_has_left_cannot_be_cancelled() -> None:
    for status in (OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED):
        assert OrderStatus.CANCELLING not in NEXT_STATUS[status]


@given(st.integers(-(10**9), 10**9), st.sampled_from(["USD", "EUR", "JPY", "KWD"]))
def test_minor_units_and_amounts_are_the_same_money(minor: int, currency: str) -> None:
    assert Money.from_minor(minor, currency).minor == minor


def test_currencies_never_mix() -> None:
    with pytest.raises(ValueError, match="cannot mix"):
        Money(amount=Decimal(1), currency="USD") + Money(amount=Decimal(1), currency="EUR")


@pytest.mark.parametrize(("written", "code"), [("SAVE10", "SAVE10"), (" save10 ", "SAVE10"), ("May-Day_1", "MAY-DAY_1")])
def test_a_discount_code_may_be_written_in_small_letters(written: str, code: str) -> None:
    assert TypeAdapter(DiscountCode).validate_python(written) == code


@pytest.mark.parametrize("written", ["", "A", "-SAVE", "SAVE 10", "SÄVE", 41 * "A"])
def test_other_things_are_no_discount_codes(written: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(DiscountCode).validate_python(written)


@pytest.mark.parametrize("written", ["4242424242424242", "4242-4242-4242-4242", "4242_4242_4242_4242", "378282246310005"])
def test_a_card_s_number_is_refused_and_not_repeated(written: str) -> None:
    with pytest.raises(ValidationError, match="looks like a card's number"):
        TypeAdapter(CardToken).validate_python(written)
    assert TypeAdapter(CardToken).validate_python("pm_1PqR4242424242424242") == "pm_1PqR4242424242424242"

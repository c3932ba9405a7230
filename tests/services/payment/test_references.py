"""Creditor references: made, checked, and found in what people write. No I/O."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.payments import TransferDetails
from services.payment.model import creditor_reference, is_creditor_reference, order_name, reference_in

CHARGE = "1c8f7f3a-4b7b-5a53-8d0e-6e6a2c1b9f10-1"


@pytest.mark.parametrize("reference", ["RF18539007547034", "RF712348231", "RF45G72UUR", "RF6518K5"])
def test_known_references_are_right(reference: str) -> None:
    assert is_creditor_reference(reference)


@pytest.mark.parametrize(
    "wrong", ["", "RF", "RF19539007547034", "rf18539007547034", "XX18539007547034", "RF18", "pi_3MtwBwLkdIwHu7"]
)
def test_others_are_not(wrong: str) -> None:
    assert not is_creditor_reference(wrong)


@given(st.text(min_size=1, max_size=60))
def test_a_charge_has_one_reference_that_is_right(charge: str) -> None:
    reference = creditor_reference(charge)
    assert reference == creditor_reference(charge)
    assert is_creditor_reference(reference)
    assert TransferDetails(recipient="The shop", iban="DE89370400440532013000", reference=reference).reference == reference


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_two_charges_have_two(one: str, other: str) -> None:
    assert (creditor_reference(one) == creditor_reference(other)) == (one == other)


@given(st.integers(4, 19), st.data())
def test_a_slip_of_the_pen_is_seen(place: int, data: st.DataObject) -> None:
    """A digit for a digit, or a letter for a letter: of others ISO 7064 says only that most are seen."""
    reference = creditor_reference(CHARGE)
    alike = "0123456789" if reference[place].isdigit() else "ABCDEFGHJKMNPQRSTVWXYZ"
    slipped = reference[:place] + data.draw(st.sampled_from(alike)) + reference[place + 1 :]
    assert is_creditor_reference(slipped) == (slipped == reference)


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(["", " ", "  ", "-", ". "]), st.booleans())
def test_it_is_found_in_what_somebody_writes(before: str, after: str, between: str, small: bool) -> None:
    reference = creditor_reference(CHARGE)
    written = between.join(reference[at : at + 4] for at in range(0, len(reference), 4))
    assert reference_in(f"{before} {written.lower() if small else written} {after}") == reference


@given(st.text(max_size=200))
def test_what_is_found_is_right(words: str) -> None:
    found = reference_in(words)
    assert found is None or is_creditor_reference(found)


def test_orders_are_named_for_ever_and_apart() -> None:
    names = {order_name(reference, key) for reference in ("RF18539007547034", "RF45G72UUR") for key in ("undo", "undo:2")}
    assert len(names) == 4
    assert all(len(name) <= 35 for name in names)
    assert order_name("RF45G72UUR", "undo") in names

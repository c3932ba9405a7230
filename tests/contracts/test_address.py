"""A place is known again, however its address is written."""

import pytest

from contracts.address import Address

HOME = Address(
    name="Ann", line1="1 Café Street", line2="Apt. 4", city="Springfield", region="IL", postal_code="62 701", country="US"
)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Bob"},
        {"line1": "1  café street,"},
        {"line1": "1 Cafe\u0301 STREET"},
        {"line2": "APT 4"},
        {"line1": "1 Café Street Apt. 4", "line2": None},
        {"city": "springfield", "region": "Illinois"},
        {"postal_code": "62701"},
    ],
)
def test_the_same_place(change: dict[str, str]) -> None:
    assert HOME.model_copy(update=change).fingerprint == HOME.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"line1": "11 Café Street"},
        {"line2": None},
        {"postal_code": "62702"},
        {"country": "CA"},
    ],
)
def test_another_place(change: dict[str, str | None]) -> None:
    assert HOME.model_copy(update=change).fingerprint != HOME.fingerprint

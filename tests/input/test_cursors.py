"""A cursor is a key of the list that gave it, or refused: nothing else comes out of it."""

import base64
import json
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.paging import KeyPart, decode_cursor, encode_cursor
from contracts.errors import ErrorCode, Refusal

GOOD: dict[KeyPart, Any] = {
    KeyPart.ID: UUID("01982f6a-0d0e-7c4e-9d56-0a5b1f3c7e21"),
    KeyPart.TIME: datetime(2026, 11, 26, 12, 30, 0, 123456, tzinfo=UTC),
    KeyPart.DAY: date(2026, 11, 26),
    KeyPart.NUMBER: 2**63 - 1,
    KeyPart.SUM: -(2**63),
    KeyPart.RANK: -0.0607927106320858,
    KeyPart.TEXT: "grocery.cheese",
}
BAD: dict[KeyPart, tuple[Any, ...]] = {
    KeyPart.ID: (1, None, "x", "\ud800", [], {"int": 1}),
    KeyPart.TIME: (0, "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-14:00"),
    KeyPart.DAY: (0, "0001-01-01", "9999-12-31", "2026-02-30"),
    KeyPart.NUMBER: (-1, 2**63, 1.5, "1", True),
    KeyPart.SUM: (-(2**63) - 1, 2**63, 10**30, 1.5, float("nan"), float("inf"), "1", "1e999999", True),
    KeyPart.RANK: (float("nan"), float("inf"), 1e308, 10**400, "1", True),
    KeyPart.TEXT: (1, None, "\ud800", "\x00", "a\nb", "x" * 201),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(map(str, GOOD.values()))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def test_a_key_comes_back_as_it_was() -> None:
    assert decode_cursor(encode_cursor(*GOOD.values()), *GOOD) == tuple(GOOD.values())
    assert decode_cursor(None, *GOOD) is None


@pytest.mark.parametrize(("part", "value"), [(part, value) for part, values in BAD.items() for value in values])
def test_g11_a_key_of_another_kind_is_refused(part: KeyPart, value: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        decode_cursor(encode_cursor(value), part)
    assert refusal.value.code == ErrorCode.INVALID_CURSOR


@given(st.lists(JSON, max_size=3) | JSON, st.lists(st.sampled_from(list(KeyPart)), min_size=1, max_size=2))
def test_g11_whatever_a_cursor_holds_it_is_a_key_or_refused(content: Any, key: list[KeyPart]) -> None:
    _is_key_or_refused(base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("="), key)


@given(st.text(max_size=60), st.lists(st.sampled_from(list(KeyPart)), min_size=1, max_size=2))
def test_g11_any_text_as_a_cursor_is_a_key_or_refused(cursor: str, key: list[KeyPart]) -> None:
    _is_key_or_refused(cursor, key)


def _is_key_or_refused(cursor: str, key: list[KeyPart]) -> None:
    try:
        found = decode_cursor(cursor, *key)
    except Refusal:
        return
    assert found is not None
    assert [type(part) for part in found] == [type(GOOD[part]) for part in key]

"""How many parts a text message has."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.notification.protocols.segments import Encoding, Segments, segments, shortened

GSM, UCS = Encoding.GSM_7, Encoding.UCS_2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Segments(GSM, 0, 0)),
        ("a" * 160, Segments(GSM, 160, 1)),
        ("a" * 161, Segments(GSM, 161, 2)),
        ("a" * 306, Segments(GSM, 306, 2)),
        ("a" * 307, Segments(GSM, 307, 3)),
        ("Grüße, Ærø: 5 §\n", Segments(GSM, 16, 1)),
        ("€" * 80, Segments(GSM, 160, 1)),
        ("€" * 81, Segments(GSM, 162, 2)),
        # 76 of them and one septet that stays empty in each part of 153
        ("€" * 153, Segments(GSM, 306, 3)),
        ("it\u2019s", Segments(UCS, 4, 1)),
        ("ж" * 70, Segments(UCS, 70, 1)),
        ("ж" * 71, Segments(UCS, 71, 2)),
        ("📦" * 35, Segments(UCS, 70, 1)),
        ("📦" * 36, Segments(UCS, 72, 2)),
        # 33 pairs and one unit that stays empty in each part of 67
        ("📦" * 67, Segments(UCS, 134, 3)),
    ],
)
def test_parts_of_a_text(text: str, expected: Segments) -> None:
    assert segments(text) == expected


def test_a_text_that_is_too_long_is_cut() -> None:
    assert shortened("Your order is on its way.") == "Your order is on its way."
    cut = shortened("word " * 1000, most=2)
    assert cut.endswith("wor...")
    assert segments(cut).count == 2
    assert len(cut) > 295


@given(some.text(max_size=1500), some.integers(1, 5))
def test_what_is_cut_fits_and_is_the_beginning(text: str, most: int) -> None:
    cut = shortened(text, most)
    assert segments(cut).count <= most
    assert cut == text or text.startswith(cut.removesuffix("..."))

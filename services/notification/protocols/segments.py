"""How many parts a text message is sent in, which is what it costs (3GPP TS 23.038 and 23.040).

A text of the GSM alphabet has seven bits a character, any other text sixteen: one character beyond the alphabet, e.g. a
typographic apostrophe, makes a text more than twice as long.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

MOST_SEGMENTS = 10
"""The longest text message that is sent; Twilio takes no more than 1600 characters in any case."""
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_TWO = frozenset("\f^{}\\[~]|€")
"""Of the extension table: an escape and a second character."""
_ELLIPSIS = "..."


class Encoding(StrEnum):
    GSM_7 = "GSM-7"
    UCS_2 = "UCS-2"


_ROOM = {Encoding.GSM_7: (160, 153), Encoding.UCS_2: (70, 67)}
"""Units of a message that is sent in one part, and of each part of one that is sent in several: those begin with a header."""


@dataclass(frozen=True, slots=True)
class Segments:
    """What a text message is made of."""

    encoding: Encoding
    units: int
    """Septets of GSM-7, 16-bit units of UCS-2."""
    count: int
    """Parts; 0 for an empty text."""


def segments(text: str) -> Segments:
    """How a text is sent."""
    encoding, widths = _widths(text)
    return Segments(encoding, sum(widths), _parts(widths, _ROOM[encoding]))


def shortened(text: str, most: int = MOST_SEGMENTS) -> str:
    """The text if it fits into so many parts; else as much of its beginning as fits with three dots behind it."""
    if segments(text).count <= most:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if segments(text[:middle].rstrip() + _ELLIPSIS).count <= most:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + _ELLIPSIS


def _widths(text: str) -> tuple[Encoding, Sequence[int]]:
    """The encoding, and how many units each character takes in it."""
    if all(character in _GSM or character in _GSM_TWO for character in text):
        return Encoding.GSM_7, [1 + (character in _GSM_TWO) for character in text]
    return Encoding.UCS_2, [1 + (character > "\uffff") for character in text]


def _parts(widths: Iterable[int], room: tuple[int, int]) -> int:
    """A character of two units is never parted: where one is left at the end of a part, it stays empty."""
    widths = list(widths)
    if sum(widths) <= room[0]:
        return 1 if widths else 0
    parts, left = 1, room[1]
    for width in widths:
        if width > left:
            parts, left = parts + 1, room[1]
        left -= width
    return parts

"""Papers for the warehouse as PDF: our own labels, pick lists, packing slips. Making one takes a moment: call these in a thread.

Noto Sans writes Latin, Greek and Cyrillic, with all their accents. What it has no letters for is written in Latin ones, with a
star after it, so that everybody sees that the original looks otherwise.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from uuid import UUID

import fontpkg_noto_sans
from anyascii import anyascii
from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import TextMode, XPos, YPos
from fpdf.fonts import FontFace

from contracts.address import Address
from contracts.shipments import ShipmentLine
from services.shipping.ports import Consignment, Label, Place

FONT = Path(fontpkg_noto_sans.ROOT) / "files" / "NotoSans[wdth,wght].ttf"
PDF = "application/pdf"
_LINE_MM = 6.0


@dataclass(frozen=True)
class Slip:
    """What a packing slip tells."""

    order_id: UUID
    parcel: int
    parcels: int
    packages: int
    tracking_numbers: Sequence[str]
    to: Address
    lines: Sequence[ShipmentLine]


def own_label(consignment: Consignment, label: Label) -> bytes:
    """A label of our own, four by six inches."""
    page = _page((101.6, 152.4), f"Label {label.tracking_number}")
    _text(page, "RETURN" if consignment.is_return else label.service.upper(), size=20, bold=True)
    _text(page, "From", size=8)
    _address(page, consignment.origin, size=9)
    page.ln(3)
    _text(page, "To", size=8)
    _address(page, consignment.destination, size=14)
    page.ln(4)
    _text(page, f"{consignment.weight_grams / 1000:.2f} kg", size=10)
    page.code39(f"*{label.tracking_number}*", x=8, y=116, w=0.85, h=18)
    page.set_y(136)
    _text(page, label.tracking_number, size=12, bold=True)
    return bytes(page.output())


def packing_slip(slip: Slip) -> bytes:
    """What is in a parcel, for whoever opens it: no prices."""
    page = _page("a4", f"Packing slip of order {slip.order_id}")
    _text(page, "Packing slip", size=20, bold=True)
    _text(page, f"Order {slip.order_id}")
    _text(page, f"Parcel {slip.parcel} of {max(slip.parcels, slip.parcel)}, in {_counted(slip.packages, 'package')}")
    for number in slip.tracking_numbers:
        _text(page, f"Tracking number {number}")
    page.ln(4)
    _address(page, Place(slip.to), size=12)
    page.ln(6)
    _table(
        page,
        ("Article", "Description", "Quantity"),
        (25, 55, 12),
        [(line.product_id, line.name, str(line.quantity)) for line in slip.lines],
    )
    if not slip.lines:
        _text(page, "Nobody has said what is in it.")
    return bytes(page.output())


def pick_list(warehouse_id: str, day: date, parcels: int, lines: Iterable[ShipmentLine], *, is_all: bool) -> bytes:
    """What has to be fetched for so many parcels: summed per product, in the order of their numbers, as shelves are."""
    names: dict[str, str] = {}
    units: Counter[str] = Counter()
    for line in lines:
        names.setdefault(line.product_id, line.name)
        units[line.product_id] += line.quantity
    page = _page("a4", f"Pick list of warehouse {warehouse_id}")
    _text(page, f"Pick list of warehouse {warehouse_id}", size=20, bold=True)
    _text(page, f"{day.isoformat()}: {_counted(parcels, 'parcel')}, {_counted(sum(units.values()), 'unit')}")
    if not is_all:
        _text(page, "There are more parcels: these are the first, by their promise.", bold=True)
    page.ln(4)
    _table(
        page,
        ("Article", "Description", "Quantity", "Done"),
        (25, 50, 12, 8),
        [(product, names[product], str(units[product]), "") for product in sorted(units)],
    )
    return bytes(page.output())


def written(text: str) -> str:
    """A text in letters that the font has."""
    known = _letters()
    if all(ord(letter) in known for letter in text):
        return text
    plain = "".join(letter if ord(letter) in known else anyascii(letter) for letter in text)
    return f"{plain}*"


@lru_cache(1)
def _letters() -> frozenset[int]:
    return frozenset(TTFont(FONT, lazy=True).getBestCmap())


def _page(size: str | tuple[float, float], title: str) -> FPDF:
    page = FPDF(format=size)
    page.set_title(title)
    page.set_margin(8 if isinstance(size, tuple) else 18)
    page.set_auto_page_break(auto=True, margin=8 if isinstance(size, tuple) else 18)
    page.add_font("noto", "", FONT)
    page.add_page()
    return page


def _text(page: FPDF, text: str, *, size: float = 11, bold: bool = False) -> None:
    page.set_font("noto", "", size)
    # Its bold letters would have to be made of the variable font each time, which takes seconds: an outline will do.
    how = {"text_mode": TextMode.FILL_STROKE, "line_width": size / 100} if bold else {}
    with page.local_context(**how):
        page.multi_cell(0, size * 0.45 + 1, written(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT, align="L")


def _address(page: FPDF, place: Place, *, size: float) -> None:
    address = place.address
    town = " ".join(filter(None, (address.city, address.region, address.postal_code)))
    for number, line in enumerate(
        filter(None, (place.company, address.name, address.line1, address.line2, town, address.country))
    ):
        _text(page, line, size=size, bold=number == 0)


def _table(page: FPDF, heads: Sequence[str], widths: Sequence[int], rows: Sequence[Sequence[str]]) -> None:
    page.set_font("noto", "", 10)
    heading = FontFace(emphasis=None, fill_color=(235, 235, 235))
    with page.table(col_widths=tuple(widths), text_align="LEFT", line_height=_LINE_MM, headings_style=heading) as table:
        for cells in (heads, *rows):
            row = table.row()
            for cell in cells:
                row.cell(written(cell))


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"

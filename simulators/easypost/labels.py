"""Labels as files, made when somebody asks for one: four by six inches, with the tracking code to scan."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator

from barcode.codex import Code128
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

from simulators.easypost.addresses import Address
from simulators.easypost.shipments import way_of
from simulators.easypost.wire import Object

DOTS = 300
"""Per inch, of a PNG."""
WIDTH, HEIGHT = 4.0, 6.0
_SPELT = str.maketrans({"ß": "ss", "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "Ø": "O", "ø": "o", "Ł": "L", "ł": "l", "Đ": "D",
                        "đ": "d", "Þ": "Th", "þ": "th"})  # fmt: skip
"""Letters that are no other letter with an accent."""
_BARS = (0.3, 4.1, 3.4, 1.0)
"""Left, top, width and height of the barcode, in inches, as all that follows."""


def rendered(shipment: Object, ending: str) -> tuple[bytes, str]:
    """The label of a shipment that was bought, and its media type. `ending`: png, pdf or zpl."""
    if ending == "pdf":
        return pdf(shipment), "application/pdf"
    if ending == "zpl":
        return zpl(shipment), "application/zpl"
    return png(shipment), "image/png"


def lines(shipment: Object) -> Iterator[tuple[float, float, float, str]]:
    """Left, top, height and text of each line."""
    rate, (origin, destination) = shipment["selected_rate"], way_of(shipment)
    yield 0.2, 0.2, 0.22, f"{rate['carrier']} {rate['service']}"
    yield 2.9, 0.25, 0.14, f"{shipment['parcel']['weight']:g} oz"
    if shipment["is_return"]:
        yield 0.2, 0.5, 0.2, "RETURN"
    yield from ((0.2, 0.8 + 0.15 * number, fitting(line, 0.13), line) for number, line in enumerate(written(origin)))
    yield 0.2, 2.0, 0.16, "SHIP TO:"
    yield from ((0.4, 2.25 + 0.24 * number, fitting(line, 0.2), line) for number, line in enumerate(written(destination)))
    yield 0.2, 3.85, 0.15, f"{rate['carrier']} TRACKING #"
    yield 0.6, 5.2, 0.18, shipment["tracking_code"]
    if shipment["reference"]:
        yield 0.2, 5.65, 0.12, f"Ref: {shipment['reference']}"


def written(address: Address) -> list[str]:
    place = " ".join(filter(None, (address["city"], address["state"], address["zip"], address["country"])))
    given = (address["name"], address["company"], address["street1"], address["street2"], place)
    return [plain(line)[:60] for line in given if line]


def fitting(line: str, height: float) -> float:
    """The height of letters with which it fits on the label."""
    return min(height, 5.0 / max(1, len(line)))


def plain(text: str) -> str:
    """As a label printer can write it: without accents, and with a question mark for what is no Latin letter."""
    letters = unicodedata.normalize("NFKD", text.translate(_SPELT))
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).encode("ascii", "replace").decode()


def bars(code: str) -> Iterator[tuple[float, float]]:
    """Left end and width of each black bar, as parts of the whole."""
    modules = Code128(code).build()[0]
    start = None
    for number, module in enumerate(f"{modules}0"):
        if module == "1" and start is None:
            start = number
        elif module == "0" and start is not None:
            yield start / len(modules), (number - start) / len(modules)
            start = None


def pdf(shipment: Object) -> bytes:
    document = FPDF(unit="in", format=(WIDTH, HEIGHT))
    document.set_auto_page_break(False)
    document.add_page()
    for left, top, height, text in lines(shipment):
        document.set_font("Helvetica", size=height * 72)
        document.text(left, top + height, plain(text))
    left, top, width, height = _BARS
    for start, part in bars(shipment["tracking_code"]):
        document.rect(left + start * width, top, part * width, height, style="F")
    return bytes(document.output())


def png(shipment: Object) -> bytes:
    image = Image.new("1", (int(WIDTH * DOTS), int(HEIGHT * DOTS)), 1)
    draw = ImageDraw.Draw(image)
    for left, top, height, text in lines(shipment):
        draw.text((left * DOTS, top * DOTS), plain(text), fill=0, font=ImageFont.load_default(size=height * DOTS))
    left, top, width, height = _BARS
    for start, part in bars(shipment["tracking_code"]):
        x = (left + start * width) * DOTS
        draw.rectangle((x, top * DOTS, x + part * width * DOTS - 1, (top + height) * DOTS), fill=0)
    file = io.BytesIO()
    image.save(file, "PNG", dpi=(DOTS, DOTS))
    return file.getvalue()


def zpl(shipment: Object) -> bytes:
    """In the language of label printers, which draw the barcode themselves."""

    def dots(inches: float) -> int:
        return int(inches * DOTS)

    texts = [
        f"^FO{dots(left)},{dots(top)}^A0N,{dots(height)}^FD{plain(text).replace('^', ' ').replace('~', ' ')}^FS"
        for left, top, height, text in lines(shipment)
    ]
    left, top, _, height = _BARS
    code = f"^FO{dots(left)},{dots(top)}^BY3^BCN,{dots(height)},N,N,N^FD{shipment['tracking_code']}^FS"
    return "\n".join(["^XA", *texts, code, "^XZ"]).encode()

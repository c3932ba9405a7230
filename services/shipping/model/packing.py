"""Which boxes a parcel goes in, and what weight a carrier bills for a box. Pure rules.

Products have a weight and no size, so their room is that of goods of an ordinary density. A parcel that is more than the largest
box holds is sent in several packages, each with a label of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from contracts.base import Contract
from contracts.errors import ErrorCode, Refusal
from contracts.shipments import ShipmentLine
from services.shipping.ports import Size

GRAMS_PER_LITRE = 400
"""Of goods as they lie in a box."""
MOST_PACKAGES = 20
_MILLIMETRES = Field(ge=10, le=3_000)


class Box(Contract):
    """A box that warehouses have. Sizes are in millimetres, inside; the outside is taken to be the same."""

    name: str = Field(min_length=1, max_length=40)
    length: int = _MILLIMETRES
    width: int = _MILLIMETRES
    height: int = _MILLIMETRES
    own_grams: int = Field(ge=0, le=20_000)
    """What it weighs when it is empty."""
    most_grams: int = Field(ge=1, le=1_000_000)
    """Of the goods in it."""

    @property
    def size(self) -> Size:
        return Size(self.length, self.width, self.height)

    @property
    def holds_grams(self) -> int:
        """Of goods of the ordinary density."""
        return max(min(self.most_grams, self.size.millilitres * GRAMS_PER_LITRE // 1000), 1)


BOXES = (
    Box(name="envelope", length=320, width=230, height=30, own_grams=40, most_grams=1_000),
    Box(name="small", length=250, width=180, height=120, own_grams=120, most_grams=5_000),
    Box(name="medium", length=350, width=280, height=200, own_grams=300, most_grams=12_000),
    Box(name="large", length=450, width=350, height=300, own_grams=550, most_grams=20_000),
    Box(name="largest", length=600, width=400, height=400, own_grams=900, most_grams=30_000),
)
"""What is used unless the setting BOXES says otherwise."""


@dataclass(frozen=True)
class Packed:
    """A box with goods in it."""

    box: Box
    goods_grams: int
    lines: tuple[ShipmentLine, ...] = ()

    @property
    def weight_grams(self) -> int:
        """With the box."""
        return self.goods_grams + self.box.own_grams


def pack(weight_grams: int, lines: Sequence[ShipmentLine], boxes: Sequence[Box]) -> list[Packed]:
    """The packages of a parcel: one in the smallest box that holds it, or as many as its lines need, in their order. A unit that
    is heavier than any box is for goes alone in the largest. Refusal: parcel_too_heavy, if there would be too many."""
    largest = max(boxes, key=lambda box: box.holds_grams)
    if weight_grams <= largest.holds_grams:
        return [_packed(weight_grams, lines, boxes)]
    if sum(line.weight_grams * line.quantity for line in lines) != weight_grams:
        return _evenly(weight_grams, lines, boxes)
    loads: list[list[ShipmentLine]] = [[]]
    room = largest.holds_grams
    for line in lines:
        left = line.quantity
        while left:
            fits = min(left, room // line.weight_grams) if line.weight_grams else left
            if not fits and loads[-1]:
                loads.append([])
                room = largest.holds_grams
                _require_not_too_many(len(loads))
                continue
            taken = fits or 1
            loads[-1].append(line if taken == line.quantity else line.model_copy(update={"quantity": taken}))
            room, left = max(room - taken * line.weight_grams, 0), left - taken
    return [_packed(sum(line.weight_grams * line.quantity for line in load), load, boxes) for load in loads]


def billable_grams(weight_grams: int, size: Size, divisor: int) -> int:
    """What a carrier bills a package for: what it weighs, or, if that is more, what its room stands for. `divisor`: so many cubic
    centimetres count as a kilogram."""
    return max(weight_grams, -(-size.millilitres * 1000 // divisor))


DIVISORS = {"USPS": 6_000}
"""By carrier: cubic centimetres a kilogram (166 cubic inches a pound)."""
USUAL_DIVISOR = 5_000
"""Of all others, and of our own vans (139 cubic inches a pound)."""


def billed(weight_grams: int, size: Size, carrier: str) -> int:
    """`billable_grams` by the rule of a carrier."""
    return billable_grams(weight_grams, size, DIVISORS.get(carrier, USUAL_DIVISOR))


def _evenly(weight_grams: int, lines: Sequence[ShipmentLine], boxes: Sequence[Box]) -> list[Packed]:
    """Where nobody knows what the lines weigh, each package has the same; the first one has the papers."""
    packages = -(-weight_grams // max(box.holds_grams for box in boxes))
    _require_not_too_many(packages)
    each, more = divmod(weight_grams, packages)
    packed = [_packed(each + (number < more), (), boxes) for number in range(packages)]
    return [replace(packed[0], lines=tuple(lines)), *packed[1:]]


def _packed(weight_grams: int, lines: Sequence[ShipmentLine], boxes: Sequence[Box]) -> Packed:
    by_size = sorted(boxes, key=lambda box: box.holds_grams)
    return Packed(next((box for box in by_size if weight_grams <= box.holds_grams), by_size[-1]), weight_grams, tuple(lines))


def _require_not_too_many(packages: int) -> None:
    if packages > MOST_PACKAGES:
        raise Refusal(ErrorCode.PARCEL_TOO_HEAVY, f"A parcel may be sent in {MOST_PACKAGES} packages at most.")

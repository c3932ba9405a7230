"""What an amendment means for the parcels of an order: which of them lose units or need another label, and what is added. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.orders import Amendment, PlaceOrder
from contracts.parcels import ParcelLine, ParcelStatus
from workflows.parcels import Parcel

_TAKEN_FROM = (ParcelStatus.AWAITED, ParcelStatus.RESERVED, ParcelStatus.BOOKED)
"""Units are taken from parcels in these states, in this sequence: so the fewest labels have to be booked anew."""


@dataclass(frozen=True)
class Change:
    """A parcel that loses units, or whose label has to be another one."""

    parcel: Parcel
    kept: tuple[ParcelLine, ...]
    """None: all of it goes."""
    removed: tuple[ParcelLine, ...]


@dataclass(frozen=True)
class AmendmentPlan:
    """What is different about the parcels."""

    changes: tuple[Change, ...]
    more: tuple[ParcelLine, ...]
    """What has to be reserved in addition."""

    @property
    def numbers(self) -> int:
        """How many numbers of parcels that takes at most, if it comes to nothing after all."""
        return 3 * len(self.changes) + bool(self.more)


def plan_of(order: PlaceOrder, parcels: Sequence[Parcel], amendment: Amendment) -> AmendmentPlan:
    """`parcels`: those that count; none of them has left."""
    has: Counter[int] = Counter()
    for parcel in parcels:
        has.update({line.line_id: line.quantity for line in parcel.lines})
    wanted = {line.line_id or 0: line.quantity for line in amendment.lines}
    less = Counter({line_id: units - wanted.get(line_id, 0) for line_id, units in has.items()})
    needs_labels = (amendment.ship_to, amendment.shipping) != (order.ship_to, order.shipping)
    changes = []
    for parcel in sorted(parcels, key=lambda parcel: (_TAKEN_FROM.index(parcel.status), -parcel.number)):
        kept, removed = _taken_from(parcel.lines, less)
        if removed or (needs_labels and parcel.status == ParcelStatus.BOOKED):
            changes.append(Change(parcel, kept, removed))
    more = tuple(
        ParcelLine(line_id=line.line_id, product_id=line.product_id, quantity=line.quantity - has[line.line_id])
        for line in amendment.lines
        if line.line_id and line.quantity > has[line.line_id]
    )
    return AmendmentPlan(tuple(changes), more)


def _taken_from(lines: Sequence[ParcelLine], less: Counter[int]) -> tuple[tuple[ParcelLine, ...], tuple[ParcelLine, ...]]:
    """What of these lines is kept and what is removed, the last units of each first. `less`: how many have to go yet; what was
    found is taken off it."""
    kept, removed = [], []
    for line in lines:
        taken = min(max(less[line.line_id], 0), line.quantity)
        less[line.line_id] -= taken
        if taken < line.quantity:
            kept.append(line.model_copy(update={"quantity": line.quantity - taken}))
        if taken:
            first = line.first + line.quantity - taken
            removed.append(line.model_copy(update={"quantity": taken, "first": first}))
    return tuple(kept), tuple(removed)

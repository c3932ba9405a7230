"""What an amendment means for an order's parcels: which of them lose units or need another label, and what is added. Pure."""

from dataclasses import dataclass

from contracts.orders import Amendment, LineUnits, PlaceOrder
from contracts.parcels import ParcelLine, ParcelStatus
from workflows.parcels import Parcel, Parcels, rest_of


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


def plan_of(order: PlaceOrder, parcels: Parcels, amendment: Amendment) -> AmendmentPlan:
    """Of an order of which nothing has left."""
    has = parcels.cancellable()
    wanted = {line.line_id or 0: line.quantity for line in amendment.lines}
    less = {line_id: units - wanted.get(line_id, 0) for line_id, units in has.items()}
    taken = parcels.last_units([LineUnits(line_id=line_id, quantity=units) for line_id, units in less.items() if units > 0])
    removed = {each.parcel.number: each.lines for each in taken}
    needs_labels = (amendment.ship_to, amendment.shipping) != (order.ship_to, order.shipping)
    changes = [
        Change(parcel, rest_of(parcel.lines, removed.get(parcel.number, ())), removed.get(parcel.number, ()))
        for parcel in parcels.counting
        if parcel.number in removed or (needs_labels and parcel.status == ParcelStatus.BOOKED)
    ]
    more = [
        ParcelLine(line_id=line.line_id, product_id=line.product_id, quantity=line.quantity - has.get(line.line_id, 0))
        for line in amendment.lines
        if line.line_id and line.quantity > has.get(line.line_id, 0)
    ]
    return AmendmentPlan(tuple(changes), tuple(more))

"""Parcels: our shipments, the carrier's ledger, and that no cancelled order has a live one."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from uuid import UUID

from audit.books import OrderRow, ParcelRow, ShipmentRow, Source
from audit.rule import rule
from audit.verdict import Check, InFlight
from audit.world import BEFORE_DISPATCH, NEVER_WENT, World, by_trouble, parcel_of, return_of
from contracts.orders import OrderStatus
from contracts.parcels import ParcelStatus, Trouble
from contracts.returns import FINAL_RETURN_STATUSES, ReturnStatus
from contracts.shipments import ShipmentStatus

_S, _T, _D, _P = OrderStatus, Trouble, ShipmentStatus, ParcelStatus
SHIPMENT_OF: Mapping[str, frozenset[str | None]] = {
    _S.PAYMENT_DUE: frozenset({None}),
    _S.ACTION_REQUIRED: frozenset({None}),
    _S.IN_REVIEW: frozenset({None}),
    _P.AWAITED: frozenset({None}),
    _P.RESERVED: frozenset({None}),
    _S.CONFIRMED: frozenset({_D.BOOKED}),
    _P.BOOKED: frozenset({_D.BOOKED}),
    _S.SHIPPED: frozenset({_D.DISPATCHED, _D.IN_TRANSIT}),
    _T.NOT_PICKED_UP: frozenset({_D.BOOKED}),
    _T.SILENT: frozenset({_D.DISPATCHED, _D.IN_TRANSIT}),
    _T.LOST: frozenset({_D.LOST}),
    _T.RETURNED: frozenset({_D.RETURNED}),
    _S.DELIVERED: frozenset({_D.DELIVERED}),
    _S.COMPLETED: frozenset({_D.DELIVERED}),
    # A lost parcel may turn up after its money went back.
    _S.REFUNDED: frozenset({_D.DISPATCHED, _D.IN_TRANSIT, _D.LOST, _D.RETURNED, _D.DELIVERED}),
    _P.RESENT: frozenset({_D.DISPATCHED, _D.IN_TRANSIT, _D.LOST, _D.RETURNED, _D.DELIVERED}),
    _S.CANCELLED: frozenset({None, _D.CANCELLED, _D.REFUSED}),
}
"""What the shipment that counts may be, by the status at rest of an order with one parcel; that of each of several, by the
parcel's status; while one is UNDELIVERED, by its trouble."""
CARRIED_OF: Mapping[str, frozenset[str | None]] = {
    _S.PAYMENT_DUE: frozenset({None}),
    _S.ACTION_REQUIRED: frozenset({None}),
    _S.IN_REVIEW: frozenset({None}),
    _P.AWAITED: frozenset({None}),
    _P.RESERVED: frozenset({None}),
    _S.CONFIRMED: frozenset({"booked"}),
    _P.BOOKED: frozenset({"booked"}),
    # What was handed over need not have been scanned.
    _S.SHIPPED: frozenset({"booked", "in_transit"}),
    _T.NOT_PICKED_UP: frozenset({"booked"}),
    _T.SILENT: frozenset({"booked", "in_transit"}),
    _T.LOST: frozenset({"lost"}),
    _T.RETURNED: frozenset({"returned"}),
    # A person may have seen it arrive before the carrier said so.
    _S.DELIVERED: frozenset({"in_transit", "delivered"}),
    _S.COMPLETED: frozenset({"in_transit", "delivered"}),
    # A parcel that was silent may never have been scanned.
    _S.REFUNDED: frozenset({"booked", "in_transit", "lost", "returned", "delivered"}),
    _P.RESENT: frozenset({"booked", "in_transit", "lost", "returned", "delivered"}),
    _S.CANCELLED: frozenset({None, "cancelled"}),
}
"""The same at the carrier."""
SAME_PARCEL: Mapping[str, frozenset[str | None]] = {
    _D.PENDING: frozenset({None}),
    _D.BOOKED: frozenset({"booked"}),
    _D.DISPATCHED: frozenset({"booked", "in_transit"}),
    _D.IN_TRANSIT: frozenset({"in_transit"}),
    _D.DELIVERED: frozenset({"in_transit", "delivered"}),
    _D.LOST: frozenset({"lost"}),
    _D.RETURNED: frozenset({"returned"}),
    _D.CANCELLED: frozenset({"cancelled"}),
    _D.REFUSED: frozenset({None, "cancelled"}),
}
"""Our shipment's status, and what the carrier's may be beside it."""
CARRIER_AHEAD: Mapping[str, frozenset[str]] = {
    _D.PENDING: frozenset({"booked"}),
    _D.BOOKED: frozenset({"in_transit", "delivered", "lost", "returned"}),
    _D.DISPATCHED: frozenset({"delivered", "lost", "returned"}),
    _D.IN_TRANSIT: frozenset({"delivered", "lost", "returned"}),
    _D.LOST: frozenset({"in_transit", "delivered", "returned"}),
}
"""The carrier moves it and we hear of it: so it may be ahead of us for a moment, and we never of it, but where we handed over."""
OWN_FLEET = "tariff"
GIVEN_BACK_AFTER = timedelta(minutes=15)
"""A label that is not needed has been given back by then, unless its carrier is away."""


@rule("A shipment fits its order (cancelled: none lives)", Source.ORDER, Source.SHIPPING)
def shipment_fits(world: World, check: Check) -> None:
    for order in world.settled:
        found = {row.parcel: row.status for row in world.shipments.get(order.order_id, ())}
        _fits(check, order, "our shipment", SHIPMENT_OF, found, gone=NEVER_WENT, before_dispatch=BEFORE_DISPATCH)


@rule("A parcel at the carrier fits its order", Source.ORDER, Source.CARRIER)
def parcel_fits(world: World, check: Check) -> None:
    for order in world.settled:
        found = {number: row.status for number, row in world.carried.get(order.order_id, {}).items()}
        ours = {row.parcel: row for row in world.shipments.get(order.order_id, ())}
        if any(row.sold_by == OWN_FLEET for row in ours.values()):
            continue  # no carrier knows of it
        for number, status in found.items():
            if status == "booked" and number in ours and is_being_given_back(ours[number]):
                found[number] = "cancelled"
        _fits(check, order, "parcel at the carrier", CARRIED_OF, found, gone=("cancelled",), before_dispatch=())


@rule("The carrier's ledger is ours, row by row", Source.SHIPPING, Source.CARRIER)
def parcels_agree(world: World, check: Check) -> None:
    for reference, count in Counter(row.reference for row in world.books.parcels).items():
        parcel = parcel_of(reference)
        check.equal(reference, "parcels under one reference", 1, count, parcel[0] if parcel else None)
    for (order_id, number), count in Counter((row.order_id, row.parcel) for row in world.books.shipments).items():
        check.equal(order_id, f"our shipments of parcel {number}", 1, count, order_id)
    ours = {(row.order_id, row.parcel): row for row in world.books.shipments}
    for (order_id, number), shipment in ours.items():
        if shipment.sold_by == OWN_FLEET:
            continue
        carried: ParcelRow | None = world.carried.get(order_id, {}).get(number)
        allowed: frozenset[str | None] = SAME_PARCEL.get(shipment.status, frozenset())
        if not world.is_at_rest(order_id) or not world.counts(shipment):
            allowed |= CARRIER_AHEAD.get(shipment.status, frozenset())
        allowed |= not_there(shipment)
        what = f"our shipment of parcel {number} is {shipment.status}; the carrier's"
        check.among(order_id, what, allowed, carried.status if carried else None, order_id)
        if carried and carried.tracking_number and shipment.tracking_number not in (None, carried.tracking_number):
            check.fails(order_id, "tracking number", carried.tracking_number, str(shipment.tracking_number), order_id)
    for row in world.books.parcels:
        parcel = parcel_of(row.reference)
        if parcel not in ours and return_of(row.reference) is None:
            check.compared += 1
            if not world.is_fresh(row.created_at):
                check.fails(row.reference, "our shipment", row.status, "none", parcel[0] if parcel else None)


@rule("A return that has ended has no parcel that may still be sent", Source.ORDER, Source.SHIPPING)
def label_fits(world: World, check: Check) -> None:
    for key, label in world.labels.items():
        row = world.returns.get(key)
        if row is None:
            check.compared += 1
            if not world.is_fresh(label.created_at):
                check.fails(f"return {key[1]} of {key[0]}", "return of this label", label.status, "none", label.order_id)
            continue
        if world.is_fresh(row.updated_at):
            continue
        name = f"return {row.number} of {row.order_id}"
        if row.status in FINAL_RETURN_STATUSES:
            check.compared += 1
            if label.status in BEFORE_DISPATCH:
                check.fails(name, f"{row.status}: label", "not live", label.status, row.order_id)
        if row.status == ReturnStatus.CANCELLED:
            check.among(name, "CANCELLED: label", (*NEVER_WENT, ShipmentStatus.RETURNED), label.status, row.order_id)
        if row.tracking_number is not None:
            check.equal(name, "tracking number", row.tracking_number, label.tracking_number, row.order_id)


@rule("A return's parcel is the carrier's", Source.SHIPPING, Source.CARRIER)
def labels_agree(world: World, check: Check) -> None:
    for key, label in world.labels.items():
        carried = world.carried_back.get(key)
        status = carried.status if carried else None
        name = f"return {key[1]} of {key[0]}"
        if label.sold_by == OWN_FLEET:
            continue
        if status in CARRIER_AHEAD.get(label.status, frozenset()):
            check.in_flight.append(InFlight(name, "news of its parcel is under way", label.created_at, label.order_id))
            continue
        allowed: frozenset[str | None] = SAME_PARCEL.get(label.status, frozenset())
        allowed |= not_there(label)
        check.among(name, f"our label is {label.status}; the carrier's", allowed, status, label.order_id)
        if carried and carried.tracking_number and label.tracking_number not in (None, carried.tracking_number):
            check.fails(name, "tracking number", carried.tracking_number, str(label.tracking_number), label.order_id)
    for key, row in world.carried_back.items():
        check.compared += 1
        if key not in world.labels and not world.is_fresh(row.created_at):
            check.fails(row.reference, "our label", row.status, "none", key[0])


@rule("A label that is not needed is given back", Source.SHIPPING, Source.CARRIER)
def labels_are_given_back(world: World, check: Check) -> None:
    """Money is owed to us for it until the carrier has said something."""
    for shipments, carried in ((world.books.shipments, _there(world)), (world.books.labels, world.carried_back)):
        for row in shipments:
            there = carried.get((row.order_id, row.parcel))
            if row.status not in NEVER_WENT or there is None or row.sold_by == OWN_FLEET:
                continue
            check.compared += 1
            if there.status != "booked" or row.refund == "rejected":
                continue  # given back; or a carrier has it, which other rules tell
            since = row.not_needed_since
            if row.refund in ("due", "submitted") and since is not None and world.books.taken_at - since < GIVEN_BACK_AFTER:
                check.in_flight.append(InFlight(there.reference, "a label is being given back", since, row.order_id))
            else:
                check.fails(there.reference, "label that is not needed", "given back", f"{row.refund} of us", row.order_id)


def _there(world: World) -> Mapping[tuple[UUID, int], ParcelRow]:
    return {(order_id, number): row for order_id, rows in world.carried.items() for number, row in rows.items()}


def is_being_given_back(shipment: ShipmentRow) -> bool:
    """Whether the carrier may still sell what we do not need: another rule says for how long."""
    return shipment.status in NEVER_WENT and shipment.refund in ("due", "submitted", "rejected")


def not_there(shipment: ShipmentRow) -> frozenset[str | None]:
    """What else the carrier may say of one that never goes: nothing, if no label was bought, or that it is still sold."""
    if shipment.status not in NEVER_WENT:
        return frozenset()
    unbought: frozenset[str | None] = frozenset({None}) if shipment.tracking_number is None else frozenset()
    return unbought | ({"booked"} if is_being_given_back(shipment) else frozenset())


def _fits(
    check: Check,
    order: OrderRow,
    what: str,
    allowed_of: Mapping[str, frozenset[str | None]],
    found: Mapping[int, str],
    *,
    gone: Iterable[str],
    before_dispatch: Iterable[str],
) -> None:
    """The parcel that counts fits the order, or each of several does; none that was replaced can still leave. `found`: statuses
    by number."""
    if order.parcels:
        _each_fits(check, order, what, allowed_of, found, gone)
        return
    allowed = allowed_of.get(by_trouble(order))
    if allowed is None:
        return
    # One that could not be sent again is no more: the parcel before it counts, unless the whole order was called off.
    counting = [number for number, status in found.items() if status not in gone or order.status == _S.CANCELLED]
    counts = max(counting or found, default=None)
    check.among(order.order_id, f"{order.status}: {what}", allowed, found[counts] if counts else None, order.order_id)
    for number, status in found.items():
        if number != counts and status in before_dispatch:
            replaced = f"{order.status}: {what} {number}, which was replaced"
            check.fails(order.order_id, replaced, "not live", status, order.order_id)


def _each_fits(
    check: Check,
    order: OrderRow,
    what: str,
    allowed_of: Mapping[str, frozenset[str | None]],
    found: Mapping[int, str],
    gone: Iterable[str],
) -> None:
    """Each parcel is as the order knows it, and there is no other that lives."""
    for parcel in order.parcels:
        words = f"parcel {parcel.parcel} is {by_trouble(parcel)}: {what}"
        check.among(order.order_id, words, allowed_of[by_trouble(parcel)], found.get(parcel.parcel), order.order_id)
    known = {parcel.parcel for parcel in order.parcels}
    for number, status in found.items():
        if number not in known and status not in gone:
            check.fails(order.order_id, f"{what} {number}, of which the order does not know", "none", status, order.order_id)

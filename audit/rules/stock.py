"""Stock: what is on the shelf, what of it is promised, and that nothing is promised twice."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from audit.books import OrderRow, ReservationRow, Source
from audit.rule import rule
from audit.verdict import Check, InFlight
from audit.world import Returned, World, by_trouble
from contracts.inventory import ReservationStatus
from contracts.orders import OrderStatus
from contracts.parcels import OrderParcel, ParcelStatus, Trouble
from contracts.returns import ReturnStatus

_S, _T, _R, _P = OrderStatus, Trouble, ReservationStatus, ParcelStatus
RESERVATION_OF: Mapping[str, frozenset[str | None]] = {
    _S.PAYMENT_DUE: frozenset({_R.RESERVED}),
    _S.ACTION_REQUIRED: frozenset({_R.RESERVED}),
    _S.IN_REVIEW: frozenset({_R.RESERVED}),
    _P.AWAITED: frozenset({_R.AWAITED}),
    _P.RESERVED: frozenset({_R.RESERVED}),
    _S.CONFIRMED: frozenset({_R.RESERVED}),
    _P.BOOKED: frozenset({_R.RESERVED}),
    _S.SHIPPED: frozenset({_R.SHIPPED}),
    _T.NOT_PICKED_UP: frozenset({_R.RESERVED}),
    _T.SILENT: frozenset({_R.SHIPPED}),
    _T.LOST: frozenset({_R.SHIPPED}),
    # Back on the shelf already, if it was to be sent again and that came to nothing.
    _T.RETURNED: frozenset({_R.SHIPPED, _R.RESTOCKED}),
    _S.DELIVERED: frozenset({_R.SHIPPED}),
    _S.COMPLETED: frozenset({_R.SHIPPED}),
    _S.REFUNDED: frozenset({_R.SHIPPED, _R.RESTOCKED}),
    _P.RESENT: frozenset({_R.SHIPPED, _R.RESTOCKED}),
    _S.CANCELLED: frozenset({None, _R.RELEASED}),
}
"""What the reservation that counts may be, by the status at rest of an order with one parcel; that of each of several, by the
parcel's status; while one is UNDELIVERED, by its trouble. None is open when the order has ended."""
ENDED = frozenset({_S.CANCELLED, _S.COMPLETED, _S.REFUNDED})
_OPEN = frozenset({_R.AWAITED, _R.RESERVED})
FILLED_WITHIN = timedelta(minutes=1)
"""Who waits has the goods by then, once they are there: inventory looks every two seconds."""


@rule("Stock on hand = sum of its movements", Source.INVENTORY)
def stock_is_its_movements(world: World, check: Check) -> None:
    for row in world.books.stock:
        check.equal(f"{row.warehouse_id}/{row.product_id}", "on hand", row.moved, row.on_hand or 0)


@rule("Stock on hand = received - shipped + restocked + returned + corrected + transferred", Source.INVENTORY)
def stock_is_received_less_shipped(world: World, check: Check) -> None:
    for row in world.books.stock:
        expected = row.received - row.shipped + row.restocked + row.returned + row.corrected + row.transferred
        check.equal(f"{row.warehouse_id}/{row.product_id}", "on hand", expected, row.on_hand or 0)


@rule("What came back damaged is written off", Source.INVENTORY)
def damage_is_written_off(world: World, check: Check) -> None:
    for row in world.books.stock:
        check.equal(f"{row.warehouse_id}/{row.product_id}", "written off", row.damaged, row.written_off)


@rule("No more comes back by returns than was shipped", Source.INVENTORY)
def no_more_back_than_shipped(world: World, check: Check) -> None:
    for row in world.books.back:
        check.compared += 1
        if row.back > row.shipped:
            what = f"{row.product_id}, come back by returns"
            check.fails(row.order_id, what, f"{row.shipped} at most", str(row.back), row.order_id)


@rule("Inventory received what each return says came", Source.ORDER, Source.INVENTORY)
def returns_were_received(world: World, check: Check) -> None:
    received = {(row.order_id, row.number): row for row in world.books.received}
    for key, row in world.returns.items():
        found = received.pop(key, None)
        if world.is_fresh(row.updated_at) or (found and world.is_fresh(found.received_at)):
            continue
        if found is None and row.status == ReturnStatus.RECEIVED:
            why = "its goods are to be received"
            check.in_flight.append(InFlight(_name(key), why, row.updated_at, row.order_id))
            continue
        lines = found.lines if found else None
        check.equal(_name(key), f"{row.status}: received", row.came or "nothing", lines or "nothing", row.order_id)
    for key, extra in received.items():
        check.compared += 1
        if not world.is_fresh(extra.received_at):
            check.fails(_name(key), "return that was received", "none", extra.lines or "nothing", extra.order_id)


@rule("What leaves a warehouse for another arrives there", Source.INVENTORY)
def transfers_arrive(world: World, check: Check) -> None:
    by_product: Counter[str] = Counter()
    for row in world.books.stock:
        by_product[row.product_id] += row.transferred
    for product_id, transferred in by_product.items():
        check.equal(product_id, "transferred, at all warehouses together", 0, transferred)


@rule("Reserved stock = sum of open reservations", Source.INVENTORY)
def reserved_is_the_open_reservations(world: World, check: Check) -> None:
    for row in world.books.stock:
        check.equal(f"{row.warehouse_id}/{row.product_id}", "reserved", row.promised, row.reserved or 0)


@rule("0 ≤ reserved ≤ on hand, always", Source.INVENTORY)
def never_oversold(world: World, check: Check) -> None:
    for row in world.books.stock:
        check.compared += 1
        on_hand, reserved = row.on_hand or 0, row.reserved or 0
        if not 0 <= reserved <= on_hand:
            found = f"{reserved} reserved of {on_hand}"
            check.fails(f"{row.warehouse_id}/{row.product_id}", "stock", "0 ≤ reserved ≤ on hand", found)


@rule("Who waits for goods that are there gets them", Source.INVENTORY)
def nobody_waits_in_vain(world: World, check: Check) -> None:
    for row in world.books.waiting:
        check.compared += 1
        since = row.fillable_since
        if row.fillable_at is not None and since is not None and since < world.books.taken_at - FILLED_WITHIN:
            found = f"{row.fillable_at} has them since {since:%Y-%m-%d %H:%M}"
            check.fails(row.order_id, f"goods that parcel {row.parcel} waits for", "nowhere", found, row.order_id)


@rule("Reservations fit their order's status and lines", Source.ORDER, Source.INVENTORY)
def reservation_fits(world: World, check: Check) -> None:
    for order in world.settled:
        if order.parcels:
            _each_fits(check, order, world.reservations.get(order.order_id, []))
            continue
        allowed = RESERVATION_OF.get(by_trouble(order))
        if allowed is None:
            continue
        rows = world.reservations.get(order.order_id, [])
        if any(row.plan is not None for row in rows):
            for row in rows if order.status in ENDED else ():  # it ended before its saga knew the plan
                what = f"{order.status}: reservation of parcel {row.parcel}"
                check.compared += 1
                if row.status in _OPEN:
                    check.fails(order.order_id, what, "not open", row.status, order.order_id)
            continue
        counts = _that_counts(rows, order.status)
        check.among(order.order_id, f"{order.status}: reservation", allowed, counts.status if counts else None, order.order_id)
        for row in rows:
            if row.status in _OPEN and row is not counts:
                what = f"{order.status}: reservation of parcel {row.parcel}, which was replaced"
                check.fails(order.order_id, what, "not open", row.status, order.order_id)
        if counts and counts.status != _R.RELEASED and counts.lines != order.lines:
            check.fails(order.order_id, "reserved lines", str(order.lines), str(counts.lines), order.order_id)


def _that_counts(rows: list[ReservationRow], status: str) -> ReservationRow | None:
    """The newest one; of an order that goes on, the newest that was not released, which may be that of an earlier parcel."""
    kept = [row for row in rows if row.status != _R.RELEASED or status == _S.CANCELLED]
    found = kept or rows
    return found[-1] if found else None


def _each_fits(check: Check, order: OrderRow, rows: list[ReservationRow]) -> None:
    """The reservation of each parcel is as the order knows it, and no other is open."""
    found = {row.parcel: row for row in rows}
    for parcel in order.parcels:
        row = found.pop(parcel.parcel, None)
        what = f"parcel {parcel.parcel} is {by_trouble(parcel)}: reservation"
        check.among(order.order_id, what, RESERVATION_OF[by_trouble(parcel)], row.status if row else None, order.order_id)
        if row and row.status != _R.RELEASED and row.lines != (expected := _lines_of(parcel)):
            check.fails(order.order_id, f"reserved lines of parcel {parcel.parcel}", expected, str(row.lines), order.order_id)
    for number, row in found.items():
        if row.status in _OPEN:
            what = f"reservation of parcel {number}, of which the order does not know"
            check.fails(order.order_id, what, "not open", row.status, order.order_id)


def _name(key: Returned) -> str:
    return f"return {key[1]} of {key[0]}"


def _lines_of(parcel: OrderParcel) -> str:
    """As `ReservationRow.lines` has them."""
    units: Counter[str] = Counter()
    for line in parcel.lines:
        units[line.product_id] += line.quantity
    return ", ".join(f"{product} x {quantity}" for product, quantity in sorted(units.items()))

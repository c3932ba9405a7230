"""What an order whose workflow was lost needs to go on: the order itself, and how far it had come.

Nothing is taken or promised anew. What was done for the order and has not left is undone; a parcel that has left is followed. Of
an order in several parcels its saga's last word to the record counts, and what carrier and inventory have told since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import col, func, select

from chassis.clock import utc_now
from chassis.database import Database
from contracts.address import Address
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import StockUpdate
from contracts.money import Money
from contracts.orders import CancelRequest, OrderSoFar, OrderStatus, ParcelSoFar, PlaceOrder, TimelineEntry
from contracts.parcels import HAS_LEFT, ParcelStatus, Trouble
from contracts.shipments import ShipmentStatus, ShipmentUpdate
from services.inventory.model import Reservation
from services.order.commands import find_order
from services.order.commands.amendment_records import amendments_of
from services.order.model import Order, OrderAmendment
from services.payment.model import Payment
from services.shipping.model import Shipment

NO_CARD = "repaired_order_has_no_card"
"""In place of the payment token, which the shop does not keep. It could not be charged: where a repaired saga has to, because
what was held is gone, its customer is asked for another card."""
_S, _D = OrderStatus, ShipmentStatus
BEFORE_CONFIRMED = frozenset({_S.PENDING, _S.RESERVED, _S.PAYMENT_DUE, _S.ACTION_REQUIRED, _S.IN_REVIEW, _S.PAID})
ON_ITS_WAY = frozenset({_S.SHIPPED, _S.DELIVERED})
CAN_GO_ON = frozenset({_S.CONFIRMED, _S.PARTIALLY_SHIPPED, _S.UNDELIVERED})
CALLED_OFF = frozenset({_D.CANCELLED, _D.REFUSED})
NOT_DISPATCHED = frozenset({_D.PENDING, _D.BOOKED})


@dataclass(frozen=True)
class OrderBooks:
    """What the services say of one order."""

    order: Order
    shipments: Sequence[Shipment]
    """In the sequence in which they were sent."""
    reservations: Sequence[Reservation]
    attempts: int = 1
    """How often it was tried to pay."""
    amendments: Sequence[OrderAmendment] = ()
    """All that were asked for."""

    @property
    def shipment(self) -> Shipment | None:
        """The parcel that counts: the last one that was not called off."""
        return next((shipment for shipment in reversed(self.shipments) if shipment.status not in CALLED_OFF), None)

    @property
    def has_left(self) -> bool:
        """Whether the parcel that counts is with the carrier, or was; of several, whether all are that count."""
        if parcels := self.order.told_parcels:
            gone = {report.parcel for report in self.reports}
            return all(parcel.status in HAS_LEFT or parcel.parcel in gone for parcel in parcels if parcel.counts)
        shipment = self.shipment
        return self.order.status in ON_ITS_WAY or (
            shipment is not None and shipment.status not in NOT_DISPATCHED and shipment.parcel == self.parcel
        )

    @property
    def reports(self) -> tuple[ShipmentUpdate, ...]:
        """What the carrier has told of the parcels that have left, each one's last word: of those of several that count, or of
        the one that does."""
        if parcels := self.order.told_parcels:
            counting = {parcel.parcel for parcel in parcels if parcel.counts}
            gone = [row for row in self.shipments if row.status not in CALLED_OFF | NOT_DISPATCHED]
            told = [row for row in gone if row.parcel in counting]
        else:
            told = [self.shipment] if self.shipment and self.has_left else []
        return tuple(ShipmentUpdate(parcel=row.parcel, status=row.status, tracking_number=row.tracking_number) for row in told)

    @property
    def filled(self) -> tuple[StockUpdate, ...]:
        """The parcels whose goods have arrived since its saga knew that it waits for them."""
        awaited = {parcel.parcel for parcel in self.order.told_parcels if parcel.status == ParcelStatus.AWAITED}
        return tuple(
            StockUpdate(parcel=row.parcel, status=row.status, warehouse_id=row.warehouse_id)
            for row in self.reservations
            if row.parcel in awaited and row.status == "RESERVED"
        )

    @property
    def parcel(self) -> int:
        """The number of the parcel that counts; one may be reserved for, and not booked yet."""
        reserved = [row.parcel for row in self.reservations if row.status == "RESERVED"]
        return max([*reserved, self.shipment.parcel if self.shipment else 1])

    @property
    def parcels(self) -> int:
        """How many were tried to be sent."""
        return max([1, *(row.parcel for row in self.shipments), *(row.parcel for row in self.reservations)])


@dataclass(frozen=True)
class Repair:
    """How the workflow of a lost order is started again."""

    placement: PlaceOrder
    so_far: OrderSoFar
    reports: tuple[ShipmentUpdate, ...]
    """What the carrier has told of the parcels that are followed."""
    filled: tuple[StockUpdate, ...]
    """Parcels whose goods have arrived meanwhile."""


async def read_books(urls: tuple[str, str, str, str], order_id: UUID) -> OrderBooks | None:
    """What order, shipping, inventory and payment say; None if there is no such order. `urls`: their databases, in this
    sequence."""
    order_db, shipping_db, inventory_db, payment_db = databases = [Database(url) for url in urls]
    try:
        order = await find_order(order_db, order_id)
        if order is None:
            return None
        async with shipping_db.reading() as session:
            shipments = select(Shipment).where(Shipment.order_id == order_id).order_by(col(Shipment.parcel))
            found = list((await session.exec(shipments)).all())
        async with payment_db.reading() as session:
            attempts = (await session.exec(select(func.max(Payment.attempt)).where(Payment.order_id == order_id))).one() or 1
        async with inventory_db.reading() as session:
            reservations = select(Reservation).where(Reservation.order_id == order_id).order_by(col(Reservation.parcel))
            reserved = list((await session.exec(reservations)).all())
        return OrderBooks(order, found, reserved, attempts, await amendments_of(order_db, order_id))
    finally:
        for database in databases:
            await database.close()


def repair_of(books: OrderBooks, *, was_started: bool, by: str, reason: str, go_on: bool) -> Repair:
    """How the order's workflow is started again. With `go_on` a confirmed order is not cancelled. `was_started`: Temporal knows
    a workflow of the order, in whatever state.

    Refusals: conflict, if the order has ended, if its saga is still to be started, or if it cannot go on. Raises ValidationError,
    if `by` or `reason` is empty."""
    order = books.order
    if order.is_over:
        raise Refusal(ErrorCode.CONFLICT, f"The order has ended: it is {order.status}.")
    if order.to_start is not None and not was_started:
        raise Refusal(
            ErrorCode.CONFLICT, "The order was accepted, and its saga is still to be started: the order service does it."
        )
    if go_on and order.status not in CAN_GO_ON:
        raise Refusal(ErrorCode.CONFLICT, f"An order that is {order.status} cannot go on where it was; leave out --go-on.")
    shipment = books.shipment
    # Before it is confirmed, the saga's own undo finds out whether the parcel has left; then it goes on.
    follows = go_on or (books.has_left and order.status not in BEFORE_CONFIRMED)
    wish = CancelRequest(reason=f"Its workflow was lost: {reason}"[:500], requested_by=by)
    closed = sum(each.closed_minor for each in books.amendments)
    so_far = OrderSoFar(
        status=order.status,
        reached=len(order.history),
        timeline=(*order.timeline(), _entry(order.status, f"Its workflow was lost, and started again by {by}: {reason}")),
        outcome=order.kept_outcome,
        code=ErrorCode(order.code) if order.code else None,
        detail=order.detail if order.code else None,
        review_reason=order.review_reason,
        parcel=books.parcel,
        parcels=books.parcels,
        warehouse_id=order.warehouse_id,
        tracking_number=order.tracking_number or (shipment.tracking_number if shipment else None),
        trouble=Trouble(order.trouble) if order.trouble else None,
        all_parcels=tuple(ParcelSoFar(**dict(parcel)) for parcel in order.told_parcels),
        attempt=books.attempts,
        declined=order.outcome_so_far if order.status == _S.PAYMENT_DUE and order.pay_until else None,
        action=order.payment_action,
        refunded=order.refunded_without_returns if order.refunded_without_returns.minor else None,
        cancel=None if follows else wish,
        amendment=max((each.number for each in books.amendments), default=0),
        closed=Money.from_minor(closed, order.currency) if closed else None,
    )
    return Repair(_placement(order), so_far, books.reports, books.filled)


def _placement(order: Order) -> PlaceOrder:
    return order.to_start or PlaceOrder(
        order_id=order.order_id,
        customer_id=order.customer_id,
        lines=order.order_lines,
        total=order.total,
        charges=order.order_charges,
        ship_to=Address.model_validate(order.ship_to),
        payment_token=NO_CARD,
        warehouse_id=order.warehouse_id,
        capture_at=order.is_paid_at,
        needs_review=order.needs_review,
        replaces=order.replaced,
        placed_at=order.placed_at,
        fingerprint=order.fingerprint,
    )


def _entry(status: OrderStatus, words: str) -> TimelineEntry:
    return TimelineEntry(at=utc_now(), what="Looked after by the shop", status=status, for_staff=words)

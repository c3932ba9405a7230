"""The services as a saga sees them, in memory: their rules about steps and undos are real, their faults are scripted.

It stands behind the real activities (`Calls`), so that a saga's test needs Temporal alone. That the real services keep the same
rules is proven by their own tests.
"""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

from pydantic import BaseModel

from activities import all_activities
from activities.calls import Reply
from chassis.clients import Unavailable
from contracts.address import Address
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import (
    ReleaseInventory,
    Reservation,
    ReservationStatus,
    ReserveInventory,
    RestockInventory,
    ShipInventory,
)
from contracts.money import Money
from contracts.notifications import NotificationQueued, SendNotification
from contracts.orders import NEXT_STATUS, AdvanceOrder, OrderLine, OrderProgress, OrderStatus, PlaceOrder
from contracts.payments import CapturePayment, Payment, PaymentStatus, ProcessPayment, RefundPayment
from contracts.shipments import CancelShipment, CreateShipment, Shipment, ShipmentStatus

Fault = Callable[[], None]


def place_order(*, needs_review: bool = False, review_seconds: int = 86_400, currency: str = "USD") -> PlaceOrder:
    """An order of two lines for 23.40."""
    milk, cheese = Money(amount=Decimal("2.70"), currency=currency), Money(amount=Decimal("18.00"), currency=currency)
    lines = (
        OrderLine(product_id="milk", name="Milk", quantity=2, unit_price=milk, weight_grams=1000),
        OrderLine(product_id="cheese", name="Cheese", quantity=1, unit_price=cheese, weight_grams=400),
    )
    return PlaceOrder(
        order_id=uuid4(),
        customer_id=uuid4(),
        lines=lines,
        total=Money(amount=Decimal("23.40"), currency=currency),
        ship_to=Address(name="Ann", line1="1 Main St", city="Springfield", region="IL", postal_code="62701", country="US"),
        payment_token="tok_visa",
        needs_review=needs_review,
        review_seconds=review_seconds,
        placed_at=datetime.now(UTC),
    )


class World:
    """Five services. `before` and `after` hold, by the last part of a path, what each next call meets: before its effect, or
    after it (the reply is lost). An entry raises, or returns to let the call pass."""

    def __init__(self) -> None:
        self.before: dict[str, list[Fault]] = defaultdict(list)
        self.after: dict[str, list[Fault]] = defaultdict(list)
        self.calls: list[str] = []
        self.status: dict[UUID, OrderStatus] = {}
        self.history: dict[UUID, list[OrderStatus]] = {}
        self.advances: list[AdvanceOrder] = []
        self.reserved: dict[tuple[UUID, int], ReservationStatus] = {}
        self.paid: dict[UUID, PaymentStatus] = {}
        self.amounts: dict[UUID, Money] = {}
        self.captured: dict[UUID, Money] = {}
        self.refunded: dict[UUID, Money] = {}
        self.parcels: dict[tuple[UUID, int], ShipmentStatus] = {}
        self.mails: dict[str, SendNotification] = {}
        self.risky = False
        """The payment provider answers "authorized" and wants a review."""
        self.hurried: tuple[str, ...] = ()
        """Why payment wants a review."""

    def activities(self) -> list[Callable[..., object]]:
        """The real activities, calling this world."""
        return list(all_activities(lambda service: self))

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """Answer a call; see `Calls`."""
        name = type(body).__name__
        self.calls.append(name)
        if self.before[name]:
            self.before[name].pop(0)()
        answer = getattr(self, f"_{name}")(body)
        if self.after[name]:
            self.after[name].pop(0)()
        assert isinstance(answer, reply)
        return answer

    def _AdvanceOrder(self, command: AdvanceOrder) -> OrderProgress:  # noqa: N802 (named after its command)
        seen = self.history.setdefault(command.order_id, [OrderStatus.PENDING])
        for status in command.path[len(seen) - command.after :]:
            assert status in NEXT_STATUS[seen[-1]], f"{seen[-1]} -> {status}"
            seen.append(status)
        self.status[command.order_id] = seen[-1]
        self.advances.append(command)
        return OrderProgress(order_id=command.order_id, status=seen[-1])

    def _ReserveInventory(self, command: ReserveInventory) -> Reservation:  # noqa: N802
        key = (command.order_id, command.parcel)
        if self.reserved.get(key) == ReservationStatus.RELEASED:
            raise Refusal(ErrorCode.RESERVATION_RELEASED, "released")
        self.reserved.setdefault(key, ReservationStatus.RESERVED)
        return self._reservation(key)

    def _ReleaseInventory(self, command: ReleaseInventory) -> Reservation:  # noqa: N802
        key = (command.order_id, command.parcel)
        assert self.reserved.get(key) != ReservationStatus.SHIPPED
        self.reserved[key] = ReservationStatus.RELEASED
        return self._reservation(key)

    def _ShipInventory(self, command: ShipInventory) -> Reservation:  # noqa: N802
        key = (command.order_id, command.parcel)
        assert self.reserved[key] in (ReservationStatus.RESERVED, ReservationStatus.SHIPPED)
        self.reserved[key] = ReservationStatus.SHIPPED
        return self._reservation(key)

    def _RestockInventory(self, command: RestockInventory) -> Reservation:  # noqa: N802
        key = (command.order_id, command.parcel)
        assert self.reserved[key] in (ReservationStatus.SHIPPED, ReservationStatus.RESTOCKED)
        self.reserved[key] = ReservationStatus.RESTOCKED
        return self._reservation(key)

    def _reservation(self, key: tuple[UUID, int]) -> Reservation:
        return Reservation(order_id=key[0], parcel=key[1], warehouse_id="410", status=self.reserved[key])

    def _ProcessPayment(self, command: ProcessPayment) -> Payment:  # noqa: N802
        state = self.paid.get(command.order_id)
        if state in (PaymentStatus.VOIDED, PaymentStatus.REFUNDED):
            raise Refusal(ErrorCode.PAYMENT_REVERSED, "reversed")
        if state is None:
            held = self.risky or self.hurried or not command.capture
            self.paid[command.order_id] = PaymentStatus.AUTHORIZED if held else PaymentStatus.CAPTURED
            if not held:
                self.captured[command.order_id] = command.amount
            self.amounts[command.order_id] = command.amount
        return self._payment(command.order_id)

    def _CapturePayment(self, command: CapturePayment) -> Payment:  # noqa: N802
        assert self.paid[command.order_id] in (PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED)
        self.paid[command.order_id] = PaymentStatus.CAPTURED
        self.captured[command.order_id] = self.amounts[command.order_id]
        return self._payment(command.order_id)

    def _RefundPayment(self, command: RefundPayment) -> Payment:  # noqa: N802
        if self.paid.get(command.order_id) == PaymentStatus.CAPTURED:
            self.paid[command.order_id] = PaymentStatus.REFUNDED
            self.refunded[command.order_id] = self.captured[command.order_id]
        elif self.paid.get(command.order_id) not in (PaymentStatus.REFUNDED, PaymentStatus.DECLINED):
            self.paid[command.order_id] = PaymentStatus.VOIDED
            self.amounts.setdefault(command.order_id, Money.zero(command.currency))
        return self._payment(command.order_id)

    def _payment(self, order_id: UUID) -> Payment:
        amount = self.amounts[order_id]
        return Payment(
            payment_id=order_id,
            order_id=order_id,
            status=self.paid[order_id],
            amount=amount,
            refunded=self.refunded.get(order_id, Money.zero(amount.currency)),
            review=self.hurried,
        )

    def _CreateShipment(self, command: CreateShipment) -> Shipment:  # noqa: N802
        key = (command.order_id, command.parcel)
        if self.parcels.get(key) == ShipmentStatus.CANCELLED:
            raise Refusal(ErrorCode.SHIPMENT_CANCELLED, "cancelled")
        self.parcels.setdefault(key, ShipmentStatus.BOOKED)
        return self._shipment(key)

    def _CancelShipment(self, command: CancelShipment) -> Shipment:  # noqa: N802
        key = (command.order_id, command.parcel)
        if self.parcels.get(key) in (ShipmentStatus.DISPATCHED, ShipmentStatus.DELIVERED):
            raise Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel has left.", extra={"tracking_number": "TRK1"})
        self.parcels[key] = ShipmentStatus.CANCELLED
        return self._shipment(key)

    def _shipment(self, key: tuple[UUID, int]) -> Shipment:
        order_id, parcel = key
        return Shipment(
            shipment_id=order_id, order_id=order_id, parcel=parcel, status=self.parcels[key], tracking_number=f"TRK{parcel}"
        )

    def _SendNotification(self, command: SendNotification) -> NotificationQueued:  # noqa: N802
        self.mails[command.key] = command
        return NotificationQueued(notification_id=command.order_id)

    def assert_settled(self, order: PlaceOrder) -> None:
        """What must hold once an order's saga has ended (design.md, section 7)."""
        order_id, nothing = order.order_id, Money.zero(order.total.currency)
        balance = self.captured.get(order_id, nothing) - self.refunded.get(order_id, nothing)
        reserved = {status for (of, _), status in self.reserved.items() if of == order_id}
        parcels = {status for (of, _), status in self.parcels.items() if of == order_id}
        assert ReservationStatus.RESERVED not in reserved
        if self.status[order_id] == OrderStatus.CANCELLED:
            assert balance == nothing
            assert reserved <= {ReservationStatus.RELEASED}
            assert self.paid.get(order_id) in (None, PaymentStatus.VOIDED, PaymentStatus.REFUNDED, PaymentStatus.DECLINED)
            assert parcels <= {ShipmentStatus.CANCELLED}
        elif self.status[order_id] == OrderStatus.REFUNDED:
            assert balance == nothing
        else:
            assert self.status[order_id] == OrderStatus.COMPLETED
            assert balance == order.total
            assert ReservationStatus.SHIPPED in reserved


def unavailable() -> None:
    """A fault: retried."""
    raise Unavailable("down for a moment")


def refused(code: ErrorCode) -> Fault:
    """A refusal: final."""

    def fault() -> None:
        raise Refusal(code, f"no: {code}")

    return fault

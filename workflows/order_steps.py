"""The steps of an order's saga and their undos: which activity, with what command, under which name."""

from activities.inventory import InventoryActivities
from activities.notification import NotificationActivities
from activities.order import OrderActivities
from activities.payment import PaymentActivities
from activities.shipping import ShippingActivities
from contracts.errors import ErrorCode
from contracts.ids import step_key
from contracts.inventory import (
    MoveReservation,
    Place,
    ReleaseInventory,
    Reservation,
    ReserveInventory,
    RestockInventory,
    ShipInventory,
    SplitReservation,
    StockLine,
    WhenShort,
)
from contracts.money import Money
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from contracts.orders import AdvanceOrder, CaptureAt, OrderAdvanced, PlaceOrder
from contracts.payments import CapturePayment, GiveBack, GivenBack, Payment, ProcessPayment, RefundPayment, ReleaseHold
from contracts.shipments import CancelShipment, CreateShipment, Shipment, ShipmentLine
from temporal.retries import BEST_EFFORT, HAS_TO_SUCCEED, OUTSIDE, Preset
from workflows.parcels import Parcel, lines_by_id
from workflows.saga import Undo
from workflows.steps import Step

CANNOT_BE_SENT = (ErrorCode.ADDRESS_UNDELIVERABLE, ErrorCode.PARCEL_TOO_HEAVY, ErrorCode.SHIPMENT_CANCELLED)
CANNOT_BE_SPLIT = (
    ErrorCode.NOT_FOUND,
    ErrorCode.CONFLICT,
    ErrorCode.RESERVATION_RELEASED,
    ErrorCode.RESERVATION_SHIPPED,
)
CANNOT_BE_TAKEN = (
    ErrorCode.PAYMENT_DECLINED,
    ErrorCode.NOT_HELD,
    ErrorCode.PAYMENT_REVERSED,
    ErrorCode.CONFLICT,
    ErrorCode.NOT_FOUND,
)
"""What is held is gone, was never held, or is not taken in parts by this provider; or a card is declined."""


def reserve_inventory(order: PlaceOrder) -> Step[ReserveInventory, Reservation]:
    """Goods for all of it, by inventory's plan."""
    lines = tuple(StockLine(product_id=line.product_id, quantity=line.quantity) for line in order.lines)
    place = Place(country=order.ship_to.country, region=order.ship_to.region, postal_code=order.ship_to.postal_code)
    command = ReserveInventory(
        order_id=order.order_id,
        customer_id=order.customer_id,
        lines=lines,
        warehouse_id=order.warehouse_id,
        may_split=order.may_split,
        when_short=order.when_short,
        day_by_day=order.day_by_day,
        ship_to=place if order.may_split else None,
    )
    return Step(InventoryActivities.reserve, command, "Reserve inventory")


def is_planned(order: PlaceOrder) -> bool:
    """Whether inventory may make more than one parcel of it, or leave something out."""
    return order.may_split or order.when_short != WhenShort.REFUSE


def reserve_again(order: PlaceOrder, parcel: Parcel) -> Step[ReserveInventory, Reservation]:
    """The same goods once more, at one warehouse."""
    command = ReserveInventory(
        order_id=order.order_id,
        parcel=parcel.number,
        customer_id=order.customer_id,
        lines=parcel.stock_lines,
        warehouse_id=order.warehouse_id,
    )
    return Step(InventoryActivities.reserve, command, "Reserve inventory")


def reserve_more(order: PlaceOrder, parcel: Parcel) -> Step[ReserveInventory, Reservation]:
    """What an order gets in addition, at one warehouse."""
    command = ReserveInventory(
        order_id=order.order_id,
        parcel=parcel.number,
        customer_id=order.customer_id,
        lines=parcel.stock_lines,
        warehouse_id=order.warehouse_id,
        is_more=True,
    )
    return Step(InventoryActivities.reserve, command, "Reserve inventory")


def release_plan(order: PlaceOrder) -> Undo:
    """Undo of `reserve_inventory`, whatever was planned."""
    command = ReleaseInventory(order_id=order.order_id, planned=is_planned(order), reason="order cancelled")
    return Undo(Step(InventoryActivities.release, command, "Release inventory", HAS_TO_SUCCEED))


def release_inventory(order: PlaceOrder, parcel: Parcel, label: str = "") -> Undo:
    """`label`: tells its undo from those of the order's other parcels, if there are any."""
    command = ReleaseInventory(order_id=order.order_id, parcel=parcel.number, reason="order cancelled")
    return Undo(Step(InventoryActivities.release, command, f"Release inventory{label}", HAS_TO_SUCCEED))


def split_reservation(order: PlaceOrder, parcel: Parcel, other: Parcel, label: str = "") -> Step[SplitReservation, Reservation]:
    """What `other` has was promised to `parcel` before. `label`: tells it from others that are done at the same time."""
    command = SplitReservation(order_id=order.order_id, parcel=parcel.number, into=other.number, lines=other.stock_lines)
    return Step(InventoryActivities.split, command, f"Split reservation{label}", HAS_TO_SUCCEED.ends_on(CANNOT_BE_SPLIT))


def move_reservation(order: PlaceOrder, parcel: Parcel, other: Parcel) -> Step[MoveReservation, Reservation]:
    """All that `parcel` was promised is promised to `other`."""
    command = MoveReservation(order_id=order.order_id, parcel=parcel.number, into=other.number)
    return Step(InventoryActivities.move, command, "Move reservation", HAS_TO_SUCCEED)


def ship_inventory(order: PlaceOrder, parcel: Parcel) -> Step[ShipInventory, Reservation]:
    command = ShipInventory(order_id=order.order_id, parcel=parcel.number)
    return Step(InventoryActivities.ship, command, "Ship inventory", HAS_TO_SUCCEED)


def restock_inventory(order: PlaceOrder, parcel: Parcel) -> Step[RestockInventory, Reservation]:
    command = RestockInventory(order_id=order.order_id, parcel=parcel.number, reason="the parcel came back")
    return Step(InventoryActivities.restock, command, "Restock inventory", HAS_TO_SUCCEED)


def process_payment(
    order: PlaceOrder, amount: Money, card: str, attempt: int = 1, return_url: str | None = None
) -> Step[ProcessPayment, Payment]:
    """`return_url`: the customer is there, and may be asked to confirm it."""
    capture = order.capture_at == CaptureAt.CONFIRMATION and not order.needs_review
    command = _payment(order, amount, card, attempt, capture, return_url)
    return Step(PaymentActivities.process, command, "Process payment", OUTSIDE)


def pay_anew(order: PlaceOrder, amount: Money, card: str, attempt: int, *, capture: bool) -> Step[ProcessPayment, Payment]:
    """Take, or hold, some of a confirmed order's price as another attempt, however long that takes to be answered."""
    command = _payment(order, amount, card, attempt, capture)
    return Step(PaymentActivities.process, command, f"Process payment {attempt}", HAS_TO_SUCCEED.ends_on(CANNOT_BE_TAKEN))


def _payment(
    order: PlaceOrder, amount: Money, card: str, attempt: int, capture: bool, return_url: str | None = None
) -> ProcessPayment:
    return ProcessPayment(
        order_id=order.order_id,
        attempt=attempt,
        customer_id=order.customer_id,
        amount=amount,
        payment_token=card,
        ship_to_fingerprint=order.ship_to.fingerprint,
        capture=capture,
        return_url=return_url,
    )


def hold_payment(order: PlaceOrder, amount: Money, card: str, attempt: int) -> Step[ProcessPayment, Payment]:
    """Hold it; what is held is taken by `capture_payment`, or as parcels leave."""
    return Step(PaymentActivities.process, _payment(order, amount, card, attempt, capture=False), f"Hold payment {attempt}")


def capture_payment(order: PlaceOrder, attempt: int = 1) -> Step[CapturePayment, Payment]:
    command = CapturePayment(order_id=order.order_id, attempt=attempt)
    return Step(PaymentActivities.capture, command, "Capture payment", OUTSIDE)


def capture_part(
    order: PlaceOrder, attempt: int, amount: Money, parcel: Parcel, *, is_last: bool
) -> Step[CapturePayment, Payment]:
    """What a parcel costs that has left. `is_last`: what is held beyond that is let go."""
    command = CapturePayment(
        order_id=order.order_id,
        attempt=attempt,
        amount=amount,
        key=f"parcel-{parcel.number}",
        is_last=is_last,
        purpose=f"parcel {parcel.number} has left",
    )
    summary = f"Capture payment of parcel {parcel.number}"
    return Step(PaymentActivities.capture, command, summary, HAS_TO_SUCCEED.ends_on(CANNOT_BE_TAKEN))


def release_hold(order: PlaceOrder, attempt: int, reason: str) -> Step[ReleaseHold, Payment]:
    """What is held and not taken."""
    command = ReleaseHold(order_id=order.order_id, attempt=attempt, reason=reason)
    return Step(PaymentActivities.release_hold, command, f"Release hold {attempt}", HAS_TO_SUCCEED)


def refund_payment(order: PlaceOrder, attempt: int = 1, reason: str = "order cancelled") -> Step[RefundPayment, Payment]:
    """All that was taken and has not gone back."""
    command = RefundPayment(order_id=order.order_id, attempt=attempt, currency=order.total.currency, reason=reason)
    summary = "Refund payment" if attempt == 1 else f"Refund payment {attempt}"
    return Step(PaymentActivities.refund, command, summary, HAS_TO_SUCCEED)


def refund_part(order: PlaceOrder, attempt: int, amount: Money, key: str, reason: str) -> Step[RefundPayment, Payment]:
    """Some of what was taken. `key`: names it for ever."""
    command = RefundPayment(
        order_id=order.order_id, attempt=attempt, amount=amount, key=key, currency=order.total.currency, reason=reason
    )
    return Step(PaymentActivities.refund, command, f"Refund {key}", HAS_TO_SUCCEED)


def give_back(order: PlaceOrder, amount: Money, key: str, reason: str) -> Step[GiveBack, GivenBack]:
    """Some of what was taken, by whichever attempts. `key`: names it for ever."""
    command = GiveBack(order_id=order.order_id, amount=amount, key=key, reason=reason)
    return Step(PaymentActivities.give_back, command, f"Refund order {key}", HAS_TO_SUCCEED)


def create_shipment(
    order: PlaceOrder, parcel: Parcel, weight_grams: int, parcels: int = 1, preset: Preset = OUTSIDE
) -> Step[CreateShipment, Shipment]:
    """`parcels`: how many the order is sent in."""
    command = CreateShipment(
        order_id=order.order_id,
        parcel=parcel.number,
        customer_id=order.customer_id,
        warehouse_id=parcel.warehouse_id or "",
        ship_to=order.ship_to,
        weight_grams=weight_grams,
        service=order.shipping,
        parcels=parcels,
        lines=_shipment_lines(order, parcel),
    )
    return Step(ShippingActivities.create, command, "Create shipment", preset)


def _shipment_lines(order: PlaceOrder, parcel: Parcel) -> tuple[ShipmentLine, ...]:
    """What is in a parcel, as the warehouse and customs are told; nothing of orders of before lines had ids."""
    if any(line.line_id is None for line in order.lines):
        return ()
    lines = lines_by_id(order)
    return tuple(
        ShipmentLine(
            product_id=part.product_id,
            name=lines[part.line_id].name,
            quantity=part.quantity,
            unit_price=lines[part.line_id].unit_price,
            weight_grams=lines[part.line_id].weight_grams,
        )
        for part in parcel.lines
    )


def cancel_shipment(order: PlaceOrder, parcel: int = 1, label: str = "") -> Undo:
    """Once the parcel has left, nothing of it may be undone."""
    command = CancelShipment(order_id=order.order_id, parcel=parcel, reason="order cancelled")
    step = Step(ShippingActivities.cancel, command, f"Cancel shipment{label}", HAS_TO_SUCCEED)
    return Undo(step, ends_on=frozenset({ErrorCode.ALREADY_DISPATCHED}), parcel=parcel)


def advance_order(command: AdvanceOrder) -> Step[AdvanceOrder, OrderAdvanced]:
    return Step(OrderActivities.advance, command, "Advance order", HAS_TO_SUCCEED)


def send_confirmation(order: PlaceOrder, tracking_number: str | None) -> Step[SendNotification, NotificationQueued]:
    command = SendNotification(
        key=step_key(order.order_id, NotificationKind.ORDER_CONFIRMED),
        kind=NotificationKind.ORDER_CONFIRMED,
        customer_id=order.customer_id,
        order_id=order.order_id,
        values={"total": str(order.total), "lines": str(len(order.lines)), "tracking_number": tracking_number or ""},
    )
    return Step(NotificationActivities.send, command, "Send confirmation", BEST_EFFORT)

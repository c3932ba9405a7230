"""The steps of an order's saga and their undos: which activity, with what command, under which name."""

from activities.inventory import InventoryActivities
from activities.notification import NotificationActivities
from activities.order import OrderActivities
from activities.payment import PaymentActivities
from activities.shipping import ShippingActivities
from contracts.errors import ErrorCode
from contracts.ids import step_key
from contracts.inventory import (
    ReleaseInventory,
    Reservation,
    ReserveInventory,
    RestockInventory,
    ShipInventory,
    StockLine,
)
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from contracts.orders import AdvanceOrder, OrderProgress, PlaceOrder
from contracts.payments import CapturePayment, Payment, ProcessPayment, RefundPayment
from contracts.shipments import CancelShipment, CreateShipment, Shipment
from temporal.retries import BEST_EFFORT, HAS_TO_SUCCEED
from workflows.saga import Undo
from workflows.steps import Step


def reserve_inventory(order: PlaceOrder, parcel: int = 1) -> Step[ReserveInventory, Reservation]:
    lines = tuple(StockLine(product_id=line.product_id, quantity=line.quantity) for line in order.lines)
    command = ReserveInventory(
        order_id=order.order_id, parcel=parcel, customer_id=order.customer_id, lines=lines, warehouse_id=order.warehouse_id
    )
    return Step(InventoryActivities.reserve, command, "Reserve inventory")


def release_inventory(order: PlaceOrder, parcel: int = 1) -> Undo:
    command = ReleaseInventory(order_id=order.order_id, parcel=parcel, reason="order cancelled")
    return Undo(Step(InventoryActivities.release, command, "Release inventory", HAS_TO_SUCCEED))


def ship_inventory(order: PlaceOrder, parcel: int) -> Step[ShipInventory, Reservation]:
    command = ShipInventory(order_id=order.order_id, parcel=parcel)
    return Step(InventoryActivities.ship, command, "Ship inventory", HAS_TO_SUCCEED)


def restock_inventory(order: PlaceOrder, parcel: int) -> Step[RestockInventory, Reservation]:
    command = RestockInventory(order_id=order.order_id, parcel=parcel, reason="the parcel came back")
    return Step(InventoryActivities.restock, command, "Restock inventory", HAS_TO_SUCCEED)


def process_payment(order: PlaceOrder) -> Step[ProcessPayment, Payment]:
    command = ProcessPayment(
        order_id=order.order_id,
        customer_id=order.customer_id,
        amount=order.total,
        payment_token=order.payment_token,
        ship_to_fingerprint=order.ship_to.fingerprint,
        capture=not order.needs_review,
    )
    return Step(PaymentActivities.process, command, "Process payment")


def capture_payment(order: PlaceOrder) -> Step[CapturePayment, Payment]:
    return Step(PaymentActivities.capture, CapturePayment(order_id=order.order_id), "Capture payment")


def refund_payment(order: PlaceOrder, reason: str = "order cancelled") -> Step[RefundPayment, Payment]:
    command = RefundPayment(order_id=order.order_id, currency=order.total.currency, reason=reason)
    return Step(PaymentActivities.refund, command, "Refund payment", HAS_TO_SUCCEED)


def create_shipment(order: PlaceOrder, warehouse_id: str, parcel: int = 1) -> Step[CreateShipment, Shipment]:
    command = CreateShipment(
        order_id=order.order_id,
        parcel=parcel,
        customer_id=order.customer_id,
        warehouse_id=warehouse_id,
        ship_to=order.ship_to,
        weight_grams=max(sum(line.weight_grams * line.quantity for line in order.lines), 1),
    )
    return Step(ShippingActivities.create, command, "Create shipment")


def cancel_shipment(order: PlaceOrder, parcel: int = 1) -> Undo:
    """Once the parcel has left, nothing of the order may be undone."""
    command = CancelShipment(order_id=order.order_id, parcel=parcel, reason="order cancelled")
    step = Step(ShippingActivities.cancel, command, "Cancel shipment", HAS_TO_SUCCEED)
    return Undo(step, ends_on=frozenset({ErrorCode.ALREADY_DISPATCHED}))


def advance_order(command: AdvanceOrder) -> Step[AdvanceOrder, OrderProgress]:
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

"""The steps of an order's saga and their undos: which activity, with what command, under which name."""

from datetime import datetime

from activities.inventory import InventoryActivities
from activities.notification import NotificationActivities
from activities.order import OrderActivities
from activities.payment import PaymentActivities
from activities.shipping import ShippingActivities
from contracts.ids import step_key
from contracts.inventory import HoldReservation, ReleaseInventory, Reservation, ReserveInventory, ShipInventory, StockLine
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from contracts.orders import AdvanceOrder, OpenOrder, OrderProgress, PlaceOrder
from contracts.payments import CapturePayment, Payment, ProcessPayment, RefundPayment
from contracts.shipments import CancelShipment, CreateShipment, Shipment
from temporal.retries import BEST_EFFORT, MUST_LAND
from workflows.steps import Step

REFUND_PAYMENT = "Refund payment"


def open_order(order: PlaceOrder, run_id: str) -> Step[OpenOrder, OrderProgress]:
    return Step(OrderActivities.open, OpenOrder(order=order, workflow_run_id=run_id), "Open order")


def advance_order(command: AdvanceOrder) -> Step[AdvanceOrder, OrderProgress]:
    return Step(OrderActivities.advance, command, f"Write down {command.path[-1]}", MUST_LAND)


def reserve_inventory(order: PlaceOrder) -> Step[ReserveInventory, Reservation]:
    lines = tuple(StockLine(product_id=line.product_id, quantity=line.quantity) for line in order.lines)
    command = ReserveInventory(
        order_id=order.order_id, customer_id=order.customer_id, lines=lines, warehouse_id=order.warehouse_id
    )
    return Step(InventoryActivities.reserve, command, f"Reserve {len(lines)} lines")


def hold_inventory(order: PlaceOrder, until: datetime | None = None) -> Step[HoldReservation, Reservation]:
    return Step(InventoryActivities.hold, HoldReservation(order_id=order.order_id, until=until), "Hold inventory")


def release_inventory(order: PlaceOrder) -> Step[ReleaseInventory, Reservation]:
    command = ReleaseInventory(order_id=order.order_id, reason="order cancelled")
    return Step(InventoryActivities.release, command, "Release inventory", MUST_LAND)


def ship_inventory(order: PlaceOrder) -> Step[ShipInventory, Reservation]:
    return Step(InventoryActivities.ship, ShipInventory(order_id=order.order_id), "Ship inventory", MUST_LAND)


def process_payment(order: PlaceOrder) -> Step[ProcessPayment, Payment]:
    command = ProcessPayment(
        order_id=order.order_id,
        customer_id=order.customer_id,
        amount=order.total,
        payment_token=order.payment_token,
        ship_to_fingerprint=order.ship_to.fingerprint,
        capture=not order.needs_review,
    )
    return Step(PaymentActivities.process, command, f"Process payment of {order.total}")


def capture_payment(order: PlaceOrder) -> Step[CapturePayment, Payment]:
    return Step(PaymentActivities.capture, CapturePayment(order_id=order.order_id), f"Capture payment of {order.total}")


def refund_payment(order: PlaceOrder) -> Step[RefundPayment, Payment]:
    command = RefundPayment(order_id=order.order_id, reason="order cancelled")
    return Step(PaymentActivities.refund, command, REFUND_PAYMENT, MUST_LAND)


def create_shipment(order: PlaceOrder, warehouse_id: str) -> Step[CreateShipment, Shipment]:
    command = CreateShipment(
        order_id=order.order_id,
        customer_id=order.customer_id,
        warehouse_id=warehouse_id,
        ship_to=order.ship_to,
        weight_grams=max(sum(line.weight_grams * line.quantity for line in order.lines), 1),
    )
    return Step(ShippingActivities.create, command, "Create shipment")


def cancel_shipment(order: PlaceOrder) -> Step[CancelShipment, Shipment]:
    command = CancelShipment(order_id=order.order_id, reason="order cancelled")
    return Step(ShippingActivities.cancel, command, "Cancel shipment", MUST_LAND)


def send_confirmation(order: PlaceOrder, tracking_number: str | None) -> Step[SendNotification, NotificationQueued]:
    command = SendNotification(
        key=step_key(order.order_id, NotificationKind.ORDER_CONFIRMED),
        kind=NotificationKind.ORDER_CONFIRMED,
        customer_id=order.customer_id,
        order_id=order.order_id,
        values={"total": str(order.total), "lines": str(len(order.lines)), "tracking_number": tracking_number or ""},
    )
    return Step(NotificationActivities.send, command, "Send confirmation", BEST_EFFORT)

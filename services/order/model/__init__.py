"""The order service's state and rules: an order's record (order.py), what it takes to place one (placing.py), and the keys of
customers (keys.py)."""

from services.order.model.keys import CustomerKey
from services.order.model.order import Order, created, existing, idempotency, inbox, metadata, outbox, within_reach

__all__ = ["CustomerKey", "Order", "created", "existing", "idempotency", "inbox", "metadata", "outbox", "within_reach"]

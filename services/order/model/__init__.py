"""The order service's state and rules: an order's record (order.py), and what it takes to place one (placing.py)."""

from services.order.model.order import Order, created, existing, inbox, metadata, outbox, within_reach

__all__ = ["Order", "created", "existing", "inbox", "metadata", "outbox", "within_reach"]

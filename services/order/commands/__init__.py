"""What changes orders, and what else the order service keeps."""

from services.order.commands.amendments import AmendmentService
from services.order.commands.discounts import disable_discount, put_discount, standings_of
from services.order.commands.forgetting import forget_customers, forget_keys, forget_orders, orders_to_forget, wish_to_forget
from services.order.commands.keys import StoredKeys, add_key, wrap_keys_again
from services.order.commands.orders import OrderService, Placed, canceller
from services.order.commands.quotes import find_quote, purge_quotes
from services.order.commands.records import (
    accept_order,
    advance_order,
    find_order,
    note_handed_over,
    take_to_hand_over,
    tell_of_held_up,
    wish_to_cancel,
)
from services.order.commands.returns import ReturnService, advance_return, find_return, take_returns_to_hand_over

__all__ = [
    "AmendmentService",
    "OrderService",
    "Placed",
    "ReturnService",
    "StoredKeys",
    "accept_order",
    "add_key",
    "advance_order",
    "advance_return",
    "canceller",
    "disable_discount",
    "find_order",
    "find_quote",
    "find_return",
    "forget_customers",
    "forget_keys",
    "forget_orders",
    "note_handed_over",
    "orders_to_forget",
    "purge_quotes",
    "put_discount",
    "standings_of",
    "take_returns_to_hand_over",
    "take_to_hand_over",
    "tell_of_held_up",
    "wish_to_cancel",
    "wish_to_forget",
    "wrap_keys_again",
]

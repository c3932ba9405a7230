"""The order service's state and rules: an order's record (order.py), what it takes to place one (placing.py), what it costs
(pricing.py), quotes of that (quotes.py), returns (returns.py), discount codes (discounts.py), and the keys of customers
(keys.py)."""

from services.order.model.amending import OrderAmendment
from services.order.model.discounts import Discount, DiscountTerms, DiscountUses, Redemption, no_such_discount
from services.order.model.keys import CustomerKey
from services.order.model.order import Order, created, existing, idempotency, inbox, metadata, outbox, within_reach
from services.order.model.quotes import Quote
from services.order.model.returns import Return, existing_return, return_within_reach

__all__ = [
    "CustomerKey",
    "Discount",
    "DiscountTerms",
    "DiscountUses",
    "Order",
    "OrderAmendment",
    "Quote",
    "Redemption",
    "Return",
    "created",
    "existing",
    "existing_return",
    "idempotency",
    "inbox",
    "metadata",
    "no_such_discount",
    "outbox",
    "return_within_reach",
    "within_reach",
]

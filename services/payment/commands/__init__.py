"""What changes payments: the saga's commands, what the provider tells, and what people do about what is owed."""

from services.payment.commands.giving_back import give_back
from services.payment.commands.news import apply_news, look_again, settle_news
from services.payment.commands.owed import refund_again, settle_debt
from services.payment.commands.payments import capture_payment, forget_order, process_payment, refund_payment, release_hold

__all__ = [
    "apply_news",
    "capture_payment",
    "forget_order",
    "give_back",
    "look_again",
    "process_payment",
    "refund_again",
    "refund_payment",
    "release_hold",
    "settle_debt",
    "settle_news",
]

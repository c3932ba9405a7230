"""What changes payments: the saga's commands, what the provider and the bank tell, and what people do about what is owed."""

from services.payment.commands.bank import Booked, book, payment_named, send_orders, take_bookings, take_reports, tell_payments
from services.payment.commands.giving_back import give_back
from services.payment.commands.news import apply_news, look_again, settle_news
from services.payment.commands.owed import refund_again, settle_debt
from services.payment.commands.payments import capture_payment, forget_order, process_payment, refund_payment, release_hold

__all__ = [
    "Booked",
    "apply_news",
    "book",
    "capture_payment",
    "forget_order",
    "give_back",
    "look_again",
    "payment_named",
    "process_payment",
    "refund_again",
    "refund_payment",
    "release_hold",
    "send_orders",
    "settle_debt",
    "settle_news",
    "take_bookings",
    "take_reports",
    "tell_payments",
]

"""What changes notification. A function marked so is one transaction, others are a part of the consumer's; each is idempotent."""

from services.notification.commands.delivering import (
    ClaimedDelivery,
    Report,
    claim_due,
    new_phone_code,
    record,
    take_over,
)
from services.notification.commands.digest import send_digests
from services.notification.commands.forgetting import forget_customer
from services.notification.commands.news import apply_delivery_news, heed_opt_out
from services.notification.commands.queueing import (
    Staff,
    Told,
    people_of,
    queue_account_mail,
    queue_all,
    send_notification,
    send_suppressed,
)
from services.notification.commands.templates import create_template, edit_template, go_back

__all__ = [
    "ClaimedDelivery",
    "Report",
    "Staff",
    "Told",
    "apply_delivery_news",
    "claim_due",
    "create_template",
    "edit_template",
    "forget_customer",
    "go_back",
    "heed_opt_out",
    "new_phone_code",
    "people_of",
    "queue_account_mail",
    "queue_all",
    "record",
    "send_digests",
    "send_notification",
    "send_suppressed",
    "take_over",
]

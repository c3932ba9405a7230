"""Mails: a confirmed order has one confirmation, and the mail server has just what we sent."""

from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

from audit.books import Source
from audit.rule import rule
from audit.verdict import Check
from audit.world import World, uuid_of
from contracts.notifications import NotificationKind
from contracts.orders import OrderStatus

_S = OrderStatus
CONFIRMED = frozenset({_S.CONFIRMED, _S.PARTIALLY_SHIPPED, _S.SHIPPED, _S.UNDELIVERED, _S.DELIVERED, _S.COMPLETED, _S.REFUNDED})
"""Statuses that only an order that was confirmed can have."""


@rule("A confirmed order has one confirmation mail", Source.ORDER, Source.NOTIFICATION)
def one_confirmation(world: World, check: Check) -> None:
    confirmations: dict[UUID, list[str]] = defaultdict(list)
    for row in world.books.notifications:
        if row.order_id and row.kind == NotificationKind.ORDER_CONFIRMED:
            confirmations[row.order_id].append(row.status)
    for order in world.settled:
        found = sorted(confirmations.get(order.order_id, ()))
        if order.status in CONFIRMED:
            # SUPPRESSED: the customer has not verified the address.
            check.among(
                order.order_id, "confirmation", ("SENT", "PENDING", "SUPPRESSED"), ", ".join(found) or None, order.order_id
            )
        else:  # one that was cancelled after it was confirmed may have had its mail before
            check.compared += 1
            if len(found) > (order.confirmed_at is not None):
                expected = "one at most" if order.confirmed_at else "none"
                check.fails(order.order_id, f"{order.status}: confirmation", expected, ", ".join(found), order.order_id)


@rule("The mail server has just what we sent", Source.NOTIFICATION, Source.MAIL_SINK)
def mails_agree(world: World, check: Check) -> None:
    """The same mail may come twice after a crash; then both copies have one Message-ID."""
    notifications = {row.notification_id: row for row in world.books.notifications}
    received: dict[UUID, datetime] = {}
    for mail in world.books.mails:
        notification_id = uuid_of(mail.message_id.strip("<>").partition("@")[0])
        if notification_id is not None and notification_id in notifications:
            received.setdefault(notification_id, mail.received_at)
        elif not world.is_fresh(mail.received_at):
            check.fails(mail.message_id, "mail at the server", "one that we queued", "unknown here")
        check.compared += 1
    confirmations: dict[UUID, list[str]] = defaultdict(list)
    for notification_id in received:
        row = notifications[notification_id]
        if row.order_id and row.kind == NotificationKind.ORDER_CONFIRMED:
            confirmations[row.order_id].append(str(notification_id))
    for order_id, ids in confirmations.items():
        check.compared += 1
        if len(ids) > 1:
            check.fails(order_id, "confirmations at the mail server", "1", ", ".join(sorted(ids)), order_id)
    if world.books.mails:
        first = min(world.books.mails)
        # If it was emptied since, what came before is not held against it.
        since = None if first.number == 1 else first.received_at + timedelta(minutes=1)
        for row in notifications.values():
            if row.status == "SENT" and row.sent_at and (since is None or row.sent_at > since):
                check.compared += 1
                if row.notification_id not in received:
                    what = f"{row.kind} {row.notification_id}"
                    check.fails(row.order_id or row.kind, what, "at the mail server", "not there", row.order_id)
    copies = len(world.books.mails) - len({mail.message_id for mail in world.books.mails})
    check.note = f"{copies} came more than once" if copies else ""

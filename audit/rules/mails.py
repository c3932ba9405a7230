"""Mails: a confirmed order has one confirmation, each attempt is written down, and the mail server has just what we sent."""

from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

from audit.books import Source
from audit.rule import rule
from audit.verdict import Check
from audit.world import World, uuid_of
from contracts.ids import is_sample
from contracts.notifications import NotificationKind
from contracts.orders import OrderStatus

_S = OrderStatus
CONFIRMED = frozenset({_S.CONFIRMED, _S.PARTIALLY_SHIPPED, _S.SHIPPED, _S.UNDELIVERED, _S.DELIVERED, _S.COMPLETED, _S.REFUNDED})
"""Statuses that only an order that was confirmed can have."""
AS_IT_MAY_BE = ("SENT", "DELIVERED", "PENDING", "WAITING", "SUPPRESSED", "BOUNCED")
TAKEN = frozenset({"SENT", "DELIVERED", "BOUNCED"})
"""By the channel's provider."""


@rule("A confirmed order has one confirmation mail", Source.ORDER, Source.NOTIFICATION)
def one_confirmation(world: World, check: Check) -> None:
    confirmations: dict[UUID, list[str]] = defaultdict(list)
    for row in world.books.notifications:
        if row.order_id and row.kind == NotificationKind.ORDER_CONFIRMED:
            confirmations[row.order_id].append(row.status)
    for order in world.settled:
        found = sorted(confirmations.get(order.order_id, ()))
        if order.status in CONFIRMED:
            # SUPPRESSED: the customer has not verified the address. BOUNCED: it is dead.
            check.among(order.order_id, "confirmation", AS_IT_MAY_BE, ", ".join(found) or None, order.order_id)
        else:  # one that was cancelled after it was confirmed may have had its mail before
            check.compared += 1
            if len(found) > (order.confirmed_at is not None):
                expected = "one at most" if order.confirmed_at else "none"
                check.fails(order.order_id, f"{order.status}: confirmation", expected, ", ".join(found), order.order_id)


@rule("What is on its way belongs to something that was told, and each attempt is written down", Source.NOTIFICATION)
def attempts_are_written_down(world: World, check: Check) -> None:
    """Of what a build before had sent, no attempts were kept."""
    told = {row.notification_id for row in world.books.notifications}
    for row in world.books.deliveries:
        check.compared += 1
        what = f"{row.channel} {row.delivery_id}"
        if row.notification_id not in told:
            check.fails(what, "what it is about", "a notification", "none")
        if row.tries and row.tries != row.attempts:
            check.fails(what, "attempts", str(row.attempts), str(row.tries))
        if row.status in TAKEN and row.sent_at and not row.attempts:
            check.fails(what, f"{row.status}: attempts", "one at least", "none")


@rule("The mail server has just what we sent", Source.NOTIFICATION, Source.MAIL_SINK)
def mails_agree(world: World, check: Check) -> None:
    """The same mail may come twice after a crash; then both copies have one Message-ID."""
    notifications = {row.notification_id: row for row in world.books.notifications}
    mailed = {row.delivery_id: row for row in world.books.deliveries if row.channel == "email"}
    # What a build before has sent, and was not taken over yet, has the notification's own id.
    old = {row.notification_id for row in world.books.notifications if not row.has_deliveries}
    received: dict[UUID, datetime] = {}
    for mail in world.books.mails:
        delivery_id = uuid_of(mail.message_id.strip("<>").partition("@")[0])
        if delivery_id is not None and (delivery_id in mailed or delivery_id in old):
            received.setdefault(delivery_id, mail.received_at)
        elif not world.is_fresh(mail.received_at) and not (delivery_id and is_sample(delivery_id)):
            check.fails(mail.message_id, "mail at the server", "one that we queued", "unknown here")
        check.compared += 1
    confirmations: dict[UUID, list[str]] = defaultdict(list)
    for delivery_id in received:
        row = notifications.get(mailed[delivery_id].notification_id if delivery_id in mailed else delivery_id)
        if row and row.order_id and row.kind == NotificationKind.ORDER_CONFIRMED:
            confirmations[row.order_id].append(str(delivery_id))
    for order_id, ids in confirmations.items():
        check.compared += 1
        if len(ids) > 1:
            check.fails(order_id, "confirmations at the mail server", "1", ", ".join(sorted(ids)), order_id)
    if world.books.mails:
        first = min(world.books.mails)
        # If it was emptied since, what came before is not held against it.
        since = None if first.number == 1 else first.received_at + timedelta(minutes=1)
        for delivery in mailed.values():
            if delivery.status in TAKEN and delivery.sent_at and (since is None or delivery.sent_at > since):
                check.compared += 1
                if delivery.delivery_id not in received:
                    about = notifications.get(delivery.notification_id)
                    kind, order = (about.kind, about.order_id) if about else ("?", None)
                    check.fails(order or kind, f"{kind} {delivery.delivery_id}", "at the mail server", "not there", order)
    copies = len(world.books.mails) - len({mail.message_id for mail in world.books.mails})
    check.note = f"{copies} came more than once" if copies else ""

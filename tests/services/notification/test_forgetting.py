"""Forgetting a customer: no mail goes out any more, and what mail servers said is blanked; that mails were sent, stays."""

from datetime import timedelta
from uuid import UUID, uuid4

from chassis.database import Database
from contracts.events import CustomerForgotten, EmailVerified
from services.notification import commands
from services.notification.channels import Channel
from services.notification.commands import Report
from services.notification.model import Delivery, DeliveryStatus, Notification, Outcome
from tests.personal import found_in
from tests.services.notification.conftest import confirmation, deliveries, notifications
from tests.services.notification.test_queue import consume

S = DeliveryStatus
LEASE = timedelta(minutes=1)


async def test_nothing_is_sent_any_more_and_no_word_of_a_server_is_kept(database: Database) -> None:
    customer, other = uuid4(), uuid4()
    await commands.send_notification(database, confirmation(customer))
    [sent] = await commands.claim_due(database, Channel.EMAIL, limit=5, lease=LEASE)
    await commands.record(database, [Report(sent, Outcome.SENT)], attempts_allowed=3)
    for owner in (customer, customer, other):
        await commands.send_notification(database, confirmation(owner))
    claimed = await commands.claim_due(database, Channel.EMAIL, limit=5, lease=LEASE)
    words = "550 no mailbox of Ada Lovelace here"
    reports = [Report(one, Outcome.REFUSED if n == 0 else Outcome.DEFERRED, words) for n, one in enumerate(claimed)]
    await commands.record(database, reports, attempts_allowed=3)
    await consume(database, CustomerForgotten(customer_id=customer, by=customer))
    whose = {row.notification_id: row.customer_id for row in await notifications(database)}

    async def of(person: UUID) -> list[Delivery]:
        return [row for row in await deliveries(database) if whose[row.notification_id] == person]

    assert sorted(row.status for row in await of(customer)) == [S.FAILED, S.SENT, S.SUPPRESSED]
    assert [row.reason for row in await of(customer)] == [None] * 3
    assert [row.status for row in await of(other)] == [S.PENDING]
    await consume(database, EmailVerified(customer_id=other))
    assert [row.status for row in await of(other)] == [S.PENDING]
    await consume(database, CustomerForgotten(customer_id=other, by=customer))
    assert await found_in(database.url, ["Lovelace"]) == []


async def test_a_try_under_way_says_nothing_more_of_one_who_is_forgotten(database: Database) -> None:
    customer = uuid4()
    await commands.send_notification(database, confirmation(customer))
    claimed = await commands.claim_due(database, Channel.EMAIL, limit=5, lease=LEASE)
    await consume(database, CustomerForgotten(customer_id=customer, by=customer))
    await commands.record(database, [Report(one, Outcome.DEFERRED, "451 Ada") for one in claimed], attempts_allowed=3)
    [row] = await deliveries(database)
    assert (row.status, row.reason, row.due_at) == (S.SUPPRESSED, None, None)


def test_whatever_is_added_to_a_mail_is_forgotten_or_named_here() -> None:
    """Who adds a column decides whether it names a person."""
    kept = {
        *("notification_id", "key", "kind", "customer_id", "order_id", "request_id", "values", "traceparent", "created_at"),
        *("audience", "warehouse_id", "language", "is_planned"),
    }
    assert set(Notification.model_fields) == kept | {"is_in_inbox"}
    kept = {
        *("delivery_id", "notification_id", "channel", "target", "attempts", "provider_id", "sent_at", "settled_at", "version"),
    }
    assert set(Delivery.model_fields) == kept | {"status", "due_at", "reason"}

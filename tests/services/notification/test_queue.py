"""What is queued: by the saga and on events, each mail once."""

import asyncio
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord

from chassis.clock import utc_now
from chassis.consumer import Consumer
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.events import CloudEvent, Event, OrderCancelled, ShipmentDelivered, ShipmentDispatched, UserRegistered
from contracts.money import Money
from contracts.notifications import NotificationKind
from services.notification import commands
from services.notification.consumers import subscription
from services.notification.model import NotificationStatus, inbox
from services.notification.settings import NotificationSettings
from tests.services.notification.conftest import confirmation, contact, event_types, notifications


async def consume(database: Database, *events: Event) -> None:
    """Apply events as the consumer does, each delivered twice."""
    records = [_record(event) for event in events]
    settings = NotificationSettings(database_url=database.url, consumer_attempts=1, kafka_bootstrap_servers="127.0.0.1:1")
    consumer = Consumer("notification", subscription, database, inbox, settings)
    await consumer.apply(records)
    await consumer.apply(records)


def _record(event: Event) -> ConsumerRecord:
    envelope = CloudEvent(
        id=uuid4(), source="/test", type=type(event).__name__, subject=event.key, time=utc_now(), partitionkey=event.key,
        data=event.model_dump(mode="json"),
    )  # fmt: skip
    value = envelope.model_dump_json().encode()
    return ConsumerRecord(event.topic, 0, 0, 0, 0, event.key.encode(), value, None, 0, len(value), ())


def cancelled(order_id: UUID, *, was_confirmed: bool, refunded: str = "0") -> OrderCancelled:
    return OrderCancelled(
        order_id=order_id,
        customer_id=uuid4(),
        total=Money(amount="12.50"),
        refunded=Money(amount=refunded),
        was_confirmed=was_confirmed,
        reason="You asked for it.",
    )


async def test_the_same_key_is_one_mail(database: Database) -> None:
    command = confirmation(await contact(database))
    replies = await asyncio.gather(*[commands.send_notification(database, command) for _ in range(5)])
    [notification] = await notifications(database)
    assert {reply.notification_id for reply in replies} == {notification.notification_id}
    assert notification.status == NotificationStatus.PENDING
    assert await event_types(database) == []


async def test_a_customer_nobody_told_of_is_a_fault_that_leaves_nothing(database: Database) -> None:
    command = confirmation(uuid4())
    with pytest.raises(Refusal) as refused:
        await commands.send_notification(database, command)
    assert refused.value.code == ErrorCode.CONTACT_UNKNOWN
    assert await notifications(database) == []
    await consume(database, UserRegistered(customer_id=command.customer_id, email="zoe@example.org", name="Zoe"))
    await commands.send_notification(database, command)
    assert len(await notifications(database)) == 1


async def test_events_queue_one_mail_each_also_for_customers_nobody_told_of(database: Database) -> None:
    order_id, customer_id = uuid4(), uuid4()
    shipment = {"order_id": order_id, "customer_id": customer_id, "shipment_id": uuid4(), "tracking_number": "TRK1"}
    dispatched = ShipmentDispatched(**shipment, occurred_at=utc_now())
    again = ShipmentDispatched(**shipment, occurred_at=utc_now())  # another event, the same fact
    delivered = ShipmentDelivered(**shipment, occurred_at=utc_now())
    await consume(database, dispatched, again, delivered)
    queued = await notifications(database)
    assert [(each.kind, each.key, each.values) for each in queued] == [
        (NotificationKind.ORDER_SHIPPED, f"{order_id}:order_shipped", {"tracking_number": "TRK1"}),
        (NotificationKind.ORDER_DELIVERED, f"{order_id}:order_delivered", {"tracking_number": "TRK1"}),
    ]
    assert {each.customer_id for each in queued} == {customer_id}


async def test_a_cancelled_order_is_told_of_if_it_was_confirmed_or_paid(database: Database) -> None:
    refused, confirmed, paid = uuid4(), uuid4(), uuid4()
    await consume(
        database,
        cancelled(refused, was_confirmed=False),
        cancelled(confirmed, was_confirmed=True),
        cancelled(paid, was_confirmed=False, refunded="12.50"),
    )
    queued = {each.order_id: each.values for each in await notifications(database)}
    assert queued == {
        confirmed: {"total": "12.50 USD", "refunded": "", "reason": "You asked for it."},
        paid: {"total": "12.50 USD", "refunded": "12.50 USD", "reason": "You asked for it."},
    }

"""The table of who is told what: it knows every event, and what it says comes true."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from chassis.database import Database
from contracts import events
from contracts.events import (
    CustomerForgotten,
    DisputeClosed,
    Event,
    LowStockAlert,
    NotificationFailed,
    OrderUndelivered,
    PasswordChanged,
    PaymentDisputed,
    ProductDeleted,
    RefundFailed,
)
from contracts.money import Money
from contracts.notifications import NotificationKind
from contracts.parcels import Trouble
from services.notification.channels import Channel
from services.notification.consumers import subscription
from services.notification.kinds import KINDS
from services.notification.told import TOLD, Acts, Nobody
from tests.services.notification.conftest import deliveries, notifications
from tests.services.notification.test_queue import STAFF, consume


def every_event(kind: type[Event] = Event) -> Iterator[type[Event]]:
    for below in kind.__subclasses__():
        if below.__module__ == events.__name__ and not below.__name__.startswith("_"):
            yield below
        yield from every_event(below)


def test_every_event_of_every_topic_is_in_the_table() -> None:
    assert set(TOLD) == set(every_event())


def test_every_reason_is_told() -> None:
    for event, row in TOLD.items():
        match row:
            case Nobody(words) | Acts(words):
                assert words, event
            case _:
                assert row, event


def test_the_consumer_is_made_of_the_table() -> None:
    made = subscription(STAFF)
    assert made.kinds == {event for event, row in TOLD.items() if not isinstance(row, Nobody)}
    assert {event.topic for event in made.kinds} == set(made.topics)
    seven = {"identity", "catalog", "order", "payment", "inventory", "shipping", "notification"}
    assert set(made.topics) == {f"{name}-events" for name in seven}


def test_every_kind_is_asked_for_by_somebody() -> None:
    told = {one.kind for row in TOLD.values() if isinstance(row, tuple) for one in row}
    asked = {
        NotificationKind.ORDER_CONFIRMED,  # by the order's saga
        *(kind for kind, policy in KINDS.items() if set(policy.values) == {"link"}),  # by identity
        NotificationKind.PHONE_CODE,
        NotificationKind.LOW_STOCK,
    }
    assert told | asked == set(NotificationKind) == set(KINDS)


@pytest.mark.parametrize("kind", NotificationKind)
def test_no_value_is_told_that_no_text_may_name(kind: NotificationKind) -> None:
    assert all(len(name) <= 40 for name in KINDS[kind].values)
    if KINDS[kind].fallback:
        assert Channel.EMAIL in KINDS[kind].fallback


async def test_the_staff_is_told_by_mail_where_there_are_addresses_and_in_the_inbox_always(database: Database) -> None:
    order = {"order_id": uuid4(), "payment_id": uuid4(), "amount": Money(amount="12.50")}
    dispute = order | {"dispute_id": uuid4()}
    await consume(
        database,
        RefundFailed(**order, failure="expired_or_canceled_card"),
        PaymentDisputed(**dispute, reason="fraudulent"),
        DisputeClosed(**dispute, won=True),
        OrderUndelivered(order_id=uuid4(), customer_id=uuid4(), total=Money(amount="1.00"), trouble=Trouble.SILENT),
        ProductDeleted(product_id="milk"),
    )
    told = {row.kind: row for row in await notifications(database)}
    assert {kind: (row.audience, row.customer_id, row.is_in_inbox) for kind, row in told.items()} == {
        "refund_failed": ("finance", None, True),
        "dispute_opened": ("finance", None, True),
        "dispute_closed": ("finance", None, True),
        "decision_needed": ("support", None, True),
        "product_withdrawn": ("warehouse", None, True),
    }
    assert told[NotificationKind.DISPUTE_OPENED].values == {
        "payment_id": str(order["payment_id"]), "amount": "12.50 USD", "why": "fraudulent",
    }  # fmt: skip
    sent = [(row.channel, row.target) for row in await deliveries(database)]
    assert sent == [("email", "books@shop.example"), ("email", "money@shop.example")] * 3


async def test_support_hears_of_customers_who_must_act_and_were_not_reached(database: Database) -> None:
    facts = {"order_id": uuid4(), "reason": "The mail server refused it."}
    due = NotificationFailed(**facts, notification_id=uuid4(), kind="payment_due")
    again = NotificationFailed(**facts, notification_id=due.notification_id, kind="payment_due")
    await consume(database, due, again, NotificationFailed(**facts, notification_id=uuid4(), kind="order_shipped"))
    [told] = await notifications(database)
    assert (told.kind, told.audience, told.values) == (
        "customer_unreached", "support", {"about": "payment_due", "channel": "email"},
    )  # fmt: skip


async def test_who_has_a_new_password_hears_of_it(database: Database) -> None:
    customer_id = uuid4()
    await consume(database, PasswordChanged(customer_id=customer_id), PasswordChanged(customer_id=customer_id))
    told = await notifications(database)
    assert [(row.kind, row.customer_id, row.order_id) for row in told] == [("password_changed", customer_id, None)] * 2
    assert [row.channel for row in await deliveries(database)] == [Channel.EMAIL] * 2


async def test_what_comes_with_the_forgetting_of_a_person_does_not_bring_the_person_back(database: Database) -> None:
    customer_id = uuid4()
    await consume(
        database,
        LowStockAlert(warehouse_id="410", product_id="milk", on_hand=3, available=1, threshold=5),
        CustomerForgotten(customer_id=customer_id, by=customer_id),
        PasswordChanged(customer_id=customer_id),
    )
    [told] = await notifications(database)
    assert told.values == {}

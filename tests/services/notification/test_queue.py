"""What is queued: by the saga and on events, each mail once."""

import asyncio
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord

from chassis.clock import utc_now
from chassis.consumer import Consumer
from chassis.database import Database
from contracts.errors import ErrorCode
from contracts.events import (
    AccountMailRequested,
    CloudEvent,
    Event,
    OrderAmended,
    OrderCancelled,
    OrderDelayed,
    OrderHeldUp,
    OrderPartCancelled,
    OrderPaymentDue,
    OrderRefunded,
    OrderUndelivered,
    ReturnApproved,
    ReturnCancelled,
    ReturnCompleted,
    ReturnExpired,
    ReturnReceived,
    ReturnRejected,
    ReturnReminded,
    ReturnRequested,
    ShipmentDelivered,
    ShipmentDispatched,
)
from contracts.money import Money
from contracts.notifications import NotificationKind
from contracts.parcels import ParcelLine, Trouble
from contracts.returns import (
    Condition,
    Resolution,
    ReturnedUnits,
    ReturnKind,
    ReturnLine,
    ReturnReason,
    Settlement,
)
from services.notification import commands
from services.notification.commands import Staff
from services.notification.consumers import subscription
from services.notification.model import Audience, Notification, inbox
from tests.services.notification.conftest import confirmation, event_types, settings_of, statuses
from tests.services.notification.conftest import notifications as all_notifications

STAFF = Staff({Audience.FINANCE: ["money@shop.example", "books@shop.example"], Audience.WAREHOUSE: ["goods@shop.example"]})


async def notifications(database: Database) -> list[Notification]:
    """Those to customers."""
    return [row for row in await all_notifications(database) if row.audience == Audience.CUSTOMER]


async def consume(database: Database, *events: Event) -> None:
    """Apply events as the consumer does, each delivered twice."""
    records = [_record(event) for event in events]
    settings = settings_of(database, consumer_attempts=1, kafka_bootstrap_servers="127.0.0.1:1")
    consumer = Consumer("notification", subscription(STAFF), database, inbox, settings)
    await consumer.apply(records)
    await consumer.apply(records)


def _record(event: Event) -> ConsumerRecord:
    envelope = CloudEvent(
        id=uuid4(), source="/test", type=type(event).__name__, subject=event.key, time=utc_now(), partitionkey=event.key,
        data=event.model_dump(mode="json"),
    )  # fmt: skip
    value = envelope.model_dump_json().encode()
    return ConsumerRecord(event.topic, 0, 0, 0, 0, event.key.encode(), value, None, 0, len(value), ())


def cancelled(
    order_id: UUID, *, was_confirmed: bool = False, refunded: str = "0", code: ErrorCode | None = None
) -> OrderCancelled:
    return OrderCancelled(
        order_id=order_id,
        customer_id=uuid4(),
        total=Money(amount="12.50"),
        refunded=Money(amount=refunded),
        was_confirmed=was_confirmed,
        code=code,
        reason="cheap pills at evil.example",
    )


async def test_the_same_key_is_one_mail(database: Database) -> None:
    command = confirmation(uuid4())
    replies = await asyncio.gather(*[commands.send_notification(database, command) for _ in range(5)])
    [notification] = await notifications(database)
    assert {reply.notification_id for reply in replies} == {notification.notification_id}
    assert await statuses(database) == [("PENDING", 0)]
    assert await event_types(database) == []


async def test_g10_a_mail_about_an_account_is_queued_without_address_and_link(database: Database) -> None:
    customer_id, request_id = uuid4(), uuid4()
    asked = {"request_id": request_id, "kind": NotificationKind.VERIFY_EMAIL}
    await consume(database, AccountMailRequested(**asked, customer_id=customer_id), AccountMailRequested(**asked))
    [queued] = await notifications(database)
    assert (queued.kind, queued.request_id, queued.customer_id) == (NotificationKind.VERIFY_EMAIL, request_id, customer_id)
    assert queued.values == {}


async def test_events_queue_one_mail_each(database: Database) -> None:
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


@pytest.mark.parametrize(
    ("code", "is_told"),
    [
        (ErrorCode.SERVICE_UNAVAILABLE, True),
        (ErrorCode.PAYMENT_NOT_CONFIRMED, True),
        (ErrorCode.REVIEW_REJECTED, True),
        (ErrorCode.OUT_OF_STOCK, False),
        (ErrorCode.PAYMENT_DECLINED, False),
    ],
)
async def test_an_order_that_is_given_up_after_its_client_was_answered_is_told_of(
    database: Database, code: ErrorCode, is_told: bool
) -> None:
    await consume(database, cancelled(uuid4(), code=code))
    assert [each.kind for each in await notifications(database)] == [NotificationKind.ORDER_CANCELLED] * is_told


async def test_g6_a_cancelled_order_is_told_of_if_it_was_confirmed_or_paid_without_the_customers_words(
    database: Database,
) -> None:
    refused, confirmed, paid = uuid4(), uuid4(), uuid4()
    await consume(
        database,
        cancelled(refused, was_confirmed=False),
        cancelled(confirmed, was_confirmed=True),
        cancelled(paid, was_confirmed=False, refunded="12.50"),
    )
    queued = {each.order_id: each.values for each in await notifications(database)}
    assert queued == {
        confirmed: {"total": "12.50 USD", "refunded": ""},
        paid: {"total": "12.50 USD", "refunded": "12.50 USD"},
    }


async def test_s10_each_parcel_has_mails_of_its_own(database: Database) -> None:
    order_id = uuid4()
    for parcel in (1, 2):
        shipment = {"order_id": order_id, "parcel": parcel, "customer_id": uuid4(), "shipment_id": uuid4()}
        await consume(database, ShipmentDispatched(**shipment, tracking_number=f"TRK{parcel}", occurred_at=utc_now()))
    queued = [(each.key, each.values) for each in await notifications(database)]
    assert queued == [
        (f"{order_id}:order_shipped", {"tracking_number": "TRK1"}),
        (f"{order_id}-2:order_shipped", {"tracking_number": "TRK2"}),
    ]


async def test_s10_a_parcel_that_is_lost_or_came_back_is_told_of_each_time(database: Database) -> None:
    order = {"order_id": uuid4(), "customer_id": uuid4(), "total": Money(amount="12.50")}
    troubles = (Trouble.NOT_PICKED_UP, Trouble.SILENT, Trouble.LOST, Trouble.RETURNED, Trouble.LOST)
    await consume(database, *[OrderUndelivered(**order, trouble=trouble) for trouble in troubles])
    queued = await notifications(database)
    assert [(each.kind, each.values) for each in queued] == [
        (NotificationKind.ORDER_UNDELIVERED, {"trouble": trouble}) for trouble in ("lost", "returned", "lost")
    ]
    assert {(each.order_id, each.customer_id) for each in queued} == {(order["order_id"], order["customer_id"])}


async def test_s10_a_refund_says_what_goes_back(database: Database) -> None:
    order = {"order_id": uuid4(), "customer_id": uuid4(), "total": Money(amount="12.50"), "trouble": Trouble.SILENT}
    await consume(database, *[OrderRefunded(**order, refunded=Money(amount="12.50")) for _ in range(2)])
    [queued] = await notifications(database)
    assert (queued.kind, queued.order_id, queued.customer_id) == (
        NotificationKind.ORDER_REFUNDED, order["order_id"], order["customer_id"],
    )  # fmt: skip
    assert queued.values == {"total": "12.50 USD", "refunded": "12.50 USD"}


async def test_i10_the_parcels_of_an_order_in_parts_are_told_one_by_one(database: Database) -> None:
    order_id, facts = uuid4(), {"shipment_id": uuid4(), "customer_id": uuid4(), "occurred_at": utc_now()}
    await consume(
        database,
        ShipmentDispatched(order_id=order_id, parcel=2, parcels=3, tracking_number="T2", **facts),
        ShipmentDelivered(order_id=order_id, parcel=2, parcels=3, tracking_number="T2", **facts),
        ShipmentDispatched(order_id=order_id, parcel=4, parcels=3, **facts),
    )
    assert [(row.kind, row.values.get("parcel"), row.values["parcels"]) for row in await notifications(database)] == [
        ("part_shipped", "2", "3"), ("part_delivered", "2", "3"), ("part_shipped", "", "3"),
    ]  # fmt: skip


async def test_i10_a_declined_card_and_each_delay_are_told(database: Database) -> None:
    who = {"order_id": uuid4(), "customer_id": uuid4(), "total": Money(amount="12.50")}
    due = OrderPaymentDue(**who, pay_until=datetime(2026, 12, 1, 14, 30, tzinfo=UTC))
    later = OrderDelayed(**who, parcel=2, was_expected_on=date(2026, 12, 1), expected_on=date(2026, 12, 8))
    unknown = OrderDelayed(**who, parcel=2, was_expected_on=date(2026, 12, 8))
    await consume(database, due, due, later, unknown)
    assert [(row.kind, row.values) for row in await notifications(database)] == [
        ("payment_due", {"total": "12.50 USD", "pay_until": "2026-12-01 14:30 UTC"}),
        ("goods_delayed", {"expected_on": "2026-12-08", "was_expected_on": "2026-12-01"}),
        ("goods_delayed", {"expected_on": "", "was_expected_on": "2026-12-08"}),
    ]


async def test_who_was_told_that_an_order_takes_longer_is_told_how_it_ends(database: Database) -> None:
    who = {"order_id": uuid4(), "customer_id": uuid4(), "total": Money(amount="12.50")}
    held_up = OrderHeldUp(**who)
    ended = {"refunded": Money.zero(), "was_confirmed": False, "code": ErrorCode.PAYMENT_DECLINED}
    at_once = OrderCancelled(**who | {"order_id": uuid4()}, **ended)
    await consume(database, held_up, held_up, OrderCancelled(**who, **ended, was_held_up=True), at_once)
    assert [(row.kind, row.order_id, row.values) for row in await notifications(database)] == [
        ("order_held_up", who["order_id"], {"total": "12.50 USD"}),
        ("order_cancelled", who["order_id"], {"total": "12.50 USD", "refunded": ""}),
    ]


async def test_i10_a_return_is_told_step_by_step_once(database: Database) -> None:
    who: dict[str, Any] = {
        "order_id": uuid4(), "customer_id": uuid4(), "number": 2, "kind": ReturnKind.RETURN, "resolution": Resolution.REFUND,
    }  # fmt: skip
    due = datetime(2026, 12, 22, 14, 30, tzinfo=UTC)
    line = ReturnLine(line_id=1, product_id="milk", quantity=1, first=0, parcel=1, reason=ReturnReason.WRONG_SIZE)
    came = (ReturnedUnits(line=line, condition=Condition.GOOD),)
    money = {name: Money(amount="5.00") for name in ("goods", "value")}
    settlement = Settlement(**money, **{name: Money.zero() for name in ("restocking", "label", "of_credit")})
    events = [
        ReturnRequested(**who, lines=(line,)),
        ReturnApproved(**who, tracking_number="RET1", warehouse_id="410", due_at=due),
        ReturnReminded(**who, due_at=due),
        ReturnReceived(**who, warehouse_id="410", came=came),
        ReturnCompleted(**who, lines=(line,), settlement=settlement, refunded=Money(amount="5.00")),
    ]
    await consume(database, *events)
    await consume(database, *events)  # other events, the same facts
    about = {"number": "2", "is_claim": ""}
    assert [(row.kind, row.values) for row in await notifications(database)] == [
        ("return_approved", about | {"tracking_number": "RET1", "warehouse": "410", "until": "2026-12-22"}),
        ("return_reminder", about | {"until": "2026-12-22"}),
        ("return_received", about),
        ("return_completed", about | {"refunded": "5.00 USD", "replacement_id": "", "is_resend": ""}),
    ]


async def test_i10_other_ends_of_returns_and_claims_are_told(database: Database) -> None:
    order, replacement = uuid4(), uuid4()

    def who(number: int, kind: ReturnKind, resolution: Resolution = Resolution.REFUND) -> dict[str, Any]:
        return {"order_id": order, "customer_id": order, "number": number, "kind": kind, "resolution": resolution}

    nothing = Settlement(**{name: Money.zero() for name in ("goods", "restocking", "label", "value", "of_credit")})
    resent = who(5, ReturnKind.CLAIM, Resolution.RESEND)
    await consume(
        database,
        ReturnRejected(**who(1, ReturnKind.CLAIM)),
        ReturnExpired(**who(2, ReturnKind.RETURN)),
        ReturnCancelled(**who(3, ReturnKind.RETURN)),
        ReturnReceived(**who(4, ReturnKind.RETURN), warehouse_id="410", came=()),
        ReturnApproved(**resent),
        ReturnCompleted(**resent, lines=(), settlement=nothing, refunded=Money.zero(), replacement_id=replacement),
    )
    assert [(row.kind, row.values["number"], row.values["is_claim"]) for row in await notifications(database)] == [
        ("return_rejected", "1", "yes"), ("return_expired", "2", ""), ("return_approved", "5", "yes"),
        ("return_completed", "5", "yes"),
    ]  # fmt: skip


async def test_i10_each_part_that_is_cancelled_is_told(database: Database) -> None:
    who: dict[str, Any] = {"order_id": uuid4(), "customer_id": uuid4(), "total": Money(amount="12.50"), "parcel": 1}
    lines = (ParcelLine(line_id=1, product_id="milk", quantity=2, first=0),)
    first = OrderPartCancelled(**who, lines=lines, refunded=Money(amount="5.00"))
    second = OrderPartCancelled(**who, lines=lines, refunded=Money.zero())
    await consume(database, first, second)
    assert [(row.kind, row.values) for row in await notifications(database)] == [
        ("part_cancelled", {"units": "2", "refunded": "5.00 USD"}),
        ("part_cancelled", {"units": "2", "refunded": ""}),
    ]


async def test_i10_an_amended_order_is_told_with_what_is_charged_or_goes_back(database: Database) -> None:
    who: dict[str, Any] = {"order_id": uuid4(), "customer_id": uuid4(), "lines": (), "lines_before": ()}
    nothing, five = Money.zero(), Money(amount="5.00")
    more = OrderAmended(**who, number=1, total=Money(amount="12.50"), total_before=five, charged=five, given_back=nothing)
    less = OrderAmended(**who, number=2, total=five, total_before=five, charged=nothing, given_back=five)
    await consume(database, more, less)
    assert [(row.kind, row.values) for row in await notifications(database)] == [
        ("order_amended", {"total": "12.50 USD", "charged": "5.00 USD", "refunded": ""}),
        ("order_amended", {"total": "5.00 USD", "charged": "", "refunded": "5.00 USD"}),
    ]


async def test_each_time_a_confirmed_order_needs_another_card_is_told(database: Database) -> None:
    who: dict[str, Any] = {"order_id": uuid4(), "customer_id": uuid4(), "total": Money(amount="5.00"), "was_confirmed": True}
    first, second = (datetime(2026, 12, day, 14, 30, tzinfo=UTC) for day in (1, 8))
    await consume(database, OrderPaymentDue(**who, pay_until=first), OrderPaymentDue(**who, pay_until=second))
    assert [(row.kind, row.values) for row in await notifications(database)] == [
        ("card_needed", {"pay_until": "2026-12-01 14:30 UTC"}),
        ("card_needed", {"pay_until": "2026-12-08 14:30 UTC"}),
    ]

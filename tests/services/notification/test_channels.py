"""Deliveries by several channels: each by itself, quiet hours, another channel in place of one, and what providers tell later."""

import asyncio
from datetime import time, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.clock import utc_now
from chassis.database import Database
from contracts.budgets import BREAKER_OPENS_AFTER
from contracts.events import EmailChanged
from contracts.notifications import NotificationKind
from services.notification import commands
from services.notification.channels import Channel, Deferred, DeliveryNews, DeliveryState, ProviderAway, Refused
from services.notification.commands import Report, Staff, Told, browsers
from services.notification.commands import people as choosing
from services.notification.delivery import DeliveryJob
from services.notification.kinds import Group
from services.notification.model import Audience, Outcome, Person, Template, TextVersion
from tests.conftest import changing
from tests.services.notification.conftest import (
    LINKS,
    Mailbox,
    People,
    Phones,
    attempts,
    confirmation,
    deliveries,
    event_types,
    make_due,
    notifications,
    statuses,
)
from tests.services.notification.test_delivery import delivery as mail_job
from tests.services.notification.test_queue import consume

SUBSCRIPTION = {"endpoint": "https://push.example/1", "keys": {"p256dh": "x", "auth": "y"}}
C, S = Channel, DeliveryState


def job(database: Database, people: People, phones: Phones, channel: Channel, attempts: int = 5) -> DeliveryJob:
    return DeliveryJob(database, people, phones.sender(channel), LINKS, asyncio.Event(), attempts=attempts)


async def tell(database: Database, customer_id: UUID, kind: NotificationKind = NotificationKind.ORDER_SHIPPED) -> UUID:
    order_id = uuid4()
    async with changing(database) as work:
        told = Told(kind, str(order_id), {"tracking_number": "TRK1"}, customer_id=customer_id, order_id=order_id)
        await commands.queue_all(work, Staff(), [told])
    return order_id


async def proven_phone(database: Database, people: People, phones: Phones, customer_id: UUID) -> None:
    await choosing.want_phone(database, customer_id, "+4930123456")
    await job(database, people, phones, C.SMS).send_due()
    code = phones.messages.pop().text[:6]
    await choosing.prove_phone(database, customer_id, code, LINKS.secret)


async def choose(database: Database, customer_id: UUID, **choices: Any) -> None:
    quiet = choices.pop("quiet", None)
    language = choices.pop("language", None)
    given = {Group(group): wanted for group, wanted in choices.items()}
    await choosing.choose(database, customer_id, choices=given, language=language, time_zone="UTC", quiet=quiet, seen=None)


async def person_of(database: Database, customer_id: UUID) -> Person | None:
    return (await commands.people_of(database, [customer_id])).get(customer_id)


def news(state: DeliveryState, **facts: Any) -> DeliveryNews:
    return DeliveryNews(id=uuid4(), provider="test", state=state, occurred_at=utc_now(), **{"channel": C.EMAIL, **facts})


async def test_a_code_is_made_when_it_is_sent_and_is_stored_nowhere(database: Database, people: People, phones: Phones) -> None:
    customer_id = people.customer()
    await choosing.want_phone(database, customer_id, "+4930123456")
    phones.failures.append(Deferred("a timeout"))
    sender = job(database, people, phones, C.SMS)
    await sender.send_due()
    await make_due(database)
    await sender.send_due()
    [message] = phones.messages
    assert (message.to, message.subject, message.html) == ("+4930123456", "", None)
    code = message.text[:6]
    assert code.isdigit()
    kept = [row.model_dump_json() for row in (*await notifications(database), *await deliveries(database))]
    assert not any(code in row for row in kept)
    assert (await notifications(database))[0].is_in_inbox is False
    person = await choosing.prove_phone(database, customer_id, code, LINKS.secret)
    assert person.phone == "+4930123456"


async def test_one_notification_goes_by_each_channel_that_is_wanted(
    database: Database, people: People, phones: Phones, mailbox: Mailbox
) -> None:
    customer_id = people.customer()
    await proven_phone(database, people, phones, customer_id)
    await browsers.subscribe(database, customer_id, SUBSCRIPTION["endpoint"], SUBSCRIPTION)  # type: ignore[arg-type]
    await choose(database, customer_id, deliveries={C.SMS: True})
    order_id = await tell(database, customer_id)
    for sender in (
        job(database, people, phones, C.SMS),
        job(database, people, phones, C.PUSH),
        mail_job(database, people, mailbox.port),
    ):
        assert await sender.send_due() == 1
    sms, push = phones.messages
    assert sms.text == "Your order is on its way. Follow it: TRK1"
    assert (push.subject, push.text) == ("Your order is on its way", "Follow it: TRK1")
    assert '"https://push.example/1"' in push.to
    [mail] = await mailbox.mails()
    assert str(order_id) in mail["text"]
    _, *rows = await deliveries(database)  # the first is the code's
    assert [(row.channel, row.status) for row in rows] == [("email", "SENT"), ("push", "SENT"), ("sms", "SENT")]
    assert await event_types(database) == ["NotificationSent"] * 3


async def test_a_provider_that_is_away_holds_up_nobody_and_burns_no_attempt(
    database: Database, people: People, phones: Phones, mailbox: Mailbox
) -> None:
    customer_id = people.customer()
    await browsers.subscribe(database, customer_id, SUBSCRIPTION["endpoint"], SUBSCRIPTION)  # type: ignore[arg-type]
    for _ in range(3):
        await tell(database, customer_id)
    phones.failures = [ProviderAway("it is down")]
    with pytest.raises(ProviderAway):
        await job(database, people, phones, C.PUSH, attempts=1).send_due()
    assert await mail_job(database, people, mailbox.port).send_due() == 3
    assert await statuses(database, C.PUSH) == [("PENDING", 0)] * 3
    assert await job(database, people, phones, C.PUSH, attempts=1).send_due() == 3
    assert await statuses(database, C.PUSH) == [("SENT", 1)] * 3


async def test_after_five_that_were_not_taken_the_rest_of_a_batch_waits_untried(
    database: Database, people: People, phones: Phones
) -> None:
    customer_id = people.customer()
    await browsers.subscribe(database, customer_id, SUBSCRIPTION["endpoint"], SUBSCRIPTION)  # type: ignore[arg-type]
    for _ in range(BREAKER_OPENS_AFTER + 3):
        await tell(database, customer_id)
    phones.failures = [Deferred("it hangs") for _ in range(100)]
    with pytest.raises(ProviderAway):
        await job(database, people, phones, C.PUSH).send_due()
    assert await statuses(database, C.PUSH) == [("PENDING", 1)] * BREAKER_OPENS_AFTER + [("PENDING", 0)] * 3


async def test_in_quiet_hours_telephones_are_silent_unless_it_is_urgent(
    database: Database, people: People, phones: Phones, mailbox: Mailbox
) -> None:
    customer_id = people.customer()
    await proven_phone(database, people, phones, customer_id)
    begin, end = ((utc_now() + timedelta(hours=hours)).time() for hours in (-1, 1))
    await choose(database, customer_id, deliveries={C.SMS: True}, orders={C.SMS: True}, quiet=(begin, end))
    await tell(database, customer_id)
    await tell(database, customer_id, NotificationKind.PAYMENT_DUE)
    sender = job(database, people, phones, C.SMS)
    assert await sender.send_due() == 2
    assert [message.text.partition(".")[0] for message in phones.messages] == ["Your card was declined"]
    assert await mail_job(database, people, mailbox.port).send_due() == 2
    [_, waiting, urgent] = await deliveries(database, C.SMS)
    assert (waiting.status, waiting.attempts, urgent.status) == ("WAITING", 0, "SENT")
    assert waiting.due_at is not None
    assert timedelta(0) < waiting.due_at - utc_now() <= timedelta(hours=1)
    assert await sender.send_due() == 0
    await choose(database, customer_id, deliveries={C.SMS: True}, quiet=(time(0), time(0, 0, 1)))
    await make_due(database)
    await sender.send_due()
    assert (await deliveries(database, C.SMS))[1].status == "SENT"


async def test_what_must_be_heard_takes_another_channel_when_one_has_failed_for_good(
    database: Database, people: People, phones: Phones, mailbox: Mailbox
) -> None:
    customer_id = people.customer("zoe@bounce.example")
    await proven_phone(database, people, phones, customer_id)
    await mailbox.faults(reject_rcpt="*@bounce.example")
    await tell(database, customer_id)
    await tell(database, customer_id, NotificationKind.PAYMENT_DUE)
    await mail_job(database, people, mailbox.port).send_due()
    assert await statuses(database, C.EMAIL) == [("FAILED", 1)] * 2
    await job(database, people, phones, C.SMS).send_due()
    assert [message.text.partition(".")[0] for message in phones.messages] == ["Your card was declined"]
    person = await person_of(database, customer_id)
    assert person is not None
    assert list(person.suppressed) == ["email"]  # 550 5.1.1: nothing will ever arrive there
    assert await event_types(database) == ["NotificationFailed"] * 2 + ["NotificationSent"]


async def test_an_address_that_is_dead_gets_nothing_more_until_it_is_proven_again(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    customer_id = people.customer()
    sender = mail_job(database, people, mailbox.port)
    await tell(database, customer_id)
    await sender.send_due()
    [sent] = await deliveries(database)
    assert await commands.apply_delivery_news(database, news(S.BOUNCED, message_id=sent.delivery_id, reason="5.1.1"))
    await tell(database, customer_id)
    await sender.send_due()
    assert [status for status, _ in await statuses(database)] == ["BOUNCED", "SUPPRESSED"]
    await consume(database, EmailChanged(customer_id=customer_id))
    await sender.send_due()
    assert [status for status, _ in await statuses(database)] == ["BOUNCED", "SENT"]


async def test_a_passing_bounce_kills_no_address(database: Database, people: People, mailbox: Mailbox) -> None:
    customer_id = people.customer()
    await tell(database, customer_id)
    await mail_job(database, people, mailbox.port).send_due()
    [sent] = await deliveries(database)
    full = news(S.BOUNCED, message_id=sent.delivery_id, reason="4.2.2", permanent=False)
    assert await commands.apply_delivery_news(database, full)
    assert await person_of(database, customer_id) is None


@pytest.mark.parametrize(
    ("told", "ends", "events"),
    [
        ([S.DELIVERED], "DELIVERED", ["EmailDelivered"]),
        ([S.DELIVERED, S.DELIVERED], "DELIVERED", ["EmailDelivered"]),
        ([S.DELAYED, S.DELIVERED], "DELIVERED", ["EmailDelivered"]),
        ([S.BOUNCED, S.DELIVERED], "BOUNCED", ["NotificationFailed"]),
        ([S.DELIVERED, S.BOUNCED], "BOUNCED", ["EmailDelivered", "NotificationFailed"]),
        ([S.DELIVERED, S.DELAYED], "DELIVERED", ["EmailDelivered"]),
        ([S.COMPLAINED], "DELIVERED", ["EmailDelivered"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
async def test_news_of_a_mail_never_go_back(
    database: Database, people: People, mailbox: Mailbox, told: list[DeliveryState], ends: str, events: list[str]
) -> None:
    await tell(database, people.customer())
    await mail_job(database, people, mailbox.port).send_due()
    [sent] = await deliveries(database)
    for state in told:
        assert await commands.apply_delivery_news(database, news(state, message_id=sent.delivery_id))
    assert (await deliveries(database))[0].status == ends
    assert await event_types(database) == ["NotificationSent", *events]


async def test_the_same_news_count_once_also_at_the_same_time(database: Database, people: People, mailbox: Mailbox) -> None:
    await tell(database, people.customer())
    await mail_job(database, people, mailbox.port).send_due()
    [sent] = await deliveries(database)
    same = news(S.DELIVERED, message_id=sent.delivery_id)
    assert all(await asyncio.gather(*[commands.apply_delivery_news(database, same) for _ in range(8)]))
    assert await event_types(database) == ["NotificationSent", "EmailDelivered"]


async def test_news_of_what_nobody_knows_may_come_again(database: Database, people: People, phones: Phones) -> None:
    customer_id = people.customer()
    await proven_phone(database, people, phones, customer_id)
    await choose(database, customer_id, deliveries={C.SMS: True})
    early = news(S.DELIVERED, channel=C.SMS, provider_id="provider-2")  # the code was the first
    await tell(database, customer_id)
    assert not await commands.apply_delivery_news(database, news(S.DELIVERED, message_id=uuid4()))
    assert not await commands.apply_delivery_news(database, early)
    await job(database, people, phones, C.SMS).send_due()
    assert await commands.apply_delivery_news(database, early)
    assert (await deliveries(database, C.SMS))[1].status == "DELIVERED"


async def test_news_that_overtake_the_receipt_are_not_undone_by_it(database: Database, people: People, mailbox: Mailbox) -> None:
    await tell(database, people.customer())
    [claimed] = await commands.claim_due(database, C.EMAIL, limit=5, lease=timedelta(minutes=1))
    assert await commands.apply_delivery_news(database, news(S.DELIVERED, message_id=claimed.delivery.delivery_id))
    sent = Report(claimed, Outcome.SENT)
    await commands.record(database, [sent], attempts_allowed=3)
    assert await statuses(database) == [("DELIVERED", 1)]
    assert await attempts(database) == [(1, "sent")]
    assert await mail_job(database, people, mailbox.port).send_due() == 0


async def test_who_complains_gets_only_what_must_be(database: Database, people: People, mailbox: Mailbox) -> None:
    customer_id = people.customer()
    await tell(database, customer_id)
    await mail_job(database, people, mailbox.port).send_due()
    [sent] = await deliveries(database)
    assert await commands.apply_delivery_news(database, news(S.COMPLAINED, message_id=sent.delivery_id))
    await tell(database, customer_id)
    await tell(database, customer_id, NotificationKind.ORDER_CANCELLED)
    assert [row.status for row in await deliveries(database, C.EMAIL)] == ["DELIVERED", "PENDING"]


async def test_who_answers_stop_gets_no_sms(database: Database, people: People, phones: Phones) -> None:
    customer_id = people.customer()
    await proven_phone(database, people, phones, customer_id)
    await choose(database, customer_id, deliveries={C.SMS: True})
    await tell(database, customer_id)
    await job(database, people, phones, C.SMS).send_due()
    sent = (await deliveries(database, C.SMS))[-1]
    assert await commands.apply_delivery_news(database, news(S.COMPLAINED, channel=C.SMS, message_id=sent.delivery_id))
    await tell(database, customer_id)
    assert len(await deliveries(database, C.SMS)) == 2  # the code's, and the first


async def test_a_subscription_that_is_gone_is_forgotten(database: Database, people: People, phones: Phones) -> None:
    customer_id = people.customer()
    await browsers.subscribe(database, customer_id, SUBSCRIPTION["endpoint"], SUBSCRIPTION)  # type: ignore[arg-type]
    await tell(database, customer_id)
    phones.failures = [Refused("410 Gone", gone=True)]
    await job(database, people, phones, C.PUSH).send_due()
    person = await person_of(database, customer_id)
    assert person is not None
    assert person.browsers == []
    assert await statuses(database, C.PUSH) == [("FAILED", 1)]


async def test_the_staff_gets_a_mail_at_each_address(database: Database, people: People, mailbox: Mailbox) -> None:
    staff = Staff({Audience.FINANCE: ["money@shop.example", "books@shop.example"]})
    async with changing(database) as work:
        told = Told(
            NotificationKind.REFUND_FAILED, "x", {"amount": "5.00 USD", "failure": "closed"}, Audience.FINANCE, order_id=uuid4()
        )
        await commands.queue_all(work, staff, [told, told])
    assert await mail_job(database, people, mailbox.port).send_due() == 2
    assert sorted(mail["to"][0] for mail in await mailbox.mails()) == ["books@shop.example", "money@shop.example"]
    assert await event_types(database) == []


async def test_a_text_in_the_persons_language_is_found(database: Database, people: People, mailbox: Mailbox) -> None:
    customer_id = people.customer()
    await choose(database, customer_id, language="de-AT")
    async with changing(database) as work:
        key: dict[str, Any] = {"kind": NotificationKind.ORDER_SHIPPED, "channel": C.EMAIL, "language": "de"}
        work.add(Template(**key), TextVersion(**key, number=1, subject="Unterwegs", body="Größe {{ tracking_number }}"))
    await tell(database, customer_id)
    await tell(database, customer_id, NotificationKind.ORDER_CANCELLED)
    await mail_job(database, people, mailbox.port).send_due()
    assert [mail["subject"] for mail in await mailbox.mails()] == ["Unterwegs", "Your order is cancelled"]


async def test_a_confirmation_is_one_statement_beside_the_look_at_what_is_wanted(database: Database, people: People) -> None:
    """The saga waits for it."""
    command = confirmation(people.customer())
    replies = await asyncio.gather(*[commands.send_notification(database, command) for _ in range(5)])
    assert len({reply.notification_id for reply in replies}) == 1
    [one] = await deliveries(database)
    assert one.delivery_id == one.notification_id == replies[0].notification_id

"""What becomes of mails, as their server tells it by a webhook and in a mailbox: over real SMTP, HTTP and IMAP."""

import time
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from chassis.clients import Unavailable
from services.notification import bouncing, commands
from services.notification.adapters.imap import BounceMailbox, BounceSettings
from services.notification.adapters.smtp import SmtpMailer, SmtpSettings
from services.notification.channels import Channel, Message
from services.notification.model import DeliveryStatus
from services.notification.ports import Handled
from simulators._webhooks import signature
from tests.conftest import eventually
from tests.services.notification.channels.conftest import EMAIL_SECRET, OLD_EMAIL_SECRET, Shop
from tests.services.notification.conftest import confirmation, deliveries, event_types
from tests.services.notification.protocols.test_dsn import report

WEBHOOK = "/api/v1/notifications/webhooks/email"


async def send_to(shop: Shop, address: str) -> None:
    await commands.send_notification(shop.database, confirmation(shop.people.customer(address)))
    await shop.send(Channel.EMAIL)


async def state(shop: Shop) -> tuple[DeliveryStatus, str]:
    [delivery] = await deliveries(shop.database, Channel.EMAIL)
    return delivery.status, delivery.reason or ""


async def becomes(shop: Shop, status: DeliveryStatus) -> None:
    async def has() -> bool:
        return (await state(shop))[0] is status

    await eventually(has, what=f"the mail is {status}")


async def faults(shop: Shop, **switches: object) -> None:
    (await shop.sink.post("/_control/faults", json=switches)).raise_for_status()


async def all_told(shop: Shop) -> None:
    async def are() -> bool:
        return bool((await shop.sink.get("/_control/webhooks")).json()["pending"] == 0)

    await eventually(are, what="all reports are delivered")


async def test_a_mail_arrives_and_that_is_told(shop: Shop) -> None:
    await send_to(shop, "zoe@customer.example")
    await becomes(shop, DeliveryStatus.DELIVERED)
    assert "EmailDelivered" in await event_types(shop.database)


@pytest.mark.parametrize(
    ("address", "reason", "is_dead"),
    [
        ("bounce@customer.example", "5.1.1", True),
        ("bounce+1@customer.example", "5.1.1", True),
        ("full@x.example", "5.2.2", False),
    ],
)
async def test_a_mail_comes_back(shop: Shop, address: str, reason: str, is_dead: bool) -> None:
    await send_to(shop, address)
    await becomes(shop, DeliveryStatus.BOUNCED)
    told = (await state(shop))[1]
    assert told.startswith(reason)
    assert "@" not in told
    assert "NotificationFailed" in await event_types(shop.database)
    [person] = (await commands.people_of(shop.database, list(shop.people.addresses))).values() if is_dead else [None]
    assert person is None or "email" in person.suppressed


async def test_a_mail_that_is_late_arrives_in_the_end(shop: Shop) -> None:
    await send_to(shop, "delay@customer.example")
    await becomes(shop, DeliveryStatus.DELIVERED)


@pytest.mark.parametrize(
    "switches",
    [{"reports_twice": True}, {"reports_held": True, "reports_newest_first": True}, {"reports_late_ms": 300}],
    ids=["twice", "out of order", "late"],
)
async def test_reports_come_as_they_like(shop: Shop, switches: dict[str, Any]) -> None:
    await faults(shop, **switches)
    await send_to(shop, "delay@customer.example")
    await faults(shop, reports_held=False)
    await becomes(shop, DeliveryStatus.DELIVERED)
    await all_told(shop)
    assert (await event_types(shop.database)).count("EmailDelivered") == 1


async def test_a_complaint_means_that_it_arrived_and_that_no_more_is_wanted(shop: Shop) -> None:
    await send_to(shop, "complain@customer.example")
    await becomes(shop, DeliveryStatus.DELIVERED)
    await all_told(shop)
    [person] = (await commands.people_of(shop.database, list(shop.people.addresses))).values()
    assert any(on["email"] is False for on in person.choices.values() if "email" in on)


async def test_only_the_mail_server_is_believed(shop: Shop) -> None:
    body = report("postfix_delivered")
    long_ago = int(time.time()) - 3600
    for secret, at, expected in (
        (EMAIL_SECRET, None, 204),
        (OLD_EMAIL_SECRET, None, 204),
        ("x" * 20, None, 401),
        (EMAIL_SECRET, long_ago, 401),
    ):
        signed = signed_by(secret, body, at)
        assert (await shop.client.post(WEBHOOK, content=body, headers=signed)).status_code == expected
    assert (await shop.client.post(WEBHOOK, content=body)).json()["code"] == "invalid_signature"


async def test_what_is_no_report_is_taken_and_what_cannot_be_one_refused(shop: Shop) -> None:
    for body, expected in ((report("holiday_note"), 204), (b"", 204), (b"boundary" * 100, 400)):
        response = await shop.client.post(WEBHOOK, content=body, headers=signed_by(EMAIL_SECRET, body))
        assert response.status_code == expected
    assert response.json()["code"] == "malformed_request"


def signed_by(secret: str, body: bytes, at: int | None = None) -> dict[str, str]:
    return {
        "X-Email-Signature": signature(body.decode(), secret, int(time.time()) if at is None else at),
        "Content-Type": "message/rfc822",
    }


# ── The mailbox ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_reports_are_read_from_the_mailbox_and_deleted(shop: Shop) -> None:
    await faults(shop, reports_held=True)  # the webhook says nothing
    await send_to(shop, "bounce@customer.example")
    assert (await state(shop))[0] is DeliveryStatus.SENT
    read = partial(bouncing.read_mailbox, shop.database, shop.mailbox)
    assert await read() == 1
    assert (await state(shop))[0] is DeliveryStatus.BOUNCED
    assert await read() == 0


async def test_both_ways_tell_it_once(shop: Shop) -> None:
    await send_to(shop, "bounce@customer.example")
    await becomes(shop, DeliveryStatus.BOUNCED)
    await bouncing.read_mailbox(shop.database, shop.mailbox)
    assert (await event_types(shop.database)).count("NotificationFailed") == 1


async def test_a_report_that_was_not_taken_in_comes_again(shop: Shop) -> None:
    await faults(shop, reports_held=True)
    await send_to(shop, "delay@customer.example")

    async def fail(raw: bytes) -> Handled:
        raise Unavailable("the database is away")

    with pytest.raises(Unavailable, match="database"):
        await shop.mailbox.read(fail)
    assert await bouncing.read_mailbox(shop.database, shop.mailbox) == 2


async def test_mails_of_people_stay_where_they_are(shop: Shop) -> None:
    await faults(shop, reports_held=True)
    await send_to(shop, "bounce@customer.example")

    async def leave(raw: bytes) -> Handled:
        assert b"Final-Recipient: rfc822; bounce@customer.example\r\n" in raw
        return Handled.LEFT

    assert await shop.mailbox.read(leave) == 1
    assert await shop.mailbox.read(leave) == 0
    assert shop.kept_reports() == 1


async def test_a_mailbox_that_cannot_be_read_is_away(shop: Shop) -> None:
    for url in (
        "imap://bounces:wrong@127.0.0.1:{port}",
        "imap://bounces:mail-sink@127.0.0.1:9",
        "imaps://bounces:mail-sink@127.0.0.1:{port}",
    ):
        mailbox = BounceMailbox.of(BounceSettings.model_validate({"bounce_mailbox_url": url.format(port=shop.imap_port)}))
        assert mailbox is not None
        with pytest.raises(Unavailable) as away:
            await bouncing.read_mailbox(shop.database, mailbox)
        assert "wrong" not in str(away.value)


def test_settings() -> None:
    assert BounceMailbox.of(BounceSettings()) is None
    assert BounceSettings().email_secrets.values == ()
    for wrong in (
        {"bounce_mailbox_url": "pop3://a:b@host"},
        {"bounce_mailbox_url": "imaps://host/INBOX"},
        {"bounce_mailbox_url": "imaps://user@host"},
        {"email_webhook_secret": "short"},
        {"email_webhook_secret": f"{EMAIL_SECRET},short"},
    ):
        with pytest.raises(ValidationError) as refused:
            BounceSettings.model_validate(wrong)
        assert "short" not in str(refused.value)
    mailbox = BounceMailbox.of(
        BounceSettings.model_validate({"bounce_mailbox_url": "imaps://shop%40x.example:p%2Fw@mail.x.example/Back"})
    )
    assert mailbox is not None
    assert (mailbox._user, mailbox._password, mailbox._port, mailbox._folder) == ("shop@x.example", "p/w", 993, "Back")


# ── What the server is asked for ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_mail_may_come_back_to_an_address_of_its_own(shop: Shop) -> None:
    """Then it is known even by a server that sends back nothing of it."""
    settings = SmtpSettings(smtp_port=shop.smtp_port, mail_bounces="bounces@shop.example")
    mailer = SmtpMailer(settings)
    await commands.send_notification(shop.database, confirmation(shop.people.customer()))
    [delivery] = await deliveries(shop.database, Channel.EMAIL)
    await mailer.send(Message(delivery.delivery_id, Channel.EMAIL, "zoe@customer.example", "Hello", "Hello"))
    await mailer.close()
    [mail] = (await shop.sink.get("/messages")).json()["data"]
    assert mail["sender"] == f"bounces+{delivery.delivery_id.hex}@shop.example"

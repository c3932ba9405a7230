"""Six hours without a mail server or a messenger: nothing is lost, nothing comes twice, and who may be told otherwise is."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from chassis import clock
from chassis.clients import HttpSession
from chassis.database import Database
from contracts.notifications import NotificationKind
from services.notification import commands
from services.notification.adapters.smtp import SmtpMailer, SmtpSettings
from services.notification.adapters.twilio import TwilioSender, TwilioSettings
from services.notification.channels import Channel, ProviderAway, Sender
from services.notification.commands import people as choosing
from services.notification.delivery import DeliveryJob
from tests.conftest import eventually
from tests.outage.conftest import Clock
from tests.services.notification.channels.conftest import ACCOUNT, TOKEN, Twilio
from tests.services.notification.conftest import LINKS, Mailbox, People, confirmation, statuses

STEP, SIX_HOURS = timedelta(minutes=5), timedelta(hours=6)
NUMBERS = ("+491701234561", "+491701234562", "+491701234563")


@pytest.fixture(autouse=True)
def moved_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's clock can be set."""
    Clock.ahead = timedelta()
    monkeypatch.setattr(clock, "datetime", Clock)


async def pass_time(jobs: Sequence[DeliveryJob], lasts: timedelta) -> None:
    """The jobs go on for so long, round by round."""
    until = Clock.ahead + lasts
    while Clock.ahead < until:
        for job in jobs:
            with suppress(ProviderAway):
                while await job.send_due():
                    pass
        Clock.ahead += STEP


def job(database: Database, people: People, sender: Sender) -> DeliveryJob:
    """As the service makes it, if nothing is said."""
    return DeliveryJob(database, people, sender, LINKS, asyncio.Event(), attempts=12)


def mailer(mailbox: Mailbox) -> Sender:
    return SmtpMailer(SmtpSettings(smtp_port=mailbox.port))


def messenger(http: HttpSession, twilio: Twilio) -> Sender:
    given = {"twilio_url": twilio.url, "twilio_account_sid": ACCOUNT, "twilio_from": "+15005550006"}
    settings = TwilioSettings.model_validate(given | {"twilio_auth_token": SecretStr(TOKEN)})
    return TwilioSender(http, settings, "https://shop.example/status")


async def to_be_mailed(database: Database, people: People, emails: Sequence[str]) -> None:
    for email in emails:
        await commands.send_notification(database, confirmation(people.customer(email)))


@pytest.mark.parametrize("fault", ["down", "defer"])
@pytest.mark.parametrize("mails", [3, 30])
async def test_mails_wait_for_the_mail_server(
    database: Database, people: People, mailbox: Mailbox, fault: str, mails: int
) -> None:
    """Whether it lets nobody in, or answers each mail that it should come later."""
    to = [f"person-{number}@example.org" for number in range(mails)]
    await to_be_mailed(database, people, to)
    await mailbox.faults(**{fault: True})
    mailing = [job(database, people, mailer(mailbox))]
    await pass_time(mailing, SIX_HOURS)
    assert await mailbox.mails() == []
    assert {status for status, _ in await statuses(database)} == {"PENDING"}
    await mailbox.faults(**{fault: False})
    await pass_time(mailing, timedelta(hours=1))
    assert Counter(address for mail in await mailbox.mails() for address in mail["to"]) == Counter(to)
    assert {status for status, _ in await statuses(database)} == {"SENT"}


async def test_text_messages_wait_for_the_messenger(
    database: Database, people: People, http: HttpSession, twilio: Twilio
) -> None:
    """Of the first it has taken, and the answer was lost when it went away."""
    await choosing.want_phone(database, uuid4(), NUMBERS[0])
    texting = [job(database, people, messenger(http, twilio))]
    await twilio.faults(lose_replies_next=1)
    with suppress(ProviderAway):
        await texting[0].send_due()
    await twilio.faults(down=True)
    for number in NUMBERS[1:]:
        await choosing.want_phone(database, uuid4(), number)
    await pass_time(texting, SIX_HOURS)
    await twilio.faults(down=False)

    async def are_sent() -> bool:
        """In real time, which the breaker waits in."""
        await pass_time(texting, STEP)
        return {status for status, _ in await statuses(database, Channel.SMS)} == {"SENT"}

    await eventually(are_sent)
    assert Counter(message["to"] for message in await twilio.messages()) == Counter(NUMBERS)


@pytest.mark.parametrize("fault", ["down", "defer"])
async def test_what_a_customer_has_to_hear_takes_another_channel_if_the_mail_is_not_taken(
    database: Database, people: People, mailbox: Mailbox, http: HttpSession, twilio: Twilio, fault: str
) -> None:
    """While nobody is let in it waits: that is no fault of the mail."""
    customer_id = people.customer("ann@example.org")
    jobs = [job(database, people, mailer(mailbox)), job(database, people, messenger(http, twilio))]
    await proves_phone(database, customer_id, jobs, twilio)
    already = len(await twilio.messages())
    await mailbox.faults(**{fault: True})
    told = confirmation(customer_id, pay_until="2026-12-01 14:30 UTC")
    payment_due = told.model_copy(update={"kind": NotificationKind.PAYMENT_DUE, "key": f"{told.order_id}:payment_due"})
    await commands.send_notification(database, payment_due)
    await pass_time(jobs, SIX_HOURS)
    await mailbox.faults(**{fault: False})
    await pass_time(jobs, timedelta(hours=1))
    by_text, by_mail = len(await twilio.messages()) - already, len(await mailbox.mails())
    assert (by_text, by_mail) == ((0, 1) if fault == "down" else (1, 0))


async def proves_phone(database: Database, person_id: UUID, jobs: Sequence[DeliveryJob], twilio: Twilio) -> None:
    await choosing.want_phone(database, person_id, NUMBERS[0])
    await pass_time(jobs, STEP)
    [message] = await twilio.messages(To=NUMBERS[0])
    code = "".join(filter(str.isdigit, message["body"]))[:6]
    await choosing.prove_phone(database, person_id, code, LINKS.secret)

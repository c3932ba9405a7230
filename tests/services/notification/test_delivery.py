"""Delivery over real SMTP: each mail once, whatever the server, the database or another process does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any
from uuid import uuid4

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from sqlalchemy import select, update
from structlog.testing import capture_logs

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from contracts.accounts import AccountMail
from contracts.budgets import BREAKER_OPENS_AFTER
from contracts.events import AccountMailRequested
from contracts.notifications import NotificationKind
from embedded.ports import free_port
from services.notification import commands
from services.notification.adapters.smtp import SmtpMailer, SmtpSettings
from services.notification.channels import Channel, Message, ProviderAway, Refused
from services.notification.commands import Report, Staff, Told
from services.notification.delivery import DeliveryJob
from services.notification.model import DeliveryStatus, Notification, Outcome, TextVersion, outbox, pause_after
from tests.conftest import changing, eventually
from tests.services.notification.conftest import (
    LINKS,
    Mailbox,
    People,
    attempts,
    confirmation,
    deliveries,
    event_types,
    make_due,
    notifications,
    statuses,
)

AN_ID = uuid4()


def delivery(database: Database, people: People, port: int, *, attempts: int = 5) -> DeliveryJob:
    return DeliveryJob(database, people, SmtpMailer(SmtpSettings(smtp_port=port)), LINKS, asyncio.Event(), attempts=attempts)


def mail(to: str, subject: str, text: str, html: str | None = None) -> Message:
    return Message(AN_ID, Channel.EMAIL, to, subject, text, html)


async def queued(database: Database, people: People, *emails: str) -> None:
    for email in emails:
        await commands.send_notification(database, confirmation(people.customer(email)))


class Reception:
    """An SMTP server of the test's own: who connected, and a door that can be held shut before a mail is taken."""

    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.taken: list[bytes] = []
        self.at_the_door, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.connections.add(session.peer)
        self.at_the_door.set()
        await self.open.wait()
        assert isinstance(envelope.content, bytes)
        self.taken.append(envelope.content)
        return "250 OK"


@asynccontextmanager
async def receiving(reception: Reception, **options: Any) -> AsyncIterator[int]:
    loop, port = asyncio.get_running_loop(), free_port()
    server = await loop.create_server(lambda: SMTP(reception, hostname="test", loop=loop, **options), "127.0.0.1", port)
    async with server:
        yield port


async def test_a_mail_arrives_with_its_text_and_a_message_id_of_its_own(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    customer_id = people.customer()
    command = confirmation(customer_id, tracking_number="TRK1")
    reply = await commands.send_notification(database, command)
    assert await delivery(database, people, mailbox.port).send_due() == 1
    [mail] = await mailbox.mails()
    assert mail["to"] == ["zoe@example.org"]
    assert mail["subject"] == "Your order is confirmed"
    assert mail["message_id"] == f"<{reply.notification_id}@shop.example>"
    for word in ("12.50 USD", "TRK1", str(command.order_id)):
        assert word in mail["text"]
    assert await statuses(database) == [("SENT", 1)]
    assert await event_types(database) == ["NotificationSent"]
    assert await delivery(database, people, mailbox.port).send_due() == 0


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("Your order", "A line\n.\n..and one that begins with dots\n\nthe end\n"),
        ("Ihre Bestellung, größtenteils 🙂 " * 9, "Guten Tag, Zoë\n" * 99),
        ("x" * 950, "no server must take a line as long as this: " * 99 + "\n"),
        ("", ""),
    ],
    ids=["plain", "not ASCII", "long", "empty"],
)
@pytest.mark.parametrize("sender", ["Shop <shop@shop.example>", "Läden und mehr <shop@shop.example>", "shop@shop.example"])
async def test_what_is_written_is_what_arrives(sender: str, subject: str, body: str) -> None:
    reception = Reception()
    async with receiving(reception) as port:
        mailer = SmtpMailer(SmtpSettings(smtp_port=port, mail_from=sender))
        await mailer.send(mail("zoe@example.org", subject, body))
        await mailer.close()
    [raw] = reception.taken
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) < 998
    got = message_from_bytes(raw, policy=policy.default)
    assert (got["From"], got["To"], got["Subject"]) == (sender, "zoe@example.org", subject)
    assert (got["Message-ID"], got["Auto-Submitted"]) == (f"<{AN_ID}@shop.example>", "auto-generated")
    assert abs(got["Date"].datetime - utc_now()) < timedelta(hours=1)
    assert got.get_content().replace("\r\n", "\n") == body
    assert not any(got[name].defects for name in got)


async def test_a_domain_beyond_ascii_is_for_servers_that_know_such() -> None:
    letter = mail("zoe@größe.example", "Your order", "Here.\n")
    reception = Reception()
    async with receiving(reception) as port:
        with pytest.raises(Refused, match="SMTPUTF8"):
            await SmtpMailer(SmtpSettings(smtp_port=port)).send(letter)
    async with receiving(reception, enable_SMTPUTF8=True) as port:
        await SmtpMailer(SmtpSettings(smtp_port=port)).send(letter)
    assert message_from_bytes(reception.taken[0], policy=policy.default)["To"] == letter.to


@pytest.mark.parametrize(
    "to", ["a@b.example\r\nBcc: c@d.example", "a@b.example, c@d.example", "<a@b.example>", "a b@c.example", ""]
)
async def test_an_address_that_is_none_is_refused_before_anything_is_sent(to: str) -> None:
    with pytest.raises(Refused):
        await SmtpMailer(SmtpSettings(smtp_port=free_port())).send(mail(to, "Your order", "Here.\n"))


async def test_a_batch_shares_one_connection(database: Database, people: People) -> None:
    await queued(database, people, *[f"{n}@example.org" for n in range(5)])
    reception = Reception()
    async with receiving(reception) as port:
        assert await delivery(database, people, port).send_due() == 5
    assert len(reception.taken) == 5
    assert len(reception.connections) == 1


async def test_an_address_that_is_refused_fails_at_once_and_the_others_arrive(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    await mailbox.faults(reject_rcpt="*@bounce.example")
    await queued(database, people, "a@example.org", "b@bounce.example", "c@example.org")
    await delivery(database, people, mailbox.port).send_due()
    assert await statuses(database) == [("SENT", 1), ("FAILED", 1), ("SENT", 1)]
    assert (await event_types(database)).count("NotificationFailed") == 1
    [_, failed, _] = await deliveries(database)
    assert failed.reason is not None
    assert "550" in failed.reason
    assert "bounce.example" not in failed.reason


async def test_while_the_server_is_away_nothing_is_lost_and_nothing_counts(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    await queued(database, people, "a@example.org", "b@example.org")
    await mailbox.faults(down=True)
    for port in (mailbox.port, free_port()):
        with pytest.raises(ProviderAway):
            await delivery(database, people, port, attempts=1).send_due()
        assert await statuses(database) == [("PENDING", 0), ("PENDING", 0)]
    await mailbox.faults(down=False)
    await delivery(database, people, mailbox.port).send_due()
    assert await statuses(database) == [("SENT", 1), ("SENT", 1)]


async def test_a_lost_reply_is_tried_again_with_the_same_message_id(database: Database, people: People, mailbox: Mailbox) -> None:
    await queued(database, people, "a@example.org", "b@example.org")
    await mailbox.faults(lose_replies_next=1)
    sender = delivery(database, people, mailbox.port)
    await sender.send_due()
    assert await statuses(database) == [("PENDING", 1), ("SENT", 1)]
    assert await sender.send_due() == 0  # not due yet
    await make_due(database)
    await sender.send_due()
    assert await statuses(database) == [("SENT", 2), ("SENT", 1)]
    assert len(await mailbox.mails(to="a@example.org")) == 2
    totals = (await mailbox.http.get("/_control/ledger")).json()
    assert totals == {"messages": 3, "distinct_message_ids": 2}


async def test_a_mail_is_given_up_after_its_tries(database: Database, people: People, mailbox: Mailbox) -> None:
    await queued(database, people, "a@example.org")
    await mailbox.faults(lose_replies_next=3)
    sender = delivery(database, people, mailbox.port, attempts=3)
    for status in ("PENDING", "PENDING", "FAILED"):
        await make_due(database)
        await sender.send_due()
        assert (await statuses(database))[0][0] == status
    assert await event_types(database) == ["NotificationFailed"]
    assert await attempts(database) == [(1, "deferred"), (2, "deferred"), (3, "deferred")]
    assert await sender.send_due() == 0


def test_pauses_double_up_to_a_quarter_of_an_hour() -> None:
    assert [pause_after(n).total_seconds() for n in (1, 2, 3, 10, 11, 99)] == [1, 2, 4, 512, 900, 900]


@pytest.mark.parametrize(
    ("wish", "waits"),
    [(timedelta(), timedelta(seconds=1)), (timedelta(minutes=5), timedelta(minutes=5)), (timedelta(days=99), timedelta(days=1))],
)
async def test_the_next_try_is_not_before_the_provider_wants_it(
    database: Database, people: People, wish: timedelta, waits: timedelta
) -> None:
    await commands.send_notification(database, confirmation(people.customer()))
    claimed = await commands.claim_due(database, Channel.EMAIL, limit=1, lease=timedelta(minutes=2))
    began = utc_now()
    reports = [Report(one, Outcome.DEFERRED, "429", pause=wish) for one in claimed]
    await commands.record(database, reports, attempts_allowed=3)
    [row] = await deliveries(database)
    assert row.due_at is not None
    assert waits <= row.due_at - began <= waits + timedelta(minutes=1)


async def test_g6_an_unverified_customer_gets_no_mail_and_gets_it_after_all_once_verified(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    stranger = uuid4()
    await commands.send_notification(database, confirmation(stranger))
    sender = delivery(database, people, mailbox.port)
    await sender.send_due()
    assert await mailbox.mails() == []
    [held] = await deliveries(database)
    assert (held.status, held.reason) == (DeliveryStatus.SUPPRESSED, "the customer's address is not verified")
    assert await event_types(database) == []

    people.addresses[stranger] = "late@example.org"
    async with changing(database) as work:
        await commands.send_suppressed(work, stranger, utc_now())
    await sender.send_due()
    assert [mail["to"] for mail in await mailbox.mails()] == [["late@example.org"]]
    assert await event_types(database) == ["NotificationSent"]


async def test_a_mail_held_back_for_more_than_a_day_is_not_sent_any_more(database: Database, people: People) -> None:
    old, recent = uuid4(), uuid4()
    for customer_id in (old, recent):
        await commands.send_notification(database, confirmation(customer_id))
    async with changing(database) as work:
        theirs = update(Notification).where(Notification.customer_id == old)  # type: ignore[arg-type]
        await work.rows(theirs.values(created_at=utc_now() - timedelta(hours=25)))
    await delivery(database, people, free_port()).send_due()
    async with changing(database) as work:
        for customer_id in (old, recent):
            await commands.send_suppressed(work, customer_id, utc_now())
    assert await statuses(database) == [("SUPPRESSED", 0), ("PENDING", 0)]


async def test_a_verification_that_overtakes_a_try_makes_it_count_for_nothing(database: Database, people: People) -> None:
    stranger = uuid4()
    await commands.send_notification(database, confirmation(stranger))
    [letter] = await commands.claim_due(
        database, Channel.EMAIL, limit=10, lease=timedelta(minutes=2)
    )  # finds the address unverified …
    async with changing(database) as work:
        await commands.send_suppressed(work, stranger, utc_now())
    await commands.record(
        database, [Report(letter, Outcome.SUPPRESSED, "not verified")], attempts_allowed=5
    )  # … and says so late
    assert await statuses(database) == [("PENDING", 0)]


async def test_while_identity_is_away_mails_wait_and_nothing_counts(database: Database, people: People, mailbox: Mailbox) -> None:
    await queued(database, people, "a@example.org")
    people.away = True
    with pytest.raises(Unavailable):
        await delivery(database, people, mailbox.port, attempts=1).send_due()
    assert await statuses(database) == [("PENDING", 0)]
    people.away = False
    await delivery(database, people, mailbox.port).send_due()
    assert await statuses(database) == [("SENT", 1)]


async def test_g10_a_mail_about_an_account_gets_its_link_when_it_is_sent_and_leaves_no_trace_of_it(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    wanted, taken, gone = (AccountMailRequested(request_id=uuid4(), kind=NotificationKind.VERIFY_EMAIL) for _ in range(3))
    secret = "https://shop.example/api/v1/auth/links/verify-email?token=s3cret"
    for asked, kind in ((wanted, NotificationKind.VERIFY_EMAIL), (taken, NotificationKind.ACCOUNT_EXISTS)):
        people.wanted[asked.request_id] = AccountMail(kind=kind, email="new@example.org", link=secret)
    async with changing(database) as work:
        for asked in (wanted, taken, gone):
            await commands.queue_account_mail(work, asked)
    await delivery(database, people, mailbox.port).send_due()
    first, second = await mailbox.mails()
    assert (first["to"], first["subject"], second["subject"]) == (
        ["new@example.org"], "Confirm your e-mail", "You have an account already",
    )  # fmt: skip
    assert secret in first["text"]
    assert secret in second["text"]
    assert await statuses(database) == [("SENT", 1), ("SENT", 1), ("SUPPRESSED", 0)]
    kept = [each.model_dump_json() for each in await notifications(database)]
    assert not any("new@example.org" in each or "s3cret" in each or "account_exists" in each for each in kept)
    assert await event_types(database) == []


async def test_a_template_that_does_not_fit_holds_up_only_its_own_mails(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    kind = NotificationKind.ORDER_SHIPPED
    async with changing(database) as work:
        spoilt = update(TextVersion).where(TextVersion.kind == kind, TextVersion.channel == Channel.EMAIL)  # type: ignore[arg-type]
        await work.rows(spoilt.values(body="{{ gone }}"))  # valid when it was written, and not any more
        told = [
            Told(kind, f"parcel {n}", {}, customer_id=people.customer(), order_id=uuid4()) for n in range(2 * BREAKER_OPENS_AFTER)
        ]
        await commands.queue_all(work, Staff(), told)
    await queued(database, people, "b@example.org")
    await delivery(database, people, mailbox.port).send_due()
    assert await statuses(database) == [("PENDING", 1)] * len(told) + [("SENT", 1)]
    assert (await deliveries(database))[0].reason == "'gone' is undefined"


async def test_two_processes_share_the_work_and_send_nothing_twice(database: Database, people: People, mailbox: Mailbox) -> None:
    await queued(database, people, *[f"{n}@example.org" for n in range(60)])
    senders = [delivery(database, people, mailbox.port) for _ in range(4)]

    async def send_all(sender: DeliveryJob) -> None:
        while await sender.send_due():
            pass

    await asyncio.gather(*map(send_all, senders))
    totals = (await mailbox.http.get("/_control/ledger")).json()
    assert totals == {"messages": 60, "distinct_message_ids": 60}
    assert await statuses(database) == [("SENT", 1)] * 60
    assert await event_types(database) == ["NotificationSent"] * 60


async def test_what_a_dead_process_had_claimed_is_taken_over_and_its_late_word_changes_nothing(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    await queued(database, people, "a@example.org")
    [letter] = await commands.claim_due(database, Channel.EMAIL, limit=10, lease=timedelta(minutes=2))
    sender = delivery(database, people, mailbox.port)
    assert await sender.send_due() == 0  # as long as the lease lasts
    await make_due(database)
    await commands.record(database, [Report(letter, Outcome.REFUSED, "too late to say so")], attempts_allowed=5)
    assert await statuses(database) == [("PENDING", 0)]
    assert await sender.send_due() == 1
    await commands.record(database, [Report(letter, Outcome.SENT)], attempts_allowed=5)
    assert await statuses(database) == [("SENT", 1)]
    assert await event_types(database) == ["NotificationSent"]


async def test_stopping_waits_for_the_mail_under_way_and_gives_back_the_rest(database: Database, people: People) -> None:
    await queued(database, people, "a@example.org", "b@example.org")
    reception = Reception()
    reception.open.clear()
    async with receiving(reception) as port:
        running = asyncio.create_task(delivery(database, people, port).job()())
        await reception.at_the_door.wait()
        running.cancel()
        reception.open.set()
        with suppress(asyncio.CancelledError):
            await running
    assert len(reception.taken) == 1
    assert await statuses(database) == [("SENT", 1), ("PENDING", 0)]
    assert len(await commands.claim_due(database, Channel.EMAIL, limit=10, lease=timedelta(minutes=2))) == 1  # due at once


async def test_the_job_sends_what_is_queued_and_survives_a_server_that_was_away(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    await mailbox.faults(down=True)
    await queued(database, people, "a@example.org")
    with capture_logs() as logs:
        running = asyncio.create_task(delivery(database, people, mailbox.port).job()())

        async def turned_away() -> bool:
            return any(entry["event"] == "job_waits" for entry in logs)

        async def sent() -> bool:
            return await statuses(database) == [("SENT", 1)] * 2

        await eventually(turned_away, what="the server turns us away")
        await queued(database, people, "b@example.org")
        await mailbox.faults(down=False)
        await eventually(sent, what="both mails are sent")
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_e3_what_became_of_a_mail_is_told_in_the_trace_of_what_asked_for_it(
    database: Database, people: People, mailbox: Mailbox
) -> None:
    """Review 1, E3: mails are sent by a job that does many at once, each for another order."""
    causes = {}
    for email in ("zoe@example.org", "ann@example.org"):
        cause = SpanContext(trace_id=uuid4().int, span_id=0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        command = confirmation(people.customer(email))
        causes[str(command.order_id)] = format(cause.trace_id, "032x")
        with trace.use_span(NonRecordingSpan(cause)):
            await commands.send_notification(database, command)
    assert await delivery(database, people, mailbox.port).send_due() == 2
    async with database.reading() as session:
        envelopes = (await session.execute(select(outbox.table.c.envelope))).scalars().all()
    assert [envelope["type"] for envelope in envelopes] == ["NotificationSent"] * 2
    assert {envelope["subject"]: envelope["traceparent"].split("-")[1] for envelope in envelopes} == causes

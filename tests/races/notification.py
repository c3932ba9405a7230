"""Notification's commands, and what always holds of notifications and their deliveries."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from random import Random
from uuid import UUID

from chassis.clock import utc_now
from chassis.database import Database
from chassis.store import UnitOfWork, in_transaction
from contracts.notifications import NotificationKind, SendNotification
from services.notification import commands
from services.notification.channels import Channel, DeliveryNews, DeliveryState, OptOut
from services.notification.commands import Report, Staff, browsers, people
from services.notification.kinds import Group
from services.notification.model import LowStock, Outcome, Person
from services.notification.rendering import Source
from tests.races.machine import Command, Rows, Subject, seeded_uuid

LEASE = timedelta(minutes=5)
ATTEMPTS = 2
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NUMBER = "+4930123456"
TEXT = (NotificationKind.ORDER_CONFIRMED, Channel.EMAIL, "en")


@dataclass(frozen=True)
class Desk:
    """Notifications to one customer: two are queued, the first is sent. Something runs out in a warehouse."""

    customer: UUID
    orders: tuple[UUID, ...]
    sent: UUID


def told(desk_customer: UUID, order_id: UUID) -> SendNotification:
    return SendNotification(
        key=f"{order_id}:mail", kind=NotificationKind.CARD_NEEDED, customer_id=desk_customer, order_id=order_id, values={}
    )


async def prepare(database: Database, random: Random) -> Desk:
    customer, orders = seeded_uuid(random), tuple(seeded_uuid(random) for _ in range(3))
    first = await commands.send_notification(database, told(customer, orders[0]))
    claimed = await commands.claim_due(database, Channel.EMAIL, limit=1, lease=LEASE)
    await commands.record(database, [Report(one, Outcome.SENT) for one in claimed], attempts_allowed=ATTEMPTS)
    await commands.send_notification(database, told(customer, orders[1]))

    async def stock(work: UnitOfWork) -> None:
        work.add(LowStock(warehouse_id="410", product_id="milk", available=1, threshold=5, told_at=LONG_AGO))

    async def telephone(work: UnitOfWork) -> None:
        work.add(Person(person_id=customer, time_zone="UTC", phone=NUMBER))

    await in_transaction(database, stock)
    if random.random() < 0.5:
        await in_transaction(database, telephone)
    return Desk(customer, orders, first.notification_id)


def send(desk: Desk, random: Random) -> Command:
    command = told(desk.customer, random.choice(desk.orders))
    return lambda database: commands.send_notification(database, command)


def deliver(desk: Desk, random: Random) -> Command:
    """A process takes what is due, and writes down what became of it."""
    outcome, limit, times = random.choice(list(Outcome)), random.randint(1, 2), random.choice((1, 2))
    channel, is_gone = random.choice((Channel.EMAIL, Channel.EMAIL, Channel.PUSH)), random.choice((True, False))

    async def run(database: Database) -> None:
        claimed = await commands.claim_due(database, channel, limit=limit, lease=LEASE)
        reports = [Report(one, outcome, "test", is_gone=is_gone, held_until=utc_now() + LEASE) for one in claimed]
        for _ in range(times):  # a report may come twice
            await commands.record(database, reports, attempts_allowed=ATTEMPTS)

    return run


def hear(desk: Desk, random: Random) -> Command:
    news = DeliveryNews(
        id=seeded_uuid(Random(random.randint(1, 2))),
        provider="test",
        channel=Channel.EMAIL,
        state=random.choice(list(DeliveryState)),
        occurred_at=LONG_AGO,
        message_id=desk.sent,
    )
    return lambda database: commands.apply_delivery_news(database, news)


def verify(desk: Desk, random: Random) -> Command:
    return lambda database: in_transaction(database, lambda work: commands.send_suppressed(work, desk.customer, LONG_AGO))


def choose(desk: Desk, random: Random) -> Command:
    choices = {Group.DELIVERIES: {Channel.EMAIL: random.choice((True, False))}}
    quiet, seen = random.choice((None, (time(22), time(7)))), random.choice((None, 0, 1))
    return lambda database: people.choose(
        database, desk.customer, choices=choices, language=None, time_zone="UTC", quiet=quiet, seen=seen
    )


def add_browser(desk: Desk, random: Random) -> Command:
    endpoint = f"https://push.example/{random.randint(1, 2)}"

    return lambda database: browsers.subscribe(database, desk.customer, endpoint, {})


def want_phone(desk: Desk, random: Random) -> Command:
    return lambda database: people.want_phone(database, desk.customer, NUMBER)


def opt_out(desk: Desk, random: Random) -> Command:
    stops = random.choice((True, False))
    answer = OptOut(seeded_uuid(Random(f"{stops} {random.randint(1, 2)}")), NUMBER, stops, "test")
    return lambda database: commands.heed_opt_out(database, answer)


def read(desk: Desk, random: Random) -> Command:
    if random.choice((True, False)):
        return lambda database: people.mark_read(database, desk.customer, desk.sent)
    return lambda database: people.read_all(database, desk.customer, desk.sent)


def edit(desk: Desk, random: Random) -> Command:
    source = Source(random.choice(("One", "Two")), "Hello")
    return lambda database: commands.edit_template(database, *TEXT, source, seen=1)


def go_back(desk: Desk, random: Random) -> Command:
    return lambda database: commands.go_back(database, *TEXT, 1, seen=1)


def digest(desk: Desk, random: Random) -> Command:
    return lambda database: commands.send_digests(database, Staff(), time(0))


def forget(desk: Desk, random: Random) -> Command:
    return lambda database: in_transaction(database, lambda work: commands.forget_customer(work, desk.customer))


COMMANDS: dict[str, Callable[[Desk, Random], Command]] = {
    "send": send,
    "deliver": deliver,
    "hear": hear,
    "verify": verify,
    "choose": choose,
    "add browser": add_browser,
    "want phone": want_phone,
    "opt out": opt_out,
    "read": read,
    "edit text": edit,
    "go back": go_back,
    "digest": digest,
    "forget": forget,
}


def broken(rows: Rows, desk: Desk) -> Sequence[str]:
    """A notification has one row, a delivery for each channel and address, and what became of it is told once."""
    wrong = []
    keys = Counter(row["key"] for row in rows["notifications"])
    ways = Counter((row["notification_id"], row["channel"], row["target"]) for row in rows["deliveries"])
    told = Counter(
        (row["envelope"]["data"]["notification_id"], row["envelope"]["data"].get("channel", "email"), row["envelope"]["type"])
        for row in rows["outbox"]
    )
    wrong += [f"{key} is there {times} times" for key, times in keys.items() if times > 1]
    wrong += [f"{way} is taken {times} times" for way, times in ways.items() if times > 1]
    wrong += [f"{one} was told {times} times" for one, times in told.items() if times > 1]
    known = {row["notification_id"] for row in rows["notifications"]}
    tries = Counter(row["delivery_id"] for row in rows["attempts"])
    for row in rows["deliveries"]:
        what = (row["notification_id"], row["channel"])
        if row["notification_id"] not in known:
            wrong.append(f"{what} is about nothing")
        if row["attempts"] > ATTEMPTS or row["attempts"] != tries[row["delivery_id"]]:
            wrong.append(f"{what} was tried {row['attempts']} times, and {tries[row['delivery_id']]} are written down")
        expected = {"SENT": "NotificationSent", "FAILED": "NotificationFailed", "DELIVERED": "EmailDelivered"}.get(row["status"])
        if expected and not told[(*what, expected)]:
            wrong.append(f"{what} is {row['status']}, and that was not told")
        if row["status"] in ("PENDING", "SUPPRESSED", "WAITING") and (told[(*what, "NotificationFailed")]):
            wrong.append(f"{what} is {row['status']}, and something else was told")
    return wrong


# A code that is asked for while its person is forgotten stays queued; when it is sent, there is no number any more.
LOOSE = frozenset({"deliver", "want phone"})
SUBJECT = Subject("notification", prepare, COMMANDS, broken, loose=LOOSE)

"""Notification's commands, and what always holds of mails."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from uuid import UUID

from chassis.database import Database
from chassis.store import in_transaction
from contracts.notifications import NotificationKind, SendNotification
from services.notification import commands
from services.notification.commands import Report
from services.notification.model import Outcome
from tests.races.machine import Command, Rows, Subject, seeded_uuid

LEASE = timedelta(minutes=5)
ATTEMPTS = 2


@dataclass(frozen=True)
class Desk:
    """Mails to one customer: two are queued."""

    customer: UUID
    orders: tuple[UUID, ...]


def mail(desk: Desk, order_id: UUID) -> SendNotification:
    return SendNotification(
        key=f"{order_id}:mail", kind=NotificationKind.ORDER_CONFIRMED, customer_id=desk.customer, order_id=order_id, values={}
    )


async def prepare(database: Database, random: Random) -> Desk:
    desk = Desk(seeded_uuid(random), tuple(seeded_uuid(random) for _ in range(3)))
    for order_id in desk.orders[:2]:
        await commands.send_notification(database, mail(desk, order_id))
    return desk


def send(desk: Desk, random: Random) -> Command:
    command = mail(desk, random.choice(desk.orders))
    return lambda database: commands.send_notification(database, command)


def deliver(desk: Desk, random: Random) -> Command:
    """A process takes what is due, and writes down what became of it."""
    outcome, limit, times = random.choice(list(Outcome)), random.randint(1, 2), random.choice((1, 2))

    async def run(database: Database) -> None:
        claimed = await commands.claim_due(database, limit=limit, lease=LEASE)
        reports = [Report(one, outcome, "test") for one in claimed]
        for _ in range(times):  # a report may come twice
            await commands.record(database, reports, attempts_allowed=ATTEMPTS)

    return run


def edit(desk: Desk, random: Random) -> Command:
    subject = random.choice(("One", "Two"))
    return lambda database: commands.edit_template(
        database, NotificationKind.ORDER_CONFIRMED, subject=subject, body="Hello", seen=1
    )


def forget(desk: Desk, random: Random) -> Command:
    return lambda database: in_transaction(database, lambda work: commands.forget_customer(work, desk.customer))


COMMANDS: dict[str, Callable[[Desk, Random], Command]] = {
    "send": send,
    "deliver": deliver,
    "edit template": edit,
    "forget": forget,
}


def broken(rows: Rows, desk: Desk) -> Sequence[str]:
    """A mail has one row, and its end is told once."""
    wrong = []
    keys = Counter(row["key"] for row in rows["notifications"])
    told = Counter(row["envelope"]["data"]["notification_id"] for row in rows["outbox"])
    wrong += [f"{key} is there {times} times" for key, times in keys.items() if times > 1]
    wrong += [f"{key} was told of {times} times" for key, times in told.items() if times > 1]
    for row in rows["notifications"]:
        if row["attempts"] > ATTEMPTS:
            wrong.append(f"{row['key']} was tried {row['attempts']} times")
        if (row["status"] in ("SENT", "FAILED")) != bool(told[row["notification_id"]]):
            wrong.append(f"{row['key']} is {row['status']}, and that was told {told[row['notification_id']]} times")
    return wrong


SUBJECT = Subject("notification", prepare, COMMANDS, broken, loose=frozenset({"deliver"}))

"""What notification does on events: it tells what told.py says, and acts on a few."""

from collections.abc import Sequence
from functools import partial

from chassis.consumer import BatchHandler, Subscription
from chassis.store import UnitOfWork
from contracts.events import (
    AccountMailRequested,
    CloudEvent,
    CustomerForgotten,
    EmailChanged,
    EmailVerified,
    Event,
    LowStockAlert,
)
from services.notification import commands
from services.notification.commands import Staff, digest
from services.notification.told import TOLD, Acts, told_by

GATHER_MS = 500


async def on_account_mail(work: UnitOfWork, event: AccountMailRequested, _: CloudEvent) -> None:
    await commands.queue_account_mail(work, event)


async def on_verified(work: UnitOfWork, event: EmailVerified, envelope: CloudEvent) -> None:
    await commands.send_suppressed(work, event.customer_id, envelope.time)


async def on_email_changed(work: UnitOfWork, event: EmailChanged, envelope: CloudEvent) -> None:
    await commands.send_suppressed(work, event.customer_id, envelope.time, is_new=True)


async def on_customer_forgotten(work: UnitOfWork, event: CustomerForgotten, _: CloudEvent) -> None:
    await commands.forget_customer(work, event.customer_id)


async def tell(staff: Staff, work: UnitOfWork, events: Sequence[tuple[Event, CloudEvent]]) -> None:
    """Of all events that have come together, whom they tell what."""
    await commands.queue_all(work, staff, [one for event, envelope in events for one in told_by(event, envelope)])


def subscription(staff: Staff) -> Subscription:
    """Made of the table: topics of which nobody is told anything are not read."""
    telling = [kind for kind, row in TOLD.items() if isinstance(row, tuple)]
    acting = [kind for kind, row in TOLD.items() if isinstance(row, Acts)]
    tell_all: BatchHandler = partial(tell, staff)
    return Subscription(
        topics=tuple(dict.fromkeys(kind.topic for kind in (*acting, *telling))),
        handlers={
            AccountMailRequested: on_account_mail,
            EmailVerified: on_verified,
            EmailChanged: on_email_changed,
            CustomerForgotten: on_customer_forgotten,
        },
        batch={**dict.fromkeys(telling, tell_all), LowStockAlert: digest.gather},
        gather_ms=GATHER_MS,  # it reads everything that happens, and nobody waits for what it tells
    )

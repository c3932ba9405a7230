"""To claim what is due on a channel, and to write down what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, select
from sqlmodel import col

from chassis.clock import utc_now
from chassis.statements import locked, prepared, sql
from chassis.store import UnitOfWork, transaction
from chassis.telemetry import RequestContext
from contracts.events import Event
from services.notification.channels import Channel
from services.notification.kinds import KINDS
from services.notification.model import (
    COUNTED,
    IN_VAIN,
    Attempt,
    Delivery,
    DeliveryStatus,
    Notification,
    Outcome,
    Person,
    first_delivery,
    next_channel,
    nobody_yet,
    outbox,
)

MOST_ATTEMPTS = 106
"""So many take a day: a provider that is away does not always say so, but may put off each message for hours."""
_IDS = bindparam("ids", type_=ARRAY(Uuid))
_DUE = locked(
    Delivery,
    (col(Delivery.channel) == bindparam("channel")) & (col(Delivery.due_at) <= bindparam("now")),
    order_by=col(Delivery.due_at),
    limit=bindparam("limit"),
    skip_locked=True,
)
_THESE = locked(Delivery, col(Delivery.delivery_id) == any_(_IDS))
_OF_NOTIFICATION = prepared(
    select(col(Delivery.channel), col(Delivery.status)).where(col(Delivery.notification_id) == bindparam("notification_id"))
)
_TAKE_OVER = sql(
    """with old as (
         select notification_id from notifications
         where not is_planned and (due_at is null or due_at <= :now)
         order by notification_id limit :limit for update skip locked),
       taken as (
         update notifications as n set is_planned = true, due_at = null, reason = null
         from old join notifications as before using (notification_id) where n.notification_id = old.notification_id
         returning n.notification_id, before.status, before.attempts, before.due_at, before.reason, before.sent_at)
       insert into deliveries (delivery_id, notification_id, channel, target, status, attempts, due_at, reason, sent_at)
       select notification_id, notification_id, 'email', '', status, attempts, due_at, reason, sent_at from taken
       returning 1"""
)


@dataclass(frozen=True)
class ClaimedDelivery:
    """A delivery that this process may make until its lease ends, and what it is about."""

    delivery: Delivery
    notification: Notification
    lease: datetime


@dataclass(frozen=True)
class Report:
    """What became of a claimed delivery. `is_gone`: the address is dead. `held_until`: of what is held. Of what was put off,
    `pause`: how long the provider wants us to wait before the next try; `not_taken`: the provider said so."""

    claimed: ClaimedDelivery
    outcome: Outcome
    reason: str | None = None
    provider_id: str | None = None
    is_gone: bool = False
    held_until: datetime | None = None
    pause: timedelta = timedelta()
    not_taken: bool = False


@transaction
async def claim_due(work: UnitOfWork, channel: Channel, *, limit: int, lease: timedelta) -> list[ClaimedDelivery]:
    """Take what is due on a channel, the longest waiting first; no other process gets it while the lease lasts."""
    now = utc_now()
    deliveries = await work.all(_DUE, channel=channel, now=now, limit=limit)
    if not deliveries:
        return []
    for delivery in deliveries:
        delivery.claim(now + lease)
    read = await work.read_all(Notification, {delivery.notification_id for delivery in deliveries})
    about = {notification.notification_id: notification for notification in read}
    return [ClaimedDelivery(delivery, about[delivery.notification_id], now + lease) for delivery in deliveries]


@transaction
async def record(work: UnitOfWork, reports: Sequence[Report], *, attempts_allowed: int) -> None:
    """Write down what became of claimed deliveries, with each attempt; where one failed for good, let another channel try.
    What the provider puts off, and no other channel can take, is given up after `MOST_ATTEMPTS` only."""
    by_id = {report.claimed.delivery.delivery_id: report for report in reports}
    events: list[Event] = []
    causes, in_vain = [], []
    for delivery in await work.all(_THESE, ids=list(by_id)):
        report = by_id[delivery.delivery_id]
        about, before, tried = report.claimed.notification, delivery.status, delivery.attempts
        event = delivery.report(
            about,
            report.claimed.lease,
            report.outcome,
            report.reason,
            attempts_allowed=await _allowed(work, report, attempts_allowed),
            provider_id=report.provider_id,
            held_until=report.held_until,
            pause=report.pause,
        )
        if event is not None:
            events.append(event)
            causes.append(RequestContext(about.traceparent, None))
        if report.outcome in COUNTED and delivery.attempts > tried:
            work.add(
                Attempt(
                    delivery_id=delivery.delivery_id, number=delivery.attempts, outcome=report.outcome, reason=delivery.reason
                )
            )
        if delivery.status in IN_VAIN and delivery.status is not before:
            in_vain.append((report, delivery))
    in_vain.sort(key=lambda one: str(one[0].claimed.notification.customer_id))  # so that two never wait for each other
    for report, delivery in in_vain:
        if report.is_gone and report.claimed.notification.customer_id:
            person = await person_for_change(work, report.claimed.notification.customer_id)
            person.address_is_dead(delivery.channel, delivery.target, report.reason or "refused", None)
        await take_another_channel(work, report.claimed.notification)
    outbox.add(work, *events, causes=causes)


async def _allowed(work: UnitOfWork, report: Report, attempts_allowed: int) -> int:
    """How often it is tried."""
    is_last = report.not_taken and report.claimed.delivery.attempts + 1 >= attempts_allowed
    if not is_last or await _reached_otherwise(work, report.claimed.notification):
        return attempts_allowed
    return max(attempts_allowed, MOST_ATTEMPTS)


async def _reached_otherwise(work: UnitOfWork, notification: Notification) -> bool:
    """Whether there is a channel that it has not taken, and could."""
    fallback = KINDS[notification.kind].fallback
    if not fallback or notification.customer_id is None:
        return False
    rows = await work.rows(_OF_NOTIFICATION, notification_id=notification.notification_id)
    taken = {Channel(row["channel"]) for row in rows}
    person = await work.read(Person, notification.customer_id) or nobody_yet(notification.customer_id)
    return any(person.targets(channel, notification.kind) for channel in fallback if channel not in taken)


async def take_another_channel(work: UnitOfWork, notification: Notification) -> None:
    """If all channels that a notification took have failed for good, and its kind has others: take the next at which the person
    is reached."""
    fallback = KINDS[notification.kind].fallback
    if not fallback or notification.customer_id is None:
        return
    rows = await work.rows(_OF_NOTIFICATION, notification_id=notification.notification_id)
    tried = [(Channel(row["channel"]), DeliveryStatus(row["status"])) for row in rows]
    person = await work.read(Person, notification.customer_id) or nobody_yet(notification.customer_id)
    reached = [channel for channel in fallback if person.targets(channel, notification.kind)]
    channel = next_channel(reached, tried)
    if channel is not None:
        work.add(*[first_delivery(notification, channel, target) for _, target in person.targets(channel, notification.kind)])


async def person_for_change(work: UnitOfWork, person_id: UUID) -> Person:
    """Somebody's row, locked; a new one for who has chosen nothing yet."""
    person = await work.get(Person, person_id)
    return person if person is not None else (await work.get_or_add(Person(person_id=person_id)))[0]


@transaction
async def new_phone_code(work: UnitOfWork, person_id: UUID, secret: bytes) -> tuple[str, str]:
    """The number that is to be proven, and a new code, which is sent and stored nowhere. Refusal: not_found, if none is."""
    return (await person_for_change(work, person_id)).new_code(secret)


@transaction
async def take_over(work: UnitOfWork, *, limit: int = 500) -> bool:
    """Make deliveries of mails that a build before this one has queued; whether there may be more of them."""
    return len(await work.rows(_TAKE_OVER, now=utc_now(), limit=limit)) == limit

"""To tell somebody something: a notification, and a delivery for each channel that it takes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, select
from sqlmodel import col, or_

from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import NOT_ALL, Prepared, Write, locked, prepared, table_of
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts.events import AccountMailRequested
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from services.notification.channels import Channel
from services.notification.kinds import KINDS
from services.notification.model import (
    DEFAULT_LANGUAGE,
    SUPPRESSED_FOR,
    UNSENT,
    Audience,
    Delivery,
    Notification,
    Person,
    first_delivery,
)


def _people() -> Prepared:
    table = table_of(Person)
    these = col(Person.person_id) == any_(bindparam("ids", type_=ARRAY(Uuid)))
    return prepared(select(*[table.columns[name] for name in table.names]).where(these))


_PEOPLE = _people()
_IS_STRANGER = "select 1 / (not exists (select 1 from people where person_id = $1))::int"
"""Fails, and with it the statement that it is a part of, if somebody has chosen something."""
_UNSENT_MAILS = locked(
    Delivery,
    (col(Delivery.channel) == Channel.EMAIL)
    & or_(*[col(Delivery.status) == status for status in sorted(UNSENT)])
    & col(Delivery.notification_id).in_(
        select(col(Notification.notification_id))
        .where(col(Notification.customer_id) == bindparam("customer"))
        .where(col(Notification.request_id).is_(None))
        .where(col(Notification.created_at) > bindparam("since"))
    ),
)
"""Mails to a customer that have not been sent; those that identity wants sent apart, which are sent to any address."""


@dataclass(frozen=True)
class Staff:
    """Where the staff is told by mail, by their work; nowhere: they are told in the inbox alone."""

    addresses: Mapping[Audience, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """Something that is to be told. `about`: names the order, the parcel or the event that it is about, of which one notification
    of a kind is made."""

    kind: NotificationKind
    about: str
    values: dict[str, str]
    audience: Audience = Audience.CUSTOMER
    customer_id: UUID | None = None
    order_id: UUID | None = None
    warehouse_id: str | None = None
    traceparent: str | None = None


async def send_notification(database: Database, command: SendNotification) -> NotificationQueued:
    """Tell a customer; the saga waits for this, so it is one statement, unless the customer has chosen something, or this was
    asked for before."""
    try:
        return await _queue_for_stranger(database, command)
    except (AlreadyThere, NOT_ALL):
        return await _queue_once(database, command)


@transaction
async def _queue_for_stranger(work: UnitOfWork, command: SendNotification) -> NotificationQueued:
    """Raises AlreadyThere, or NOT_ALL if the customer has chosen something."""
    notification = _made(None, **dict(command))
    work.add(notification, *_deliveries(notification, None))
    work.at_last(Write(_IS_STRANGER, [command.customer_id], 1))
    return NotificationQueued(notification_id=notification.notification_id)


@transaction
async def _queue_once(work: UnitOfWork, command: SendNotification) -> NotificationQueued:
    person = await work.read(Person, command.customer_id)
    notification, is_new = await work.get_or_add(_made(person, **dict(command)), "key")
    if is_new:
        work.add(*_deliveries(notification, person))
    return NotificationQueued(notification_id=notification.notification_id)


async def queue_all(work: UnitOfWork, staff: Staff, told: Sequence[Told]) -> None:
    """Tell all of this, as a part of the consumer's transaction; what was told before is passed over."""
    customers = {one.customer_id for one in told if one.customer_id}
    people = people_in(await work.rows(_PEOPLE, ids=list(customers))) if customers else {}
    new = []
    for one in told:
        of_trace = {"traceparent": one.traceparent} if one.traceparent else {}
        person = people.get(one.customer_id) if one.customer_id else None
        new.append(
            _made(
                person,
                key=f"{one.about}:{one.kind}",
                kind=one.kind,
                audience=one.audience,
                customer_id=one.customer_id,
                order_id=one.order_id,
                warehouse_id=one.warehouse_id,
                values=one.values,
                **of_trace,
            )
        )
    for notification in await work.add_new(new):
        person = people.get(notification.customer_id) if notification.customer_id else None
        work.add(*_deliveries(notification, person, staff))


async def queue_account_mail(work: UnitOfWork, event: AccountMailRequested) -> None:
    """Queue a mail that identity wants sent. It is no business of the inbox."""
    mail = Notification(key=f"account:{event.request_id}", **dict(event))
    if await work.add_new([mail]):
        work.add(first_delivery(mail, Channel.EMAIL))


async def send_suppressed(work: UnitOfWork, customer_id: UUID, at: datetime, *, is_new: bool = False) -> None:
    """The customer's address is verified now: what was held back of late is due. `is_new`: it is another address than before, of
    which no older news are true."""
    # Deliveries are locked before people, everywhere.
    for delivery in await work.all(_UNSENT_MAILS, customer=customer_id, since=utc_now() - SUPPRESSED_FOR):
        delivery.address_verified()
    person = await work.get(Person, customer_id)
    if person is None and is_new:
        person, _ = await work.get_or_add(Person(person_id=customer_id))
    if person is not None:
        person.email_verified(at)


async def people_of(database: Database, ids: Collection[UUID]) -> dict[UUID, Person]:
    """What people have chosen; who has chosen nothing is not in it."""
    return people_in(await database.rows(_PEOPLE, ids=list(ids)))


def people_in(rows: Iterable[Any]) -> dict[UUID, Person]:
    table = table_of(Person)
    found = [table.made(row)[0] for row in rows]
    return {person.person_id: person for person in found}


def _made(person: Person | None, **facts: Any) -> Notification:
    """A notification as this person wants it."""
    notification = Notification(language=(person and person.language) or DEFAULT_LANGUAGE, **facts)
    policy = KINDS[notification.kind]
    wants = person.wants(notification.kind, Channel.INBOX) if person else Channel.INBOX in policy.channels
    notification.is_in_inbox = wants
    return notification


def _deliveries(notification: Notification, person: Person | None, staff: Staff | None = None) -> list[Delivery]:
    """By which channels it is sent, to which addresses."""
    channels = KINDS[notification.kind].channels
    if notification.audience is not Audience.CUSTOMER:
        addresses = staff.addresses.get(notification.audience, ()) if staff and Channel.EMAIL in channels else ()
        return [first_delivery(notification, Channel.EMAIL, address) for address in addresses]
    if person is None:
        return [first_delivery(notification, Channel.EMAIL)] if Channel.EMAIL in channels else []
    return [first_delivery(notification, channel, target) for channel, target in person.routes(notification.kind)]

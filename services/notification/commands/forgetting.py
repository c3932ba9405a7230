"""To forget a person."""

from uuid import UUID

from sqlalchemy import bindparam, select
from sqlmodel import col, or_

from chassis.statements import locked, sql
from chassis.store import UnitOfWork
from services.notification.model import UNSENT, Delivery, Notification, Person

_NAMING = locked(
    Delivery,
    or_(col(Delivery.reason).is_not(None), *[col(Delivery.status) == status for status in sorted(UNSENT)])
    & col(Delivery.notification_id).in_(
        select(col(Notification.notification_id)).where(col(Notification.customer_id) == bindparam("customer"))
    ),
)
"""What may yet be sent to a customer, and of which a provider said something."""
_BLANK = sql(
    """update attempts set reason = null where reason is not null and delivery_id in (
         select delivery_id from deliveries join notifications using (notification_id) where customer_id = :customer)"""
)
_UNREAD = [sql(f"delete from {table} where person_id = :customer") for table in ("read_marks", "inbox_readers")]  # noqa: S608
_OUT_OF_INBOX = sql("update notifications set is_in_inbox = false where customer_id = :customer and is_in_inbox")


async def forget_customer(work: UnitOfWork, customer_id: UUID) -> None:
    """Send a customer nothing any more, blank what providers said of earlier messages, and forget what the person has chosen and
    where the person was reached, as a part of the consumer's transaction."""
    for delivery in await work.all(_NAMING, customer=customer_id):
        delivery.forget_person()
    for statement in (_BLANK, _OUT_OF_INBOX, *_UNREAD):
        await work.rows(statement, customer=customer_id)
    person = await work.get(Person, customer_id)
    if person is not None:
        await work.delete(person)

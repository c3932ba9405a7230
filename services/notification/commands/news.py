"""What a provider tells later of a message that it took: it arrived, came back, or nobody wants it."""

from uuid import UUID

from sqlalchemy import bindparam, select
from sqlmodel import col

from chassis.database import Database
from chassis.statements import locked, prepared, table_of
from chassis.store import UnitOfWork, transaction
from chassis.telemetry import RequestContext
from services.notification.channels import Channel, DeliveryNews, DeliveryState, OptOut
from services.notification.commands.delivering import person_for_change, take_another_channel
from services.notification.kinds import CHOSEN_GROUPS, GROUPS
from services.notification.model import Delivery, DeliveryStatus, Notification, Person, inbox, outbox

_NOTIFICATION = table_of(Notification)
_ABOUT = (
    select(col(Delivery.delivery_id).label("delivery"), *[_NOTIFICATION.columns[name] for name in _NOTIFICATION.names])
    .join(Notification, col(Notification.notification_id) == col(Delivery.notification_id))
    .where(col(Delivery.channel) == bindparam("channel"))
)
_BY_ID = prepared(_ABOUT.where(col(Delivery.delivery_id) == bindparam("message_id")))
_BY_PROVIDER_ID = prepared(_ABOUT.where(col(Delivery.provider_id) == bindparam("provider_id")))
_OF_NUMBER = locked(Person, col(Person.phone) == bindparam("number"))


async def apply_delivery_news(database: Database, news: DeliveryNews) -> bool:
    """Take in what a provider tells of a message, once however often it comes (`news.id`). False: there is no such message, or
    not yet, because its receipt is still on its way; nothing is written down then, so that the same news may come again."""
    if news.message_id is not None:
        found = await database.rows(_BY_ID, channel=news.channel, message_id=news.message_id)
    else:
        found = await database.rows(_BY_PROVIDER_ID, channel=news.channel, provider_id=news.provider_id)
    if not found:
        return False
    [(delivery_id, *about)] = found
    return await _apply(database, news, delivery_id, _NOTIFICATION.made(about)[0])


@transaction
async def _apply(work: UnitOfWork, news: DeliveryNews, delivery_id: UUID, notification: Notification) -> bool:
    delivery = await work.get(Delivery, delivery_id)
    if delivery is None:
        return False
    # That it arrived is no news the second time; what comes of anything else must not come of it twice.
    if news.state is not DeliveryState.DELIVERED and not await inbox.claim(work, [news.id]):
        return True
    before = delivery.status
    events = delivery.hear(notification, news.state, news.reason, news.occurred_at)
    if notification.customer_id is not None:
        await _heed(work, news, delivery, notification.customer_id)
        if delivery.status is DeliveryStatus.BOUNCED and before is not DeliveryStatus.BOUNCED:
            await take_another_channel(work, notification)
    outbox.add(work, *events, causes=[RequestContext(notification.traceparent, None)] * len(events))
    return True


async def _heed(work: UnitOfWork, news: DeliveryNews, delivery: Delivery, customer_id: UUID) -> None:
    """A dead address gets nothing more. Who complains of mails gets only those that must be; who does so of SMS, none."""
    is_dead = news.state is DeliveryState.BOUNCED and news.permanent
    is_unwanted = news.state is DeliveryState.COMPLAINED
    if is_dead or (is_unwanted and news.channel is not Channel.EMAIL):
        person = await person_for_change(work, customer_id)
        person.address_is_dead(news.channel, delivery.target, news.reason or news.state, delivery.sent_at)
    elif is_unwanted:
        person = await person_for_change(work, customer_id)
        person.mute([group for group in CHOSEN_GROUPS if not GROUPS[group].is_required], news.channel)


@transaction
async def heed_opt_out(work: UnitOfWork, answer: OptOut) -> None:
    """Who has answered STOP is sent no SMS any more, until the number is proven again, or START is answered. One number may be
    that of several people."""
    if not await inbox.claim(work, [answer.id]):
        return
    for person in await work.all(_OF_NUMBER, number=answer.number):
        if answer.stops:
            person.address_is_dead(Channel.SMS, "", answer.reason, None)
        else:
            person.wants_sms_again(answer.reason)

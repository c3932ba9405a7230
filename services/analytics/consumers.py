"""What analytics learns from other services' events. Each counts on the day on which it happened."""

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.consumer import Subscription
from contracts.events import TOPICS, CloudEvent, OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated, OrderRefunded
from services.analytics import commands


async def on_created(session: AsyncSession, event: OrderCreated, envelope: CloudEvent) -> None:
    await commands.note_placed(session, event, envelope.time)


async def on_confirmed(session: AsyncSession, event: OrderConfirmed, envelope: CloudEvent) -> None:
    await commands.note_confirmed(session, event, envelope.time)


async def on_cancelled(session: AsyncSession, event: OrderCancelled, envelope: CloudEvent) -> None:
    await commands.note_cancelled(session, event, envelope.time)


async def on_refunded(session: AsyncSession, event: OrderRefunded, envelope: CloudEvent) -> None:
    await commands.note_refunded(session, event, envelope.time)


async def on_completed(session: AsyncSession, event: OrderCompleted, envelope: CloudEvent) -> None:
    await commands.note_completed(session, event, envelope.time)


subscription = Subscription(
    TOPICS,
    {
        OrderCreated: on_created,
        OrderConfirmed: on_confirmed,
        OrderCancelled: on_cancelled,
        OrderRefunded: on_refunded,
        OrderCompleted: on_completed,
    },
)

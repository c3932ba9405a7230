"""What analytics learns from other services' events. Each counts on the day on which it happened."""

from collections.abc import Sequence

from chassis.consumer import Subscription
from chassis.store import UnitOfWork
from contracts.events import (
    ORDER,
    CloudEvent,
    OrderAmended,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderPartCancelled,
    OrderRefunded,
    ReturnCompleted,
)
from services.analytics import commands
from services.analytics.commands import OrderCreated, OrderEvent


async def on_orders(work: UnitOfWork, events: Sequence[tuple[OrderEvent, CloudEvent]]) -> None:
    await commands.take_in(work, [(event, envelope.time) for event, envelope in events])


subscription = Subscription(
    (ORDER,),
    batch=dict.fromkeys(
        (
            *(OrderCreated, OrderConfirmed, OrderAmended, OrderPartCancelled, OrderCancelled, OrderRefunded, OrderCompleted),
            ReturnCompleted,
        ),
        on_orders,
    ),
)

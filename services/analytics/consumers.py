"""What analytics learns from other services' events. Each counts on the day on which it happened."""

from collections.abc import Sequence

from chassis.consumer import Subscription
from chassis.store import UnitOfWork
from contracts.events import ORDER, CloudEvent, OrderAmended, OrderCancelled, OrderCompleted, OrderConfirmed, OrderRefunded
from services.analytics import commands
from services.analytics.commands import OrderCreated, OrderEvent


async def on_orders(work: UnitOfWork, events: Sequence[tuple[OrderEvent, CloudEvent]]) -> None:
    await commands.take_in(work, [(event, envelope.time) for event, envelope in events])


async def on_amended(work: UnitOfWork, event: OrderAmended, envelope: CloudEvent) -> None:
    await commands.amend(work, event, envelope.time)


subscription = Subscription(
    (ORDER,),
    {OrderAmended: on_amended},
    batch=dict.fromkeys((OrderCreated, OrderConfirmed, OrderCancelled, OrderRefunded, OrderCompleted), on_orders),
)

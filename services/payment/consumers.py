"""What payment does on other services' events: it forgets by what a customer could be known again."""

from chassis.consumer import Subscription
from chassis.store import UnitOfWork
from contracts.events import FORGETTING, CloudEvent, OrderForgotten
from services.payment import commands


async def on_order_forgotten(work: UnitOfWork, event: OrderForgotten, _: CloudEvent) -> None:
    await commands.forget_order(work, event)


subscription = Subscription((FORGETTING,), {OrderForgotten: on_order_forgotten})

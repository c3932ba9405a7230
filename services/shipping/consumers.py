"""What shipping does on other services' events: it forgets where a customer's parcels went."""

from chassis.consumer import Subscription
from chassis.store import UnitOfWork
from contracts.events import FORGETTING, CloudEvent, OrderForgotten
from services.shipping.commands import parcels


async def on_order_forgotten(work: UnitOfWork, event: OrderForgotten, _: CloudEvent) -> None:
    await parcels.forget_order(work, event)


subscription = Subscription((FORGETTING,), {OrderForgotten: on_order_forgotten})

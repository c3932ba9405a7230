"""The calls that a saga makes: one module per service, one activity per command. They call, and nothing else.

What they raise is translated once, in temporal/refusals.py: a refusal is an answer, anything else is retried.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from activities.calls import Calls, ServiceActivities
from activities.inventory import InventoryActivities
from activities.notification import NotificationActivities
from activities.order import OrderActivities
from activities.payment import PaymentActivities
from activities.shipping import ShippingActivities

ALL: tuple[type[ServiceActivities], ...] = (
    OrderActivities,
    InventoryActivities,
    PaymentActivities,
    ShippingActivities,
    NotificationActivities,
)


def all_activities(calls_of: Callable[[str], Calls]) -> list[Callable[..., Awaitable[Any]]]:
    """Every activity, calling the services that `calls_of` finds by their names."""
    return [activity for kind in ALL for activity in kind(calls_of(kind.service)).activities()]

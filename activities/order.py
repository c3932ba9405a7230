"""The order's own record, which lists and customers read."""

from temporalio import activity

from activities.calls import Calls
from contracts.orders import AdvanceOrder, OpenOrder, OrderProgress


class OrderActivities:
    """Commands to the order service."""

    def __init__(self, order: Calls) -> None:
        self._order = order

    @activity.defn(name="OpenOrder")
    async def open(self, command: OpenOrder) -> OrderProgress:
        """Write the order down."""
        return await self._order.post("/internal/v1/orders/open", command, OrderProgress)

    @activity.defn(name="AdvanceOrder")
    async def advance(self, command: AdvanceOrder) -> OrderProgress:
        """Write down how far it got."""
        return await self._order.post("/internal/v1/orders/advance", command, OrderProgress)

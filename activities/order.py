"""The order's own record, which lists and customers read."""

from temporalio import activity

from activities.calls import ServiceActivities
from contracts.orders import AdvanceOrder, OrderProgress


class OrderActivities(ServiceActivities):
    service = "order"

    @activity.defn(name="AdvanceOrder")
    async def advance(self, command: AdvanceOrder) -> OrderProgress:
        """Write down how far it got."""
        return await self._calls.post("/internal/v1/orders/advance", command, OrderProgress)

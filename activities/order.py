"""The records of orders and returns, which lists and customers read, and the orders that returns bring."""

from temporalio import activity

from activities.calls import ServiceActivities
from contracts.orders import AdvanceOrder, OrderAdvanced
from contracts.returns import AdvanceReturn, PlaceReplacement, ReplacementPlaced, ReturnAdvanced


class OrderActivities(ServiceActivities):
    service = "order"

    @activity.defn(name="AdvanceOrder")
    async def advance(self, command: AdvanceOrder) -> OrderAdvanced:
        """Write down how far it got."""
        return await self._calls.post("/internal/v1/orders/advance", command, OrderAdvanced)

    @activity.defn(name="AdvanceReturn")
    async def advance_return(self, command: AdvanceReturn) -> ReturnAdvanced:
        """Write down how far one of its returns got."""
        return await self._calls.post("/internal/v1/orders/returns/advance", command, ReturnAdvanced)

    @activity.defn(name="PlaceReplacement")
    async def place_replacement(self, command: PlaceReplacement) -> ReplacementPlaced:
        """Place the order that an exchange or a claim brings."""
        return await self._calls.post("/internal/v1/orders/returns/replace", command, ReplacementPlaced)

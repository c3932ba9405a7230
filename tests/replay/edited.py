"""The order workflow as somebody might edit it: two edits that break orders in flight, and one made so that it does not."""

from datetime import timedelta

from temporalio import workflow

from workflows.order import OrderWorkflow

with workflow.unsafe.imports_passed_through():
    from contracts.orders import OrderRun, OrderState, OrderStatus
    from temporal.names import ORDER_WORKFLOW
    from workflows import order_steps as steps


@workflow.defn(name=ORDER_WORKFLOW)
class PaysFirst(OrderWorkflow):
    """Swaps two steps: orders in flight have reserved before they paid, and get the one's reply for the other's."""

    @workflow.init
    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, order: OrderRun) -> OrderState:
        return await super().run(order)

    async def _place(self) -> None:
        order, progress = self._order, self._progress
        if progress.status == OrderStatus.PENDING:
            await progress.do(steps.process_payment(order))
            await progress.do(steps.reserve_inventory(order))
        progress.become(OrderStatus.RESERVED, "Reserved")
        progress.become(OrderStatus.PAID, "Paid")
        await progress.do(steps.create_shipment(order, "410"))
        await self._confirm()


@workflow.defn(name=ORDER_WORKFLOW)
class PausesFirst(OrderWorkflow):
    """Adds a pause at the beginning, of which the histories of orders in flight know nothing."""

    @workflow.init
    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, order: OrderRun) -> OrderState:
        return await super().run(order)

    async def _place(self) -> None:
        await workflow.sleep(timedelta(seconds=1))
        await super()._place()


@workflow.defn(name=ORDER_WORKFLOW)
class PausesFirstFromNowOn(OrderWorkflow):
    """The same pause for new orders only: those in flight go on as they began."""

    @workflow.init
    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, order: OrderRun) -> OrderState:
        return await super().run(order)

    async def _place(self) -> None:
        if workflow.patched("pause-first"):
            await workflow.sleep(timedelta(seconds=1))
        await super()._place()

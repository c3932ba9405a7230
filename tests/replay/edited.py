"""The order workflow as somebody might edit it: orders that this build began are not for the tree, and the other way round."""

from datetime import timedelta

from temporalio import workflow

from workflows.order import OrderWorkflow

with workflow.unsafe.imports_passed_through():
    from contracts.orders import OrderRun, OrderState
    from temporal.names import ORDER_WORKFLOW


@workflow.defn(name=ORDER_WORKFLOW)
class PausesFirst(OrderWorkflow):
    """Adds a pause at the beginning, of which the histories of other orders know nothing."""

    @workflow.init
    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, order: OrderRun) -> OrderState:
        return await super().run(order)

    async def _place(self) -> None:
        await workflow.sleep(timedelta(seconds=1))
        await super()._place()

"""The order workflow as somebody might edit it: two edits that break orders in flight, and one made so that it does not."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from contracts.orders import OrderState, OrderStatus, PlaceOrder
    from temporal.names import ORDER_WORKFLOW
    from workflows import order_steps as steps
    from workflows.order import OrderWorkflow


@workflow.defn(name=ORDER_WORKFLOW)
class PaysFirst(OrderWorkflow):
    """Swaps two steps: orders in flight have reserved before they paid, and get the one's reply for the other's."""

    @workflow.init
    def __init__(self, order: PlaceOrder) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, order: PlaceOrder) -> OrderState:
        return await super().run(order)

    async def _place(self) -> None:
        order = self._order
        await self._do(steps.open_order(order, workflow.info().first_execution_run_id))
        self._opened = True
        self._saga.add(steps.refund_payment(order))
        payment = await self._do(steps.process_payment(order))
        self._saga.add(steps.release_inventory(order))
        reservation = await self._do(steps.reserve_inventory(order))
        self._become(OrderStatus.RESERVED, "Reserved")
        self._become(OrderStatus.PAID, f"Paid {payment.amount}")
        await self._do(steps.hold_inventory(order))
        self._saga.add(steps.cancel_shipment(order))
        shipment = await self._do(steps.create_shipment(order, reservation.warehouse_id or ""))
        self._tracking_number = shipment.tracking_number
        await self._confirm()


@workflow.defn(name=ORDER_WORKFLOW)
class ThinksItOver(OrderWorkflow):
    """Adds a pause at the beginning, of which the histories of orders in flight know nothing."""

    @workflow.init
    def __init__(self, order: PlaceOrder) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, order: PlaceOrder) -> OrderState:
        return await super().run(order)

    async def _place(self) -> None:
        await workflow.sleep(timedelta(seconds=1))
        await super()._place()


@workflow.defn(name=ORDER_WORKFLOW)
class ThinksItOverFromNowOn(OrderWorkflow):
    """The same pause for new orders only: those in flight go on as they began."""

    @workflow.init
    def __init__(self, order: PlaceOrder) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, order: PlaceOrder) -> OrderState:
        return await super().run(order)

    async def _place(self) -> None:
        if workflow.patched("think-it-over"):
            await workflow.sleep(timedelta(seconds=1))
        await super()._place()

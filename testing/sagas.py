"""Order sagas on a real Temporal server whose clock skips ahead, with the real activities on a model of the services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from temporalio.client import WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities import all_activities
from contracts.address import Address
from contracts.ids import order_workflow_id
from contracts.inventory import ReservationStatus
from contracts.money import Money
from contracts.orders import OrderLine, OrderRun, OrderState, OrderStatus, Outcome, PlaceOrder
from contracts.pricing import LineAmounts
from contracts.shipments import ShipmentStatus
from embedded import temporal as embedded_temporal
from temporal.client import data_converter
from temporal.names import ORDER_WORKFLOW, SEARCH_ATTRIBUTES
from temporal.refusals import RefusalInterceptor
from testing.model import World
from worker import SANDBOX, WORKFLOWS

LONG = 1000
"""So many events are a long history here: Temporal suggests to go on in another run."""


def place_order(
    *, needs_review: bool = False, review_seconds: int = 86_400, currency: str = "USD", priced: bool = False, **more: Any
) -> PlaceOrder:
    """An order of two lines for 23.40; `priced`: with a discount, shipping and tax in it. `more`: other fields of it."""
    milk, cheese = Money(amount=Decimal("2.70"), currency=currency), Money(amount=Decimal("18.00"), currency=currency)
    lines = (
        OrderLine(product_id="milk", name="Milk", quantity=2, unit_price=milk, weight_grams=1000),
        OrderLine(product_id="cheese", name="Cheese", quantity=1, unit_price=cheese, weight_grams=400),
    )
    if priced:
        lines = (
            lines[0].model_copy(update={"line_id": 1, "amounts": LineAmounts(items=540, discount=54, shipping=30, tax=24)}),
            lines[1].model_copy(update={"line_id": 2, "amounts": LineAmounts(items=1800, discount=180, shipping=100, tax=80)}),
        )
    return PlaceOrder(
        order_id=uuid4(),
        customer_id=uuid4(),
        lines=lines,
        total=more.pop("total", Money(amount=Decimal("23.40"), currency=currency)),
        ship_to=Address(name="Ann", line1="1 Main St", city="Springfield", region="IL", postal_code="62701", country="US"),
        payment_token="tok_visa",  # noqa: S106
        needs_review=needs_review,
        review_seconds=review_seconds,
        **more,
        placed_at=datetime.now(UTC),
    )


@asynccontextmanager
async def skipping_time(*, long: int = LONG) -> AsyncIterator[WorkflowEnvironment]:
    """Temporal's dev server with skipped time: a day's deadline passes in a moment. After `long` events a saga goes on in another
    run."""
    flags = [
        "frontend.WorkflowTimeSkippingEnabled=true",
        'history.timerProcessorMaxTimeShift="10ms"',
        f"limit.historyCount.suggestContinueAsNew={long}",
    ]
    async with await WorkflowEnvironment.start_time_skipping_v2(
        dev_server_existing_path=embedded_temporal.binary(),
        dev_server_log_level="error",
        dev_server_extra_args=[part for flag in flags for part in ("--dynamic-config-value", flag)],
        search_attributes=SEARCH_ATTRIBUTES,
        data_converter=data_converter,
    ) as env:
        yield env


class Saga:
    """One order's saga."""

    def __init__(self, env: WorkflowEnvironment, queue: str, order: PlaceOrder) -> None:
        self.env, self.queue, self.order = env, queue, order
        self.handle: WorkflowHandle[Any, OrderState] = env.client.get_workflow_handle(
            order_workflow_id(order.order_id), result_type=OrderState
        )

    async def place(self) -> Outcome:
        """Start it, or join it, and wait for the outcome."""
        start: WithStartWorkflowOperation[Any, OrderState] = WithStartWorkflowOperation(
            ORDER_WORKFLOW,
            self.order,
            id=self.handle.id,
            task_queue=self.queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )
        patience = timedelta(seconds=60)
        try:
            outcome = await self.env.client.execute_update_with_start_workflow(
                "place", start_workflow_operation=start, id="place-1", result_type=Outcome, rpc_timeout=patience
            )
        except WorkflowAlreadyStartedError:  # another request under the same id was faster by a hair
            outcome = await self.handle.execute_update("place", id="place-1", result_type=Outcome, rpc_timeout=patience)
        return Outcome.model_validate(outcome)

    async def start(self, run: OrderRun | None = None) -> None:
        """Start it and do not wait."""
        await self.env.client.start_workflow(ORDER_WORKFLOW, run or self.order, id=self.handle.id, task_queue=self.queue)

    async def update(self, name: str, argument: dict[str, Any]) -> OrderState:
        """Send one of the decisions."""
        return OrderState.model_validate(await self.handle.execute_update(name, argument, result_type=OrderState))

    async def state(self) -> OrderState:
        return OrderState.model_validate(await self.handle.query("status", result_type=OrderState))

    async def report(self, *statuses: str, parcel: int = 1) -> None:
        """The carrier's reports."""
        for status in statuses:
            await self.handle.signal("shipment_updated", {"status": status, "parcel": parcel})

    async def deliver(self) -> OrderState:
        """The carrier's reports; the saga's end."""
        await self.report("DISPATCHED", "DELIVERED")
        return await self.handle.result()


@asynccontextmanager
async def playing(env: WorkflowEnvironment, world: World, order: PlaceOrder) -> AsyncIterator[Saga]:
    """A worker runs inside."""
    world.orders.accept(order)
    queue = f"orders-{uuid4()}"
    async with Worker(
        env.client,
        task_queue=queue,
        workflows=WORKFLOWS,
        activities=all_activities(lambda service: world),
        interceptors=[RefusalInterceptor()],
        workflow_runner=SANDBOX,
        max_cached_workflows=10,
    ):
        yield Saga(env, queue, order)


def assert_settled(world: World, order: PlaceOrder) -> None:
    """What must hold once an order's saga has ended (design.md, section 7)."""
    order_id, nothing = order.order_id, Money.zero(order.total.currency)
    status = world.orders.records[order_id].status
    balance = world.payments.net(order_id, order.total.currency)
    promises = {promise.status for (of, _), promise in world.inventory.promises.items() if of == order_id}
    parcels = {parcel.status for (of, _), parcel in world.shipping.parcels.items() if of == order_id}
    assert ReservationStatus.RESERVED not in promises
    assert world.payments.held(order_id) == 0
    assert not any(payment.is_open for (of, _), payment in world.payments.payments.items() if of == order_id)
    if status == OrderStatus.CANCELLED:
        assert balance == nothing
        assert promises <= {ReservationStatus.RELEASED}
        assert parcels <= {ShipmentStatus.CANCELLED, ShipmentStatus.REFUSED}
    elif status == OrderStatus.REFUNDED:
        assert balance == nothing
    else:
        assert status == OrderStatus.COMPLETED
        assert balance == order.total
        assert ReservationStatus.SHIPPED in promises

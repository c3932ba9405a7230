"""Sagas of returns, as testing/sagas.py has those of orders."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities import all_activities
from contracts.ids import return_workflow_id
from contracts.money import Money
from contracts.orders import PlaceOrder
from contracts.payments import ProcessPayment
from contracts.returns import (
    Resolution,
    ReturnKind,
    ReturnLine,
    ReturnReason,
    ReturnRun,
    ReturnState,
    ReturnStatus,
    ReturnTerms,
    ReturnTimelineEntry,
)
from temporal.refusals import RefusalInterceptor
from temporal.returns import return_start_options
from testing.model import World
from testing.model.returns import ReturnRecord
from testing.model.world import WAREHOUSE
from testing.sagas import place_order
from testing.shop import until
from worker import SANDBOX, WORKFLOWS

WITHIN_S = 120.0
ANN = {"by": "ann", "reason": "looked at it"}
DAY = 86_400


def return_run(
    *,
    reason: ReturnReason = ReturnReason.CHANGED_MIND,
    terms: ReturnTerms | None = None,
    order: PlaceOrder | None = None,
    units: tuple[int, int] = (2, 1),
    **more: Any,
) -> ReturnRun:
    """A return of two bottles of milk and a cheese, or fewer, that cost 23.40 together. `more`: other fields of it."""
    order = order or place_order(priced=True)
    lines = [
        ReturnLine(line_id=line_id, product_id=product_id, quantity=quantity, parcel=1, reason=reason)
        for line_id, product_id, quantity in ((1, "milk", units[0]), (2, "cheese", units[1]))
        if quantity
    ]
    fields = {"kind": ReturnKind.RETURN, "resolution": Resolution.REFUND, "number": 1, **more}
    return ReturnRun(
        order_id=order.order_id,
        customer_id=order.customer_id,
        order_lines=order.lines,
        lines=tuple(lines),
        ship_from=order.ship_to,
        warehouse_id=WAREHOUSE,
        currency=order.total.currency,
        terms=terms or ReturnTerms(),
        requested_at=datetime.now(UTC),
        **fields,
    )


def everything(**condition: str) -> list[dict[str, Any]]:
    """Lines of a receipt: all of it came, in good condition or as said by product."""
    units = ((1, "milk", 2), (2, "cheese", 1))
    return [{"line_id": line, "quantity": units, "condition": condition.get(name, "good")} for line, name, units in units]


class ReturnSaga:
    """One return's saga."""

    def __init__(self, env: WorkflowEnvironment, world: World, queue: str, run: ReturnRun) -> None:
        self.env, self.world, self.queue, self.run = env, world, queue, run
        self.handle: WorkflowHandle[Any, ReturnState] = env.client.get_workflow_handle(
            return_workflow_id(run.order_id, run.number), result_type=ReturnState
        )

    async def start(self) -> None:
        options = return_start_options(self.run) | {"task_queue": self.queue}
        await self.env.client.start_workflow("Return", self.run, **options)

    async def update(self, name: str, argument: dict[str, Any], update_id: str | None = None) -> ReturnState:
        """Send one of the decisions."""
        return ReturnState.model_validate(await self.handle.execute_update(name, argument, id=update_id, result_type=ReturnState))

    async def receive(self, *lines: dict[str, Any], update_id: str | None = None) -> ReturnState:
        """The warehouse tells what has come."""
        receipt = ANN | {"lines": list(lines), "warehouse_id": WAREHOUSE}
        return await self.update("receive", receipt, update_id)

    async def cancel(self) -> ReturnState:
        return await self.update("cancel", {"reason": "changed my mind", "requested_by": "customer"})

    async def report(self, *statuses: str) -> None:
        """The carrier's reports."""
        for status in statuses:
            await self.handle.signal("label_updated", {"status": status})

    async def state(self) -> ReturnState:
        return ReturnState.model_validate(await self.handle.query("status", result_type=ReturnState))

    async def timeline(self) -> list[ReturnTimelineEntry]:
        entries: list[ReturnTimelineEntry] = await self.handle.query("timeline", result_type=list[ReturnTimelineEntry])
        return entries

    async def waits_for(self, words: str) -> ReturnState:
        """Returns once it waits for this."""

        async def there() -> bool:
            return words in (await self.state()).waiting_for

        await until(there, f"the return to wait for {words}", WITHIN_S)
        return await self.state()

    async def reaches(self, status: ReturnStatus) -> None:
        async def there() -> bool:
            return (await self.state()).status == status

        await until(there, f"the return to be {status}", WITHIN_S)

    async def tells(self, words: str) -> None:
        """Returns once the timeline says so, to staff or customers."""

        async def told() -> bool:
            return any(words in f"{entry.what} {entry.detail} {entry.for_staff}" for entry in await self.timeline())

        await until(told, f"the timeline to tell: {words}", WITHIN_S)

    async def calls(self, command: str, times: int = 1) -> None:
        async def called() -> bool:
            return self.world.calls.count(command) >= times

        await until(called, f"{command} to be called {times} times", WITHIN_S)

    async def later(self, seconds: float) -> None:
        """Let so much time pass for the saga, and a minute."""
        await self.env.fast_forward(self.handle, timedelta(seconds=seconds + 60))

    @property
    def record(self) -> ReturnRecord:
        return self.world.returns.records[self.run.order_id, self.run.number]

    @property
    def given(self) -> dict[str, str]:
        """What went back, by key."""
        return {key: f"{money.amount:.2f}" for (_, key), money in self.world.returns.given.items()}


def paid(world: World, order_id: UUID, customer_id: UUID, minor: int = 2340) -> None:
    """An order's money was taken."""
    command = ProcessPayment(
        order_id=order_id,
        customer_id=customer_id,
        amount=Money.from_minor(minor, "USD"),
        payment_token="tok_visa",  # noqa: S106
        ship_to_fingerprint="0" * 64,
    )
    world.payments.process(command)


@asynccontextmanager
async def returning(env: WorkflowEnvironment, world: World, run: ReturnRun) -> AsyncIterator[ReturnSaga]:
    """A worker runs inside. Time passes when the play says so."""
    world.returns.accept(run)
    paid(world, run.order_id, run.customer_id)
    queue = f"returns-{uuid4()}"
    async with Worker(
        env.client,
        task_queue=queue,
        workflows=WORKFLOWS,
        activities=all_activities(lambda service: world),
        interceptors=[RefusalInterceptor()],
        workflow_runner=SANDBOX,
        max_cached_workflows=10,
    ):
        with env.with_time_skipping_disabled():
            yield ReturnSaga(env, world, queue, run)

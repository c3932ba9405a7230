"""What happens to an order from its confirmation until its parcel has arrived: the carrier's reports, and the parcels that do not
arrive.

A parcel that is lost, comes back, is never handed over or is silent for too long waits for somebody to decide. If nobody does,
the first of its CHOICES is carried out.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.money import Money
    from contracts.orders import CancelRequest, OrderRun, OrderStatus, Outcome, UndoSettlement
    from contracts.parcels import CHOICES, ParcelChoice, Trouble
    from contracts.payments import Payment
    from contracts.shipments import ShipmentStatus, ShipmentUpdate
    from temporal.refusals import words_of
    from workflows import order_steps as steps
    from workflows.saga import Undo
    from workflows.shields import shielded

from workflows.messages import OrderMessages

ON_THE_WAY = frozenset({ShipmentStatus.DISPATCHED, ShipmentStatus.IN_TRANSIT, ShipmentStatus.DELIVERED})
WHAT_HAPPENED = {
    Trouble.NOT_PICKED_UP: "The parcel has not been handed over to the carrier yet",
    Trouble.SILENT: "Nothing was heard of the parcel for long",
    Trouble.LOST: "The carrier has lost the parcel",
    Trouble.RETURNED: "The parcel came back",
}
AFTER_A_YEAR = timedelta(days=365)


class Delivery(OrderMessages):
    """The part of an order's workflow that follows its parcel."""

    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)
        self._quiet_since = (order.so_far.quiet_since if order.so_far else None) or workflow.now()
        """When the parcel was last heard of or decided about."""
        self._is_overdue = False
        self._workflow_cancellation_heeded = False
        self._notifying: asyncio.Task[None] | None = None

    async def _cancel(self, reason: Refusal, for_staff: str) -> None:
        """Undo everything; or, if the parcel turns out to have left, go on."""
        raise NotImplementedError

    async def _deliver(self) -> None:
        """Follow the parcel, or a wish to cancel, until nothing more can happen."""
        self._quiet_since = workflow.now() if self._notifying else self._quiet_since
        watching = asyncio.create_task(self._watch())
        while not self._progress.is_final:
            self._heed_workflow_cancellation()
            self._progress.wait_for(self._what_it_waits_for())
            try:
                await workflow.wait_condition(self._has_something_to_do)
            except asyncio.CancelledError:
                self._heed_workflow_cancellation()
            await shielded(self._do_next())
            self._is_signalled = False
            if self._is_long() and not self._has_message() and self._is_notified():
                await self._go_on_in_another_run()
        watching.cancel()
        if self._notifying:
            await shielded(_finished(self._notifying))

    async def _do_next(self) -> None:
        if self._progress.status == OrderStatus.DELIVERED:
            await self._arrived()
        elif self._reports:
            await self._heed(self._reports.pop(0))
        elif self._cancellation:
            await self._cancel(Refusal(ErrorCode.CANCELLED_BY_REQUEST, "Cancelled."), "")
        elif self._parcel_decision:
            decision, self._parcel_decision = self._parcel_decision, None
            await self._carry_out(decision.choice, f"{decision.by}: {decision.reason}")
        elif self._is_overdue:
            self._is_overdue = False
            await self._nothing_happened()

    # ── What the carrier reports ─────────────────────────────────────────────────────────────────────────────────────────

    async def _heed(self, report: ShipmentUpdate) -> None:
        """Reports may be repeated, late, or skip one another."""
        if report.parcel != self._parcel:
            self._progress.note("News of another parcel", for_staff=f"parcel {report.parcel}: {report.status}")
            if report.status == ShipmentStatus.RETURNED:  # one that was lost before another was sent
                await steps.restock_inventory(self._order, report.parcel).run_durably()
            return
        self._quiet_since = workflow.now()
        if report.status in ON_THE_WAY:
            await self._moved(report.status)
        elif report.status == ShipmentStatus.LOST:
            await self._is_in_trouble(Trouble.LOST)
        elif report.status == ShipmentStatus.RETURNED:
            await self._is_in_trouble(Trouble.RETURNED)

    async def _moved(self, status: ShipmentStatus) -> None:
        progress = self._progress
        was_lost = progress.trouble is not None and self._has_left()
        if progress.trouble == Trouble.RETURNED or (was_lost and status == ShipmentStatus.DISPATCHED):
            return  # an old report, or one that is repeated: what was reported since is newer
        await self._require_shipped()
        if progress.status != OrderStatus.SHIPPED:
            progress.become(OrderStatus.SHIPPED, "Parcel found" if was_lost else "Parcel dispatched")
            progress.list_trouble(None)
            await progress.tell()
        if status == ShipmentStatus.DELIVERED:
            await self._arrived()

    async def _arrived(self) -> None:
        progress = self._progress
        if progress.status == OrderStatus.SHIPPED:
            progress.become(OrderStatus.DELIVERED, "Parcel delivered")
        progress.become(OrderStatus.COMPLETED, "Completed")
        progress.list_as()
        await progress.tell()

    async def _is_in_trouble(self, trouble: Trouble) -> None:
        progress = self._progress
        if progress.trouble in (trouble, Trouble.RETURNED):
            return
        if trouble in (Trouble.LOST, Trouble.RETURNED):
            await self._require_shipped()
        if progress.status == OrderStatus.UNDELIVERED:
            progress.note(WHAT_HAPPENED[trouble])
        else:
            progress.become(OrderStatus.UNDELIVERED, WHAT_HAPPENED[trouble])
        progress.list_trouble(trouble)
        await progress.tell()

    async def _require_shipped(self) -> None:
        """What has left is no longer reserved."""
        if not self._has_left():
            await self._progress.do(steps.ship_inventory(self._order, self._parcel))

    # ── What is decided ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _nothing_happened(self) -> None:
        """Nothing was heard, or decided, for too long."""
        self._quiet_since = workflow.now()
        trouble = self._progress.trouble
        if trouble is not None:
            await self._carry_out(CHOICES[trouble][0], "nobody decided in time")
        elif self._progress.status == OrderStatus.CONFIRMED:
            await self._is_in_trouble(Trouble.NOT_PICKED_UP)
        else:
            await self._is_in_trouble(Trouble.SILENT)

    async def _carry_out(self, choice: ParcelChoice, why: str) -> None:
        """What follows from a decision is done by durable activities only, so that the decision is in the history first."""
        progress, trouble = self._progress, self._progress.trouble
        if trouble is None or choice not in CHOICES[trouble]:
            progress.note("A decision came to nothing", for_staff=f"{choice} ({why}): the parcel has moved meanwhile")
            return
        self._quiet_since = workflow.now()
        progress.note("Decided about the parcel", for_staff=f"{choice}, {why}")
        if choice == ParcelChoice.WAIT:
            await self._wait_longer(trouble)
        elif choice == ParcelChoice.RESEND:
            await self._resend(trouble)
        elif trouble == Trouble.NOT_PICKED_UP:
            await self._cancel(Refusal(ErrorCode.CANCELLED_BY_REQUEST, "The parcel could not be sent."), why)
        else:
            await self._refund(trouble, restock=choice == ParcelChoice.REFUND_AND_RESTOCK)

    async def _wait_longer(self, trouble: Trouble) -> None:
        progress = self._progress
        if trouble == Trouble.NOT_PICKED_UP:
            progress.become(OrderStatus.CONFIRMED, "Waiting for the parcel to be handed over")
        elif trouble == Trouble.SILENT:
            progress.become(OrderStatus.SHIPPED, "Waiting for news of the parcel")
        else:
            return  # it stays in trouble; there is time again to decide about it
        progress.list_trouble(None)
        await progress.tell(durably=True)

    async def _resend(self, trouble: Trouble) -> None:
        """Send the goods once more. If that is refused, the parcel stays in trouble."""
        order, progress, saga = self._order, self._progress, self._saga
        if trouble == Trouble.RETURNED:
            await steps.restock_inventory(order, self._parcel).run_durably()
        self._parcels = parcel = self._parcels + 1
        saga.forget()
        saga.add(steps.release_inventory(order, parcel), steps.cancel_shipment(order, parcel))
        try:
            reservation = await steps.reserve_inventory(order, parcel).run_durably()
            shipment = await steps.create_shipment(order, reservation.warehouse_id or "", parcel).run_durably()
            tracking_number, warehouse_id = shipment.tracking_number, reservation.warehouse_id
        except FailureError as failure:
            try:
                await saga.ask_whether_it_can_be_undone()
            except Refusal as has_left:
                tracking_number, warehouse_id = has_left.extra.get("tracking_number"), progress.warehouse_id
            else:
                await saga.compensate()
                progress.note("The parcel could not be sent again", for_staff=words_of(failure))
                return
        self._parcel, progress.tracking_number, progress.warehouse_id = parcel, tracking_number, warehouse_id
        self._register_undos()
        progress.become(OrderStatus.CONFIRMED, "Another parcel is sent", for_staff=f"parcel {parcel}: {tracking_number}")
        progress.list_trouble(None)
        await progress.tell()

    async def _refund(self, trouble: Trouble, *, restock: bool) -> None:
        """Give the money back for goods that did not arrive; those that came back go on the shelf."""
        order, progress, saga = self._order, self._progress, self._saga
        saga.forget()
        saga.add(Undo(steps.refund_payment(order, f"parcel {trouble}")))
        if restock:
            saga.add(Undo(steps.restock_inventory(order, self._parcel)))
        done = await saga.compensate()
        progress.refunded = refunded_of(done, order.total.currency)
        progress.become(OrderStatus.REFUNDED, f"Refunded {progress.refunded}")
        progress.list_as()
        await progress.tell()

    def _register_undos(self) -> None:
        """All that may have to be undone of an order whose current parcel is booked, or may be."""
        order, parcel = self._order, self._parcel
        self._saga.forget()
        self._saga.add(
            steps.release_inventory(order, parcel), Undo(steps.refund_payment(order)), steps.cancel_shipment(order, parcel)
        )

    # ── What wakes it ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _has_message(self) -> bool:
        return bool(self._reports or self._cancellation or self._parcel_decision or self._is_overdue)

    def _has_something_to_do(self) -> bool:
        return self._has_message() or self._is_signalled or self._progress.status == OrderStatus.DELIVERED

    def _is_notified(self) -> bool:
        return self._notifying is None or self._notifying.done()

    def _is_long(self) -> bool:
        """Whether the history should go on in another run. To be asked after a signal or a timer; as a condition to wait for, it
        would depend on updates that were rejected, and those are in no history."""
        return workflow.info().is_continue_as_new_suggested()

    async def _go_on_in_another_run(self, *, review_until: datetime | None = None) -> None:
        """Does not return, unless something else has to be done first."""
        is_free = workflow.all_handlers_finished
        await workflow.wait_condition(lambda: is_free() or self._has_message() or self._is_decided())
        if self._has_message() or self._is_decided():
            return
        so_far = self._progress.so_far(
            review_until=review_until, parcel=self._parcel, parcels=self._parcels, quiet_since=self._quiet_since
        )
        workflow.continue_as_new(self._order.model_copy(update={"so_far": so_far}))

    def _is_decided(self) -> bool:
        return self._progress.status == OrderStatus.IN_REVIEW and self._approval is not None

    async def _watch(self) -> None:
        """Wake the story when nothing was heard of the parcel, or decided about it, for too long."""
        while True:
            await self._until(self._due())
            self._is_overdue = workflow.now() >= self._due()
            await workflow.wait_condition(lambda: not self._is_overdue)

    async def _until(self, due: datetime) -> None:
        """Return then, or when it turns out to be due earlier."""
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._due() < due,
                timeout=max(due - workflow.now(), timedelta(seconds=1)),
                timeout_summary="Until somebody has to look at the parcel",
            )

    def _due(self) -> datetime:
        order = self._order
        after = {
            OrderStatus.CONFIRMED: order.dispatch_seconds,
            OrderStatus.SHIPPED: order.silence_seconds,
            OrderStatus.UNDELIVERED: order.decision_seconds,
        }.get(self._progress.status)
        return self._quiet_since + (timedelta(seconds=after) if after else AFTER_A_YEAR)

    def _what_it_waits_for(self) -> str:
        progress = self._progress
        if progress.trouble:
            return f"somebody to decide about the parcel ({progress.trouble}) by {self._due():%Y-%m-%d %H:%M} UTC"
        return "the carrier to deliver" if self._has_left() else "the warehouse to dispatch"

    def _heed_workflow_cancellation(self) -> None:
        """`temporal workflow cancel` is a wish to cancel like any other, whenever it comes."""
        if not self._workflow_cancellation_heeded and workflow.cancellation_reason() is not None:
            self._workflow_cancellation_heeded = True
            self._wish_to_cancel(CancelRequest(reason="The workflow was cancelled."))

    def _answer(self, outcome: Outcome) -> None:
        """Let the client of `place` know."""
        self._answered = outcome


def refunded_of(undone: dict[str, Any], currency: str) -> Money:
    """What the customer got back, by the results of the undos."""
    match undone.get("refund-payment"):
        case Payment(refunded=refunded):
            return refunded
        case UndoSettlement(refunded=Money() as refunded):
            return refunded
    return Money.zero(currency)


async def _finished(task: asyncio.Task[None]) -> None:
    await task

"""The story of an order, from the click to the doorstep.

    open → reserve inventory → process payment (→ review) → create shipment → confirm → notify → dispatched → delivered

Whatever stops it before it is confirmed, and a customer who cancels before dispatch, makes the undos run in reverse. Once the
parcel has left, nothing is undone any more.
"""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.money import Money
    from contracts.orders import (
        FINAL_STATUSES,
        NEXT_STATUS,
        AdvanceOrder,
        CancelReply,
        CancelRequest,
        Decision,
        OrderState,
        OrderStatus,
        Outcome,
        PlaceOrder,
        TimelineEntry,
    )
    from contracts.payments import Payment, PaymentStatus
    from contracts.shipments import ShipmentStatus, ShipmentUpdate
    from temporal.names import FAILURE_REASON, ORDER_STATUS, ORDER_WORKFLOW, STUCK_UNDO
    from temporal.refusals import as_failure, reason_of, words_of
    from workflows import order_steps as steps
    from workflows.saga import Saga, shielded
    from workflows.steps import Argument, Result, Step

REVIEW_MARGIN = timedelta(minutes=15)
"""Stock of a held order is kept this much longer than the decision may take."""
ON_THE_WAY = frozenset({ShipmentStatus.DISPATCHED, ShipmentStatus.IN_TRANSIT, ShipmentStatus.DELIVERED})
LEFT = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED})
TOO_LATE = Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel has left; it can only be returned.")
WRITTEN_DOWN = timedelta(milliseconds=1)
"""Any timer ends the workflow task under way."""


class Cancellation:
    """A wish to cancel. All who ask before it is answered get the same answer."""

    def __init__(self, request: CancelRequest) -> None:
        self.request = request
        self.answer: CancelReply | Refusal | None = None


@workflow.defn(name=ORDER_WORKFLOW)
class OrderWorkflow:
    """One order's saga. It lives until the parcel is delivered, or the order is cancelled and everything is settled."""

    @workflow.init
    def __init__(self, order: PlaceOrder) -> None:
        self._order = order
        self._saga = Saga(self._report_stuck)
        self._status = OrderStatus.PENDING
        self._untold: list[OrderStatus] = []
        """Statuses passed which the order's record has not been told yet."""
        self._timeline = [TimelineEntry(at=workflow.now(), what=f"Placed: {order.total}", status=OrderStatus.PENDING)]
        self._waiting_for = "the first step"
        self._outcome: Outcome | None = None
        self._reason: Refusal | None = None
        """Why it was stopped."""
        self._opened = False
        self._over = False
        """Nothing more will happen: who still waits for an answer must get it."""
        self._placing: asyncio.Task[None] | None = None
        self._review_reason: str | None = None
        self._decision: tuple[bool, Decision] | None = None
        self._cancellation: Cancellation | None = None
        self._settled: CancelReply | None = None
        self._updates: list[ShipmentUpdate] = []
        self._warehouse_id: str | None = None
        self._tracking_number: str | None = None
        self._stuck: tuple[str, ...] = ()

    # ── The story ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @workflow.run
    async def run(self, order: PlaceOrder) -> OrderState:
        """From the first step to the end; returns how it ended."""
        try:
            await self._unless_cancelled(self._place())
        except (FailureError, asyncio.CancelledError) as stop:
            await shielded(self._stop(reason_of(stop)))
        if self._status == OrderStatus.CONFIRMED:
            notifying = asyncio.create_task(self._notify())
            await self._until_final()
            await shielded(_finished(notifying))
        self._over = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.status()

    async def _place(self) -> None:
        order = self._order
        await self._do(steps.open_order(order, workflow.info().first_execution_run_id))
        self._opened = True

        self._saga.add(steps.release_inventory(order))
        reservation = await self._do(steps.reserve_inventory(order))
        self._warehouse_id = reservation.warehouse_id
        self._become(OrderStatus.RESERVED, f"Reserved {len(order.lines)} lines at warehouse {reservation.warehouse_id}")

        self._saga.add(steps.refund_payment(order))
        payment = await self._do(steps.process_payment(order))
        if payment.status == PaymentStatus.AUTHORIZED:
            await self._review(payment)
            payment = await self._do(steps.capture_payment(order))
        self._become(OrderStatus.PAID, f"Paid {payment.amount}")
        await self._do(steps.hold_inventory(order))

        self._saga.add(steps.cancel_shipment(order))
        shipment = await self._do(steps.create_shipment(order, reservation.warehouse_id or ""))
        self._tracking_number = shipment.tracking_number
        await self._confirm()

    async def _review(self, payment: Payment) -> None:
        """Hold the order until an operator decides. Raises the refusal if that is a no, or does not come in time."""
        self._review_reason = _why_held(self._order, payment)
        wait = timedelta(seconds=self._order.review_seconds)
        self._become(OrderStatus.IN_REVIEW, "Held for review")
        await self._do(steps.hold_inventory(self._order, until=workflow.now() + wait + REVIEW_MARGIN))
        await self._tell()
        self._list_as(OrderStatus.IN_REVIEW)
        until = f"{workflow.now() + wait:%Y-%m-%d %H:%M} UTC"
        self._wait_for(f"an operator to approve or reject it by {until} ({self._review_reason})")
        self._decide_outcome(detail="Held for review.")
        try:
            await workflow.wait_condition(lambda: self._decision is not None, timeout=wait, timeout_summary="Review deadline")
        except TimeoutError:
            raise as_failure(Refusal(ErrorCode.REVIEW_EXPIRED, "Nobody approved the order in time.")) from None
        assert self._decision is not None
        approved, decision = self._decision
        self._note(f"{'Approved' if approved else 'Rejected'} by {decision.by}", decision.reason)
        if not approved:
            raise as_failure(Refusal(ErrorCode.REVIEW_REJECTED, f"The order was not approved: {decision.reason}"))

    async def _confirm(self) -> None:
        self._become(OrderStatus.CONFIRMED, f"Confirmed; parcel {self._tracking_number}")
        await self._tell()
        self._list_as(OrderStatus.CONFIRMED)
        self._decide_outcome()

    async def _notify(self) -> None:
        try:
            await steps.send_confirmation(self._order, self._tracking_number).run()
            self._note("Confirmation queued for sending")
        except FailureError as failure:
            self._note("The confirmation could not be sent", words_of(failure))

    async def _until_final(self) -> None:
        """Follow the parcel, or a wish to cancel, until nothing more can happen."""
        while self._status not in FINAL_STATUSES:
            left = self._status in LEFT
            self._wait_for("the carrier to deliver" if left else "the warehouse to dispatch")
            try:
                await workflow.wait_condition(lambda: bool(self._updates or self._cancellation))
            except asyncio.CancelledError:
                self._wish_to_cancel(CancelRequest(reason="The workflow was cancelled."))
            if self._updates:
                await shielded(self._follow(self._updates.pop(0)))
            elif self._cancellation:
                await shielded(self._stop(Refusal(ErrorCode.CANCELLED_BY_REQUEST, self._cancellation.request.reason)))

    async def _follow(self, update: ShipmentUpdate) -> None:
        """What the carrier reported. Reports may be repeated, late, or skip one another."""
        if update.status in ON_THE_WAY and self._status == OrderStatus.CONFIRMED:
            await self._land(steps.ship_inventory(self._order))
            self._become(OrderStatus.SHIPPED, f"Parcel {self._tracking_number} dispatched")
            self._list_as(OrderStatus.SHIPPED)
        if update.status == ShipmentStatus.DELIVERED and self._status == OrderStatus.SHIPPED:
            self._become(OrderStatus.DELIVERED, "Parcel delivered")
            self._become(OrderStatus.COMPLETED, "Completed")
            self._list_as(OrderStatus.COMPLETED)
        await self._tell()

    async def _stop(self, reason: Refusal) -> None:
        """Undo everything; or, if the parcel has left meanwhile, go on."""
        if self._cancellation:
            request = self._cancellation.request
            reason = Refusal(ErrorCode.CANCELLED_BY_REQUEST, f"Cancelled by {request.requested_by}: {request.reason}")
        if reason.code == ErrorCode.ORDER_EXISTS:
            # An order of long ago, whose workflow Temporal has forgotten. It is none of ours: there is nothing to undo.
            self._decide_outcome(reason)
            self._status = OrderStatus.CANCELLED
            return
        try:
            undone = await self._saga.compensate(begun=lambda: self._begin_to_cancel(reason))
        except Refusal as too_late:
            self._note("Cannot be cancelled any more", too_late.detail)
            self._answer_cancellation(too_late)
            if self._status not in LEFT | {OrderStatus.CONFIRMED}:
                await self._confirm()
            return
        if self._status != OrderStatus.CANCELLING:  # nothing was there to be undone
            self._begin_to_cancel(reason)
        if not self._opened:  # an order that was asked for is written down, even if only to say why it came to nothing
            await self._land(steps.open_order(self._order, workflow.info().first_execution_run_id))
        payment = undone.get(steps.REFUND_PAYMENT)
        refunded: Money = payment.refunded if payment else Money.zero(self._order.total.currency)
        self._become(OrderStatus.CANCELLED, f"Cancelled; refunded {refunded}", reason.detail)
        self._list_as(OrderStatus.CANCELLED, FAILURE_REASON.value_set(reason.code))
        await self._tell(refunded)
        self._settled = CancelReply(order_id=self._order.order_id, status=self._status, refunded=refunded, detail=reason.detail)
        self._answer_cancellation(self._settled)

    def _begin_to_cancel(self, reason: Refusal) -> None:
        self._reason = reason
        self._become(OrderStatus.CANCELLING, "Undoing", reason.detail)
        self._decide_outcome(reason)

    # ── What it is told and asked ────────────────────────────────────────────────────────────────────────────────────────

    @workflow.update(description="The order's outcome, as soon as it is known")
    async def place(self) -> Outcome:
        """Sent together with the start. Returns when the order is confirmed, refused, or held for review."""
        await workflow.wait_condition(lambda: self._outcome is not None)
        assert self._outcome is not None
        return self._outcome

    @workflow.update(description="Cancel: before dispatch everything is settled; after it, refused with the reason")
    async def cancel(self, request: CancelRequest) -> CancelReply:
        """Returns what was settled. Raises already_dispatched if the parcel has left."""
        # An update is in the history only when the task that accepted it has ended. Were the undos to run within that task, and
        # it to fail (a signal that comes meanwhile is enough), the wish would be forgotten, though it has been carried out.
        await workflow.sleep(WRITTEN_DOWN, summary="Until the wish to cancel is written down")
        if self._settled:
            return self._settled
        cancellation = self._wish_to_cancel(request)
        await workflow.wait_condition(lambda: cancellation.answer is not None or self._over)
        answer = cancellation.answer or self._settled or TOO_LATE
        if isinstance(answer, Refusal):
            raise as_failure(answer)
        return answer

    @cancel.validator
    def _cancel_is_possible(self, request: CancelRequest) -> None:
        if self._status in LEFT:
            raise as_failure(TOO_LATE)

    @workflow.signal(description="Approve an order that is held for review: by, reason")
    def approve(self, decision: Decision) -> None:
        self._decision_arrived(True, decision)

    @workflow.signal(description="Reject an order that is held for review: by, reason")
    def reject(self, decision: Decision) -> None:
        self._decision_arrived(False, decision)

    @workflow.signal(description="What the carrier reported: status")
    def shipment_updated(self, update: ShipmentUpdate) -> None:
        self._updates.append(update)

    @workflow.query(description="Where the order is, and what it waits for")
    def status(self) -> OrderState:
        return OrderState(
            order_id=self._order.order_id,
            status=self._status,
            waiting_for="nothing" if self._status in FINAL_STATUSES else self._waiting_for,
            stuck_undos=self._stuck,
            code=self._reason.code if self._reason else None,
            detail=self._reason.detail if self._reason else None,
        )

    @workflow.query(description="All that happened to the order")
    def timeline(self) -> list[TimelineEntry]:
        return self._timeline

    # ── How it keeps its state ───────────────────────────────────────────────────────────────────────────────────────────

    async def _do(self, step: Step[Argument, Result]) -> Result:
        """Run a step of the way forward."""

        async def on_slow(failure: FailureError) -> None:
            self._wait_for(f"{step.summary.lower()} (being retried: {words_of(failure)})")
            self._note(f"{step.summary} takes longer", words_of(failure))
            self._list_as(self._status)

        return await step.run(on_slow)

    async def _land(self, step: Step[Argument, Result]) -> Result:
        """Run a step that has to succeed."""
        try:
            return await step.run_first()
        except FailureError as failure:
            self._wait_for(f"{step.summary.lower()} (being retried: {words_of(failure)})")
        return await step.land(lambda failure: self._note(f"{step.summary} was refused", words_of(failure)))

    async def _tell(self, refunded: Money | None = None) -> None:
        """Let the order's record catch up with the saga."""
        if not self._untold:
            return
        path = tuple(self._untold)
        self._untold.clear()
        await self._land(
            steps.advance_order(
                AdvanceOrder(
                    order_id=self._order.order_id,
                    path=path,
                    code=self._reason.code if self._reason else None,
                    detail=self._reason.detail if self._reason else None,
                    review_reason=self._review_reason,
                    warehouse_id=self._warehouse_id,
                    tracking_number=self._tracking_number,
                    refunded=refunded,
                )
            )
        )

    def _become(self, status: OrderStatus, what: str, detail: str | None = None) -> None:
        if status not in NEXT_STATUS[self._status]:
            raise RuntimeError(f"{self._status} → {status} is not a move that an order can make")
        self._status = status
        self._untold.append(status)
        self._note(what, detail)

    def _note(self, what: str, detail: str | None = None) -> None:
        self._timeline.append(TimelineEntry(at=workflow.now(), what=what, status=self._status, detail=detail))

    def _wait_for(self, what: str) -> None:
        self._waiting_for = what
        workflow.set_current_details(f"**{self._status}**, waiting for {what}")

    def _list_as(self, status: OrderStatus, *more: SearchAttributeUpdate[Any]) -> None:
        """Let operators find the order under this status."""
        workflow.upsert_search_attributes([ORDER_STATUS.value_set(status), *more])

    def _decide_outcome(self, refusal: Refusal | None = None, detail: str | None = None) -> None:
        """What the client of `place` is told; the first word counts."""
        self._outcome = self._outcome or Outcome(
            order_id=self._order.order_id,
            status=self._status,
            code=refusal.code if refusal else None,
            detail=refusal.detail if refusal else detail,
            extra=refusal.extra if refusal else {},
            tracking_number=self._tracking_number,
        )

    def _wish_to_cancel(self, request: CancelRequest) -> Cancellation:
        if self._cancellation is None:
            self._cancellation = Cancellation(request)
            self._note(f"{request.requested_by} wants to cancel", request.reason)
            if self._placing:
                self._placing.cancel()
        return self._cancellation

    def _answer_cancellation(self, answer: CancelReply | Refusal) -> None:
        if self._cancellation:
            self._cancellation.answer = answer
            self._cancellation = None

    def _decision_arrived(self, approved: bool, decision: Decision) -> None:
        if decision.is_by(self._order.customer_id):
            self._note("A decision by the order's own customer was not taken")
        elif self._status == OrderStatus.IN_REVIEW and self._decision is None:
            self._decision = (approved, decision)
        else:
            self._note(f"A decision by {decision.by} came when none was asked for", decision.reason)

    def _report_stuck(self, stuck: tuple[str, ...]) -> None:
        """Make undos that do not land visible: search attribute, metric, details, timeline."""
        for undo in set(stuck) - set(self._stuck):
            self._note(f"{undo} does not succeed; being retried")
            workflow.metric_meter().create_counter("saga_undo_stuck", "Undos that did not land in time").add(1, {"undo": undo})
        self._stuck = stuck
        names = ", ".join(stuck)
        self._list_as(self._status, STUCK_UNDO.value_set(names) if stuck else STUCK_UNDO.value_unset())
        self._wait_for(f"these undos to succeed: {names}" if stuck else "the undos to finish")

    async def _unless_cancelled(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`; a wish to cancel interrupts it."""
        self._placing = asyncio.create_task(work)
        if self._cancellation:  # it came with the start
            self._placing.cancel()
        try:
            await self._placing
        finally:
            self._placing = None


def _why_held(order: PlaceOrder, payment: Payment) -> str:
    """For operators."""
    by_total = ["total: reached the threshold"] if order.needs_review else []
    return "; ".join([*by_total, *payment.review]) or "the payment provider wants it to be looked at"


async def _finished(task: asyncio.Task[None]) -> None:
    await task

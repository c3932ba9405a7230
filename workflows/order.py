"""The story of an order, from the click to the doorstep.

    reserve inventory → process payment (→ review) → create shipments → confirm → notify → dispatched → delivered

Whatever stops it before it is confirmed, and a customer who cancels before dispatch, makes the undos run. Once a parcel has
left, nothing of it is undone by itself any more. How it is paid for is in payment.py, how it is amended in amending.py, what
happens once it is confirmed in delivery.py, what may be asked of it in messages.py, what its parcels are in parcels.py.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.ids import return_workflow_id
    from contracts.money import Money
    from contracts.orders import CancelReply, OrderRun, OrderState, OrderStatus, Outcome, PlaceOrder, Replaces, Wait
    from contracts.parcels import ParcelStatus
    from contracts.payments import Payment, PaymentStatus
    from contracts.returns import ReplacementEnded
    from temporal.names import ORDER_WORKFLOW
    from temporal.refusals import as_failure, as_refusal, reason_of, words_of
    from workflows import order_steps as steps
    from workflows.holds import NOT_HELD_YET
    from workflows.shields import shielded
    from workflows.waits import waits_of

from workflows.amending import Amending
from workflows.messages import PLACING, TOO_LATE, told_of


@workflow.defn(name=ORDER_WORKFLOW)
class OrderWorkflow(Amending):
    """One order's saga. It lives until the parcel is delivered, or the order is cancelled or refunded and all is settled."""

    @workflow.init
    def __init__(self, order: OrderRun) -> None:
        super().__init__(order)
        self._review_until = order.so_far.review_until if order.so_far else None
        self._is_confirmed = self._progress.status not in PLACING
        """Whether everybody has been told."""
        if self._progress.status == OrderStatus.IN_REVIEW:
            self._answer(self._progress.outcome_held())
        if self._progress.status == OrderStatus.ACTION_REQUIRED:
            self._answer(self._progress.outcome_to_confirm())
        if self._progress.declined is not None:
            self._answer(self._progress.declined)
        if order.so_far is not None:
            self._register_undos()
            if wish := order.so_far.cancel:
                if wish.lines:
                    self._wish_for_units(wish)
                else:
                    self._wish_to_cancel(wish)

    @workflow.run
    async def run(self, order: OrderRun) -> OrderState:
        """From the first step to the end, or from where another run of it has come to; returns how it ended."""
        if self._progress.status in PLACING:
            try:
                await self._until_cancelled(self._place)
            except (FailureError, asyncio.CancelledError) as stop:
                if self._cancellation or as_refusal(stop) is None:
                    # It stopped from outside, perhaps earlier than in a task that was lost: anything may have happened.
                    self._register_undos()
                await shielded(self._cancel(reason_of(stop), words_of(stop)))
        await self._deliver()
        if order.replaces is not None:
            await shielded(self._tell_its_return(order.replaces))
        self._over = True
        await shielded(workflow.wait_condition(workflow.all_handlers_finished))
        return self._progress.state()

    async def _place(self) -> None:
        order, progress, saga = self._order, self._progress, self._saga
        if progress.status == OrderStatus.PENDING:
            saga.add(steps.release_plan(order))
            reservation = await progress.do(steps.reserve_inventory(order))
            self._parcels.plan(reservation, ask_until=workflow.now() + timedelta(seconds=order.answer_seconds))
            progress.become(OrderStatus.RESERVED, "Goods reserved", for_staff=f"at warehouse {reservation.warehouse_id}")

        if progress.status in NOT_HELD_YET and self._parcels.owed().minor:
            payment = await self._pay()
            if self._hold.is_by_parcel:
                self._hold.begin(self._attempt, self._hold.card, payment.held_until, workflow.now())
            if self._is_to_be_reviewed(payment):
                await self._hold_for_review(payment)
        if progress.status == OrderStatus.IN_REVIEW:
            await self._review()
            if not self._hold.is_by_parcel:
                await steps.capture_payment(order, self._attempt).run_durably()
        paid = "Payment authorised:" if self._hold.attempt else "Paid"
        progress.become(OrderStatus.PAID, f"{paid} {self._parcels.owed()}")

        for parcel in self._parcels.to_book():
            saga.add(steps.cancel_shipment(order, parcel.number, self._label(parcel)))
            step = self._booking_of(parcel)
            # The plan must be in the history before a second parcel is booked: whoever undoes it has to know of it.
            is_first = parcel.number == 1
            shipment = await progress.do(step) if is_first else await step.run_durably()
            parcel.tracking_number, parcel.status = shipment.tracking_number, ParcelStatus.BOOKED
        await self._confirm()

    def _is_to_be_reviewed(self, payment: Payment) -> bool:
        """Whether somebody has to look at it before anything leaves. What would be taken at once, and is held only, is held for
        that; what the provider wants to be looked at, and what came by transfer, may be taken already."""
        is_held_for_it = payment.status == PaymentStatus.AUTHORIZED and not self._hold.is_by_parcel
        return bool(payment.review) or self._order.needs_review or is_held_for_it

    async def _hold_for_review(self, payment: Payment) -> None:
        progress = self._progress
        self._review_until = workflow.now() + timedelta(seconds=self._order.review_seconds)
        progress.review_reason = _why_held(self._order, payment)
        progress.become(OrderStatus.IN_REVIEW, "Held for review", for_staff=progress.review_reason)
        await progress.tell()
        progress.list_as()
        self._answer(progress.outcome_held())

    def _waits(self) -> tuple[Wait, ...]:
        until = self._review_until
        if self._progress.status == OrderStatus.PAYMENT_DUE:
            until = self._pay_until
        elif self._progress.action:
            until = self._progress.action.until
        since = self._progress.timeline()[-1].at
        waits = waits_of(self._progress.state(), since, until, self._parcels, self._due_of, self._hold.due)
        return (*self._waits_of_amendment(since), *waits)

    async def _review(self) -> None:
        """Wait until an operator decides. Raises the refusal if that is a no, or does not come in time."""
        progress, until = self._progress, self._review_until or workflow.now()
        progress.wait_for(f"an operator to approve or reject it by {until:%Y-%m-%d %H:%M} UTC ({progress.review_reason})")
        while self._approval is None:
            try:
                await workflow.wait_condition(
                    lambda: self._approval is not None or self._cancellation is not None or self._is_signalled,
                    timeout=max(until - workflow.now(), timedelta(seconds=1)),
                    timeout_summary="Review deadline",
                )
            except TimeoutError:
                raise as_failure(Refusal(ErrorCode.REVIEW_EXPIRED, "Nobody approved the order in time.")) from None
            if self._cancellation is not None:
                raise asyncio.CancelledError
            self._is_signalled = False
            if self._approval is None and self._is_long():
                self._reports.clear()  # there is no parcel yet
                await self._go_on_in_another_run(review_until=until)
        approved, decision = self._approval
        progress.note("Approved" if approved else "Not approved", for_staff=f"by {decision.by}: {decision.reason}")
        if not approved:
            progress.reason_for_staff = f"Rejected by {decision.by}: {decision.reason}"
            raise as_failure(Refusal(ErrorCode.REVIEW_REJECTED, "The order was not approved."))

    async def _confirm(self) -> None:
        progress = self._progress
        if progress.status != OrderStatus.CONFIRMED:
            tracking = ", ".join(parcel.tracking_number or "" for parcel in self._parcels if parcel.status == ParcelStatus.BOOKED)
            progress.become(OrderStatus.CONFIRMED, "Confirmed", for_staff=f"parcel {tracking}" if tracking else None)
        progress.outcome = progress.outcome or progress.outcome_confirmed()
        await progress.tell()
        progress.list_as()
        self._answer(progress.outcome)
        self._notifying = asyncio.create_task(self._notify())
        self._is_confirmed = True

    async def _notify(self) -> None:
        try:
            await self._progress.do(steps.send_confirmation(self._order, self._progress.tracking_number))
            self._progress.note("Confirmation queued for sending")
        except FailureError as failure:
            self._progress.note("The confirmation could not be sent", for_staff=words_of(failure))

    async def _cancel(self, reason: Refusal, for_staff: str) -> None:
        """Undo everything; or, if parcels turn out to have left, what has not, and go on."""
        progress = self._progress
        if self._cancellation:
            reason, for_staff = told_of(self._cancellation.request)
        reason = progress.reason or reason  # of an order that is repaired: what its client was told stays true
        if self._is_confirmed and self._parcels.is_parted:
            self._register_undos()  # of what has left meanwhile, nothing is undone
        left = await self._saga.call_off()
        if left or self._parcels.may_leave:
            await self._keep_what_has_left(left, reason)
            return
        progress.reason, progress.trouble = reason, None
        progress.reason_for_staff = progress.reason_for_staff or for_staff
        if progress.status != OrderStatus.CANCELLING:
            progress.become(OrderStatus.CANCELLING, "Being cancelled", reason.detail, for_staff=for_staff)
        undone, _ = await asyncio.gather(self._saga.compensate(), self._refuse(reason))
        self._note_refund(undone)
        self._parcels.recall(undone)
        for parcel in self._parcels.counting:
            parcel.status = ParcelStatus.CANCELLED
        self._hold.end()
        self._hold.due.clear()
        progress.become(OrderStatus.CANCELLED, f"Cancelled; refunded {progress.refunded}", reason.detail)
        progress.list_as_cancelled(reason)
        await progress.tell()
        self._settled = CancelReply(
            order_id=self._order.order_id,
            status=progress.status,
            refunded=progress.refunded or Money.zero(self._order.total.currency),
            detail=reason.detail,
        )
        self._answer_cancellation(self._settled)

    async def _keep_what_has_left(self, left: Mapping[int, Refusal], reason: Refusal) -> None:
        """Parcels have left: nothing of them is undone. The others were called off; the order goes on without them."""
        progress, order = self._progress, self._order
        too_late = next(iter(left.values()), TOO_LATE)
        if not self._parcels:  # they were planned in a task that was lost
            plan = await steps.reserve_inventory(order).run_durably() if steps.is_planned(order) else None
            if plan is None:
                self._parcels.assume_one()
            else:
                self._parcels.plan(plan, ask_until=workflow.now())
        called_off = []
        for parcel in [parcel for parcel in self._parcels if parcel.is_in_the_house]:
            refusal = left.get(parcel.number)
            if refusal is None:
                called_off.append(parcel)
            elif parcel.status == ParcelStatus.RESERVED:
                parcel.status = ParcelStatus.BOOKED
                parcel.tracking_number = parcel.tracking_number or refusal.extra.get("tracking_number")
        if not self._is_confirmed:
            progress.pass_through(OrderStatus.RESERVED, OrderStatus.PAID)
            if self._hold.is_by_parcel:
                self._hold.begin(self._attempt, self._hold.card, None, workflow.now())
        if called_off:
            before = progress.refunded or Money.zero(order.total.currency)
            await self._give_back(called_off, reason.detail)
            await self._settle_status()
            refunded = (progress.refunded or before) - before
            detail = f"What had not left was cancelled; {too_late.detail}"
            self._answer_cancellation(
                CancelReply(order_id=order.order_id, status=progress.status, refunded=refunded, detail=detail)
            )
        else:
            progress.note("Cannot be cancelled any more", too_late.detail)
            self._answer_cancellation(too_late)
        if not self._is_confirmed:
            await self._confirm()

    async def _refuse(self, reason: Refusal) -> None:
        """Tell why the order comes to nothing: its record first, then whoever waits for the outcome."""
        progress = self._progress
        progress.outcome = progress.outcome or Outcome.refused(self._order.order_id, progress.status, reason)
        await progress.tell(durably=True)
        self._answer(progress.outcome)

    async def _tell_its_return(self, replaces: Replaces) -> None:
        """The return that brought the order gives back what of its credit paid for goods that did not arrive."""
        returning = workflow.get_external_workflow_handle(return_workflow_id(replaces.order_id, replaces.number))
        ended = ReplacementEnded(status=self._progress.status, credit_back=self._parcels.credit_left())
        try:
            await returning.signal("replacement_ended", ended)
        except FailureError as failure:
            self._progress.note("The return that brought it is over", for_staff=words_of(failure))

    async def _until_cancelled(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work`; a wish to cancel, or the workflow's own cancellation, interrupts it. One that came before keeps it from
        starting. Raises CancelledError, and what the work raises."""
        if self._cancellation is not None:
            raise asyncio.CancelledError
        task = asyncio.create_task(work())
        try:
            await workflow.wait_condition(lambda: task.done() or self._cancellation is not None)
        except asyncio.CancelledError:
            self._heed_workflow_cancellation()
        task.cancel()
        await task


def _why_held(order: PlaceOrder, payment: Payment) -> str:
    """For operators."""
    by_total = ["total: reached the threshold"] if order.needs_review else []
    return "; ".join([*by_total, *payment.review]) or "the payment provider wants it to be looked at"

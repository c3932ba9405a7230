"""Order sagas as the order service sees them: start one, tell it something, ask it something."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetActivityRequest
from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from chassis.clients import Unavailable
from contracts.errors import ErrorCode, Refusal
from contracts.ids import order_id_of, order_workflow_id, return_number_of, return_workflow_id
from contracts.inventory import StockUpdate
from contracts.orders import (
    Amendment,
    AmendReply,
    CancelReply,
    CancelRequest,
    Decision,
    OrderRun,
    OrderSoFar,
    OrderState,
    OrderStatus,
    Outcome,
    ParcelDecision,
    ParcelSplit,
    PayAgain,
    PlaceOrder,
    ShortageAnswer,
    TimelineEntry,
    UndoSettlement,
)
from contracts.payments import AnsweredPayment, FailedRefund
from contracts.returns import ReturnState
from contracts.shipments import ShipmentUpdate
from temporal.explaining import SagaSeen, pending_steps, saga_seen
from temporal.names import (
    CUSTOMER_ID,
    ORDER_QUEUE,
    ORDER_STATUS,
    ORDER_TOTAL,
    ORDER_WORKFLOW,
    PARCEL_TROUBLE,
    PLACED_BY,
    STUCK_UNDO,
)
from temporal.refusals import as_refusal
from temporal.sagas import FAULTS, QUERY, RPC, Sagas, fault_of, is_gone

STUCK = f"{STUCK_UNDO.name} IS NOT NULL AND ExecutionStatus = 'Running'"
IN_REVIEW = f"{ORDER_STATUS.name} = '{OrderStatus.IN_REVIEW}' AND ExecutionStatus = 'Running'"
UNDECIDED_PARCEL = f"{PARCEL_TROUBLE.name} IS NOT NULL AND ExecutionStatus = 'Running'"
"""Visibility queries."""
UNKNOWN_UPDATE = "expected but not found"
"""What the SDK says of an update that the saga's build does not have."""


@dataclass(frozen=True)
class CancelPending:
    """A cancellation that is written down and still being settled."""


@dataclass(frozen=True)
class StuckUndo:
    """An undo that does not succeed."""

    order_id: UUID
    undo: str
    attempt: int
    last_error: str
    since: datetime
    of_return: int | None = None
    """Which of the order's returns it is of; None: of the order itself."""


class OrderSagas(Sagas):
    """All order sagas."""

    async def place(self, order: PlaceOrder, update_id: str, wait: timedelta) -> Outcome | None:
        """Start the order's saga, or join it under the same `update_id`; its outcome, or None if there is none after `wait`.

        Refusal: idempotency_key_reused, if the order exists under another `update_id`. Fault: Unavailable.
        """
        started_with = self._options(order, update_id)
        try:
            return await self._start_and_wait(order, started_with, update_id, wait)
        except WorkflowAlreadyStartedError:
            return await self._join(order.order_id, update_id, wait)
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            return None
        except FAULTS as error:
            raise fault_of(error) from error

    async def _start_and_wait(
        self, order: PlaceOrder, started_with: dict[str, Any], update_id: str, wait: timedelta
    ) -> Outcome | None:
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(ORDER_WORKFLOW, order, **started_with)
        try:
            outcome = await self._client.execute_update_with_start_workflow(
                "place", start_workflow_operation=start, id=update_id, result_type=Outcome, rpc_timeout=wait
            )
            return Outcome.model_validate(outcome)
        finally:
            await _quietly(start)

    async def _join(self, order_id: UUID, update_id: str, wait: timedelta) -> Outcome | None:
        """The outcome of a saga that runs, for the request that started it; None if there is none yet, or it has ended.

        Temporal knows a saga a moment before it knows the update that came with its start; and an update that was not accepted
        yet is forgotten when the worker dies. Refusal: idempotency_key_reused, if another request started it.
        """
        handle = self._handle(order_id)
        try:
            found = await handle.describe(rpc_timeout=QUERY)
            if (await found.memo()).get(PLACED_BY) != update_id:
                raise Refusal(ErrorCode.IDEMPOTENCY_KEY_REUSED, "This Idempotency-Key was used with another order.")
            outcome = await handle.execute_update("place", id=update_id, result_type=Outcome, rpc_timeout=wait)
            return Outcome.model_validate(outcome)
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            return None
        except FAULTS as error:
            if is_gone(error):
                return None
            raise fault_of(error) from error

    async def start(self, order: PlaceOrder, update_id: str, so_far: OrderSoFar | None = None) -> bool:
        """Start the order's saga; False if it was started before. With `so_far` it goes on where a lost one was.

        Fault: Unavailable."""
        options = self._options(order, update_id, so_far)
        try:
            run = OrderRun(**dict(order), so_far=so_far)
            await self._client.start_workflow(ORDER_WORKFLOW, run, **options, rpc_timeout=RPC)
        except WorkflowAlreadyStartedError:
            return False
        except FAULTS as error:
            raise fault_of(error) from error
        return True

    async def cancel(
        self, order_id: UUID, request: CancelRequest, update_id: str, wait: timedelta
    ) -> CancelReply | CancelPending | None:
        """Cancel an order, or some units of it; None if no saga runs, CancelPending if it is not settled after `wait` but will
        be. A wish for units needs a key: its saga may be told twice.

        Refusals: already_dispatched; of units also conflict. Fault: Unavailable."""
        try:
            reply = await self._handle(order_id).execute_update(
                "cancel", request, id=update_id, result_type=CancelReply, rpc_timeout=wait
            )
        except WorkflowUpdateFailedError as error:
            refusal = as_refusal(error.cause)
            if refusal is None and request.lines:  # its saga runs on a build that does not know such a wish
                refusal = Refusal(ErrorCode.CONFLICT, "This order can only be cancelled as a whole.")
            raise refusal or Unavailable(str(error.cause)) from error
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            # Temporal may forget an update that no worker has accepted yet, but never a signal.
            return CancelPending() if await self._signal(order_workflow_id(order_id), "cancel", request) else None
        except FAULTS as error:
            if is_gone(error):
                return None
            raise fault_of(error) from error
        return CancelReply.model_validate(reply)

    async def decide(self, order_id: UUID, approve: bool, decision: Decision) -> OrderState | None:
        """Approve or reject a held order; None if no saga runs. Refusals: not_in_review, own_order. Fault: Unavailable."""
        return await self._decide(order_id, "approve" if approve else "reject", decision)

    async def decide_parcel(self, order_id: UUID, decision: ParcelDecision) -> OrderState | None:
        """Decide about a parcel in trouble; None if no saga runs.

        Refusals: no_decision_pending, choice_not_possible, own_order. Fault: Unavailable."""
        return await self._decide(order_id, "decide_parcel", decision)

    async def split_parcel(self, order_id: UUID, split: ParcelSplit, update_id: str) -> OrderState | None:
        """Send some of a parcel in another one, or join the request of the same `update_id`; None if no saga runs.

        Refusals: conflict, reservation_released, reservation_shipped, own_order. Fault: Unavailable."""
        return await self._decide(order_id, "split_parcel", split, update_id)

    async def pay(self, order_id: UUID, request: PayAgain, update_id: str, wait: timedelta) -> Outcome | None:
        """Try another card for an order whose payment is due, or join the request of the same `update_id`; its outcome, or None
        if there is none after `wait`, though the saga has taken the card.

        Refusal: payment_not_due, also if no saga runs. Fault: Unavailable (the card was not taken, as far as is known)."""
        try:
            taken = await self._handle(order_id).start_update(
                "pay",
                request,
                wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                id=update_id,
                result_type=Outcome,
                rpc_timeout=RPC,
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise Unavailable("no worker has taken the card yet; ask again") from error
        except FAULTS as error:
            if is_gone(error):
                raise Refusal(ErrorCode.PAYMENT_NOT_DUE, "The order does not wait for another card.") from error
            raise fault_of(error) from error
        try:
            return Outcome.model_validate(await taken.result(rpc_timeout=wait))
        except WorkflowUpdateFailedError as error:
            refusal = as_refusal(error.cause)
            if refusal is None and request.return_url:  # its saga runs on a build that cannot let the customer confirm it
                return await self.pay(order_id, PayAgain(payment_token=request.payment_token), update_id, wait)
            raise refusal or Unavailable(str(error.cause)) from error
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            return None
        except FAULTS as error:
            raise fault_of(error) from error

    async def amend(self, order_id: UUID, amendment: Amendment, update_id: str, wait: timedelta) -> AmendReply | None:
        """Amend an order, or join the request of the same `update_id`; what came of it, or None if that is open after `wait`,
        though its saga has taken it.

        Refusals: not_amendable (also if no saga runs, or one of before there were amendments), already_dispatched, out_of_stock,
        purchase_limit, payment_declined, address_undeliverable, parcel_too_heavy, amendment_needs_staff, conflict (the order has
        changed since). Fault: Unavailable (it was not taken, as far as is known)."""
        try:
            taken = await self._handle(order_id).start_update(
                "amend",
                amendment,
                wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                id=update_id,
                result_type=AmendReply,
                rpc_timeout=RPC,
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise Unavailable("no worker has taken the amendment yet; ask again") from error
        except FAULTS as error:
            if is_gone(error):
                raise Refusal(ErrorCode.NOT_AMENDABLE, "Nothing works on this order any more.") from error
            raise fault_of(error) from error
        try:
            return AmendReply.model_validate(await taken.result(rpc_timeout=wait))
        except WorkflowUpdateFailedError as error:
            if refusal := as_refusal(error.cause):
                raise refusal from error
            if UNKNOWN_UPDATE in str(error.cause):
                too_old = "The order was placed before orders could be amended; cancel it, and order anew."
                raise Refusal(ErrorCode.NOT_AMENDABLE, too_old) from error
            raise Unavailable(str(error.cause)) from error
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            return None
        except FAULTS as error:
            raise fault_of(error) from error

    async def answer_shortage(self, order_id: UUID, answer: ShortageAnswer) -> OrderState | None:
        """Say what becomes of goods that are out of stock; None if no saga runs.

        Refusal: no_decision_pending. Fault: Unavailable."""
        return await self._decide(order_id, "answer_shortage", answer)

    async def settle_undo(
        self, order_id: UUID, settlement: UndoSettlement, of_return: int | None = None
    ) -> OrderState | ReturnState | None:
        """End a stuck undo of an order, or of one of its returns, by hand; None if no saga runs.

        Refusals: undo_not_stuck, own_order. Fault: Unavailable."""
        if of_return is not None:
            return await self._update(return_workflow_id(order_id, of_return), "settle_undo", settlement, ReturnState)
        return await self._decide(order_id, "settle_undo", settlement)

    async def retry_undo(self, order_id: UUID, undo: str, of_return: int | None = None) -> bool:
        """Try a pending undo (or another durable step) of an order, or of one of its returns, now, from attempt 1; False if none
        of that name is pending. Fault: Unavailable."""
        workflow_id = return_workflow_id(order_id, of_return) if of_return else order_workflow_id(order_id)
        request = ResetActivityRequest(
            namespace=self._client.namespace, execution=WorkflowExecution(workflow_id=workflow_id), id=undo
        )
        try:
            await self._client.workflow_service.reset_activity(request, timeout=RPC)
        except FAULTS as error:
            if is_gone(error):
                return False
            raise fault_of(error) from error
        return True

    async def stuck(self) -> list[StuckUndo]:
        """The undos that do not succeed, of all orders and their returns. Fault: Unavailable."""
        found: list[StuckUndo] = []
        try:
            async for execution in self._client.list_workflows(STUCK):
                if (order_id := order_id_of(execution.id)) is None:
                    continue  # somebody's experiment
                number = return_number_of(execution.id)
                names = (execution.typed_search_attributes.get(STUCK_UNDO) or "").split(", ")
                description = await self._client.get_workflow_handle(execution.id).describe(rpc_timeout=RPC)
                found += [
                    StuckUndo(order_id, step.step, step.attempt, step.last_error or "", step.since, number)
                    for step in await pending_steps(self._client, description)
                    if step.step in names
                ]
        except FAULTS as error:
            raise fault_of(error) from error
        return found

    async def count(self, query: str) -> int:
        """How many sagas a visibility query finds. Fault: Unavailable."""
        try:
            return (await self._client.count_workflows(query, rpc_timeout=RPC)).count
        except FAULTS as error:
            raise fault_of(error) from error

    async def shipment_updated(self, order_id: UUID, update: ShipmentUpdate) -> bool:
        """Tell what the carrier reported; False if no saga runs. Repeating it is harmless."""
        return await self._signal(order_workflow_id(order_id), "shipment_updated", update)

    async def stock_updated(self, order_id: UUID, update: StockUpdate) -> bool:
        """Tell what became of goods that a parcel waits for; False if no saga runs. Repeating it is harmless."""
        return await self._signal(order_workflow_id(order_id), "stock_updated", update)

    async def refund_failed(self, order_id: UUID, refund: FailedRefund) -> bool:
        """Tell of money that was given back and has not arrived; False if no saga runs. Repeating it is harmless."""
        return await self._signal(order_workflow_id(order_id), "refund_failed", refund)

    async def payment_answered(self, order_id: UUID, payment: AnsweredPayment) -> bool:
        """Tell that a payment has moved on which the customer had to confirm; False if no saga runs. Repeating it is harmless."""
        return await self._signal(order_workflow_id(order_id), "payment_answered", payment)

    async def state(self, order_id: UUID) -> OrderState | None:
        """Where the saga is; None if there is none. Fault: Unavailable (no worker answers)."""
        return await self._query(order_workflow_id(order_id), "status", OrderState)

    async def state_of_return(self, order_id: UUID, number: int) -> ReturnState | None:
        """Where the saga of one of its returns is; None if there is none. Fault: Unavailable."""
        return await self._query(return_workflow_id(order_id, number), "status", ReturnState)

    async def timeline(self, order_id: UUID) -> list[TimelineEntry] | None:
        """What the saga did; None if there is none. Fault: Unavailable."""
        return await self._query(order_workflow_id(order_id), "timeline", list[TimelineEntry])

    async def seen(self, order_id: UUID) -> SagaSeen[OrderState]:
        """All that Temporal knows of it, whether a worker is up or not. Fault: Unavailable, if Temporal does not answer."""
        return await saga_seen(self._client, order_id)

    async def is_running(self, order_id: UUID) -> bool:
        """Whether a saga works on it, or may still have to write its end down. Fault: Unavailable."""
        return await self._runs(order_workflow_id(order_id))

    def _options(self, order: PlaceOrder, update_id: str, so_far: OrderSoFar | None = None) -> dict[str, Any]:
        if self._codec:
            self._codec.belongs_to(order_workflow_id(order.order_id), order.customer_id)
        return start_options(order, update_id, so_far)

    def _handle(self, order_id: UUID) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(order_workflow_id(order_id))

    async def _decide(
        self, order_id: UUID, name: str, argument: Decision | ShortageAnswer, update_id: str | None = None
    ) -> OrderState | None:
        return await self._update(order_workflow_id(order_id), name, argument, OrderState, update_id)


def start_options(order: PlaceOrder, update_id: str, so_far: OrderSoFar | None = None) -> dict[str, Any]:
    """What a start says of an order's workflow. With `so_far` it takes the place of one that was lost."""
    reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if so_far else WorkflowIDReusePolicy.REJECT_DUPLICATE
    trouble = [SearchAttributePair(PARCEL_TROUBLE, so_far.trouble)] if so_far and so_far.trouble else []
    return {
        "id": order_workflow_id(order.order_id),
        "task_queue": ORDER_QUEUE,
        "id_conflict_policy": WorkflowIDConflictPolicy.FAIL,
        "id_reuse_policy": reuse,
        "static_summary": f"{len(order.lines)} lines, {order.total}",
        "memo": {PLACED_BY: update_id},
        "search_attributes": TypedSearchAttributes(
            [
                SearchAttributePair(ORDER_STATUS, so_far.status if so_far else OrderStatus.PENDING),
                SearchAttributePair(CUSTOMER_ID, str(order.customer_id)),
                SearchAttributePair(ORDER_TOTAL, float(order.total.amount)),
                *trouble,
            ]
        ),
    }


async def _quietly(start: WithStartWorkflowOperation[Any, Any]) -> None:
    """Take the start's own result, or asyncio complains that nobody did; what went wrong was raised by the update.

    Without a connection it never gets one.
    """
    with suppress(Exception):
        async with asyncio.timeout(0.01):
            await start.workflow_handle()

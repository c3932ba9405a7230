"""Sagas of returns as the order service sees them: start one, decide about it, tell it something, ask it something."""

from typing import Any
from uuid import UUID

from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from contracts.ids import return_workflow_id
from contracts.orders import CancelRequest, Decision, UndoSettlement
from contracts.returns import ReturnLabelUpdate, ReturnReceipt, ReturnRun, ReturnState, ReturnStatus, ReturnTimelineEntry
from temporal.explaining import SagaSeen, return_seen
from temporal.names import CUSTOMER_ID, ORDER_QUEUE, RETURN_STATUS, RETURN_WORKFLOW
from temporal.sagas import FAULTS, RPC, Sagas, fault_of


class ReturnSagas(Sagas):
    """The sagas of all orders' returns."""

    async def start(self, run: ReturnRun) -> bool:
        """Start the return's saga; False if it was started before. Fault: Unavailable."""
        options = return_start_options(run)
        if self._codec:
            self._codec.belongs_to(options["id"], run.customer_id)
        try:
            await self._client.start_workflow(RETURN_WORKFLOW, run, **options, rpc_timeout=RPC)
        except WorkflowAlreadyStartedError:
            return False
        except FAULTS as error:
            raise fault_of(error) from error
        return True

    async def approve(self, order_id: UUID, number: int, decision: Decision, update_id: str) -> ReturnState | None:
        """Approve it, or join the request of the same `update_id`; None if no saga runs.

        Refusals: return_not_open, own_order. Fault: Unavailable."""
        return await self._update(return_workflow_id(order_id, number), "approve", decision, ReturnState, update_id)

    async def reject(self, order_id: UUID, number: int, decision: Decision, update_id: str) -> ReturnState | None:
        """Reject it, or join the request of the same `update_id`; None if no saga runs.

        Refusals: return_not_open, own_order. Fault: Unavailable."""
        return await self._update(return_workflow_id(order_id, number), "reject", decision, ReturnState, update_id)

    async def receive(self, order_id: UUID, number: int, receipt: ReturnReceipt, update_id: str) -> ReturnState | None:
        """Tell what has come, or join the request of the same `update_id`; None if no saga runs.

        Refusals: return_not_open, own_order, not_returnable (more than was announced; it says of which line). Fault:
        Unavailable."""
        return await self._update(return_workflow_id(order_id, number), "receive", receipt, ReturnState, update_id)

    async def cancel(self, order_id: UUID, number: int, request: CancelRequest, update_id: str) -> ReturnState | None:
        """Cancel it, or join the request of the same `update_id`; None if no saga runs. Returns when its label is called off.

        Refusal: return_not_open. Fault: Unavailable, also while the carrier has not answered: ask again with the same
        `update_id`, or look at where it is."""
        return await self._update(return_workflow_id(order_id, number), "cancel", request, ReturnState, update_id)

    async def settle_undo(self, order_id: UUID, number: int, settlement: UndoSettlement) -> ReturnState | None:
        """End a stuck undo by hand; None if no saga runs. Refusals: undo_not_stuck, own_order. Fault: Unavailable."""
        return await self._update(return_workflow_id(order_id, number), "settle_undo", settlement, ReturnState)

    async def label_updated(self, order_id: UUID, number: int, update: ReturnLabelUpdate) -> bool:
        """Tell what the carrier reported of its parcel; False if no saga runs. Repeating it is harmless. Fault: Unavailable."""
        return await self._signal(return_workflow_id(order_id, number), "label_updated", update)

    async def state(self, order_id: UUID, number: int) -> ReturnState | None:
        """Where the saga is; None if there is none. Fault: Unavailable (no worker answers)."""
        return await self._query(return_workflow_id(order_id, number), "status", ReturnState)

    async def timeline(self, order_id: UUID, number: int) -> list[ReturnTimelineEntry] | None:
        """What the saga did; None if there is none. Fault: Unavailable."""
        return await self._query(return_workflow_id(order_id, number), "timeline", list[ReturnTimelineEntry])

    async def seen(self, order_id: UUID, number: int) -> SagaSeen[ReturnState]:
        """All that Temporal knows of it, whether a worker is up or not. Fault: Unavailable, if Temporal does not answer."""
        return await return_seen(self._client, order_id, number)

    async def is_running(self, order_id: UUID, number: int) -> bool:
        """Whether a saga works on it, or may still have to write its end down. Fault: Unavailable."""
        return await self._runs(return_workflow_id(order_id, number))


def return_start_options(run: ReturnRun) -> dict[str, Any]:
    """What a start says of a return's workflow."""
    return {
        "id": return_workflow_id(run.order_id, run.number),
        "task_queue": ORDER_QUEUE,
        "id_conflict_policy": WorkflowIDConflictPolicy.FAIL,
        "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
        "static_summary": f"{run.kind} of {len(run.lines)} lines: {run.resolution}",
        "search_attributes": TypedSearchAttributes(
            [
                SearchAttributePair(RETURN_STATUS, ReturnStatus.REQUESTED),
                SearchAttributePair(CUSTOMER_ID, str(run.customer_id)),
            ]
        ),
    }

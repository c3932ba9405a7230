"""What a return's workflow is told and asked while it runs: updates with a definite answer, signals, queries.

Handlers only keep what they were told and wake the story; nothing is done within them. The signals `approve`, `reject` and
`cancel` are aliases of the updates for the command line: what cannot be accepted is noted in the timeline.
"""

from collections.abc import Callable
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from contracts.base import Request
    from contracts.errors import ErrorCode, Refusal
    from contracts.orders import CancelRequest, Decision, UndoSettlement
    from contracts.returns import (
        ReplacementEnded,
        ReturnedUnits,
        ReturnLabelUpdate,
        ReturnReceipt,
        ReturnRun,
        ReturnState,
        ReturnStatus,
        ReturnTimelineEntry,
    )
    from temporal.refusals import as_failure
    from workflows.returns.progress import ReturnProgress
    from workflows.returns.rules import Label, came_of
    from workflows.saga import Saga

AnyRequest = TypeVar("AnyRequest", bound=Request)
NOT_OPEN = Refusal(ErrorCode.RETURN_NOT_OPEN, "The return does not wait for this, or not any more.")
TOO_LATE = Refusal(ErrorCode.RETURN_NOT_OPEN, "It is too late to cancel the return.")


class ReturnMessages:
    """The messages of one return, until the story takes them."""

    def __init__(self, run: ReturnRun) -> None:
        self._run = run
        self._progress = ReturnProgress(run)
        self._saga = Saga(self._progress.report_stuck)
        self._label = Label()
        self._decision: tuple[bool, Decision] | None = None
        self._receipt: ReturnReceipt | None = None
        self._came: tuple[ReturnedUnits, ...] | None = None
        """What came, by the receipt."""
        self._as_if_come: str | None = None
        """Why it is settled as if all had come, though nobody received it."""
        self._cancellation: CancelRequest | None = None
        """A wish to cancel, until it is carried out or comes too late."""
        self._reports: list[ReturnLabelUpdate] = []
        self._ended: ReplacementEnded | None = None
        """How the order ended that the return brought."""

    # ── Updates ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @workflow.update(name="approve", description="Approve a return or a claim that somebody has to look at: by, reason")
    async def approve_now(self, decision: Decision) -> ReturnState:
        """Returns when its record knows."""
        self._decision = (True, decision)
        await workflow.wait_condition(lambda: self._progress.status != ReturnStatus.REQUESTED and self._progress.is_told)
        return self._progress.state()

    @approve_now.validator
    def _validate_approve(self, decision: Decision) -> None:
        self._require_undecided(decision)

    @workflow.update(name="reject", description="Reject a return or a claim that somebody has to look at: by, reason")
    async def reject_now(self, decision: Decision) -> ReturnState:
        """Returns when its record knows."""
        self._decision = (False, decision)
        await workflow.wait_condition(lambda: self._progress.is_final and self._progress.is_told)
        return self._progress.state()

    @reject_now.validator
    def _validate_reject(self, decision: Decision) -> None:
        self._require_undecided(decision)

    @workflow.update(description="Goods have come: lines with quantity and condition, warehouse, by, reason")
    async def receive(self, receipt: ReturnReceipt) -> ReturnState:
        """Returns when its record knows."""
        self._came, self._receipt = came_of(self._run.lines, receipt.lines), receipt
        await workflow.wait_condition(lambda: self._progress.status != ReturnStatus.APPROVED and self._progress.is_told)
        return self._progress.state()

    @receive.validator
    def _validate_receive(self, receipt: ReturnReceipt) -> None:
        self._require_colleague(receipt)
        if not self._is_expected:
            raise as_failure(NOT_OPEN)
        try:
            came_of(self._run.lines, receipt.lines)
        except Refusal as refusal:
            raise as_failure(refusal) from None

    @workflow.update(name="cancel", description="Cancel, before anything has come or is on its way")
    async def cancel_now(self, request: CancelRequest) -> ReturnState:
        """Returns when it is cancelled and its record knows. Raises return_not_open if something came first."""
        wish = self._wish_to_cancel(request)
        await workflow.wait_condition(lambda: self._cancellation is not wish)
        if self._progress.status != ReturnStatus.CANCELLED:
            raise as_failure(TOO_LATE)
        return self._progress.state()

    @cancel_now.validator
    def _validate_cancel(self, request: CancelRequest) -> None:
        self._require_cancellable(request)

    @workflow.update(description="End a step by hand that does not succeed by itself: undo, done, by, reason, refunded")
    def settle_undo(self, settlement: UndoSettlement) -> ReturnState:
        """Returns where the return is with it."""
        self._saga.settle(settlement)
        self._progress.settled_by_hand(settlement)
        return self._progress.state()

    @settle_undo.validator
    def _validate_settle_undo(self, settlement: UndoSettlement) -> None:
        self._require_colleague(settlement)
        self._saga.require_stuck(settlement)

    # ── Signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @workflow.signal(description="Approve a return or a claim that somebody has to look at: by, reason")
    def approve(self, decision: Decision) -> None:
        if self._takes(decision, self._require_undecided, f"by {decision.by}: {decision.reason}"):
            self._decision = (True, decision)

    @workflow.signal(description="Reject a return or a claim that somebody has to look at: by, reason")
    def reject(self, decision: Decision) -> None:
        if self._takes(decision, self._require_undecided, f"by {decision.by}: {decision.reason}"):
            self._decision = (False, decision)

    @workflow.signal(description="Cancel: what comes of it stands in the timeline")
    def cancel(self, request: CancelRequest) -> None:
        if self._takes(request, self._require_cancellable, f"{request.requested_by}: {request.reason}"):
            self._wish_to_cancel(request)

    @workflow.signal(description="What the carrier reported of the parcel in which the return comes back: status")
    def label_updated(self, update: ReturnLabelUpdate) -> None:
        self._reports.append(update)

    @workflow.signal(description="The order that the return brought has ended: status, credit_back")
    def replacement_ended(self, ended: ReplacementEnded) -> None:
        self._ended = self._ended or ended

    # ── Queries ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @workflow.query(description="Where the return is, and what it waits for")
    def status(self) -> ReturnState:
        return self._progress.state()

    @workflow.query(description="All that happened to the return; `for_staff` is not for its customer")
    def timeline(self) -> list[ReturnTimelineEntry]:
        return self._progress.timeline()

    # ── What may be accepted ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_expected(self) -> bool:
        """Whether goods may come, and none have yet."""
        is_approved = self._progress.status == ReturnStatus.APPROVED
        return is_approved and self._run.is_expected_back and self._receipt is None and self._as_if_come is None

    def _require_undecided(self, decision: Decision) -> None:
        self._require_colleague(decision)
        if self._progress.status != ReturnStatus.REQUESTED or self._decision is not None:
            raise as_failure(NOT_OPEN)

    def _require_cancellable(self, request: CancelRequest) -> None:
        is_requested = self._progress.status == ReturnStatus.REQUESTED and self._decision is None
        if not is_requested and (not self._is_expected or self._label.is_with_carrier):
            raise as_failure(TOO_LATE)

    def _require_colleague(self, decision: Decision) -> None:
        if decision.is_by(self._run.customer_id):
            raise as_failure(Refusal(ErrorCode.OWN_ORDER, "A colleague has to decide about a return of yours."))

    # ── What is kept of it ───────────────────────────────────────────────────────────────────────────────────────────────

    def _takes(self, request: AnyRequest, require: Callable[[AnyRequest], None], who: str) -> bool:
        """Whether what came as a signal is accepted; if not, its sender finds why in the timeline."""
        try:
            require(request)
        except ApplicationError as refused:
            self._progress.note("A decision was not taken", for_staff=f"{who} ({refused.message})")
            return False
        return True

    def _wish_to_cancel(self, request: CancelRequest) -> CancelRequest:
        """All who ask before it is answered get the same answer."""
        if self._cancellation is None:
            self._cancellation = request
            self._progress.note("Somebody wants to cancel", for_staff=f"{request.requested_by}: {request.reason}")
        return self._cancellation

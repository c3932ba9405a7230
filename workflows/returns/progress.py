"""How far a return has got, and who is told: its record, its timeline, search attributes, current details.

What a customer may read (`what`, `detail`) is kept apart from what only staff may (`for_staff`).
"""

from datetime import datetime
from uuid import UUID

from temporalio import workflow

from contracts.errors import ErrorCode
from contracts.ids import replacement_id_for
from contracts.money import Money
from contracts.orders import UndoSettlement
from contracts.returns import (
    FINAL_RETURN_STATUSES,
    NEXT_RETURN_STATUS,
    AdvanceReturn,
    ReturnedUnits,
    ReturnRun,
    ReturnState,
    ReturnStatus,
    ReturnTimelineEntry,
    Settlement,
)
from temporal.names import RETURN_STATUS, STUCK_UNDO
from workflows.returns import steps


class ReturnProgress:
    """One return's. The workflow decides; this keeps and tells."""

    def __init__(self, run: ReturnRun) -> None:
        self._run = run
        self.status = ReturnStatus.REQUESTED
        self._told = 1
        """How many statuses the record has been told. It was made with the first one."""
        self._untold: list[ReturnStatus] = []
        self._timeline: list[ReturnTimelineEntry] = []
        self._waiting_for = "the first step"
        self._until: datetime | None = None
        self._then: str | None = None
        self.detail: str | None = None
        """Why it ends as it does."""
        self.for_staff: str | None = None
        self.code: ErrorCode | None = None
        self.due_at: datetime | None = None
        """Until when its goods may come."""
        self.tracking_number: str | None = None
        self.came: tuple[ReturnedUnits, ...] | None = None
        self.warehouse_id: str | None = None
        """Where they came to; None: where they were expected."""
        self.settlement: Settlement | None = None
        self.refunded: Money | None = None
        self.is_replaced = False
        self._is_telling = False
        self._stuck: tuple[str, ...] = ()
        self._given_up: tuple[str, ...] = ()
        self.note("Requested")

    # ── What happens ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def become(self, status: ReturnStatus, what: str, detail: str | None = None, *, for_staff: str | None = None) -> None:
        """Reach a status. RuntimeError: one that cannot follow; a mistake in the workflow."""
        if status not in NEXT_RETURN_STATUS[self.status]:
            raise RuntimeError(f"{self.status} → {status} is not a move that a return can make")
        self.status = status
        self.detail, self.for_staff = detail or self.detail, for_staff or self.for_staff
        self._untold.append(status)
        self.note(what, detail, for_staff=for_staff)
        workflow.upsert_search_attributes([RETURN_STATUS.value_set(status)])

    def note(self, what: str, detail: str | None = None, *, for_staff: str | None = None) -> None:
        """Add a line to the timeline. Of a line that repeats the last one, only the time is new."""
        entry = ReturnTimelineEntry(at=workflow.now(), what=what, status=self.status, detail=detail, for_staff=for_staff)
        if self._timeline and self._timeline[-1].model_copy(update={"at": entry.at}) == entry:
            self._timeline.pop()
        self._timeline.append(entry)

    def wait_for(self, what: str, until: datetime | None = None, then: str | None = None) -> None:
        """Say what has to happen next, for operators; `then`: what happens if it has not by `until`."""
        self._waiting_for, self._until, self._then = what, until, then
        deadline = f" by {until:%Y-%m-%d %H:%M} UTC" if until else ""
        workflow.set_current_details(f"**{self.status}**, waiting for {what}{deadline}")

    def settled_by_hand(self, settlement: UndoSettlement) -> None:
        """Keep that an undo was ended by hand, done or not."""
        how, why = "done by hand" if settlement.done else "given up", f"by {settlement.by}: {settlement.reason}"
        self.note("Settled by hand", for_staff=f"{settlement.undo} {how} {why}")
        if not settlement.done:
            self._given_up = (*self._given_up, f"{settlement.undo}: {why}")

    def give_back(self, money: Money) -> None:
        """So much more went back to the customer."""
        self.refunded = (self.refunded or Money.zero(self._run.currency)) + money

    # ── Who is told ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def tell(self, *, is_reminder: bool = False) -> None:
        """Let the return's record catch up. What led here is in the history first."""
        path, self._untold = tuple(self._untold), []
        after, self._told = self._told, self._told + len(path)
        command = AdvanceReturn(
            order_id=self._run.order_id,
            number=self._run.number,
            after=after,
            path=path,
            as_of=workflow.now(),
            detail=self.detail,
            for_staff=self.for_staff,
            code=self.code,
            due_at=self.due_at if self.status == ReturnStatus.APPROVED else None,
            tracking_number=self.tracking_number,
            came=self.came,
            warehouse_id=self.warehouse_id,
            settlement=self.settlement,
            refunded=self.refunded,
            replacement_id=self._replacement_id,
            is_reminder=is_reminder,
        )
        self._is_telling = True
        await steps.advance_return(command).run_durably()
        self._is_telling = False

    def report_stuck(self, stuck: tuple[str, ...]) -> None:
        """Make steps that do not succeed visible: search attribute (which a gauge counts), details, timeline."""
        for undo in [undo for undo in stuck if undo not in self._stuck]:
            self.note("Takes longer to be settled", for_staff=f"{undo} does not succeed; it is being retried")
        self._stuck = stuck
        names = ", ".join(stuck)
        workflow.upsert_search_attributes([STUCK_UNDO.value_set(names) if stuck else STUCK_UNDO.value_unset()])
        self.wait_for(f"these steps to succeed: {names}" if stuck else "the next step")

    # ── What is asked ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_RETURN_STATUSES

    @property
    def is_told(self) -> bool:
        """Whether the record knows of every status."""
        return not self._untold and not self._is_telling

    @property
    def _replacement_id(self) -> UUID | None:
        return replacement_id_for(self._run.order_id, self._run.number) if self.is_replaced else None

    def state(self) -> ReturnState:
        """Where the return is, and what it waits for."""
        return ReturnState(
            order_id=self._run.order_id,
            number=self._run.number,
            status=self.status,
            waiting_for="nothing" if self.is_final else self._waiting_for,
            due_at=None if self.is_final else self._until,
            then=None if self.is_final else self._then,
            stuck_undos=self._stuck,
            given_up=self._given_up,
            refunded=self.refunded,
            replacement_id=self._replacement_id,
        )

    def timeline(self) -> list[ReturnTimelineEntry]:
        """All that happened, oldest first."""
        return list(self._timeline)

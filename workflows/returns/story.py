"""The story of a return, from the request to the money, or to other goods.

    approve → book a label → goods come → shelve them → settle: give the money back, or send other goods and give back the rest

A claim is settled as soon as it is approved: nothing of it comes back. What may be asked of a return is in messages.py, what its
parcel's reports mean in rules.py. Whatever is done follows from messages or deadlines, so all of it is done by durable
activities: what led to it is in the history before it is done.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.money import Money
    from contracts.orders import CancelRequest, UndoSettlement
    from contracts.payments import GiveBack, GivenBack
    from contracts.returns import (
        ReplacementPlaced,
        Resolution,
        ReturnLabelUpdate,
        ReturnRun,
        ReturnState,
        ReturnStatus,
        SendBack,
        Settlement,
        settlement_of,
    )
    from contracts.shipments import ShipmentStatus
    from temporal.names import RETURN_WORKFLOW
    from temporal.refusals import as_refusal, words_of
    from workflows.returns import steps
    from workflows.returns.rules import Deadline, Owed
    from workflows.saga import Undo
    from workflows.shields import shielded

from workflows.returns.messages import ReturnMessages

SOON = timedelta(seconds=1)


@workflow.defn(name=RETURN_WORKFLOW)
class ReturnWorkflow(ReturnMessages):
    """One return's saga. It lives until its money went back or its other goods arrived, or it came to nothing."""

    @workflow.init
    def __init__(self, run: ReturnRun) -> None:
        super().__init__(run)
        self._deadline = self._from_now()
        self._remind_at: datetime | None = None

    @workflow.run
    async def run(self, run: ReturnRun) -> ReturnState:
        """From the request to the end; returns how it ended. `temporal workflow cancel` is a wish to cancel like any other."""
        story = asyncio.create_task(self._story())
        try:
            await workflow.wait_condition(story.done)
        except asyncio.CancelledError:
            self.cancel(CancelRequest(reason="The workflow was cancelled."))
        await shielded(_finished(story))
        await shielded(workflow.wait_condition(workflow.all_handlers_finished))
        return self._progress.state()

    async def _story(self) -> None:
        if await self._is_approved() and await self._has_come():
            await self._settle()

    # ── Whether it may be returned ───────────────────────────────────────────────────────────────────────────────────────

    async def _is_approved(self) -> bool:
        run, progress = self._run, self._progress
        approved, why, code = True, "no approval needed", None
        if run.terms.needs_approval:
            until = workflow.now() + timedelta(seconds=run.terms.decision_seconds)
            then = "it is approved" if run.is_expected_back else "it is rejected"
            progress.wait_for("somebody of the shop to approve or reject it", until, then)
            await self._until(until, lambda: self._decision is not None or self._cancellation is not None, "Decision deadline")
            if self._decision is not None:
                approved, by = self._decision
                why, code = f"by {by.by}: {by.reason}", ErrorCode.REVIEW_REJECTED
            elif self._cancellation is not None:
                await self._be_cancelled(self._cancellation)
                return False
            else:
                approved, why, code = run.is_expected_back, "nobody decided in time", ErrorCode.REVIEW_EXPIRED
        if approved:
            self._reach(ReturnStatus.APPROVED, "Approved", for_staff=why)
        else:
            progress.code = code
            words = "Nobody decided about it in time." if code == ErrorCode.REVIEW_EXPIRED else None
            self._reach(ReturnStatus.REJECTED, "Rejected", words, for_staff=why)
        await progress.tell()
        return approved

    # ── Whether it comes back ────────────────────────────────────────────────────────────────────────────────────────────

    async def _has_come(self) -> bool:
        """Whether its goods have come, or none have to. One whose parcel the carrier lost is settled as if all had come; so is
        one that the carrier has had for too long, since its customer has done what was asked."""
        run, progress = self._run, self._progress
        if not run.is_expected_back:
            return True
        self._deadline = self._from_now()
        self._remind_at = workflow.now() + timedelta(seconds=run.terms.remind_seconds)
        if run.send_back == SendBack.LABEL:
            await self._book_label()
        await self._tell_deadline()
        while self._came is None and self._as_if_come is None:
            is_overdue = workflow.now() >= self._deadline.at
            if self._reports:
                await self._heed(self._reports.pop(0))
            elif self._cancellation is not None or is_overdue:
                if await self._comes_to_nothing(is_overdue):
                    return False
            elif self._remind_at is not None and workflow.now() >= self._remind_at:
                self._remind_at = None
                progress.note("Reminded that nothing has come yet")
                await progress.tell(is_reminder=True)
            else:
                then = "it is settled as if all had come" if self._label.is_with_carrier else "it expires"
                progress.wait_for(self._what_it_waits_for(), self._deadline.at, then)
                next_at = min(self._deadline.at, self._remind_at or self._deadline.at)
                await self._until(next_at, self._has_news, "Until its goods have to come, or its customer is reminded")
        return True

    async def _book_label(self) -> None:
        """What cannot be booked, the customer has to bring or send. Nobody who has something to say waits for a carrier that does
        not answer: the label is called off then, which holds also if it is booked later."""
        progress = self._progress
        progress.wait_for("the carrier to book its label")
        self._label.is_ours = True
        booking = steps.create_return_label(self._run).start_durably()
        await workflow.wait_condition(lambda: booking.done() or self._came is not None or self._cancellation is not None)
        if not booking.done():
            booking.cancel()
            booking.add_done_callback(lambda task: task.cancelled() or task.exception())  # or Python tells that nobody looked
            return
        try:
            label = await booking
        except FailureError as failure:
            progress.note("No parcel can be booked: bring the goods or send them", for_staff=words_of(failure))
            self._label.is_ours = as_refusal(failure) is None  # after a fault it may be booked all the same
            return
        progress.tracking_number = label.tracking_number
        progress.note("Label booked", for_staff=f"parcel {label.tracking_number}")

    async def _heed(self, report: ReturnLabelUpdate) -> None:
        """Reports may be repeated, late, or skip one another."""
        if not self._label.hears(report.status):
            return
        if report.status == ShipmentStatus.DELIVERED:
            self._deadline, self._remind_at = self._from_now(is_extended=True), None
            self._progress.note("The parcel has arrived", f"The warehouse looks at it by {_day(self._deadline.at)}.")
            await self._tell_deadline()
        elif self._label.is_with_carrier:
            await self._is_on_its_way()
        elif self._label.is_lost:
            self._as_if_come = "The carrier lost the parcel: it is settled as if all had come."
            self._progress.note("The carrier has lost the parcel")
        else:
            self._progress.note("The parcel went back to its sender")

    async def _is_on_its_way(self) -> None:
        """The carrier has it: it cannot be cancelled any more, and may take longer."""
        self._remind_at, self._cancellation = None, None
        if self._deadline.extend():
            self._progress.note("The parcel is on its way", f"It may take until {_day(self._deadline.at)}.")
            await self._tell_deadline()

    async def _comes_to_nothing(self, is_overdue: bool) -> bool:
        """Call its label off, and end it if that is still possible. Goods that come meanwhile are taken."""
        is_called_off = await self._is_called_off()
        if self._came is not None:
            return False
        if is_called_off and self._cancellation is not None:
            await self._be_cancelled(self._cancellation)
            return True
        if is_called_off:
            self._reach(ReturnStatus.EXPIRED, "Expired", "Its goods did not come in time.")
            await self._progress.tell()
            return True
        if is_overdue and self._deadline.is_extended:
            self._as_if_come = "The parcel was handed in, and nobody has looked at it in time: it is settled as if all had come."
            return False
        await self._is_on_its_way()
        return False

    async def _be_cancelled(self, wish: CancelRequest) -> None:
        self._progress.become(ReturnStatus.CANCELLED, "Cancelled", for_staff=f"{wish.requested_by}: {wish.reason}")
        await self._progress.tell()
        self._cancellation = None

    async def _is_called_off(self) -> bool:
        """Whether no parcel of ours is on its way, as far as the carrier knows."""
        if self._label.can_be_called_off:
            self._progress.wait_for("the carrier to call its label off")
            self._saga.add(steps.cancel_return_label(self._run))
            left = await self._saga.call_off()
            self._saga.forget()
            if left:
                self._label.hears(ShipmentStatus.DISPATCHED)
            else:
                self._label.is_ours, self._progress.tracking_number = False, None
        return not self._label.is_with_carrier

    # ── What it is worth ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _settle(self) -> None:
        """Give back what it is worth: as other goods first, if that was asked for and is possible."""
        progress = self._progress
        await self._shelve()
        settlement = progress.settlement = settlement_of(self._run, self._came)
        owed = Owed(self._run, settlement)
        self._reach(ReturnStatus.SETTLING, f"Worth {settlement.value}", self._why_settled_so())
        await progress.tell()
        if not await self._is_replaced(settlement, owed):
            await self._give_back(owed.take(settlement.value))
        await self._is_called_off()
        self._reach(ReturnStatus.COMPLETED, f"Completed; refunded {progress.refunded or Money.zero(self._run.currency)}")
        await progress.tell()

    async def _shelve(self) -> None:
        """What came in good condition may be sold again."""
        if self._receipt is None or self._came is None:
            return
        at, by = self._receipt.warehouse_id, f"{self._receipt.by}: {self._receipt.reason}"
        self._progress.came, self._progress.warehouse_id = self._came, at
        self._reach(ReturnStatus.RECEIVED, "Goods have come", for_staff=f"at warehouse {at}, by {by}")
        await self._progress.tell()
        if self._came:
            self._progress.wait_for("inventory to take the goods")
            await self._do(steps.receive_return(self._run, self._came, at))

    async def _is_replaced(self, settlement: Settlement, owed: Owed) -> bool:
        """Whether other goods were sent, and how that ended is settled; what they did not take goes back as money."""
        run, progress = self._run, self._progress
        if run.resolution == Resolution.REFUND or (run.resolution == Resolution.EXCHANGE and not settlement.value.minor):
            return False
        progress.wait_for("the order to be placed that replaces it")
        try:
            (placed,) = (await self._do(steps.place_replacement(run, settlement.value))).values()
        except Refusal as refusal:
            progress.note("Nothing else can be sent: the money goes back", for_staff=refusal.detail)
            return False
        if not isinstance(placed, ReplacementPlaced):
            return True  # settled by hand
        progress.is_replaced = True
        progress.note("Other goods are sent", for_staff=f"order {placed.replacement_id}")
        await self._give_back(owed.take(settlement.value - placed.credit, "-rest"))
        await progress.tell()
        progress.wait_for(f"order {placed.replacement_id} to arrive, or to end otherwise")
        await workflow.wait_condition(lambda: self._ended is not None)
        assert self._ended is not None
        progress.note("The other order has ended", for_staff=f"{self._ended.status}, {self._ended.credit_back} go back")
        await self._give_back(owed.take(self._ended.credit_back, "-back"))
        return True

    async def _give_back(self, commands: list[GiveBack]) -> None:
        self._progress.wait_for("the money to go back")
        for result in (await self._do(*map(steps.give_back, commands))).values():
            if isinstance(result, GivenBack):
                self._progress.give_back(result.amount)
            elif isinstance(result, UndoSettlement) and result.refunded is not None:
                self._progress.give_back(result.refunded)

    async def _do(self, *undos: Undo) -> dict[str, Any]:
        """What has to succeed, and can be settled by hand if it does not. Raises the refusal of one that may be refused."""
        self._saga.forget()
        self._saga.add(*undos)
        return await self._saga.compensate()

    # ── What wakes it ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _has_news(self) -> bool:
        return bool(self._came is not None or self._reports or self._cancellation is not None)

    async def _until(self, moment: datetime, has_news: Callable[[], bool], summary: str) -> None:
        """Return then, or when there is news."""
        wait = max(moment - workflow.now(), SOON)
        with suppress(TimeoutError):
            await workflow.wait_condition(has_news, timeout=wait, timeout_summary=summary)

    def _from_now(self, *, is_extended: bool = False) -> Deadline:
        takes = timedelta(seconds=self._run.terms.arrival_seconds)
        return Deadline(workflow.now() + takes, takes, is_extended)

    # ── What is told of it ───────────────────────────────────────────────────────────────────────────────────────────────

    def _reach(self, status: ReturnStatus, what: str, detail: str | None = None, *, for_staff: str | None = None) -> None:
        """A status in which it can be cancelled no more, unless goods are expected."""
        self._progress.become(status, what, detail, for_staff=for_staff)
        if not self._is_expected:
            self._cancellation = None

    async def _tell_deadline(self) -> None:
        self._progress.due_at = self._deadline.at
        await self._progress.tell()

    def _what_it_waits_for(self) -> str:
        if not self._label.is_with_carrier:
            return "the customer to send the goods back"
        has_arrived = self._label.status == ShipmentStatus.DELIVERED
        return "the warehouse to look at the goods" if has_arrived else "the carrier to bring the goods"

    def _why_settled_so(self) -> str | None:
        return self._as_if_come or ("Nothing came back." if self._came == () else None)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


async def _finished(story: asyncio.Task[None]) -> None:
    await story

"""How far an order has got, and who is told: its record, its timeline, search attributes, current details.

What a customer may read (`what`, `detail`) is kept apart from what only staff may (`for_staff`).
"""

from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import FailureError

from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.orders import (
    FINAL_STATUSES,
    NEXT_STATUS,
    AdvanceOrder,
    AmendmentOutcome,
    OrderRun,
    OrderSoFar,
    OrderState,
    OrderStatus,
    Outcome,
    TimelineEntry,
)
from contracts.parcels import CHOICES, Trouble
from contracts.payment_actions import ActionDue, ActionKind, PaymentAction
from contracts.payments import FailedRefund
from temporal.names import FAILURE_REASON, ORDER_STATUS, PARCEL_TROUBLE, STUCK_UNDO
from temporal.refusals import words_of
from workflows import order_steps as steps
from workflows.holds import Hold
from workflows.parcels import Parcels
from workflows.shields import finished_first
from workflows.steps import Argument, Result, Step

WHAT_TO_DO = {ActionKind.REDIRECT: "confirm the payment", ActionKind.TRANSFER: "transfer the money"}
FIRST_ENTRIES, LAST_ENTRIES = 50, 150
"""What of a very long timeline is kept: its beginning and its end."""


class Progress:
    """One order's. The workflow decides; this keeps and tells."""

    def __init__(self, order: OrderRun) -> None:
        self._order = order
        known = order.so_far or OrderSoFar(status=OrderStatus.PENDING, reached=1)
        self.status = known.status
        self._told = known.reached
        """How many statuses the record has been told. It was made with the first one."""
        self._untold: list[OrderStatus] = []
        self._timeline = list(known.timeline)
        self._waiting_for = "the first step"
        self.outcome = known.outcome
        """What the client of `place` is told; it never changes."""
        self.reason = Refusal(known.code, known.detail or "") if known.code else None
        """Why the order ends, if it does not end well."""
        self.reason_for_staff: str | None = None
        self.review_reason = known.review_reason
        self.parcels = Parcels(order, order.so_far)
        self.hold = Hold(order, self.parcels)
        self.trouble = known.trouble
        """Why a parcel does not arrive: what operators find the order under."""
        self.declined = known.declined
        """What its client is told while another card may be tried."""
        self.action = known.action
        """What its customer has to do, while that is waited for."""
        self.refunded = known.refunded
        """What went back to the customer; None: nothing that has to be told."""
        self.closed = known.closed
        """What went back and is no part of `refunded`, because the order was amended since; None: nothing."""
        self.amendment = known.amendment
        """The number of the last amendment that an answer was found for."""
        self._told_facts = self._facts()
        self._stuck: tuple[str, ...] = ()
        self._given_up = known.given_up
        if order.so_far is None:
            self.note(f"Placed: {order.total}")

    # ── What happens ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def become(self, status: OrderStatus, what: str, detail: str | None = None, *, for_staff: str | None = None) -> None:
        """Reach a status. RuntimeError: one that cannot follow; a mistake in the workflow."""
        if status not in NEXT_STATUS[self.status]:
            raise RuntimeError(f"{self.status} → {status} is not a move that an order can make")
        self.status = status
        if status != OrderStatus.PAYMENT_DUE:
            self.declined = None
        if status != OrderStatus.ACTION_REQUIRED:
            self.action = None
        self._untold.append(status)
        self.note(what, detail, for_staff=for_staff)

    def pass_through(self, *statuses: OrderStatus) -> None:
        """Reach those of the statuses that lie ahead: a task that was lost had reached them already."""
        for status in statuses:
            if status in NEXT_STATUS[self.status]:
                self.become(status, "Had gone on already")

    def note(self, what: str, detail: str | None = None, *, for_staff: str | None = None) -> None:
        """Add a line to the timeline. Of a line that repeats the last one, only the time is new."""
        entry = TimelineEntry(at=workflow.now(), what=what, status=self.status, detail=detail, for_staff=for_staff)
        if self._timeline and self._timeline[-1].model_copy(update={"at": entry.at}) == entry:
            self._timeline.pop()
        self._timeline.append(entry)
        if len(self._timeline) > FIRST_ENTRIES + LAST_ENTRIES:
            del self._timeline[FIRST_ENTRIES]

    def wait_for(self, what: str) -> None:
        """Say what has to happen next, for operators."""
        self._waiting_for = what
        workflow.set_current_details(f"**{self.status}**, waiting for {what}")

    def is_due(self, declined: Refusal, until: datetime) -> Outcome:
        """What its client is told. The card was declined; another one may be tried until then."""
        words = f"The card was declined; another one may be tried until {until:%Y-%m-%d %H:%M} UTC"
        if self.status == OrderStatus.PAYMENT_DUE:
            self.note(words, declined.detail)
        else:
            self.become(OrderStatus.PAYMENT_DUE, words, declined.detail)
        refused = Outcome.refused(self._order.order_id, self.status, declined)
        self.declined = refused.model_copy(update={"pay_until": until})
        return self.declined

    def needs_action(self, action: PaymentAction, until: datetime) -> None:
        """Its customer has to do that to pay. `until`: by when; once that is set, it stays."""
        if self.status != OrderStatus.ACTION_REQUIRED:
            what = f"The customer has to {WHAT_TO_DO[action.kind]} by {until:%Y-%m-%d %H:%M} UTC"
            self.become(OrderStatus.ACTION_REQUIRED, what)
        self.action = ActionDue(**dict(action), until=self.action.until if self.action else until)

    def amended(self, order: OrderRun, number: int, closed: Money) -> None:
        """It is that order from here on. `closed`: what has gone back, and goes back with it; `refunded` counts anew."""
        self._order, self.refunded = order, None
        self.not_amended(number, closed)

    def not_amended(self, number: int, closed: Money) -> None:
        """An amendment has its answer. `closed`: what was taken for it and went back."""
        self.amendment = number
        if closed.minor:
            self.closed = closed + (self.closed or Money.zero(closed.currency))

    def gave_up(self, undo: str, why: str) -> None:
        """Keep that an undo was ended by hand without being done."""
        self._given_up = (*self._given_up, f"{undo}: {why}")

    def owes(self, refund: FailedRefund) -> None:
        """Keep that money which was given back has not arrived: its payment service goes on owing it. Told once, however often it
        is heard."""
        debt = f"refund {refund.key} of attempt {refund.attempt}: {refund.amount} did not arrive ({refund.failure})"
        if debt not in self._given_up:
            self._given_up = (*self._given_up, debt)
            self.note("A refund has not arrived", for_staff=debt)

    # ── Who is told ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def do(self, step: Step[Argument, Result]) -> Result:
        """Run a step, and say so if it takes long."""

        def on_slow(failure: FailureError) -> None:
            self.wait_for(f"{step.summary.lower()} (being retried: {words_of(failure)})")
            self.note(f"{step.summary} takes longer", for_staff=words_of(failure))

        return await step.run(on_slow)

    async def tell(self, *, durably: bool = False, amendment: AmendmentOutcome | None = None) -> None:
        """Let the order's record catch up, and operators find the order under its status.

        `durably`: where what led here may not be in the history yet. `amendment`: what came of one."""
        facts = self._facts()
        if not self._untold and facts == self._told_facts and amendment is None:
            return
        self._told_facts = facts
        path, self._untold = tuple(self._untold), []
        after, self._told = self._told, self._told + len(path)
        command = AdvanceOrder(
            order_id=self._order.order_id,
            after=after,
            as_of=workflow.now() if self._may_tell_more() or amendment else None,
            path=path,
            code=self.reason.code if self.reason else None,
            detail=self.reason.detail if self.reason else None,
            for_staff=self.reason_for_staff,
            review_reason=self.review_reason,
            trouble=self.trouble,
            warehouse_id=self.warehouse_id,
            tracking_number=self.tracking_number,
            refunded=self.refunded,
            parcels=self.parcels.as_told(),
            pay_until=self.declined.pay_until if self.declined else self.hold.pay_until,
            action=self.action,
            outcome=self.outcome or self.declined,
            amendment=amendment,
        )
        step = steps.advance_order(command)

        async def told() -> None:
            record = await (step.run_durably() if durably else self.do(step))
            # A task that was lost may have told an outcome before: what was told first stays true.
            if record.outcome and record.outcome.is_definite:
                self.outcome = record.outcome

        # Whatever interrupts the story: how much the record knows must be certain.
        await finished_first(told())

    def _facts(self) -> tuple[Any, ...]:
        """What the record is told beside statuses."""
        return self.trouble, self.outcome or self.declined, self.parcels.as_told(), self.hold.pay_until, self.action

    def _may_tell_more(self) -> bool:
        """Whether words may follow that bring no status."""
        return self.parcels.is_parted or self.hold.is_by_parcel or bool(self.declined or self.action)

    def list_as(self, *more: SearchAttributeUpdate[Any]) -> None:
        """Let operators find the order under its status."""
        workflow.upsert_search_attributes([ORDER_STATUS.value_set(self.status), *more])

    def list_as_cancelled(self, reason: Refusal) -> None:
        """The same, with why."""
        self.list_as(FAILURE_REASON.value_set(reason.code))

    def list_trouble(self, trouble: Trouble | None) -> None:
        """The same, with why its parcel does not arrive, or that it does."""
        self.trouble = trouble
        self.list_as(PARCEL_TROUBLE.value_set(trouble) if trouble else PARCEL_TROUBLE.value_unset())

    def report_stuck(self, stuck: tuple[str, ...]) -> None:
        """Make undos that do not succeed visible: search attribute (which a gauge counts), details, timeline."""
        for undo in [undo for undo in stuck if undo not in self._stuck]:
            self.note("Takes longer to be undone", for_staff=f"{undo} does not succeed; it is being retried")
        self._stuck = stuck
        names = ", ".join(stuck)
        self.list_as(STUCK_UNDO.value_set(names) if stuck else STUCK_UNDO.value_unset())
        self.wait_for(f"these undos to succeed: {names}" if stuck else "the undos to finish")

    # ── What is asked ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def last_decline(self) -> Refusal:
        """Why the last card was declined."""
        assert self.declined is not None
        return self.declined.model_copy(update={"pay_until": None}).refusal or Refusal(ErrorCode.PAYMENT_DECLINED, "")

    @property
    def warehouse_id(self) -> str | None:
        """Of the parcel that stands for the order."""
        return self.parcels.current.warehouse_id if self.parcels.current else None

    @property
    def tracking_number(self) -> str | None:
        """Of the parcel that stands for the order."""
        return self.parcels.current.tracking_number if self.parcels.current else None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES

    def outcome_held(self) -> Outcome:
        """What the client of `place` is told of an order that is held: it is not over yet."""
        return Outcome(order_id=self._order.order_id, status=OrderStatus.IN_REVIEW, detail="Held for review.")

    def outcome_to_confirm(self) -> Outcome:
        """What the client of `place` or `pay` is told of a payment that its customer has to confirm: it is not over yet."""
        to_do = "The payment is to be confirmed."
        return Outcome(order_id=self._order.order_id, status=OrderStatus.ACTION_REQUIRED, detail=to_do)

    def outcome_confirmed(self) -> Outcome:
        """What the client of `place` is told of an order that is confirmed."""
        return Outcome(
            order_id=self._order.order_id,
            status=self.status,
            tracking_number=self.tracking_number,
            warehouse_id=self.warehouse_id,
            at=workflow.now(),
        )

    def state(self) -> OrderState:
        """Where the order is, and what it waits for."""
        return OrderState(
            order_id=self._order.order_id,
            status=self.status,
            waiting_for="nothing" if self.is_final else self._waiting_for,
            stuck_undos=self._stuck,
            given_up=self._given_up,
            code=self.reason.code if self.reason else None,
            detail=self.reason.detail if self.reason else None,
            trouble=self.trouble,
            choices=CHOICES[self.trouble] if self.trouble and not self.is_final else (),
            parcels=self.parcels.as_told(),
        )

    def timeline(self) -> list[TimelineEntry]:
        """All that happened, oldest first."""
        return list(self._timeline)

    def so_far(self, **more: Any) -> OrderSoFar:
        """What the next run of the workflow has to know. The record must have been told everything."""
        assert not self._untold
        return OrderSoFar(
            status=self.status,
            reached=self._told,
            timeline=tuple(self._timeline),
            outcome=self.outcome,
            code=self.reason.code if self.reason else None,
            detail=self.reason.detail if self.reason else None,
            review_reason=self.review_reason,
            parcel=self.parcels.current.number if self.parcels.current else 1,
            parcels=max(self.parcels.tried, 1),
            all_parcels=self.parcels.so_far(),
            warehouse_id=self.warehouse_id,
            tracking_number=self.tracking_number,
            trouble=self.trouble,
            refunded=self.refunded,
            declined=self.declined,
            action=self.action,
            hold=self.hold.so_far(),
            given_up=self._given_up,
            amendment=self.amendment,
            closed=self.closed,
            **more,
        )

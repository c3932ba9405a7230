"""What an order's workflow is told and asked while it runs: updates with a definite answer, signals, queries.

Handlers only keep what they were told and wake the story; nothing is done within them. The signals `approve`, `reject` and
`decide_parcel` are aliases of the updates for the command line: what cannot be accepted is noted in the timeline.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.inventory import StockUpdate
    from contracts.orders import (
        Amendment,
        AmendReply,
        CancelReply,
        CancelRequest,
        Decision,
        OrderRun,
        OrderState,
        OrderStatus,
        Outcome,
        ParcelDecision,
        ParcelSplit,
        PayAgain,
        ShortageAnswer,
        TimelineEntry,
        UndoSettlement,
        UnitsCancelled,
        Wait,
    )
    from contracts.parcels import CHOICES, ParcelChoice, ParcelStatus
    from contracts.payments import AnsweredPayment, FailedRefund
    from contracts.shipments import ShipmentUpdate
    from temporal.refusals import as_failure
    from workflows.parcels import Parcel, lines_by_id, units_by_line
    from workflows.progress import Progress
    from workflows.saga import Saga

_S = OrderStatus
PLACING = frozenset({_S.PENDING, _S.RESERVED, _S.PAYMENT_DUE, _S.ACTION_REQUIRED, _S.IN_REVIEW, _S.PAID, _S.CANCELLING})
AnyDecision = TypeVar("AnyDecision", bound=Decision)
TOO_LATE = Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel has left; it can only be returned.")
NOT_TO_BE_SPLIT = Refusal(ErrorCode.CONFLICT, "Only a parcel that has not left can be split.")
NOT_SO_MUCH = Refusal(ErrorCode.CONFLICT, "A parcel is split into two that both have something, and no more than it had.")
ON_ITS_WAY = frozenset({OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_SHIPPED, OrderStatus.UNDELIVERED})
MOST_PARCELS = 20
MOST_ATTEMPTS = 20
NOT_DUE = Refusal(ErrorCode.PAYMENT_NOT_DUE, "The order does not wait for another card.")


class Cancellation:
    """A wish to cancel. All who ask before it is answered get the same answer."""

    def __init__(self, request: CancelRequest) -> None:
        self.request = request
        self.answer: CancelReply | Refusal | None = None


class Split:
    """A wish to send some of a parcel in another one."""

    def __init__(self, request: ParcelSplit) -> None:
        self.request = request
        self.answer: Refusal | Literal["done"] | None = None


class UnitsWish:
    """A wish to cancel some units. It waits until the order is confirmed. Who repeats it gets the same answer."""

    def __init__(self, request: CancelRequest, answer: CancelReply | None = None) -> None:
        self.request = request
        self.answer: CancelReply | Refusal | None = answer


class AmendmentWish:
    """A wish to amend the order."""

    def __init__(self, amendment: Amendment) -> None:
        self.amendment = amendment
        self.answer: AmendReply | Refusal | None = None


class CardOffer:
    """Another card for a confirmed order of which less could be held or taken than it needs."""

    def __init__(self, card: str) -> None:
        self.card = card
        self.answer: Outcome | Refusal | None = None


class OrderMessages(ABC):
    """The messages of one order, until the story takes them."""

    def __init__(self, order: OrderRun) -> None:
        so_far = order.so_far
        self._order = order
        self._progress = Progress(order)
        self._saga = Saga(self._progress.report_stuck)
        self._answered: Outcome | None = self._progress.outcome
        """What `place` is answered."""
        self._cancellation: Cancellation | None = None
        self._settled: CancelReply | None = None
        """What a cancellation settled, once it has."""
        self._over = False
        """Nothing more will happen: who still waits for an answer gets it."""
        self._approval: tuple[bool, Decision] | None = None
        self._parcel_decision: ParcelDecision | None = None
        self._shortage_answer: ShortageAnswer | None = None
        self._other_card: str | None = None
        """To be tried next."""
        self._return_url = order.return_url
        """Where the customer's browser goes to when the bank has asked something."""
        self._answered_attempts: set[int] = set()
        """Attempts to pay that have moved on, and may be asked about again."""
        self._attempt = so_far.attempt if so_far else 1
        """Which attempt to pay is the newest."""
        self._parcels = self._progress.parcels
        self._hold = self._progress.hold
        self._offer: CardOffer | None = None
        self._splits: list[Split] = []
        self._amendment: AmendmentWish | None = None
        self._units: list[UnitsWish] = []
        """Wishes for some units that are to be carried out."""
        self._units_by_key: dict[str, UnitsWish] = {}
        """All that came, and those that an earlier run of the workflow has carried out."""
        for told in so_far.cancelled_units if so_far else ():
            self._units_by_key[told.request.key or ""] = UnitsWish(told.request, told.reply)
        self._reports: list[ShipmentUpdate] = []
        self._stock_news: list[StockUpdate] = []
        self._is_signalled = False
        """Whether a signal has come since the story looked last: what makes a history long."""

    # ── Updates ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @workflow.update(description="The order's outcome, as soon as it is known")
    async def place(self) -> Outcome:
        """Sent together with the start. Returns when the order is confirmed, refused, held for review, or its customer has to
        confirm the payment."""
        await workflow.wait_condition(lambda: self._answered is not None)
        assert self._answered is not None
        return self._answered

    @workflow.update(description="Cancel: before dispatch everything is settled; after it, refused with the reason")
    async def cancel(self, request: CancelRequest) -> CancelReply:
        """Returns what was settled. Raises already_dispatched if the parcel has left, or the units have; conflict if there are
        not so many. With lines: once the order is confirmed, or is over."""
        wish = self._wish_for_units(request) if request.lines else self._wish_to_cancel(request)
        await workflow.wait_condition(lambda: wish.answer is not None or self._over)
        answer = wish.answer or self._settled or TOO_LATE
        if isinstance(answer, Refusal):
            raise as_failure(answer)
        return answer

    @cancel.validator
    def _validate_cancel(self, request: CancelRequest) -> None:
        refusal = self._why_no_units(request) if request.lines else TOO_LATE if self._has_left() else None
        if refusal:
            raise as_failure(refusal)

    @workflow.update(name="approve", description="Approve an order that is held for review: by, reason")
    def approve_now(self, decision: Decision) -> OrderState:
        """Returns where the order is with it."""
        return self._approve_or_reject(True, decision)

    @approve_now.validator
    def _validate_approve(self, decision: Decision) -> None:
        self._require_review(decision)

    @workflow.update(name="reject", description="Reject an order that is held for review: by, reason")
    def reject_now(self, decision: Decision) -> OrderState:
        """Returns where the order is with it."""
        return self._approve_or_reject(False, decision)

    @reject_now.validator
    def _validate_reject(self, decision: Decision) -> None:
        self._require_review(decision)

    @workflow.update(name="decide_parcel", description="Decide about a parcel in trouble: choice, by, reason")
    def decide_parcel_now(self, decision: ParcelDecision) -> OrderState:
        """Returns where the order is with it."""
        return self._decide_parcel(decision)

    @decide_parcel_now.validator
    def _validate_decide_parcel(self, decision: ParcelDecision) -> None:
        self._require_trouble(decision)

    @workflow.update(description="Try another card for an order whose payment is due: payment_token")
    async def pay(self, request: PayAgain) -> Outcome:
        """The order's outcome with that card: confirmed, held for review, to be confirmed at the bank, or declined again."""
        if self._progress.status != OrderStatus.PAYMENT_DUE:
            return await self._offered(CardOffer(request.payment_token))
        self._other_card, self._answered = request.payment_token, None
        self._return_url = request.return_url or self._order.return_url
        await workflow.wait_condition(lambda: self._answered is not None or self._over)
        return self._answered or self._progress.outcome or self._progress.outcome_confirmed()

    @pay.validator
    def _validate_pay(self, request: PayAgain) -> None:
        is_due = self._progress.status == OrderStatus.PAYMENT_DUE or self._hold.due
        is_taken = self._other_card is not None or self._offer is not None or self._cancellation is not None
        if not is_due or is_taken or self._attempt == MOST_ATTEMPTS:
            raise as_failure(NOT_DUE)

    async def _offered(self, offer: CardOffer) -> Outcome:
        """What came of it. Raises payment_not_due, if the order ended first, or what it was for."""
        self._offer = offer
        await workflow.wait_condition(lambda: offer.answer is not None or self._over)
        if isinstance(offer.answer, Outcome):
            return offer.answer
        raise as_failure(offer.answer or NOT_DUE)

    @workflow.update(
        name="answer_shortage", description="What becomes of goods that are out of stock: choice (wait, drop, refuse)"
    )
    def answer_shortage_now(self, answer: ShortageAnswer) -> OrderState:
        """Returns where the order is with it."""
        self._shortage_answer = answer
        return self._progress.state()

    @answer_shortage_now.validator
    def _validate_answer_shortage(self, answer: ShortageAnswer) -> None:
        if not self._parcels.awaited or self._shortage_answer is not None or self._cancellation is not None:
            raise as_failure(Refusal(ErrorCode.NO_DECISION_PENDING, "No goods of the order are out of stock."))

    @workflow.update(description="Send some of a parcel in another one: parcel, lines, by, reason")
    async def split_parcel(self, split: ParcelSplit) -> OrderState:
        """Returns where the order is once that is done. Raises what keeps it from being done."""
        wish = Split(split)
        self._splits.append(wish)
        await workflow.wait_condition(lambda: wish.answer is not None or self._over)
        if isinstance(wish.answer, Refusal):
            raise as_failure(wish.answer)
        return self._progress.state()

    @split_parcel.validator
    def _validate_split_parcel(self, split: ParcelSplit) -> None:
        self._require_colleague(split)
        parcel, is_full = self._parcels.find(split.parcel), self._parcels.tried + len(self._splits) >= MOST_PARCELS
        is_open = self._progress.status in ON_ITS_WAY and self._cancellation is None
        if not is_open or is_full or parcel is None or parcel.status not in (ParcelStatus.RESERVED, ParcelStatus.BOOKED):
            raise as_failure(NOT_TO_BE_SPLIT)
        if self._parcels.part_of(parcel, split.lines) is None:
            raise as_failure(NOT_SO_MUCH)

    @workflow.update(description="End an undo by hand that does not succeed by itself: undo, done, by, reason, refunded")
    def settle_undo(self, settlement: UndoSettlement) -> OrderState:
        """Returns where the order is with it."""
        self._saga.settle(settlement)
        how = "done by hand" if settlement.done else "given up"
        self._progress.note("Settled by hand", for_staff=f"{settlement.undo} {how} by {settlement.by}: {settlement.reason}")
        if not settlement.done:
            self._progress.gave_up(settlement.undo, f"by {settlement.by}: {settlement.reason}")
        return self._progress.state()

    @settle_undo.validator
    def _validate_settle_undo(self, settlement: UndoSettlement) -> None:
        self._require_colleague(settlement)
        self._saga.require_stuck(settlement)

    # ── Signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @workflow.signal(description="Approve an order that is held for review: by, reason")
    def approve(self, decision: Decision) -> None:
        if self._takes(decision, self._require_review):
            self._approve_or_reject(True, decision)

    @workflow.signal(description="Reject an order that is held for review: by, reason")
    def reject(self, decision: Decision) -> None:
        if self._takes(decision, self._require_review):
            self._approve_or_reject(False, decision)

    @workflow.signal(description="Decide about a parcel in trouble: choice, by, reason")
    def decide_parcel(self, decision: ParcelDecision) -> None:
        if self._takes(decision, self._require_trouble):
            self._decide_parcel(decision)

    @workflow.signal(name="cancel", description="Cancel: what comes of it stands in the timeline")
    def cancel_signalled(self, request: CancelRequest) -> None:
        self._is_signalled = True
        if request.lines:
            if refusal := self._why_no_units(request):
                self._progress.note("A wish to cancel some of it was not taken", refusal.detail, for_staff=_who_asks(request))
            else:
                self._wish_for_units(request)
        elif not self._has_left() and self._settled is None:
            self._wish_to_cancel(request)

    @workflow.signal(description="What the carrier reported: status, parcel")
    def shipment_updated(self, update: ShipmentUpdate) -> None:
        self._is_signalled = True
        self._reports.append(update)

    @workflow.signal(description="Goods have arrived for a parcel that waits for them, or their date has moved: parcel, status")
    def stock_updated(self, update: StockUpdate) -> None:
        self._is_signalled = True
        self._stock_news.append(update)

    @workflow.signal(description="Money that was given back has not arrived, and is still owed: attempt, key, amount, failure")
    def refund_failed(self, refund: FailedRefund) -> None:
        self._is_signalled = True
        self._progress.owes(refund)

    @workflow.signal(description="A payment that its customer had to confirm has moved on: attempt")
    def payment_answered(self, payment: AnsweredPayment) -> None:
        self._is_signalled = True
        self._answered_attempts.add(payment.attempt)

    # ── Queries ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @workflow.query(description="Where the order is, and what it waits for")
    def status(self) -> OrderState:
        return self._progress.state().model_copy(update={"waits": self._waits()})

    @workflow.query(description="All that happened to the order; `for_staff` is not for its customer")
    def timeline(self) -> list[TimelineEntry]:
        return self._progress.timeline()

    @property
    def _card(self) -> str:
        """The one that was tried last."""
        return self._hold.card if self._hold.is_by_parcel else self._other_card or self._order.payment_token

    # ── What may be accepted ─────────────────────────────────────────────────────────────────────────────────────────────

    def _has_left(self) -> bool:
        """Whether nothing of the order can be called off any more."""
        return not self._parcels.can_be_called_off

    def _require_review(self, decision: Decision) -> None:
        self._require_colleague(decision)
        if self._progress.status != OrderStatus.IN_REVIEW or self._approval is not None or self._cancellation is not None:
            raise as_failure(Refusal(ErrorCode.NOT_IN_REVIEW, "The order is not held for review."))

    def _require_trouble(self, decision: ParcelDecision) -> None:
        self._require_colleague(decision)
        parcel = self._parcel_meant(decision)
        taken = self._parcel_decision is not None or self._cancellation is not None
        if parcel is None or parcel.trouble is None or self._progress.status != OrderStatus.UNDELIVERED or taken:
            raise as_failure(Refusal(ErrorCode.NO_DECISION_PENDING, "No such parcel of the order is in trouble."))
        trouble, is_full = parcel.trouble, self._parcels.tried == MOST_PARCELS
        if decision.choice not in CHOICES[trouble] or (decision.choice == ParcelChoice.RESEND and is_full):
            choices = [str(choice) for choice in CHOICES[trouble]]
            raise as_failure(Refusal(ErrorCode.CHOICE_NOT_POSSIBLE, f"The parcel is {trouble}.", extra={"choices": choices}))

    def _parcel_meant(self, decision: ParcelDecision) -> Parcel | None:
        """The parcel in trouble that a decision is about; None if there is none, or it does not say which of several."""
        troubled = self._parcels.in_trouble
        if decision.parcel is None:
            return troubled[0] if len(troubled) == 1 else None
        return next((parcel for parcel in troubled if parcel.number == decision.parcel), None)

    def _require_colleague(self, decision: Decision) -> None:
        if decision.is_by(self._order.customer_id):
            raise as_failure(Refusal(ErrorCode.OWN_ORDER, "A colleague has to decide about an order of yours."))

    # ── What is kept of it ───────────────────────────────────────────────────────────────────────────────────────────────

    def _approve_or_reject(self, approved: bool, decision: Decision) -> OrderState:
        self._approval = (approved, decision)
        return self._progress.state()

    def _decide_parcel(self, decision: ParcelDecision) -> OrderState:
        self._parcel_decision = decision
        return self._progress.state()

    @abstractmethod
    def _waits(self) -> tuple[Wait, ...]:
        """What each part of the order waits for."""

    def _takes(self, decision: AnyDecision, require: Callable[[AnyDecision], None]) -> bool:
        """Whether a decision that came as a signal is accepted; if not, its sender finds why in the timeline."""
        self._is_signalled = True
        try:
            require(decision)
        except ApplicationError as refused:
            self._progress.note("A decision was not taken", for_staff=f"By {decision.by} ({decision.reason}): {refused.message}")
            return False
        return True

    def _wish_to_cancel(self, request: CancelRequest) -> Cancellation:
        if self._settled or self._cancellation is None:
            self._cancellation = Cancellation(request)
            self._cancellation.answer = self._settled
            if self._settled is None:
                self._progress.note("Somebody wants to cancel", for_staff=_who_asks(request))
        return self._cancellation

    def _wish_for_units(self, request: CancelRequest) -> UnitsWish:
        """A new one, or the earlier one of the same key."""
        key = _key_of(request)
        if key in self._units_by_key:
            return self._units_by_key[key]
        wish = UnitsWish(request.model_copy(update={"key": key}))
        if key:
            self._units_by_key[key] = wish
        self._units.append(wish)
        self._progress.note("Somebody wants to cancel some of it", for_staff=_who_asks(request))
        return wish

    def _units_cancelled(self) -> tuple[UnitsCancelled, ...]:
        """The wishes for some units that were carried out, for the next run of the workflow."""
        wishes = self._units_by_key.values()
        return tuple(
            UnitsCancelled(request=wish.request, reply=wish.answer) for wish in wishes if isinstance(wish.answer, CancelReply)
        )

    def _why_no_units(self, request: CancelRequest) -> Refusal | None:
        """Why a wish for some units cannot be taken now; None if it can, or was taken before."""
        if _key_of(request) in self._units_by_key:
            return None
        if len(self._units) >= MOST_PARCELS:
            return Refusal(ErrorCode.CONFLICT, "Others wait to be carried out; ask again in a while.")
        wanted, ordered = units_by_line(request.lines), lines_by_id(self._order)
        if any(line_id not in ordered or units > ordered[line_id].quantity for line_id, units in wanted.items()):
            return not_so_many({line_id: line.quantity for line_id, line in ordered.items()})
        is_settling = self._progress.status in PLACING or self._cancellation is not None
        return None if is_settling else self._why_not(wanted)

    def _why_not(self, wanted: Mapping[int, int]) -> Refusal | None:
        """Why so many units of each line cannot be cancelled. Refusals: already_dispatched, conflict."""
        can, left = self._parcels.cancellable(), self._parcels.left()
        missing = {line_id: units - can.get(line_id, 0) for line_id, units in wanted.items() if units > can.get(line_id, 0)}
        if not missing:
            return None
        if all(units <= left.get(line_id, 0) for line_id, units in missing.items()):
            return Refusal(TOO_LATE.code, "These units have left; they can only be returned.", extra=_cancellable(can))
        return not_so_many(can)

    def _answer_cancellation(self, answer: CancelReply | Refusal) -> None:
        if self._cancellation:
            self._cancellation.answer = answer
            self._cancellation = None


def not_so_many(can: Mapping[int, int]) -> Refusal:
    """Refusal of a wish to cancel more than there is. `can`: how many units of each line can be cancelled."""
    return Refusal(ErrorCode.CONFLICT, "So many units cannot be cancelled.", extra=_cancellable(can))


def told_of(request: CancelRequest) -> tuple[Refusal, str]:
    """Why something ends that somebody wants to be cancelled, and the same for staff."""
    told = f"Cancelled: {request.reason}" if request.requested_by == "customer" else "Cancelled by the shop."
    return Refusal(ErrorCode.CANCELLED_BY_REQUEST, told), _who_asks(request)


def _who_asks(request: CancelRequest) -> str:
    return f"{request.requested_by}: {request.reason}"


def _cancellable(can: Mapping[int, int]) -> dict[str, Any]:
    return {"cancellable": [{"line_id": line_id, "quantity": units} for line_id, units in sorted(can.items()) if units]}


def _key_of(request: CancelRequest) -> str | None:
    """What names a wish for some units; None only of a signal without a key."""
    update = workflow.current_update_info()
    return request.key or (update.id if update else None)

"""Where an order is and why: for each of its parts what it waits for, and who may bring it on with which call. Pure.

Made of the order's record, of what its saga says of itself, and of what Temporal knows of the saga; any of the last two may be
missing. Staff read errors, workers and commands. Its customer reads words that are written here, or that the saga writes for
customers: never an error, for that names hosts and people.
"""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import Field

from contracts.base import Contract
from contracts.errors import ErrorCode
from contracts.ids import order_workflow_id
from contracts.orders import Actor, OrderState, OrderStatus, Wait
from contracts.parcels import CHOICES, ParcelChoice, ParcelStatus, Trouble
from services.order.model import Order
from temporal.explaining import PendingStep, SagaSeen

S, A = OrderStatus, Actor


class Cause(StrEnum):
    """Why an order is not further, in one word."""

    OVER = "over"
    """Nothing more happens to it."""
    NOT_STARTED = "not_started"
    """Its saga is still to be started; a job does that."""
    LOST = "lost"
    """Its workflow is gone, or has ended before the order: nobody works on it."""
    TEMPORAL_AWAY = "temporal_away"
    NO_WORKER = "no_worker"
    """No worker of its build asks for work."""
    WORKER_FAILS = "worker_fails"
    """Workers take it, and cannot work out the next step."""
    NO_ANSWER = "no_answer"
    """There are workers, but its saga does not answer."""
    STEP_FAILS = "step_fails"
    UNDO_FAILS = "undo_fails"
    STEP_RUNS = "step_runs"
    SOMEBODY = "somebody"
    """A person has to act."""
    WORLD = "world"
    """It waits for what comes by itself, such as the carrier."""


class Call(Contract):
    """How somebody may bring it on."""

    does: str
    who: tuple[Actor, ...]
    method: str | None = None
    path: str | None = None
    url: str | None = None
    """A page of another company, e.g. the bank, to be opened in a browser."""
    headers: dict[str, str] = Field(default_factory=dict)
    body: dict[str, Any] | None = None
    """An example of what is sent."""
    choices: tuple[str, ...] = ()
    """What `choice` may be."""


class StaffCall(Call):
    """The same with the command line that does it."""

    command: str | None = None


class Part(Contract):
    """What one part of an order waits for."""

    part: str
    """`order`, `payment`, `parcel 2`, `undo refund-payment`."""
    waiting_for: str
    since: datetime | None = None
    """Null: not known."""
    until: datetime | None = None
    then: str | None = None
    """What happens then; without `until`, what follows in any case."""
    who: tuple[Actor, ...] = ()
    next_try: datetime | None = None
    """When the platform tries it again."""
    calls: tuple[Call, ...] = ()


class StaffPart(Part):
    """The same as staff may know it."""

    step: str | None = None
    """What is being tried: a durable activity of that id, in `temporal workflow describe`."""
    service: str | None = None
    """Which service does it."""
    attempt: int | None = None
    """The one that runs, or comes next."""
    last_error: str | None = None
    last_worker: str | None = None
    calls: tuple[StaffCall, ...] = ()


class Explanation(Contract):
    """Where an order is and why, as its customer may know it."""

    order_id: UUID
    status: OrderStatus
    headline: str
    since: datetime
    """Since when it has its status."""
    parts: tuple[Part, ...] = ()
    calls: tuple[Call, ...] = ()
    """What may be done with all of it."""
    code: ErrorCode | None = None
    """Why it ended, if it was refused or cancelled."""
    detail: str | None = None


class Worker(Contract):
    """Who asks Temporal for work."""

    identity: str
    asked_at: datetime
    """When it asked last: once a minute, while it waits for work."""


class SagaFacts(Contract):
    """What Temporal knows of its workflow."""

    workflow_id: str
    runs: bool
    ended_as: str | None = None
    ended_at: datetime | None = None
    build: str | None = None
    """The build of the worker that it is pinned to."""
    workers: tuple[Worker, ...] | None = None
    """Of that build; one that is gone is listed for a minute more. Null: not known."""
    task_since: datetime | None = None
    """Since when its next move waits for a worker."""
    task_attempt: int | None = None
    problems: tuple[str, ...] = ()
    silence: str | None = None
    """Why it did not answer."""


class StaffExplanation(Explanation):
    """The same as staff may know it."""

    cause: Cause
    source: Literal["workflow", "temporal", "record"]
    """Who told it: the saga itself; or, when that cannot be asked, Temporal and the order's record; or the record alone."""
    parts: tuple[StaffPart, ...] = ()
    calls: tuple[StaffCall, ...] = ()
    for_staff: str | None = None
    """What `detail` does not say to the customer."""
    given_up: tuple[str, ...] = ()
    """Undos that were ended by hand without being done."""
    saga: SagaFacts | None = None
    """Null: Temporal did not answer, or the order is over."""


EXPLAIN_EXAMPLES: Any = {
    "to staff, while the carrier is away": {
        "value": {
            "order_id": "0198c1f2-0000-7000-8000-000000000000",
            "status": "PAID",
            "headline": "PAID, and waits for the parcel to be booked with the carrier (service shipping), which failed 7 times: "
            "carrier: 503; next try at 2026-11-27 08:11:02 UTC; until 2026-11-27 09:10:00 UTC, then the order is undone.",
            "since": "2026-11-27T08:10:00Z",
            "cause": "step_fails",
            "source": "workflow",
            "parts": [
                {
                    "part": "parcel",
                    "waiting_for": "the parcel to be booked with the carrier",
                    "since": "2026-11-27T08:10:00Z",
                    "until": "2026-11-27T09:10:00Z",
                    "then": "the order is undone",
                    "who": ["platform", "operator"],
                    "next_try": "2026-11-27T08:11:02Z",
                    "step": "create-shipment",
                    "service": "shipping",
                    "attempt": 8,
                    "last_error": "carrier: 503",
                    "calls": [
                        {
                            "does": "Try it now",
                            "who": ["operator"],
                            "command": "commerce undo retry 0198c1f2-0000-7000-8000-000000000000 create-shipment",
                        }
                    ],
                }
            ],
        }
    },
    "to its customer, whose card was declined": {
        "value": {
            "order_id": "0198c1f2-0000-7000-8000-000000000000",
            "status": "PAYMENT_DUE",
            "headline": "It waits for another card, since the last one was declined, until 2026-11-27 08:40:00 UTC; then the "
            "order is cancelled.",
            "since": "2026-11-27T08:10:00Z",
            "parts": [
                {
                    "part": "payment",
                    "waiting_for": "another card, since the last one was declined",
                    "since": "2026-11-27T08:10:00Z",
                    "until": "2026-11-27T08:40:00Z",
                    "then": "the order is cancelled",
                    "who": ["customer"],
                    "calls": [
                        {
                            "does": "Pay with another card",
                            "who": ["customer"],
                            "method": "POST",
                            "path": "/api/v1/orders/0198c1f2-0000-7000-8000-000000000000/payments",
                            "headers": {"Idempotency-Key": "A NEW ONE"},
                            "body": {"payment_token": "TOKEN"},
                        }
                    ],
                }
            ],
        }
    },
}


# ── What is usual ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Usual(NamedTuple):
    part: str
    waiting_for: str
    who: tuple[Actor, ...] = (A.PLATFORM,)
    updates: tuple[str, ...] = ()
    then: str | None = None


USUALLY: Mapping[OrderStatus, _Usual] = {
    S.PENDING: _Usual("order", "the goods to be reserved"),
    S.RESERVED: _Usual("payment", "the payment"),
    S.PAYMENT_DUE: _Usual("payment", "another card", (A.CUSTOMER,), ("pay",), "the order is cancelled"),
    S.ACTION_REQUIRED: _Usual("payment", "the payment to be confirmed", (A.CUSTOMER,), then="the order is cancelled"),
    S.IN_REVIEW: _Usual(
        "order", "somebody of the shop to look at it", (A.SUPPORT,), ("approve", "reject"), "the order is cancelled"
    ),
    S.PAID: _Usual("order", "the parcel to be booked with the carrier"),
    S.CONFIRMED: _Usual("parcel", "the warehouse to hand the parcel over to the carrier", (A.WAREHOUSE,)),
    S.PARTIALLY_SHIPPED: _Usual("order", "the rest of its parcels", (A.WAREHOUSE, A.CARRIER)),
    S.SHIPPED: _Usual("parcel", "the carrier to deliver", (A.CARRIER,)),
    S.UNDELIVERED: _Usual("parcel", "somebody of the shop to decide about the parcel", (A.SUPPORT,), ("decide_parcel",)),
    S.DELIVERED: _Usual("order", "its end to be written down"),
    S.CANCELLING: _Usual("order", "what was done for it to be undone"),
}
"""What an order waits for by its status, where nobody knows more."""
PARCELS: Mapping[ParcelStatus, _Usual] = {
    ParcelStatus.AWAITED: _Usual("parcel", "goods to arrive", (A.WAREHOUSE, A.CUSTOMER), ("answer_shortage",)),
    ParcelStatus.RESERVED: _Usual("parcel", "the goods of the order's other parcels", (A.WAREHOUSE,)),
    ParcelStatus.BOOKED: USUALLY[S.CONFIRMED],
    ParcelStatus.SHIPPED: USUALLY[S.SHIPPED],
    ParcelStatus.UNDELIVERED: USUALLY[S.UNDELIVERED],
}
"""The same of one of several parcels."""
BEFORE_CONFIRMED = frozenset({S.PENDING, S.RESERVED, S.PAYMENT_DUE, S.ACTION_REQUIRED, S.IN_REVIEW, S.PAID})
AFTER_CONFIRMED = frozenset({S.CONFIRMED, S.PARTIALLY_SHIPPED, S.SHIPPED, S.UNDELIVERED})
CANCELLABLE = BEFORE_CONFIRMED | {S.CONFIRMED}
IF_NOBODY_DECIDES = {
    ParcelChoice.WAIT: "it is waited for again",
    ParcelChoice.RESEND: "another parcel is sent",
    ParcelChoice.REFUND: "its price goes back",
    ParcelChoice.REFUND_AND_RESTOCK: "its price goes back, and the goods on the shelf",
}
ENDED = {
    S.COMPLETED: "Completed",
    S.REFUNDED: "The goods did not arrive, and the money went back",
    S.CANCELLED: "Cancelled",
}


class _Activity(NamedTuple):
    """What a command is for, which service carries it out, and of which part of the order it is."""

    waiting_for: str
    service: str
    part: str = "order"
    is_undo: bool = False
    for_customer: bool = True
    """Whether it says anything to the customer."""
    blocks: bool = True
    """Whether the order waits for it."""


ACTIVITIES: Mapping[str, _Activity] = {
    "AdvanceOrder": _Activity("the order's record to take down how far it is", "order", for_customer=False),
    "ReserveInventory": _Activity("the goods to be reserved", "inventory"),
    "ReleaseInventory": _Activity("the reserved goods to be set free", "inventory", is_undo=True, for_customer=False),
    "SplitReservation": _Activity(
        "some of the parcel's goods to be kept for another one", "inventory", "parcel", for_customer=False
    ),
    "MoveReservation": _Activity("the goods to be promised to another parcel", "inventory", "parcel", for_customer=False),
    "ShipInventory": _Activity("the goods that have left to be taken off the stock", "inventory", "parcel", for_customer=False),
    "RestockInventory": _Activity("the goods that came back to be put on the shelf", "inventory", "parcel", for_customer=False),
    "ProcessPayment": _Activity("the payment", "payment", "payment"),
    "CapturePayment": _Activity("the money that is held to be taken", "payment", "payment"),
    "RefundPayment": _Activity("the money to go back", "payment", is_undo=True),
    "GiveBack": _Activity("the money to go back", "payment", is_undo=True),
    "ReleaseHold": _Activity(
        "what is held of the money and not needed to be let go", "payment", is_undo=True, for_customer=False
    ),
    "CreateShipment": _Activity("the parcel to be booked with the carrier", "shipping", "parcel"),
    "CancelShipment": _Activity("the carrier to call the parcel off", "shipping", is_undo=True),
    "AdvanceReturn": _Activity("the return's record to take down how far it is", "order", for_customer=False),
    "CreateReturnLabel": _Activity("the label of the return to be booked with the carrier", "shipping"),
    "CancelReturnLabel": _Activity("the carrier to call the return's parcel off", "shipping", is_undo=True),
    "ReceiveReturn": _Activity("the goods that came back to be put on the shelf", "inventory", for_customer=False),
    "PlaceReplacement": _Activity("the order that the return brings to be placed", "order"),
    "SendNotification": _Activity("the confirmation to be queued for sending", "notification", for_customer=False, blocks=False),
}
"""Everything that a saga tries, by the activity's type."""


@dataclass(frozen=True)
class _Way:
    """How one of the workflow's updates is sent."""

    does: str
    who: tuple[Actor, ...]
    under: str | None
    """The endpoint, under the order's own, e.g. `parcels/{parcel}/split`; None: there is none."""
    body: Mapping[str, Any]
    signed: bool = True
    """Whether the workflow is told by whom."""
    headers: Mapping[str, str] = field(default_factory=dict)


WHY = {"reason": "WHY"}
NEW_KEY = {"Idempotency-Key": "A NEW ONE"}
UPDATES: Mapping[str, _Way] = {
    "cancel": _Way("Cancel the order", (A.CUSTOMER, A.SUPPORT), "cancel", WHY, signed=False),
    "approve": _Way("Approve it", (A.SUPPORT,), "approve", WHY),
    "reject": _Way("Reject it", (A.SUPPORT,), "reject", WHY),
    "decide_parcel": _Way("Decide about the parcel", (A.SUPPORT,), "parcel-decision", WHY),
    "pay": _Way("Pay with another card", (A.CUSTOMER,), "payments", {"payment_token": "TOKEN"}, signed=False, headers=NEW_KEY),
    "answer_shortage": _Way(
        "Say what becomes of what is out of stock", (A.CUSTOMER,), "shortage", {"choice": "wait"}, signed=False
    ),
    "split_parcel": _Way(
        "Send some of it in another parcel", (A.WAREHOUSE, A.SUPPORT), "parcels/{parcel}/split", WHY, headers=NEW_KEY
    ),
    "amend": _Way(
        "Amend it before anything of it has left",
        (A.CUSTOMER, A.SUPPORT),
        "amendments",
        {"lines": [{"line_id": 1, "quantity": 2}]},
        signed=False,
        headers=NEW_KEY,
    ),
    "settle_undo": _Way("End the undo by hand, done or given up", (A.SUPPORT, A.OPERATOR), None, WHY),
}
"""All updates by which somebody brings an order on."""
SHORTAGE_CHOICES = ("wait", "drop", "refuse")
_SENT = (ParcelStatus.BOOKED, None)


# ── What is told ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Found:
    """A part as staff are told of it. `to_customer`: in which words its customer is; None: not at all."""

    part: StaffPart
    to_customer: str | None


def explained(order: Order, seen: SagaSeen | None, fault: str | None = None) -> StaffExplanation:
    """For staff. `seen`: None, if Temporal did not answer; then `fault` says why."""
    return _Explaining(order, seen, fault).to_staff()


def explained_to_customer(order: Order, seen: SagaSeen | None) -> Explanation:
    """For the order's customer."""
    return _Explaining(order, seen, None).to_customer()


class _Explaining:
    """One order's explanation being made."""

    def __init__(self, order: Order, seen: SagaSeen | None, fault: str | None) -> None:
        seen = None if order.is_over else seen
        self._order, self._seen, self._fault = order, seen, fault
        self._state = seen.state if seen else None
        self._status = self._state.status if self._state else order.status
        self._parcels = self._state.parcels if self._state else order.told_parcels
        self._workflow = order_workflow_id(order.order_id)
        self._cause = self._cause_of()
        self._found = tuple(self._parts())

    def to_staff(self) -> StaffExplanation:
        order, seen, state = self._order, self._seen, self._state
        return StaffExplanation(
            order_id=order.order_id,
            status=self._status,
            headline=self._headline(),
            since=order.since,
            cause=self._cause,
            source="workflow" if state else "temporal" if seen and seen.runs else "record",
            parts=tuple(found.part for found in self._found),
            calls=self._calls(),
            code=ErrorCode(order.code) if order.code else None,
            detail=order.detail,
            for_staff=order.for_staff,
            given_up=state.given_up if state else (),
            saga=self._facts(seen) if seen else None,
        )

    def to_customer(self) -> Explanation:
        order = self._order
        parts = tuple(as_customer(found.part, found.to_customer) for found in self._found if found.to_customer)
        return Explanation(
            order_id=order.order_id,
            status=self._status,
            headline=self._end() if order.is_over else _for_customer(parts),
            since=order.since,
            parts=parts,
            calls=_calls_of_customer(self._calls()),
            code=ErrorCode(order.code) if order.code else None,
            detail=order.detail,
        )

    # ── The cause ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _cause_of(self) -> Cause:
        order, seen = self._order, self._seen
        if order.is_over:
            return Cause.OVER
        if seen is None:
            return Cause.TEMPORAL_AWAY
        if not seen.runs:
            return Cause.NOT_STARTED if order.to_start and not seen.exists else Cause.LOST
        if seen.state is None:
            return _why_silent(seen)
        steps = [step for step in seen.steps if _blocks(step)]
        failing = [step for step in steps if step.last_error]
        if failing:
            return Cause.UNDO_FAILS if any(map(self._is_undo, failing)) else Cause.STEP_FAILS
        if steps or self._status in (S.PENDING, S.RESERVED, S.PAID, S.DELIVERED, S.CANCELLING):
            return Cause.STEP_RUNS
        waits = self._waits()
        return Cause.SOMEBODY if any({A.CUSTOMER, A.SUPPORT} & set(wait.who) for wait in waits) else Cause.WORLD

    # ── The parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _parts(self) -> Iterator[_Found]:
        if self._order.is_over:
            return
        if found := self._obstacle():
            yield found
        if self._order.wish_to_cancel:
            yield self._part("order", "the wish to cancel to reach its saga", next_try=self._order.hand_over_at)
        if self._cause in (Cause.NOT_STARTED, Cause.LOST):
            return
        waits, steps = list(self._waits()), self._seen.steps if self._seen else ()
        for step in filter(_blocks, steps):
            wait = next((wait for wait in waits if self._is_about(wait, step)), None)
            if wait is not None:
                waits.remove(wait)
            yield self._step(step, wait)
        undoing = any(map(self._is_undo, steps))
        for wait in waits:
            if not (undoing and wait.part == "order" and A.PLATFORM in wait.who):  # which is all the undos together
                yield self._wait(wait)
        for step in steps:
            if not _blocks(step):
                yield self._step(step, None)

    def _obstacle(self) -> _Found | None:
        """What keeps Temporal or the saga from telling more, if that is so."""
        order, seen, release = self._order, self._seen, "commerce release status"
        task = seen.task.since if seen and seen.task else None
        look = StaffCall(does="See the builds and their workers", who=(A.OPERATOR,), command=release)
        match self._cause:
            case Cause.TEMPORAL_AWAY:
                words = "Temporal to answer" + (", so that its saga can be started" if order.to_start else "")
                return self._part("order", words, who=(A.OPERATOR,), last_error=self._fault, next_try=order.hand_over_at)
            case Cause.NOT_STARTED:
                words = "its saga to be started"
                return self._part("order", words, since=order.placed_at, next_try=order.hand_over_at)
            case Cause.LOST:
                return self._lost()
            case Cause.NO_WORKER:
                words = f"a worker {f'of build {seen.build} ' if seen and seen.build else ''}to go on with it: none asks for work"
                return self._part("order", words, since=task, who=(A.OPERATOR,), calls=(look,))
            case Cause.WORKER_FAILS:
                describe = f"temporal workflow describe --workflow-id {self._workflow}"
                words = f"a worker that can work out its next step ({'; '.join(seen.problems) if seen else ''})"
                attempt = seen.task.attempt if seen and seen.task else None
                calls = (StaffCall(does="See the failure", who=(A.OPERATOR,), command=describe), look)
                words = words.removesuffix(" ()")
                return self._part("order", words, since=task, who=(A.OPERATOR,), attempt=attempt, calls=calls)
            case Cause.NO_ANSWER:
                silence = seen.silence if seen else None
                asked = max((worker.asked_at for worker in (seen and seen.workers) or ()), default=None)
                last = f"; the last one asked for work at {_at(asked)}" if asked else ""
                words = f"a worker to go on with it: none answers{last}"
                return self._part("order", words, since=task, who=(A.OPERATOR,), last_error=silence, calls=(look,))
        return None

    def _lost(self) -> _Found:
        seen = self._seen
        ended = f"has {seen.ended_as}" if seen and seen.exists else "is unknown to Temporal"
        repair = f"commerce orders repair {self._order.order_id} --reason WHY --by 'YOUR NAME'"
        return self._part(
            "order",
            f"somebody to repair it: its workflow {ended}, and the order is not over",
            since=seen.ended_at if seen else None,
            who=(A.OPERATOR,),
            calls=(StaffCall(does="Start its workflow again", who=(A.OPERATOR,), command=repair),),
        )

    def _part(
        self,
        part: str,
        waiting_for: str,
        *,
        who: tuple[Actor, ...] = (A.PLATFORM,),
        calls: tuple[StaffCall, ...] = (),
        **more: Any,
    ) -> _Found:
        """Something of the platform's own: its customer is told no more than that."""
        found = StaffPart(part=part, waiting_for=waiting_for, who=who, calls=calls, **more)
        return _Found(found, "the shop to go on with it")

    def _waits(self) -> tuple[Wait, ...]:
        if self._state and self._state.waits:
            return self._state.waits
        return tuple(_usual_waits(self._order, self._state, self._status))

    def _wait(self, wait: Wait) -> _Found:
        calls = [*self._of_payment(wait), *self._ways(wait)]
        if not self._is_undo_part(wait.part) and A.WAREHOUSE in wait.who:
            calls += self._of_warehouse(wait)
        found = StaffPart(
            part=wait.part,
            waiting_for=wait.waiting_for,
            since=None if wait.part.startswith("parcel ") and self._state is None else wait.since,
            until=wait.until,
            then=wait.then,
            who=wait.who,
            calls=tuple(calls),
        )
        return _Found(found, self._to_customer(wait))

    def _to_customer(self, wait: Wait) -> str | None:
        if self._is_undo_part(wait.part):
            return ACTIVITIES["RefundPayment"].waiting_for if wait.part.startswith("undo refund-") else None
        # What the platform itself is busy with is told to staff with its errors; and an older build tells one text to all.
        if A.PLATFORM in wait.who or (self._state and not self._state.waits):
            return USUALLY[self._status].waiting_for
        return wait.waiting_for

    def _step(self, step: PendingStep, wait: Wait | None) -> _Found:
        """A step that is being tried, with what the saga says of it."""
        about = ACTIVITIES.get(step.activity)
        retry = f"commerce undo retry {self._order.order_id} {step.step}"
        calls = [*(self._ways(wait) if wait else ())]
        if step.paused:
            unpause = f"temporal activity unpause --workflow-id {self._workflow} --activity-id {step.step}"
            calls.append(StaffCall(does="Let it go on", who=(A.OPERATOR,), command=unpause))
        else:
            calls.append(StaffCall(does="Try it now", who=(A.OPERATOR,), command=retry))
        words = about.waiting_for if about else f"the step {step.step}"
        found = StaffPart(
            part=self._part_of(step, about),
            waiting_for=f"{words} (paused)" if step.paused else words,
            since=step.since,
            until=step.until,
            then=self._then(step),
            who=tuple(dict.fromkeys((*(wait.who if wait else (A.PLATFORM,)), A.OPERATOR))),
            next_try=step.next_try,
            step=step.step,
            service=about.service if about else None,
            attempt=step.attempt,
            last_error=step.last_error,
            last_worker=step.last_worker,
            calls=tuple(calls),
        )
        if about and about.for_customer:
            return _Found(found, words)
        return _Found(found, self._to_customer(wait) if wait else None)

    def _then(self, step: PendingStep) -> str:
        if step.until is None:
            return "it is tried until it succeeds"
        if step.activity == "SendNotification":
            return "it is left out"
        return "the order is undone" if self._status in BEFORE_CONFIRMED else "it is given up"

    def _part_of(self, step: PendingStep, about: _Activity | None) -> str:
        if self._is_undo(step):
            return f"undo {step.step}"
        if about is None or about.part != "parcel":
            return about.part if about else "order"
        number = re.search(r"-(\d+)$", step.step)
        return f"parcel {number[1]}" if number else "parcel"

    def _is_undo(self, step: PendingStep) -> bool:
        about = ACTIVITIES.get(step.activity)
        return bool(about and about.is_undo) or bool(self._state and step.step in self._state.stuck_undos)

    def _is_about(self, wait: Wait, step: PendingStep) -> bool:
        """Whether a step is what a wait is for."""
        if self._is_undo_part(wait.part) or self._is_undo(step):
            return wait.part == f"undo {step.step}"
        about = ACTIVITIES.get(step.activity)
        return wait.who == (A.PLATFORM,) and about is not None

    @staticmethod
    def _is_undo_part(part: str) -> bool:
        return part.startswith("undo ")

    # ── The calls ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _calls(self) -> tuple[StaffCall, ...]:
        """What may be done with all of the order."""
        order = self._order
        if order.is_over or order.is_to_be_cancelled:
            return ()
        told = any("cancel" in wait.updates for wait in self._waits())
        trouble = self._state.trouble if self._state else order.trouble
        early = self._status in CANCELLABLE or (self._status == S.UNDELIVERED and trouble == Trouble.NOT_PICKED_UP)
        return (self._way("cancel"),) if (told or early) and self._cause != Cause.LOST else ()

    def _ways(self, wait: Wait) -> Iterator[StaffCall]:
        for name in wait.updates:
            if name == "settle_undo":
                yield self._settle(wait.part.removeprefix("undo "))
            elif name == "decide_parcel":
                yield self._decide(wait.part)
            elif name == "answer_shortage":
                yield self._way(name).model_copy(update={"choices": SHORTAGE_CHOICES})
            elif name in UPDATES and name != "cancel":
                yield self._way(name)

    def _of_payment(self, wait: Wait) -> Iterator[StaffCall]:
        """What the customer has to do to pay, which is done elsewhere."""
        action = self._order.payment_action
        if action is None or wait.part != "payment" or self._status != S.ACTION_REQUIRED:
            return
        if action.url:
            yield StaffCall(does="Confirm the payment on this page", who=(A.CUSTOMER,), url=action.url)
        if to := action.transfer:
            does = f"Transfer the money to {to.recipient}, {to.iban}, with the reference {to.reference}"
            yield StaffCall(does=does, who=(A.CUSTOMER,))

    def _decide(self, part: str) -> StaffCall:
        parcels = self._parcels
        number = int(part.removeprefix("parcel ")) if re.fullmatch(r"parcel \d+", part) else None
        mine = next((parcel for parcel in parcels if parcel.parcel == number), None)
        trouble = mine.trouble if mine else self._state.trouble if self._state else self._order.trouble
        choices = CHOICES[Trouble(trouble)] if trouble else tuple(ParcelChoice)
        which = {"parcel": number} if len(parcels) > 1 else {}
        call = self._way("decide_parcel", {"choice": choices[0].value, **which})
        return call.model_copy(update={"choices": tuple(choice.value for choice in choices)})

    def _settle(self, undo: str) -> StaffCall:
        way, order_id = UPDATES["settle_undo"], self._order.order_id
        command = f"commerce undo settle {order_id} {shlex.quote(undo)} --give-up --reason WHY --by 'YOUR NAME'"
        return StaffCall(does=way.does, who=way.who, command=command)

    def _way(self, name: str, more: Mapping[str, Any] | None = None) -> StaffCall:
        way = UPDATES[name]
        body = {**(more or {}), **way.body}
        told = {"by": "YOUR NAME", **body} if way.signed else body
        under = way.under and way.under.format(**body)
        sent = {key: value for key, value in body.items() if f"{{{key}}}" not in (way.under or "")}
        update = f"temporal workflow update execute --workflow-id {self._workflow} --name {name}"
        return StaffCall(
            does=way.does,
            who=way.who,
            method="POST" if under else None,
            path=f"/api/v1/orders/{self._order.order_id}/{under}" if under else None,
            headers=dict(way.headers),
            body=sent if under else None,
            command=f"{update} --input {shlex.quote(json.dumps(told))}",
        )

    def _of_warehouse(self, wait: Wait) -> Iterator[StaffCall]:
        """What a warehouse does is told to the services of stock and parcels, which know the order by its parcel only."""
        parcel = next((parcel for parcel in self._parcels if wait.part == f"parcel {parcel.parcel}"), None)
        status = parcel.status if parcel else None
        if status == ParcelStatus.AWAITED:
            yield StaffCall(does="Receive the goods", who=(A.WAREHOUSE,), method="POST", path="/api/v1/stock/receipts")
        elif status in _SENT:
            find = f"/api/v1/shipments?order_id={self._order.order_id}"
            yield StaffCall(does="Find the parcel's shipment_id", who=(A.WAREHOUSE,), method="GET", path=find)
            dispatch = "/api/v1/shipments/{shipment_id}/dispatch"
            yield StaffCall(does="Hand it over to the carrier", who=(A.WAREHOUSE,), method="POST", path=dispatch)
        if parcel and status == ParcelStatus.BOOKED and sum(line.quantity for line in parcel.lines) > 1:
            units = [{"line_id": parcel.lines[0].line_id, "quantity": 1}]
            yield self._way("split_parcel", {"parcel": parcel.parcel, "lines": units})

    # ── The words ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _headline(self) -> str:
        if self._order.is_over:
            return self._end()
        parts = [found.part for found in self._found]
        if not parts:
            return f"{self._status}, and waits for nothing."
        more = f"; and {len(parts) - 1} more" if len(parts) > 1 else ""
        return f"{self._status}, and waits for {_sentence(parts[0])}{more}."

    def _end(self) -> str:
        order = self._order
        why = f": {order.detail}" if order.detail else f": {order.code}" if order.code else ""
        return f"{ENDED[order.status]} on {_at(order.since)}{why}".rstrip(".") + "."

    def _facts(self, seen: SagaSeen) -> SagaFacts:
        return SagaFacts(
            workflow_id=self._workflow,
            runs=seen.runs,
            ended_as=seen.ended_as,
            ended_at=seen.ended_at,
            build=seen.build,
            workers=_workers(seen),
            task_since=seen.task.since if seen.task else None,
            task_attempt=seen.task.attempt if seen.task else None,
            problems=seen.problems,
            silence=seen.silence,
        )


def _workers(seen: SagaSeen) -> tuple[Worker, ...] | None:
    if seen.workers is None:
        return None
    return tuple(Worker(identity=worker.identity, asked_at=worker.asked_at) for worker in seen.workers)


def _why_silent(seen: SagaSeen) -> Cause:
    if seen.workers == ():
        return Cause.NO_WORKER
    return Cause.WORKER_FAILS if seen.problems or (seen.task and seen.task.attempt > 1) else Cause.NO_ANSWER


def _blocks(step: PendingStep) -> bool:
    about = ACTIVITIES.get(step.activity)
    return about is None or about.blocks


def _usual_waits(order: Order, state: OrderState | None, status: OrderStatus) -> Iterator[Wait]:
    """What an order waits for of which only the record tells, or a saga of a build that does not know its parts."""
    for undo in state.stuck_undos if state else ():
        yield Wait(
            part=f"undo {undo}",
            waiting_for=f"the undo {undo} to succeed",
            since=order.since,
            then="it is tried until it succeeds",
            who=(A.PLATFORM, A.SUPPORT),
            updates=("settle_undo",),
        )
    if order.pay_until and status != S.PAYMENT_DUE:
        yield Wait(
            part="payment",
            waiting_for="another card, since less could be held or taken than the order needs",
            since=order.since,
            until=order.pay_until,
            then="what has not left is called off, and what has left stays owed",
            who=(A.CUSTOMER,),
            updates=("pay",),
        )
    if state is None and status in AFTER_CONFIRMED and order.told_parcels:
        for parcel in order.told_parcels:
            if each := PARCELS.get(parcel.status):
                words = f"{each.waiting_for} ({parcel.trouble})" if parcel.trouble else each.waiting_for
                then = IF_NOBODY_DECIDES[CHOICES[parcel.trouble][0]] if parcel.trouble else each.then
                part = f"parcel {parcel.parcel}"
                yield Wait(part=part, waiting_for=words, since=order.since, then=then, who=each.who, updates=each.updates)
        return
    usual, trouble = USUALLY[status], state.trouble if state else order.trouble
    then = usual.then
    if status == S.UNDELIVERED and trouble:
        then = IF_NOBODY_DECIDES[(state.choices if state and state.choices else CHOICES[Trouble(trouble)])[0]]
    until = order.pay_until if status == S.PAYMENT_DUE else None
    if status == S.ACTION_REQUIRED and order.payment_action:
        until = order.payment_action.until
    words = usual.waiting_for
    if state and status in (S.IN_REVIEW, S.UNDELIVERED):
        words = state.waiting_for  # it names the deadline
    elif status == S.UNDELIVERED and trouble:
        words = f"{words} ({trouble})"
    yield Wait(
        part=usual.part,
        waiting_for=words,
        since=order.since,
        until=until,
        then=then,
        who=usual.who,
        updates=usual.updates,
    )


def _sentence(part: StaffPart) -> str:
    """What a part waits for and how that goes, on one line."""
    words = [part.waiting_for]
    if part.service:
        words[0] += f" (service {part.service})"
    if part.last_error and part.attempt:
        times = max(part.attempt - 1, 1)
        words[0] += f", which failed {'once' if times == 1 else f'{times} times'}: {part.last_error}"
    elif part.last_error:
        words[0] += f" ({part.last_error})"
    if part.next_try:
        words.append(f"next try at {_at(part.next_try)}")
    if part.until:
        words.append(f"until {_at(part.until)}" + (f", then {part.then}" if part.then else ""))
    return "; ".join(words)


def as_customer(part: StaffPart, waiting_for: str) -> Part:
    """A part as its customer is told of it, in these words."""
    name = part.part
    if name.startswith("undo "):
        name = "payment" if name.startswith("undo refund-") else "parcel"
    return Part(
        part=name,
        waiting_for=waiting_for,
        since=part.since,
        until=part.until,
        then=part.then,
        who=tuple(dict.fromkeys(A.PLATFORM if actor == A.OPERATOR else actor for actor in part.who)),
        next_try=part.next_try,
        calls=_calls_of_customer(part.calls),
    )


def _calls_of_customer(calls: Iterable[StaffCall]) -> tuple[Call, ...]:
    return tuple(
        Call(**call.model_dump(exclude={"command", "who"}), who=(A.CUSTOMER,)) for call in calls if A.CUSTOMER in call.who
    )


def _for_customer(parts: tuple[Part, ...]) -> str:
    if not parts:
        return "The shop is busy with it."
    first = parts[0]
    until = f", until {_at(first.until)}" if first.until else ""
    then = f"; then {first.then}" if first.until and first.then else ""
    return f"It waits for {first.waiting_for}{until}{then}."


def _at(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"

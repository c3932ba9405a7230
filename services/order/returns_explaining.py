"""What the open returns of an order wait for, and who may bring each on with which call: parts of the order's explanation. Pure.

Made of each return's record, and for staff of what Temporal knows of its saga. Its customer reads words that are written here."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from contracts.ids import return_workflow_id
from contracts.orders import Actor
from contracts.returns import Resolution, ReturnKind, ReturnState, ReturnStatus, SendBack
from services.order.explaining import ACTIVITIES, NEW_KEY, WHY, Explanation, StaffCall, StaffExplanation, StaffPart, as_customer
from services.order.model import Return
from temporal.explaining import PendingStep, SagaSeen

S, A = ReturnStatus, Actor
Told = TypeVar("Told", bound=Explanation)


@dataclass(frozen=True)
class ReturnSeen:
    """An open return, and what Temporal knows of its saga; None: it was not asked, or did not answer, and `fault` says why."""

    found: Return
    saga: SagaSeen[ReturnState] | None = None
    fault: str | None = None


def with_returns_for_staff(told: StaffExplanation, returns: Sequence[ReturnSeen]) -> StaffExplanation:
    """The order's explanation with its open returns."""
    return _with(told, tuple(part for each in returns for part in _Explained(each).parts()))


def with_returns(told: Explanation, returns: Sequence[Return]) -> Explanation:
    """The same for its customer."""
    parts = [_Explained(ReturnSeen(found)).usual() for found in returns]
    return _with(told, tuple(as_customer(part, part.waiting_for) for part in parts))


def _with(told: Told, parts: tuple[Any, ...]) -> Told:
    if not parts:
        return told
    first, more = parts[0], f"; and {len(parts) - 1} more" if len(parts) > 1 else ""
    name = first.part[0].upper() + first.part[1:]
    headline = f"{told.headline} {name} waits for {first.waiting_for}{more}."
    return told.model_copy(update={"parts": (*told.parts, *parts), "headline": headline})


class _Usual(NamedTuple):
    waiting_for: str
    who: tuple[Actor, ...] = (A.PLATFORM,)
    calls: tuple[str, ...] = ()
    then: str | None = None


class _Way(NamedTuple):
    does: str
    who: tuple[Actor, ...]
    options: str
    """What the command line wants, beside the return."""
    body: Mapping[str, Any] = WHY
    headers: Mapping[str, str] = {}


CALLS: Mapping[str, _Way] = {
    "approve": _Way("Approve it", (A.SUPPORT,), "--reason WHY --by 'YOUR NAME'"),
    "reject": _Way("Reject it", (A.SUPPORT,), "--reason WHY --by 'YOUR NAME'"),
    "cancel": _Way("Call it off", (A.CUSTOMER, A.SUPPORT), "--reason WHY --by 'YOUR NAME'"),
    "receive": _Way("Say what has come", (A.WAREHOUSE, A.SUPPORT), "--all --by 'YOUR NAME'", {}, NEW_KEY),
}


class _Explained:
    def __init__(self, seen: ReturnSeen) -> None:
        self._found, self._saga, self._fault = seen.found, seen.saga, seen.fault
        self._state = seen.saga.state if seen.saga else None
        self._status = self._state.status if self._state else seen.found.status
        self._name = f"return {seen.found.number}"

    def usual(self) -> StaffPart:
        """What it waits for by its record, in words for anybody."""
        found, usual = self._found, self._by_status()
        return StaffPart(
            part=self._name,
            waiting_for=usual.waiting_for,
            since=found.since,
            until=found.due_at,
            then=usual.then if found.due_at else None,
            who=usual.who,
            calls=tuple(map(self._call, usual.calls)),
        )

    def parts(self) -> Iterator[StaffPart]:
        """The same as staff may know it, and each step of it that does not succeed."""
        part, saga, state = self.usual(), self._saga, self._state
        if self._found.to_start and not (saga and saga.exists):
            words = "its saga to be started" if saga else "Temporal to answer, so that its saga can be started"
            more = {"waiting_for": words, "who": (A.PLATFORM,), "next_try": self._found.hand_over_at}
            yield part.model_copy(update=more | {"last_error": self._fault, "calls": ()})
            return
        if saga and not saga.runs:
            ended = f"has {saga.ended_as}" if saga.exists else "is unknown to Temporal"
            words = f"somebody to look after it: its workflow {ended}, and the return is not over"
            describe = f"temporal workflow describe --workflow-id {self._workflow}"
            calls = (StaffCall(does="See its workflow", who=(A.OPERATOR,), command=describe),)
            yield part.model_copy(update={"waiting_for": words, "who": (A.OPERATOR,), "calls": calls, "until": None})
            return
        if state:
            part = part.model_copy(update={"waiting_for": state.waiting_for, "until": state.due_at, "then": state.then})
        elif saga:
            part = part.model_copy(update={"last_error": saga.silence})
        elif self._fault:
            part = part.model_copy(update={"last_error": self._fault})
        yield part
        for step in saga.steps if saga else ():
            if step.last_error or step.paused:
                yield self._step(step)

    @property
    def _workflow(self) -> str:
        return return_workflow_id(self._found.order_id, self._found.number)

    def _by_status(self) -> _Usual:
        found = self._found
        is_claim = found.kind == ReturnKind.CLAIM
        if self._status == S.REQUESTED and not found.needs_approval:
            return _Usual("the shop to go on with it", calls=("cancel",))
        if self._status == S.REQUESTED:
            then = "it is rejected" if is_claim else "it is approved"
            return _Usual("somebody of the shop to look at it", (A.SUPPORT,), ("approve", "reject", "cancel"), then)
        if self._status == S.APPROVED and not is_claim:
            who = (A.CUSTOMER, A.CARRIER, A.WAREHOUSE) if found.send_back == SendBack.LABEL else (A.CUSTOMER, A.WAREHOUSE)
            return _Usual("the goods to come back", who, ("receive", "cancel"), "it expires")
        if found.replacement_id:
            return _Usual("the order that it brings to end")
        if found.resolution == Resolution.REFUND:
            return _Usual("the money to go back")
        return _Usual("the order that it brings to be placed")

    def _step(self, step: PendingStep) -> StaffPart:
        about = ACTIVITIES.get(step.activity)
        what = "unpause" if step.paused else "reset"
        command = f"temporal activity {what} --workflow-id {self._workflow} --activity-id {shlex.quote(step.step)}"
        does = "Let it go on" if step.paused else "Try it now"
        return StaffPart(
            part=self._name,
            waiting_for=f"{about.waiting_for if about else f'the step {step.step}'}{' (paused)' if step.paused else ''}",
            since=step.since,
            until=step.until,
            then="it is tried until it succeeds" if step.until is None else None,
            who=(A.PLATFORM, A.OPERATOR),
            next_try=step.next_try,
            step=step.step,
            service=about.service if about else None,
            attempt=step.attempt,
            last_error=step.last_error,
            last_worker=step.last_worker,
            calls=(StaffCall(does=does, who=(A.OPERATOR,), command=command),),
        )

    def _call(self, name: str) -> StaffCall:
        way, found = CALLS[name], self._found
        body = dict(way.body)
        if name == "receive":
            lines = found.return_lines
            body = {"lines": [{"line_id": each.line_id, "quantity": each.quantity, "condition": "good"} for each in lines]}
        return StaffCall(
            does=way.does,
            who=way.who,
            method="POST",
            path=f"/api/v1/orders/{found.order_id}/returns/{found.number}/{name}",
            headers=dict(way.headers),
            body=body,
            command=f"commerce returns {name} {found.order_id} {found.number} {way.options}",
        )

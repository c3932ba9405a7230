"""An order's saga that answers what a test says, on a real Temporal server: what the order service makes of the answers is tested
with it, and what Temporal makes of the messages is real."""

from temporalio import workflow

from contracts.base import Contract
from contracts.errors import ErrorCode, Refusal
from contracts.orders import (
    CancelReply,
    CancelRequest,
    Decision,
    OrderSoFar,
    OrderState,
    Outcome,
    ParcelDecision,
    ParcelSplit,
    PayAgain,
    PlaceOrder,
    ShortageAnswer,
    TimelineEntry,
)
from temporal.names import ORDER_WORKFLOW
from temporal.refusals import as_failure


class Script(Contract):
    """What it answers from now on; None: nothing yet."""

    outcome: Outcome | None = None
    paid: Outcome | None = None
    """What comes of another card; None: nothing yet."""
    reply: CancelReply | None = None
    refusal: ErrorCode | None = None
    """To a cancellation, a decision or a card."""
    state: OrderState | None = None
    entries: tuple[TimelineEntry, ...] = ()
    over: bool = False


@workflow.defn(name=ORDER_WORKFLOW)
class ScriptedOrder:
    @workflow.init
    def __init__(self, order: PlaceOrder, so_far: OrderSoFar | None = None) -> None:
        self._script = Script()
        self._asked: list[str] = []

    @workflow.run
    async def run(self, order: PlaceOrder, so_far: OrderSoFar | None = None) -> None:
        await workflow.wait_condition(lambda: self._script.over)
        await workflow.wait_condition(workflow.all_handlers_finished)

    @workflow.signal
    def script(self, script: Script) -> None:
        self._script = script

    @workflow.update
    async def place(self) -> Outcome:
        await workflow.wait_condition(lambda: self._script.outcome is not None)
        assert self._script.outcome
        return self._script.outcome

    @workflow.update
    async def cancel(self, request: CancelRequest) -> CancelReply:
        units = "".join(f" {line.quantity} of line {line.line_id}," for line in request.lines)
        self._asked.append(f"cancel{units} {request.requested_by}: {request.reason}")
        await workflow.wait_condition(lambda: self._script.reply is not None or self._script.refusal is not None)
        self._refuse()
        assert self._script.reply
        return self._script.reply

    @workflow.update
    async def approve(self, decision: Decision) -> OrderState:
        return self._decided(f"approve {decision.by}: {decision.reason}")

    @workflow.update
    async def reject(self, decision: Decision) -> OrderState:
        return self._decided(f"reject {decision.by}: {decision.reason}")

    @workflow.update
    async def decide_parcel(self, decision: ParcelDecision) -> OrderState:
        about = f" {decision.parcel}" if decision.parcel else ""
        return self._decided(f"{decision.choice}{about} {decision.by}: {decision.reason}")

    @workflow.update
    async def pay(self, request: PayAgain) -> Outcome:
        self._asked.append(f"pay {request.payment_token}")
        await workflow.wait_condition(lambda: self._script.paid is not None)
        assert self._script.paid
        return self._script.paid

    @pay.validator
    def _validate_pay(self, request: PayAgain) -> None:
        self._refuse()

    @workflow.update
    async def answer_shortage(self, answer: ShortageAnswer) -> OrderState:
        return self._decided(answer.choice)

    @workflow.update
    async def split_parcel(self, split: ParcelSplit) -> OrderState:
        taken = ", ".join(f"{line.quantity} of line {line.line_id}" for line in split.lines)
        return self._decided(f"split {split.parcel}, {taken}, {split.by}: {split.reason}")

    @workflow.signal
    def shipment_updated(self, update: object) -> None:
        pass

    @workflow.query
    def status(self) -> OrderState | None:
        return self._script.state

    @workflow.query
    def timeline(self) -> list[TimelineEntry]:
        return list(self._script.entries)

    @workflow.query
    def asked(self) -> list[str]:
        """What it was told by updates."""
        return self._asked

    def _decided(self, what: str) -> OrderState:
        self._refuse()
        self._asked.append(what)
        assert self._script.state
        return self._script.state

    def _refuse(self) -> None:
        if self._script.refusal:
            raise as_failure(Refusal(self._script.refusal, "No."))

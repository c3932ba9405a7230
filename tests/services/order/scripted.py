"""The sagas of orders and returns that answer what a test says, on a real Temporal server: what the order service makes of the
answers is tested with them, and what Temporal makes of the messages is real."""

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
from contracts.returns import ReturnLabelUpdate, ReturnReceipt, ReturnRun, ReturnState, ReturnStatus, ReturnTimelineEntry
from temporal.names import ORDER_WORKFLOW, RETURN_WORKFLOW
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


class ReturnScript(Contract):
    """What the saga of a return answers from now on."""

    refusal: ErrorCode | None = None
    over: bool = False


@workflow.defn(name=RETURN_WORKFLOW)
class ScriptedReturn:
    @workflow.init
    def __init__(self, run: ReturnRun) -> None:
        self._run, self._script, self._status = run, ReturnScript(), ReturnStatus.REQUESTED
        self._asked: list[str] = []

    @workflow.run
    async def run(self, run: ReturnRun) -> None:
        await workflow.wait_condition(lambda: self._script.over)
        await workflow.wait_condition(workflow.all_handlers_finished)

    @workflow.signal
    def script(self, script: ReturnScript) -> None:
        self._script = script

    @workflow.signal
    def label_updated(self, update: ReturnLabelUpdate) -> None:
        self._asked.append(f"label {update.status}")

    @workflow.update
    async def approve(self, decision: Decision) -> ReturnState:
        return self._become(ReturnStatus.APPROVED, f"approve {decision.by}: {decision.reason}")

    @workflow.update
    async def reject(self, decision: Decision) -> ReturnState:
        return self._become(ReturnStatus.REJECTED, f"reject {decision.by}: {decision.reason}")

    @workflow.update
    async def cancel(self, request: CancelRequest) -> ReturnState:
        return self._become(ReturnStatus.CANCELLED, f"cancel {request.requested_by}: {request.reason}")

    @workflow.update
    async def receive(self, receipt: ReturnReceipt) -> ReturnState:
        came = ", ".join(f"{line.quantity} {line.condition} of line {line.line_id}" for line in receipt.lines)
        return self._become(ReturnStatus.RECEIVED, f"receive at {receipt.warehouse_id}: {came}")

    @workflow.query
    def status(self) -> ReturnState:
        return self._state()

    @workflow.query
    def timeline(self) -> list[ReturnTimelineEntry]:
        return [
            ReturnTimelineEntry(at=self._run.requested_at, what="Return asked for", status=self._status, for_staff="by its saga")
        ]

    @workflow.query
    def asked(self) -> list[str]:
        """What it was told."""
        return self._asked

    def _become(self, status: ReturnStatus, what: str) -> ReturnState:
        if self._script.refusal:
            raise as_failure(Refusal(self._script.refusal, "No."))
        self._asked.append(what)
        self._status = status
        return self._state()

    def _state(self) -> ReturnState:
        run = self._run
        return ReturnState(order_id=run.order_id, number=run.number, status=self._status, waiting_for="the goods to come")

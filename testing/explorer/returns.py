"""One return played against the adversary: its customer, the shop's staff, the carrier, and the order that it may bring."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid5

from contracts.address import Address
from contracts.ids import ORDERS, return_workflow_id
from contracts.inventory import ReserveInventory, ShipInventory, StockLine
from contracts.money import Money
from contracts.orders import CancelRequest, Decision, LineRequest, OrderStatus, UndoSettlement
from contracts.payments import ProcessPayment
from contracts.returns import (
    Condition,
    ReceivedLine,
    ReplacementEnded,
    Resolution,
    ReturnKind,
    ReturnLabelUpdate,
    ReturnLine,
    ReturnReason,
    ReturnReceipt,
    ReturnRun,
    ReturnState,
    ReturnTerms,
    ReturnTimelineEntry,
    SendBack,
)
from contracts.shipments import ShipmentStatus
from testing.explorer.adversary import USUAL, Adversary, Choices, Story
from testing.explorer.clock import START
from testing.explorer.disputes import Disputes
from testing.explorer.engine import Engine
from testing.explorer.executions import PAYLOADS
from testing.explorer.orders import CHEESE, CURRENCIES, MILK, lines_in
from testing.explorer.playing import AtTheEnd, Playing, Told
from testing.model import World
from testing.model.world import WAREHOUSE
from workflows.returns.story import ReturnWorkflow

HOUR, DAY = 3600.0, 86_400.0
STATUS = ShipmentStatus
ORDER, CREDIT_ORDER = uuid5(ORDERS, "explored"), uuid5(ORDERS, "paid with credit")
CUSTOMER = uuid5(ORDERS, "customer")
COMMANDS = ("AdvanceReturn", "CreateReturnLabel", "CancelReturnLabel", "ReceiveReturn", "GiveBack", "PlaceReplacement")
MESSAGES = (
    "approve",
    "approve by signal",
    "reject",
    "reject by signal",
    "cancel",
    "cancel",
    "cancel by signal",
    "cancel the workflow",
    "receive everything",
    "receive everything",
    "receive a damaged milk",
    "receive nothing",
    "receive too much",
    "the carrier has it",
    "the carrier brings it",
    "the carrier loses it",
    "report all again",
    "report all backwards",
    "settle an undo",
    "kill the worker",
    "kill the worker",
    "ask",
)
DECISIONS = (
    "approve, after 0 s",
    "reject, after 0 s",
    "reject, after 7200 s",
    "nobody, after 0 s",
    "approve, after 259199.999 s",
)
USUAL_COURSE = (
    (DAY, "the carrier has it"),
    (2 * DAY, "the carrier brings it"),
    (HOUR, "receive everything"),
)
COURSES: Mapping[str, tuple[tuple[float, str], ...]] = {
    USUAL: USUAL_COURSE,
    "never comes": (),
    "is received without a word of the carrier": ((3 * DAY, "receive everything"),),
    "is half of what was announced": (*USUAL_COURSE[:2], (HOUR, "receive a damaged milk")),
    "is an empty box": (*USUAL_COURSE[:2], (HOUR, "receive nothing")),
    "is lost": ((DAY, "the carrier has it"), (5 * DAY, "the carrier loses it")),
    "is lost, and then comes": ((DAY, "the carrier has it"), (5 * DAY, "the carrier loses it"), (DAY, "receive everything")),
    "is sent at the last moment": ((21 * DAY - 0.5, "the carrier has it"), (2 * DAY, "the carrier brings it")),
    "is sent too late": ((22 * DAY, "the carrier has it"), (2 * DAY, "receive everything")),
    "arrives, and nobody looks": USUAL_COURSE[:2],
}
"""What becomes of the goods, each step that long after the one before."""
ENDS = {
    USUAL: (3 * DAY, OrderStatus.COMPLETED, 0),
    "is cancelled": (5.0, OrderStatus.CANCELLED, 1),
    "ends before it is known to be placed": (0.0, OrderStatus.CANCELLED, 1),
    "is lost": (9 * DAY, OrderStatus.REFUNDED, 1),
    "comes without its first part": (4 * DAY, OrderStatus.COMPLETED, 2),
}
"""How the order ends that the return brings: when, how, and which part of the credit comes back (1: all, 2: a half)."""


@dataclass
class PlayedReturn(AtTheEnd[ReturnState, ReturnTimelineEntry]):
    """What came of a run, for the checks."""

    run: ReturnRun
    world: World
    adversary: Adversary
    engine: Engine
    told: list[Told]
    ended: ReplacementEnded | None
    paid: Mapping[UUID, int]
    """What each order's customer had paid before, in minor units."""
    settled_by_hand: bool
    choices: Choices
    log: list[str]

    @property
    def story(self) -> Story:
        return self.choices.made


class ReturnPlayer(Playing):
    """Plays one return, of an order that was delivered."""

    def __init__(self, choices: Choices) -> None:
        self.run = _run(choices)
        super().__init__(choices, World(), ReturnWorkflow, return_workflow_id(ORDER, self.run.number))
        self.adversary.on_effect = self._look
        self._reports: list[ReturnLabelUpdate] = []
        self._ended: ReplacementEnded | None = None
        self._course_begun = self._settled_by_hand = False
        self._disputes = Disputes(self, ORDER, ReturnState, self._settle)

    def play(self) -> PlayedReturn:
        """From the request to the end, and until nothing is under way any more."""
        paid = self._deliver_the_order()
        self._disputes.look()
        self.world.returns.accept(self.run)
        self.clock.after(0.0, lambda: self.engine.start(self.run))
        if self.run.terms.needs_approval:
            message, _, moment = self.choices.choose("who decides", 0.5, DECISIONS).partition(", ")
            if message == USUAL:
                self.clock.after(HOUR, partial(self._send, "approve"))
            elif message != "nobody":
                self.clock.after(float(moment.split()[1]), partial(self._send, message))
        self._plan_messages(MESSAGES, COMMANDS)
        self._to_the_end()
        return self._played(paid)

    # ── What there is before ─────────────────────────────────────────────────────────────────────────────────────────────

    def _deliver_the_order(self) -> dict[UUID, int]:
        """The order was paid, in one attempt or in two, and its goods have left."""
        world, run = self.world, self.run
        amounts = [line.share_of(0, line.quantity) for line in run.order_lines]
        payment, credit = sum(each.total for each in amounts), sum(each.credit for each in amounts)
        goods = (StockLine(product_id="milk", quantity=MILK), StockLine(product_id="cheese", quantity=CHEESE))
        world.inventory.reserve(ReserveInventory(order_id=ORDER, customer_id=CUSTOMER, lines=goods, warehouse_id=WAREHOUSE))
        world.inventory.ship(ShipInventory(order_id=ORDER))
        in_two = self.choices.choose("the order was paid", 0.3, ["in two attempts"]) != USUAL
        parts = [payment - payment // 3, payment // 3] if in_two else [payment]
        for attempt, minor in enumerate(parts, start=1):
            self._pay(ORDER, attempt, minor)
        self._pay(CREDIT_ORDER, 1, credit)
        return {ORDER: payment, CREDIT_ORDER: credit}

    def _pay(self, order_id: UUID, attempt: int, minor: int) -> None:
        if minor:
            command = ProcessPayment(
                order_id=order_id,
                attempt=attempt,
                customer_id=CUSTOMER,
                amount=Money.from_minor(minor, self.run.currency),
                payment_token="card_1",  # noqa: S106 (a name of a test card)
                ship_to_fingerprint=self.run.ship_from.fingerprint,
            )
            self.world.payments.process(command)

    # ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        """Something has happened to the services: an approved return is sent back, and a replacement takes its course."""
        record = self.world.returns.records[ORDER, self.run.number]
        if "APPROVED" in record.history and not self._course_begun:
            self._course_begun = True
            at = 0.0
            for wait, what in COURSES[self.choices.choose("what comes back", 0.5, [name for name in COURSES if name != USUAL])]:
                at += wait
                self.clock.after(at, partial(self._send, what))
        if self.world.returns.replacements and self._ended is None:
            self._replacement_ends()

    def _replacement_ends(self) -> None:
        (command,) = self.world.returns.replacements.values()
        taken = self.world.returns.place_replacement(command).credit.minor
        how = self.choices.choose("the order that it brings", 0.4, [name for name in ENDS if name != USUAL])
        after, status, part = ENDS[how]
        credit = Money.from_minor(taken // part if part else 0, self.run.currency)
        self._ended = ReplacementEnded(status=status, credit_back=credit)
        self.clock.after(after, self._tell_of_the_end)
        if self.choices.choose("told of that end", 0.2, ["twice"]) != USUAL:
            self.clock.after(after + 5, self._tell_of_the_end)

    def _tell_of_the_end(self) -> None:
        assert self._ended is not None
        if self.engine.signal("replacement_ended", self._ended):
            self.note(f"told: the other order is {self._ended.status}, {self._ended.credit_back} come back")

    def _send(self, message: str) -> None:
        self.note(f"message: {message}")
        decision = Decision(by="operator", reason="looked at it")
        wish = CancelRequest(reason="changed my mind", requested_by="customer")
        match message.split():
            case ["approve" | "reject" as name]:
                self._send_update(message, name, None, [decision], ReturnState)
            case ["approve" | "reject" as name, "by", "signal"]:
                self._signal(message, name, decision)
            case ["cancel"]:
                self._send_update(message, "cancel", None, [wish], ReturnState)
            case ["cancel", "by", "signal"]:
                self._signal(message, "cancel", wish)
            case ["cancel", *_]:
                if self.engine.cancel():
                    self.told.append(Told(message, self.clock.seconds))
            case ["receive", *what]:
                self._send_update(message, "receive", None, [self._receipt(" ".join(what))], ReturnState)
            case ["the", "carrier", how, _]:
                self._carry({"has": STATUS.DISPATCHED, "brings": STATUS.DELIVERED, "loses": STATUS.LOST}[how])
            case ["report", "all", how]:
                for update in self._reports[:: 1 if how == "again" else -1]:
                    self.engine.signal("label_updated", update)
            case ["settle", *_]:
                self._settle_an_undo()
            case ["kill", *_]:
                self.engine.kill_worker()
            case ["ask"]:
                self.engine.query("status")

    def _receipt(self, what: str) -> ReturnReceipt:
        lines: list[ReceivedLine] = []
        for line in self.run.lines:
            quantity = line.quantity + 1 if what == "too much" else line.quantity
            lines.append(ReceivedLine(line_id=line.line_id, quantity=quantity, condition=Condition.GOOD))
        if what == "nothing":
            lines = []
        if what == "a damaged milk":
            lines = [ReceivedLine(line_id=self.run.lines[0].line_id, quantity=1, condition=Condition.DAMAGED)]
        return ReturnReceipt(by="warehouse", reason="opened it", lines=tuple(lines), warehouse_id=self.run.warehouse_id)

    def _carry(self, to: ShipmentStatus) -> None:
        """The carrier moves the label's parcel, if there is one, and shipping tells of it."""
        if not self.world.shipping.move_label(ORDER, self.run.number, to):
            return
        update = ReturnLabelUpdate(status=to, occurred_at=self.clock.now)
        self._reports.append(update)
        name = f"report that the label is {to}"
        how = self.choices.choose(name, 0.2, ["twice", "a minute late", "two hours late", "at once"])
        wait = {"a minute late": 60.0, "two hours late": 7200.0, "at once": 0.0}.get(how, 0.5)
        self.clock.after(wait, partial(self._report, update))
        if how == "twice":
            self.clock.after(wait + 5, partial(self._report, update))

    def _report(self, update: ReturnLabelUpdate) -> None:
        if self.engine.signal("label_updated", update):
            self.note(f"reported: the label is {update.status}")

    def _settle_an_undo(self) -> None:
        status = self.engine.query("status") if self.engine.running else None
        if status is None:
            return
        stuck = PAYLOADS.from_payload(status, ReturnState).stuck_undos
        if stuck:
            self._settle(UndoSettlement(by="operator", reason="did it by hand", undo=stuck[0], done=False))

    def _settle(self, settlement: UndoSettlement) -> None:
        self._settled_by_hand = True
        self._send_update(f"settle {settlement.undo}", "settle_undo", None, [settlement], ReturnState)

    # ── To the end ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _played(self, paid: Mapping[UUID, int]) -> PlayedReturn:
        played = PlayedReturn(
            self.run,
            self.world,
            self.adversary,
            self.engine,
            self.told,
            self._ended,
            paid,
            self._settled_by_hand,
            self.choices,
            self.log,
        )
        self._ask_at_the_end(played, ReturnState, list[ReturnTimelineEntry])
        return played


def _run(choices: Choices) -> ReturnRun:
    """What is returned, why, and on what terms."""
    currency = choices.choose("currency", 0.5, CURRENCIES)
    currency = "USD" if currency == USUAL else currency
    lines = lines_in(currency, charges=choices.choose("charges", 0.3, ["discount, shipping and tax", "the cheese is free"]))
    if has_credit := choices.choose("the order was paid with credit", 0.2, ["in part"]) != USUAL:
        lines = tuple(
            line.model_copy(update={"amounts": whole.model_copy(update={"credit": whole.price // 3})})
            for line in lines
            for whole in [line.share_of(0, line.quantity)]
        )
    what = choices.choose("what is asked for", 0.6, ["exchange", "exchange", "claim a refund", "claim the same", "drop off"])
    kind = ReturnKind.CLAIM if what.startswith("claim") else ReturnKind.RETURN
    resolution = {"exchange": Resolution.EXCHANGE, "claim the same": Resolution.RESEND}.get(what, Resolution.REFUND)
    whose = choices.choose("why", 0.4, [ReturnReason.DEFECTIVE])
    reason = ReturnReason.DEFECTIVE if kind == ReturnKind.CLAIM or whose != USUAL else ReturnReason.CHANGED_MIND
    milk = 2 if choices.choose("how much", 0.3, ["all of it"]) == USUAL else MILK
    units = ((1, "milk", milk, MILK - milk), (2, "cheese", CHEESE, 0))
    has_fees = choices.choose("fees", 0.3, ["all of them"]) != USUAL
    return ReturnRun(
        order_id=ORDER,
        number=1,
        customer_id=CUSTOMER,
        kind=kind,
        resolution=resolution,
        send_back=SendBack.DROP_OFF if what == "drop off" else SendBack.LABEL,
        order_lines=lines,
        lines=tuple(
            ReturnLine(line_id=line_id, product_id=product, quantity=quantity, first=first, parcel=1, reason=reason)
            for line_id, product, quantity, first in units
        ),
        exchange_for=(LineRequest(product_id="bread", quantity=1),) if resolution == Resolution.EXCHANGE else (),
        ship_from=Address(name="Ann", line1="1 Main St", city="Springfield", region="IL", postal_code="62701", country="US"),
        warehouse_id=WAREHOUSE,
        currency=currency,
        credit_order_id=CREDIT_ORDER if has_credit else None,
        terms=ReturnTerms(
            needs_approval=kind == ReturnKind.CLAIM or choices.choose("approval", 0.4, ["is needed"]) != USUAL,
            restocking_percent=15 if has_fees else 0,
            damaged_percent=40 if has_fees else 100,
            label_cost=Money.from_minor(500, currency) if has_fees else None,
        ),
        requested_at=START,
    )

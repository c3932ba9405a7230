"""One order played against the adversary: its customer, its operators, its carrier; and what they were told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import decode_search_attributes

from activities import all_activities
from contracts.address import Address
from contracts.ids import ORDERS, order_workflow_id
from contracts.money import Money
from contracts.orders import (
    AdvanceOrder,
    CancelRequest,
    Decision,
    OrderLine,
    OrderState,
    OrderStatus,
    Outcome,
    ParcelDecision,
    PlaceOrder,
    TimelineEntry,
    UndoSettlement,
)
from contracts.parcels import ParcelChoice
from contracts.shipments import ShipmentStatus, ShipmentUpdate
from testing.explorer.adversary import SERVICE_OF, USUAL, Adversary, Choices, Story
from testing.explorer.clock import START, Clock
from testing.explorer.engine import Broken, Engine
from testing.explorer.executions import PAYLOADS, Wire, Worker
from testing.model import World
from workflows.order import OrderWorkflow

LONGEST = timedelta(days=500)
MOST_ACTIONS = 6_000
"""A run that needs more does not end."""
MOST_MESSAGES = 6
PRICES = {"USD": ("2.70", "18.00"), "EUR": ("2.49", "16.99"), "JPY": ("300", "1999"), "KWD": ("0.825", "5.500")}
CURRENCIES = ("EUR", "JPY", "KWD")
STATUS = ShipmentStatus
HOUR, DAY = 3600.0, 86_400.0
CARRIERS: Mapping[str, tuple[tuple[float, ShipmentStatus], ...]] = {
    USUAL: ((HOUR, STATUS.DISPATCHED), (2 * HOUR, STATUS.IN_TRANSIT), (DAY, STATUS.DELIVERED)),
    "is quick": ((0.01, STATUS.DISPATCHED), (2.0, STATUS.DELIVERED)),
    "comes within a minute": ((40.0, STATUS.DISPATCHED), (DAY, STATUS.DELIVERED)),
    "picks up after 20 days": ((20 * DAY, STATUS.DISPATCHED), (DAY, STATUS.DELIVERED)),
    "is silent for 60 days": ((HOUR, STATUS.DISPATCHED), (60 * DAY, STATUS.DELIVERED)),
    "loses it": ((HOUR, STATUS.DISPATCHED), (2 * DAY, STATUS.LOST)),
    "loses it, and finds it": ((HOUR, STATUS.DISPATCHED), (DAY, STATUS.LOST), (2 * DAY, STATUS.DELIVERED)),
    "loses it, and finds it at once": ((HOUR, STATUS.DISPATCHED), (DAY, STATUS.LOST), (0.01, STATUS.DELIVERED)),
    "brings it back": ((HOUR, STATUS.DISPATCHED), (DAY, STATUS.IN_TRANSIT), (2 * DAY, STATUS.RETURNED)),
    "loses it, and brings it back": ((HOUR, STATUS.DISPATCHED), (DAY, STATUS.LOST), (5 * DAY, STATUS.RETURNED)),
}
"""What a carrier does to a parcel, each after the one before."""
MESSAGES = (
    "cancel",
    "cancel",
    "cancel",
    "cancel the workflow",
    "cancel by signal",
    "cancel the workflow",
    "approve",
    "approve",
    "reject",
    "approve by signal",
    "reject by signal",
    "decide wait",
    "decide resend",
    "decide refund",
    "decide refund_and_restock",
    "decide refund by signal",
    "place again",
    "place under another id",
    "report all again",
    "report all backwards",
    "report of an unknown parcel",
    "settle an undo",
    "kill the worker",
    "kill the worker",
    "ask",
)


@dataclass
class Told:
    """What one message was answered."""

    message: str
    sent: float
    answered: float | None = None
    answer: object = None
    """A contract, a code (a refusal), or None: the workflow had ended."""


@dataclass
class Played:
    """What came of a run, for the checks."""

    order: PlaceOrder
    world: World
    adversary: Adversary
    engine: Engine
    told: list[Told]
    advances: list[AdvanceOrder]
    left: dict[int, float]
    """When each parcel left."""
    without_parcel: list[str]
    """What was wrong when the record was told that the order is confirmed."""
    in_trouble: set[int]
    """Parcels of which the record was told that they do not arrive."""
    known_returned: set[int]
    """Parcels that came back while the saga was there to hear of it."""
    choices: Choices
    log: list[str]
    broken: str | None = None
    result: OrderState | None = None
    final_query: OrderState | None = None
    timeline: list[TimelineEntry] = field(default_factory=list)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def story(self) -> Story:
        return self.choices.made


class Player:
    """Plays one order."""

    def __init__(self, choices: Choices, world: World | None = None) -> None:
        self.choices = choices
        self.clock = Clock()
        self.log: list[str] = []
        self._away: dict[str, int] = {}
        self.world = world or World()
        self.adversary = Adversary(choices, self.clock, self.world, self._note)
        self.order = self._new_order()
        self.engine = Engine(
            self.clock,
            Worker(all_activities(lambda service: Wire())),
            self.adversary,
            OrderWorkflow,
            order_workflow_id(self.order.order_id),
            self._note,
        )
        self.told: list[Told] = []
        self.left: dict[int, float] = {}
        self._reports: list[ShipmentUpdate] = []
        self._waiting: dict[str, list[str]] = {}
        self._broken: str | None = None
        self._updates = 0
        self._wrong: list[str] = []
        self._in_trouble: set[int] = set()
        self._returned: set[int] = set()

    def play(self) -> Played:
        """From the order to its end, and until nothing is under way any more."""
        self.world.orders.accept(self.order)
        self.world.shipping.watchers.append(self._parcel_moved)
        self.adversary.on_call = self._called
        self.adversary.on_task = self._task_begins
        self.world.orders.watchers.append(self._advanced)
        self.clock.after(0.0, self._place)
        self._plan_messages()
        try:
            self._let_time_pass()
            self.engine.replay()
        except Broken as broken:
            self._broken = str(broken)
        return self._played()

    # ── The order ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _new_order(self) -> PlaceOrder:
        currency = self.choices.choose("currency", 0.5, CURRENCIES)
        currency = "USD" if currency == USUAL else currency
        review = self.choices.choose("review", 0.3, ["asked for by us"]) != USUAL
        milk, cheese = (Money(amount=Decimal(price), currency=currency) for price in PRICES[currency])
        lines = (
            OrderLine(product_id="milk", name="Milk", quantity=2, unit_price=milk, weight_grams=1000),
            OrderLine(product_id="cheese", name="Cheese", quantity=1, unit_price=cheese, weight_grams=400),
        )
        return PlaceOrder(
            order_id=uuid5(ORDERS, "explored"),
            customer_id=uuid5(ORDERS, "customer"),
            lines=lines,
            total=lines[0].total + lines[1].total,
            ship_to=Address(name="Ann", line1="1 Main St", city="Springfield", region="IL", postal_code="62701", country="US"),
            payment_token="tok_visa",  # noqa: S106 (a name of a test card)
            needs_review=review,
            review_seconds=7200,
            placed_at=START,
        )

    def _place(self) -> None:
        self.engine.start(self.order)
        if self.choices.choose("place", 0.2, ["without waiting"]) == USUAL:
            self._send_update("place", "place", "place-1", [])

    # ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _plan_messages(self) -> None:
        share = self.choices.mood("messages", (0.0, 0.15, 0.4))
        for number in range(1, MOST_MESSAGES + 1):
            name = f"message {number}"
            random = self.choices.random(name)
            planned = self.choices.choose(name, share, [f"{random.choice(MESSAGES)}, {self._moment(random)}"])
            if planned == USUAL:
                continue
            message, moment = planned.split(", ")
            match moment.split():
                case ["after", seconds, "s"]:
                    self.clock.after(float(seconds), lambda message=message: self._send(message))  # type: ignore[misc]
                case _:
                    self._waiting.setdefault(moment, []).append(message)

    def _moment(self, random: Any) -> str:
        match random.randrange(5):
            case 0:
                return f"with call {random.choice(list(SERVICE_OF))} {random.choice((1, 1, 1, 2, 3))}"
            case 1:
                return f"after call {random.choice(list(SERVICE_OF))} {random.choice((1, 1, 1, 2, 3))}"
            case 2:
                return f"with task {random.randint(1, 12)}"
            case 3:
                return f"after {random.choice((0, 0.002, 0.01, 0.02, 0.1, 1, 5, 30, 300))} s"
            case _:
                return f"after {random.choice((0.5, 1, 3, 24, 30, 50, 75, 100, 250, 300)) * 3600 + random.randint(-60, 60)} s"

    def _called(self, command: str, number: int) -> None:
        for message in self._waiting.pop(f"with call {command} {number}", []):
            self._send(message)
        for message in self._waiting.pop(f"after call {command} {number}", []):
            self.clock.after(0.005, lambda message=message: self._send(message))  # type: ignore[misc]

    def _task_begins(self, number: int) -> None:
        for message in self._waiting.pop(f"with task {number}", []):
            self.clock.after(0.0, lambda message=message: self._send(message))  # type: ignore[misc]

    def _send(self, message: str) -> None:
        self._note(f"message: {message}")
        decision = Decision(by="operator", reason="looked at it")
        match message.split():
            case ["cancel"]:
                self._send_update(message, "cancel", None, [CancelRequest(reason="changed my mind", requested_by="customer")])
            case ["cancel", "the", "workflow"]:
                if self.engine.cancel():
                    self.told.append(Told(message, self.clock.seconds))
            case ["cancel", "by", "signal"]:
                if self.engine.signal("cancel", CancelRequest(reason="changed my mind", requested_by="operator")):
                    self.told.append(Told(message, self.clock.seconds))
            case ["approve" | "reject" as name]:
                self._send_update(message, name, None, [decision])
            case ["approve" | "reject" as name, "by", "signal"]:
                if self.engine.signal(name, decision):
                    self.told.append(Told(message, self.clock.seconds))
            case ["decide", choice, *how]:
                parcel_decision = ParcelDecision(by="operator", reason="looked at it", choice=ParcelChoice(choice))
                if not how:
                    self._send_update(message, "decide_parcel", None, [parcel_decision])
                elif self.engine.signal("decide_parcel", parcel_decision):
                    self.told.append(Told(message, self.clock.seconds))
            case ["place", "again"]:
                self._send_update("place", "place", "place-1", [])
            case ["place", *_]:
                self._send_update("place", "place", None, [])
            case ["report", "all", how]:
                for update in self._reports[:: 1 if how == "again" else -1]:
                    self.engine.signal("shipment_updated", update)
            case ["report", *_]:
                self.engine.signal("shipment_updated", ShipmentUpdate(parcel=9, status=STATUS.DELIVERED))
            case ["settle", *_]:
                settlement = UndoSettlement(by="operator", reason="tidying up", undo="Refund payment", done=True)
                self._send_update(message, "settle_undo", None, [settlement])
            case ["kill", *_]:
                self.engine.kill_worker()
            case _:
                self.engine.query("status")

    def _send_update(self, message: str, name: str, id: str | None, arguments: list[object]) -> None:
        self._updates += 1
        told = Told(message, self.clock.seconds)
        self.told.append(told)

        def answered(answer: Payload | Failure | None) -> None:
            told.answered = self.clock.seconds
            if isinstance(answer, Failure):
                told.answer = answer.application_failure_info.type or answer.message
            elif answer is not None:
                told.answer = PAYLOADS.from_payload(answer, Outcome if name == "place" else dict[str, Any])
            self._note(f"{message} is answered: {_short(told.answer)}")

        self.engine.update(id or f"update-{self._updates}", name, arguments, answered)

    # ── The carrier ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _parcel_moved(self, order_id: UUID, number: int, status: ShipmentStatus) -> None:
        if status == STATUS.BOOKED:
            carrier = self.choices.choose(f"carrier of parcel {number}", 0.5, [name for name in CARRIERS if name != USUAL])
            at = 0.0
            for wait, to in CARRIERS[carrier]:
                at += wait
                self.clock.after(at, lambda to=to: self._carry(order_id, number, to))  # type: ignore[misc]
            return
        if status == STATUS.DISPATCHED:
            self.left[number] = self.clock.seconds
        self._note(f"parcel {number} is {status}")
        update = ShipmentUpdate(parcel=number, status=status, occurred_at=self.clock.now, tracking_number=f"TRK{number}")
        self._reports.append(update)
        name = f"report that parcel {number} is {status}"
        how = self.choices.choose(name, 0.2, ["twice", "a minute late", "two hours late", "at once"])
        wait = {"a minute late": 60.0, "two hours late": 7200.0, "at once": 0.0}.get(how, 0.5)
        self.clock.after(wait, lambda: self._report(update))
        if how == "twice":
            self.clock.after(wait + 5, lambda: self._report(update))

    def _carry(self, order_id: UUID, number: int, to: ShipmentStatus) -> None:
        self.world.shipping.move(order_id, number, to)

    def _report(self, update: ShipmentUpdate) -> None:
        if self.engine.signal("shipment_updated", update):
            if update.status == STATUS.RETURNED:
                self._returned.add(update.parcel)
            self._note(f"reported: parcel {update.parcel} is {update.status}")

    # ── To the end ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _let_time_pass(self) -> None:
        while self.clock.next():
            if self.clock.now - START > LONGEST or self.clock.happened > MOST_ACTIONS:
                if self.engine.running:
                    raise Broken("the workflow does not end")
                return
        if self.engine.running:
            raise Broken("the workflow waits for something that does not come")

    def _advanced(self, command: AdvanceOrder) -> None:
        if OrderStatus.UNDELIVERED in command.path:
            self._in_trouble.add(max((number for _, number in self.world.shipping.parcels), default=0))
        if OrderStatus.CONFIRMED not in command.path:
            return
        parcels = [parcel for parcel in self.world.shipping.parcels.values() if parcel.tracking_number]
        if not any(parcel.status not in (STATUS.PENDING, STATUS.CANCELLED, STATUS.REFUSED) for parcel in parcels):
            self._wrong.append("the record is told that the order is confirmed, but no parcel is booked")
        if self.world.payments.net(self.order.order_id, self.order.total.currency) != self.order.total:
            self._wrong.append("the record is told that the order is confirmed, but it is not paid")

    def _played(self) -> Played:
        played = Played(
            self.order,
            self.world,
            self.adversary,
            self.engine,
            self.told,
            self.world.orders.advances,
            self.left,
            self._wrong,
            self._in_trouble,
            self._returned,
            self.choices,
            self.log,
            self._broken,
        )
        if played.broken is None:
            try:
                if self.engine.result is not None:
                    played.result = PAYLOADS.from_payload(self.engine.result, OrderState)
                status, timeline = self.engine.query("status"), self.engine.query("timeline")
                assert status is not None
                assert timeline is not None
                played.final_query = PAYLOADS.from_payload(status, OrderState)
                played.timeline = PAYLOADS.from_payload(timeline, list[TimelineEntry])
                played.attributes = decode_search_attributes(self.engine.search_attributes)
            except Broken as broken:
                played.broken = str(broken)
        return played

    def _note(self, what: str) -> None:
        """A line of the story. Of a service that stays away, only the first few."""
        command = what.partition(" ")[0]
        self._away[command] = self._away.get(command, 0) + 1 if what.endswith("is away") else 0
        if self._away[command] > 3:
            return
        self.log.append(f"{_duration(self.clock.seconds):>12}  {what}")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3f} s"
    return str(timedelta(seconds=round(seconds)))


def _short(answer: object) -> str:
    if isinstance(answer, Outcome):
        return f"{answer.status} {answer.code or ''}".strip()
    if isinstance(answer, dict):
        return f"{answer.get('status')} {answer.get('code') or ''}".strip()
    return str(answer)

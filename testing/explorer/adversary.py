"""What goes wrong: every choice has a name, so that a story is the list of those that are not the usual one."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import TypeVar

from pydantic import BaseModel

from chassis.clients import Unavailable
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import ReserveInventory, SplitReservation
from contracts.payment_actions import ActionKind
from contracts.payments import ProcessPayment
from contracts.returns import PlaceReplacement
from contracts.shipments import CancelReturnLabel, CancelShipment, CreateShipment, ShipmentStatus
from testing.explorer.clock import Clock
from testing.explorer.engine import Fate
from testing.explorer.executions import Execution
from testing.model import World

Story = dict[str, str]
"""Choice by its name; a choice that is not in it is the usual one."""
USUAL = "usual"
Answer = TypeVar("Answer")


class Choices:
    """Chooses by seed, or repeats a story. `made` is the story of this run."""

    def __init__(self, seed: int = 0, story: Mapping[str, str] | None = None) -> None:
        self._seed, self._story = seed, story
        self.made: Story = {}

    def choose(self, name: str, share: float, options: Sequence[str]) -> str:
        """The usual, or, in that share of cases, one of the options."""
        if self._story is not None:
            chosen = self._story.get(name, USUAL)
        else:
            random = Random(f"{self._seed} {name}")  # noqa: S311 (repeatable on purpose)
            chosen = random.choice(options) if options and random.random() < share else USUAL
        if chosen != USUAL:
            self.made[name] = chosen
        return chosen

    def mood(self, name: str, moods: Sequence[float]) -> float:
        """A property of a seed that only weights its choices."""
        return Random(f"{self._seed} mood {name}").choice(moods)  # noqa: S311

    def random(self, name: str) -> Random:
        """For the details of an option. Not used when a story is repeated, which has them written out."""
        return Random(f"{self._seed} details {name}")  # noqa: S311


SERVICE_OF = {
    "ReserveInventory": "inventory",
    "ReleaseInventory": "inventory",
    "ShipInventory": "inventory",
    "RestockInventory": "inventory",
    "SplitReservation": "inventory",
    "ProcessPayment": "payment",
    "CapturePayment": "payment",
    "RefundPayment": "payment",
    "CreateShipment": "shipping",
    "CancelShipment": "shipping",
    "AdvanceOrder": "order",
    "AdvanceReturn": "order",
    "PlaceReplacement": "order",
    "ReceiveReturn": "inventory",
    "GiveBack": "payment",
    "ReleaseHold": "payment",
    "CreateReturnLabel": "shipping",
    "CancelReturnLabel": "shipping",
    "SendNotification": "notification",
}
REFUSALS = {
    "ReserveInventory": ("out_of_stock", "purchase_limit", "warehouse_unknown"),
    "ProcessPayment": ("payment_declined",),
    "CapturePayment": ("payment_declined",),
    "CreateShipment": ("address_undeliverable", "parcel_too_heavy"),
    "CancelShipment": ("already_dispatched",),
    "SplitReservation": ("conflict", "not_found"),
    "CreateReturnLabel": ("address_undeliverable", "parcel_too_heavy"),
    "CancelReturnLabel": ("already_dispatched",),
    "PlaceReplacement": ("product_unknown", "conflict", "customer_forgotten"),
}
"""What each command's contract says that it may be refused for, other than that its undo came first."""
FORWARD = frozenset({"ReserveInventory", "ProcessPayment", "CapturePayment", "CreateShipment"})
MAY_BE_REFUSED = FORWARD | {"SplitReservation", "CreateReturnLabel", "PlaceReplacement"}
"""Whose refusals are answers."""
TRANSIENT = ("not_found", "conflict", "validation_failed")
"""Refusals that no undo may take for an answer: a framework's, or of a deploy that went wrong."""
FAULTS = (
    "down",
    "down",
    "reply lost",
    "no answer",
    "done without an answer",
    "arrives after 1 s",
    "arrives after 40 s",
    "arrives after 700 s",
    "slow by 2 s",
    "slow by 9 s",
    "slow by 20 s",
    "twice",
    "outage of 50 s",
    "outage of 700 s",
    "outage of 3600 s",
    "outage of 21600 s",
    "outage of 50000 s",
)
MOST_FAULTS = 40
"""After so many faults everything answers truly, so that every run must end."""
LATENCY = 0.004


class Adversary:
    """Decides about tasks and calls. See `Chaos`."""

    def __init__(self, choices: Choices, clock: Clock, world: World, log: Callable[[str], None]) -> None:
        self.choices, self.clock, self.world, self.log = choices, clock, world, log
        self.calls: dict[str, int] = {}
        self.refusals: list[tuple[float, str, ErrorCode]] = []
        """When, which command, and what it was refused for: what really reached the worker."""
        self.cancels_asked: list[float] = []
        """When each CancelShipment arrived at its service."""
        self.declined_cards: set[str] = set()
        """Which cards the bank declines whatever happens."""
        self.asked_cards: Mapping[str, ActionKind] = {}
        """About which cards the bank asks the customer, and for what."""
        self.holds_for: timedelta | None = None
        """How long the bank holds money from when it is asked to, if it says so."""
        self.on_call: Callable[[str, int], None] = lambda command, number: None
        self.on_effect: Callable[[], None] = lambda: None
        """Called whenever a command has arrived at its service."""
        self.on_task: Callable[[int], None] = lambda number: None
        self._outages: dict[str, float] = {}
        self._split_refused_at: dict[int, float] = {}
        """By the new parcel: a request for it that was sent before, and arrives after that, is refused, too."""
        self._faults = 0
        self._calls_share = choices.mood("calls", (0.0, 0.03, 0.1, 0.3, 0.6))
        self._tasks_share = choices.mood("tasks", (0.0, 0.0, 0.05, 0.2))
        self._evictions_share = choices.mood("evictions", (0.0, 0.2, 1.0))
        self._renewals_share = choices.mood("renewals", (0.0, 0.0, 0.0, 0.1, 0.5))

    def fate_of_task(self, number: int) -> Fate | None:
        self.on_task(number)
        options = ["at the end", "at the end, at once", *(f"after {n} local activities" for n in range(5))]
        match self._fault(f"task {number} is lost", self._tasks_share, options):
            case "usual":
                return None
            case "at the end":
                return Fate(None)
            case "at the end, at once":
                return Fate(None, again_after=0.05)
            case other:
                return Fate(int(other.split()[1]))

    def evict_before_task(self, number: int) -> bool:
        return self.choices.choose(f"task {number} is replayed", self._evictions_share, ["yes"]) != USUAL

    def suggest_continue_as_new(self, number: int) -> bool:
        return self._fault(f"task {number} finds the history long", self._renewals_share, ["yes"]) != USUAL

    def call(self, execution: Execution, limit_s: float) -> None:
        command = execution.command
        name = type(command).__name__
        number = self.calls[name] = self.calls.get(name, 0) + 1
        refusals = [f"refused: {code}" for code in REFUSALS.get(name, ())]
        options = [*FAULTS, *refusals * (4 if name in MAY_BE_REFUSED else 1)]
        if name == "ProcessPayment":
            options += ["held for review by the bank"] * 3 + ["held for review by its velocity"] * 2
        if name in ("ProcessPayment", "CreateShipment"):
            options += ["half done"]
        if name not in MAY_BE_REFUSED:
            options += [f"refused by mistake: {code}" for code in TRANSIENT]
        chosen = self._fault(f"{name} {number}", self._calls_share, options)
        self.on_call(name, number)
        self._play(execution, command, name, number, chosen)

    def _play(self, execution: Execution, command: BaseModel, name: str, number: int, chosen: str) -> None:
        words = chosen.split()
        service = SERVICE_OF.get(name, name)
        if words[0] == "outage":
            self._outages[service] = self.clock.seconds + float(words[2])
        if self.clock.seconds < self._outages.get(service, 0.0):
            self._answer(execution, name, number, Unavailable(f"{service} is away"), LATENCY)
            return
        match words:
            case ["down"]:
                self._answer(execution, name, number, Unavailable("down for a moment"), LATENCY)
            case ["reply", "lost"]:
                self._effect(command, LATENCY / 2)
                self._answer(execution, name, number, Unavailable("the connection broke"), LATENCY)
            case ["no", "answer"]:
                self.log(f"{name} {number}: no answer")
            case ["done", *_]:
                self._effect(command, LATENCY / 2)
                self.log(f"{name} {number}: done, but no answer")
            case ["arrives", "after", seconds, _]:
                self._effect(command, float(seconds))
                self.log(f"{name} {number}: arrives late, without an answer")
            case ["slow", "by", seconds, _]:
                self._effect(command, LATENCY / 2, lambda answer: self._answer(execution, name, number, answer, float(seconds)))
            case ["twice"]:
                self._effect(command, LATENCY / 2, lambda answer: self._answer(execution, name, number, answer, LATENCY / 2))
                self._effect(command, 3.0)
            case ["half", "done"]:
                self.clock.after(LATENCY / 2, lambda: self._half(command))
                self._answer(execution, name, number, Unavailable("the company did not answer the service"), LATENCY)
            case ["refused", "by", "mistake:", code]:
                self._answer(execution, name, number, Refusal(ErrorCode(code), "by mistake"), LATENCY)
            case ["refused:", code]:
                self._refuse(execution, command, name, number, ErrorCode(code))
            case ["held", *_, by]:
                payments = self.world.payments
                payments.bank.flags = by == "bank"
                payments.review = ("customer: more than 20 orders",) if by == "velocity" else ()
                self._effect(command, 0.0, lambda answer: self._answer(execution, name, number, answer, LATENCY))
            case _:
                self._effect(command, LATENCY / 2, lambda answer: self._answer(execution, name, number, answer, LATENCY / 2))

    def _refuse(self, execution: Execution, command: BaseModel, name: str, number: int, code: ErrorCode) -> None:
        """The refusal is true: where the service would remember it, the model does; what was done before is not refused."""
        match name:
            case "ProcessPayment" | "CapturePayment":
                self.world.payments.bank.declines = True
            case "CreateShipment" | "CreateReturnLabel":
                self.world.shipping.refuses = code
            case "CancelShipment":
                assert isinstance(command, CancelShipment)
                self.world.shipping.move(command.order_id, command.parcel, ShipmentStatus.DISPATCHED)
            case "CancelReturnLabel":
                assert isinstance(command, CancelReturnLabel)
                self.world.shipping.move_label(command.order_id, command.number, ShipmentStatus.DISPATCHED)
            case "PlaceReplacement":
                assert isinstance(command, PlaceReplacement)
                if command.replacement_id not in self.world.returns.replacements:
                    self._answer(execution, name, number, Refusal(code, f"no: {code}"), LATENCY)
                    return
            case "SplitReservation":
                assert isinstance(command, SplitReservation)
                if (command.order_id, command.into) not in self.world.inventory.promises:
                    self._split_refused_at[command.into] = self.clock.seconds
                    self._answer(execution, name, number, Refusal(code, f"no: {code}"), LATENCY)
                    return
            case _:
                assert isinstance(command, ReserveInventory)
                if (command.order_id, command.parcel) not in self.world.inventory.promises:
                    self._answer(execution, name, number, Refusal(code, f"no: {code}"), LATENCY)
                    return
        answer = self._handle(command)
        self.world.shipping.refuses = None
        self._answer(execution, name, number, answer, LATENCY)

    def _effect(self, command: BaseModel, after: float, then: Callable[[BaseModel | Exception], None] | None = None) -> None:
        """The command arrives at its service."""

        sent = self.clock.seconds

        def arrive() -> None:
            if isinstance(command, SplitReservation) and self._split_refused_at.get(command.into, -1.0) > sent:
                return
            answer = self._handle(command)
            if then is not None:
                then(answer)

        self.clock.after(after, arrive)

    def _half(self, command: BaseModel) -> None:
        """The service wrote down what it wants of its company, and got no further."""
        try:
            if isinstance(command, ProcessPayment):
                self.world.payments.ask(command)
            elif isinstance(command, CreateShipment):
                self.world.shipping.ask(command)
        except Refusal:
            return

    def _handle(self, command: BaseModel) -> BaseModel | Exception:
        if type(command).__name__ == "CancelShipment":
            self.cancels_asked.append(self.clock.seconds)
        if isinstance(command, ProcessPayment) and command.payment_token in self.declined_cards:
            self.world.payments.bank.declines = True
        if isinstance(command, ProcessPayment):
            self.world.payments.bank.asks = self.asked_cards.get(command.payment_token)
        self.world.payments.bank.held_until = self.clock.now + self.holds_for if self.holds_for else None
        try:
            return self.world.handle(command)
        except (Refusal, Unavailable) as no:
            return no
        except ValueError as mistake:  # what the framework answers for it: 500, a fault
            return Unavailable(f"internal error: {mistake}")
        finally:
            self.world.payments.bank.declines = False
            self.on_effect()

    def _answer(self, execution: Execution, name: str, number: int, answer: BaseModel | Exception, after: float) -> None:
        def arrive() -> None:
            told = answer.code if isinstance(answer, Refusal) else getattr(answer, "status", answer)
            self.log(f"{name} {number}: {told}" + (", which nobody waits for" if execution.over else ""))
            if isinstance(answer, Refusal) and not execution.over:
                self.refusals.append((self.clock.seconds, name, answer.code))
            execution.answer(answer)

        self.clock.after(after, arrive)

    def _fault(self, name: str, share: float, options: Sequence[str]) -> str:
        chosen = self.choices.choose(name, share if self._faults < MOST_FAULTS else 0.0, options)
        self._faults += chosen != USUAL
        return chosen

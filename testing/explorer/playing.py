"""What playing an order and playing a return have in common: time, the adversary, and messages at moments of the adversary's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, Generic, TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import decode_search_attributes

from activities import all_activities
from testing.explorer.adversary import USUAL, Adversary, Choices
from testing.explorer.clock import START, Clock
from testing.explorer.engine import Broken, Engine
from testing.explorer.executions import PAYLOADS, Wire, Worker
from testing.model import World

LONGEST = timedelta(days=500)
MOST_ACTIONS = 6_000
"""A run that needs more does not end."""
MOST_MESSAGES = 6


@dataclass
class Told:
    """What one message was answered."""

    message: str
    sent: float
    answered: float | None = None
    answer: object = None
    """A contract, a code (a refusal), or None: the workflow had ended."""


State = TypeVar("State")
Entry = TypeVar("Entry")


@dataclass(kw_only=True)
class AtTheEnd(Generic[State, Entry]):
    """What the workflow says of itself when it is over."""

    broken: str | None = None
    """What it did that it must never do; then it says nothing."""
    result: State | None = None
    final_query: State | None = None
    timeline: list[Entry] = field(default_factory=list)
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Playing:
    """One workflow, played from its start to its end."""

    def __init__(self, choices: Choices, world: World, workflow: type, workflow_id: str) -> None:
        self.choices, self.world = choices, world
        self.clock = Clock()
        self.log: list[str] = []
        self.told: list[Told] = []
        self.broken: str | None = None
        self._away: dict[str, int] = {}
        self._waiting: dict[str, list[str]] = {}
        self._updates = 0
        self.adversary = Adversary(choices, self.clock, world, self.note)
        self.adversary.on_call = self._called
        self.adversary.on_task = self._task_begins
        worker = Worker(all_activities(lambda service: Wire()))
        self.engine = Engine(self.clock, worker, self.adversary, workflow, workflow_id, self.note)

    def _send(self, message: str) -> None:
        """Send one of the messages."""
        raise NotImplementedError

    def _to_the_end(self) -> None:
        """Let time pass until nothing is under way any more, and replay what was recorded."""
        try:
            while self.clock.next():
                if self.clock.now - START > LONGEST or self.clock.happened > MOST_ACTIONS:
                    if self.engine.running:
                        raise Broken("the workflow does not end")
                    break
            else:
                if self.engine.running:
                    raise Broken("the workflow waits for something that does not come")
            self.engine.replay()
        except Broken as broken:
            self.broken = str(broken)

    def _ask_at_the_end(self, played: AtTheEnd[State, Entry], state: type[State], entries: type[list[Entry]]) -> None:
        """Let the workflow say where it is, unless something was broken."""
        played.broken = self.broken
        if played.broken is not None:
            return
        try:
            if self.engine.result is not None:
                played.result = PAYLOADS.from_payload(self.engine.result, state)
            status, timeline = self.engine.query("status"), self.engine.query("timeline")
            assert status is not None
            assert timeline is not None
            played.final_query = PAYLOADS.from_payload(status, state)
            played.timeline = PAYLOADS.from_payload(timeline, entries)
            played.attributes = decode_search_attributes(self.engine.search_attributes)
        except Broken as broken:
            played.broken = str(broken)

    # ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _plan_messages(self, messages: Sequence[str], commands: Sequence[str]) -> None:
        """Some of the messages, at any moment. `commands`: those whose calls may be such a moment."""
        share = self.choices.mood("messages", (0.0, 0.15, 0.4))
        for number in range(1, MOST_MESSAGES + 1):
            name = f"message {number}"
            random = self.choices.random(name)
            planned = self.choices.choose(name, share, [f"{random.choice(messages)}, {_moment(random, commands)}"])
            if planned == USUAL:
                continue
            message, moment = planned.split(", ")
            match moment.split():
                case ["after", seconds, "s"]:
                    self.clock.after(float(seconds), partial(self._send, message))
                case _:
                    self._waiting.setdefault(moment, []).append(message)

    def _called(self, command: str, number: int) -> None:
        for message in self._waiting.pop(f"with call {command} {number}", []):
            self._send(message)
        for message in self._waiting.pop(f"after call {command} {number}", []):
            self.clock.after(0.005, partial(self._send, message))

    def _task_begins(self, number: int) -> None:
        for message in self._waiting.pop(f"with task {number}", []):
            self.clock.after(0.0, partial(self._send, message))

    def _send_update(self, message: str, name: str, id: str | None, arguments: list[object], kind: Any) -> None:
        """`kind`: what the answer is; a failure is kept by its code."""
        self._updates += 1
        told = Told(message, self.clock.seconds)
        self.told.append(told)

        def answered(answer: Payload | Failure | None) -> None:
            told.answered = self.clock.seconds
            if isinstance(answer, Failure):
                told.answer = answer.application_failure_info.type or answer.message
            elif answer is not None:
                told.answer = PAYLOADS.from_payload(answer, kind)
            self.note(f"{message} is answered: {_short(told.answer)}")
            self._answered(name, told)

        self.engine.update(id or f"update-{self._updates}", name, arguments, answered)

    def _answered(self, name: str, told: Told) -> None:
        """An update has been answered."""

    def _signal(self, message: str, name: str, argument: object) -> None:
        """A message that gets no answer."""
        if self.engine.signal(name, argument):
            self.told.append(Told(message, self.clock.seconds))

    def note(self, what: str) -> None:
        """A line of the story. Of what is tried again and again, only the first few."""
        command = what.partition(" ")[0]
        self._away[command] = self._away.get(command, 0) + 1 if what.endswith(("is away", "refund_failed")) else 0
        if self._away[command] > 3:
            return
        self.log.append(f"{_duration(self.clock.seconds):>12}  {what}")


def _moment(random: Random, commands: Sequence[str]) -> str:
    match random.randrange(5):
        case 0:
            return f"with call {random.choice(commands)} {random.choice((1, 1, 1, 2, 3))}"
        case 1:
            return f"after call {random.choice(commands)} {random.choice((1, 1, 1, 2, 3))}"
        case 2:
            return f"with task {random.randint(1, 12)}"
        case 3:
            return f"after {random.choice((0, 0.002, 0.01, 0.02, 0.1, 1, 5, 30, 300))} s"
        case _:
            return f"after {random.choice((0.5, 1, 3, 24, 30, 50, 75, 100, 250, 300)) * 3600 + random.randint(-60, 60)} s"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3f} s"
    return str(timedelta(seconds=round(seconds)))


def _short(answer: object) -> str:
    status, code = (
        (answer.get("status"), answer.get("code"))
        if isinstance(answer, dict)
        else (getattr(answer, "status", None), getattr(answer, "code", None))
    )
    return f"{status} {code or ''}".strip() if status is not None else str(answer)

"""Returns: their records, the money that goes back, and the orders that they bring. Their goods are inventory's, their labels
shipping's."""

from dataclasses import dataclass, field
from uuid import UUID

from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.returns import (
    NEXT_RETURN_STATUS,
    AdvanceReturn,
    PlaceReplacement,
    ReplacementPlaced,
    ReturnAdvanced,
    ReturnRun,
    ReturnStatus,
)
from testing.model.payment import Payments

Key = tuple[UUID, int]
"""Order, and number of the return."""


@dataclass
class ReturnRecord:
    """One return's row."""

    history: list[ReturnStatus] = field(default_factory=lambda: [ReturnStatus.REQUESTED])
    words: list[AdvanceReturn] = field(default_factory=list)
    """What its saga told, each once."""

    @property
    def status(self) -> ReturnStatus:
        return self.history[-1]

    @property
    def last(self) -> AdvanceReturn:
        return self.words[-1]


class Returns:
    """What the order and the payment service do for returns."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments
        self.records: dict[Key, ReturnRecord] = {}
        self.replacements: dict[UUID, PlaceReplacement] = {}
        self.price: Money | None = None
        """What the next replacement costs; None: as much as its credit."""

    @property
    def given(self) -> dict[tuple[UUID, str], Money]:
        """What went back under the keys of returns, by order and key."""
        found: dict[tuple[UUID, str], Money] = {}
        for (order_id, _), payment in self._payments.payments.items():
            for key, minor in payment.refunds.items():
                if key.startswith("return-"):
                    before = found.get((order_id, key), payment.money(0))
                    found[order_id, key] = before + payment.money(minor)
        return found

    def accept(self, run: ReturnRun) -> ReturnRecord:
        """The row that exists before the saga does."""
        return self.records.setdefault((run.order_id, run.number), ReturnRecord())

    def advance(self, command: AdvanceReturn) -> ReturnAdvanced:
        """Walk the path, as far as it is new. Refusals: not_found, illegal_transition."""
        record = self.records.get((command.order_id, command.number))
        if record is None:
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such return.")
        if len(record.history) < command.after:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, "The return's record has missed what came before.")
        ahead = command.new_to(record.history)
        for status in ahead:
            if status not in NEXT_RETURN_STATUS[record.status]:
                raise Refusal(ErrorCode.ILLEGAL_TRANSITION, f"A return that is {record.status} cannot become {status}.")
            record.history.append(status)
        if ahead or not record.words or command.as_of > record.last.as_of:  # else it is a late retry
            record.words.append(command)
        return ReturnAdvanced(order_id=command.order_id, number=command.number, status=record.status)

    def place_replacement(self, command: PlaceReplacement) -> ReplacementPlaced:
        """Refusals: those that a test scripts."""
        self.replacements.setdefault(command.replacement_id, command)
        price = self.price or command.credit
        taken = min(price.minor, command.credit.minor)
        return ReplacementPlaced(
            replacement_id=command.replacement_id,
            total=Money.from_minor(price.minor - taken, price.currency),
            credit=Money.from_minor(taken, price.currency),
        )

"""What the carrier's reports of a return's parcel mean, and from whose payments its money goes back: pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.errors import ErrorCode, Refusal
from contracts.inventory import ReturnedLine
from contracts.money import Money
from contracts.payments import GiveBack
from contracts.returns import (
    Condition,
    ReceivedLine,
    ReturnedUnits,
    ReturnLine,
    ReturnRun,
    Settlement,
    units_that_came,
)
from contracts.shipments import ShipmentStatus

_S = ShipmentStatus
NEWER = (_S.BOOKED, _S.DISPATCHED, _S.IN_TRANSIT, _S.RETURNED, _S.LOST, _S.DELIVERED)
"""Reports may be repeated or late: only one that stands behind the last one here is news."""
WITH_CARRIER = frozenset({_S.DISPATCHED, _S.IN_TRANSIT, _S.DELIVERED})


@dataclass
class Label:
    """The parcel in which a return comes back, as far as the carrier has told."""

    is_ours: bool = False
    """Whether we booked it, or may have."""
    status: ShipmentStatus = ShipmentStatus.BOOKED

    def hears(self, status: ShipmentStatus) -> bool:
        """Whether a report is news; if so, it is kept."""
        is_news = self.is_ours and status in NEWER and NEWER.index(status) > NEWER.index(self.status)
        if is_news:
            self.status = status
        return is_news

    @property
    def is_with_carrier(self) -> bool:
        """Whether its goods are on their way, or at the warehouse already."""
        return self.is_ours and self.status in WITH_CARRIER

    @property
    def is_lost(self) -> bool:
        return self.is_ours and self.status == ShipmentStatus.LOST

    @property
    def can_be_called_off(self) -> bool:
        return self.is_ours and self.status == ShipmentStatus.BOOKED


@dataclass
class Deadline:
    """Until when goods may come."""

    at: datetime
    takes: timedelta
    is_extended: bool = False

    def extend(self) -> bool:
        """Its parcel is on its way: there is the same time once more. False: it had been extended before."""
        if self.is_extended:
            return False
        self.at, self.is_extended = self.at + self.takes, True
        return True


class Owed:
    """What a return is worth and has not been given back yet, by whose payment holds it: the order's own goes first."""

    def __init__(self, run: ReturnRun, settlement: Settlement) -> None:
        self._run = run
        credit_order = run.credit_order_id or run.order_id
        self._left = {"": (run.order_id, settlement.of_payment.minor)}
        if settlement.of_credit.minor:
            self._left[f"-of-{run.order_id.hex[:8]}"] = (credit_order, settlement.of_credit.minor)

    def take(self, amount: Money, what: str = "") -> list[GiveBack]:
        """So much of it, but never more than is left. `what`: tells its keys from those of the other times."""
        run, wanted, commands = self._run, amount.minor, list[GiveBack]()
        for source, (order_id, left) in self._left.items():
            taken = min(wanted, left)
            if taken > 0:
                self._left[source] = (order_id, left - taken)
                wanted -= taken
                money = Money.from_minor(taken, run.currency)
                key = f"return-{run.number}{what}{source}"
                commands.append(GiveBack(order_id=order_id, amount=money, key=key, reason=f"{run.kind} {run.number}"))
        return commands


def came_of(lines: Sequence[ReturnLine], received: Sequence[ReceivedLine]) -> tuple[ReturnedUnits, ...]:
    """Which of the announced units came. Refusal: not_returnable, with the lines of which more came than was announced."""
    announced, came = Counter[int](), Counter[int]()
    for line in lines:
        announced[line.line_id] += line.quantity
    for receipt in received:
        came[receipt.line_id] += receipt.quantity
    if too_many := sorted(came - announced):
        raise _too_many(too_many)
    return units_that_came(lines, received)


def _too_many(lines: list[int]) -> Refusal:
    numbers = ", ".join(map(str, lines))
    return Refusal(ErrorCode.NOT_RETURNABLE, f"More came than was announced of line {numbers}.", extra={"line_ids": lines})


def shelved(came: Iterable[ReturnedUnits]) -> tuple[ReturnedLine, ...]:
    """The same by product, as inventory counts."""
    counted: dict[str, Counter[Condition]] = {}
    for units in came:
        counted.setdefault(units.line.product_id, Counter())[units.condition] += units.line.quantity
    return tuple(
        ReturnedLine(product_id=product_id, good=units[Condition.GOOD], damaged=units[Condition.DAMAGED])
        for product_id, units in counted.items()
    )

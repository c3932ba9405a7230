"""What the shop earns, and gives back. docs/metrics.md lists it."""

from collections.abc import Sequence

from prometheus_client import Counter

from contracts.money import Money
from contracts.payments import MovementKind
from services.payment.model import Movement

amount_total = Counter(
    "payments_amount_total",
    "Money that moved, in whole currency units: captured is what was earned, refunded what went back.",
    ["movement", "currency"],
)
_MOVEMENTS = {
    MovementKind.AUTHORIZE: "authorized",
    MovementKind.CAPTURE: "captured",
    MovementKind.REFUND: "refunded",
    MovementKind.VOID: "voided",
}
for _movement in _MOVEMENTS.values():
    amount_total.labels(_movement, Money.zero().currency)  # there from the start, so that the first one is seen, too


def count(moved: Sequence[Movement]) -> None:
    """Count movements that are in the ledger from now on."""
    for one in moved:
        amount_total.labels(_MOVEMENTS[one.kind], one.currency).inc(float(one.amount.amount))

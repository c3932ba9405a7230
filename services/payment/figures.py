"""What the shop earns, and gives back. docs/metrics.md lists it."""

from collections.abc import Sequence

from prometheus_client import Counter

from contracts.money import Money
from services.payment.model import Transaction, TransactionKind

amount_total = Counter(
    "payments_amount_total",
    "Money that moved, in whole currency units: captured is what was earned, refunded what went back.",
    ["movement", "currency"],
)
_MOVEMENTS = {
    TransactionKind.AUTHORIZE: "authorized",
    TransactionKind.CAPTURE: "captured",
    TransactionKind.REFUND: "refunded",
    TransactionKind.VOID: "voided",
}
for _movement in _MOVEMENTS.values():
    amount_total.labels(_movement, Money.zero().currency)  # there from the start, so that the first one is seen, too


def count(transactions: Sequence[Transaction]) -> None:
    """Count movements that have been written to the ledger, each of which is written once."""
    for one in transactions:
        amount_total.labels(_MOVEMENTS[one.kind], one.currency).inc(float(one.amount.amount))

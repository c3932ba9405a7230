"""What the shop earns, and gives back. docs/metrics.md lists it."""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Counter, Metric
from prometheus_client.core import GaugeMetricFamily

from chassis.clock import utc_now
from contracts.money import Money
from contracts.payments import MovementKind
from services.payment.model import DebtKind, Movement

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


def owed(rows: Sequence[Mapping[str, Any]]) -> Sequence[Metric]:
    """What is on the list of what the shop owes, or cannot place. `rows`: those of `queries.debts_open`."""
    debts = GaugeMetricFamily("payments_owed", "Entries of the list of what is owed.", labels=["kind", "currency"])
    amount = GaugeMetricFamily("payments_owed_amount", "Their sum, in whole currency units.", labels=["kind", "currency"])
    for row in rows:
        debts.add_metric([row["kind"], row["currency"]], row["debts"])
        amount.add_metric([row["kind"], row["currency"]], float(Money.from_minor(row["minor"], row["currency"]).amount))
    oldest = GaugeMetricFamily("payments_owed_oldest_seconds", "For how long the oldest of them is open.", labels=["kind"])
    now = utc_now()
    for kind in DebtKind:
        ages = [(now - row["since"]).total_seconds() for row in rows if row["kind"] == kind]
        oldest.add_metric([kind], max(ages, default=0.0))
    return debts, amount, oldest


def disputed(rows: Sequence[Mapping[str, Any]]) -> Sequence[Metric]:
    """Disputes that the banks have not decided yet. `rows`: those of `queries.disputes_open`."""
    disputes = GaugeMetricFamily("payment_disputes_open", "Disputes that are not decided yet.", labels=["currency"])
    amount = GaugeMetricFamily("payment_disputes_open_amount", "Their sum, in whole currency units.", labels=["currency"])
    for row in rows:
        disputes.add_metric([row["currency"]], row["disputes"])
        amount.add_metric([row["currency"]], float(Money.from_minor(row["minor"], row["currency"]).amount))
    return disputes, amount

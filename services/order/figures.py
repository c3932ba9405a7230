"""What the shop is measured by: counters of what becomes of orders, and answers about those in flight.

A counter rises when the transaction that made it so has committed, in the process that committed it: once for each order and
fact, whatever is repeated. docs/metrics.md lists them all.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from prometheus_client import Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily

from chassis.clock import utc_now
from contracts.errors import ErrorCode
from contracts.money import Money
from contracts.orders import FINAL_STATUSES, OrderStatus
from contracts.parcels import Trouble
from services.order.model import Order
from services.order.model.placing import Terms

placed_total = Counter("orders_placed_total", "Orders that were accepted.")
outcomes_total = Counter("order_outcomes_total", "What became of orders, each time that it was told.", ["outcome", "reason"])
stock_outs_total = Counter(
    "stock_outs_total", "Orders refused because the warehouse that they named, or any, lacked goods.", ["warehouse"]
)
state_seconds = Histogram(
    "order_state_seconds",
    "How long orders stayed in a state before they left it.",
    ["status"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 3600, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 14 * 86_400),
)
ANY_WAREHOUSE = "any"
IN_FLIGHT = tuple(status for status in OrderStatus if status not in FINAL_STATUSES)
_USUAL_REFUSALS = (
    ErrorCode.OUT_OF_STOCK,
    ErrorCode.PURCHASE_LIMIT,
    ErrorCode.PAYMENT_DECLINED,
    ErrorCode.PAYMENT_NOT_CONFIRMED,
    ErrorCode.ADDRESS_UNDELIVERABLE,
    ErrorCode.PARCEL_TOO_HEAVY,
    ErrorCode.REVIEW_REJECTED,
    ErrorCode.REVIEW_EXPIRED,
)
# A counter that is there from the start, with 0, is seen to rise the first time, too.
for _outcome, _reasons in {
    "confirmed": [""],
    "held": ["total", "payment"],
    "refused": _USUAL_REFUSALS,
    "cancelled": [ErrorCode.CANCELLED_BY_REQUEST],
    "delivered": [""],
    "refunded": Trouble,
}.items():
    for _reason in _reasons:
        outcomes_total.labels(_outcome, _reason)
stock_outs_total.labels(ANY_WAREHOUSE)
for _status in IN_FLIGHT:
    state_seconds.labels(_status)


class Standing(NamedTuple):
    """Where an order was before a command."""

    status: OrderStatus
    since: datetime
    steps: int
    """How many statuses it had reached."""
    was_confirmed: bool

    @classmethod
    def of(cls, order: Order) -> "Standing":
        return cls(order.status, order.since, len(order.history), order.confirmed_at is not None)


def count_progress(before: Standing, order: Order) -> None:
    """Count what has become of an order since then: nothing, where a word was repeated."""
    walked = [OrderStatus(entry["status"]) for entry in order.history[before.steps :]]
    if not walked:
        return
    # Statuses that were told together took no time of their own: all of it was spent in the one before.
    left_at = datetime.fromisoformat(order.history[before.steps]["at"])
    state_seconds.labels(before.status).observe(max(0.0, (left_at - before.since).total_seconds()))
    was_confirmed = before.was_confirmed
    for status in walked:
        if status == OrderStatus.CONFIRMED and not was_confirmed:  # not of another parcel that is sent
            was_confirmed = True
            outcomes_total.labels("confirmed", "").inc()
        elif status == OrderStatus.IN_REVIEW:
            outcomes_total.labels("held", "total" if order.needs_review else "payment").inc()
        elif status == OrderStatus.CANCELLING:
            _count_end(order, was_confirmed)
        elif status == OrderStatus.COMPLETED:
            outcomes_total.labels("delivered", "").inc()
        elif status == OrderStatus.REFUNDED:
            outcomes_total.labels("refunded", order.trouble or "").inc()


def _count_end(order: Order, was_confirmed: bool) -> None:
    """It comes to nothing: refused by the shop before it was confirmed, or cancelled."""
    is_refused = not was_confirmed and order.code != ErrorCode.CANCELLED_BY_REQUEST
    outcomes_total.labels("refused" if is_refused else "cancelled", order.code or "").inc()
    if is_refused and order.code == ErrorCode.OUT_OF_STOCK:
        stock_outs_total.labels(order.warehouse_id or ANY_WAREHOUSE).inc()


def in_flight(rows: Sequence[Mapping[str, Any]]) -> Sequence[Metric]:
    """How many orders are in each state that is not their last, and how long ago the last was heard of any of them. `rows`: those
    of `queries.orders_in_flight`."""
    found = {row["status"]: row for row in rows}
    orders = GaugeMetricFamily("orders_in_flight", "Orders in a state that is not their last.", labels=["status"])
    oldest = GaugeMetricFamily(
        "orders_in_flight_oldest_seconds",
        "How long ago the last was heard of the order of which nothing was heard for longest.",
        labels=["status"],
    )
    for status in IN_FLIGHT:
        row = found.get(status)
        orders.add_metric([status], row["orders"] if row else 0)
        oldest.add_metric([status], _ago(row["since"]) if row and row["since"] else 0)
    return orders, oldest


def refunds_owed(rows: Sequence[Mapping[str, Any]]) -> Sequence[Metric]:
    """Orders that are cancelled, and whose money has not gone back yet. `rows` are those of `queries.refunds_owed`."""
    orders = GaugeMetricFamily("refunds_owed", "Cancelled orders whose refund has not succeeded yet.", labels=["currency"])
    amount = GaugeMetricFamily("refunds_owed_amount", "Their sum, in whole currency units.", labels=["currency"])
    for row in rows:
        orders.add_metric([row["currency"]], row["orders"])
        amount.add_metric([row["currency"]], float(Money.from_minor(row["minor"], row["currency"]).amount))
    longest = max((_ago(row["since"]) for row in rows), default=0.0)
    return orders, amount, GaugeMetricFamily("refunds_owed_oldest_seconds", "For how long the oldest of them is owed.", longest)


def waiting(counts: Mapping[str, int], stuck: int) -> Sequence[Metric]:
    """Orders that wait for a person to decide, by what about, and those with a stuck undo."""
    orders = GaugeMetricFamily("orders_waiting", "Orders that wait for a person to decide.", labels=["for"])
    for what, count in counts.items():
        orders.add_metric([what], count)
    return orders, GaugeMetricFamily("saga_undos_stuck", "Orders with an undo that does not succeed.", stuck)


def deadlines(terms: Terms) -> Sequence[Metric]:
    """How long orders that are placed now may be in those states that end by themselves when nobody does anything."""
    deadline = GaugeMetricFamily("order_state_deadline_seconds", "How long an order may stay in a state.", labels=["status"])
    for status, seconds in {
        OrderStatus.PAYMENT_DUE: terms.pay_again_seconds,
        OrderStatus.ACTION_REQUIRED: max(terms.action_seconds, terms.transfer_seconds),
        OrderStatus.IN_REVIEW: terms.review_seconds,
        OrderStatus.CONFIRMED: terms.dispatch_seconds,
        OrderStatus.UNDELIVERED: terms.decision_seconds,
    }.items():
        deadline.add_metric([status], seconds)
    return (deadline,)


def _ago(at: datetime) -> float:
    return max(0.0, (utc_now() - at).total_seconds())

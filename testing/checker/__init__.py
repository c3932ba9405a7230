"""Did the platform keep its word? Rules over what clients were told, whatever was killed, lost or late meanwhile.

A rule takes the calls of one history (`testing.histories`) and tells what cannot be true of a shop that keeps its word. What ran
at the same time may be answered in either order, and what was never answered may or may not have happened: neither is held
against the platform.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from testing.checker import orders, payments, returns
from testing.checker.violation import Violation
from testing.histories import Call, in_order

__all__ = ["RULES", "Violation", "check", "summary"]

RULES: tuple[Callable[[Sequence[Call]], Iterator[Violation]], ...] = (
    orders.one_order_per_key,
    orders.one_outcome_per_order,
    orders.one_reason_per_order,
    orders.read_your_writes,
    orders.monotonic_status,
    orders.a_cancel_stays,
    orders.never_oversold,
    payments.one_way_to_pay,
    returns.one_return_per_key,
    returns.a_return_goes_on,
    returns.units_come_back_once,
    returns.refunds_add_up,
)


def check(calls: Iterable[Call]) -> list[Violation]:
    """All that is wrong, rule by rule."""
    ordered = in_order(calls)
    return [violation for rule in RULES for violation in rule(ordered)]


def summary(calls: Sequence[Call], violations: Sequence[Violation]) -> str:
    """One line for people."""
    unknown = sum(call.status is None for call in calls)
    placed = len({call.order_id for call in orders.placements(calls) if call.order_id})
    found = f"{len(violations)} promises broken" if violations else "every promise kept"
    return f"What clients saw: {len(calls)} calls ({unknown} without an answer) about {placed} orders; {found}."

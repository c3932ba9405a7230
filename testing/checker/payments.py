"""What was told of how an order is paid."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from contracts.money import Money
from contracts.orders import OrderStatus
from testing.checker.paths import ORDERS, is_about_more
from testing.checker.violation import Violation
from testing.histories import Call


def one_way_to_pay(calls: Sequence[Call]) -> Iterator[Violation]:
    """What its customer has to do is told while an order waits for that, and only then. Where a transfer goes to never changes,
    no two orders have one reference, and what has come in is never less than before."""
    rule = "one way to pay"
    transfers: dict[str, Call] = {}
    owners: dict[str, Call] = {}
    for call in sorted(calls, key=lambda call: call.answered_at):
        if not _shows_action(call):
            continue
        order_id, action = str(call.order_id), call.answer["payment_action"]
        if (action is not None) != (call.told("status") == OrderStatus.ACTION_REQUIRED):
            what = "there was something to do" if action else "nobody was told what to do"
            yield Violation(rule, f"order {order_id} was {call.told('status')}, and {what}", (call,))
        if not action or not action["transfer"]:
            continue
        first = transfers.setdefault(order_id, call)
        if _account(first) != _account(call):
            yield Violation(
                rule, f"order {order_id} was to be paid to {_account(first)}, and then {_account(call)}", (first, call)
            )
        owner = owners.setdefault(action["transfer"]["reference"], call)
        if owner.order_id != order_id:
            yield Violation(rule, f"orders {owner.order_id} and {order_id} have one reference", (owner, call))
        if first.before(call):
            if _received(call) < _received(first):
                what = f"order {order_id} had received {_received(first)}, and then {_received(call)} (minor units)"
                yield Violation(rule, what, (first, call))
            transfers[order_id] = call


def _shows_action(call: Call) -> bool:
    """Whether the answer is an order, as its customer sees it."""
    is_order = urlsplit(call.path).path.startswith(ORDERS) and not is_about_more(call)
    return is_order and call.status in (200, 201, 202) and isinstance(call.answer, dict) and "payment_action" in call.answer


def _account(call: Call) -> str:
    transfer: dict[str, Any] = call.answer["payment_action"]["transfer"]
    return f"{transfer['iban']} {transfer['reference']}"


def _received(call: Call) -> int:
    """In minor units."""
    received = call.answer["payment_action"]["transfer"].get("received")
    return Money.model_validate(received).minor if received else 0

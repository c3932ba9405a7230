"""What was told of orders."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from math import inf
from typing import Any
from urllib.parse import parse_qs, urlsplit

from contracts.errors import ErrorCode
from contracts.orders import NEXT_STATUS, OrderStatus
from testing.checker.paths import ORDERS, RETURNS, is_about_more
from testing.checker.violation import Violation
from testing.histories import Call

_ONE_ORDER = re.compile(rf"{ORDERS}/([0-9a-f-]{{36}})(?:/(\w+))?$")
_DISPATCH = re.compile(r"/api/v1/shipments/[0-9a-f-]{36}/dispatch$")

ABOUT_THE_REQUEST = frozenset(
    {
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN,
        ErrorCode.ACCOUNT_DISABLED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.REQUEST_TIMEOUT,
    }
)
"""Refusals of one request, which say nothing of the order that the same key has made or may still make."""
LEFT_BY_UNDOING = frozenset(
    {
        ErrorCode.RESERVATION_RELEASED,
        ErrorCode.RESERVATION_SHIPPED,
        ErrorCode.PAYMENT_REVERSED,
        ErrorCode.SHIPMENT_CANCELLED,
        ErrorCode.ILLEGAL_TRANSITION,
    }
)
"""What the parts answer each other when a step meets what its own undoing has left. No order was ever refused for that."""
HOLDS_STOCK = frozenset(
    {OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_SHIPPED, OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED}
)
GONE_FOR_GOOD = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED})
MAY_HAVE_COME_BACK = frozenset({OrderStatus.UNDELIVERED, OrderStatus.REFUNDED, OrderStatus.CANCELLING, OrderStatus.CANCELLED})


def one_order_per_key(calls: Sequence[Call]) -> Iterator[Violation]:
    """A key names one order, and an order has one key."""
    orders: dict[tuple[str, str], Call] = {}
    keys: dict[str, Call] = {}
    for call in placements(calls):
        if call.order_id is None or call.key is None:
            continue
        first = orders.setdefault((call.who, call.key), call)
        if first.order_id != call.order_id:
            yield Violation("one order per key", f"key {call.key} made two orders", (first, call))
        first = keys.setdefault(call.order_id, call)
        if (first.who, first.key) != (call.who, call.key):
            yield Violation("one order per key", f"order {call.order_id} came of two keys", (first, call))


def one_outcome_per_order(calls: Sequence[Call]) -> Iterator[Violation]:
    """Once an order is confirmed or refused, whoever repeats the request gets that answer, word for word; so does who has paid it
    with another card. That another card may be tried is no outcome yet, and never follows one."""
    rule = "one outcome per order"
    paid: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        order_id, verb = _order_of(call)
        if order_id and verb == "payments" and (call.status == 201 or _may_pay_again(call)):
            paid[order_id].append(call)
    for repeats in _by_key(calls):
        repeats += paid.pop(next((call.order_id for call in repeats if call.order_id), None) or "", [])
        outcome: Call | None = None
        for call in sorted(repeats, key=lambda call: call.answered_at):
            if _is_outcome(call):
                outcome = outcome or call
                if (outcome.status, outcome.code) != (call.status, call.code):
                    what = f"order {call.order_id} was told {_words(outcome)} and then {_words(call)}"
                    yield Violation(rule, what, (outcome, call))
                elif call.status == 201 and outcome.answer != call.answer:
                    what = f"order {call.order_id} was confirmed twice in other words: {_differing(outcome.answer, call.answer)}"
                    yield Violation(rule, what, (outcome, call))
        for call in repeats:
            is_open = _may_pay_again(call) or (call.status == 202 and "respond-async" not in (call.prefer or ""))
            if outcome and outcome.before(call) and is_open:
                yield Violation(
                    rule, f"order {call.order_id} was told {_words(outcome)}, and later {call.status}", (outcome, call)
                )
        accepted = next((call for call in repeats if call.status in (201, 202)), None)
        for call in repeats:
            if accepted and accepted.before(call) and _denies(call):
                what = f"order {accepted.order_id} was accepted, and later refused as if it had never been ({call.code})"
                yield Violation(rule, what, (accepted, call))


def one_reason_per_order(calls: Sequence[Call]) -> Iterator[Violation]:
    """Why an order ended is told to all readers alike, and it is never what its own undoing has left behind."""
    rule = "one reason per order"
    told: dict[str, Call] = {}
    for call in calls:
        if call.code in LEFT_BY_UNDOING and _is_order(call):
            yield Violation(rule, f"an order is said to have ended for {call.code}, which is what undoing it left", (call,))
        for order_id, code in _reasons(call):
            first = told.setdefault(order_id, call)
            known = dict(_reasons(first))[order_id]
            if known != code:
                yield Violation(rule, f"order {order_id} ended for {known}, and then for {code}", (first, call))


def read_your_writes(calls: Sequence[Call]) -> Iterator[Violation]:
    """Who was told of an order finds it from then on: by itself, in its timeline, in the list, and when cancelling it."""
    rule = "read your writes"
    accepted: dict[tuple[str, str], Call] = {}
    for call in sorted(placements(calls), key=lambda call: call.answered_at):
        if call.order_id and call.status is not None:
            accepted.setdefault((call.who, call.order_id), call)
    for call in calls:
        order_id, _ = _order_of(call)
        placed = accepted.get((call.who, order_id or ""))
        if placed and placed.before(call) and call.status == 404:
            yield Violation(rule, f"order {order_id} was accepted, and then not found by its customer", (placed, call))
    by_customer: dict[str, list[Call]] = defaultdict(list)
    for (who, _), placed in accepted.items():
        by_customer[who].append(placed)
    for listing in calls:
        if not _is_list(listing) or listing.status != 200 or _query(listing).keys() - {"limit"}:
            continue
        items = listing.answer["items"]
        shown = {item["order_id"] for item in items}
        for placed in by_customer.get(listing.who, ()):
            # Of a first page only those are missed that are newer than its last entry.
            on_it = not listing.answer["next_cursor"] or _newer(placed.told("placed_at"), items[-1]["placed_at"])
            if placed.before(listing) and on_it and placed.order_id not in shown:
                yield Violation(
                    rule, f"order {placed.order_id} was accepted, and then not in its customer's list", (placed, listing)
                )


def monotonic_status(calls: Sequence[Call]) -> Iterator[Violation]:
    """What is read of an order's status never goes back behind what anybody was told before.

    A timeline that the saga tells itself may be ahead of the order's record, which hears of several statuses at once: it is
    compared with later ones of its kind only, but must not be behind the record.
    """
    reached: dict[str, dict[tuple[OrderStatus, bool], Call]] = defaultdict(dict)
    for call in calls:
        for order_id, status in _statuses(call):
            first = reached[order_id].get((status, _ahead(call)))
            if first is None or call.answered_at < first.answered_at:
                reached[order_id][status, _ahead(call)] = call
    for call in calls:
        if call.method != "GET":
            continue  # a repeated request repeats an old answer, which tells what the order was then
        for order_id, status in _statuses(call):
            for (known, ahead), first in reached[order_id].items():
                if ahead and not _ahead(call):
                    continue
                if first.before(call) and not _leads_to(known, status):
                    yield Violation("monotonic status", f"order {order_id} was {known}, and then {status}", (first, call))
                    break


def a_cancel_stays(calls: Sequence[Call]) -> Iterator[Violation]:
    """An order whose cancelling was answered with 200 is cancelled for good: no parcel leaves, nothing else is told. Of one of
    which parts had left, what had not was cancelled; it goes on."""
    rule = "a cancel stays"
    cancelled: dict[str, Call] = {}
    for call in sorted(calls, key=lambda call: call.answered_at):
        order_id, verb = _order_of(call)
        if order_id and verb == "cancel" and call.status == 200 and call.told("status") == OrderStatus.CANCELLED:
            cancelled.setdefault(order_id, call)
    for call in calls:
        order_id, verb = _order_of(call)
        if _DISPATCH.match(call.path) and call.status == 200:
            order_id, verb = call.order_id, "dispatch"
        done = cancelled.get(order_id or "")
        if done is None or not done.before(call):
            continue
        if verb == "dispatch":
            yield Violation(rule, f"order {order_id} was cancelled, and then its parcel left", (done, call))
        elif verb == "cancel" and call.status is not None and call.status < 500 and _about_the_order(call) and call.status != 200:
            yield Violation(rule, f"order {order_id} was cancelled, and then its cancelling refused", (done, call))
        elif verb == "cancel" and call.status == 200 and call.answer.get("refunded") != done.answer.get("refunded"):
            yield Violation(rule, f"order {order_id} was cancelled twice, with other refunds", (done, call))
        elif verb == "" and call.status == 200 and call.told("status") not in ("CANCELLING", "CANCELLED"):
            yield Violation(rule, f"order {order_id} was cancelled, and then {call.told('status')}", (done, call))


def never_oversold(calls: Sequence[Call]) -> Iterator[Violation]:
    """No warehouse has ever promised more of a product than it had received.

    An order counts from the answer that told of it on, until it may have been undone; a delivery counts as soon as somebody
    began to record it. Warehouses whose deliveries are not in the history are left out, and orders of several parcels, and those
    of which something came back: which warehouse promises what of those, the audit holds against the books.
    """
    received: dict[tuple[str, str], list[tuple[float, int, Call]]] = defaultdict(list)
    deliveries: set[str] = set()
    for call in calls:
        if (
            call.method == "POST"
            and call.path == "/api/v1/stock/receipts"
            and (call.status is None or call.status < 400)
            and str(call.key) not in deliveries
        ):
            deliveries.add(str(call.key))
            for line in call.body["lines"]:
                received[call.body["warehouse_id"], line["product_id"]].append((call.invoked_at, line["quantity"], call))
    changes = {place: list(lines) for place, lines in received.items()}
    for warehouse, lines, since, until, call in _promises(calls):
        for line in lines:
            place = (warehouse, line["product_id"])
            if place in changes:
                changes[place].append((since, -line["quantity"], call))
                if until < inf:
                    changes[place].append((until, line["quantity"], call))
    for (warehouse, product), moves in changes.items():
        left, takers = 0, []
        for _, quantity, call in sorted(moves, key=lambda move: (move[0], -move[1])):
            left += quantity
            takers.append(call)
            if left < 0:
                had = sum(quantity for _, quantity, _ in received[warehouse, product])
                what = f"warehouse {warehouse} promised {-left} more of product {product} than the {had} it received"
                yield Violation("never oversold", what, tuple(takers[-3:]))
                break


def _promises(calls: Sequence[Call]) -> Iterator[tuple[str, list[dict[str, Any]], float, float, Call]]:
    """Warehouse, lines, the moment from which an order surely holds them, and the one until which it surely does."""
    holding: dict[str, list[Call]] = defaultdict(list)
    returnable: set[str] = set()
    gone: set[str] = set()
    for call in calls:
        order_id, verb = _order_of(call)
        if order_id and verb in ("cancel", "reject"):
            returnable.add(order_id)
        for seen, status in _statuses(call):
            if status in MAY_HAVE_COME_BACK:
                returnable.add(seen)
            if status in GONE_FOR_GOOD:
                gone.add(seen)
            repeated = call.method == "POST" and holding[seen]  # which repeats an old answer, and says nothing of now
            if status in HOLDS_STOCK and call.told("warehouse_id") and not repeated:
                holding[seen].append(call)
    for order_id in _in_parts(calls) | _came_back(calls):
        holding.pop(order_id, None)
    undelivered = {seen for call in calls for seen, status in _statuses(call) if status in ("UNDELIVERED", "REFUNDED")}
    for order_id, told in ((order_id, told) for order_id, told in holding.items() if told):
        first = min(told, key=lambda call: call.answered_at)
        kept = order_id not in returnable or (order_id in gone and order_id not in undelivered)
        until = inf if kept else max(call.invoked_at for call in told)
        if until > first.answered_at:
            yield str(first.told("warehouse_id")), first.answer["lines"], first.answered_at, until, first


def _in_parts(calls: Sequence[Call]) -> set[str]:
    """Orders that were seen to be sent in several parcels."""
    return {
        call.order_id
        for call in calls
        if call.order_id and isinstance(call.answer, dict) and len(call.answer.get("parcels") or ()) > 1
    }


def _came_back(calls: Sequence[Call]) -> set[str]:
    """Orders of which somebody began to receive a return."""
    return {found[1] for call in calls if (found := RETURNS.match(call.path)) and found[3] == "receive"}


def placements(calls: Iterable[Call]) -> Iterator[Call]:
    """The requests to place an order."""
    return (call for call in calls if call.method == "POST" and call.path == ORDERS)


def _by_key(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """The requests under each key that are the same request, in the order in which they were asked."""
    groups: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
    for call in placements(calls):
        if call.key is not None:
            groups[call.who, call.key, repr(call.body)].append(call)
    yield from groups.values()


def _is_outcome(call: Call) -> bool:
    """Whether it tells how the order ended its placing: confirmed, or refused, whatever the status of the refusal."""
    refused = call.status is not None and call.status >= 400 and call.order_id is not None
    return call.status == 201 or (refused and not _may_pay_again(call))


def _may_pay_again(call: Call) -> bool:
    """Whether it tells that the card was declined, and another one may be tried."""
    return call.status == 402 and call.told("pay_until") is not None


def _denies(call: Call) -> bool:
    """Whether it refuses the order without knowing it."""
    return call.status is not None and 400 <= call.status < 500 and call.order_id is None and _about_the_order(call)


def _about_the_order(call: Call) -> bool:
    return call.code not in ABOUT_THE_REQUEST


def _is_list(call: Call) -> bool:
    return call.method == "GET" and urlsplit(call.path).path == ORDERS


def _is_order(call: Call) -> bool:
    return urlsplit(call.path).path == ORDERS or (_order_of(call)[0] is not None and _order_of(call)[1] == "")


def _order_of(call: Call) -> tuple[str | None, str]:
    """The order in its path, and what was asked of it: "" to read it, or timeline, cancel, approve …"""
    found = _ONE_ORDER.match(urlsplit(call.path).path)
    return (found[1], found[2] or "") if found else (None, "")


def _query(call: Call) -> dict[str, list[str]]:
    return parse_qs(urlsplit(call.path).query)


def _statuses(call: Call) -> Iterator[tuple[str, OrderStatus]]:
    """Orders of which the answer tells where they are."""
    if call.status not in (200, 201, 202) or not isinstance(call.answer, dict) or is_about_more(call):
        return
    if _is_list(call):
        for item in call.answer["items"]:
            yield item["order_id"], OrderStatus(item["status"])
    elif call.path.startswith(ORDERS) and call.order_id:
        if "status" in call.answer:
            yield call.order_id, OrderStatus(call.answer["status"])
        elif call.answer.get("entries"):
            yield call.order_id, OrderStatus(call.answer["entries"][-1]["status"])


def _ahead(call: Call) -> bool:
    """Whether the saga itself has answered."""
    return call.told("source") == "workflow"


def _reasons(call: Call) -> Iterator[tuple[str, str]]:
    """Orders that were refused or cancelled, with the code that says why."""
    if _is_list(call) and call.status == 200:
        for item in call.answer["items"]:
            if item["status"] in ("CANCELLING", "CANCELLED") and item["code"]:
                yield item["order_id"], item["code"]
    elif call.order_id and call.code and not is_about_more(call):
        ended = call.method == "GET" and call.told("status") in ("CANCELLING", "CANCELLED")
        if ended or (call.method == "POST" and call.path == ORDERS and _is_outcome(call)):
            yield call.order_id, call.code


@cache
def _leads_to(earlier: OrderStatus, later: OrderStatus) -> bool:
    """Whether an order that was in one status may be in the other one afterwards."""
    known, new = {earlier}, {earlier}
    while new:
        new = {following for status in new for following in NEXT_STATUS[status]} - known
        known |= new
    return later in known


def _newer(placed_at: str | None, than: str) -> bool:
    return placed_at is not None and datetime.fromisoformat(placed_at) > datetime.fromisoformat(than)


def _words(call: Call) -> str:
    return f"{call.status} {call.code}" if call.code else str(call.status)


def _differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return ", ".join(f"{name} {one.get(name)!r}, then {other.get(name)!r}" for name in names)

"""What was told of returns, and of the money that goes back."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from contracts.money import Money
from contracts.returns import CAME_TO_NOTHING, NEXT_RETURN_STATUS, ReturnStatus
from testing.checker.paths import AMENDMENTS, ORDERS, RETURNS
from testing.checker.violation import Violation
from testing.histories import Call

Return = tuple[str, int]
"""The order, and the number of its return."""


def one_return_per_key(calls: Sequence[Call]) -> Iterator[Violation]:
    """Whoever repeats a request for a return gets the same one, and never another."""
    asked: dict[tuple[str, str, str], Call] = {}
    numbers: dict[Return, Call] = {}
    for call in calls:
        found = RETURNS.match(call.path)
        if call.method != "POST" or not found or found[2] or call.status != 201 or call.key is None:
            continue
        first = asked.setdefault((call.who, call.path, call.key), call)
        number = (found[1], int(call.answer["number"]))
        if first.answer["number"] != call.answer["number"]:
            yield Violation("one return per key", f"key {call.key} made two returns of order {found[1]}", (first, call))
        other = numbers.setdefault(number, call)
        if other.key != call.key:
            yield Violation("one return per key", f"return {number[1]} of order {number[0]} came of two keys", (other, call))


def a_return_goes_on(calls: Sequence[Call]) -> Iterator[Violation]:
    """What is read of a return never goes back behind what anybody was told before; how it ended, it stays."""
    told: dict[Return, list[tuple[str, Call]]] = defaultdict(list)
    for call in calls:
        for found in _told(call):
            status = str(found["status"])
            key = (str(found["order_id"]), int(found["number"]))
            for earlier, before in told[key]:
                if before.before(call) and call.method == "GET" and not _leads_to(earlier, status):
                    what = f"return {key[1]} of order {key[0]} was {earlier}, and then {status}"
                    yield Violation("a return goes on", what, (before, call))
                    break
            told[key].append((status, call))


def units_come_back_once(calls: Sequence[Call]) -> Iterator[Violation]:
    """The returns of an order that stand never have more units of a line than were ordered, before or after an amendment."""
    ordered: dict[str, Counter[int]] = {}
    newest: dict[Return, tuple[dict[str, Any], Call]] = {}
    for call in sorted(calls, key=lambda call: call.answered_at):
        if call.order_id and call.status in (200, 201) and isinstance(call.answer, dict) and "total" in call.answer:
            ordered[call.order_id] = ordered.get(call.order_id, Counter()) | _units(call.answer.get("lines", ()))
        for found in _told(call):
            key = (str(found["order_id"]), int(found["number"]))
            known = newest.get(key)
            if "lines" in found and (known is None or _leads_to(known[0]["status"], found["status"])):
                newest[key] = (found, call)
    came_back: dict[str, Counter[int]] = defaultdict(Counter)
    for (order_id, _), (found, _) in newest.items():
        if found["status"] not in CAME_TO_NOTHING:
            came_back[order_id] += _units(found["lines"] if found.get("came") is None else found["came"])
    for order_id, units in came_back.items():
        if order_id in ordered and (too_many := units - ordered[order_id]):
            showing = tuple(call for (order, _), (_, call) in newest.items() if order == order_id)
            what = f"of order {order_id} more came back than was ordered, by line: {dict(too_many)}"
            yield Violation("units come back once", what, showing)


def refunds_add_up(calls: Sequence[Call]) -> Iterator[Violation]:
    """What an order is said to have given back is never less than what was told of its parts before, nor more than it cost. Of an
    order that somebody amended it counts anew from there, so that those are left out."""
    amended = {match[1] for call in calls if (match := AMENDMENTS.match(call.path)) and call.method == "POST"}
    told: dict[str, dict[str, tuple[int, Call]]] = defaultdict(dict)
    for call in sorted(calls, key=lambda call: call.answered_at):
        for found in _told(call):
            if found.get("refunded") and found["status"] == ReturnStatus.COMPLETED:
                told[str(found["order_id"])].setdefault(f"return {found['number']}", (_minor(found["refunded"]), call))
        if call.method == "POST" and call.path.endswith("/cancel") and call.status == 200 and (call.body or {}).get("lines"):
            told[str(call.order_id)].setdefault(f"cancel {call.who} {call.body}", (_minor(call.answer["refunded"]), call))
    for call in calls:
        order_id = call.order_id
        is_read = call.method == "GET" and call.path == f"{ORDERS}/{order_id}" and call.status == 200
        if not is_read or order_id is None or order_id in amended:
            continue
        if not {"refunded", "total"} <= call.answer.keys():
            continue
        refunded, total = _minor(call.answer["refunded"]), _minor(call.answer["total"])
        before = [(minor, other) for minor, other in told[order_id].values() if other.before(call)]
        owed = sum(minor for minor, _ in before)
        if refunded < owed:
            what = f"order {order_id} is said to have given back {refunded} cents; told of its parts were {owed}"
            yield Violation("refunds add up", what, (*(other for _, other in before), call))
        elif refunded > total and not _has_credit(call):
            yield Violation("refunds add up", f"order {order_id} cost {total} cents, and gave back {refunded}", (call,))


def _told(call: Call) -> Iterator[dict[str, Any]]:
    """The returns that an answer tells of."""
    if call.status not in (200, 201) or not isinstance(call.answer, dict):
        return
    if call.path.startswith("/api/v1/returns"):
        yield from call.answer.get("items", ())
    elif found := RETURNS.match(call.path):
        if "items" in call.answer:
            yield from call.answer["items"]
        elif "number" in call.answer and found[3] != "timeline":
            yield call.answer


def _units(lines: Iterable[Mapping[str, Any]]) -> Counter[int]:
    """How many of each line."""
    units: Counter[int] = Counter()
    for line in lines:
        units[line["line_id"]] += line["quantity"]
    return units


def _leads_to(earlier: str, later: str) -> bool:
    """Whether a return that was in one status may be in the other one afterwards."""
    known = {ReturnStatus(earlier)}
    new = set(known)
    while new:
        new = {following for status in new for following in NEXT_RETURN_STATUS[status]} - known
        known |= new
    return later in known


def _has_credit(call: Call) -> bool:
    """Whether the order was paid with the credit of a return: what came of that goes back, too."""
    charges = call.answer.get("charges") or {}
    return bool(charges.get("credit"))


def _minor(money: dict[str, Any]) -> int:
    return Money.model_validate(money).minor

"""What the demo prints: the rules before, the outcomes, the comparison and one order's timeline after."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from cli.demo.baskets import Chosen
from cli.demo.play import Played
from testing.scenarios import ORDINARY, TOO_HEAVY, TROUBLES, rule_of

PARTS = {"items": "goods", "discount": "discount", "shipping": "shipping", "tax": "tax"}
SCENARIOS = (*TROUBLES, TOO_HEAVY, ORDINARY)


def rules(chosen: Sequence[Chosen]) -> Table:
    """Which baskets meet what, and what must come of it."""
    counts = Counter(one.scenario.name for one in chosen)
    table = _table("What the baskets will meet")
    table.add_column("Scenario", no_wrap=True)
    table.add_column("Baskets", no_wrap=True)
    table.add_column("Orders", justify="right")
    table.add_column("The order …; what must be seen")
    for scenario in SCENARIOS:
        if scenario is TOO_HEAVY and not counts[scenario.name]:
            continue
        expected = _joined(scenario.answer, scenario.then, scenario.end)
        table.add_row(scenario.name, rule_of(scenario), str(counts[scenario.name]), f"{scenario.what}\n→ {expected}")
    return table


def outcomes(played: Sequence[Played]) -> Table:
    """How orders ended, and how long the answer to `POST /api/v1/orders` took."""
    times: dict[str, list[float]] = defaultdict(list)
    for one in played:
        times[one.end].append(one.seen.placed.ms)
    table = _table("Outcomes")
    table.add_column("Order's end")
    for heading in ("Orders", "POST p50 ms", "POST p99 ms"):
        table.add_column(heading, justify="right")
    for end, ms in sorted(times.items(), key=lambda item: (-len(item[1]), item[0])):
        table.add_row(end, str(len(ms)), f"{percentile(ms, 50):.0f}", f"{percentile(ms, 99):.0f}")
    everything = [one.seen.placed.ms for one in played]
    table.add_section()
    table.add_row("all", str(len(played)), f"{percentile(everything, 50):.0f}", f"{percentile(everything, 99):.0f}")
    return table


def comparison(played: Sequence[Played]) -> Table:
    """What each scenario had to show: the answer to POST, what followed at once, and the order's end."""
    table = _table("Expected and seen")
    table.add_column("Scenario", no_wrap=True)
    table.add_column("As expected", justify="right", no_wrap=True)
    table.add_column("Answer, what followed, end")
    for scenario in SCENARIOS:
        of_it = [one for one in played if one.scenario is scenario]
        if scenario is TOO_HEAVY and not of_it:
            continue
        wrong = [one for one in of_it if not one.as_expected]
        verdict = f"{len(of_it) - len(wrong)} of {len(of_it)}" if of_it else "not played"
        expected = _joined(scenario.answer, scenario.then, scenario.end)
        table.add_row(scenario.name, verdict, expected, style="red" if wrong else None)
        for one in wrong:
            table.add_row("", "but", f"{_joined(*one.shown)} (order {one.order_id or 'unknown'})", style="red")
    return table


def sums(played: Sequence[Played]) -> Table:
    """What the orders that were not refused cost at first, and what of that is goods, shipping and tax."""
    bodies = {one.order_id: one.seen.placed.body for one in played if one.seen.placed.body.get("charges")}
    table = _table(f"What {len(bodies)} accepted orders cost")
    for heading in ("Goods", "Discount", "Shipping", "sent free", "Tax", "Total"):
        table.add_column(heading, justify="right")
    charges = [body["charges"] for body in bodies.values()]
    for currency in sorted({sums["total"]["currency"] for sums in charges}):
        of_it = [sums for sums in charges if sums["total"]["currency"] == currency]
        goods, discount, shipping, tax, total = (
            f"{sum(Decimal(sums[part]['amount']) for sums in of_it)} {currency}"
            for part in ("items", "discount", "shipping", "tax", "total")
        )
        free = sum(not Decimal(sums["shipping"]["amount"]) for sums in of_it)
        table.add_row(goods, discount, shipping, str(free), tax, total)
    return table


def timeline(order: dict[str, Any], entries: Sequence[dict[str, Any]]) -> Table:
    """All that happened to one order, with the seconds since it was placed."""
    charges, currency = order["charges"], order["total"]["currency"]
    costs = ", ".join(f"{name} {charges[part]['amount']}" for part, name in PARTS.items() if Decimal(charges[part]["amount"]))
    table = _table(f"Order {order['order_id']}: {len(order['lines'])} lines, {order['total']['amount']} {currency} ({costs})")
    table.add_column("After", justify="right")
    for heading in ("Status", "What", "Detail"):
        table.add_column(heading)
    began = datetime.fromisoformat(entries[0]["at"])
    for entry in entries:
        after = (datetime.fromisoformat(entry["at"]) - began).total_seconds()
        table.add_row(f"{after:.2f} s", entry["status"], entry["what"], entry["detail"] or "")
    return table


def percentile(values: Sequence[float], percent: int) -> float:
    """By the nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _table(title: str) -> Table:
    return Table(title=title, box=SIMPLE, title_justify="left")


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))

"""What the demo prints: the rules before, the outcomes, the comparison and one order's timeline after."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from cli.demo.baskets import Chosen
from cli.demo.play import Played
from contracts.parcels import ParcelStatus
from testing.scenarios import ORDINARY, STORIES, TOO_HEAVY, rule_of

PARTS = {"items": "goods", "discount": "discount", "shipping": "shipping", "tax": "tax"}
SCENARIOS = (*STORIES, TOO_HEAVY, ORDINARY)


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
    """What the orders that were confirmed cost as they were placed, in which parcels they came, and what went back."""
    confirmed = [one for one in played if one.order.get("confirmed_at")]
    currencies = " and ".join(sorted({one.order["total"]["currency"] for one in confirmed}))
    table = _table(f"{len(confirmed)} confirmed orders: parcels, what they cost when placed, what went back, in {currencies}")
    table.padding = (0, 1, 0, 0)  # to fit a narrow terminal
    table.add_column("Scenario", min_width=14)
    for heading in ("arrived", "goods", "off", "shipping", "tax", "total", "refunded"):
        table.add_column(heading, justify="right", no_wrap=True)
    for scenario in SCENARIOS:
        of_it = [one.order for one in confirmed if one.scenario is scenario]
        if of_it:
            table.add_row(scenario.name, *_summed(of_it))
    table.add_section()
    table.add_row("all", *_summed([one.order for one in confirmed]))
    return table


def _summed(orders: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A row: how many parcels have arrived, then sums of money."""
    parcels = Counter(parcel["status"] for order in orders for parcel in order["parcels"])
    yield f"{parcels[ParcelStatus.DELIVERED]} of {parcels.total()}"
    for part in (*PARTS, "total"):
        yield str(sum((Decimal(order["charges"][part]["amount"]) for order in orders), Decimal()))
    yield str(sum((Decimal(order["refunded"]["amount"]) for order in orders), Decimal()))


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

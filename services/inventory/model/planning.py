"""Which warehouses send what of an order: the policy, without I/O.

A single warehouse that has everything sends everything. If none has, and the order may be split, it comes in the fewest parcels
that there is a plan for; of plans with equally many, from the nearest warehouses; of equally near ones, from those whose ids come
first. The units of one line come from several warehouses only if some line could not be sent whole by any.

How near a warehouse is goes by postal zone: the first characters of a postal code are a region of the country's post.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from contracts.inventory import Place, ShortLine, StockLine

MOST_PARCELS = 20
"""Of one order."""
MOST_TRIES = 20_000
"""So many choices of warehouses are compared at most. If there are more, each next warehouse is the one that has most of what is
left."""
ZONE = 3
"""So many characters of a postal code name a region; what is behind them is within it."""
ELSEWHERE = 5
"""How far a warehouse in another country is, and one of which nobody knows where it is."""
Available = Mapping[str, Mapping[str, int]]
"""By warehouse and product: units that can be promised."""


@dataclass(frozen=True)
class Part:
    """What one warehouse sends."""

    warehouse_id: str
    lines: tuple[StockLine, ...]


@dataclass(frozen=True)
class Plan:
    """What is sent from where: a parcel from each warehouse."""

    parts: tuple[Part, ...]
    """The nearest first."""
    short: tuple[ShortLine, ...] = ()
    """What is not there: `available` is how much of the line is in the parts."""

    @property
    def rest(self) -> tuple[StockLine, ...]:
        """What is not there, to be waited for."""
        return tuple(StockLine(product_id=line.product_id, quantity=line.requested - line.available) for line in self.short)

    def sent(self, lines: Sequence[StockLine]) -> list[StockLine]:
        """What of the lines that it was made for is in its parts, all together."""
        found = {line.product_id: line.available for line in self.short}
        left = {line.product_id: found.get(line.product_id, line.quantity) for line in lines}
        return [line.model_copy(update={"quantity": left[line.product_id]}) for line in lines if left[line.product_id]]


def distance(warehouse: Place | None, to: Place | None) -> int:
    """From 0, the same postal region, to ELSEWHERE. Where it goes to is not known: every warehouse is as near."""
    if to is None:
        return 0
    if warehouse is None or warehouse.country != to.country:
        return ELSEWHERE
    here, there = _zone(warehouse.postal_code), _zone(to.postal_code)
    same = next((length for length in range(ZONE, 0, -1) if len(here) >= length and here[:length] == there[:length]), 0)
    if same or (warehouse.region and warehouse.region == to.region):
        return ZONE - max(same, 1)
    return ZONE


def _zone(postal_code: str) -> str:
    return "".join(filter(str.isalnum, postal_code)).upper()[:ZONE]


def planned(
    lines: Sequence[StockLine],
    available: Available,
    *,
    may_split: bool = False,
    rest_waits: bool = False,
    distances: Mapping[str, int] | None = None,
    most: int = MOST_PARCELS,
) -> Plan:
    """The plan for these lines, each of another product. `rest_waits`: what is short becomes one more parcel, for which there is
    room within `most`."""
    near = sorted(available, key=lambda warehouse: ((distances or {}).get(warehouse, 0), warehouse))
    ranked = {warehouse: available[warehouse] for warehouse in near}
    wanted = {line.product_id: line.quantity for line in lines}
    for warehouse, stock in ranked.items():
        if all(stock.get(product, 0) >= quantity for product, quantity in wanted.items()):
            return Plan((Part(warehouse, tuple(lines)),))
    if not may_split:
        return _from_one(lines, ranked)
    choice = _Choice(wanted, ranked, [(distances or {}).get(warehouse, 0) for warehouse in near])
    plan = choice.plan(lines, most)
    if rest_waits and plan.short and len(plan.parts) == most:
        plan = choice.plan(lines, most - 1)
    return plan


def _from_one(lines: Sequence[StockLine], ranked: Available) -> Plan:
    """From the warehouse that lacks the fewest lines, and of those the fewest units."""

    def lacks(warehouse: str) -> tuple[int, int]:
        missing = [line.quantity - min(line.quantity, ranked[warehouse].get(line.product_id, 0)) for line in lines]
        return sum(map(bool, missing)), sum(missing)

    best = min(ranked, key=lacks, default=None)  # of equals the first, which is the nearest
    stock = ranked[best] if best is not None else {}
    return _plan_of(lines, {} if best is None else {best: stock})


def _plan_of(lines: Sequence[StockLine], sent: Available) -> Plan:
    """`sent`: what is taken from each warehouse, or more than that of a line that one of them can fill alone."""
    left = {line.product_id: line.quantity for line in lines}
    parts = []
    for warehouse, stock in sent.items():
        taken = {product: min(left[product], units) for product, units in stock.items() if min(left.get(product, 0), units) > 0}
        for product, units in taken.items():
            left[product] -= units
        if taken:
            part = [line.model_copy(update={"quantity": taken[line.product_id]}) for line in lines if line.product_id in taken]
            parts.append(Part(warehouse, tuple(part)))
    short = [
        ShortLine(product_id=line.product_id, requested=line.quantity, available=line.quantity - left[line.product_id])
        for line in lines
        if left[line.product_id]
    ]
    return Plan(tuple(parts), tuple(short))


class _Choice:
    """The choice of several warehouses. They are numbered from the nearest."""

    def __init__(self, wanted: Mapping[str, int], ranked: Available, distances: Sequence[int]) -> None:
        self._names, self._distances = list(ranked), distances
        there = {product: sum(max(stock.get(product, 0), 0) for stock in ranked.values()) for product in wanted}
        self._wanted = {product: units for product, asked in wanted.items() if (units := min(asked, there[product])) > 0}
        """What there is of what is asked for."""
        self._products = list(self._wanted)
        self._units = [
            [min(max(stock.get(product, 0), 0), self._wanted[product]) for product in self._products] for stock in ranked.values()
        ]
        """By warehouse and product: what of that it could send."""

    def plan(self, lines: Sequence[StockLine], most: int) -> Plan:
        """With at most so many parcels."""
        chosen = self._whole(most)
        sent = None if chosen is None else self._send_whole(chosen)
        if sent is None:
            sent = self._send_split(self._split(most))
        return _plan_of(lines, sent)

    def _whole(self, most: int) -> tuple[int, ...] | None:
        """The warehouses that together can send each line whole; None if there are none, or too many."""
        masks = []
        for units in self._units:
            whole = (found == asked for found, asked in zip(units, self._wanted.values(), strict=True))
            masks.append(sum(1 << line for line, is_whole in enumerate(whole) if is_whole))
        everything = (1 << len(self._products)) - 1
        # One that has no line whole that a nearer one has not is never needed.
        candidates = [
            number for number, mask in enumerate(masks) if mask and not any(mask | nearer == nearer for nearer in masks[:number])
        ]

        def covers(numbers: Sequence[int]) -> bool:
            covered = 0
            for number in numbers:
                covered |= masks[number]
            return covered == everything

        def adds(numbers: Sequence[int], number: int) -> int:
            covered = 0
            for other in numbers:
                covered |= masks[other]
            return (masks[number] & ~covered).bit_count()

        return self._fewest(candidates, most, covers, adds) if covers(candidates) else None

    def _split(self, most: int) -> tuple[int, ...]:
        """The warehouses that together have all units; if those are too many, those that have most."""
        candidates = [number for number, units in enumerate(self._units) if any(units)]
        asked = list(self._wanted.values())

        def covers(numbers: Sequence[int]) -> bool:
            return all(sum(self._units[number][line] for number in numbers) >= units for line, units in enumerate(asked))

        def adds(numbers: Sequence[int], number: int) -> int:
            left = [units - sum(self._units[other][line] for other in numbers) for line, units in enumerate(asked)]
            return sum(min(max(units, 0), found) for units, found in zip(left, self._units[number], strict=True))

        return self._fewest(candidates, most, covers, adds) or self._greedy(candidates, most, adds)

    def _fewest(
        self,
        candidates: Sequence[int],
        most: int,
        covers: Callable[[Sequence[int]], bool],
        adds: Callable[[Sequence[int], int], int],
    ) -> tuple[int, ...] | None:
        """The fewest of them that cover all, and of as few the nearest; None if `most` are not enough."""
        tries = 0
        for size in range(1, min(most, len(candidates)) + 1):
            tries += comb(len(candidates), size)
            if tries > MOST_TRIES:
                chosen = self._greedy(candidates, most, adds)
                return chosen if covers(chosen) else None
            if found := [numbers for numbers in combinations(candidates, size) if covers(numbers)]:
                return min(found, key=lambda numbers: (sum(self._distances[number] for number in numbers), numbers))
        return None

    def _greedy(self, candidates: Sequence[int], most: int, adds: Callable[[Sequence[int], int], int]) -> tuple[int, ...]:
        """At each step the one that adds most; of equals the nearest."""
        chosen: list[int] = []
        while len(chosen) < most:
            best = max(candidates, key=lambda number: adds(chosen, number), default=None)
            if best is None or not adds(chosen, best):
                break
            chosen.append(best)
        return tuple(sorted(chosen))

    def _send_whole(self, chosen: Sequence[int]) -> Available:
        """Each line by the nearest that has it whole."""
        sent: dict[str, dict[str, int]] = {self._names[number]: {} for number in chosen}
        for line, (product, asked) in enumerate(self._wanted.items()):
            sender = next(number for number in chosen if self._units[number][line] == asked)
            sent[self._names[sender]][product] = asked
        return sent

    def _send_split(self, chosen: Sequence[int]) -> Available:
        """Each line whole by the nearest that has it whole; else first from those that have most of it, so that few send some."""
        sent: dict[str, dict[str, int]] = {self._names[number]: {} for number in chosen}
        for line, (product, asked) in enumerate(self._wanted.items()):
            left = asked
            whole = [number for number in chosen if self._units[number][line] == asked]
            for number in whole[:1] or sorted(chosen, key=lambda number: -self._units[number][line]):
                units = min(left, self._units[number][line])
                if units:
                    sent[self._names[number]][product] = units
                    left -= units
        return sent

"""Stock and what is promised of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from uuid import UUID

from contracts.errors import ErrorCode, Refusal
from contracts.inventory import (
    MoveReservation,
    ReceiveReturn,
    ReleaseInventory,
    Reservation,
    ReservationStatus,
    ReservedParcel,
    ReserveInventory,
    RestockInventory,
    ReturnReceived,
    ShipInventory,
    ShortLine,
    SplitReservation,
    StockLine,
    StockUpdate,
    WhenShort,
)


@dataclass(frozen=True)
class Announced:
    """Goods that a supplier has announced."""

    warehouse_id: str
    product_id: str
    quantity: int
    expected_on: date


PROMISED_UNITS = 100
"""Of one product, so many units at most are promised to one customer at a time."""
OPEN = frozenset({ReservationStatus.RESERVED})
LEFT = frozenset({ReservationStatus.SHIPPED, ReservationStatus.RESTOCKED})
WAITING = frozenset({WhenShort.WAIT, WhenShort.ASK})
Key = tuple[UUID, int]
"""Order, and number of the parcel."""
Sent = dict[str, dict[str, int]]
"""Units by warehouse and product."""
Arrivals = dict[str, dict[str, list[date]]]
"""By warehouse and product, the day of each unit, in turn; the least of all dates, if it is there."""


@dataclass
class Shelf:
    """One product at one warehouse. `received` and `shipped` add up all that ever came and went."""

    received: int = 0
    shipped: int = 0
    restocked: int = 0
    """Came back, whole parcels or by returns, and is good."""
    damaged: int = 0
    """Came back by returns, and was written off."""
    reserved: int = 0

    @property
    def on_hand(self) -> int:
        return self.received - self.shipped + self.restocked

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


@dataclass
class Promise:
    """What was promised to one parcel of an order, or what it waits for, at its warehouse or at any. A release that came first
    has no lines."""

    status: ReservationStatus
    warehouse_id: str | None = None
    lines: tuple[StockLine, ...] = ()
    customer_id: UUID | None = None
    plan: int | None = None
    """The first of the parcels that were planned together with it."""
    dropped: tuple[ShortLine, ...] = ()
    split_from: int | None = None
    expected_on: date | None = None


class Inventory:
    """All warehouses."""

    def __init__(self) -> None:
        self.shelves: dict[str, dict[str, Shelf]] = {}
        self.promises: dict[Key, Promise] = {}
        """In the order in which they were made, which is the order in which those who wait are filled."""
        self.returns: dict[Key, ReceiveReturn] = {}
        """By order and number of the return."""
        self.announced: list[Announced] = []
        """What should arrive, and when."""
        self.news: list[tuple[UUID, StockUpdate]] = []
        """What sagas are to be told of parcels that wait, by order."""

    def receive(self, warehouse_id: str, **quantities: int) -> None:
        """Put goods on the shelf."""
        shelves = self.shelves.setdefault(warehouse_id, {})
        for product_id, quantity in quantities.items():
            shelves.setdefault(product_id, Shelf()).received += quantity
        self._fill()

    def expect(self, order_id: UUID, parcel: int, on: date | None) -> None:
        """What a parcel waits for should arrive on this day, or nobody knows any more when."""
        promise = self.promises[order_id, parcel]
        promise.expected_on = on
        self.news.append((order_id, StockUpdate(parcel=parcel, status=promise.status, expected_on=on)))

    def reserve(self, command: ReserveInventory) -> Reservation:
        """Refusals: out_of_stock, warehouse_unknown, purchase_limit, reservation_released."""
        key = (command.order_id, command.parcel)
        existing = self.promises.get(key)
        if existing is not None:
            if existing.status == ReservationStatus.RELEASED:
                raise _released()
            return self._reply(key, existing.plan is not None)
        if command.warehouse_id and command.warehouse_id not in self.shelves:
            raise Refusal(ErrorCode.WAREHOUSE_UNKNOWN, f"There is no warehouse {command.warehouse_id}.")
        sent = self._plan(command)
        short = self._short(command.lines, sent)
        waits = command.when_short in WAITING
        at = command.warehouse_id or (next(iter(sent), None) if not command.may_split else None)
        if short and (command.when_short == WhenShort.REFUSE or (not waits and not sent)):
            raise _out_of_stock(short)
        if command.parcel == 1 or command.is_more:
            left_out = {} if waits else {line.product_id: line.requested - line.available for line in short}
            self._require_within_limit(
                command, {line.product_id: line.quantity - left_out.get(line.product_id, 0) for line in command.lines}
            )
        # Who names a warehouse that has everything gets it as ever, whatever else was allowed.
        is_plain = command.warehouse_id and not short
        is_planned = not is_plain and (command.may_split or command.when_short != WhenShort.REFUSE)
        plan = command.parcel if is_planned else None
        number = command.parcel
        for warehouse_id, units in sent.items():
            lines = tuple(
                line.model_copy(update={"quantity": units[line.product_id]}) for line in command.lines if line.product_id in units
            )
            promise = Promise(ReservationStatus.RESERVED, warehouse_id, lines, command.customer_id, plan)
            for shelf, line in self._of(promise):
                shelf.reserved += line.quantity
            number = self._free_number(command.order_id, number)
            self.promises[command.order_id, number] = promise
        for lines in self._rest(command, short, at) if short and waits else ():
            waiting = Promise(ReservationStatus.AWAITED, at, lines, command.customer_id, plan)
            waiting.expected_on = self._day_for(lines, at)
            number = self._free_number(command.order_id, number)
            self.promises[command.order_id, number] = waiting
        if short and not waits:
            self.promises[key].dropped = tuple(short)
        return self._reply(key, is_planned)

    def release(self, command: ReleaseInventory) -> Reservation:
        """Refusal: reservation_shipped."""
        key = (command.order_id, command.parcel)
        promise = self.promises.setdefault(key, Promise(ReservationStatus.RELEASED))
        if promise.status in LEFT:
            raise Refusal(ErrorCode.RESERVATION_SHIPPED, "The goods have left; they can only be returned.")
        together = [promise]
        if command.planned and promise.plan is not None:
            together = [self.promises[other] for other in self._planned_with(key)]
        for one in together:
            if one.status in OPEN:
                for shelf, line in self._of(one):
                    shelf.reserved -= line.quantity
            if one.status not in LEFT:
                one.status = ReservationStatus.RELEASED
                one.expected_on = None
        self._fill()
        return self._reply(key, command.planned and promise.plan is not None)

    def split(self, command: SplitReservation) -> Reservation:
        """Refusals: not_found, reservation_released, reservation_shipped, conflict."""
        source, key = self._promise((command.order_id, command.parcel)), (command.order_id, command.into)
        existing = self.promises.get(key)
        if existing is not None:
            if existing.split_from == command.parcel:
                return self._reply(key, is_planned=True)
            if existing.status == ReservationStatus.RELEASED:
                raise _released()
            raise Refusal(ErrorCode.CONFLICT, f"There is another parcel {command.into}.")
        if source.status == ReservationStatus.RELEASED:
            raise _released()
        if source.status in LEFT:
            raise Refusal(ErrorCode.RESERVATION_SHIPPED, "The goods have left; they can only be returned.")
        left = {line.product_id: line.quantity for line in source.lines}
        for line in command.lines:
            left[line.product_id] = left.get(line.product_id, 0) - line.quantity
        if min(left.values()) < 0 or not any(left.values()):
            raise Refusal(ErrorCode.CONFLICT, "A parcel is split into two that both have something, and no more than it had.")
        source.plan = source.plan or command.parcel
        source.lines = tuple(
            StockLine(product_id=product_id, quantity=quantity) for product_id, quantity in left.items() if quantity
        )
        new = Promise(
            source.status,
            source.warehouse_id,
            command.lines,
            source.customer_id,
            source.plan,
            split_from=command.parcel,
            expected_on=source.expected_on,
        )
        self.promises = self._with(new, key, behind=(command.order_id, command.parcel))
        self._fill()
        return self._reply(key, is_planned=True)

    def move(self, command: MoveReservation) -> Reservation:
        """Refusals: not_found, reservation_released, reservation_shipped, conflict."""
        source, key = self._promise((command.order_id, command.parcel)), (command.order_id, command.into)
        existing = self.promises.get(key)
        if existing is not None:
            if existing.split_from == command.parcel:
                return self._reply(key, existing.plan is not None)
            if existing.status == ReservationStatus.RELEASED:
                raise _released()
            raise Refusal(ErrorCode.CONFLICT, f"There is another parcel {command.into}.")
        if source.status == ReservationStatus.RELEASED:
            raise _released()
        if source.status in LEFT:
            raise Refusal(ErrorCode.RESERVATION_SHIPPED, "The goods have left; they can only be returned.")
        if source.status == ReservationStatus.AWAITED:
            raise Refusal(ErrorCode.CONFLICT, "Its goods are awaited.")
        source.status = ReservationStatus.RELEASED
        self.promises[key] = Promise(
            ReservationStatus.RESERVED,
            source.warehouse_id,
            source.lines,
            source.customer_id,
            source.plan,
            split_from=command.parcel,
        )
        return self._reply(key, source.plan is not None)

    def _with(self, new: Promise, key: Key, behind: Key) -> dict[Key, Promise]:
        """All promises with a new one, which has waited as long as the one that it is split from. Of those that have waited
        equally long, the first is the one with the lower number."""
        with_new: dict[Key, Promise] = {}
        for other, promise in self.promises.items():
            if other == behind and key < behind:
                with_new[key] = new
            with_new[other] = promise
            if other == behind and key > behind:
                with_new[key] = new
        return with_new

    def ship(self, command: ShipInventory) -> Reservation:
        """Refusals: reservation_released, conflict, not_found."""
        key = (command.order_id, command.parcel)
        promise = self._promise(key)
        if promise.status in LEFT:
            return self._reply(key)
        if promise.status == ReservationStatus.AWAITED:
            raise Refusal(ErrorCode.CONFLICT, "Its goods are awaited.")
        if promise.status not in OPEN:
            raise _released()
        for shelf, line in self._of(promise):
            shelf.reserved -= line.quantity
            shelf.shipped += line.quantity
        promise.status = ReservationStatus.SHIPPED
        return self._reply(key)

    def restock(self, command: RestockInventory) -> Reservation:
        """Refusals: not_found, conflict."""
        key = (command.order_id, command.parcel)
        promise = self._promise(key)
        if promise.status == ReservationStatus.RESTOCKED:
            return self._reply(key)
        if promise.status != ReservationStatus.SHIPPED:
            raise Refusal(ErrorCode.CONFLICT, "Only what was shipped can come back.")
        self._require_still_out(command.order_id, Counter({line.product_id: line.quantity for line in promise.lines}))
        for shelf, line in self._of(promise):
            shelf.restocked += line.quantity
        promise.status = ReservationStatus.RESTOCKED
        self._fill()
        return self._reply(key)

    def receive_return(self, command: ReceiveReturn) -> ReturnReceived:
        """Refusals: warehouse_unknown, conflict."""
        key = (command.order_id, command.number)
        known = self.returns.get(key, command)
        if known != command:
            raise Refusal(ErrorCode.CONFLICT, "Other goods were received by this return before.")
        if key not in self.returns:
            if command.warehouse_id not in self.shelves:
                raise Refusal(ErrorCode.WAREHOUSE_UNKNOWN, f"There is no warehouse {command.warehouse_id}.")
            self._require_still_out(command.order_id, _units_of(command))
            self.returns[key] = command
            for line in command.lines:
                if line.good or line.damaged:
                    shelf = self.shelves[command.warehouse_id].setdefault(line.product_id, Shelf())
                    shelf.restocked += line.good
                    shelf.damaged += line.damaged
            self._fill()
        return ReturnReceived(
            order_id=command.order_id, number=command.number, warehouse_id=command.warehouse_id, lines=command.lines
        )

    def _require_still_out(self, order_id: UUID, back: Counter[str]) -> None:
        """Refusal: conflict."""
        out: Counter[str] = Counter()
        for (owner, _), promise in self.promises.items():
            if owner == order_id and promise.status == ReservationStatus.SHIPPED:
                out.update({line.product_id: line.quantity for line in promise.lines})
        for (owner, _), received in self.returns.items():
            if owner == order_id:
                out.subtract(_units_of(received))
        if any(units > out[product_id] for product_id, units in back.items()):
            raise Refusal(ErrorCode.CONFLICT, "More would have come back than was shipped.")

    def _promise(self, key: tuple[UUID, int]) -> Promise:
        promise = self.promises.get(key)
        if promise is None:
            raise Refusal(ErrorCode.NOT_FOUND, "Nothing was ever reserved for this parcel.")
        return promise

    def _require_within_limit(self, command: ReserveInventory, wanted: Mapping[str, int]) -> None:
        """Refusal: purchase_limit."""
        theirs = [promise for promise in self.promises.values() if promise.customer_id == command.customer_id]
        kept = [line for promise in theirs if promise.status in {*OPEN, ReservationStatus.AWAITED} for line in promise.lines]
        for product_id, quantity in wanted.items():
            before = sum(other.quantity for other in kept if other.product_id == product_id)
            if quantity and before + quantity > PROMISED_UNITS:
                raise Refusal(ErrorCode.PURCHASE_LIMIT, f"More than {PROMISED_UNITS} units of: {product_id}.")

    def _of(self, promise: Promise) -> list[tuple[Shelf, StockLine]]:
        return [(self.shelves[promise.warehouse_id or ""][line.product_id], line) for line in promise.lines]

    def _available(self, warehouse_id: str, product_id: str) -> int:
        shelf = self.shelves.get(warehouse_id, {}).get(product_id)
        return shelf.available if shelf else 0

    def _short(self, lines: Sequence[StockLine], sent: Sent) -> list[ShortLine]:
        found = {line.product_id: sum(units.get(line.product_id, 0) for units in sent.values()) for line in lines}
        return [
            ShortLine(product_id=line.product_id, requested=line.quantity, available=found[line.product_id])
            for line in lines
            if found[line.product_id] < line.quantity
        ]

    def _plan(self, command: ReserveInventory) -> Sent:
        """What each warehouse sends, by trying out every choice of warehouses."""
        names = [command.warehouse_id] if command.warehouse_id else sorted(self.shelves)
        wanted = {line.product_id: line.quantity for line in command.lines}
        has = {name: {product: min(units, self._available(name, product)) for product, units in wanted.items()} for name in names}

        def lacks(name: str) -> tuple[int, int]:
            missing = [units - has[name][product] for product, units in wanted.items()]
            return sum(map(bool, missing)), sum(missing)

        if not names:
            return {}
        best = min(names, key=lacks)
        if not command.may_split or lacks(best) == (0, 0):
            found = {product: units for product, units in has[best].items() if units}
            return {best: found} if found else {}
        wanted = {product: min(units, sum(has[name][product] for name in names)) for product, units in wanted.items()}
        choices = [choice for size in range(len(names) + 1) for choice in combinations(names, size)]
        for choice in choices:
            if all(not units or any(has[name][product] >= units for name in choice) for product, units in wanted.items()):
                return self._taken(wanted, has, choice)
        for choice in choices:
            if all(sum(has[name][product] for name in choice) >= units for product, units in wanted.items()):
                return self._taken(wanted, has, choice)
        raise AssertionError("all warehouses together have what they have")

    def _free_number(self, order_id: UUID, first: int) -> int:
        return next(number for number in range(first, 21) if (order_id, number) not in self.promises)

    def _rest(self, command: ReserveInventory, short: Sequence[ShortLine], at: str | None) -> list[tuple[StockLine, ...]]:
        """What waits, by the parcels in which it comes: what is together at one warehouse on the day of each alone."""
        rest = [StockLine(product_id=line.product_id, quantity=line.requested - line.available) for line in short]
        if not command.day_by_day:
            return [tuple(rest)]
        parcels: list[tuple[StockLine, ...]] = []
        for line in sorted(rest, key=lambda line: self._day_for([line], at) or date.max):
            day = self._day_for([line], at)
            same = [each for each in parcels if self._day_for(each, at) == day == self._day_for([*each, line], at)]
            if same:
                parcels[parcels.index(same[0])] = (*same[0], line)
            else:
                parcels.append((line,))
        return parcels

    def _day_for(self, lines: Sequence[StockLine], at: str | None) -> date | None:
        """When all of it should be at one place, behind those who wait already."""
        arrivals = self._arrivals()
        for promise in self.promises.values():
            if promise.status == ReservationStatus.AWAITED and (found := _first(arrivals, promise.lines, promise.warehouse_id)):
                for line in promise.lines:
                    del arrivals[found[1]][line.product_id][: line.quantity]
        found = _first(arrivals, lines, at)
        return found[0] if found else None

    def _arrivals(self) -> Arrivals:
        arrivals: Arrivals = {}
        for name, shelves in self.shelves.items():
            arrivals[name] = {product: [date.min] * shelf.available for product, shelf in shelves.items()}
        for one in self.announced:
            days = arrivals.setdefault(one.warehouse_id, {}).setdefault(one.product_id, [])
            days += [one.expected_on] * one.quantity
            days.sort()
        return arrivals

    @staticmethod
    def _taken(wanted: Mapping[str, int], has: Mapping[str, Mapping[str, int]], choice: Sequence[str]) -> Sent:
        """Each line from the first that has it whole, else from those that have most."""
        sent: Sent = {name: {} for name in choice}
        for product, units in wanted.items():
            whole = [name for name in choice if has[name][product] >= units]
            for name in whole[:1] or sorted(choice, key=lambda name: -has[name][product]):
                if taken := min(units, has[name][product]):
                    sent[name][product] = taken
                    units -= taken
        return {name: units for name, units in sent.items() if units}

    def _fill(self) -> None:
        """Let those who wait have what is there, the oldest first; each of them everything, from one warehouse, or nothing."""
        for (order_id, parcel), promise in self.promises.items():
            if promise.status != ReservationStatus.AWAITED:
                continue
            for name in [promise.warehouse_id] if promise.warehouse_id else sorted(self.shelves):
                if all(self._available(name, line.product_id) >= line.quantity for line in promise.lines):
                    promise.status, promise.warehouse_id, promise.expected_on = ReservationStatus.RESERVED, name, None
                    for shelf, line in self._of(promise):
                        shelf.reserved += line.quantity
                    update = StockUpdate(parcel=parcel, status=promise.status, warehouse_id=name)
                    self.news.append((order_id, update))
                    break

    def _planned_with(self, key: Key) -> list[Key]:
        order_id, _ = key
        plan = self.promises[key].plan
        return sorted(other for other, promise in self.promises.items() if other[0] == order_id and promise.plan == plan)

    def _reply(self, key: Key, is_planned: bool = False) -> Reservation:
        """`is_planned`: with all that were planned together."""
        promise = self.promises[key]
        order_id, parcel = key
        others = [(number, self.promises[order, number]) for order, number in self._planned_with(key)] if is_planned else []
        return Reservation(
            order_id=order_id,
            parcel=parcel,
            warehouse_id=promise.warehouse_id,
            status=promise.status,
            lines=promise.lines,
            parcels=tuple(
                ReservedParcel(
                    parcel=number,
                    status=other.status,
                    warehouse_id=other.warehouse_id,
                    lines=other.lines,
                    expected_on=other.expected_on,
                )
                for number, other in others
            ),
            dropped=promise.dropped,
        )


def _first(arrivals: Arrivals, lines: Sequence[StockLine], at: str | None) -> tuple[date, str] | None:
    """When all of it is at one place, and where."""
    places = [at] if at else sorted(arrivals)
    days = {place: [arrivals.get(place, {}).get(line.product_id, [])[line.quantity - 1 :] for line in lines] for place in places}
    return min(((max(left[0] for left in each), place) for place, each in days.items() if all(each)), default=None)


def _units_of(received: ReceiveReturn) -> Counter[str]:
    """What came back, by product."""
    units: Counter[str] = Counter()
    for line in received.lines:
        units[line.product_id] += line.good + line.damaged
    return units


def _out_of_stock(short: Sequence[ShortLine]) -> Refusal:
    return Refusal(
        ErrorCode.OUT_OF_STOCK,
        f"Not enough in stock of: {', '.join(line.product_id for line in short)}.",
        extra={"lines": [line.model_dump() for line in short]},
    )


def _released() -> Refusal:
    return Refusal(ErrorCode.RESERVATION_RELEASED, "The reservation was released; nothing is promised any more.")

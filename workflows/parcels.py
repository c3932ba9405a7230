"""The parcels of one order as its saga keeps them: pure state and rules.

Each unit of the order is in one parcel at a time. What is left out of the order, or called off, stays in a parcel that was
cancelled, so that what the customer owes is the price of the units in parcels that count.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from contracts.inventory import Reservation, ReservationStatus, ShortLine, StockLine, WhenShort
from contracts.money import Money
from contracts.orders import Delivery, LineUnits, OrderLine, OrderSoFar, OrderStatus, ParcelSoFar, PlaceOrder, status_of
from contracts.parcels import HAS_LEFT, OrderParcel, ParcelLine, ParcelStatus, Trouble

_S = ParcelStatus
_TAKEN_FIRST = {_S.AWAITED: 0, _S.RESERVED: 1}
"""Of which parcels units are cancelled first; of all others last."""
STATUS_BEFORE_PARTS: dict[OrderStatus, ParcelStatus] = {
    OrderStatus.CONFIRMED: _S.BOOKED,
    OrderStatus.SHIPPED: _S.SHIPPED,
    OrderStatus.UNDELIVERED: _S.UNDELIVERED,
    OrderStatus.DELIVERED: _S.DELIVERED,
    OrderStatus.COMPLETED: _S.DELIVERED,
    OrderStatus.REFUNDED: _S.REFUNDED,
    OrderStatus.CANCELLED: _S.CANCELLED,
}
"""What the parcel is of an order that has only one."""


@dataclass
class Parcel:
    """One parcel. The workflow moves it; see `ParcelStatus`."""

    number: int
    lines: tuple[ParcelLine, ...]
    status: ParcelStatus = ParcelStatus.RESERVED
    warehouse_id: str | None = None
    tracking_number: str | None = None
    trouble: Trouble | None = None
    """Kept when it is over: why it never arrived."""
    expected_on: date | None = None
    resent_as: int | None = None
    delivered_at: datetime | None = None
    quiet_since: datetime | None = None
    """When it was last heard of, or last decided about."""
    answer_until: datetime | None = None
    """While its goods are awaited and its customer is asked whether to wait."""

    @property
    def counts(self) -> bool:
        """Whether it is, or may still be, on its way or with the customer."""
        return self.as_told().counts

    @property
    def has_left(self) -> bool:
        """Whether the carrier has it, had it, or lost it."""
        return self.status in HAS_LEFT or (self.status == _S.UNDELIVERED and self.trouble != Trouble.NOT_PICKED_UP)

    @property
    def is_in_the_house(self) -> bool:
        """Whether it can still be called off: it has not left, as far as we know."""
        return self.counts and not self.has_left

    @property
    def has_label(self) -> bool:
        """Whether the carrier knows of it, and does not have it yet."""
        return self.is_in_the_house and self.status not in (_S.AWAITED, _S.RESERVED)

    @property
    def stock_lines(self) -> tuple[StockLine, ...]:
        return tuple(StockLine(product_id=line.product_id, quantity=line.quantity) for line in self.lines)

    def due(self, order: PlaceOrder) -> datetime | None:
        """When somebody has to look at it, because nothing was heard or decided; None: never."""
        if self.answer_until is not None:
            return self.answer_until
        after = {
            _S.BOOKED: order.dispatch_seconds,
            _S.SHIPPED: order.silence_seconds,
            _S.UNDELIVERED: order.decision_seconds,
        }.get(self.status)
        return self.quiet_since + timedelta(seconds=after) if after and self.quiet_since else None

    def as_told(self) -> OrderParcel:
        """As the order's record and its readers are told of it."""
        return OrderParcel(
            parcel=self.number,
            status=self.status,
            lines=self.lines,
            warehouse_id=self.warehouse_id,
            tracking_number=self.tracking_number,
            trouble=self.trouble,
            expected_on=self.expected_on,
            resent_as=self.resent_as,
            delivered_at=self.delivered_at,
        )


@dataclass(frozen=True)
class Taken:
    """Units that are taken out of a parcel to be cancelled."""

    parcel: Parcel
    lines: tuple[ParcelLine, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing else is in the parcel."""
        return sum(line.quantity for line in self.lines) == sum(line.quantity for line in self.parcel.lines)


class Parcels:
    """All parcels of an order; none until its goods were reserved."""

    def __init__(self, order: PlaceOrder, so_far: OrderSoFar | None = None) -> None:
        self._order = order
        self._all: list[Parcel] = list(_from(order, so_far)) if so_far else []
        self._tried = max(so_far.parcels if so_far else 0, *(parcel.number for parcel in self._all), 0)
        self.is_parted = bool(so_far and so_far.all_parcels)
        """Whether there is more to tell than one parcel of everything."""

    def __iter__(self) -> Iterator[Parcel]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def counting(self) -> list[Parcel]:
        return [parcel for parcel in self._all if parcel.counts]

    @property
    def in_trouble(self) -> list[Parcel]:
        """Those that somebody has to decide about."""
        return [parcel for parcel in self._all if parcel.status == _S.UNDELIVERED]

    @property
    def awaited(self) -> list[Parcel]:
        return [parcel for parcel in self._all if parcel.status == _S.AWAITED]

    @property
    def current(self) -> Parcel | None:
        """The one that stands for the order where only one can be named."""
        return next((parcel for parcel in self._all if parcel.counts), self._all[-1] if self._all else None)

    @property
    def may_leave(self) -> bool:
        """Whether one of them may have left: a wish to cancel cannot stop all of them."""
        return any(parcel.has_left for parcel in self._all)

    @property
    def never_left(self) -> bool:
        """Whether none of them has ever left."""
        return all(parcel.is_in_the_house or parcel.status == _S.CANCELLED for parcel in self._all)

    @property
    def can_be_called_off(self) -> bool:
        return not self.may_leave or any(parcel.is_in_the_house for parcel in self._all)

    @property
    def tried(self) -> int:
        """How many were planned or tried to be sent; their numbers are 1 to this."""
        return self._tried

    @property
    def status(self) -> OrderStatus:
        """Where the order is by them, once it is confirmed."""
        return status_of([parcel.as_told() for parcel in self._all])

    def find(self, number: int) -> Parcel | None:
        return next((parcel for parcel in self._all if parcel.number == number), None)

    def plan(self, reservation: Reservation, ask_until: datetime | None = None) -> None:
        """Take the plan that inventory made. `ask_until`: how long the customer may answer, if that is to be asked."""
        if not reservation.parcels:
            self.assume_one(reservation.warehouse_id)
            return
        take = _Units(self._order)
        for part in reservation.parcels:
            awaited = part.status == ReservationStatus.AWAITED
            self._add(
                Parcel(
                    part.parcel,
                    take.of(part.lines),
                    _S.AWAITED if awaited else _S.RESERVED,
                    warehouse_id=part.warehouse_id,
                    expected_on=part.expected_on,
                    answer_until=ask_until if awaited and self._order.when_short == WhenShort.ASK else None,
                )
            )
        if reservation.dropped:
            self._add(Parcel(self._tried + 1, take.of(map(_missing, reservation.dropped)), _S.CANCELLED))
        # Whether goods are still awaited may differ when this is done again after a lost task that has told of it.
        self.is_parted = len(self._all) > 1 or self._order.when_short in (WhenShort.WAIT, WhenShort.ASK)

    def recall(self, undone: Mapping[str, Any]) -> None:
        """Take the plan that inventory released, if it was made in a task that was lost, and its record may have been told."""
        released = [result for result in undone.values() if isinstance(result, Reservation) and result.parcels]
        if not self._all and released:
            self.plan(released[0])
            self.is_parted = True

    def assume_one(self, warehouse_id: str | None = None) -> None:
        """One parcel of everything."""
        self._add(Parcel(1, _everything(self._order), warehouse_id=warehouse_id))

    def next_to(self, parcel: Parcel) -> Parcel:
        """A new one for the same goods, not yet among the others."""
        self._tried += 1
        return Parcel(self._tried, parcel.lines)

    def part_of(self, parcel: Parcel, lines: Iterable[LineUnits]) -> Parcel | None:
        """A new one for some of the units of a parcel that has not left, not yet among the others; None if it has not so many, or
        nothing would be left of it."""
        wanted = units_by_line(lines)
        taken = tuple(_last(line, wanted.pop(line.line_id)) for line in parcel.lines if line.line_id in wanted)
        has_all = not wanted and None not in taken
        if not has_all or sum(part.quantity for part in taken if part) == sum(line.quantity for line in parcel.lines):
            return None
        return Parcel(self._tried + 1, tuple(part for part in taken if part), warehouse_id=parcel.warehouse_id)

    def split(self, parcel: Parcel, other: Parcel) -> None:
        """The other one is among them, and what it has is not in the parcel any more."""
        parcel.lines = rest_of(parcel.lines, other.lines)
        self.is_parted = True
        self._add(other)

    def new(self, lines: Iterable[ParcelLine], like: Parcel | None = None) -> Parcel:
        """One with the next number, not yet among the others; `like`: its goods were promised to that one."""
        self._tried += 1
        other = Parcel(self._tried, tuple(lines))
        if like:
            other.status, other.warehouse_id, other.quiet_since = like.status, like.warehouse_id, like.quiet_since
            other.expected_on, other.answer_until = like.expected_on, like.answer_until
        return other

    def put_apart(self, parcel: Parcel, other: Parcel) -> None:
        """The other one is among them, and has the first units of each line of the parcel, or all of them."""
        if parcel.lines == other.lines:
            parcel.status, parcel.resent_as, parcel.lines = _S.CANCELLED, other.number, ()
        else:
            parcel.lines = rest_of(parcel.lines, other.lines)
        self.is_parted = True
        self._add(other)

    def amended(self, order: PlaceOrder, more: Parcel | None) -> None:
        """It is that order from here on, with what it has in addition. The units of its lines are numbered anew; what was in
        parcels that came to nothing is no part of it."""
        self._order, self.is_parted = order, True
        if more:
            self._add(more)
        units: Counter[int] = Counter()
        for parcel in self._all:
            numbered = []
            for line in parcel.lines if parcel.counts else ():
                numbered.append(line.model_copy(update={"first": units[line.line_id]}))
                units[line.line_id] += line.quantity
            parcel.lines = tuple(numbered)

    def cancellable(self) -> dict[int, int]:
        """Units of each line that can be cancelled, because they have not left."""
        return self._units(parcel for parcel in self._all if parcel.is_in_the_house)

    def left(self) -> dict[int, int]:
        """Units of each line that have left, and may be with the customer."""
        return self._units(parcel for parcel in self._all if parcel.counts and parcel.has_left)

    def last_units(self, lines: Iterable[LineUnits]) -> list[Taken]:
        """Where so many units of each line are taken from, of those that can be cancelled: what is awaited first, then what is
        not booked; of these the last units."""
        taken: dict[int, list[ParcelLine]] = {}
        for line_id, quantity in units_by_line(lines).items():
            parts = [(each, part) for each in self._all if each.is_in_the_house for part in each.lines if part.line_id == line_id]
            for parcel, part in sorted(parts, key=lambda it: (_TAKEN_FIRST.get(it[0].status, 2), -it[1].first)):
                units = min(quantity, part.quantity)
                quantity -= units
                if last := _last(part, units) if units else None:
                    taken.setdefault(parcel.number, []).append(last)
        return [Taken(parcel, tuple(taken[parcel.number])) for parcel in self._all if parcel.number in taken]

    def apart(self, taken: Taken, number: int) -> Parcel:
        """The new parcel, not yet among the others, by which units are taken out of one: it has them, or, if the parcel has a
        label, which stands for what is cancelled, all the others."""
        parcel = taken.parcel
        if parcel.has_label:
            return Parcel(number, rest_of(parcel.lines, taken.lines), warehouse_id=parcel.warehouse_id)
        return Parcel(number, taken.lines, parcel.status, warehouse_id=parcel.warehouse_id)

    def replace(self, parcel: Parcel, other: Parcel) -> None:
        """The other takes its place."""
        parcel.status, parcel.resent_as = _S.RESENT, other.number
        self._all.append(other)

    def to_book(self) -> list[Parcel]:
        """Those whose goods are there and that may leave."""
        if self._order.delivery == Delivery.ALL_TOGETHER and self.awaited:
            return []
        return [parcel for parcel in self._all if parcel.status == _S.RESERVED]

    def price_of(self, parcels: Iterable[Parcel]) -> Money:
        """What the customer pays for what is in these parcels."""
        lines, currency = lines_by_id(self._order), self._order.total.currency
        minor = sum(price_of_units(lines[part.line_id], part) for parcel in parcels for part in parcel.lines)
        return Money.from_minor(minor, currency)

    def credit_of(self, parcels: Iterable[Parcel]) -> Money:
        """What of the price of what is in these parcels was paid with the credit of a return."""
        lines, currency = lines_by_id(self._order), self._order.total.currency
        shares = (lines[part.line_id].share_of(part.first, part.quantity) for parcel in parcels for part in parcel.lines)
        return Money.from_minor(sum(share.credit for share in shares), currency)

    def credit_left(self) -> Money:
        """What of the credit paid for goods that are not with the customer."""
        credit = sum(line.amounts.credit for line in self._order.lines if line.amounts)
        delivered = [parcel for parcel in self._all if parcel.status == _S.DELIVERED]
        return Money.from_minor(credit, self._order.total.currency) - self.credit_of(delivered)

    def owed(self) -> Money:
        """What the customer pays for the parcels that count; all of the order while none is planned."""
        if not self.is_parted:
            return self._order.total
        return self.price_of(self.counting)

    def weight_of(self, parcel: Parcel) -> int:
        """In grams, at least one."""
        return weight_of(self._order, parcel)

    def as_told(self) -> tuple[OrderParcel, ...]:
        """All of them, if there is more to tell than one parcel of everything."""
        return tuple(parcel.as_told() for parcel in self._all) if self.is_parted else ()

    def so_far(self) -> tuple[ParcelSoFar, ...]:
        """What the next run of the workflow has to know of them."""
        if not self.is_parted:
            return ()
        return tuple(
            ParcelSoFar(**dict(parcel.as_told()), quiet_since=parcel.quiet_since, answer_until=parcel.answer_until)
            for parcel in self._all
        )

    def _units(self, parcels: Iterable[Parcel]) -> dict[int, int]:
        units: Counter[int] = Counter()
        for parcel in parcels:
            for line in parcel.lines:
                units[line.line_id] += line.quantity
        return dict(units)

    def _add(self, parcel: Parcel) -> None:
        self._all.append(parcel)
        self._tried = max(self._tried, parcel.number)


class _Units:
    """Hands out the units of an order's lines, each once."""

    def __init__(self, order: PlaceOrder) -> None:
        self._line_ids = {line.product_id: line_id for line_id, line in lines_by_id(order).items()}
        self._next = dict.fromkeys(self._line_ids, 0)

    def of(self, wanted: Iterable[StockLine]) -> tuple[ParcelLine, ...]:
        """So many units of each product that were not handed out yet."""
        return tuple(self._take(line.product_id, line.quantity) for line in wanted)

    def _take(self, product_id: str, quantity: int) -> ParcelLine:
        first = self._next[product_id]
        self._next[product_id] = first + quantity
        return ParcelLine(line_id=self._line_ids[product_id], product_id=product_id, quantity=quantity, first=first)


def _everything(order: PlaceOrder) -> tuple[ParcelLine, ...]:
    return _Units(order).of(StockLine(product_id=line.product_id, quantity=line.quantity) for line in order.lines)


def lines_by_id(order: PlaceOrder) -> dict[int, OrderLine]:
    """Lines of before there were ids are numbered by their place."""
    return {line.line_id or place: line for place, line in enumerate(order.lines, start=1)}


def weight_of(order: PlaceOrder, parcel: Parcel) -> int:
    """Of a parcel of this order; in grams, at least one."""
    lines = lines_by_id(order)
    return max(sum(lines[part.line_id].weight_grams * part.quantity for part in parcel.lines), 1)


def price_of_units(line: OrderLine, part: ParcelLine) -> int:
    """What these units of the line cost their customer, in minor units."""
    return line.share_of(part.first, part.quantity).total


def _last(line: ParcelLine, quantity: int) -> ParcelLine | None:
    """The last units of a line; None if it has not so many."""
    if quantity > line.quantity:
        return None
    return line.model_copy(update={"quantity": quantity, "first": line.first + line.quantity - quantity})


def rest_of(lines: Iterable[ParcelLine], moved: Iterable[ParcelLine]) -> tuple[ParcelLine, ...]:
    """What is left of lines of which the first or the last units were moved."""
    of_line = {line.line_id: line for line in moved}
    rest = []
    for line in lines:
        gone = of_line.get(line.line_id)
        quantity = line.quantity - (gone.quantity if gone else 0)
        first = line.first + gone.quantity if gone and gone.first == line.first else line.first
        if quantity:
            rest.append(line.model_copy(update={"quantity": quantity, "first": first}))
    return tuple(rest)


def units_by_line(lines: Iterable[LineUnits]) -> Counter[int]:
    """Units of each line; who names a line twice means both."""
    units: Counter[int] = Counter()
    for line in lines:
        units[line.line_id] += line.quantity
    return units


def _missing(line: ShortLine) -> StockLine:
    return StockLine(product_id=line.product_id, quantity=line.requested - line.available)


def _from(order: PlaceOrder, so_far: OrderSoFar) -> Sequence[Parcel]:
    """What an earlier run of the workflow has told of them."""
    if so_far.all_parcels:
        return [
            Parcel(
                told.parcel,
                told.lines,
                told.status,
                warehouse_id=told.warehouse_id,
                tracking_number=told.tracking_number,
                trouble=told.trouble,
                expected_on=told.expected_on,
                resent_as=told.resent_as,
                delivered_at=told.delivered_at,
                quiet_since=told.quiet_since,
                answer_until=told.answer_until,
            )
            for told in so_far.all_parcels
        ]
    if so_far.status == OrderStatus.PENDING:
        return []
    return [
        Parcel(
            so_far.parcel,
            _everything(order),
            STATUS_BEFORE_PARTS.get(so_far.status, _S.RESERVED),
            warehouse_id=so_far.warehouse_id,
            tracking_number=so_far.tracking_number,
            trouble=so_far.trouble,
            quiet_since=so_far.quiet_since,
        )
    ]

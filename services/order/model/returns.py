"""Returns of an order: which of its units may come back, what a return's saga is started with, and the return's record."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.access import Grant
from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.address import Address
from contracts.base import Contract
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.events import (
    Event,
    ReturnApproved,
    ReturnCancelled,
    ReturnCompleted,
    ReturnExpired,
    ReturnReceived,
    ReturnRejected,
    ReturnReminded,
    ReturnRequested,
)
from contracts.money import Money
from contracts.orders import LineRequest, OrderLine
from contracts.parcels import ParcelStatus
from contracts.returns import (
    CAME_TO_NOTHING,
    FINAL_RETURN_STATUSES,
    NEXT_RETURN_STATUS,
    AdvanceReturn,
    ReceivedLine,
    Resolution,
    ReturnAdvanced,
    ReturnedUnits,
    ReturnKind,
    ReturnLine,
    ReturnRequest,
    ReturnRun,
    ReturnStatus,
    ReturnTerms,
    ReturnTimelineEntry,
    SendBack,
    Settlement,
    settlement_of,
)
from services.order.model.order import HAND_OVER_AFTER, Order, Table, history_entry, json_column
from services.order.model.pricing import Priced

MOST_RETURNS = 20
"""Of one order."""
MOST_PARTS = 200
"""Of one return: units of one line that came in one parcel are one part."""
S = ReturnStatus
WHAT_HAPPENED = {
    S.REQUESTED: "Return asked for",
    S.APPROVED: "Return approved",
    S.RECEIVED: "Goods received",
    S.SETTLING: "Being settled",
    S.COMPLETED: "Return completed",
    S.REJECTED: "Return rejected",
    S.CANCELLED: "Return called off",
    S.EXPIRED: "Goods did not come in time",
}


@dataclass(frozen=True)
class ReturnRules:
    """The shop's: for how long goods may come back, and on what terms."""

    return_days: int = 30
    """After delivery; 0: never."""
    claim_days: int = 60
    approval_from: Money = field(default_factory=lambda: Money.from_minor(25_000, "USD"))
    """A return whose goods cost at least so much has to be approved, and every claim; so has one in another currency."""
    decision_seconds: int = 3 * 86_400
    remind_seconds: int = 7 * 86_400
    arrival_seconds: int = 21 * 86_400
    restocking_percent: int = 0
    damaged_percent: int = 100
    label_cost: Money | None = None

    def window(self, kind: ReturnKind) -> timedelta:
        """How long after its delivery a unit may be in a return of this kind."""
        return timedelta(days=self.return_days if kind == ReturnKind.RETURN else self.claim_days)

    def terms(self, kind: ReturnKind, goods: Money) -> ReturnTerms:
        """Of a return of goods that cost so much."""
        is_dear = goods.currency != self.approval_from.currency or goods >= self.approval_from
        return ReturnTerms(
            needs_approval=kind == ReturnKind.CLAIM or is_dear,
            decision_seconds=self.decision_seconds,
            remind_seconds=self.remind_seconds,
            arrival_seconds=self.arrival_seconds,
            restocking_percent=self.restocking_percent,
            damaged_percent=self.damaged_percent,
            label_cost=self.label_cost,
        )


# ── Which units may come back ────────────────────────────────────────────────────────────────────────────────────────────────


class WhyNot(StrEnum):
    """Why no unit of a line may be returned now."""

    NOT_DELIVERED = "not_delivered"
    RETURNED = "returned"
    """All that was delivered is in other returns."""
    TOO_LATE = "too_late"


@dataclass(frozen=True)
class _Unit:
    """One delivered unit of a line."""

    number: int
    """In its line, from 0."""
    parcel: int
    warehouse_id: str | None
    delivered_at: datetime


class Returnable(Contract):
    """What of a line may be in a return of one kind now."""

    quantity: int
    until: datetime | None = None
    """When that ends, of the first of these units; null if there is none."""
    why_not: WhyNot | None = None
    """Why there is none."""


class ReturnableLine(Contract):
    """What of a line may be returned now, and what may be claimed."""

    line_id: int
    product_id: str
    name: str
    quantity: int
    """What was ordered."""
    returns: Returnable
    claims: Returnable


def returnable_lines(order: Order, returns: Sequence["Return"], rules: ReturnRules, now: datetime) -> list[ReturnableLine]:
    """What of each line may be returned and claimed now. Pure."""
    free = _Free(order, returns, rules, now)
    return [
        ReturnableLine(
            line_id=line_id,
            product_id=line.product_id,
            name=line.name,
            quantity=line.quantity,
            returns=free.of(line_id, ReturnKind.RETURN),
            claims=free.of(line_id, ReturnKind.CLAIM),
        )
        for line_id, line in lines_of(order).items()
    ]


def lines_of(order: Order) -> dict[int, OrderLine]:
    """An order's lines by their ids. In orders of before lines had ids, a line's place is its id."""
    return {
        line_id: line.model_copy(update={"line_id": line_id})
        for place, line in enumerate(order.order_lines, start=1)
        if (line_id := line.line_id or place)
    }


class _Free:
    """The delivered units of an order that are in no return that stands: of each line those first that came first."""

    def __init__(self, order: Order, returns: Sequence["Return"], rules: ReturnRules, now: datetime) -> None:
        self._rules, self._now = rules, now
        taken = {(line.line_id, n) for each in returns for line in each.standing for n in _numbers(line.first, line.quantity)}
        self._delivered: set[int] = set()
        self._units: dict[int, list[_Unit]] = {}
        parcels = [(order.delivery_of(it), it) for it in order.order_parcels if it.status == ParcelStatus.DELIVERED]
        for delivered_at, parcel in sorted(parcels, key=lambda each: (each[0], each[1].parcel)):
            for line in parcel.lines:
                self._delivered.add(line.line_id)
                self._units.setdefault(line.line_id, []).extend(
                    _Unit(n, parcel.parcel, parcel.warehouse_id, delivered_at)
                    for n in _numbers(line.first, line.quantity)
                    if (line.line_id, n) not in taken
                )

    def units(self, line_id: int, kind: ReturnKind) -> list[_Unit]:
        """Those that may be in a return of this kind."""
        return [unit for unit in self._units.get(line_id, ()) if self._end(unit, kind) > self._now]

    def of(self, line_id: int, kind: ReturnKind) -> Returnable:
        if units := self.units(line_id, kind):
            return Returnable(quantity=len(units), until=min(self._end(unit, kind) for unit in units))
        if line_id not in self._delivered:
            return Returnable(quantity=0, why_not=WhyNot.NOT_DELIVERED)
        return Returnable(quantity=0, why_not=WhyNot.TOO_LATE if self._units.get(line_id) else WhyNot.RETURNED)

    def _end(self, unit: _Unit, kind: ReturnKind) -> datetime:
        return unit.delivered_at + self._rules.window(kind)


def _numbers(first: int, quantity: int) -> range:
    return range(first, first + quantity)


WHY_NOT = {
    WhyNot.NOT_DELIVERED: "none of it was delivered yet",
    WhyNot.RETURNED: "all of it is in other returns",
    WhyNot.TOO_LATE: "the time for that is over",
}


def planned(
    order: Order,
    returns: Sequence["Return"],
    request: ReturnRequest,
    rules: ReturnRules,
    now: datetime,
) -> ReturnRun:
    """The return that is asked for, with the units that it is about: of each line those that came first. `returns`: all of the
    order so far. Pure. Refusals: customer_forgotten; not_returnable, with `errors` that name the fields."""
    if order.forgotten_at:
        raise account_ended()
    if len(returns) >= MOST_RETURNS:
        raise Refusal(ErrorCode.NOT_RETURNABLE, f"An order has at most {MOST_RETURNS} returns.")
    if order.replaced and request.resolution != Resolution.REFUND:
        detail = "What came for an earlier return can be returned for its money only."
        raise not_returnable([FieldError(field="resolution", code="is_replacement", detail=detail)])
    known, free = lines_of(order), _Free(order, returns, rules, now)
    lines: list[ReturnLine] = []
    errors: list[FieldError] = []
    home: str | None = None
    for n, wanted in enumerate(request.lines):
        line = known.get(wanted.line_id)
        if line is None:
            detail = "The order has no such line."
            errors.append(FieldError(field=f"lines.{n}.line_id", code="unknown_line", detail=detail))
            continue
        units = free.units(wanted.line_id, request.kind)
        if len(units) < wanted.quantity:
            why_not = free.of(wanted.line_id, request.kind).why_not
            detail = f"Returnable now: {len(units)}" + (f"; {WHY_NOT[why_not]}." if why_not else ".")
            errors.append(FieldError(field=f"lines.{n}.quantity", code=why_not or "too_many", detail=detail))
            continue
        units = units[: wanted.quantity]
        home = home or units[0].warehouse_id
        lines += [
            ReturnLine(
                line_id=wanted.line_id,
                product_id=line.product_id,
                quantity=quantity,
                first=first,
                parcel=parcel,
                reason=wanted.reason,
            )
            for parcel, first, quantity in _ranges(units)
        ]
    if errors:
        raise not_returnable(errors)
    if len(lines) > MOST_PARTS:
        raise Refusal(ErrorCode.NOT_RETURNABLE, "That came in too many parcels for one return: ask for two.")
    if home is None:
        raise Refusal(ErrorCode.NOT_RETURNABLE, "Nobody knows which warehouse sent it; support has to settle that.")
    run = ReturnRun(
        order_id=order.order_id,
        number=len(returns) + 1,
        customer_id=order.customer_id,
        kind=request.kind,
        resolution=request.resolution,
        send_back=request.send_back,
        order_lines=tuple(known[wanted.line_id] for wanted in request.lines),
        lines=tuple(lines),
        exchange_for=tuple(request.exchange_for),
        payment_token=request.payment_token,
        ship_from=Address.model_validate(order.ship_to),
        warehouse_id=home,
        currency=order.currency,
        credit_order_id=order.replaced.order_id if order.replaced else None,
        terms=ReturnTerms(),
        requested_at=now,
    )
    return run.model_copy(update={"terms": rules.terms(request.kind, settlement_of(run).goods)})


def _ranges(units: Sequence[_Unit]) -> Iterator[tuple[int, int, int]]:
    """The same units as runs of neighbours that came in one parcel: parcel, first, quantity."""
    start = 0
    for n, unit in enumerate(units):
        following = units[n + 1] if n + 1 < len(units) else None
        if following is None or (following.parcel, following.number) != (unit.parcel, unit.number + 1):
            yield unit.parcel, units[start].number, n + 1 - start
            start = n + 1


def not_returnable(errors: Sequence[FieldError]) -> Refusal:
    """The refusal of a return, for these fields."""
    told = [error.model_dump(mode="json") for error in errors]
    return Refusal(ErrorCode.NOT_RETURNABLE, "Not all of that can be returned.", extra={"errors": told})


def account_ended() -> Refusal:
    return Refusal(ErrorCode.CUSTOMER_FORGOTTEN, "The account has ended; nothing is returned with it any more.")


def require_paid(value: Money, price: Money, request: ReturnRequest) -> None:
    """Refusal: validation_failed, if what an exchange is for costs more than the return is worth, and no card pays the rest."""
    if request.payment_token is None and price.minor > value.minor:
        detail = f"It costs {price - value} more than the return is worth: a card has to pay that."
        missing = FieldError(field="payment_token", code="missing", detail=detail)
        extra = {"errors": [missing.model_dump(mode="json")]}
        raise Refusal(ErrorCode.VALIDATION_FAILED, "The exchange costs more than the return is worth.", extra=extra)


@dataclass(frozen=True)
class Previewed:
    """What a return would come to."""

    run: ReturnRun
    settlement: Settlement
    instead: Priced | None
    """Of an exchange: what is sent instead costs, with what the return is worth as its credit."""


# ── The record ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Return(Table, Aggregate, table=True):
    """What the saga has told of one return. The saga decides; this record is what customers and lists read."""

    __tablename__ = "returns"
    __table_args__ = (
        Index("ix_returns_customer", "customer_id", "requested_at", "order_id", "number"),
        Index("ix_returns_requested", "requested_at", "order_id", "number"),
        Index("ix_returns_status", "status", "requested_at", "order_id", "number"),
        Index("ix_returns_warehouse", "warehouse_id", "requested_at", "order_id", "number"),
        Index("ix_returns_hand_over", "hand_over_at", postgresql_where=text("hand_over_at is not null")),
    )

    order_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    customer_id: UUID
    kind: ReturnKind = Field(sa_column=enum_column(ReturnKind))
    resolution: Resolution = Field(sa_column=enum_column(Resolution))
    send_back: SendBack = Field(sa_column=enum_column(SendBack))
    lines: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """ReturnLine each."""
    exchange_for: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """LineRequest each."""
    comment: str = ""
    """What its customer wrote to the shop's staff."""
    run: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """ReturnRun, complete with address and payment token, until its saga is known to run."""
    hand_over_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When the job starts its saga; null if that is known to run."""
    status: ReturnStatus = Field(sa_column=enum_column(ReturnStatus))
    history: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """Each status it reached, oldest first: `status`, `at`, `detail`, `for_staff`."""
    warehouse_id: str = Field(max_length=40)
    """Where its goods are expected; once they have come, where they are."""
    currency: str = Field(max_length=3)
    estimate: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    """Settlement: what it comes to if all of it comes in good condition."""
    needs_approval: bool = False
    due_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Until when it waits for what it waits for."""
    tracking_number: str | None = Field(default=None, max_length=100)
    came: list[dict[str, Any]] | None = Field(default=None, sa_column=json_column())
    """ReturnedUnits each; null: nothing was received yet."""
    settlement: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """Settlement, once that is certain."""
    refunded_minor: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    replacement_id: UUID | None = None
    not_replaced: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """Why no order can be placed for it, `code` and `detail`, once its saga was told so: none is placed any more."""
    code: str | None = Field(default=None, max_length=60)
    """The refusal that led to where it is, if one did: an ErrorCode."""
    detail: str | None = None
    as_of: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When its saga knew what is known here, by the saga's clock; null: it has never said."""
    reminded_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When its customer was reminded that nothing has come, by the saga's clock."""
    requested_at: datetime = Field(sa_column=time_column())
    updated_at: datetime = Field(sa_column=time_column())
    forgotten_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Since when it names no person, because its customer was forgotten."""

    @classmethod
    def requested(cls, run: ReturnRun, comment: str = "") -> Self:
        """A new return, REQUESTED; its saga is still to be started."""
        frozen = run.model_dump(mode="json")
        return cls(
            order_id=run.order_id,
            number=run.number,
            customer_id=run.customer_id,
            kind=run.kind,
            resolution=run.resolution,
            send_back=run.send_back,
            lines=frozen["lines"],
            exchange_for=frozen["exchange_for"],
            comment=comment,
            run=frozen,
            hand_over_at=run.requested_at + HAND_OVER_AFTER,
            status=S.REQUESTED,
            history=[history_entry(S.REQUESTED, run.requested_at, None, None)],
            warehouse_id=run.warehouse_id,
            currency=run.currency,
            estimate=settlement_of(run).model_dump(mode="json"),
            needs_approval=run.terms.needs_approval,
            requested_at=run.requested_at,
            updated_at=run.requested_at,
        )

    def asked_for(self) -> ReturnRequested:
        """The event that tells of a new return."""
        return ReturnRequested(**self._who, lines=self.return_lines)

    @property
    def return_lines(self) -> tuple[ReturnLine, ...]:
        return tuple(map(ReturnLine.model_validate, self.lines))

    @property
    def wanted_instead(self) -> tuple[LineRequest, ...]:
        """Of an exchange."""
        return tuple(map(LineRequest.model_validate, self.exchange_for))

    @property
    def units_that_came(self) -> tuple[ReturnedUnits, ...] | None:
        """None: nothing was received yet."""
        return None if self.came is None else tuple(map(ReturnedUnits.model_validate, self.came))

    @property
    def standing(self) -> tuple[ReturnLine, ...]:
        """The units that cannot be in another return: of one that is completed, those that came."""
        if self.status in CAME_TO_NOTHING:
            return ()
        came = self.units_that_came
        if self.status == S.COMPLETED and self.kind == ReturnKind.RETURN and came is not None:
            return tuple(units.line for units in came)
        return self.return_lines

    @property
    def estimated(self) -> Settlement:
        return Settlement.model_validate(self.estimate)

    @property
    def settled(self) -> Settlement | None:
        """None: what it comes to is not certain yet."""
        return Settlement.model_validate(self.settlement) if self.settlement else None

    @property
    def refunded(self) -> Money:
        return Money.from_minor(self.refunded_minor, self.currency)

    @property
    def since(self) -> datetime:
        """When it reached its status."""
        return datetime.fromisoformat(self.history[-1]["at"])

    @property
    def for_staff(self) -> str | None:
        """What staff may know beyond `detail`."""
        words: str | None = self.history[-1].get("for_staff")
        return words

    @property
    def to_start(self) -> ReturnRun | None:
        """What its saga is started with; None if it is known to run."""
        return ReturnRun.model_validate(self.run) if self.run else None

    @property
    def is_over(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.status in FINAL_RETURN_STATUSES

    def handed_over(self) -> None:
        """Its saga runs: neither its address nor its card is needed here any more."""
        self.run, self.hand_over_at = None, None

    def require_announced(self, received: Iterable[ReceivedLine]) -> None:
        """Refusal: not_returnable, naming the fields, if more of a line has come than was announced."""
        announced: dict[int, int] = {}
        for line in self.return_lines:
            announced[line.line_id] = announced.get(line.line_id, 0) + line.quantity
        errors, left = [], dict(announced)
        for n, came in enumerate(received):
            left[came.line_id] = left.get(came.line_id, 0) - came.quantity
            if came.line_id not in announced:
                detail = "The return has no such line."
                errors.append(FieldError(field=f"lines.{n}.line_id", code="unknown_line", detail=detail))
            elif left[came.line_id] < 0:
                detail = f"Announced: {announced[came.line_id]}."
                errors.append(FieldError(field=f"lines.{n}.quantity", code="too_many", detail=detail))
        if errors:
            raise not_returnable(errors)

    def refuse_replacement(self, refusal: Refusal) -> Refusal:
        """Its money goes back instead, so no order may be placed for it any more. What its saga is told: the first reason."""
        self.not_replaced = self.not_replaced or {"code": refusal.code, "detail": refusal.detail}
        return self.why_not_replaced or refusal

    @property
    def why_not_replaced(self) -> Refusal | None:
        """What its saga was told; None: an order may be placed for it."""
        told = self.not_replaced
        return Refusal(ErrorCode(told["code"]), told["detail"]) if told else None

    def advance(self, command: AdvanceReturn) -> list[Event]:
        """Walk the path, as far as it is new, and note what came with it. Refusal: illegal_transition.

        What was told before is a late retry: it changes nothing, so that it cannot overwrite what came after it. A word that
        brings no status is one, unless its saga has known more since."""
        if len(self.history) < command.after:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, "The return's record has missed what came before.")
        ahead = command.new_to([ReturnStatus(entry["status"]) for entry in self.history])
        self.handed_over()
        if not ahead and self.as_of is not None and command.as_of <= self.as_of:
            return []
        now, due_before = utc_now(), self.due_at
        for n, status in enumerate(ahead, start=1):
            is_last = n == len(ahead)  # words belong to the status that they came with
            self._become(status, now, command.detail if is_last else None, command.for_staff if is_last else None)
        if self._note(command, moved=bool(ahead)):
            self.updated_at = now
        events = [self._event_of(status) for status in ahead]
        if command.due_at and due_before is None:  # from then on its goods may come, by a label if one could be booked
            to = {"warehouse_id": self.warehouse_id, "due_at": self.due_at, "tracking_number": self.tracking_number}
            events.append(ReturnApproved(**self._who, **to))
        if command.is_reminder and self.reminded_at is None and self.due_at:
            self.reminded_at = command.as_of
            events.append(ReturnReminded(**self._who, due_at=self.due_at))
        return [event for event in events if event]

    def forget_person(self) -> None:
        """Blank what names its customer or was written by or about a person, once it has ended. Lines, sums, statuses and codes
        stay, and where it was sent to. What is added to a return later and names a person belongs here."""
        if self.forgotten_at is None and self.is_over:
            self.forgotten_at = utc_now()
            self.comment, self.detail, self.run, self.hand_over_at = "", None, None, None
            self.history = [entry | {"detail": None, "for_staff": None} for entry in self.history]

    def timeline(self) -> list[ReturnTimelineEntry]:
        """What happened to it, oldest first."""
        return [
            ReturnTimelineEntry(
                at=entry["at"],
                what=WHAT_HAPPENED[status],
                status=status,
                detail=entry["detail"],
                for_staff=entry.get("for_staff"),
            )
            for entry in self.history
            if (status := ReturnStatus(entry["status"]))
        ]

    def advanced(self) -> ReturnAdvanced:
        """The answer to its saga's word."""
        return ReturnAdvanced(order_id=self.order_id, number=self.number, status=self.status)

    @property
    def _who(self) -> dict[str, Any]:
        names = ("order_id", "customer_id", "number", "kind", "resolution")
        return {name: getattr(self, name) for name in names}

    def _become(self, status: ReturnStatus, now: datetime, detail: str | None, for_staff: str | None) -> None:
        if status not in NEXT_RETURN_STATUS[self.status]:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, f"A return that is {self.status} cannot become {status}.")
        self.status = status
        self.history = [*self.history, history_entry(status, now, detail, for_staff)]

    def _note(self, command: AdvanceReturn, *, moved: bool) -> bool:
        """Keep what came with a word; whether any of it is new."""
        told: dict[str, Any] = {
            "detail": command.detail if command.detail is not None or moved else self.detail,
            "code": command.code or self.code,
            "due_at": command.due_at if command.due_at or moved else self.due_at,
            "tracking_number": command.tracking_number or self.tracking_number,
            "replacement_id": command.replacement_id or self.replacement_id,
            "warehouse_id": command.warehouse_id or self.warehouse_id,
            "as_of": max(command.as_of, self.as_of or command.as_of),
        }
        if command.came is not None:
            told["came"] = [units.model_dump(mode="json") for units in command.came]
        if command.settlement is not None:
            told["settlement"] = command.settlement.model_dump(mode="json")
        if command.refunded is not None:
            told["refunded_minor"] = (Money.zero(self.currency) + command.refunded).minor
        news = {name: value for name, value in told.items() if getattr(self, name) != value}
        for name, value in news.items():
            setattr(self, name, value)
        return moved or bool(news.keys() - {"as_of"})

    def _event_of(self, status: ReturnStatus) -> Event | None:
        """The event that tells of reaching a status, if others are told of it."""
        who = self._who
        if status == S.APPROVED and self.kind == ReturnKind.CLAIM:
            return ReturnApproved(**who)
        if status == S.REJECTED:
            return ReturnRejected(**who, code=ErrorCode(self.code) if self.code else None)
        if status == S.RECEIVED:
            return ReturnReceived(**who, warehouse_id=self.warehouse_id, came=self.units_that_came or ())
        if status == S.COMPLETED:
            return ReturnCompleted(
                **who,
                lines=self.standing,
                settlement=self.settled or _nothing(self.currency),
                refunded=self.refunded,
                replacement_id=self.replacement_id,
            )
        without_more: Mapping[ReturnStatus, type[ReturnCancelled | ReturnExpired]] = {
            S.CANCELLED: ReturnCancelled,
            S.EXPIRED: ReturnExpired,
        }
        event = without_more.get(status)
        return event(**who) if event else None


def _nothing(currency: str) -> Settlement:
    nothing = Money.zero(currency)
    return Settlement(goods=nothing, restocking=nothing, label=nothing, value=nothing, of_credit=nothing)


def existing_return(found: Return | None) -> Return:
    """The return, if there is one. Refusal: not_found."""
    if found is None:
        raise _unknown()
    return found


def return_within_reach(found: Return | None, caller: Grant) -> Return:
    """The return, if there is one and the caller reaches it: its customer, a warehouse where its goods are expected. Refusal:
    not_found."""
    if found is None or not caller.reaches(owner=found.customer_id, warehouse=found.warehouse_id):
        raise _unknown()
    return found


def _unknown() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such return.")

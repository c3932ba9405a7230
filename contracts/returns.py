"""Returns, exchanges and claims: what a customer asks for, what the return's saga carries, what comes back.

A return belongs to one order and has a number in it. Its units were delivered, and no two returns that stand have the same one.
A claim is a return of which nothing comes back: what it is about was damaged, or never arrived.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, model_validator

from contracts.address import Address
from contracts.base import Command, Contract, ParcelNumber, Request, ReturnNumber, Seconds, Timestamp, Told, WarehouseId
from contracts.errors import ErrorCode
from contracts.money import Currency, Money
from contracts.orders import CardToken, Decision, LineRequest, OrderLine, OrderStatus, PaymentToken, untold
from contracts.parcels import LineId, ParcelLine, Units
from contracts.shipments import ShipmentStatus

Percent = Annotated[int, Field(ge=0, le=100)]


class ReturnKind(StrEnum):
    RETURN = "return"
    """Goods come back."""
    CLAIM = "claim"
    """Nothing comes back."""


class ReturnReason(StrEnum):
    """Why. What is the shop's fault costs the customer no fee."""

    CHANGED_MIND = "changed_mind"
    WRONG_SIZE = "wrong_size"
    NOT_AS_DESCRIBED = "not_as_described"
    DEFECTIVE = "defective"
    DAMAGED = "damaged"
    """It arrived so."""
    WRONG_ITEM = "wrong_item"
    NOT_ARRIVED = "not_arrived"
    """The carrier says it was delivered, or it was missing in the parcel."""


SHOPS_FAULT = frozenset(ReturnReason) - {ReturnReason.CHANGED_MIND, ReturnReason.WRONG_SIZE}
CLAIMABLE = SHOPS_FAULT
"""What a claim may be about. All but NOT_ARRIVED may be the reason of a return."""


class Resolution(StrEnum):
    """What the customer gets for it."""

    REFUND = "refund"
    EXCHANGE = "exchange"
    """Other goods, by an order of their own; the difference is charged, or goes back."""
    RESEND = "resend"
    """The same once more, by an order of its own that costs nothing. Of a claim only."""


class SendBack(StrEnum):
    """How goods come back."""

    LABEL = "label"
    """By a parcel that the shop has paid the carrier for."""
    DROP_OFF = "drop_off"
    """The customer brings or sends them."""


class Condition(StrEnum):
    """How goods came back."""

    GOOD = "good"
    """They go on the shelf again."""
    DAMAGED = "damaged"
    """They do not."""


class ReturnStatus(StrEnum):
    """Where a return is. The one transition table is NEXT_RETURN_STATUS."""

    REQUESTED = "REQUESTED"
    """Somebody has to approve it, if its terms say so."""
    APPROVED = "APPROVED"
    """Its goods may come; of a claim: it is settled next."""
    RECEIVED = "RECEIVED"
    """Its goods have come, and were looked at."""
    SETTLING = "SETTLING"
    """The money goes back, or other goods are on their way."""
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    """By the customer, before anything came."""
    EXPIRED = "EXPIRED"
    """The goods never came."""


_S = ReturnStatus
NEXT_RETURN_STATUS: Mapping[ReturnStatus, frozenset[ReturnStatus]] = {
    _S.REQUESTED: frozenset({_S.APPROVED, _S.REJECTED, _S.CANCELLED}),
    _S.APPROVED: frozenset({_S.RECEIVED, _S.SETTLING, _S.CANCELLED, _S.EXPIRED}),
    _S.RECEIVED: frozenset({_S.SETTLING}),
    _S.SETTLING: frozenset({_S.COMPLETED}),
    _S.COMPLETED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.EXPIRED: frozenset(),
}
FINAL_RETURN_STATUSES = frozenset(status for status, following in NEXT_RETURN_STATUS.items() if not following)
CAME_TO_NOTHING = frozenset({_S.REJECTED, _S.CANCELLED, _S.EXPIRED})
"""The units of such a return may be in another one."""


# ── What a client asks for ───────────────────────────────────────────────────────────────────────────────────────────────────


class ReturnLineRequest(Request):
    """Some units of a line of the order, and why they are returned."""

    line_id: LineId
    quantity: Units
    reason: ReturnReason


class ReturnRequest(Request):
    """Body of `POST /api/v1/orders/{order_id}/returns`."""

    kind: ReturnKind = ReturnKind.RETURN
    resolution: Resolution = Resolution.REFUND
    lines: Annotated[list[ReturnLineRequest], Field(min_length=1, max_length=100)]
    send_back: SendBack = SendBack.LABEL
    """Of a return."""
    exchange_for: Annotated[list[LineRequest], Field(max_length=100)] = Field(default_factory=list)
    """Of an exchange: what is sent instead."""
    payment_token: CardToken | None = None
    """Of an exchange for something dearer: what pays the difference."""
    comment: Annotated[str, Field(max_length=1000)] = ""
    """For the shop's staff."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        lines = [line.line_id for line in self.lines]
        if len(set(lines)) != len(lines):
            raise ValueError("each line may be named once only; add up the quantities")
        allowed = CLAIMABLE if self.kind == ReturnKind.CLAIM else frozenset(ReturnReason) - {ReturnReason.NOT_ARRIVED}
        if any(line.reason not in allowed for line in self.lines):
            raise ValueError(f"for a {self.kind}, the reason is one of {', '.join(sorted(allowed))}")
        if self.resolution == (Resolution.EXCHANGE if self.kind == ReturnKind.CLAIM else Resolution.RESEND):
            raise ValueError(f"a {self.kind} cannot end in {self.resolution}")
        if bool(self.exchange_for) != (self.resolution == Resolution.EXCHANGE):
            raise ValueError("exchange_for goes with the resolution `exchange`, and only with it")
        return self


class ReceivedLine(Request):
    """What came back of a line, in one condition."""

    line_id: LineId
    quantity: Units
    condition: Condition


class ReturnReceipt(Decision):
    """Argument of the return's `receive` update: what has come. Fewer than were announced may come, and none."""

    lines: Annotated[tuple[ReceivedLine, ...], Field(max_length=200)] = ()
    warehouse_id: WarehouseId
    """Where."""


# ── What the saga carries ────────────────────────────────────────────────────────────────────────────────────────────────────


class ReturnLine(ParcelLine):
    """Units of one line that came in one parcel."""

    parcel: ParcelNumber
    """Which of the order's parcels they came in."""
    reason: ReturnReason


class ReturnTerms(Contract):
    """The shop's, as they were when the return was asked for."""

    needs_approval: bool = False
    decision_seconds: Seconds = 3 * 86_400
    """How long it waits for that. Then a return is approved, and a claim rejected."""
    remind_seconds: Seconds = 7 * 86_400
    """After its approval, when nothing came."""
    arrival_seconds: Seconds = 21 * 86_400
    """How long its goods may take to come, from its approval."""
    restocking_percent: Percent = 0
    """What of the goods' share is kept, unless it is the shop's fault."""
    damaged_percent: Percent = 100
    """What of their share goes back for goods that came back damaged, unless it is the shop's fault."""
    label_cost: Money | None = None
    """Kept for a label, unless all of it is the shop's fault."""


class ReturnRun(Contract):
    """Argument of the return's workflow: complete, so that its saga asks nobody what was sold."""

    order_id: UUID
    number: ReturnNumber
    customer_id: UUID
    kind: ReturnKind
    resolution: Resolution
    send_back: SendBack = SendBack.LABEL
    order_lines: Annotated[tuple[OrderLine, ...], Field(max_length=100)]
    """Those of the order that it is about."""
    lines: Annotated[tuple[ReturnLine, ...], Field(min_length=1, max_length=200)]
    exchange_for: Annotated[tuple[LineRequest, ...], Field(max_length=100)] = ()
    payment_token: PaymentToken | None = None
    ship_from: Address
    """Where its goods are: the address that the order went to."""
    warehouse_id: WarehouseId
    """Where they should come back to: the one that sent the first of them."""
    currency: Currency
    credit_order_id: UUID | None = None
    """If the order replaced another: whose payment holds the credit that it was paid with."""
    terms: ReturnTerms
    requested_at: Timestamp

    @property
    def is_expected_back(self) -> bool:
        return self.kind == ReturnKind.RETURN


class ReturnedUnits(Contract):
    """Units of one line that came back in one condition."""

    line: ReturnLine
    condition: Condition


def units_that_came(lines: Sequence[ReturnLine], received: Sequence[ReceivedLine]) -> tuple[ReturnedUnits, ...]:
    """Which of the announced units came: of each line the first ones, those in good condition first. ValueError: more came than
    were announced. Pure."""
    came: list[ReturnedUnits] = []
    left = Counter[tuple[int, Condition]]()
    for receipt in received:
        left[receipt.line_id, receipt.condition] += receipt.quantity
    for line in lines:
        first = line.first
        for condition in Condition:
            taken = min(left[line.line_id, condition], line.first + line.quantity - first)
            if taken:
                units = line.model_copy(update={"first": first, "quantity": taken})
                came.append(ReturnedUnits(line=units, condition=condition))
                left[line.line_id, condition] -= taken
                first += taken
    if left.total():
        raise ValueError("more came than was announced")
    return tuple(came)


class Settlement(Contract):
    """What a return comes to, by what came back."""

    goods: Money
    """What the customer had paid for it, credit included, less what damage costs."""
    restocking: Money
    label: Money
    value: Money
    """What of that is the customer's: the goods without restocking and label, never less than nothing."""
    of_credit: Money
    """How much of the value was paid with the credit of an earlier return, and goes back from that order's payment."""

    @property
    def of_payment(self) -> Money:
        """How much of the value goes back from the order's own payment."""
        return self.value - self.of_credit


def settlement_of(run: ReturnRun, came: Sequence[ReturnedUnits] | None = None) -> Settlement:
    """What a return comes to if these units came back; None: all of them, in good condition, or none has to. Pure.

    Fees are taken off what was paid by the order's own payment first."""
    order_lines = {line.line_id: line for line in run.order_lines}
    all_of_it = tuple(ReturnedUnits(line=line, condition=Condition.GOOD) for line in run.lines)
    goods = restocking = credit = 0
    for units in all_of_it if came is None else came:
        share = order_lines[units.line.line_id].share_of(units.line.first, units.line.quantity)
        is_our_fault = units.line.reason in SHOPS_FAULT
        percent = run.terms.damaged_percent if units.condition == Condition.DAMAGED and not is_our_fault else 100
        worth = share.price * percent // 100
        goods += worth
        credit += min(share.credit, worth)
        restocking += 0 if is_our_fault else worth * run.terms.restocking_percent // 100
    label = min(_label_fee(run), goods - restocking)
    value = goods - restocking - label

    def money(minor: int) -> Money:
        return Money.from_minor(minor, run.currency)

    return Settlement(
        goods=money(goods),
        restocking=money(restocking),
        label=money(label),
        value=money(value),
        of_credit=money(min(credit, value)),
    )


def _label_fee(run: ReturnRun) -> int:
    """What is kept for the label, in minor units."""
    cost = run.terms.label_cost
    has_label = run.is_expected_back and run.send_back == SendBack.LABEL
    is_our_fault = all(line.reason in SHOPS_FAULT for line in run.lines)
    return cost.minor if cost and cost.currency == run.currency and has_label and not is_our_fault else 0


class AdvanceReturn(Command):
    """The return's saga tells where it is. `path` lists the statuses passed since the last word, oldest first."""

    order_id: UUID
    number: ReturnNumber
    after: Annotated[int, Field(ge=0, le=100)]
    """How many statuses it had reached before `path`: tells a repeated word from a new one."""
    path: Annotated[tuple[ReturnStatus, ...], Field(max_length=10)]
    as_of: Timestamp
    """When its saga knew this, by the saga's own clock: orders the words that bring no status."""
    detail: Told | None = None
    """Why, in plain words; shown to the customer and to staff."""
    for_staff: Told | None = None
    code: ErrorCode | None = None
    due_at: Timestamp | None = None
    """Until when it waits for what it waits for."""
    tracking_number: Annotated[Told, Field(max_length=100)] | None = None
    """Of its label."""
    came: Annotated[tuple[ReturnedUnits, ...], Field(max_length=400)] | None = None
    """None: nothing was received yet."""
    warehouse_id: WarehouseId | None = None
    """Where they came to; None: where they were expected."""
    settlement: Settlement | None = None
    """What it comes to, once that is certain."""
    refunded: Money | None = None
    """What went back to the customer so far."""
    replacement_id: UUID | None = None
    """The order that brings other goods, or the same once more."""
    is_reminder: bool = False
    """Nothing has come yet, and its customer is to be reminded of it, once: a word that is repeated has the same `as_of`."""

    def new_to(self, reached: Sequence[ReturnStatus]) -> tuple[ReturnStatus, ...]:
        """The statuses of `path` that a return which has `reached` these, oldest first, has not been told yet."""
        return untold(self.path, reached[self.after :])


class ReturnAdvanced(Contract):
    """Reply of the return's record to its saga."""

    order_id: UUID
    number: ReturnNumber
    status: ReturnStatus


class ReturnState(Contract):
    """Answer of the workflow's `status` query, and where a return is in the answer of its updates."""

    order_id: UUID
    number: ReturnNumber
    status: ReturnStatus
    waiting_for: str
    due_at: datetime | None = None
    """Until when."""
    then: str | None = None
    """What happens then, in plain words."""
    stuck_undos: tuple[str, ...] = ()
    """Steps that do not succeed: `settle_undo` ends them by hand."""
    given_up: tuple[str, ...] = ()
    refunded: Money | None = None
    replacement_id: UUID | None = None


class ReturnTimelineEntry(Contract):
    """One thing that happened to a return."""

    at: datetime
    what: str
    status: ReturnStatus
    detail: str | None = None
    """A customer may read it too."""
    for_staff: str | None = None
    """What only staff may read."""


# ── What comes of it elsewhere ───────────────────────────────────────────────────────────────────────────────────────────────


class PlaceReplacement(Command):
    """Place the order that an exchange or a claim brings: idempotent by its id. Its saga is started by the order service.

    Refusals, all of which make the return give the money back instead: product_unknown, validation_failed,
    address_undeliverable, customer_forgotten, conflict (it costs more than the credit, and there is no card for the rest)."""

    order_id: UUID
    """The order that goods of were returned."""
    number: ReturnNumber
    replacement_id: UUID
    lines: Annotated[tuple[LineRequest, ...], Field(max_length=100)] = ()
    """At the catalogue's prices; none: the same units once more, at no cost."""
    units: Annotated[tuple[ReturnLine, ...], Field(max_length=200)] = ()
    """Which units those are."""
    credit: Money
    """What the return is worth."""
    payment_token: PaymentToken | None = None
    """What pays the difference."""


class ReplacementPlaced(Contract):
    replacement_id: UUID
    total: Money
    """What is charged for it, beyond the credit."""
    credit: Money
    """How much of the credit it takes; the rest goes back."""


class ReplacementEnded(Contract):
    """Argument of the return's `replacement_ended` signal, sent by that order's saga at its end."""

    status: OrderStatus
    credit_back: Money
    """Credit that paid for goods that did not get to the customer: it goes back as money."""


class ReturnLabelUpdate(Contract):
    """Argument of the return's `label_updated` signal: what the carrier reported of its parcel."""

    status: ShipmentStatus
    occurred_at: datetime | None = None

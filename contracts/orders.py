"""The order: what a client asks for, what the saga carries, what comes back."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts.address import Address
from contracts.base import (
    AmendmentNumber,
    Command,
    Contract,
    ParcelNumber,
    ProductId,
    Quantity,
    Reason,
    Request,
    ReturnNumber,
    Seconds,
    ShortText,
    Timestamp,
    Told,
    WarehouseId,
    Weight,
)
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import ShortLine, WhenShort
from contracts.money import Money
from contracts.parcels import HAS_LEFT, LineId, OrderParcel, ParcelChoice, ParcelStatus, Trouble, Units
from contracts.payment_actions import BANK_TRANSFER, ActionDue
from contracts.pricing import LineAmounts, OrderCharges

PaymentToken = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{4,100}$")]
"""The provider's token for a card. Card numbers never reach the platform."""


def _is_no_card_number(token: str) -> str:
    digits = token.replace("-", "").replace("_", "")
    if digits.isdigit() and 12 <= len(digits) <= 19:
        raise ValueError("this looks like a card's number: send the token that the payment provider gave for it")
    return token


def _is_a_card(token: str) -> str:
    if token == BANK_TRANSFER:
        raise ValueError("only a new order can be paid by transfer: send the token of a card")
    return token


MethodToken = Annotated[PaymentToken, AfterValidator(_is_no_card_number)]
"""As a client sends it that orders: a card's token, or `bank_transfer`."""
CardToken = Annotated[MethodToken, AfterValidator(_is_a_card)]
"""As a client sends it for what cannot wait for a transfer."""
ReturnUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#@]{1,400}$")]
"""A page of the shop, without query and fragment: the provider adds its own."""
DiscountCode = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{1,39}$", to_upper=True, strip_whitespace=True)
]
"""Written in capitals or not: it is kept in capitals."""


class OrderStatus(StrEnum):
    """Where an order is. The one transition table is NEXT_STATUS."""

    PENDING = "PENDING"
    RESERVED = "RESERVED"
    PAYMENT_DUE = "PAYMENT_DUE"
    """The card was declined. The goods are kept for a while, and another card may be tried."""
    ACTION_REQUIRED = "ACTION_REQUIRED"
    """The customer has to confirm the payment, e.g. at the bank. The goods are kept for a while."""
    IN_REVIEW = "IN_REVIEW"
    PAID = "PAID"
    CONFIRMED = "CONFIRMED"
    PARTIALLY_SHIPPED = "PARTIALLY_SHIPPED"
    """Some parcels have left, others not yet."""
    SHIPPED = "SHIPPED"
    UNDELIVERED = "UNDELIVERED"
    """A parcel is lost, came back, was never handed over, or is silent for too long: somebody has to decide."""
    DELIVERED = "DELIVERED"
    COMPLETED = "COMPLETED"
    REFUNDED = "REFUNDED"
    """An end: the goods did not arrive, and the money went back."""
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


_S = OrderStatus
NEXT_STATUS: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    _S.PENDING: frozenset({_S.RESERVED, _S.CANCELLING}),
    _S.RESERVED: frozenset({_S.PAYMENT_DUE, _S.ACTION_REQUIRED, _S.IN_REVIEW, _S.PAID, _S.CANCELLING}),
    _S.PAYMENT_DUE: frozenset({_S.ACTION_REQUIRED, _S.IN_REVIEW, _S.PAID, _S.CANCELLING}),
    _S.ACTION_REQUIRED: frozenset({_S.PAYMENT_DUE, _S.IN_REVIEW, _S.PAID, _S.CANCELLING}),
    _S.IN_REVIEW: frozenset({_S.PAID, _S.CANCELLING}),
    _S.PAID: frozenset({_S.CONFIRMED, _S.CANCELLING}),
    _S.CONFIRMED: frozenset({_S.PARTIALLY_SHIPPED, _S.SHIPPED, _S.UNDELIVERED, _S.CANCELLING}),
    _S.PARTIALLY_SHIPPED: frozenset({_S.SHIPPED, _S.UNDELIVERED, _S.DELIVERED}),
    _S.SHIPPED: frozenset({_S.DELIVERED, _S.UNDELIVERED}),
    _S.UNDELIVERED: frozenset({_S.CONFIRMED, _S.PARTIALLY_SHIPPED, _S.SHIPPED, _S.DELIVERED, _S.REFUNDED, _S.CANCELLING}),
    _S.DELIVERED: frozenset({_S.COMPLETED}),
    _S.COMPLETED: frozenset(),
    _S.REFUNDED: frozenset(),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.CANCELLED: frozenset(),
}
FINAL_STATUSES = frozenset(status for status, following in NEXT_STATUS.items() if not following)


def status_of(parcels: Sequence[OrderParcel]) -> OrderStatus:
    """Where a confirmed order is, by its parcels. Of one whose parcels have all ended, how it ends: DELIVERED, REFUNDED or, if
    none of them ever left, CANCELLED."""
    counting = [parcel.status for parcel in parcels if parcel.counts]
    if not counting:
        refunded = any(parcel.status == ParcelStatus.REFUNDED for parcel in parcels)
        return OrderStatus.REFUNDED if refunded else OrderStatus.CANCELLED
    if ParcelStatus.UNDELIVERED in counting:
        return OrderStatus.UNDELIVERED
    left = [status for status in counting if status in HAS_LEFT]
    if not left:
        return OrderStatus.CONFIRMED
    if len(left) < len(counting):
        return OrderStatus.PARTIALLY_SHIPPED
    return OrderStatus.SHIPPED if ParcelStatus.SHIPPED in left else OrderStatus.DELIVERED


class Delivery(StrEnum):
    """When the parcels of an order may leave."""

    AS_AVAILABLE = "as_available"
    """Each as soon as its goods are there."""
    ALL_TOGETHER = "all_together"
    """None before the goods of all are there."""


class Speed(StrEnum):
    """How fast parcels travel: a service level of the shipping service."""

    STANDARD = "standard"
    EXPRESS = "express"


class LineRequest(Request):
    """One product and how many of it."""

    product_id: ProductId
    quantity: Annotated[int, Field(ge=1, le=1000, strict=True)]


class QuoteRequest(Request):
    """Body of `POST /api/v1/orders/quote`: what would be ordered. It has no prices: they come from the catalogue."""

    lines: Annotated[list[LineRequest], Field(min_length=1, max_length=100)]
    ship_to: Address
    warehouse_id: WarehouseId | None = None
    """The store that serves the order. Without it, the warehouses that have its lines, in as few parcels as possible."""
    delivery: Delivery = Delivery.AS_AVAILABLE
    when_short: WhenShort = WhenShort.REFUSE
    """What becomes of lines that are out of stock."""
    shipping: Speed = Speed.STANDARD
    discount_codes: Annotated[list[DiscountCode], Field(max_length=5)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _each_product_once(self) -> Self:
        products = [line.product_id for line in self.lines]
        if len(set(products)) != len(products):
            raise ValueError("each product may stand on one line only; add up the quantities")
        return self

    @property
    def priced_by(self) -> str:
        """The same for all that costs the same: a hash (SHA-256, hex) of the fields that a price depends on."""
        fields = self.model_dump_json(include={"lines", "ship_to", "warehouse_id", "shipping", "discount_codes"})
        return hashlib.sha256(fields.encode()).hexdigest()


class PlaceOrderRequest(QuoteRequest):
    """Body of `POST /api/v1/orders`. It has no prices: they come from the catalogue, or from a quote."""

    payment_token: MethodToken
    """Of a card, as the payment provider gave it; or `bank_transfer`."""
    return_url: ReturnUrl | None = None
    """A page of the shop, where the customer's browser goes to when the bank has asked something; None: a page of the platform
    that says no more than that."""
    quote_id: UUID | None = None
    """A quote of the same order, whose sums are to hold; see `POST /api/v1/orders/quote`."""


class OrderLine(Contract):
    """A line at the catalogue's name and price at the time of the order."""

    line_id: LineId | None = None
    """None only in orders of before lines had ids: then it is the line's place, from 1."""
    product_id: ProductId
    name: Told
    quantity: Quantity
    unit_price: Money
    weight_grams: Weight = 0
    amounts: LineAmounts | None = None
    """What it costs with discount, shipping and tax; None only in orders that had none of these."""

    @property
    def total(self) -> Money:
        """What its goods cost, without discount, shipping and tax."""
        return self.unit_price * self.quantity

    def share_of(self, first: int, units: int) -> LineAmounts:
        """What some of its units cost, the first of them being number `first`, from 0."""
        if self.amounts is None:
            return LineAmounts(items=(self.unit_price * units).minor)
        return self.amounts.of(self.quantity, first, units)


class CaptureAt(StrEnum):
    """When the money of an order is taken."""

    CONFIRMATION = "confirmation"
    DISPATCH = "dispatch"
    """It is held first, and taken for each parcel when that leaves."""


class Replaces(Contract):
    """In an order that a return brings: which return that is."""

    order_id: UUID
    number: ReturnNumber


class PlaceOrder(Contract):
    """The order as its workflow receives it: complete, so that the saga asks nobody what was ordered."""

    order_id: UUID
    customer_id: UUID
    lines: Annotated[tuple[OrderLine, ...], Field(max_length=100)]
    total: Money
    ship_to: Address
    payment_token: PaymentToken
    warehouse_id: WarehouseId | None = None
    charges: OrderCharges | None = None
    """What the total is made of; None only in orders that cost the sum of their lines."""
    may_split: bool = False
    """Whether it may come from several warehouses, in a parcel each."""
    day_by_day: bool = False
    """Whether what is out of stock may come in a parcel for each day on which it should arrive."""
    delivery: Delivery = Delivery.AS_AVAILABLE
    when_short: WhenShort = WhenShort.REFUSE
    shipping: Speed = Speed.STANDARD
    capture_at: CaptureAt = CaptureAt.CONFIRMATION
    replaces: Replaces | None = None
    """The return that brings it, if one does."""
    pay_again_seconds: Annotated[int, Field(ge=0, le=31_536_000)] = 0
    """How long the goods are kept after a declined card, so that another may be tried; 0: not at all."""
    return_url: ReturnUrl | None = None
    """Where the customer's browser goes to when the bank has asked something. None: the customer is not there, and a card that
    has to be confirmed is declined."""
    action_seconds: Seconds = 900
    """How long the goods are kept for a customer who has to do something first, e.g. confirm the payment at the bank."""
    answer_seconds: Seconds = 86_400
    """How long a customer may take to say what becomes of lines that are out of stock."""
    needs_review: bool = False
    """Hold for an operator before the money is taken: the total reached the review threshold."""
    review_seconds: Seconds = 86_400
    """How long a held order waits for a decision before it is cancelled."""
    decision_seconds: Seconds = 3 * 86_400
    """How long a parcel in trouble waits for a decision before the usual one is taken."""
    dispatch_seconds: Seconds = 3 * 86_400
    """How long a booked parcel may lie in the warehouse before somebody is asked about it."""
    silence_seconds: Seconds = 10 * 86_400
    """How long the carrier may tell nothing of a parcel before somebody is asked about it."""
    placed_at: Timestamp
    fingerprint: Annotated[str, Field(max_length=64)] | None = None
    """Hash of the request body: tells whether a later request under the same key is the same one."""


class AdvanceOrder(Command):
    """The saga tells the order where it is. `path` lists the statuses passed since the last word, oldest first."""

    order_id: UUID
    after: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many statuses the order had reached before `path`: tells a repeated word from a new one."""
    as_of: Timestamp | None = None
    """When its saga knew this, by the saga's own clock: orders the words that bring no status. None, where there is no more to
    tell than one parcel and one card."""
    path: Annotated[tuple[OrderStatus, ...], Field(max_length=20)]
    detail: Told | None = None
    """Why, in plain words; shown to the customer and to staff."""
    for_staff: Told | None = None
    """The same as staff may know it: who decided, what failed."""
    code: ErrorCode | None = None
    """The refusal that led here, if one did."""
    review_reason: Told | None = None
    """Why it is held for review, in plain words; for staff only."""
    trouble: Trouble | None = None
    """Why its parcel does not arrive; None once it does."""
    warehouse_id: WarehouseId | None = None
    tracking_number: Annotated[Told, Field(max_length=100)] | None = None
    refunded: Money | None = None
    """All that went back to the customer, if that is told now."""
    parcels: Annotated[tuple[OrderParcel, ...], Field(max_length=20)] = ()
    """All parcels as they are now; none: they are not told now."""
    pay_until: Timestamp | None = None
    """Until when another card may be tried: while its status is PAYMENT_DUE, or of an order whose money is taken as its parcels
    leave, and of which less could be held or taken than it needs."""
    action: ActionDue | None = None
    """What the customer has to do, while its status is ACTION_REQUIRED."""
    outcome: "Outcome | None" = None
    """What the client that placed the order is told: kept, and told again to whoever repeats the request."""
    amendment: "AmendmentOutcome | None" = None
    """What came of an amendment, if that is told now."""

    def new_to(self, reached: Sequence[OrderStatus]) -> tuple[OrderStatus, ...]:
        """The statuses of `path` that an order which has `reached` these, oldest first, has not been told yet."""
        return untold(self.path, reached[self.after :])


Status = TypeVar("Status", bound=StrEnum)


def untold(path: tuple[Status, ...], since: Sequence[Status]) -> tuple[Status, ...]:
    """What of a path was not told yet to a record that has reached `since` from where the path begins, both oldest first. Pure.

    None, of a word that is repeated. A word of a workflow's task that was lost may have gone further than the one that follows
    it: what they have in common was told, and the record goes on from where it is."""
    common = next((n for n, (old, new) in enumerate(zip(since, path, strict=False)) if old != new), None)
    if common is None:
        return path[len(since) :]
    return tuple(status for status in path[common:] if status not in since[common:])


class OrderProgress(Contract):
    """Where an order is now."""

    order_id: UUID
    status: OrderStatus


class OrderAdvanced(OrderProgress):
    """Reply of the order's record to the saga."""

    outcome: "Outcome | None" = None
    """The first outcome that it was told; it never changes."""


class CancelRequest(Request):
    """Argument of the workflow's `cancel` update."""

    reason: Reason
    requested_by: ShortText = "operator"
    lines: Annotated[tuple["LineUnits", ...], Field(max_length=100, exclude_if=lambda lines: not lines)] = ()
    """Only so many units of these lines; none: all of the order. Left out where there are none: builds before 1.0 refuse what
    they do not know."""
    key: Annotated[ShortText | None, Field(exclude_if=lambda key: key is None)] = None
    """Names a wish for some units for ever: however often it is told, by update or signal, it is carried out once. None: the id
    of its update."""


class CancelReply(Contract):
    """What a cancel settled."""

    order_id: UUID
    status: OrderStatus
    refunded: Money
    """What went back to the customer; zero if nothing had been taken."""
    detail: str


class Decision(Request):
    """Argument of the workflow's `approve` and `reject` signals."""

    by: ShortText
    reason: Reason

    def is_by(self, user_id: UUID) -> bool:
        """Whether `by`, which a terminal may fill with anything, names this user, however the id is written."""
        return user_id.hex in self.by.replace("-", "").lower()


class ParcelDecision(Decision):
    """Argument of the workflow's `decide_parcel` update."""

    choice: ParcelChoice
    parcel: Annotated[ParcelNumber | None, Field(exclude_if=lambda number: number is None)] = None
    """None: the only one that is in trouble. Left out where it is None: builds before 1.0 refuse what they do not know."""


class PayAgain(Request):
    """Argument of the workflow's `pay` update: another card for an order whose payment is due."""

    payment_token: CardToken
    return_url: Annotated[ReturnUrl | None, Field(exclude_if=lambda url: url is None)] = None
    """Where the customer's browser goes to when the bank has asked something. Left out if there is none: builds before 1.0 refuse
    what they do not know."""


class ShortageAnswer(Request):
    """Argument of the workflow's `answer_shortage` update: what the customer wants of lines that are out of stock."""

    choice: Literal[WhenShort.WAIT, WhenShort.DROP, WhenShort.REFUSE]
    """`refuse`: cancel the order."""


class Actor(StrEnum):
    """Who may act."""

    CUSTOMER = "customer"
    SUPPORT = "support"
    WAREHOUSE = "warehouse"
    CARRIER = "carrier"
    PROVIDER = "payment provider"
    PLATFORM = "platform"
    """It goes on by itself."""
    OPERATOR = "operator"
    """Who runs the platform."""


class Wait(Contract):
    """One thing that a part of an order waits for."""

    part: str
    """`order`, `payment`, `parcel 2`, `undo refund-payment`."""
    waiting_for: str
    """In plain words; a customer may read it."""
    since: datetime
    until: datetime | None = None
    """When it is no longer waited for."""
    then: str | None = None
    """What happens then, in plain words."""
    who: tuple[Actor, ...] = ()
    """Who may bring it on."""
    updates: tuple[str, ...] = ()
    """By which of the workflow's updates or signals, e.g. `decide_parcel`."""


class LineUnits(Request):
    """Some units of a line of an order."""

    line_id: LineId
    quantity: Units


class AmendedLine(Request):
    """What becomes of one line of an order."""

    line_id: LineId | None = None
    """A line that the order has; None: a new one, of a product."""
    product_id: ProductId | None = None
    """Of a new line."""
    quantity: Annotated[int, Field(ge=0, le=1000, strict=True)]
    """How many units it has from now on; 0: the line goes."""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if (self.line_id is None) == (self.product_id is None):
            raise ValueError("a line is named by its line_id, a new one by its product_id")
        if self.line_id is None and self.quantity == 0:
            raise ValueError("a new line has one unit at least")
        return self


class AmendmentTerms(Request):
    """Body of `POST /api/v1/orders/{order_id}/amendments/preview`: what is to be different. What is not named stays."""

    lines: Annotated[list[AmendedLine], Field(max_length=100)] = Field(default_factory=list)
    ship_to: Address | None = None
    shipping: Speed | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.lines and self.ship_to is None and self.shipping is None:
            raise ValueError("an amendment names lines, an address or a speed")
        for named in ([line.line_id for line in self.lines], [line.product_id for line in self.lines]):
            given = [name for name in named if name is not None]
            if len(set(given)) != len(given):
                raise ValueError("each line and each product may be named once only")
        return self


class AmendmentRequest(AmendmentTerms):
    """Body of `POST /api/v1/orders/{order_id}/amendments`."""

    payment_token: CardToken | None = None
    """What pays if it costs more; None: the card that paid for the order."""


class Amendment(Request):
    """Argument of the workflow's `amend` update: the order as it is from then on, complete and priced."""

    number: AmendmentNumber
    lines: Annotated[tuple[OrderLine, ...], Field(min_length=1, max_length=100)]
    """Of units that are cancelled already there is nothing in it."""
    total: Money
    charges: OrderCharges | None = None
    ship_to: Address
    shipping: Speed = Speed.STANDARD
    owed_before: Money
    """What the order cost when the amendment was priced. It is refused if that has changed since."""
    payment_token: PaymentToken | None = None
    """What pays if it costs more; None: the card that paid for the order."""
    by: ShortText
    by_staff: bool = False
    """Whether staff have made it, whose call is the review of it."""


class AmendReply(Contract):
    """What came of an amendment that was carried out."""

    order_id: UUID
    number: AmendmentNumber
    status: OrderStatus
    total: Money
    charged: Money
    """What was taken, or is held, in addition."""
    given_back: Money


class AmendmentOutcome(Contract):
    """What the saga tells the order's record of an amendment."""

    number: AmendmentNumber
    code: ErrorCode | None = None
    """Why it came to nothing; None: it was carried out, and the record takes it over."""
    detail: Told | None = None
    charged: Money
    given_back: Money
    closed: Money
    """All that had gone back of the order until then, with what goes back by this: from now on `refunded` counts anew."""


class ParcelSplit(Decision):
    """Argument of the workflow's `split_parcel` update: some of a parcel goes in another one, because fewer units than planned
    can be sent now."""

    parcel: ParcelNumber
    lines: Annotated[tuple[LineUnits, ...], Field(min_length=1, max_length=100)]
    """What goes in the other one."""


class UndoSettlement(Decision):
    """Argument of the workflow's `settle_undo` update: an undo that does not succeed by itself is ended by hand."""

    undo: ShortText
    """Its name, as `stuck_undos` lists it."""
    done: bool
    """True: what it should do was done by hand. False: it is given up; the audit goes on telling what is left open."""
    refunded: Money | None = None
    """What the customer got back by hand, if it was a refund."""


class Outcome(Contract):
    """Answer of the `place` update: how far the order got while the client waited."""

    order_id: UUID
    status: OrderStatus
    code: ErrorCode | None = None
    """Why it was refused; None if it was not."""
    detail: Told | None = None
    lines: Annotated[tuple[ShortLine, ...], Field(max_length=100)] = ()
    """Which lines could not be filled, if that is why."""
    decline_code: Annotated[Told, Field(max_length=100)] | None = None
    """The bank's word, if it declined."""
    pay_until: Timestamp | None = None
    """Until when another card may be tried for it. Then the refusal is not its last word."""
    tracking_number: Annotated[Told, Field(max_length=100)] | None = None
    warehouse_id: WarehouseId | None = None
    """Which warehouse sends it."""
    at: Timestamp | None = None
    """Since when it is so."""

    @property
    def is_definite(self) -> bool:
        """Whether it stays: confirmed or refused. One that is held for review, say, or for which another card may be tried, is
        still open."""
        return self.pay_until is None and (self.code is not None or self.status == OrderStatus.CONFIRMED)

    @classmethod
    def refused(cls, order_id: UUID, status: OrderStatus, refusal: Refusal) -> Self:
        """What a client is told of the refusal that ended its order."""
        return cls(
            order_id=order_id,
            status=status,
            code=refusal.code,
            detail=refusal.detail,
            lines=tuple(map(ShortLine.model_validate, refusal.extra.get("lines", ()))),
            decline_code=refusal.extra.get("decline_code"),
        )

    @property
    def refusal(self) -> Refusal | None:
        """The same refusal, as the client's problem details have it; None if it was not refused."""
        if self.code is None:
            return None
        told = self.model_dump(mode="json", include={"lines", "decline_code", "pay_until"}, exclude_defaults=True)
        return Refusal(self.code, self.detail or "", extra={**told, "order_id": str(self.order_id)})


class TimelineEntry(Contract):
    """One thing that happened to an order."""

    at: datetime
    what: str
    """E.g. "Paid 23.40 USD". A customer may read it."""
    status: OrderStatus
    detail: str | None = None
    """A customer may read it too."""
    for_staff: str | None = None
    """What only staff may read: who decided, which error came from where."""


class OrderState(Contract):
    """Answer of the workflow's `status` query."""

    order_id: UUID
    status: OrderStatus
    waiting_for: str
    """In plain words, e.g. "the payment provider (retrying)" or "the carrier to deliver"."""
    stuck_undos: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    """Undos that were ended by hand without being done, each with by whom and why."""
    code: ErrorCode | None = None
    detail: str | None = None
    trouble: Trouble | None = None
    """Why its parcel does not arrive."""
    choices: tuple[ParcelChoice, ...] = ()
    """What may be decided about it now."""
    parcels: tuple[OrderParcel, ...] = ()
    waits: tuple[Wait, ...] = ()
    """What each of its parts waits for."""


class ParcelSoFar(OrderParcel):
    """One parcel, for a saga that goes on in another run."""

    quiet_since: datetime | None = None
    """When it was last heard of, or last decided about."""
    answer_until: datetime | None = None
    """Until when its customer is asked whether to wait for its goods."""


class TakenSoFar(Contract):
    """What was taken for a parcel that has left; nothing, if that was given up."""

    parcel: ParcelNumber
    amount: Money


class CardDue(Contract):
    """The card was declined after the order was confirmed, and another one may be tried."""

    until: datetime
    parcel: ParcelNumber | None = None
    """It has left, and is not paid for; None: what has not left is to be held."""


class HoldSoFar(Contract):
    """What is held of an order whose money is taken as its parcels leave, for a saga that goes on in another run."""

    attempt: Annotated[int, Field(ge=1, le=20)] | None = None
    """Which attempt to pay holds it; None: none does any more."""
    until: datetime | None = None
    renew_at: datetime | None = None
    card: PaymentToken | None = None
    """Which is charged; None: the one that came with the order."""
    taken: Annotated[tuple[TakenSoFar, ...], Field(max_length=20)] = ()
    due: Annotated[tuple[CardDue, ...], Field(max_length=20)] = ()


class UnitsCancelled(Contract):
    """A wish for some units that was carried out."""

    request: CancelRequest
    reply: CancelReply


class OrderSoFar(Contract):
    """What a saga that goes on in another run of its workflow has to know: after many events, or when it is repaired."""

    status: OrderStatus
    reached: int
    """How many statuses the order has reached, this one included."""
    timeline: tuple[TimelineEntry, ...] = ()
    outcome: Outcome | None = None
    code: ErrorCode | None = None
    detail: str | None = None
    review_reason: str | None = None
    review_until: datetime | None = None
    parcel: ParcelNumber = 1
    """Which of its parcels is on its way."""
    parcels: ParcelNumber = 1
    """How many were tried to be sent."""
    all_parcels: Annotated[tuple[ParcelSoFar, ...], Field(max_length=20)] = ()
    """Each of them, if there is more to know than one parcel of everything. Then what is said of one parcel does not count."""
    attempt: Annotated[int, Field(ge=1, le=20)] = 1
    """Which attempt to pay it came to last."""
    declined: Outcome | None = None
    """While another card may be tried: what the client was told, with until when."""
    action: ActionDue | None = None
    """What the customer has to do, while its status is ACTION_REQUIRED."""
    pay_until: datetime | None = None
    """Until when another card may be tried, if the one that the customer has to confirm is declined; None: no card was declined
    before."""
    hold: HoldSoFar | None = None
    """Of an order whose money is taken as its parcels leave; None then: it is not known."""
    refunded: Money | None = None
    """What went back to the customer so far."""
    warehouse_id: str | None = None
    tracking_number: str | None = None
    trouble: Trouble | None = None
    given_up: tuple[str, ...] = ()
    """Undos that were ended by hand without being done."""
    quiet_since: datetime | None = None
    """When the parcel was last heard of, or last decided about."""
    cancel: CancelRequest | None = None
    """A wish to cancel that has to be carried out."""
    amendment: Annotated[int, Field(ge=0, le=1000)] = 0
    """The number of the last amendment that was carried out or refused; 0: there was none."""
    closed: Money | None = None
    """What had gone back when the order was amended: `refunded` counts anew since."""
    cancelled_units: Annotated[tuple[UnitsCancelled, ...], Field(max_length=20)] = ()
    """Wishes for some units that were carried out: whoever repeats one is told the same."""


class OrderRun(PlaceOrder):
    """Argument of the workflow. A PlaceOrder is one too: that of an order at its beginning."""

    so_far: OrderSoFar | None = None

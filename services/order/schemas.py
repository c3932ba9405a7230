"""Bodies of the public endpoints, beside those in `contracts.orders`."""

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from contracts.address import Address
from contracts.base import LARGEST_QUANTITY, Contract, ParcelNumber, Reason, Request, Timestamp
from contracts.errors import ErrorCode, Problem
from contracts.money import Money
from contracts.orders import CaptureAt, LineUnits, OrderLine, OrderState, OrderStatus, Outcome, TimelineEntry
from contracts.parcels import OrderParcel, ParcelChoice, ParcelStatus, Trouble
from contracts.payment_actions import ActionDue
from contracts.pricing import DiscountKind, OrderCharges
from services.order.model import DiscountTerms

if TYPE_CHECKING:
    from services.order.model import Discount, Order, Quote, Redemption

PLACE_EXAMPLES: Any = {
    "two products": {
        "value": {
            "lines": [{"product_id": "1029743", "quantity": 2}, {"product_id": "1082185", "quantity": 1}],
            "ship_to": {
                "name": "Ada Lovelace",
                "line1": "1 Market Street",
                "city": "San Francisco",
                "region": "CA",
                "postal_code": "94105",
                "country": "US",
            },
            "payment_token": "pm_card_visa",
        }
    },
    "express, with a discount code": {
        "value": {
            "lines": [{"product_id": "1029743", "quantity": 1}],
            "ship_to": {
                "name": "Ada Lovelace",
                "line1": "100 King Street West",
                "city": "Toronto",
                "region": "ON",
                "postal_code": "M5X 1A9",
                "country": "CA",
            },
            "payment_token": "pm_card_visa",
            "shipping": "express",
            "discount_codes": ["WELCOME10"],
        }
    },
    "from one store": {
        "value": {
            "lines": [{"product_id": "1029743", "quantity": 1}],
            "ship_to": {
                "name": "Ada Lovelace",
                "line1": "Unter den Linden 1",
                "city": "Berlin",
                "postal_code": "10117",
                "country": "DE",
            },
            "payment_token": "pm_card_visa",
            "warehouse_id": "367",
        }
    },
}


_NOT_QUOTED = ("payment_token", "quote_id")
QUOTE_EXAMPLES: Any = {
    name: {"value": {field: value for field, value in example["value"].items() if field not in _NOT_QUOTED}}
    for name, example in PLACE_EXAMPLES.items()
}


class QuoteView(Contract):
    """What an order costs, and until when it may be ordered at that."""

    quote_id: UUID
    """Of the order that takes it."""
    valid_until: datetime
    lines: tuple[OrderLine, ...]
    charges: OrderCharges

    @classmethod
    def of(cls, quote: "Quote") -> Self:
        priced = quote.priced
        return cls(quote_id=quote.quote_id, valid_until=quote.valid_until, lines=priced.lines, charges=priced.charges)


class ReasonBody(Request):
    """Why somebody cancels or decides."""

    reason: Reason


class CancelBody(ReasonBody):
    """Why somebody cancels, and what of the order."""

    lines: Annotated[list[LineUnits], Field(min_length=1, max_length=100)] | None = None
    """Only so many units of these lines; left out: all of the order."""


class ParcelDecisionBody(ReasonBody):
    """What is done about a parcel that does not arrive, and why."""

    choice: ParcelChoice
    parcel: ParcelNumber | None = None
    """Which parcel of the order; it may be left out, if one alone is in trouble."""


class ParcelSplitBody(ReasonBody):
    """What of a parcel goes in another one, and why."""

    lines: Annotated[list[LineUnits], Field(min_length=1, max_length=100)]


SPLIT_EXAMPLES: Any = {
    "one unit is missing": {"value": {"lines": [{"line_id": 1, "quantity": 1}], "reason": "One was broken on the shelf"}}
}
PAY_EXAMPLES: Any = {"another card": {"value": {"payment_token": "pm_card_visa"}}}
SHORTAGE_EXAMPLES: Any = {
    "wait": {"value": {"choice": "wait"}},
    "without them": {"value": {"choice": "drop"}},
    "not at all": {"value": {"choice": "refuse"}},
}
CANCEL_EXAMPLES: Any = {
    "changed mind": {"value": {"reason": "Ordered by mistake"}},
    "one unit less": {"value": {"reason": "One is enough", "lines": [{"line_id": 1, "quantity": 1}]}},
}
DECISION_EXAMPLES: Any = {"known customer": {"value": {"reason": "Known customer, called back"}}}
PARCEL_DECISION_EXAMPLES: Any = {
    "send it again": {"value": {"choice": "resend", "reason": "Asked the customer, who still wants it"}}
}


class ParcelLineView(Contract):
    """Units of one line of the order that are in a parcel."""

    line_id: int
    product_id: str
    quantity: int


class ParcelView(Contract):
    """A parcel of an order as its customer sees it."""

    parcel: int
    status: ParcelStatus
    lines: tuple[ParcelLineView, ...] = ()
    warehouse_id: str | None = None
    """Which warehouse sends it; null while its goods are awaited."""
    tracking_number: str | None = None
    expected_on: date | None = None
    """When its goods should be in stock, while they are awaited; null then: nobody knows."""
    resent_as: int | None = None
    """The parcel that took its place, if it did not arrive."""

    @classmethod
    def of(cls, parcel: OrderParcel) -> Self:
        return cls.model_validate(parcel.model_dump())


class StaffParcelView(ParcelView):
    """The same as staff see it."""

    trouble: Trouble | None = None
    """Why it does not arrive."""


class OrderView(Contract):
    """An order as its customer sees it, at one moment."""

    order_id: UUID
    customer_id: UUID
    status: OrderStatus
    lines: tuple[OrderLine, ...]
    total: Money
    charges: OrderCharges | None = None
    """What the total is made of; null only of orders from before there were shipping and tax."""
    refunded: Money
    """What went back to the customer."""
    ship_to: Address
    warehouse_id: str | None = None
    code: ErrorCode | None = None
    """Why it ended, if it was refused or cancelled."""
    detail: str | None = None
    """The same in plain words, or what it waits for."""
    tracking_number: str | None = None
    placed_at: datetime
    confirmed_at: datetime | None = None
    updated_at: datetime

    @classmethod
    def confirmed(cls, order: "Order", outcome: Outcome) -> Self:
        """The order as it was confirmed: made of what never changes, so that whoever repeats the request gets the same."""
        return cls(
            order_id=order.order_id,
            customer_id=order.customer_id,
            status=outcome.status,
            lines=order.order_lines,
            total=order.total,
            charges=order.order_charges,
            refunded=Money.zero(order.currency),
            ship_to=Address.model_validate(order.ship_to),
            warehouse_id=outcome.warehouse_id,
            detail=outcome.detail,
            tracking_number=outcome.tracking_number,
            placed_at=order.placed_at,
            confirmed_at=outcome.at,
            updated_at=outcome.at or order.placed_at,
        )


class CurrentOrderView(OrderView):
    """An order as its customer sees it now."""

    version: int
    """It rises with every change, and is the order's ETag."""
    parcels: tuple[ParcelView, ...] = ()
    """What it is sent in; none before its goods are reserved."""
    capture_at: CaptureAt
    """When its money is taken: when it is confirmed, or for each parcel when that leaves."""
    cancelled: tuple[LineUnits, ...] = ()
    """How many units of which of its lines were cancelled, or left out because they were out of stock."""
    pay_until: datetime | None = None
    """Until when another card may be tried: while its status is PAYMENT_DUE, or, of an order whose money is taken as its parcels
    leave, while less could be held or taken than it needs."""
    payment_action: ActionDue | None = None
    """What its customer has to do to pay, e.g. to confirm it on a page of the bank, and by when: while its status is
    ACTION_REQUIRED."""

    @classmethod
    def of(cls, order: "Order", **more: Any) -> Self:
        """The order as it is now."""
        more.setdefault("parcels", tuple(map(ParcelView.of, order.order_parcels)))
        return cls(
            order_id=order.order_id,
            customer_id=order.customer_id,
            status=order.status,
            lines=order.order_lines,
            total=order.total,
            charges=order.order_charges,
            refunded=order.refunded,
            ship_to=Address.model_validate(order.ship_to),
            warehouse_id=order.warehouse_id,
            code=ErrorCode(order.code) if order.code else None,
            detail=order.detail,
            tracking_number=order.tracking_number,
            placed_at=order.placed_at,
            confirmed_at=order.confirmed_at,
            updated_at=order.updated_at,
            version=order.version,
            capture_at=order.is_paid_at,
            cancelled=tuple(LineUnits(line_id=line_id, quantity=units) for line_id, units in order.cancelled_units.items()),
            pay_until=order.pay_until,
            payment_action=order.payment_action,
            **more,
        )


class StaffOrderView(CurrentOrderView):
    """An order as staff see it, who may have to decide about it; one of their own they see as its customer."""

    review_reason: str | None = None
    """Why it was held for review."""
    for_staff: str | None = None
    """What `detail` does not say to the customer: who decided and why, what failed."""
    trouble: Trouble | None = None
    """Why its parcel does not arrive."""
    parcels: tuple[StaffParcelView, ...] = ()
    waiting_for: str | None = None
    """In plain words; null if its saga did not answer in time, or has ended. Then the three that follow are empty."""
    choices: tuple[ParcelChoice, ...] = ()
    """What may be decided about its parcel now."""
    stuck_undos: tuple[str, ...] = ()
    """Undos that do not succeed, and are being retried."""
    given_up: tuple[str, ...] = ()
    """Undos that were ended by hand without being done, each with by whom and why."""

    @classmethod
    def of_saga(cls, order: "Order", state: OrderState | None) -> Self:
        """The order as it is now, and what its saga tells of it, if that answered."""
        return cls.of(
            order,
            review_reason=order.review_reason,
            for_staff=order.for_staff,
            trouble=Trouble(order.trouble) if order.trouble else None,
            parcels=tuple(map(StaffParcelView.of, order.order_parcels)),
            waiting_for=state.waiting_for if state else None,
            choices=state.choices if state else (),
            stuck_undos=state.stuck_undos if state else (),
            given_up=state.given_up if state else (),
        )


class ErasureProgress(Contract):
    """How far the orders of a customer are who is to be forgotten."""

    customer_id: UUID
    requested_at: datetime
    orders_left: int
    """Orders that are open, or that still name the customer."""
    forgotten_at: datetime | None
    """Since when none does, and their histories cannot be read any more; null while there are some."""


class StaleOrder(Problem):
    """The order is no longer what the client has seen."""

    current_version: int
    current: StaffOrderView | CurrentOrderView
    """The order as its record is now."""


class PaymentDue(Problem):
    """The card was declined, and another one may be tried."""

    order_id: UUID
    pay_until: datetime
    decline_code: str | None = None
    """The bank's word."""


class OrderSummary(Contract):
    """An order in a list."""

    order_id: UUID
    customer_id: UUID
    status: OrderStatus
    total: Money
    refunded: Money
    code: ErrorCode | None = None
    tracking_number: str | None = None
    placed_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, order: "Order") -> Self:
        return cls(
            order_id=order.order_id,
            customer_id=order.customer_id,
            status=order.status,
            total=order.total,
            refunded=order.refunded,
            code=ErrorCode(order.code) if order.code else None,
            tracking_number=order.tracking_number,
            placed_at=order.placed_at,
            updated_at=order.updated_at,
        )


class TimelineItem(Contract):
    """One thing that happened to an order."""

    at: datetime
    what: str
    status: OrderStatus
    """Where the order was then."""
    detail: str | None = None

    @classmethod
    def of(cls, entry: TimelineEntry) -> Self:
        return cls.model_validate(entry.model_dump())


class StaffTimelineItem(TimelineItem):
    """The same, with what only staff may know."""

    for_staff: str | None = None
    """Who decided and why, which error came from where."""


class OrderTimeline(Contract):
    """What happened to an order, oldest first."""

    order_id: UUID
    source: Literal["workflow", "history"]
    """Who told it: the saga itself, in full; or, when it cannot be asked, the order's record."""
    entries: tuple[TimelineItem, ...]


class StaffOrderTimeline(OrderTimeline):
    """The same for staff."""

    entries: tuple[StaffTimelineItem, ...]


DISCOUNT_EXAMPLES: Any = {
    "ten percent, once a customer": {
        "value": {"kind": "percent", "percent": "10", "valid_until": "2030-01-01T00:00:00Z", "max_uses_per_customer": 1}
    },
    "five dollars off fifty": {
        "value": {
            "kind": "amount",
            "amount": {"amount": "5.00", "currency": "USD"},
            "minimum": {"amount": "50.00", "currency": "USD"},
            "max_uses": 1000,
        }
    },
    "free shipping, with other codes": {"value": {"kind": "free_shipping", "combinable": True}},
}


def _exact(money: Money) -> Money:
    if money.minor <= 0 or Money.from_minor(money.minor, money.currency).amount != money.amount:
        raise ValueError("is more than nothing, in coins that there are")
    return money


_Amount = Annotated[Money, AfterValidator(_exact)]
_Uses = Annotated[int, Field(ge=1, le=LARGEST_QUANTITY, strict=True)]
_Percent = Annotated[
    Decimal,
    Field(gt=0, le=100, max_digits=5, decimal_places=2),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                {"type": "string", "pattern": r"^\d{1,3}(\.\d{1,2})?$"},
            ]
        },
        mode="validation",
    ),
]


class DiscountBody(Request):
    """What a code takes off, from which orders, and how often."""

    kind: DiscountKind
    percent: _Percent | None = None
    """Of a `percent`: of what the goods cost."""
    amount: _Amount | None = None
    """Of an `amount`."""
    minimum: _Amount | None = None
    """What the goods of an order must cost at least."""
    valid_from: Timestamp | None = None
    valid_until: Timestamp | None = None
    """From when on it is no longer valid."""
    max_uses: _Uses | None = None
    """How many orders may use it; those that were cancelled do not count."""
    max_uses_per_customer: _Uses | None = None
    combinable: bool = False
    """Whether an order may use it together with other codes that are combinable, too."""
    enabled: bool = True

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.percent is not None) != (self.kind == DiscountKind.PERCENT):
            raise ValueError("a percentage, and nothing else, has percent")
        if (self.amount is not None) != (self.kind == DiscountKind.AMOUNT):
            raise ValueError("an amount, and nothing else, has amount")
        if self.amount and self.minimum and self.amount.currency != self.minimum.currency:
            raise ValueError("amount and minimum are in one currency")
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise ValueError("valid_until is after valid_from")
        return self

    @property
    def terms(self) -> DiscountTerms:
        return DiscountTerms(**{name: getattr(self, name) for name in DiscountBody.model_fields})


class DiscountView(Contract):
    """A discount code and its terms."""

    code: str
    kind: DiscountKind
    percent: Decimal | None
    amount: Money | None
    minimum: Money | None
    valid_from: datetime | None
    valid_until: datetime | None
    max_uses: int | None
    max_uses_per_customer: int | None
    combinable: bool
    enabled: bool
    created_at: datetime
    updated_at: datetime
    version: int
    """Stands in the ETag; send it back as If-Match to change only what you have seen. To be used does not change it."""

    @classmethod
    def of(cls, discount: "Discount", **more: Any) -> Self:
        names = DiscountView.model_fields
        return cls(**{name: getattr(discount, name) for name in names}, **more)


class UsedDiscountView(DiscountView):
    """The same, and how often it is used."""

    times_used: int
    """By orders that were not cancelled."""


class StaleDiscount(Problem):
    """The code is no longer what the client has seen."""

    current_version: int
    current: DiscountView


class RedemptionView(Contract):
    """An order that uses a code."""

    order_id: UUID
    customer_id: UUID
    amount: Money
    """What the code took off."""
    redeemed_at: datetime
    given_back_at: datetime | None
    """Since when it no longer counts, because the order was cancelled."""

    @classmethod
    def of(cls, redemption: "Redemption") -> Self:
        return cls(**{name: getattr(redemption, name) for name in cls.model_fields})

"""Discount codes: what they take off, which orders may use them, and their uses, which count until their order is cancelled.

A code is looked at twice. What it takes off, and for which orders it is, is settled when the order is priced; whether there are
uses of it left, when the order is accepted, while the count of its uses is locked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, text
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.money import Money
from contracts.orders import PlaceOrder
from contracts.pricing import AppliedDiscount, DiscountKind, OrderCharges
from services.order.model.order import Order, Table, json_column
from services.order.model.pricing import Reduction


class Reason(StrEnum):
    """Why an order cannot use a code. Clients branch on these as on error codes: never rename one."""

    UNKNOWN = "unknown"
    REPEATED = "repeated"
    DISABLED = "disabled"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    OTHER_CURRENCY = "other_currency"
    MINIMUM_NOT_REACHED = "minimum_not_reached"
    NOT_COMBINABLE = "not_combinable"
    USED_UP = "used_up"
    USED_UP_BY_CUSTOMER = "used_up_by_customer"


@dataclass(frozen=True)
class DiscountTerms:
    """What staff say about a code: what it takes off, from which orders, and how often."""

    kind: DiscountKind
    percent: Decimal | None = None
    """Of a percentage: more than 0, at most 100, in hundredths."""
    amount: Money | None = None
    """Of an amount."""
    minimum: Money | None = None
    """What the goods of an order must cost at least."""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    """From when on it is no longer valid."""
    max_uses: int | None = None
    max_uses_per_customer: int | None = None
    combinable: bool = False
    """Whether an order may use it together with other codes that are combinable, too."""
    enabled: bool = True


class Discount(Table, Aggregate, table=True):
    """A code and its terms. Its uses are counted apart (`DiscountUses`), so that its version rises only when staff change it."""

    __tablename__ = "discounts"
    __table_args__ = (
        CheckConstraint("(kind = 'percent') = (basis_points is not null)", name="percent"),
        CheckConstraint("(kind = 'amount') = (amount_minor is not null)", name="amount"),
        CheckConstraint("currency is not null or (amount_minor is null and minimum_minor is null)", name="in_a_currency"),
    )

    code: str = Field(primary_key=True, max_length=40)
    kind: DiscountKind = Field(sa_column=enum_column(DiscountKind))
    basis_points: int | None = None
    """Of a percentage: hundredths of a percent."""
    amount_minor: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    minimum_minor: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    currency: str | None = Field(default=None, max_length=3)
    """Of the amount and of the minimum; null: it is for orders in any currency."""
    valid_from: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    valid_until: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    max_uses: int | None = None
    max_uses_per_customer: int | None = None
    combinable: bool = False
    enabled: bool = True
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    updated_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @classmethod
    def new(cls, code: str, terms: DiscountTerms) -> Self:
        """A code that was just thought of."""
        discount = cls(code=code, kind=terms.kind)
        discount._take(terms)
        return discount

    @property
    def percent(self) -> Decimal | None:
        return None if self.basis_points is None else Decimal(self.basis_points) / 100

    @property
    def amount(self) -> Money | None:
        return self._money(self.amount_minor)

    @property
    def minimum(self) -> Money | None:
        return self._money(self.minimum_minor)

    @property
    def terms(self) -> DiscountTerms:
        return DiscountTerms(
            kind=self.kind,
            percent=self.percent,
            amount=self.amount,
            minimum=self.minimum,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            max_uses=self.max_uses,
            max_uses_per_customer=self.max_uses_per_customer,
            combinable=self.combinable,
            enabled=self.enabled,
        )

    def change(self, terms: DiscountTerms) -> None:
        """Other terms, for orders that are priced from now on. What was used stays used, also beyond a lower limit. To repeat it
        changes nothing."""
        if terms != self.terms:
            self._take(terms)
            self.updated_at = utc_now()

    def disable(self) -> None:
        """No order is accepted with it any more. To repeat it changes nothing."""
        if self.enabled:
            self.enabled = False
            self.updated_at = utc_now()

    def reduction(self) -> Reduction:
        """What it takes off."""
        return Reduction(code=self.code, kind=self.kind, percent=self.percent, amount_minor=self.amount_minor)

    def kept_terms(self) -> dict[str, Any]:
        """What an order that uses it keeps of it."""
        return {"basis_points": self.basis_points, "amount_minor": self.amount_minor, "minimum_minor": self.minimum_minor}

    def refuses(self, items: Money, at: datetime) -> Reason | None:
        """Why it is not for an order whose goods cost this; None if it is."""
        if not self.enabled:
            return Reason.DISABLED
        if self.valid_from is not None and at < self.valid_from:
            return Reason.NOT_YET_VALID
        if self.valid_until is not None and at >= self.valid_until:
            return Reason.EXPIRED
        if self.currency is not None and self.currency != items.currency:
            return Reason.OTHER_CURRENCY
        if self.minimum is not None and not items >= self.minimum:
            return Reason.MINIMUM_NOT_REACHED
        return None

    def _take(self, terms: DiscountTerms) -> None:
        """ValueError: the terms contradict each other."""
        amounts = [money for money in (terms.amount, terms.minimum) if money is not None]
        if len({money.currency for money in amounts}) > 1:
            raise ValueError("a code has one currency")
        self.kind = terms.kind
        self.basis_points = None if terms.percent is None else int(terms.percent * 100)
        self.amount_minor = None if terms.amount is None else terms.amount.minor
        self.minimum_minor = None if terms.minimum is None else terms.minimum.minor
        self.currency = amounts[0].currency if amounts else None
        self.valid_from, self.valid_until = terms.valid_from, terms.valid_until
        self.max_uses, self.max_uses_per_customer = terms.max_uses, terms.max_uses_per_customer
        self.combinable, self.enabled = terms.combinable, terms.enabled

    def _money(self, minor: int | None) -> Money | None:
        return None if minor is None or self.currency is None else Money.from_minor(minor, self.currency)


class DiscountUses(Table, table=True):
    """How many orders use a code. Whoever uses it or gives it back locks this row: so a limit holds, whoever comes at once."""

    __tablename__ = "discount_uses"
    __table_args__ = (CheckConstraint("times_used >= 0", name="not_negative"),)

    code: str = Field(primary_key=True, max_length=40)
    times_used: int = 0
    """Redemptions that were not given back."""


class Redemption(Table, table=True):
    """An order uses a code. It names nobody but by ids."""

    __tablename__ = "redemptions"
    __table_args__ = (
        Index("ix_redemptions_code", "code", "redeemed_at", "order_id"),
        Index("ix_redemptions_customer", "customer_id", "code", postgresql_where=text("given_back_at is null")),
    )

    order_id: UUID = Field(primary_key=True)
    code: str = Field(primary_key=True, max_length=40)
    customer_id: UUID
    amount_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    """What it took off."""
    currency: str = Field(max_length=3)
    redeemed_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    given_back_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Since when it no longer counts, because its order was cancelled, or amended so that the code takes nothing off."""
    terms: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """The code's `basis_points`, `amount_minor` and `minimum_minor` when the order was accepted: they hold for the order, also if
    it is amended. Null in rows of before that was kept."""

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)


@dataclass(frozen=True)
class Standing:
    """A code, and how often it is used."""

    discount: Discount
    times_used: int
    used_by_customer: int
    """By the customer whose order it is."""

    def refuses(self) -> Reason | None:
        """Why it cannot be used once more; None if it can."""
        discount = self.discount
        if not discount.enabled:
            return Reason.DISABLED
        if discount.max_uses is not None and self.times_used >= discount.max_uses:
            return Reason.USED_UP
        if discount.max_uses_per_customer is not None and self.used_by_customer >= discount.max_uses_per_customer:
            return Reason.USED_UP_BY_CUSTOMER
        return None


NO_CODES: Mapping[str, Standing] = {}
"""Of an order without codes."""


def reductions(codes: Sequence[str], standings: Mapping[str, Standing], items: Money, at: datetime) -> tuple[Reduction, ...]:
    """What these codes take off an order whose goods cost `items`, in the codes' sequence.

    Refusal: discount_refused, naming each code that the order cannot use, and why."""
    refused = {n: reason for n, code in enumerate(codes) if (reason := _refused(n, codes, standings, items, at))}
    if refused:
        raise _refusal(codes, refused, standings)
    return tuple(standings[code].discount.reduction() for code in codes)


def redeem(
    order: PlaceOrder, asked: Sequence[str], standings: Mapping[str, Standing], uses: Iterable[DiscountUses]
) -> list[Redemption]:
    """Count one more use of each code that took something off an order; `uses` are their rows, locked, and `standings` were read
    after that. `asked`: all codes of the request, in its sequence.

    Refusal: discount_refused. What the codes take off was settled when the order was priced, and holds."""
    applied = {discount.code: discount.amount for discount in discounts_of(order)}
    named = [*asked, *(code for code in applied if code not in asked)]
    refused = {n: reason for n, code in enumerate(named) if code in applied and (reason := standings[code].refuses())}
    if refused:
        raise _refusal(named, refused, standings)
    for row in uses:
        row.times_used += 1
    return [
        Redemption(
            order_id=order.order_id,
            code=code,
            customer_id=order.customer_id,
            amount_minor=amount.minor,
            currency=amount.currency,
            terms=standings[code].discount.kept_terms(),
        )
        for code, amount in applied.items()
    ]


def discounts_of(order: PlaceOrder) -> Sequence[AppliedDiscount]:
    """The codes that took something off an order, and what."""
    return order.charges.discounts if order.charges else ()


def codes_of(order: Order) -> Sequence[str]:
    """The codes that took something off an order that was accepted."""
    return [discount["code"] for discount in (order.charges or {}).get("discounts", ())]


def give_back(redemptions: Iterable[Redemption], uses: Iterable[DiscountUses]) -> None:
    """A cancelled order uses its codes no longer; each is given back once. `uses`: their rows, locked."""
    counted = {row.code: row for row in uses}
    for redemption in redemptions:
        if redemption.given_back_at is None:
            redemption.given_back_at = utc_now()
            counted[redemption.code].times_used -= 1


def take_over(charges: OrderCharges | None, redemptions: Iterable[Redemption], uses: Iterable[DiscountUses]) -> None:
    """An amended order uses its codes as its new charges say; those that take nothing off any more are given back. `uses`: their
    rows, locked."""
    applied = {discount.code: discount.amount for discount in charges.discounts} if charges else {}
    gone = []
    for redemption in redemptions:
        if amount := applied.get(redemption.code):
            redemption.amount_minor = amount.minor
        else:
            gone.append(redemption)
    give_back(gone, uses)


def no_such_discount() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such discount code.")


def _refused(n: int, codes: Sequence[str], standings: Mapping[str, Standing], items: Money, at: datetime) -> Reason | None:
    code = codes[n]
    if code in codes[:n]:
        return Reason.REPEATED
    if code not in standings:
        return Reason.UNKNOWN
    standing = standings[code]
    reason = standing.discount.refuses(items, at) or standing.refuses()
    if reason is None and len(codes) > 1 and not standing.discount.combinable:
        return Reason.NOT_COMBINABLE
    return reason


def _refusal(codes: Sequence[str], refused: Mapping[int, Reason], standings: Mapping[str, Standing]) -> Refusal:
    errors = [
        FieldError(field=f"discount_codes.{n}", code=reason, detail=_in_words(codes[n], reason, standings.get(codes[n])))
        for n, reason in refused.items()
    ]
    detail = " ".join(error.detail for error in errors)
    return Refusal(ErrorCode.DISCOUNT_REFUSED, detail, extra={"errors": [error.model_dump(mode="json") for error in errors]})


def _in_words(code: str, reason: Reason, standing: Standing | None) -> str:
    terms = standing and standing.discount.terms
    match reason:
        case Reason.UNKNOWN:
            return f"There is no code {code}."
        case Reason.REPEATED:
            return f"{code} is there twice."
        case Reason.DISABLED | Reason.EXPIRED:
            return f"{code} is no longer valid."
        case Reason.NOT_YET_VALID:
            return f"{code} is not valid yet."
        case Reason.OTHER_CURRENCY:
            return f"{code} is for orders in another currency."
        case Reason.MINIMUM_NOT_REACHED:
            return f"{code} is for orders of at least {terms.minimum if terms else 'more'}."
        case Reason.NOT_COMBINABLE:
            return f"{code} cannot be used together with another code."
        case Reason.USED_UP:
            return f"{code} has been used as often as it may be."
        case Reason.USED_UP_BY_CUSTOMER:
            return f"You have used {code} as often as one customer may."

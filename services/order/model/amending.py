"""Amendments of an order before anything of it has left: what it is and costs then, and the record of each."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import BigInteger, Column, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.idempotency import IdempotencyKey
from contracts.address import Address
from contracts.catalog import CatalogProduct
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.events import OrderAmended
from contracts.money import Money
from contracts.orders import Amendment, AmendmentOutcome, AmendmentTerms, OrderLine, OrderStatus, Speed
from contracts.parcels import HAS_LEFT, ParcelStatus
from contracts.pricing import OrderCharges
from contracts.shipments import Tariff
from services.order.model.discounts import Discount, Redemption
from services.order.model.order import Order, Table
from services.order.model.placing import Terms, invalid, parcel_of, require_one_currency
from services.order.model.pricing import Priced, Reduction, price
from services.order.ports import TaxRate

MOST_LINES = 100
MOST_AMENDMENTS = MOST_LINE_IDS = 1000
_DISPATCHED = frozenset(
    {OrderStatus.PARTIALLY_SHIPPED, OrderStatus.SHIPPED, OrderStatus.UNDELIVERED, OrderStatus.DELIVERED, OrderStatus.COMPLETED}
)


class AmendmentStatus(StrEnum):
    """ASKED: its saga has not answered yet."""

    ASKED = "ASKED"
    APPLIED = "APPLIED"
    REFUSED = "REFUSED"


class OrderAmendment(Table, table=True):
    """An amendment that was asked for, with the terms that its saga gets, and what came of it."""

    __tablename__ = "amendments"
    __table_args__ = (Index("ix_amendments_key", "order_id", "key_hash", unique=True),)

    order_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    status: AmendmentStatus = Field(sa_column=enum_column(AmendmentStatus))
    key_hash: str = Field(max_length=64)
    """Of the caller and the Idempotency-Key: whoever repeats the request gets this amendment."""
    fingerprint: str | None = Field(default=None, max_length=64)
    """Of the request's body; null once its customer is forgotten."""
    terms: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    """Amendment, without the card."""
    before: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    """The order's `lines` and `charges` when it was asked for."""
    first_new_line_id: int
    """Lines from this id on are new with it."""
    code: str | None = Field(default=None, max_length=60)
    """Why it came to nothing: an ErrorCode."""
    detail: str | None = None
    charged_minor: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    given_back_minor: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    closed_minor: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    """What has gone back and is no part of what the order tells as refunded from then on."""
    asked_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    answered_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))

    @property
    def amendment(self) -> Amendment:
        """As its saga gets it, but for the card."""
        return Amendment.model_validate(self.terms)

    @property
    def charges_before(self) -> OrderCharges | None:
        return OrderCharges.model_validate(self.before["charges"]) if self.before["charges"] else None

    @property
    def lines_before(self) -> tuple[OrderLine, ...]:
        return tuple(map(OrderLine.model_validate, self.before["lines"]))

    @property
    def refusal(self) -> Refusal | None:
        """Why it came to nothing, if it did."""
        return Refusal(ErrorCode(self.code), self.detail or "") if self.code else None

    @classmethod
    def asked(cls, order: Order, amended: "Amended", key: IdempotencyKey, earlier: Sequence["OrderAmendment"], by: str) -> Self:
        """The next one of an order. Refusal: not_amendable, if there were too many."""
        number = max((each.number for each in earlier), default=0) + 1
        if number > MOST_AMENDMENTS:
            raise Refusal(ErrorCode.NOT_AMENDABLE, "The order was amended too often; cancel it, and order anew.")
        amendment = Amendment(
            number=number,
            lines=amended.priced.lines,
            total=amended.priced.charges.total,
            charges=amended.priced.charges,
            ship_to=amended.ship_to,
            shipping=amended.shipping,
            owed_before=amended.owed_before,
            by=by,
            by_staff=by != "customer",
        )
        return cls(
            order_id=order.order_id,
            number=number,
            status=AmendmentStatus.ASKED,
            key_hash=key_hash(key),
            fingerprint=key.fingerprint,
            terms=amendment.model_dump(mode="json"),
            before={"lines": order.lines, "charges": order.charges},
            first_new_line_id=amended.first_new_line_id,
        )

    def require_asked_by(self, fingerprint: str) -> None:
        """Refusal: idempotency_key_reused, if another request asked for it."""
        if self.fingerprint != fingerprint:
            raise Refusal(ErrorCode.IDEMPOTENCY_KEY_REUSED, "This Idempotency-Key was used with another body.")

    def refuse(self, refusal: Refusal) -> None:
        """It came to nothing, unless its saga has told what came of it."""
        if self.status == AmendmentStatus.ASKED:
            self.status, self.code, self.detail = AmendmentStatus.REFUSED, refusal.code, refusal.detail
            self.answered_at = utc_now()

    def answer(self, told: AmendmentOutcome) -> bool:
        """What its saga tells; whether it was carried out, which is told once."""
        if self.status == AmendmentStatus.APPLIED:
            return False
        self.closed_minor = told.closed.minor
        if told.code is not None:
            self.refuse(Refusal(told.code, told.detail or ""))
            return False
        self.status, self.code, self.detail, self.answered_at = AmendmentStatus.APPLIED, None, None, utc_now()
        self.charged_minor, self.given_back_minor = told.charged.minor, told.given_back.minor
        return True

    def apply_to(self, order: Order) -> OrderAmended:
        """The order is what this says from now on; the event that tells so."""
        amendment, total_before = self.amendment, order.total
        order.lines, order.charges, order.ship_to = self.terms["lines"], self.terms["charges"], self.terms["ship_to"]
        order.total_minor, order.refunded_minor = amendment.total.minor, 0
        order.amended = amendment.number
        order.updated_at = utc_now()
        return OrderAmended(
            order_id=order.order_id,
            customer_id=order.customer_id,
            number=self.number,
            lines=amendment.lines,
            total=amendment.total,
            charges=amendment.charges,
            lines_before=self.lines_before,
            total_before=total_before,
            charges_before=self.charges_before,
            charged=Money.from_minor(self.charged_minor, order.currency),
            given_back=Money.from_minor(self.given_back_minor, order.currency),
        )

    def forget_person(self) -> None:
        """Blank where it would have been sent to, and which request asked for it."""
        self.terms = self.terms | {
            "ship_to": Address.model_validate(self.terms["ship_to"]).without_person().model_dump(mode="json")
        }
        self.fingerprint, self.detail = None, None


def key_hash(key: IdempotencyKey) -> str:
    return hashlib.sha256(f"{key.scope} {key.key}".encode()).hexdigest()


# ── What an order is and costs with it ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Amended:
    """An order as it would be."""

    priced: Priced
    ship_to: Address
    shipping: Speed
    owed_before: Money
    """What the order costs without it."""
    first_new_line_id: int

    @property
    def difference(self) -> Money:
        """Below zero: it costs less."""
        return self.priced.charges.total - self.owed_before


@dataclass(frozen=True)
class PreviewedAmendment:
    """What an amendment would come to now."""

    order: Order
    amended: Amended
    needs_staff: bool
    """Whether only staff may make it: it reaches the threshold of review, and the order was not reviewed."""


def require_amendable(order: Order) -> None:
    """Refusals: already_dispatched, not_amendable. Its saga may know more; its word is the last."""
    if order.status in _DISPATCHED or any(_has_left(parcel.status) for parcel in order.told_parcels):
        raise Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel has left; it can only be returned.")
    charges = order.order_charges
    if order.status != OrderStatus.CONFIRMED or order.is_to_be_cancelled or charges is None:
        raise Refusal(ErrorCode.NOT_AMENDABLE, "Only an order that is confirmed can be amended.")
    if order.replaces is not None or charges.credit is not None:
        raise Refusal(ErrorCode.NOT_AMENDABLE, "What a return brings cannot be amended.")


def _has_left(status: ParcelStatus) -> bool:
    return status in HAS_LEFT | {ParcelStatus.RESENT, ParcelStatus.REFUNDED, ParcelStatus.UNDELIVERED}


def speed_of(order: Order) -> Speed:
    """How fast its parcels travel: what it is charged for."""
    charges = order.order_charges
    service = next((parcel.service for parcel in charges.parcels), None) if charges else None
    return Speed(service) if service in frozenset(Speed) else Speed.STANDARD


def owed_for(order: Order) -> Money:
    """What its customer pays for the parcels that count, each unit at its share of its line."""
    if not order.told_parcels:
        return order.total
    lines = lines_by_id(order)
    parts = [part for parcel in order.told_parcels if parcel.counts for part in parcel.lines]
    minor = sum(lines[part.line_id].share_of(part.first, part.quantity).total for part in parts)
    return Money.from_minor(minor, order.currency)


def lines_by_id(order: Order) -> dict[int, OrderLine]:
    """Lines of before there were ids are numbered by their place."""
    return {line.line_id or place: line for place, line in enumerate(order.order_lines, start=1)}


def amended(
    order: Order,
    wanted: AmendmentTerms,
    products: Sequence[CatalogProduct],
    *,
    tariff: Tariff,
    taxes: Sequence[TaxRate],
    terms: Terms,
    reductions: Sequence["FrozenReduction"] = (),
    earlier: Sequence[OrderAmendment] = (),
) -> Amended:
    """The whole order as it would be, priced anew: what it has keeps its price, what is new has the catalogue's; tariff and tax
    are today's of where it would go.

    Refusals: product_unknown; address_undeliverable; validation_failed, naming the lines that cannot be so, or if nothing would
    be left, or nothing be different."""
    new_id = 1 + max([0, *lines_by_id(order), *(_last_id(each) for each in earlier)])
    lines = _amended_lines(order, wanted, products, new_id)
    shipping, ship_to = wanted.shipping or speed_of(order), wanted.ship_to or Address.model_validate(order.ship_to)
    if _is_the_same(order, lines, shipping, ship_to):
        nothing = FieldError(field="lines", code="nothing_different", detail="The order is so already.")
        raise invalid("Nothing would be different.", [nothing])
    require_one_currency(lines)
    try:
        goods = Money.from_minor(sum(line.unit_price.minor * line.quantity for line in lines), order.currency)
        priced = price(
            lines,
            parcels=[parcel_of(lines, tariff, shipping)],
            reductions=[each.reduction for each in reductions if each.minimum_minor is None or goods.minor >= each.minimum_minor],
            taxes=taxes,
            prices_include_tax=terms.prices_include_tax,
            free_shipping_from=terms.free_shipping_from if shipping == Speed.STANDARD else None,
        )
    except (OverflowError, ValidationError) as error:
        too_much = FieldError(field="lines", code="total_too_large", detail="The order's total is too large.")
        raise invalid("The order is too large.", [too_much]) from error
    return Amended(priced, ship_to, shipping, owed_for(order), new_id)


def _last_id(amendment: OrderAmendment) -> int:
    """The highest id of a line that was given by then."""
    return max([amendment.first_new_line_id - 1, *(line.line_id or 0 for line in amendment.amendment.lines)])


def _amended_lines(order: Order, wanted: AmendmentTerms, products: Sequence[CatalogProduct], new_id: int) -> list[OrderLine]:
    known, by_id = lines_by_id(order), {product.product_id: product for product in products}
    missing = [line.product_id for line in wanted.lines if line.product_id and line.product_id not in by_id]
    if missing:
        raise Refusal(ErrorCode.PRODUCT_UNKNOWN, f"Not on sale: {', '.join(missing)}.", extra={"products": missing})
    changes = {line.line_id: line.quantity for line in wanted.lines if line.line_id is not None}
    units = {line_id: changes.get(line_id, now) for line_id, now in units_of(order).items()}
    kept = [
        line.model_copy(update={"line_id": line_id, "quantity": units[line_id]})
        for line_id, line in known.items()
        if units[line_id]
    ]
    errors = [
        _error(place, "line_id", "no_such_line", "The order has no such line.")
        for place, line in enumerate(wanted.lines)
        if line.line_id is not None and line.line_id not in known
    ]
    has = {line.product_id for line in kept}
    errors += [
        _error(place, "product_id", "has_a_line", "The order has a line of it; say how many units that has.")
        for place, line in enumerate(wanted.lines)
        if line.product_id in has
    ]
    added = [
        OrderLine(
            line_id=line_id,
            product_id=product.product_id,
            name=product.name,
            quantity=line.quantity,
            unit_price=product.price,
            weight_grams=product.weight_grams,
        )
        for line_id, line in enumerate((line for line in wanted.lines if line.product_id), start=new_id)
        if (product := by_id[line.product_id or ""])
    ]
    lines = [*kept, *added]
    if not errors and not lines:
        errors = [FieldError(field="lines", code="nothing_left", detail="Nothing would be left; cancel the order instead.")]
    if not errors and (len(lines) > MOST_LINES or new_id + len(added) > MOST_LINE_IDS):
        errors = [FieldError(field="lines", code="too_many", detail=f"An order has no more than {MOST_LINES} lines.")]
    if errors:
        raise invalid("The order cannot be amended so.", errors)
    return lines


def units_of(order: Order) -> dict[int, int]:
    """Units of each line that are, or will be, sent: not those that were left out or cancelled."""
    if not order.told_parcels:
        return {line_id: line.quantity for line_id, line in lines_by_id(order).items()}
    units = dict.fromkeys(lines_by_id(order), 0)
    for parcel in order.told_parcels:
        for part in parcel.lines if parcel.counts else ():
            units[part.line_id] += part.quantity
    return units


def _is_the_same(order: Order, lines: Sequence[OrderLine], shipping: Speed, ship_to: Address) -> bool:
    units = {line_id: units for line_id, units in units_of(order).items() if units}
    goes_there = shipping == speed_of(order) and ship_to == Address.model_validate(order.ship_to)
    return goes_there and {line.line_id: line.quantity for line in lines} == units


def _error(place: int, name: str, code: str, detail: str) -> FieldError:
    return FieldError(field=f"lines.{place}.{name}", code=code, detail=detail)


# ── Discount codes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class FrozenReduction:
    """What a code takes off an order that uses it, whatever has become of the code since."""

    reduction: Reduction
    minimum_minor: int | None
    """What the goods of the order must cost at least."""


def frozen_reductions(
    order: Order, redemptions: Sequence[Redemption], discounts: Mapping[str, Discount]
) -> list[FrozenReduction]:
    """Of the codes that took something off an order, in their sequence, as they were when it was placed; of orders of before that
    was kept, as they are now."""
    kept = {redemption.code: redemption for redemption in redemptions}
    charges = order.order_charges
    found = []
    for applied in charges.discounts if charges else ():
        terms = kept[applied.code].terms if applied.code in kept else None
        if terms is not None:
            percent, amount, minimum = terms["basis_points"], terms["amount_minor"], terms["minimum_minor"]
        elif applied.code in discounts:
            discount = discounts[applied.code]
            percent, amount, minimum = discount.basis_points, discount.amount_minor, discount.minimum_minor
        else:
            continue
        found.append(FrozenReduction(Reduction.of(applied.code, applied.kind, percent, amount), minimum))
    return found

"""The rules of placing an order: the address's form, what it costs, the terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import ValidationError

from chassis import postal
from chassis.clock import utc_now
from contracts.address import Address
from contracts.catalog import CatalogProduct
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.inventory import WhenShort
from contracts.money import Money
from contracts.orders import (
    CaptureAt,
    Delivery,
    LineRequest,
    OrderLine,
    PlaceOrder,
    PlaceOrderRequest,
    QuoteRequest,
    Replaces,
    Speed,
)
from contracts.payment_actions import BANK_TRANSFER
from contracts.returns import PlaceReplacement
from contracts.shipments import LookUpTariff, Tariff
from services.order.model import pricing
from services.order.model.discounts import NO_CODES, Standing, reductions
from services.order.model.order import Order
from services.order.model.pricing import PlannedParcel, Priced, Reduction
from services.order.ports import TaxRate

NO_CARD = "paid_with_credit"
"""In place of the payment token of an order that costs its customer nothing."""


@dataclass(frozen=True)
class Terms:
    """Under which an order is placed. An order of at least `review_threshold` waits for an operator before the money is taken;
    the others are how many seconds its saga waits, as `PlaceOrder` has them."""

    review_threshold: Money
    review_seconds: int
    decision_seconds: int
    dispatch_seconds: int
    silence_seconds: int
    free_shipping_from: Money | None = None
    """From what its goods cost, after reductions, an order is sent free of charge by standard."""
    prices_include_tax: bool = False
    """Whether the catalogue's prices and the tariff do."""
    quote_seconds: int = 900
    """How long a quote may be ordered."""
    pay_again_seconds: int = 0
    action_seconds: int = 900
    transfer_seconds: int = 3 * 86_400
    """The same of an order that is paid by bank transfer."""
    return_page: str | None = None
    """Where the browser of a customer goes to who was asked something by the bank, if the shop names no page. None: nobody is
    asked."""
    return_origins: frozenset[str] = frozenset()
    """Of the shop's own pages that may be named instead, e.g. `https://shop.example`."""
    answer_seconds: int = 86_400
    capture_at: CaptureAt = CaptureAt.CONFIRMATION
    """When the money is taken."""
    splits: bool = False
    """Whether an order that names no warehouse may come from several."""

    def needs_review(self, total: Money) -> bool:
        """Whether an order is held. One in a currency that the threshold does not speak of always is."""
        return total.currency != self.review_threshold.currency or total >= self.review_threshold

    def returns_to(self, url: str | None) -> str | None:
        """Where a customer's browser goes to. Refusal: validation_failed, if that is not one of the shop's pages."""
        if url is None:
            return self.return_page
        page = urlsplit(url)
        if f"{page.scheme}://{page.netloc}".lower() not in self.return_origins:
            not_ours = FieldError(field="return_url", code="unknown_origin", detail="This is not a page of the shop.")
            raise invalid("Customers do not return there.", [not_ours])
        return url


@dataclass(frozen=True)
class Destination:
    """Where an order goes, as the country's post writes it, as far as shipping and tax depend on it."""

    country: str
    region: str | None
    postal_code: str

    @property
    def tariff(self) -> LookUpTariff:
        """What shipping is asked about it."""
        return LookUpTariff.to(self.country, self.region, self.postal_code)


class KnownPlaces:
    """Places of which addresses were found to be of their country's form: most orders go to one of them, and to look again takes
    0.3 ms, or 17 in the largest countries."""

    def __init__(self, at_most: int = 10_000) -> None:
        self._at_most = at_most
        self._known: dict[tuple[str | None, ...], Destination] = {}

    def get(self, address: Address) -> Destination | None:
        """The destination of an address to a known place."""
        return self._known.get(_place(address))

    def add(self, address: Address, destination: Destination) -> None:
        """Remember the place of an address that `destination_of` has let pass. When there are too many, it begins anew."""
        if len(self._known) >= self._at_most:
            self._known.clear()
        self._known[_place(address)] = destination


def _place(address: Address) -> tuple[str | None, ...]:
    """All of an address that its form depends on."""
    return address.country, address.region, address.city, address.postal_code


def destination_of(address: Address) -> Destination:
    """Refusal: validation_failed, naming the fields that are not as addresses of that country are. Call it in a thread, as
    `chassis.postal` says."""
    written, errors = postal.normalized(address.model_dump(exclude_none=True))
    if errors:
        raise invalid("The address is not of the form that its country uses.", postal.within("ship_to", errors))
    return Destination(address.country, written["region"] or None, written["postal_code"] or address.postal_code)


def priced(
    request: QuoteRequest,
    products: Sequence[CatalogProduct],
    *,
    tariff: Tariff,
    taxes: Sequence[TaxRate],
    terms: Terms,
    standings: Mapping[str, Standing] = NO_CODES,
) -> Priced:
    """What an order costs at the catalogue's prices. It is priced as one parcel, however many it takes: see ADR 31.

    `standings`: of the request's discount codes. Refusals: product_unknown, naming them; discount_refused; address_undeliverable;
    validation_failed, if its prices do not add up to one sum of money, or if no parcel goes there as fast.
    """
    by_id = {product.product_id: product for product in products}
    missing = [line.product_id for line in request.lines if line.product_id not in by_id]
    if missing:
        raise Refusal(ErrorCode.PRODUCT_UNKNOWN, f"Not on sale: {', '.join(missing)}.", extra={"products": missing})
    lines = [_line(line, by_id[line.product_id]) for line in request.lines]
    require_one_currency(lines)
    try:
        return pricing.price(
            lines,
            parcels=[parcel_of(lines, tariff, request.shipping)],
            reductions=_reductions(request.discount_codes, lines, standings),
            taxes=taxes,
            prices_include_tax=terms.prices_include_tax,
            free_shipping_from=terms.free_shipping_from if request.shipping == Speed.STANDARD else None,
        )
    except (OverflowError, ValidationError) as error:
        too_much = FieldError(field="lines", code="total_too_large", detail="The order's total is too large.")
        raise invalid("The order is too large.", [too_much]) from error


def _reductions(codes: Sequence[str], lines: Sequence[OrderLine], standings: Mapping[str, Standing]) -> Sequence[Reduction]:
    """Refusal: discount_refused. ValidationError: the goods cost more than a sum of money can be."""
    if not codes:
        return ()
    goods = Money.from_minor(sum(line.unit_price.minor * line.quantity for line in lines), lines[0].unit_price.currency)
    return reductions(codes, standings, goods, utc_now())


def placement(
    request: PlaceOrderRequest, priced: Priced, *, order_id: UUID, customer_id: UUID, fingerprint: str, terms: Terms
) -> PlaceOrder:
    """The order as its saga gets it. Refusal: validation_failed, if its `return_url` is not a page of the shop."""
    total, by_transfer = priced.charges.total, request.payment_token == BANK_TRANSFER
    return PlaceOrder(
        order_id=order_id,
        customer_id=customer_id,
        lines=priced.lines,
        total=total,
        charges=priced.charges,
        ship_to=request.ship_to,
        payment_token=request.payment_token,
        warehouse_id=request.warehouse_id,
        delivery=request.delivery,
        when_short=request.when_short,
        shipping=request.shipping,
        may_split=terms.splits and request.warehouse_id is None,
        day_by_day=terms.splits and request.delivery == Delivery.AS_AVAILABLE,
        # Of a transfer nothing can be held: it is there, or not yet.
        capture_at=CaptureAt.CONFIRMATION if by_transfer else terms.capture_at,
        pay_again_seconds=terms.pay_again_seconds,
        return_url=terms.returns_to(request.return_url),
        action_seconds=terms.transfer_seconds if by_transfer else terms.action_seconds,
        answer_seconds=terms.answer_seconds,
        needs_review=terms.needs_review(total),
        review_seconds=terms.review_seconds,
        decision_seconds=terms.decision_seconds,
        dispatch_seconds=terms.dispatch_seconds,
        silence_seconds=terms.silence_seconds,
        placed_at=utc_now(),
        fingerprint=fingerprint,
    )


def replacement(
    order: Order, command: PlaceReplacement, priced: Priced, shipping: Speed, terms: Terms, fingerprint: str
) -> PlaceOrder:
    """The order that a return of `order` brings, as its saga gets it: to the same address, and refused if anything is out of
    stock. `priced`: with the credit. Refusal: conflict, if it costs more than that, and there is no card for the rest."""
    total = priced.charges.total
    if total.minor and command.payment_token is None:
        raise Refusal(ErrorCode.CONFLICT, f"It costs {total} more than the return is worth, and there is no card for that.")
    return PlaceOrder(
        order_id=command.replacement_id,
        customer_id=order.customer_id,
        lines=priced.lines,
        total=total,
        charges=priced.charges,
        ship_to=Address.model_validate(order.ship_to),
        payment_token=command.payment_token or NO_CARD,
        when_short=WhenShort.REFUSE,
        shipping=shipping,
        replaces=Replaces(order_id=order.order_id, number=command.number),
        may_split=terms.splits,
        capture_at=terms.capture_at,
        pay_again_seconds=terms.pay_again_seconds,
        action_seconds=terms.action_seconds,
        answer_seconds=terms.answer_seconds,
        needs_review=total.minor > 0 and terms.needs_review(total),
        review_seconds=terms.review_seconds,
        decision_seconds=terms.decision_seconds,
        dispatch_seconds=terms.dispatch_seconds,
        silence_seconds=terms.silence_seconds,
        placed_at=utc_now(),
        fingerprint=fingerprint,
    )


def _line(line: LineRequest, product: CatalogProduct) -> OrderLine:
    return OrderLine(
        product_id=product.product_id,
        name=product.name,
        quantity=line.quantity,
        unit_price=product.price,
        weight_grams=product.weight_grams,
    )


def require_one_currency(lines: Sequence[OrderLine]) -> None:
    currency = lines[0].unit_price.currency
    others = [n for n, line in enumerate(lines) if line.unit_price.currency != currency]
    if others:
        detail = f"Not priced in {currency}, as the first line is; order it apart."
        raise invalid(
            "An order has one currency.",
            [FieldError(field=f"lines.{n}.product_id", code="other_currency", detail=detail) for n in others],
        )


def parcel_of(lines: Sequence[OrderLine], tariff: Tariff, speed: Speed) -> PlannedParcel:
    """All lines in one parcel, however heavy: whether goods go in several is known when they are reserved. Refusals:
    address_undeliverable, validation_failed. Raises ValidationError, if it costs more than a sum of money can be."""
    if not tariff.services:
        raise Refusal(ErrorCode.ADDRESS_UNDELIVERABLE, "No carrier of ours delivers to that country.")
    weight = sum(line.weight_grams * line.quantity for line in lines)
    service = next((service for service in tariff.services if service.service == speed), None)
    if service is None:
        not_offered = FieldError(field="shipping", code="not_offered", detail=f"No parcel goes there by {speed}.")
        raise invalid("Parcels do not go there that fast.", [not_offered])
    units = tuple(line.quantity for line in lines)
    return PlannedParcel(service=service.service, price=service.price(weight), days=service.days, units=units)


def invalid(detail: str, errors: Sequence[FieldError]) -> Refusal:
    return Refusal(ErrorCode.VALIDATION_FAILED, detail, extra={"errors": [error.model_dump(mode="json") for error in errors]})

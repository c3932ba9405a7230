"""The rules of placing an order: the address's form, the catalogue's prices, the terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import ValidationError

from chassis import postal
from chassis.clock import utc_now
from contracts.address import Address
from contracts.catalog import CatalogProduct
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.money import Money
from contracts.orders import LineRequest, OrderLine, PlaceOrder, PlaceOrderRequest


@dataclass(frozen=True)
class Terms:
    """Under which an order is placed. An order of at least `review_threshold` waits for an operator before the money is taken;
    the others are how many seconds its saga waits, as `PlaceOrder` has them."""

    review_threshold: Money
    review_seconds: int
    decision_seconds: int
    dispatch_seconds: int
    silence_seconds: int

    def needs_review(self, total: Money) -> bool:
        """Whether an order is held. One in a currency that the threshold does not speak of always is."""
        return total.currency != self.review_threshold.currency or total >= self.review_threshold


class KnownPlaces:
    """Places of which addresses were found to be of their country's form: most orders go to one of them, and to look again takes
    0.3 ms, or 17 in the largest countries."""

    def __init__(self, at_most: int = 10_000) -> None:
        self._at_most = at_most
        self._known: set[tuple[str | None, ...]] = set()

    def __contains__(self, address: Address) -> bool:
        return _place(address) in self._known

    def add(self, address: Address) -> None:
        """Remember the place of an address that `require_form` has let pass. When there are too many, it begins anew."""
        if len(self._known) >= self._at_most:
            self._known.clear()
        self._known.add(_place(address))


def _place(address: Address) -> tuple[str | None, ...]:
    """All of an address that its form depends on."""
    return address.country, address.region, address.city, address.postal_code


def require_form(address: Address) -> None:
    """Refusal: validation_failed, naming the fields that are not as addresses of that country are. Call it in a thread, as
    `chassis.postal` says."""
    _, errors = postal.normalized(address.model_dump(exclude_none=True))
    if errors:
        raise _invalid("The address is not of the form that its country uses.", postal.within("ship_to", errors))


def priced(
    request: PlaceOrderRequest,
    products: Sequence[CatalogProduct],
    *,
    order_id: UUID,
    customer_id: UUID,
    fingerprint: str,
    terms: Terms,
) -> PlaceOrder:
    """The order at the catalogue's names and prices. Refusals: product_unknown, naming them; validation_failed, if its prices
    do not add up to one sum of money."""
    by_id = {product.product_id: product for product in products}
    missing = [line.product_id for line in request.lines if line.product_id not in by_id]
    if missing:
        raise Refusal(ErrorCode.PRODUCT_UNKNOWN, f"Not on sale: {', '.join(missing)}.", extra={"products": missing})
    lines = tuple(_line(line, by_id[line.product_id]) for line in request.lines)
    total = _total(lines)
    return PlaceOrder(
        order_id=order_id,
        customer_id=customer_id,
        lines=lines,
        total=total,
        ship_to=request.ship_to,
        payment_token=request.payment_token,
        warehouse_id=request.warehouse_id,
        needs_review=terms.needs_review(total),
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


def _total(lines: Sequence[OrderLine]) -> Money:
    """What all lines cost, in whole minor units: that is what a card can be charged."""
    currency = lines[0].unit_price.currency
    others = [n for n, line in enumerate(lines) if line.unit_price.currency != currency]
    if others:
        detail = f"Not priced in {currency}, as the first line is; order it apart."
        raise _invalid(
            "An order has one currency.",
            [FieldError(field=f"lines.{n}.product_id", code="other_currency", detail=detail) for n in others],
        )
    try:
        total = sum((line.total for line in lines), Money.zero(currency))
    except ValidationError as error:
        too_much = FieldError(field="lines", code="total_too_large", detail="The order's total is too large.")
        raise _invalid("The order is too large.", [too_much]) from error
    return Money.from_minor(total.minor, currency)


def _invalid(detail: str, errors: Sequence[FieldError]) -> Refusal:
    return Refusal(ErrorCode.VALIDATION_FAILED, detail, extra={"errors": [error.model_dump(mode="json") for error in errors]})

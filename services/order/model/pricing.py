"""What an order costs: goods, reductions, shipping and tax, to the cent, and each line's share of them. Pure.

1. Goods: the catalogue's price times the quantity.
2. Reductions, in the order in which they were given. A percentage is taken of what the goods still cost, an amount at most all of
   that; both are spread over the lines by what each still costs. Free shipping takes off what the parcels cost.
3. Shipping: each parcel by the tariff, or nothing if the goods, after reductions, cost at least so much. Spread over the lines of
   the parcel by weight, because the tariff is by weight; by units, if nothing in it has one.
4. Tax, of what each line costs after that, with shipping where shipping is taxed. Each rate is rounded once, half up, over the
   whole order, and spread over the lines by what of each it taxes.

Whatever is spread is spread by largest remainder: each line has its exact share rounded down, and the cents that are left go to
those that lost most by that, the first line first. So the lines add up to the order, and `LineAmounts.of` makes units add up to
their line. Sums are integers in minor units (cents) of the order's currency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from contracts.money import Money
from contracts.orders import OrderLine
from contracts.pricing import AppliedDiscount, AppliedTax, DiscountKind, LineAmounts, OrderCharges, ShippingCharge
from contracts.returns import ReturnLine
from services.order.ports import TaxRate


@dataclass(frozen=True)
class Reduction:
    """What a discount code takes off. Of a PERCENT `percent` is set, of an AMOUNT `amount_minor`, in the order's currency."""

    code: str
    kind: DiscountKind
    percent: Decimal | None = None
    """From 0 to 100: 15 is 15 %."""
    amount_minor: int | None = None

    @classmethod
    def of(cls, code: str, kind: DiscountKind, basis_points: int | None, amount_minor: int | None) -> "Reduction":
        """`basis_points`: hundredths of a percent."""
        return cls(code, kind, None if basis_points is None else Decimal(basis_points) / 100, amount_minor)


@dataclass(frozen=True)
class PlannedParcel:
    """A parcel that the order may be sent in, and what the tariff says of it."""

    service: str
    """A service level of the shipping service, e.g. `standard`."""
    price: Money
    days: int
    """Working days until delivery, at most."""
    units: tuple[int, ...]
    """How many units of each line of the order are in it."""


@dataclass(frozen=True)
class Priced:
    """What an order costs, and its lines with their ids and shares."""

    lines: tuple[OrderLine, ...]
    charges: OrderCharges


def price(
    lines: Sequence[OrderLine],
    *,
    parcels: Sequence[PlannedParcel],
    reductions: Sequence[Reduction] = (),
    taxes: Sequence[TaxRate] = (),
    prices_include_tax: bool = False,
    free_shipping_from: Money | None = None,
) -> Priced:
    """What these lines cost, which have one currency and prices in whole minor units. Raises OverflowError if that is more than
    a sum of money can be.

    `free_shipping_from`: from what the goods cost, after reductions, the parcels are free; None: never by that.
    A parcel whose price is in another currency than the order is not charged: nobody knows at which rate. A code that takes
    nothing off is not among the discounts of the charges.
    """
    currency = lines[0].unit_price.currency
    items = [line.total.minor for line in lines]
    left = list(items)
    applied: list[tuple[Reduction, int]] = []
    for reduction in reductions:
        if (off := _off_items(reduction, sum(left))) > 0:
            left = [cost - part for cost, part in zip(left, spread(off, left), strict=True)]
            applied.append((reduction, off))
    charged = [parcel.price.minor if parcel.price.currency == currency else 0 for parcel in parcels]
    if free_shipping_from and free_shipping_from.currency == currency and sum(left) >= free_shipping_from.minor:
        charged = [0] * len(parcels)
    code = next((reduction for reduction in reductions if reduction.kind == DiscountKind.FREE_SHIPPING), None)
    if code and sum(charged) > 0:
        applied.append((code, sum(charged)))
        charged = [0] * len(parcels)
    shipping = _shipping_of(lines, parcels, charged)
    tax, by_rate = (_included if prices_include_tax else _on_top)(taxes, left, shipping)
    total = sum(left) + sum(shipping) + (0 if prices_include_tax else sum(tax))
    if max(total, sum(items)) > LARGEST_MINOR:
        raise OverflowError("The order's total is too large.")

    def money(minor: int) -> Money:
        return Money.from_minor(minor, currency)

    charges = OrderCharges(
        items=money(sum(items)),
        discount=money(sum(items) - sum(left)),
        shipping=money(sum(shipping)),
        tax=money(sum(tax)),
        total=money(total),
        prices_include_tax=prices_include_tax,
        parcels=tuple(
            ShippingCharge(service=parcel.service, price=parcel.price, charged=money(minor), days=parcel.days)
            for parcel, minor in zip(parcels, charged, strict=True)
        ),
        discounts=tuple(AppliedDiscount(code=by.code, kind=by.kind, amount=money(off)) for by, off in applied),
        taxes=tuple(
            AppliedTax(name=rate.name, rate=rate.rate, amount=money(minor)) for rate, minor in zip(taxes, by_rate, strict=True)
        ),
    )
    return Priced(
        tuple(
            line.model_copy(
                update={
                    "line_id": line.line_id or n + 1,
                    "amounts": LineAmounts(
                        items=items[n],
                        discount=items[n] - left[n],
                        shipping=shipping[n],
                        tax=tax[n],
                        tax_included=prices_include_tax,
                    ),
                }
            )
            for n, line in enumerate(lines)
        ),
        charges,
    )


def with_credit(priced: Priced, credit: int) -> Priced:
    """The same, of which so many minor units are paid with the credit of a return: at most all of it. It is spread over the lines
    by what they cost."""
    costs = [line.amounts.price if line.amounts else line.total.minor for line in priced.lines]
    used = min(credit, sum(costs))
    if used == 0:
        return priced
    currency = priced.charges.total.currency
    lines = [
        line.model_copy(
            update={"amounts": (line.amounts or LineAmounts(items=line.total.minor)).model_copy(update={"credit": part})}
        )
        for line, part in zip(priced.lines, spread(used, costs), strict=True)
    ]
    paid = {"credit": Money.from_minor(used, currency), "total": Money.from_minor(sum(costs) - used, currency)}
    return Priced(tuple(lines), priced.charges.model_copy(update=paid))


def as_it_was(lines: Sequence[OrderLine], units: Sequence[ReturnLine], charges: OrderCharges | None) -> Priced:
    """What some units of an order cost then, as an order of their own. `lines` and `charges`: of the order, the lines with their
    ids. LookupError: units of another order."""
    by_id = {line.line_id: line for line in lines}
    shares: dict[int, list[LineAmounts]] = {}
    quantities: dict[int, int] = {}
    for part in units:
        shares.setdefault(part.line_id, []).append(by_id[part.line_id].share_of(part.first, part.quantity))
        quantities[part.line_id] = quantities.get(part.line_id, 0) + part.quantity
    currency = lines[0].unit_price.currency
    includes_tax = bool(charges and charges.prices_include_tax)
    again = [
        by_id[line_id].model_copy(
            update={
                "line_id": n,
                "quantity": quantities[line_id],
                "amounts": LineAmounts(
                    items=sum(share.items for share in of_line),
                    discount=sum(share.discount for share in of_line),
                    shipping=sum(share.shipping for share in of_line),
                    tax=sum(share.tax for share in of_line),
                    tax_included=of_line[0].tax_included,
                ),
            }
        )
        for n, (line_id, of_line) in enumerate(shares.items(), start=1)
    ]
    amounts = [line.amounts for line in again if line.amounts]

    def money(minor: int) -> Money:
        return Money.from_minor(minor, currency)

    return Priced(
        tuple(again),
        OrderCharges(
            items=money(sum(each.items for each in amounts)),
            discount=money(sum(each.discount for each in amounts)),
            shipping=money(sum(each.shipping for each in amounts)),
            tax=money(sum(each.tax for each in amounts)),
            total=money(sum(each.price for each in amounts)),
            prices_include_tax=includes_tax,
        ),
    )


LARGEST_MINOR = 9_999_999_999_999
"""Of an order's total: it is a sum of money in every currency, whatever its minor unit."""


def spread(amount: int, weights: Sequence[int]) -> list[int]:
    """`amount` in parts as the weights are, by largest remainder; in equal ones if all weights are 0. The parts add up to it."""
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    parts = [amount * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda n: -(amount * weights[n] % whole))
    for n in by_remainder[: amount - sum(parts)]:
        parts[n] += 1
    return parts


def _off_items(reduction: Reduction, left: int) -> int:
    if reduction.kind == DiscountKind.PERCENT and reduction.percent is not None:
        return min(left, _half_up(left * int(reduction.percent * _MICRO), 100 * _MICRO))
    if reduction.kind == DiscountKind.AMOUNT and reduction.amount_minor is not None:
        return min(left, reduction.amount_minor)
    return 0


def _shipping_of(lines: Sequence[OrderLine], parcels: Sequence[PlannedParcel], charged: Sequence[int]) -> list[int]:
    """Each line's share of what the parcels cost."""
    shares = [0] * len(lines)
    for parcel, minor in zip(parcels, charged, strict=True):
        if minor:
            grams = [units * line.weight_grams for units, line in zip(parcel.units, lines, strict=True)]
            for n, part in enumerate(spread(minor, grams if any(grams) else parcel.units)):
                shares[n] += part
    return shares


def _on_top(taxes: Sequence[TaxRate], goods: Sequence[int], shipping: Sequence[int]) -> tuple[list[int], list[int]]:
    """Taxes that are added to prices: what they come to for each line, and for each rate."""
    of_lines, of_rates = [0] * len(goods), []
    for tax in taxes:
        taxed = [cost + part for cost, part in zip(goods, shipping, strict=True)] if tax.on_shipping else goods
        of_rates.append(_half_up(sum(taxed) * _micro(tax), _MICRO))
        for n, part in enumerate(spread(of_rates[-1], taxed)):
            of_lines[n] += part
    return of_lines, of_rates


def _included(taxes: Sequence[TaxRate], goods: Sequence[int], shipping: Sequence[int]) -> tuple[list[int], list[int]]:
    """Taxes that are in the prices: what of them is tax, for each line and for each rate. Rounded once for all rates, so that
    they never come to more than the price."""
    on_goods = _MICRO + sum(map(_micro, taxes))
    on_shipping = _MICRO + sum(_micro(tax) for tax in taxes if tax.on_shipping)
    # Of a price p with taxes of r in it, p · r / (1 + r) is tax. All weights are multiplied by both denominators.
    of_line = [
        cost * (on_goods - _MICRO) * on_shipping + part * (on_shipping - _MICRO) * on_goods
        for cost, part in zip(goods, shipping, strict=True)
    ]
    of_rate = [_micro(tax) * (sum(goods) * on_shipping + (sum(shipping) * on_goods if tax.on_shipping else 0)) for tax in taxes]
    tax = _half_up(sum(of_line), on_goods * on_shipping)
    return spread(tax, of_line), spread(tax, of_rate)


_MICRO = 1_000_000


def _micro(tax: TaxRate) -> int:
    """A rate in millionths."""
    return int(tax.rate * _MICRO)


def _half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)

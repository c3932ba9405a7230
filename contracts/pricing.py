"""What an order costs, frozen when it is placed, in minor units (cents), and the share of each unit of it.

Whatever a line costs is spread over its units so that the shares add up to it. The units of a line are numbered, and no two parts
of an order have the same one, so that refunds of parts add up to the cent.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from contracts.base import Contract, Told
from contracts.money import Money

Minor = Annotated[int, Field(ge=0, le=99_999_999_999_999)]
"""An amount in minor units (cents) of the order's currency."""


def share(amount: int, quantity: int, first: int, units: int) -> int:
    """What `units` units from number `first` (from 0) have of an amount that `quantity` units cost together, in minor units."""
    return amount * (first + units) // quantity - amount * first // quantity


class LineAmounts(Contract):
    """What a line costs, in minor units."""

    items: Minor
    """Unit price times quantity, as the catalogue has it."""
    discount: Minor = 0
    shipping: Minor = 0
    """Its share of what the parcels cost."""
    tax: Minor = 0
    tax_included: bool = False
    """Whether items and shipping include the tax; else it comes on top."""
    credit: Minor = 0
    """What of its price was paid with the credit of a return."""

    @property
    def price(self) -> int:
        """What it costs."""
        return self.items - self.discount + self.shipping + (0 if self.tax_included else self.tax)

    @property
    def total(self) -> int:
        """What the customer pays for it."""
        return self.price - self.credit

    def of(self, quantity: int, first: int, units: int) -> "LineAmounts":
        """The share of some of its `quantity` units. The shares of all of them add up to this, field by field and in total. None
        has more credit than it costs."""
        amounts = {name: share(getattr(self, name), quantity, first, units) for name in _SHARED}
        part = LineAmounts(**amounts, tax_included=self.tax_included)
        if not self.credit:
            return part
        # By what the units cost, not by how many they are: a share of the price is rounded, too.
        before = self.of_first(quantity, first).price if first else 0
        credit = (before + part.price) * self.credit // self.price - before * self.credit // self.price
        return part.model_copy(update={"credit": credit})

    def of_first(self, quantity: int, units: int) -> "LineAmounts":
        """The share of its first units, without credit."""
        amounts = {name: share(getattr(self, name), quantity, 0, units) for name in _SHARED}
        return LineAmounts(**amounts, tax_included=self.tax_included)


_SHARED = ("items", "discount", "shipping", "tax")


class DiscountKind(StrEnum):
    PERCENT = "percent"
    AMOUNT = "amount"
    FREE_SHIPPING = "free_shipping"


class AppliedDiscount(Contract):
    """A code that took something off."""

    code: Annotated[str, Field(max_length=40)]
    kind: DiscountKind
    amount: Money
    """What it took off, of items and shipping together."""


class AppliedTax(Contract):
    """One rate of tax, and what it comes to."""

    name: Annotated[Told, Field(max_length=100)]
    """E.g. "VAT 19 %" or "Sales tax, Ohio"."""
    rate: Annotated[Decimal, Field(ge=0, le=1, max_digits=7, decimal_places=6)]
    """E.g. 0.19."""
    amount: Money


class ShippingCharge(Contract):
    """What one planned parcel costs the customer."""

    service: Annotated[str, Field(max_length=40)]
    """A service level of the shipping service, e.g. `standard`."""
    price: Money
    """By the tariff."""
    charged: Money
    """After what is free of charge."""
    days: Annotated[int, Field(ge=0, le=365)]
    """Working days until delivery, at most."""


class OrderCharges(Contract):
    """What an order costs. The shares of its lines add up to it."""

    items: Money
    discount: Money
    shipping: Money
    tax: Money
    credit: Money | None = None
    """What of it is paid with the credit of a return; None: nothing."""
    total: Money
    """What the customer pays."""
    prices_include_tax: bool = False
    parcels: Annotated[tuple[ShippingCharge, ...], Field(max_length=20)] = ()
    discounts: Annotated[tuple[AppliedDiscount, ...], Field(max_length=5)] = ()
    taxes: Annotated[tuple[AppliedTax, ...], Field(max_length=20)] = ()

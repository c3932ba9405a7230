"""Money: an exact decimal amount with its ISO 4217 currency; never a float."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Self

from pydantic import Field, StringConstraints, WithJsonSchema

from contracts.base import Contract

MINOR_DIGITS = {"BIF": 0, "CLP": 0, "JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "KWD": 3, "TND": 3}
"""ISO 4217 currencies whose minor unit is not a hundredth."""

LARGEST_AMOUNT = Decimal("99999999999.999")
Amount = Annotated[
    Decimal,
    Field(max_digits=14, decimal_places=3, ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": float(-LARGEST_AMOUNT), "maximum": float(LARGEST_AMOUNT)},
                {"type": "string", "pattern": r"^-?\d{1,11}(\.\d{1,3})?$"},
            ]
        },
        mode="validation",
    ),
]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class Money(Contract):
    """An amount in one currency, e.g. `{"amount": "12.50", "currency": "USD"}`. Arithmetic never mixes currencies."""

    amount: Amount
    currency: Currency = "USD"

    @classmethod
    def zero(cls, currency: str = "USD") -> Self:
        """Nothing, in `currency`."""
        return cls(amount=Decimal(0), currency=currency)

    @classmethod
    def from_minor(cls, minor: int, currency: str) -> Self:
        """The amount for `minor` units (cents), as payment providers count."""
        return cls(amount=Decimal(minor).scaleb(-_digits(currency)), currency=currency)

    @property
    def minor(self) -> int:
        """The amount in minor units (cents), rounded half to even."""
        return minor_units(self.amount, self.currency)

    def __add__(self, other: "Money") -> "Money":
        self._require_same_currency(other)
        return Money(amount=self.amount + other.amount, currency=self.currency)

    def __sub__(self, other: "Money") -> "Money":
        self._require_same_currency(other)
        return Money(amount=self.amount - other.amount, currency=self.currency)

    def __mul__(self, quantity: int) -> "Money":
        return Money(amount=self.amount * quantity, currency=self.currency)

    def __ge__(self, other: "Money") -> bool:
        self._require_same_currency(other)
        return self.amount >= other.amount

    def __str__(self) -> str:
        return f"{self.amount:.{_digits(self.currency)}f} {self.currency}"

    def _require_same_currency(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise ValueError(f"cannot mix {self.currency} and {other.currency}")


def minor_units(amount: Decimal, currency: str) -> int:
    """An amount in minor units (cents), rounded half to even."""
    return int(amount.scaleb(_digits(currency)).to_integral_value(ROUND_HALF_EVEN))


def _digits(currency: str) -> int:
    return MINOR_DIGITS.get(currency, 2)

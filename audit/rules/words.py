"""How rules count and show money, numbers and times."""

from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache

from contracts.money import MINOR_DIGITS


def minor(amount: Decimal, currency: str) -> int:
    """As `Money.minor`, for amounts of any size: a falsified one may be larger than Money allows."""
    return int((amount / _unit(currency)).to_integral_value(ROUND_HALF_EVEN))


def money(amount_minor: int, currency: str) -> str:
    """E.g. `12.50 USD`."""
    return f"{amount_minor * _unit(currency)} {currency}"


def money_in(currency: str) -> Callable[[object], str]:
    """Shows minor units of this currency."""
    return lambda amount: money(amount, currency) if isinstance(amount, int) else "nothing"


def at(time: datetime | None) -> str:
    """A time; that of the look itself where nobody wrote one down."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "we looked"


@cache
def _unit(currency: str) -> Decimal:
    """The currency's smallest coin."""
    return Decimal(1).scaleb(-MINOR_DIGITS.get(currency, 2))

"""Which of the rates that carriers offer is bought. Pure.

| service level | `price` | `speed` |
|---|---|---|
| standard | the cheapest that arrives in time | the fastest |
| express | the fastest that arrives in time | the fastest |

In time: within the working days that our tariff promises. If none does, it is the fastest of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.shipping.model.rates import ServiceLevel
from services.shipping.ports import Offer, Rate

_NOBODY_SAYS = 1_000


class Preference(StrEnum):
    """What counts where several rates would do."""

    PRICE = "price"
    SPEED = "speed"


@dataclass(frozen=True)
class Choice:
    """A rate, and why it is this one, in plain words for staff."""

    rate: Rate
    reason: str


@dataclass(frozen=True)
class Offered:
    """A shipment of a carrier, and which of its rates is to be bought."""

    carrier: str
    offer: Offer
    choice: Choice


def choose(rates: Sequence[Rate], service: str, days: int | None, preference: Preference) -> Choice | None:
    """The rate to buy; None if there is none. `days`: until when it was promised, in working days; None: nothing was."""
    if not rates:
        return None
    in_time = [rate for rate in rates if days is None or (rate.days is not None and rate.days <= days)]
    within = "" if days is None else f" within {days} working days"
    if not in_time:
        return Choice(min(rates, key=_by_speed), f"none arrives{within}: the fastest of {len(rates)}")
    if service != ServiceLevel.EXPRESS and preference == Preference.PRICE:
        return Choice(min(in_time, key=_by_price), f"the cheapest{within} of {len(rates)}")
    return Choice(min(in_time, key=_by_speed), f"the fastest{within} of {len(rates)}")


def _by_price(rate: Rate) -> tuple[int, int, str]:
    return rate.cost.minor, _days(rate), rate.id


def _by_speed(rate: Rate) -> tuple[int, int, str]:
    return _days(rate), rate.cost.minor, rate.id


def _days(rate: Rate) -> int:
    return rate.days if rate.days is not None else _NOBODY_SAYS

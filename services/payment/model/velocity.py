"""How much may be bought in a short time before a person looks at it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from contracts.money import Money
from contracts.payments import PaymentStatus

NEVER_TAKEN = frozenset({PaymentStatus.DECLINED, PaymentStatus.VOIDED})
"""Payments that do not count as bought."""


class Subject(StrEnum):
    """Whose payments are counted together."""

    CUSTOMER = "customer"
    CARD = "card"
    ADDRESS = "address"


class Recent(NamedTuple):
    """Payments within the window."""

    orders: int
    """At most as many as the velocity allows: it is all the same how many more there are."""
    minor: int
    """Sum of those in the velocity's currency, in minor units."""


@dataclass(frozen=True)
class Velocity:
    """How much one customer, one card, one address may buy within `window` before a person looks at it."""

    window: timedelta
    orders: int
    total: Money

    def reasons(self, amount: Money, recent: Mapping[Subject, Recent]) -> list[str]:
        """Why a payment of `amount` must be looked at, in plain words; none if it need not. `recent`: the payments before it."""
        within = f"within {self.window // timedelta(hours=1)} hours"
        reasons = []
        for subject, before in recent.items():
            if before.orders >= self.orders:
                reasons.append(f"{subject}: more than {self.orders} orders {within}")
            elif amount.currency == self.total.currency and before.minor + amount.minor > self.total.minor:
                reasons.append(f"{subject}: more than {self.total} {within}")
        return reasons


VELOCITY = Velocity(timedelta(hours=24), orders=20, total=Money(amount=Decimal(500)))

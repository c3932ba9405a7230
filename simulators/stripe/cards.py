"""The test cards: what the simulated banks do with each.

Names of payment methods, to be used as `payment_method`. Those that begin `pm_card_` are Stripe's, `pm_sim_` our own.

| payment method                                                   | what happens                                             |
|------------------------------------------------------------------|----------------------------------------------------------|
| `pm_card_visa`, `pm_card_mastercard`                             | paid                                                     |
| `pm_card_visa_chargeDeclined`                                    | 402 `card_declined`, decline code `generic_decline`      |
| `pm_card_visa_chargeDeclinedInsufficientFunds`                   | 402 `card_declined`, decline code `insufficient_funds`   |
| `pm_card_chargeDeclinedExpiredCard`                              | 402 `expired_card`                                       |
| `pm_card_chargeDeclinedIncorrectCvc`                             | 402 `incorrect_cvc`                                      |
| `pm_card_radarBlock`                                             | 402 `card_declined`, `fraudulent`; no bank was asked     |
| `pm_card_riskLevelElevated`                                      | paid or held as asked; the charge is marked for a review |
| `pm_card_authenticationRequired`                                 | paid once the customer has confirmed at the bank         |
| `pm_card_authenticationRequiredChargeDeclinedInsufficientFunds`  | declined once the customer has confirmed at the bank     |
| `pm_card_pendingRefund`                                          | paid; refunds are pending, and succeed after `refund_ms` |
| `pm_card_refundFail`                                             | paid; refunds succeed, and fail after `refund_ms`        |
| `pm_sim_refund_pending_fails`                                    | paid; refunds are pending, and fail after `refund_ms`    |
| `pm_sim_refund_refused`                                          | paid; refunds fail at once                               |
| `pm_sim_flaky`                                                   | 503 to the first three confirmations of a reference      |
| `pm_sim_lost_reply`                                              | paid, then the connection drops; repeated: answered      |
| `pm_sim_slow`                                                    | paid, then answered after fault switch `slow_ms`         |
| `pm_sim_timeout`                                                 | never paid: 503 after `slow_ms`, every time              |
| any other                                                        | 400 `resource_missing`                                   |

Each name is one card, with one fingerprint, however often it is used; with anything after it, `pm_card_visa_7`, it is another one
that does the same. `pm_card_chargeDeclined` and `pm_card_chargeDeclinedInsufficientFunds` do what those with `visa` do.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal


@dataclass(frozen=True, slots=True)
class Decline:
    code: str
    message: str
    decline_code: str
    blocked: bool = False
    """Stopped before the bank was asked."""


@dataclass(frozen=True, slots=True)
class Card:
    brand: Literal["visa", "mastercard"] = "visa"
    last4: str = "4242"
    decline: Decline | None = None
    elevated_risk: bool = False
    asks: bool = False
    """The bank wants the customer to confirm the payment."""
    failures_first: int = 0
    """503 to this many confirmations of a reference before one is carried out."""
    reply: Literal["sent", "slow", "lost"] = "sent"
    hangs: bool = False
    refunds: Literal["succeeded", "pending,succeeded", "pending,failed", "succeeded,failed", "failed"] = "succeeded"
    """What becomes of a refund: at once, and, after a comma, later."""


DECLINED = Decline("card_declined", "Your card was declined.", "generic_decline")
NO_FUNDS = Decline("card_declined", "Your card has insufficient funds.", "insufficient_funds")
EXPIRED = Decline("expired_card", "Your card has expired.", "expired_card")
WRONG_CVC = Decline("incorrect_cvc", "Your card's security code is incorrect.", "incorrect_cvc")
BLOCKED = Decline("card_declined", "Your card was declined.", "fraudulent", blocked=True)
UNAUTHENTICATED = Decline(
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "authentication_required",
)

CARDS = {
    "pm_card_visa": Card(),
    "pm_card_mastercard": Card("mastercard", "4444"),
    "pm_card_visa_chargeDeclined": Card(last4="0002", decline=DECLINED),
    "pm_card_chargeDeclined": Card(last4="0002", decline=DECLINED),
    "pm_card_visa_chargeDeclinedInsufficientFunds": Card(last4="9995", decline=NO_FUNDS),
    "pm_card_chargeDeclinedInsufficientFunds": Card(last4="9995", decline=NO_FUNDS),
    "pm_card_chargeDeclinedExpiredCard": Card(last4="0069", decline=EXPIRED),
    "pm_card_chargeDeclinedIncorrectCvc": Card(last4="0127", decline=WRONG_CVC),
    "pm_card_radarBlock": Card(last4="0019", decline=BLOCKED),
    "pm_card_riskLevelElevated": Card(last4="9235", elevated_risk=True),
    "pm_card_authenticationRequired": Card(last4="3184", asks=True),
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": Card(last4="8341", asks=True, decline=NO_FUNDS),
    "pm_card_pendingRefund": Card(last4="7726", refunds="pending,succeeded"),
    "pm_card_refundFail": Card(last4="5126", refunds="succeeded,failed"),
    "pm_sim_refund_pending_fails": Card(last4="0001", refunds="pending,failed"),
    "pm_sim_refund_refused": Card(last4="0003", refunds="failed"),
    "pm_sim_flaky": Card(last4="0004", failures_first=3),
    "pm_sim_lost_reply": Card(last4="0005", reply="lost"),
    "pm_sim_slow": Card(last4="0006", reply="slow"),
    "pm_sim_timeout": Card(last4="0007", hangs=True),
}
LONGEST_NAME = 200


@lru_cache(maxsize=10_000)
def kind_of(name: str) -> str | None:
    """The name in `CARDS` that a card's name begins with, the longest of them; None: there is no such card."""
    found = [kind for kind in CARDS if name == kind or name.startswith(f"{kind}_")]
    return max(found, key=len) if found and len(name) <= LONGEST_NAME else None


def card_of(name: str) -> Card:
    """The card of a name that is known to be one."""
    kind = kind_of(name)
    assert kind is not None
    return CARDS[kind]


@lru_cache(maxsize=10_000)
def fingerprint(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]

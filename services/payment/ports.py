"""What payment needs of a payment provider, whoever that is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from contracts.money import Money


class ProviderStatus(StrEnum):
    """Where the provider says a charge is. REVERSED: nothing was ever taken under this reference, and nothing will be."""

    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    VOIDED = "voided"
    REFUNDED = "refunded"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class Decline:
    """Why the bank said no: the provider's code, and the same in plain words."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """`reference` names one charge for ever: however often it is sent, the provider takes the money once."""

    reference: str
    amount: Money
    card_token: str
    capture: bool
    description: str


@dataclass(frozen=True, slots=True)
class ProviderCharge:
    """What the provider says of one reference."""

    status: ProviderStatus
    provider_id: str | None = None
    amount: Money | None = None
    decline: Decline | None = None


class PaymentProvider(Protocol):
    """Each call gives a definite answer or raises `Unavailable`: then it may or may not have been done, and may be repeated."""

    async def fingerprint(self, card_token: str) -> str:
        """What tells a card from others, and does not give the token away: 64 hexadecimal digits, the same for the same card."""

    async def charge(self, request: ChargeRequest) -> ProviderCharge:
        """Take the money, or hold it: AUTHORIZED also where the provider wants a person to look at it first."""

    async def capture(self, reference: str) -> ProviderCharge:
        """Take what is held. Any answer but AUTHORIZED."""

    async def reverse(self, reference: str, reason: str) -> ProviderCharge:
        """Refund, void, or forbid a charge that has not arrived yet. Any answer but AUTHORIZED and CAPTURED."""

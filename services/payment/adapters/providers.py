"""Several payment providers as one: who is asked follows from what a customer pays with, and then from the charge's name."""

from contracts.money import Money
from contracts.payment_actions import BANK_TRANSFER
from services.payment.model import is_creditor_reference
from services.payment.ports import (
    Capabilities,
    ChargeRequest,
    Opened,
    PaymentProvider,
    ProviderCharge,
    ProviderMovement,
    ProviderNews,
)


class Providers:
    """A `PaymentProvider`."""

    def __init__(self, cards: PaymentProvider, transfers: PaymentProvider) -> None:
        self._cards, self._transfers = cards, transfers

    @property
    def capabilities(self) -> Capabilities:
        """The cards': of a transfer nothing is ever held that could be captured."""
        return self._cards.capabilities

    async def open(self, request: ChargeRequest) -> Opened:
        provider = self._transfers if request.card_token == BANK_TRANSFER else self._cards
        return await provider.open(request)

    async def charge(self, provider_id: str, request: ChargeRequest) -> ProviderCharge:
        return await self._of(provider_id).charge(provider_id, request)

    async def capture(self, provider_id: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        return await self._of(provider_id).capture(provider_id, amount=amount, key=key, is_last=is_last)

    async def refund(self, provider_id: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        return await self._of(provider_id).refund(provider_id, amount=amount, key=key, reason=reason)

    async def reverse(self, provider_id: str, reason: str) -> ProviderCharge:
        return await self._of(provider_id).reverse(provider_id, reason)

    async def release(self, provider_id: str, reason: str) -> ProviderCharge:
        return await self._of(provider_id).release(provider_id, reason)

    async def look(self, provider_id: str) -> ProviderCharge:
        return await self._of(provider_id).look(provider_id)

    def news(self, body: bytes) -> ProviderNews | None:
        return self._cards.news(body)

    def _of(self, provider_id: str) -> PaymentProvider:
        return self._transfers if is_creditor_reference(provider_id) else self._cards

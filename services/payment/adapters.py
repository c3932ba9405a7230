"""The payment provider over HTTP."""

import hmac
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import SecretStr, StringConstraints

from chassis.clients import Answer, HttpSession, NotUnderstood, OutboundClient, fault, model_in
from contracts.base import Contract
from contracts.budgets import BREAKER_OPENS_AFTER, BREAKER_S, PROVIDER_CALL_S
from contracts.money import Currency, Money
from services.payment.ports import ChargeRequest, Decline, ProviderCharge, ProviderStatus

CHARGES = "/v1/charges"
LONGEST_REASON = 500
NAME = "payment-provider"


class _Charge(Contract):
    id: Annotated[str, StringConstraints(max_length=200)] | None = None
    status: ProviderStatus
    amount: int
    currency: Currency | None = None


class _Error(Contract):
    code: str
    message: str = ""


class _ErrorReply(Contract):
    error: _Error


class HttpPaymentProvider:
    """Speaks the provider's protocol. A reference is also its idempotency key."""

    def __init__(
        self,
        http: HttpSession,
        url: str,
        api_key: SecretStr,
        *,
        timeout_s: float = PROVIDER_CALL_S,
        breaker_threshold: int = BREAKER_OPENS_AFTER,
        breaker_seconds: float = BREAKER_S,
    ) -> None:
        self._api_key = api_key
        self._client = OutboundClient(
            NAME, url, http, timeout_s=timeout_s, breaker_threshold=breaker_threshold, breaker_seconds=breaker_seconds
        )

    async def fingerprint(self, card_token: str) -> str:
        # This provider's tokens each stand for one card. Under our key, a copy of our database does not tell which.
        return hmac.new(self._api_key.get_secret_value().encode(), card_token.encode(), "sha256").hexdigest()

    async def charge(self, request: ChargeRequest) -> ProviderCharge:
        body = {
            "reference": request.reference,
            "amount": request.amount.minor,
            "currency": request.amount.currency,
            "card_token": request.card_token,
            "capture": request.capture,
            "description": request.description,
        }
        answer = await self._call("charge", "POST", CHARGES, body, {"Idempotency-Key": request.reference})
        return _definite(answer, frozenset(ProviderStatus))

    async def capture(self, reference: str) -> ProviderCharge:
        answer = await self._call("capture", "POST", f"{_path(reference)}/capture", {})
        if answer is None:  # it is not held, or no longer: what is it then?
            answer = await self._call("capture", "GET", _path(reference))
        return _definite(answer, frozenset(ProviderStatus) - {ProviderStatus.AUTHORIZED})

    async def reverse(self, reference: str, reason: str) -> ProviderCharge:
        body = {"reason": reason[:LONGEST_REASON]}
        answer = await self._call("reverse", "POST", f"{_path(reference)}/reversals", body)
        return _definite(answer, frozenset(ProviderStatus) - {ProviderStatus.AUTHORIZED, ProviderStatus.CAPTURED})

    async def _call(
        self, call: str, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> ProviderCharge | None:
        authorised = {**(headers or {}), "Authorization": f"Bearer {self._api_key.get_secret_value()}"}
        return await self._client.call(call, method, path, _read, body=body, headers=authorised)


def _read(answer: Answer) -> ProviderCharge | None:
    """The charge in an answer; None for "not in a state to be captured". A decline is an answer."""
    if answer.is_failure:
        raise fault(NAME, answer, "it failed")
    if answer.status == 200:
        charge = model_in(answer, _Charge, NAME)
        amount = Money.from_minor(charge.amount, charge.currency) if charge.currency else None
        return ProviderCharge(charge.status, charge.id, amount)
    error = model_in(answer, _ErrorReply, NAME).error
    if answer.status == 402:
        return ProviderCharge(ProviderStatus.DECLINED, decline=Decline(error.code, error.message))
    if (answer.status, error.code) == (409, "reference_reversed"):
        return ProviderCharge(ProviderStatus.REVERSED)
    if (answer.status, error.code) == (409, "not_capturable"):
        return None
    raise fault(NAME, answer, f"it refused the request itself, {error.code[:40]}")


def _definite(answer: ProviderCharge | None, expected: frozenset[ProviderStatus]) -> ProviderCharge:
    if answer is None or answer.status not in expected:
        raise NotUnderstood(f"{NAME} did not do what was asked, and did not say no either.")
    return answer


def _path(reference: str) -> str:
    return f"{CHARGES}/{quote(reference, safe='')}"

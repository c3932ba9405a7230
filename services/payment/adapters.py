"""The payment provider over HTTP."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from pydantic import SecretStr, StringConstraints

from chassis.clients import Answer, HttpSession, NotUnderstood, OutboundClient, fault, model_in
from contracts.base import Contract
from contracts.budgets import BREAKER_OPENS_AFTER, BREAKER_S, PROVIDER_CALL_S
from contracts.money import Currency, Money
from services.payment.ports import (
    Capabilities,
    ChargeRequest,
    Decline,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderStatus,
)

CHARGES = "/v1/charges"
LONGEST_REASON = 500
NAME = "payment-provider"


NOT_CAPTURABLE = "not_capturable"
Name = Annotated[str, StringConstraints(max_length=200)]
Reply = TypeVar("Reply")


class _Movement(Contract):
    id: Name
    state: ProviderMovementState
    amount: int
    currency: Currency
    failure: Name | None = None

    def told(self) -> ProviderMovement:
        return ProviderMovement(self.id, self.state, Money.from_minor(self.amount, self.currency), self.failure)


class _Charge(Contract):
    id: Name | None = None
    status: ProviderStatus
    amount: int
    currency: Currency | None = None
    captured_amount: int = 0
    refunded_amount: int = 0
    held_until: datetime | None = None
    movement: _Movement | None = None

    def told(self) -> ProviderCharge:
        if self.currency is None:
            return ProviderCharge(self.status, self.id)
        return ProviderCharge(
            self.status,
            self.id,
            Money.from_minor(self.amount, self.currency),
            captured=Money.from_minor(self.captured_amount, self.currency),
            refunded=Money.from_minor(self.refunded_amount, self.currency),
            held_until=self.held_until,
            movement=self.movement.told() if self.movement else None,
        )


class _Error(Contract):
    code: str
    message: str = ""


class _ErrorReply(Contract):
    error: _Error


class HttpPaymentProvider:
    """Speaks the provider's protocol. A reference is also its idempotency key, and so is a movement's key within it."""

    def __init__(
        self,
        http: HttpSession,
        url: str,
        api_key: SecretStr,
        *,
        multi_capture: bool = True,
        timeout_s: float = PROVIDER_CALL_S,
        breaker_threshold: int = BREAKER_OPENS_AFTER,
        breaker_seconds: float = BREAKER_S,
    ) -> None:
        """`multi_capture`: whether our account may take what is held in several captures; providers ask for more money for it."""
        self._api_key = api_key
        self._capabilities = Capabilities(multi_capture=multi_capture, partial_capture=True)
        self._client = OutboundClient(
            NAME, url, http, timeout_s=timeout_s, breaker_threshold=breaker_threshold, breaker_seconds=breaker_seconds
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

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
        key = {"Idempotency-Key": request.reference}
        return _definite(await self._call("charge", "POST", CHARGES, _charge, body, key), frozenset(ProviderStatus))

    async def capture(self, reference: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        is_last = is_last or not self._capabilities.multi_capture
        body = {"amount": amount.minor, "key": key, "is_last": is_last}
        answer = await self._call("capture", "POST", f"{_path(reference)}/capture", _charge, body)
        if answer is None:  # nothing is held, or no longer: what is it then?
            refused = ProviderMovement(None, ProviderMovementState.FAILED, amount, NOT_CAPTURABLE)
            found = _definite(await self.look(reference), frozenset(ProviderStatus) - {ProviderStatus.AUTHORIZED})
            return replace(found, movement=refused)
        return _definite(answer, frozenset(ProviderStatus) - ({ProviderStatus.AUTHORIZED} if is_last else frozenset()))

    async def refund(self, reference: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        body = {"amount": amount.minor, "key": key, "reason": reason[:LONGEST_REASON]}
        return await self._call("refund", "POST", f"{_path(reference)}/refunds", _refund, body)

    async def reverse(self, reference: str, reason: str) -> ProviderCharge:
        body = {"reason": reason[:LONGEST_REASON]}
        answer = await self._call("reverse", "POST", f"{_path(reference)}/reversals", _charge, body)
        unanswered = {ProviderStatus.AUTHORIZED}
        if answer is None or answer.movement is None or answer.movement.state != ProviderMovementState.FAILED:
            unanswered.add(ProviderStatus.CAPTURED)
        return _definite(answer, frozenset(ProviderStatus) - unanswered)

    async def release(self, reference: str, reason: str) -> ProviderCharge:
        body = {"reason": reason[:LONGEST_REASON]}
        answer = await self._call("release", "POST", f"{_path(reference)}/releases", _charge, body)
        return _definite(answer, frozenset(ProviderStatus) - {ProviderStatus.AUTHORIZED})

    async def look(self, reference: str) -> ProviderCharge | None:
        return await self._call("look", "GET", _path(reference), _found)

    async def _call(
        self,
        call: str,
        method: str,
        path: str,
        read: Callable[[Answer], Reply],
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        authorised = {**(headers or {}), "Authorization": f"Bearer {self._api_key.get_secret_value()}"}
        return await self._client.call(call, method, path, read, body=body, headers=authorised)


def _charge(answer: Answer) -> ProviderCharge | None:
    """The charge in an answer; None for "not in a state to be captured". A decline is an answer."""
    if answer.is_failure:
        raise fault(NAME, answer, "it failed")
    if answer.status == 200:
        return model_in(answer, _Charge, NAME).told()
    error = model_in(answer, _ErrorReply, NAME).error
    if answer.status == 402:
        return ProviderCharge(ProviderStatus.DECLINED, decline=Decline(error.code, error.message))
    if (answer.status, error.code) == (409, "reference_reversed"):
        return ProviderCharge(ProviderStatus.REVERSED)
    if (answer.status, error.code) == (409, NOT_CAPTURABLE):
        return None
    raise fault(NAME, answer, f"it refused the request itself, {error.code[:40]}")


def _found(answer: Answer) -> ProviderCharge | None:
    """The charge that was looked for; None if there is none."""
    if answer.status == 404 and model_in(answer, _ErrorReply, NAME).error.code == "not_found":
        return None
    return _charge(answer)


def _refund(answer: Answer) -> ProviderMovement:
    if answer.is_failure:
        raise fault(NAME, answer, "it failed")
    if answer.status == 200:
        return model_in(answer, _Movement, NAME).told()
    raise fault(NAME, answer, f"it refused the request itself, {model_in(answer, _ErrorReply, NAME).error.code[:40]}")


def _definite(answer: ProviderCharge | None, expected: frozenset[ProviderStatus]) -> ProviderCharge:
    if answer is None or answer.status not in expected:
        raise NotUnderstood(f"{NAME} did not do what was asked, and did not say no either.")
    return answer


def _path(reference: str) -> str:
    return f"{CHARGES}/{quote(reference, safe='')}"

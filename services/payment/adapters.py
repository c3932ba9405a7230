"""The payment provider over HTTP, with a time limit and a circuit breaker."""

import hmac
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import aiohttp
from prometheus_client import Counter
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from pydantic import SecretStr, StringConstraints, ValidationError

from chassis.clients import HttpSession, Unavailable
from chassis.logs import logger
from contracts.base import Contract
from contracts.money import Currency, Money
from services.payment.ports import ChargeRequest, Decline, ProviderCharge, ProviderStatus

CHARGES = "/v1/charges"
LONGEST_REASON = 500
log = logger(__name__)
calls_total = Counter("payment_provider_calls_total", "Calls of the payment provider.", ["call", "answer"])


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


class NotUnderstood(Unavailable):
    """The provider answers, but not to this request. Somebody must look; other payments go on."""


class HttpPaymentProvider:
    """Speaks the provider's protocol. A reference is also its idempotency key."""

    def __init__(
        self,
        http: HttpSession,
        url: str,
        api_key: SecretStr,
        *,
        timeout_s: float = 8.0,
        breaker_threshold: int = 5,
        breaker_seconds: float = 2.0,
    ) -> None:
        self._http, self._url, self._api_key = http, url.rstrip("/"), api_key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._threshold, self._breaker_seconds = breaker_threshold, breaker_seconds
        # A decline is an answer and returned; what is raised counts against the provider, except what only concerns one request.
        self._breakers = AsyncCircuitBreakerFactory(exclude=[NotUnderstood])

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
        # One breaker for each kind of call: charges that fail must not keep anybody from a refund.
        breaker = await self._breakers.get_breaker(call, self._threshold, self._breaker_seconds)
        answer_label = "none"
        try:
            async with breaker:
                status, content = await self._send(method, path, body, headers)
                answer_label = str(status)
                return _read(call, status, content)
        except OpenedState as error:
            answer_label = "not_asked"
            raise Unavailable("The payment provider has been failing; it is not asked again yet.") from error
        finally:
            calls_total.labels(call, answer_label).inc()

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        try:
            async with self._http.session.request(
                method,
                self._url + path,
                json=body,
                headers={**(headers or {}), "Authorization": f"Bearer {self._api_key.get_secret_value()}"},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"The payment provider gave no answer ({type(error).__name__}).") from error


def _read(call: str, status: int, content: bytes) -> ProviderCharge | None:
    """The answer in a response; None for "not in a state to be captured". Raises Unavailable for what is no answer."""
    if status >= 500:
        raise Unavailable(f"The payment provider answered {status}.")
    try:
        if status == 200:
            charge = _Charge.model_validate_json(content)
            amount = Money.from_minor(charge.amount, charge.currency) if charge.currency else None
            return ProviderCharge(charge.status, charge.id, amount)
        error = _ErrorReply.model_validate_json(content).error
    except ValidationError as invalid:
        raise NotUnderstood(f"The payment provider answered {status} with something that is not its protocol.") from invalid
    if status == 402:
        return ProviderCharge(ProviderStatus.DECLINED, decline=Decline(error.code, error.message))
    if (status, error.code) == (409, "reference_reversed"):
        return ProviderCharge(ProviderStatus.REVERSED)
    if (status, error.code) == (409, "not_capturable"):
        return None
    log.error("payment_provider_refused_request", call=call, status=status, code=error.code)
    raise NotUnderstood(f"The payment provider refused the request itself: {status} {error.code}.")


def _definite(answer: ProviderCharge | None, expected: frozenset[ProviderStatus]) -> ProviderCharge:
    if answer is None or answer.status not in expected:
        raise NotUnderstood("The payment provider did not do what was asked, and did not say no either.")
    return answer


def _path(reference: str) -> str:
    return f"{CHARGES}/{quote(reference, safe='')}"

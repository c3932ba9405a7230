"""The carrier over HTTP, with a time limit and a circuit breaker. Nothing is retried here: who calls decides."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import aiohttp
from prometheus_client import Counter
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from pydantic import Field, SecretStr, ValidationError

from chassis.clients import HttpSession, Unavailable
from chassis.logs import logger
from contracts.base import Contract
from contracts.errors import ErrorCode, Refusal
from contracts.money import Currency, Money
from services.shipping.ports import Booking, Parcel

SHIPMENTS = "/v1/shipments"
log = logger(__name__)
calls_total = Counter("carrier_calls_total", "Calls of the carrier.", ["call", "answer"])

_CANCELLED = {"reference_cancelled": (ErrorCode.SHIPMENT_CANCELLED, "The shipment was cancelled.")}
_REFUSALS: Mapping[str, Mapping[str, tuple[ErrorCode, str]]] = {
    "book": {
        "address_undeliverable": (ErrorCode.ADDRESS_UNDELIVERABLE, "The carrier does not deliver to this address."),
        "parcel_too_heavy": (ErrorCode.PARCEL_TOO_HEAVY, "The parcel is heavier than the carrier takes."),
        **_CANCELLED,
    },
    "pickup": _CANCELLED,
    "cancel": {"already_dispatched": (ErrorCode.ALREADY_DISPATCHED, "The parcel has left; it can only be returned.")},
}
"""The carrier's codes by call, in our words; its own texts go no further."""
_LEFT = frozenset({"picked_up", "in_transit", "delivered", "lost", "returned"})


class _Shipment(Contract):
    status: str


class _Cost(Contract):
    amount: Annotated[int, Field(ge=0, le=2_000_000_000)]
    """In minor units."""
    currency: Currency


class _Booked(_Shipment):
    tracking_number: Annotated[str, Field(min_length=1, max_length=100)]
    cost: _Cost


class _Error(Contract):
    code: str


class _ErrorReply(Contract):
    error: _Error


Reply = TypeVar("Reply", bound=_Shipment)


class NotUnderstood(Unavailable):
    """The carrier answers, but not to this request. Somebody must look; other parcels go on."""


class HttpCarrier:
    """Speaks the carrier's protocol. A reference is also its idempotency key."""

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
        self._http, self._url = http, url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key.get_secret_value()}"}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._threshold, self._breaker_seconds = breaker_threshold, breaker_seconds
        # What only concerns one parcel, a refusal above all, must not open the circuit.
        self._breakers = AsyncCircuitBreakerFactory(exclude=[Refusal, NotUnderstood])

    async def book(self, parcel: Parcel) -> Booking:
        body = {
            "reference": parcel.reference,
            "service": parcel.service,
            "to": parcel.to.model_dump(exclude_none=True),
            "weight_grams": parcel.weight_grams,
        }
        booked = await self._call("book", SHIPMENTS, body, _Booked)
        return Booking(booked.tracking_number, Money.from_minor(booked.cost.amount, booked.cost.currency))

    async def cancel(self, reference: str) -> None:
        shipment = await self._call("cancel", f"{_path(reference)}/cancel", None, _Shipment)
        if shipment.status != "cancelled":
            raise NotUnderstood("The carrier did not cancel, and did not say no either.")

    async def pick_up(self, reference: str) -> None:
        shipment = await self._call("pickup", f"{_path(reference)}/pickup", None, _Shipment)
        if shipment.status not in _LEFT:
            raise NotUnderstood("The carrier did not take the parcel, and did not say no either.")

    async def _call(self, call: str, path: str, body: Mapping[str, Any] | None, reply: type[Reply]) -> Reply:
        # One breaker for each kind of call: bookings that fail must not keep anybody from a cancel.
        breaker = await self._breakers.get_breaker(call, self._threshold, self._breaker_seconds)
        answer = "none"
        try:
            async with breaker:
                status, content = await self._send(path, body)
                answer = str(status)
                if status >= 300:
                    raise _failure(call, status, content)
                try:
                    return reply.model_validate_json(content)
                except ValidationError as error:
                    raise NotUnderstood(f"The carrier answered {status} with something that is not its protocol.") from error
        except OpenedState as error:
            answer = "not_asked"
            raise Unavailable("The carrier has been failing; it is not asked again yet.") from error
        finally:
            calls_total.labels(call, answer).inc()

    async def _send(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        try:
            async with self._http.session.post(
                self._url + path, json=body, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"The carrier gave no answer ({type(error).__name__}).") from error


def _failure(call: str, status: int, content: bytes) -> Refusal | Unavailable:
    """What a response that is no success means."""
    if status >= 500 or status in (408, 425, 429):
        return Unavailable(f"The carrier answered {status}.")
    try:
        code = _ErrorReply.model_validate_json(content).error.code[:40]
    except ValidationError:
        code = ""
    if code in _REFUSALS[call]:
        return Refusal(*_REFUSALS[call][code])
    log.error("carrier_refused_request", call=call, status=status, code=code)
    return NotUnderstood(f"The carrier refused the request itself: {status} {code}.")


def _path(reference: str) -> str:
    return f"{SHIPMENTS}/{quote(reference, safe='')}"

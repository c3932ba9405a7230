"""The carrier over HTTP."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from pydantic import Field, SecretStr

from chassis.clients import Answer, HttpSession, NotUnderstood, OutboundClient, Unavailable, fault, model_in
from contracts.base import Contract
from contracts.budgets import BREAKER_OPENS_AFTER, BREAKER_S, PROVIDER_CALL_S
from contracts.errors import ErrorCode, Refusal
from contracts.money import Currency, Money
from services.shipping.ports import Booking, Parcel, ReturnParcel

SHIPMENTS = "/v1/shipments"
NAME = "carrier"

_CANCELLED = {"reference_cancelled": (ErrorCode.SHIPMENT_CANCELLED, "The shipment was cancelled.")}
_REFUSALS: Mapping[str, Mapping[str, tuple[ErrorCode, str]]] = {
    "book": {
        "address_undeliverable": (ErrorCode.ADDRESS_UNDELIVERABLE, "The carrier does not deliver to this address."),
        "parcel_too_heavy": (ErrorCode.PARCEL_TOO_HEAVY, "The parcel is heavier than the carrier takes."),
        "depot_unknown": (ErrorCode.WAREHOUSE_UNKNOWN, "The carrier does not go to this warehouse."),
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


class HttpCarrier:
    """Speaks the carrier's protocol. A reference is also its idempotency key."""

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
        self._headers = {"Authorization": f"Bearer {api_key.get_secret_value()}"}
        self._client = OutboundClient(
            NAME, url, http, timeout_s=timeout_s, breaker_threshold=breaker_threshold, breaker_seconds=breaker_seconds
        )

    async def book(self, parcel: Parcel | ReturnParcel) -> Booking:
        body = {
            "reference": parcel.reference,
            "service": parcel.service,
            "weight_grams": parcel.weight_grams,
        } | _way(parcel)
        booked = await self._call("book", SHIPMENTS, body, _Booked)
        return Booking(booked.tracking_number, Money.from_minor(booked.cost.amount, booked.cost.currency))

    async def cancel(self, reference: str) -> None:
        shipment = await self._call("cancel", f"{_path(reference)}/cancel", None, _Shipment)
        if shipment.status != "cancelled":
            raise NotUnderstood(f"{NAME} did not cancel, and did not say no either.")

    async def pick_up(self, reference: str) -> None:
        shipment = await self._call("pickup", f"{_path(reference)}/pickup", None, _Shipment)
        if shipment.status not in _LEFT:
            raise NotUnderstood(f"{NAME} did not take the parcel, and did not say no either.")

    async def _call(self, call: str, path: str, body: Mapping[str, Any] | None, reply: type[Reply]) -> Reply:
        def read(answer: Answer) -> Reply:
            if answer.status >= 300:
                raise _failure(call, answer)
            return model_in(answer, reply, NAME)

        return await self._client.call(call, "POST", path, read, body=body, headers=self._headers)


def _failure(call: str, answer: Answer) -> Refusal | Unavailable:
    """What an answer means that is no success."""
    if answer.is_failure:
        return fault(NAME, answer, "it failed")
    code = model_in(answer, _ErrorReply, NAME).error.code[:40]
    if code in _REFUSALS[call]:
        return Refusal(*_REFUSALS[call][code])
    return fault(NAME, answer, f"it refused the request itself, {code}")


def _way(parcel: Parcel | ReturnParcel) -> dict[str, Any]:
    """From where to where it travels; the carrier knows where we send from."""
    if isinstance(parcel, Parcel):
        return {"to": parcel.to.model_dump(exclude_none=True)}
    return {"from": parcel.origin.model_dump(exclude_none=True), "depot": parcel.depot}


def _path(reference: str) -> str:
    return f"{SHIPMENTS}/{quote(reference, safe='')}"

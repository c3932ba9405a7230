"""Carriers by EasyPost's API, as it is documented at docs.easypost.com."""

import base64
import hashlib
import hmac
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field, SecretStr, StringConstraints, ValidationError

from chassis.clients import Answer, HttpSession, NotUnderstood, OutboundClient, fault, model_in
from contracts.address import Address
from contracts.base import NO_CONTROLS, Contract, Timestamp, told
from contracts.budgets import BREAKER_OPENS_AFTER, BREAKER_S, PROVIDER_CALL_S
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.money import Currency, Money
from contracts.shipments import ShipmentStatus
from services.shipping.ports import (
    Capabilities,
    Consignment,
    Label,
    News,
    Offer,
    Picture,
    Place,
    Rate,
    RefundNews,
    RefundState,
    TrackerNews,
    Verified,
)

NAME = "carrier"
"""In logs and metrics, whoever it is."""
LARGEST_PICTURE = 2_000_000
GRAMS_PER_OUNCE = 28.349523125
MILLIMETRES_PER_INCH = 25.4
SIGNATURE = "x-hmac-signature"
_SCHEME = "hmac-sha256-hex="
_KINDS = {b"%PDF": "application/pdf", b"\x89PNG": "image/png"}
MEANS: Mapping[str, ShipmentStatus] = {
    "in_transit": ShipmentStatus.IN_TRANSIT,
    "out_for_delivery": ShipmentStatus.IN_TRANSIT,
    "available_for_pickup": ShipmentStatus.IN_TRANSIT,
    "delivered": ShipmentStatus.DELIVERED,
    "return_to_sender": ShipmentStatus.RETURNED,
    "failure": ShipmentStatus.LOST,
    "cancelled": ShipmentStatus.CANCELLED,
}
"""What a tracker's status is for us. All others move nothing: `error` says that nobody knows."""
_FIELDS = {
    "street1": "line1",
    "street2": "line2",
    "zip": "postal_code",
    "state": "region",
    "city": "city",
    "country": "country",
    "name": "name",
}
"""Theirs and ours. What concerns an address as a whole is said of its first line."""

_NOTHING_YET = frozenset({"unknown", "pre_transit"})
"""Said of every label that was bought."""
_Id = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]
_Text = Annotated[str, StringConstraints(max_length=200, pattern=NO_CONTROLS)]
_Number = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROLS)]


class _Rate(Contract):
    id: _Id
    carrier: Annotated[str, StringConstraints(max_length=40)]
    service: Annotated[str, StringConstraints(max_length=60)]
    rate: Annotated[Decimal, Field(ge=0, le=10_000_000)]
    currency: Currency = "USD"
    delivery_days: Annotated[int, Field(ge=0, le=365)] | None = None
    est_delivery_days: Annotated[int, Field(ge=0, le=365)] | None = None

    def ours(self) -> Rate:
        days = self.delivery_days if self.delivery_days is not None else self.est_delivery_days
        return Rate(self.id, self.carrier, self.service, _money(self.rate, self.currency), days)


class _PostageLabel(Contract):
    label_url: Annotated[str, StringConstraints(max_length=1000)] | None = None
    label_pdf_url: Annotated[str, StringConstraints(max_length=1000)] | None = None


class _Tracker(Contract):
    tracking_code: _Number
    status: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
    updated_at: Timestamp
    shipment_id: _Id | None = None


class _Message(Contract):
    carrier: str | None = None
    type: str | None = None
    message: Any = None


class _Shipment(Contract):
    id: _Id
    rates: tuple[_Rate, ...] = ()
    messages: tuple[_Message, ...] = ()
    selected_rate: _Rate | None = None
    postage_label: _PostageLabel | None = None
    tracking_code: _Number | None = None
    tracker: _Tracker | None = None
    refund_status: str | None = None

    def label(self) -> Label | None:
        rate = self.selected_rate
        if rate is None or self.postage_label is None or self.tracking_code is None:
            return None
        return Label(
            tracking_number=self.tracking_code,
            carrier=rate.carrier,
            service=rate.service,
            cost=_money(rate.rate, rate.currency),
            url=self.postage_label.label_pdf_url or self.postage_label.label_url,
            refund=_refund_state(self.refund_status),
        )


class _Failing(Contract):
    code: str | None = None
    field: str | None = None
    message: Any = None


class _Verification(Contract):
    success: bool
    errors: tuple[_Failing, ...] = ()


class _Address(Contract):
    name: str | None = None
    street1: str | None = None
    street2: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    country: str | None = None
    verifications: Mapping[str, _Verification] = Field(default_factory=dict)

    @property
    def delivery(self) -> _Verification | None:
        """Whether a parcel gets there, if that was looked at."""
        return self.verifications.get("delivery")


class _Error(Contract):
    code: str
    errors: tuple[Any, ...] = ()


class _ErrorReply(Contract):
    error: _Error


class _Refund(Contract):
    shipment_id: _Id
    status: str = "refunded"


class _Event(Contract):
    id: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROLS)]
    description: _Text
    result: Mapping[str, Any] = Field(default_factory=dict)


class EasyPost:
    """Speaks EasyPost's protocol. Its calls have no idempotency keys: see `services.shipping.ports`."""

    name = "easypost"
    capabilities = Capabilities(refunds=True, tracks=True)

    def __init__(
        self,
        http: HttpSession,
        url: str,
        api_key: SecretStr,
        webhook_secrets: Sequence[SecretStr] = (),
        *,
        timeout_s: float = PROVIDER_CALL_S,
        breaker_threshold: int = BREAKER_OPENS_AFTER,
        breaker_seconds: float = BREAKER_S,
    ) -> None:
        """`webhook_secrets`: any of them may have signed, so that a new one can be brought in before the old one goes."""
        credentials = base64.b64encode(f"{api_key.get_secret_value()}:".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}"}
        self._keys = [unicodedata.normalize("NFKD", secret.get_secret_value()).encode() for secret in webhook_secrets]
        self._url = url.rstrip("/")

        def client(base_url: str) -> OutboundClient:
            return OutboundClient(
                NAME, base_url, http, timeout_s=timeout_s, breaker_threshold=breaker_threshold, breaker_seconds=breaker_seconds
            )

        self._client, self._pictures = client(self._url), client("")

    async def offer(self, consignment: Consignment) -> Offer:
        reply = await self._call("offer", "POST", "/v2/shipments", {"shipment": _to_create(consignment)}, _not_offered)
        shipment = self._shipment(reply)
        messages = [told(f"{each.carrier or each.type or 'carrier'}: {each.message}", 200) for each in shipment.messages]
        if not shipment.rates:
            # Carriers offer nothing for many reasons: only if there is no such address, nobody else need be asked.
            customer = consignment.origin if consignment.is_return else consignment.destination
            if (await self.verify(customer.address)).address is None:
                raise _undeliverable()
        return Offer(shipment.id, [rate.ours() for rate in shipment.rates], messages[:10])

    async def buy(self, provider_id: str, rate: Rate) -> Label:
        reply = await self._call("buy", "POST", f"{_path(provider_id)}/buy", {"rate": {"id": rate.id}}, _not_bought)
        label = self._shipment(reply).label()
        if label is None:
            raise NotUnderstood(f"{NAME} sold a label, and does not show it.")
        return label

    async def find(self, provider_id: str) -> Label | None:
        return self._shipment(await self._call("find", "GET", _path(provider_id))).label()

    async def refund(self, provider_id: str) -> RefundState:
        """Asked again, or too late, it says no: then what it says of the shipment counts."""

        def refused(_: _Error) -> Refusal | None:
            return Refusal(ErrorCode.CONFLICT, "The carrier takes the label not back.")

        try:
            shipment = self._shipment(await self._call("refund", "POST", f"{_path(provider_id)}/refund", {}, refused))
        except Refusal:
            shipment = self._shipment(await self._call("find", "GET", _path(provider_id)))
            return _refund_state(shipment.refund_status) or RefundState.REJECTED
        state = _refund_state(shipment.refund_status)
        if state is None:
            raise NotUnderstood(f"{NAME} says neither that it gives the money of a label back, nor that it does not.")
        return state

    async def picture(self, consignment: Consignment, label: Label) -> Picture:
        url = label.url or ""
        if not url.startswith(("https://", f"{self._url}/")):
            raise NotUnderstood(f"{NAME} keeps a label where we do not fetch it")

        def read(answer: Answer) -> Picture:
            kind = next((kind for start, kind in _KINDS.items() if answer.content.startswith(start)), None)
            if answer.status != 200 or kind is None:
                raise fault(NAME, answer, "it has no picture of the label")
            return Picture(kind, answer.content)

        return await self._pictures.call("label", "GET", url, read, largest=LARGEST_PICTURE)

    async def track(self, provider_id: str) -> TrackerNews | None:
        tracker = self._shipment(await self._call("track", "GET", _path(provider_id))).tracker
        if tracker is None:
            return None
        return _news(f"asked {provider_id} {tracker.updated_at.isoformat()} {tracker.status}", tracker, provider_id)

    async def verify(self, address: Address) -> Verified:
        body = {"address": _address(Place(address)), "verify": True}
        seen = model_in(await self._call("verify", "POST", "/v2/addresses", body), _Address, NAME)
        if seen.delivery is None:
            raise NotUnderstood(f"{NAME} did not look at an address that it was asked about")
        if not seen.delivery.success:
            return Verified(None, [_field_error(each) for each in seen.delivery.errors] or [_field_error(_Failing())])
        try:
            return Verified(
                Address(
                    name=seen.name or address.name,
                    line1=seen.street1 or address.line1,
                    line2=seen.street2 or None,
                    city=seen.city or address.city,
                    region=seen.state or None,
                    postal_code=seen.zip or address.postal_code,
                    country=seen.country or address.country,
                )
            )
        except ValidationError:  # longer than an order takes it: the one that was given gets there too
            return Verified(address)

    def news(self, headers: Mapping[str, str], body: bytes) -> News | None:
        self._require_signed(headers.get(SIGNATURE), body)
        try:
            event = _Event.model_validate(json.loads(body))
            if event.description.startswith("tracker."):
                tracker = _Tracker.model_validate(event.result)
                return None if tracker.status in _NOTHING_YET else _news(event.id, tracker, None)
            if event.description.startswith("refund."):
                refund = _Refund.model_validate(event.result)
                state = _refund_state(refund.status) or RefundState.SUBMITTED
                return RefundNews(event.id, refund.shipment_id, state)
        except (ValueError, RecursionError) as error:
            raise Refusal(ErrorCode.VALIDATION_FAILED, "The event is not one of EasyPost's.") from error
        return None

    def _require_signed(self, header: str | None, body: bytes) -> None:
        """The HMAC-SHA256 of the body as it came. It has no time in it: events are told apart by their ids."""
        given = (header or "").removeprefix(_SCHEME).encode()
        genuine = [hmac.compare_digest(hmac.new(key, body, hashlib.sha256).hexdigest().encode(), given) for key in self._keys]
        if not any(genuine):
            raise Refusal(ErrorCode.INVALID_SIGNATURE, "The signature is missing or wrong.")

    async def _call(
        self,
        call: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        refusal: Callable[[_Error], Refusal | None] = lambda _: None,
    ) -> Answer:
        """`refusal`: which definite "no" of this call is an answer. All others are mistakes of ours, or faults."""

        def read(answer: Answer) -> Answer:
            if answer.status < 300:
                return answer
            if answer.is_failure or answer.status in (401, 402, 403, 404):
                raise fault(NAME, answer, "it failed, or does not take our key, our money or our shipment")
            error = model_in(answer, _ErrorReply, NAME).error
            raise refusal(error) or fault(NAME, answer, f"it refused the request itself, {told(error.code, 60)}")

        return await self._client.call(call, method, path, read, body=body, headers=self._headers)

    @staticmethod
    def _shipment(answer: Answer) -> _Shipment:
        return model_in(answer, _Shipment, NAME)


def _to_create(consignment: Consignment) -> dict[str, Any]:
    """A shipment to rate. Of a return EasyPost is told the way there, and turns it round."""
    there, here = consignment.destination, consignment.origin
    if consignment.is_return:
        there, here = here, there
    size = consignment.size
    wanted: dict[str, Any] = {
        "reference": consignment.reference,
        "to_address": _address(there),
        "from_address": _address(here),
        "parcel": {
            "length": inches(size.length),
            "width": inches(size.width),
            "height": inches(size.height),
            "weight": ounces(consignment.weight_grams),
        },
        "is_return": consignment.is_return,
        "options": {"label_format": "PDF"},
    }
    if consignment.crosses_a_border:
        wanted["customs_info"] = _customs(consignment)
    return wanted


def _customs(consignment: Consignment) -> dict[str, Any]:
    country = consignment.origin.address.country
    items: list[dict[str, Any]] = [
        {
            "description": line.name[:100],
            "quantity": line.quantity,
            "value": float(line.unit_price.amount * line.quantity),
            "currency": line.unit_price.currency,
            "weight": ounces(line.weight_grams * line.quantity),
            "origin_country": line.origin_country or country,
        }
        | ({"hs_tariff_number": line.hs_code} if line.hs_code else {})
        for line in consignment.lines
    ]
    unknown = {"description": "Merchandise", "quantity": 1, "value": 1.0, "currency": "USD", "origin_country": country}
    return {
        "contents_type": "returned_goods" if consignment.is_return else "merchandise",
        "restriction_type": "none",
        "non_delivery_option": "return",
        "customs_certify": True,
        "customs_signer": consignment.origin.address.name,
        "eel_pfc": "NOEEI 30.37(a)",
        "customs_items": items or [unknown | {"weight": ounces(consignment.weight_grams)}],
    }


def _address(place: Place) -> dict[str, str]:
    address = place.address
    fields = {
        "name": address.name,
        "company": place.company,
        "street1": address.line1,
        "street2": address.line2,
        "city": address.city,
        "state": address.region,
        "zip": address.postal_code,
        "country": address.country,
        "phone": place.phone,
    }
    return {name: value for name, value in fields.items() if value}


def ounces(grams: int) -> float:
    """A weight as EasyPost takes it: in ounces, to a tenth."""
    return max(round(grams / GRAMS_PER_OUNCE, 1), 0.1)


def inches(millimetres: int) -> float:
    """A length as EasyPost takes it: in inches, to a tenth."""
    return max(round(millimetres / MILLIMETRES_PER_INCH, 1), 0.1)


def _not_offered(error: _Error) -> Refusal | None:
    """Which "no" to a new shipment is about where it goes."""
    fields = {str(each.get("field", "")) for each in error.errors if isinstance(each, Mapping)}
    about_address = any(name.startswith(("to_address", "from_address", "address")) for name in fields)
    return _undeliverable() if error.code.startswith("ADDRESS.") or about_address else None


def _not_bought(error: _Error) -> Refusal | None:
    return Refusal(ErrorCode.CONFLICT, told(f"The rate cannot be bought: {error.code}", 200))


def _undeliverable() -> Refusal:
    return Refusal(ErrorCode.ADDRESS_UNDELIVERABLE, "The carrier does not deliver to this address.")


def _news(news_id: str, tracker: _Tracker, provider_id: str | None) -> TrackerNews:
    return TrackerNews(
        id=news_id,
        provider_id=provider_id or tracker.shipment_id,
        tracking_number=tracker.tracking_code,
        status=MEANS.get(tracker.status),
        word=tracker.status.upper(),
        occurred_at=tracker.updated_at,
    )


def _field_error(failing: _Failing) -> FieldError:
    field = _FIELDS.get(failing.field or "", "line1")
    detail = failing.message if isinstance(failing.message, str) else "The carrier does not know this address."
    return FieldError(field=field, code="address_not_found", detail=told(detail, 200))


def _refund_state(status: str | None) -> RefundState | None:
    if status is None:
        return None
    return RefundState(status) if status in set(RefundState) else RefundState.SUBMITTED


def _money(amount: Decimal, currency: str) -> Money:
    return Money(amount=round(amount, 2), currency=currency)


def _path(provider_id: str) -> str:
    return f"/v2/shipments/{quote(provider_id, safe='')}"

"""Stripe, through its own library. A charge is a PaymentIntent; facts about the protocol are in simulators/stripe/spec.

Money moves once, whatever is lost or repeated: a PaymentIntent is made before a bank is asked, and can be confirmed once; what
is captured or refunded says under which key in its own metadata, where it is looked for before it is asked for. Idempotency keys
keep what is asked for twice at once apart. They last a day; the rest lasts.

The library's objects are left out: to make them costs five times what the request itself does.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import stripe
from pydantic import SecretStr

from chassis.clients import HttpSession, NotUnderstood, OutboundClient, Unavailable
from chassis.logs import logger
from contracts.budgets import BREAKER_OPENS_AFTER, BREAKER_S, PROVIDER_CALL_S, RETRIES
from contracts.money import Money
from services.payment.adapters.stripe_objects import (
    KEY,
    REFERENCE,
    Object,
    asked,
    captured,
    decline_of,
    definite,
    key_of,
    metadata_key,
    movement_of,
    news_of,
    short_hash,
    takes_parts,
    told,
)
from services.payment.adapters.transport import NAME, REPLAYED, ReplayedFailure, Transport
from services.payment.ports import (
    Capabilities,
    ChargeRequest,
    Decline,
    Opened,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderNews,
    ProviderStatus,
)

API_VERSION = "2026-08-26.dahlia"
"""Of the protocol, on each request; the library may know a newer one."""
INTENTS = "/v1/payment_intents"
NOT_CAPTURABLE = "not_capturable"
REVERSAL = "reversal"
MOST_TRIES = 5
_PAGE = 100
_SHOWN = ("latest_charge",)
"""Of a PaymentIntent, in full."""
_NOT_PAID = frozenset({"requires_payment_method", "requires_confirmation", "requires_action", "requires_capture"})
_PAST = frozenset({"payment_intent_unexpected_state", "charge_already_captured", "charge_already_refunded"})
"""Refused because the charge is in another state by now."""
log = logger(__name__)

stripe.enable_telemetry = False


class _Answer(NamedTuple):
    found: Object
    is_replayed: bool = False
    """Whether it is the answer to an earlier request under the same key, as it was then."""


class StripePayments:
    """A `PaymentProvider`."""

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
        retries: int = RETRIES,
    ) -> None:
        """`multi_capture`: whether our account may take what is held in several captures; Stripe asks for more money for it."""
        self._capabilities = Capabilities(multi_capture=multi_capture, partial_capture=True)
        client = OutboundClient(
            NAME,
            url,
            http,
            timeout_s=timeout_s,
            breaker_threshold=breaker_threshold,
            breaker_seconds=breaker_seconds,
            retries=retries,
        )
        self._stripe = stripe.StripeClient(
            api_key.get_secret_value(),
            stripe_version=API_VERSION,
            base_addresses={"api": url.rstrip("/")},
            max_network_retries=0,
            http_client=Transport(client, url),
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self, request: ChargeRequest) -> Opened:
        card = {
            "amount": request.amount.minor,
            "currency": request.amount.currency.lower(),
            "payment_method": request.card_token,
            "payment_method_types": ["card"],
            "metadata": {REFERENCE: request.reference},
            "expand": ["payment_method"],
        }
        try:
            if not request.capture:
                # What is held for long may have to be held again without the customer: the card is kept for that.
                card |= {"customer": await self._customer_of(request), "setup_future_usage": "off_session"}
            # What asks for something else under the same reference is refused here, where that is known, and not there.
            key = f"{request.reference}/open/{short_hash(json.dumps(card, sort_keys=True))}"
            intent = (await self._once(key, INTENTS, card, _never)).found
        except stripe.InvalidRequestError as error:
            if error.param != "payment_method":
                raise _not_understood(INTENTS, error) from error
            return Opened(None, None, Decline("invalid_card_token", "The card is not known, or cannot be used again."))
        return Opened(intent["id"], (intent["payment_method"]["card"] or {}).get("fingerprint"))

    async def charge(self, provider_id: str, request: ChargeRequest) -> ProviderCharge:
        options: dict[str, Any] = {"capture_method": "automatic" if request.capture else "manual", "expand": _SHOWN}
        if not request.capture and self._capabilities.multi_capture:
            options["payment_method_options"] = {"card": {"request_multicapture": "if_available"}}
        options |= {"return_url": request.return_url} if request.return_url else {"off_session": True}

        async def confirmed() -> Object | None:
            intent = await self._intent(provider_id)
            return None if intent["status"] == "requires_confirmation" else intent

        try:
            answer = await self._once(f"{provider_id}/confirm", f"{INTENTS}/{provider_id}/confirm", options, confirmed)
        except stripe.CardError as error:
            return ProviderCharge(ProviderStatus.DECLINED, provider_id, request.amount, decline_of(_body(error)))
        except stripe.InvalidRequestError as error:
            if error.param == "payment_method":
                return ProviderCharge(ProviderStatus.DECLINED, provider_id, request.amount, decline_of(_body(error)))
            if error.code not in _PAST:
                raise _not_understood("confirm", error) from error
            return asked(await self.look(provider_id))
        return asked(await self.look(provider_id) if answer.is_replayed else told(answer.found))

    async def capture(self, provider_id: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        name = metadata_key(key)
        intent = await self._intent(provider_id)
        if name not in intent["metadata"] and intent["status"] == "requires_capture":
            intent = await self._capture(intent, amount, key, name, is_last=is_last)
        return captured(intent, amount, None if name in intent["metadata"] else NOT_CAPTURABLE)

    async def refund(self, provider_id: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        # Stripe is not told the reason: words in which somebody may have named the customer stay here, where they can be blanked.
        return await self._refund(provider_id, amount, key)

    async def reverse(self, provider_id: str, reason: str) -> ProviderCharge:
        intent = await self._intent(provider_id)
        charge = told(await self._cancel(intent) if intent["status"] in _NOT_PAID else intent)
        reversals = await self._reversals(provider_id)
        if charge.status == ProviderStatus.CAPTURED and charge.captured is not None and charge.refunded is not None:
            left, key = charge.captured - charge.refunded, f"{REVERSAL}-{len(reversals) + 1}"
            refused = await self._refund(provider_id, left, key)
            charge, reversals = await self.look(provider_id), await self._reversals(provider_id)
            if (
                refused.provider_id is None and charge.status == ProviderStatus.CAPTURED
            ):  # otherwise somebody else has reversed it
                return definite(replace(charge, movement=refused))
        return definite(replace(charge, movement=movement_of(reversals[0]) if reversals else None))

    async def release(self, provider_id: str, reason: str) -> ProviderCharge:
        intent = await self._intent(provider_id)
        return definite(told(await self._cancel(intent) if intent["status"] == "requires_capture" else intent))

    async def look(self, provider_id: str) -> ProviderCharge:
        return told(await self._intent(provider_id))

    def news(self, body: bytes) -> ProviderNews | None:
        try:
            return news_of(json.loads(body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NotUnderstood(f"{NAME} tells something that is not its protocol") from error

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _intent(self, provider_id: str) -> Object:
        return await self._get(f"{INTENTS}/{provider_id}", {"expand": _SHOWN})

    async def _capture(self, intent: Object, amount: Money, key: str, name: str, *, is_last: bool) -> Object:
        """The PaymentIntent after a capture; its metadata says whether that was done."""
        provider_id = intent["id"]
        options = {"amount_to_capture": amount.minor, "metadata": {name: str(amount.minor)}, "expand": _SHOWN}
        if not is_last and self._capabilities.multi_capture and takes_parts(intent):
            options["final_capture"] = False

        async def taken() -> Object | None:
            intent = await self._intent(provider_id)
            return intent if name in intent["metadata"] or intent["status"] != "requires_capture" else None

        try:
            path = f"{INTENTS}/{provider_id}/capture"
            answer = await self._once(f"{provider_id}/capture/{key}", path, options, taken)
        except (stripe.InvalidRequestError, stripe.CardError) as error:
            found = await taken()
            if found is None:
                raise _not_understood("capture", error) from error
            return found
        return await self._intent(provider_id) if answer.is_replayed else answer.found

    async def _refunds(self, provider_id: str) -> list[Object]:
        """All refunds of a charge, the newest first."""
        found: list[Object] = []
        asked = {"payment_intent": provider_id, "limit": _PAGE}
        while True:
            page = await self._get("/v1/refunds", asked | ({"starting_after": found[-1]["id"]} if found else {}))
            found += page["data"]
            if not page["has_more"]:
                return found

    async def _reversals(self, provider_id: str) -> list[Object]:
        return [refund for refund in await self._refunds(provider_id) if key_of(refund).startswith(REVERSAL)]

    async def _refund(self, provider_id: str, amount: Money, key: str) -> ProviderMovement:
        wanted = {"payment_intent": provider_id, "amount": amount.minor, "metadata": {KEY: key}}

        async def refunded() -> Object | None:
            return next((refund for refund in await self._refunds(provider_id) if key_of(refund) == key), None)

        found = await refunded()
        if found is not None:
            return movement_of(found)
        try:
            answer = await self._once(f"{provider_id}/refund/{key}", "/v1/refunds", wanted, refunded)
        except stripe.InvalidRequestError as error:
            return ProviderMovement(None, ProviderMovementState.FAILED, amount, (error.code or "refund_refused")[:100])
        if answer.is_replayed:
            return movement_of(await self._get(f"/v1/refunds/{answer.found['id']}"))
        return movement_of(answer.found)

    async def _cancel(self, intent: Object) -> Object:
        """The PaymentIntent when nothing is held, or will be taken; or as it is, if it turns out to be taken already."""
        provider_id = intent["id"]

        async def cancelled() -> Object | None:
            found = await self._intent(provider_id)
            return None if found["status"] in _NOT_PAID else found

        # Of a charge that is taken in parts, the rest is let go with a last capture of nothing.
        call, options = "cancel", dict[str, Any](expand=_SHOWN)
        if intent["amount_received"]:
            call, options = "capture", options | {"amount_to_capture": 0, "final_capture": True}
        try:
            path = f"{INTENTS}/{provider_id}/{call}"
            answer = await self._once(f"{provider_id}/cancel", path, options, cancelled)
        except stripe.InvalidRequestError as error:
            if error.code not in _PAST:
                raise _not_understood("cancel", error) from error
            return await self._intent(provider_id)
        return await self._intent(provider_id) if answer.is_replayed else answer.found

    async def _customer_of(self, request: ChargeRequest) -> str:
        """In whose name Stripe keeps a card: whom it belongs to already, or a new customer. Whether there is such a card is told
        when the charge is opened."""
        try:
            method = (await self._ask("get", f"/v1/payment_methods/{request.card_token}", {})).found
        except stripe.InvalidRequestError:
            method = {}
        if method.get("customer"):
            return str(method["customer"])
        wanted = {"metadata": {"customer_id": str(request.customer_id)}}
        customer = (await self._once(f"{request.reference}/customer", "/v1/customers", wanted, _never)).found
        return str(customer["id"])

    async def _once(
        self, key: str, path: str, params: Mapping[str, Any], find: Callable[[], Awaitable[Object | None]]
    ) -> _Answer:
        """Ask for something under a key. Where the provider only repeats under that key that it failed, look whether it was done,
        and if not ask under the next key: the same one for whoever asks for the same. Raises what Stripe refuses, Unavailable."""
        for number in range(1, MOST_TRIES + 1):
            try:
                return await self._ask("post", path, params, key if number == 1 else f"{key}/{number}")
            except ReplayedFailure:
                found = await find()
                if found is not None:
                    return _Answer(found)
            except stripe.IdempotencyError as error:  # somebody has asked for it in other words
                found = await find()
                if found is None:
                    raise _not_understood(path, error) from error
                return _Answer(found)
        raise Unavailable(f"{NAME} fails again and again")

    async def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Object:
        try:
            return (await self._ask("get", path, params or {})).found
        except (stripe.InvalidRequestError, stripe.CardError) as error:
            raise _not_understood(path, error) from error

    async def _ask(self, method: str, path: str, params: Mapping[str, Any], key: str | None = None) -> _Answer:
        """Raises InvalidRequestError, CardError, IdempotencyError, Unavailable."""
        options = {"idempotency_key": key} if key else {}
        try:
            answer = await self._stripe.raw_request_async(method, path, **params, **options)
        except (stripe.InvalidRequestError, stripe.CardError, stripe.IdempotencyError):
            raise
        except stripe.StripeError as error:
            raise _not_understood(path, error) from error
        if not isinstance(answer.data, dict) or "object" not in answer.data:
            raise NotUnderstood(f"{NAME} answered {answer.code} with something that is not its protocol")
        return _Answer(answer.data, is_replayed=answer.headers.get(REPLAYED) == "true")


async def _never() -> Object | None:
    """Of what harms nobody if it is done twice."""
    return None


def _body(error: stripe.StripeError) -> Object:
    body = error.json_body if isinstance(error.json_body, dict) else {}
    found: Object = body.get("error") or {}
    return found


def _not_understood(call: str, error: stripe.StripeError) -> NotUnderstood:
    code = (error.code or "without a code")[:60]
    log.error("request_not_understood", other_side=NAME, call=call, status=error.http_status, code=code)
    return NotUnderstood(f"{NAME} answered {error.http_status}: it refused the request itself, {code}")

"""Stripe. A charge is a PaymentIntent; facts about its protocol are in simulators/stripe/spec.

Money moves once, whatever is lost or repeated: a PaymentIntent is made before a bank is asked, and can be confirmed once; what
is captured or refunded says under which key in its own metadata, where it is looked for before it is asked for. Idempotency keys
keep what is asked for twice at once apart. They last a day; the rest lasts.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import stripe
from pydantic import SecretStr

from chassis.clients import HttpSession, NotUnderstood, OutboundClient, Unavailable
from chassis.logs import logger
from contracts.budgets import BREAKER_OPENS_AFTER, BREAKER_S, PROVIDER_CALL_S
from contracts.money import Money
from services.payment.adapters.stripe_objects import (
    KEY,
    REFERENCE,
    asked,
    captured,
    charge_of,
    decline_of,
    definite,
    is_past,
    is_replayed,
    key_of,
    metadata_key,
    movement_of,
    news_of,
    told,
)
from services.payment.adapters.transport import NAME, ReplayedFailure, Transport
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
NOT_CAPTURABLE = "not_capturable"
REVERSAL = "reversal"
MOST_TRIES = 5
_WITH_CHARGE = ["latest_charge"]
_HELD = {"requires_capture"}
_NOT_PAID = {"requires_payment_method", "requires_confirmation", "requires_action", "requires_capture"}
Intent = stripe.PaymentIntent
Value = TypeVar("Value")
log = logger(__name__)

stripe.enable_telemetry = False


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
    ) -> None:
        """`multi_capture`: whether our account may take what is held in several captures; Stripe asks for more money for it."""
        self._capabilities = Capabilities(multi_capture=multi_capture, partial_capture=True)
        client = OutboundClient(
            NAME, url, http, timeout_s=timeout_s, breaker_threshold=breaker_threshold, breaker_seconds=breaker_seconds
        )
        self._api = stripe.StripeClient(
            api_key.get_secret_value(),
            stripe_version=API_VERSION,
            base_addresses={"api": url.rstrip("/")},
            max_network_retries=0,
            http_client=Transport(client, url),
        ).v1

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self, request: ChargeRequest) -> Opened:
        card: stripe.params.PaymentIntentCreateParams = {
            "amount": request.amount.minor,
            "currency": request.amount.currency.lower(),
            "payment_method": request.card_token,
            "metadata": {REFERENCE: request.reference},
            "expand": ["payment_method"],
        }
        card["payment_method_types"] = ["card"]  # type: ignore[typeddict-unknown-key]  # in API_VERSION; the library's types are newer
        try:
            if not request.capture:
                # What is held for long may have to be held again without the customer: the card is kept for that.
                card |= {"customer": await self._customer_of(request), "setup_future_usage": "off_session"}
            key = f"{request.reference}/open"
            intent = await self._keyed(key, lambda key: self._api.payment_intents.create_async(card, {"idempotency_key": key}))
        except stripe.InvalidRequestError as error:
            if error.param != "payment_method":
                raise _not_understood("open", error) from error
            return Opened(None, None, Decline("invalid_card_token", "The card is not known, or cannot be used again."))
        method = intent.payment_method
        fingerprint = method.card.fingerprint if isinstance(method, stripe.PaymentMethod) and method.card else None
        return Opened(intent.id, fingerprint)

    async def charge(self, provider_id: str, request: ChargeRequest) -> ProviderCharge:
        options: stripe.params.PaymentIntentConfirmParams = {
            "capture_method": "automatic" if request.capture else "manual",
            "expand": [*_WITH_CHARGE],
        }
        if not request.capture and self._capabilities.multi_capture:
            options["payment_method_options"] = {"card": {"request_multicapture": "if_available"}}
        if request.return_url is None:
            options["off_session"] = True
        else:
            options["return_url"] = request.return_url
        key = f"{provider_id}/confirm"

        async def confirm(key: str) -> Intent:
            return await self._api.payment_intents.confirm_async(provider_id, options, {"idempotency_key": key})

        async def confirmed() -> Intent | None:
            intent = await self._intent(provider_id)
            return None if intent.status == "requires_confirmation" else intent

        try:
            intent = await self._once(key, confirm, confirmed)
        except stripe.CardError as error:
            return ProviderCharge(ProviderStatus.DECLINED, provider_id, request.amount, decline_of(error.error))
        except stripe.InvalidRequestError as error:
            if error.param == "payment_method":
                return ProviderCharge(ProviderStatus.DECLINED, provider_id, decline=decline_of(error.error))
            if not is_past(error):
                raise _not_understood("confirm", error) from error
            intent = await self._intent(provider_id)
        if is_replayed(intent):  # things may have gone on since
            intent = await self._intent(provider_id)
        return asked(told(intent))

    async def capture(self, provider_id: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        name = metadata_key(key)
        intent = await self._intent(provider_id)
        if name in (intent.metadata or {}):
            return captured(intent, amount)
        if intent.status not in _HELD:
            return captured(intent, amount, NOT_CAPTURABLE)
        options: stripe.params.PaymentIntentCaptureParams = {
            "amount_to_capture": amount.minor,
            "metadata": {name: str(amount.minor)},
            "expand": [*_WITH_CHARGE],
        }
        if not is_last and self._takes_parts(intent):
            options["final_capture"] = False

        async def capture(key: str) -> Intent:
            return await self._api.payment_intents.capture_async(provider_id, options, {"idempotency_key": key})

        async def taken() -> Intent | None:
            intent = await self._intent(provider_id)
            return intent if name in (intent.metadata or {}) or intent.status not in _HELD else None

        try:
            intent = await self._once(f"{provider_id}/capture/{key}", capture, taken)
        except (stripe.InvalidRequestError, stripe.CardError) as error:
            intent = await self._intent(provider_id)
            if intent.status in _HELD and name not in (intent.metadata or {}):
                raise _not_understood("capture", error) from error
        return captured(intent, amount, None if name in (intent.metadata or {}) else NOT_CAPTURABLE)

    async def refund(self, provider_id: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        # Stripe is not told the reason: words in which somebody may have named the customer stay here, where they can be blanked.
        return await self._refund(provider_id, amount, key)

    async def reverse(self, provider_id: str, reason: str) -> ProviderCharge:
        intent = await self._intent(provider_id)
        if intent.status in _NOT_PAID:
            intent = await self._cancel(intent)
        charge = told(intent)
        earlier = [refund async for refund in self._refunds(provider_id) if key_of(refund).startswith(REVERSAL)]
        last = movement_of(earlier[-1]) if earlier else None
        if charge.status == ProviderStatus.CAPTURED and charge.captured is not None and charge.refunded is not None:
            last = await self._refund(provider_id, charge.captured - charge.refunded, f"{REVERSAL}-{len(earlier) + 1}")
            charge = told(await self._intent(provider_id))
        return definite(replace(charge, movement=last))

    async def release(self, provider_id: str, reason: str) -> ProviderCharge:
        intent = await self._intent(provider_id)
        if intent.status in _HELD:
            intent = await self._cancel(intent)
        return definite(told(intent))

    async def look(self, provider_id: str) -> ProviderCharge:
        return told(await self._intent(provider_id))

    def news(self, body: bytes) -> ProviderNews | None:
        try:
            return news_of(json.loads(body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NotUnderstood(f"{NAME} tells something that is not its protocol") from error

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _intent(self, provider_id: str) -> Intent:
        call = self._api.payment_intents.retrieve_async(provider_id, {"expand": [*_WITH_CHARGE]})
        return await _understood("look", call)

    async def _refunds(self, provider_id: str) -> AsyncIterator[stripe.Refund]:
        """All refunds of a charge, the oldest first."""
        page = await _understood("list refunds", self._api.refunds.list_async({"payment_intent": provider_id, "limit": 100}))
        found = [refund async for refund in page.auto_paging_iter()]
        for refund in reversed(found):
            yield refund

    async def _refund(self, provider_id: str, amount: Money, key: str) -> ProviderMovement:
        wanted: stripe.params.RefundCreateParams = {
            "payment_intent": provider_id,
            "amount": amount.minor,
            "metadata": {KEY: key},
        }

        async def refund(key: str) -> stripe.Refund:
            return await self._api.refunds.create_async(wanted, {"idempotency_key": key})

        async def refunded() -> stripe.Refund | None:
            return next(iter([refund async for refund in self._refunds(provider_id) if key_of(refund) == key]), None)

        found = await refunded()
        try:
            if found is None:
                found = await self._once(f"{provider_id}/refund/{key}", refund, refunded)
        except stripe.InvalidRequestError as error:
            return ProviderMovement(None, ProviderMovementState.FAILED, amount, (error.code or "refund_refused")[:100])
        if is_replayed(found):
            found = await _understood("look at a refund", self._api.refunds.retrieve_async(found.id))
        return movement_of(found)

    async def _cancel(self, intent: Intent) -> Intent:
        """Nothing is held, or will be taken, any more; unless it turns out to be taken already."""

        async def cancel(key: str) -> Intent:
            options: stripe.params.PaymentIntentCancelParams = {"expand": [*_WITH_CHARGE]}
            return await self._api.payment_intents.cancel_async(intent.id, options, {"idempotency_key": key})

        async def cancelled() -> Intent | None:
            found = await self._intent(intent.id)
            return None if found.status in _NOT_PAID else found

        try:
            found = await self._once(f"{intent.id}/cancel", cancel, cancelled)
        except stripe.InvalidRequestError as error:
            if not is_past(error):
                raise _not_understood("cancel", error) from error
            return await self._intent(intent.id)
        return await self._intent(intent.id) if is_replayed(found) else found

    async def _customer_of(self, request: ChargeRequest) -> str:
        """In whose name Stripe keeps a card: whom it belongs to already, or a new customer."""
        method = await _understood("look at a card", self._api.payment_methods.retrieve_async(request.card_token))
        if method.customer:
            return method.customer if isinstance(method.customer, str) else method.customer.id
        wanted: stripe.params.CustomerCreateParams = {"metadata": {"customer_id": str(request.customer_id)}}
        key = f"{request.reference}/customer"
        customer = await self._keyed(key, lambda key: self._api.customers.create_async(wanted, {"idempotency_key": key}))
        return customer.id

    def _takes_parts(self, intent: Intent) -> bool:
        """Whether this card lets what is held be taken in several captures."""
        charge = charge_of(intent)
        details = charge.payment_method_details if charge else None
        multicapture = details.card.multicapture if details and details.card else None
        return self._capabilities.multi_capture and multicapture is not None and multicapture.status == "available"

    async def _keyed(self, key: str, do: Callable[[str], Awaitable[Value]]) -> Value:
        """Do what harms nobody if it is done twice."""

        async def not_done() -> Value | None:
            return None

        return await self._once(key, do, not_done)

    async def _once(self, key: str, do: Callable[[str], Awaitable[Value]], find: Callable[[], Awaitable[Value | None]]) -> Value:
        """Do it under a key. Where the provider only repeats under that key that it failed, look whether it was done, and if not
        do it under the next key: the same one for whoever does the same."""
        for number in range(1, MOST_TRIES + 1):
            try:
                return await do(key if number == 1 else f"{key}/{number}")
            except ReplayedFailure:
                found = await find()
                if found is not None:
                    return found
            except (stripe.CardError, stripe.InvalidRequestError):
                raise
            except stripe.StripeError as error:
                raise _not_understood(key, error) from error
        raise Unavailable(f"{NAME} fails again and again")


async def _understood(call: str, answer: Awaitable[Value]) -> Value:
    try:
        return await answer
    except stripe.StripeError as error:
        raise _not_understood(call, error) from error


def _not_understood(call: str, error: stripe.StripeError) -> NotUnderstood:
    log.error("request_not_understood", other_side=NAME, call=call, status=error.http_status, code=error.code)
    code = (error.code or "without a code")[:60]
    return NotUnderstood(f"{NAME} answered {error.http_status}: it refused the request itself, {code}")

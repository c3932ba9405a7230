"""What Stripe's objects mean to us. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from chassis.clients import NotUnderstood, Unavailable
from contracts.money import Money
from contracts.payments import ActionKind, PaymentAction
from services.payment.adapters.transport import NAME
from services.payment.ports import (
    Decline,
    DisputeState,
    NewsKind,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderNews,
    ProviderStatus,
)

Object = Mapping[str, Any]
"""As it comes, in JSON."""
REFERENCE, KEY = "reference", "key"
"""In the metadata of a PaymentIntent, and of a refund."""
_LONGEST_METADATA_KEY = 40
_STATUS = {
    "requires_confirmation": ProviderStatus.OPEN,
    "requires_action": ProviderStatus.ACTION_REQUIRED,
    "requires_capture": ProviderStatus.AUTHORIZED,
}
_REFUND_STATE = {
    "pending": ProviderMovementState.PENDING,
    "requires_action": ProviderMovementState.PENDING,
    "succeeded": ProviderMovementState.SUCCEEDED,
    "failed": ProviderMovementState.FAILED,
    "canceled": ProviderMovementState.FAILED,
}
_DISPUTE_STATE = {
    "needs_response": DisputeState.OPEN,
    "under_review": DisputeState.OPEN,
    "won": DisputeState.WON,
    "lost": DisputeState.LOST,
}
"""Of what moves money; an inquiry (`warning_…`) does not."""


def money(minor: int | None, currency: str) -> Money:
    return Money.from_minor(minor or 0, currency.upper())


def told(intent: Object) -> ProviderCharge:
    """Where a charge is, by its PaymentIntent, whose latest charge is shown in full."""
    charge: Object = intent["latest_charge"] or {}
    received, refunded = intent["amount_received"], charge.get("amount_refunded", 0)
    error, currency = intent["last_payment_error"], intent["currency"]
    return ProviderCharge(
        _status(intent, received, refunded),
        intent["id"],
        money(intent["amount"], currency),
        decline=decline_of(error) if error else None,
        action=_action(intent),
        review=_review(charge),
        captured=money(received, currency),
        refunded=money(refunded, currency),
        held_until=_held_until(charge) if intent["status"] == "requires_capture" else None,
    )


def _status(intent: Object, received: int, refunded: int) -> ProviderStatus:
    if intent["status"] == "processing":
        raise Unavailable(f"{NAME} is still at it")
    if known := _STATUS.get(intent["status"]):
        return known
    if received:
        return ProviderStatus.REFUNDED if refunded == received else ProviderStatus.CAPTURED
    if intent["last_payment_error"]:
        return ProviderStatus.DECLINED
    if intent["status"] == "requires_payment_method":
        return ProviderStatus.OPEN
    return ProviderStatus.VOIDED if intent["latest_charge"] else ProviderStatus.REVERSED


def _action(intent: Object) -> PaymentAction | None:
    if intent["status"] != "requires_action":
        return None
    url = ((intent["next_action"] or {}).get("redirect_to_url") or {}).get("url")
    if not url:
        raise NotUnderstood(f"{NAME} wants the customer to do something that is not to open a page")
    return PaymentAction(kind=ActionKind.REDIRECT, url=url)


def _review(charge: Object) -> str | None:
    outcome = charge.get("outcome") or {}
    if outcome.get("type") != "manual_review":
        return None
    return f"the payment provider wants it to be looked at: risk {outcome.get('risk_level') or 'unknown'}"


def _card_of(charge: Object) -> Object:
    """What a charge says of its card."""
    return (charge.get("payment_method_details") or {}).get("card") or {}


def _held_until(charge: Object) -> datetime | None:
    before = _card_of(charge).get("capture_before")
    return datetime.fromtimestamp(before, UTC) if before else None


def takes_parts(intent: Object) -> bool:
    """Whether this card lets what is held be taken in several captures."""
    multicapture = _card_of(intent["latest_charge"] or {}).get("multicapture") or {}
    return bool(multicapture.get("status") == "available")


def decline_of(error: Object) -> Decline:
    """Why it was declined, by an error's body; what does not apply it leaves out."""
    code = error.get("decline_code")
    if code in (None, "generic_decline"):
        code = error.get("code") or "card_declined"
    return Decline(str(code)[:100], str(error.get("message") or "")[:500])


def movement_of(refund: Object) -> ProviderMovement:
    state = _REFUND_STATE[refund["status"] or "pending"]
    failure = (refund.get("failure_reason") or "unknown") if state == ProviderMovementState.FAILED else None
    return ProviderMovement(refund["id"], state, money(refund["amount"], refund["currency"]), failure)


def captured(intent: Object, amount: Money, failure: str | None) -> ProviderCharge:
    """Where a charge is after a capture was asked for, which went well or failed."""
    state = ProviderMovementState.FAILED if failure else ProviderMovementState.SUCCEEDED
    charge = told(intent)
    if failure and charge.status == ProviderStatus.AUTHORIZED:
        raise NotUnderstood(f"{NAME} did not take what it holds, and did not say no either.")
    return replace(charge, movement=ProviderMovement(None, state, amount, failure))


def asked(charge: ProviderCharge) -> ProviderCharge:
    """Raises NotUnderstood, if the bank was not asked although it should have been."""
    if charge.status == ProviderStatus.OPEN:
        raise NotUnderstood(f"{NAME} did not ask the bank, and did not say no either.")
    return charge


def definite(charge: ProviderCharge) -> ProviderCharge:
    """Raises NotUnderstood, if something is still held, or may be taken yet."""
    if charge.status in (ProviderStatus.OPEN, ProviderStatus.ACTION_REQUIRED, ProviderStatus.AUTHORIZED):
        raise NotUnderstood(f"{NAME} did not let go of it, and did not say no either.")
    return charge


def metadata_key(key: str) -> str:
    """Under which a PaymentIntent says what was captured under a key."""
    name = f"captured-{key}"
    return name if len(name) <= _LONGEST_METADATA_KEY else f"captured-{short_hash(key)}"


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def key_of(refund: Object) -> str:
    """Ours of a refund; empty if it was made at the provider."""
    return str((refund["metadata"] or {}).get(KEY, ""))


def news_of(event: Object) -> ProviderNews | None:
    """What an event tells; None if that concerns nothing of ours."""
    about, found = event["type"], event["data"]["object"]
    if found["object"] == "payment_intent":
        return _news_of_charge(event, found)
    if found["object"] == "refund":
        return _news_of_refund(event, found)
    if found["object"] == "dispute" and about.startswith("charge.dispute."):
        return _news_of_dispute(event, found)
    return None


def _news_of_charge(event: Object, intent: Object) -> ProviderNews | None:
    status = _STATUS.get(intent["status"])
    if status is None:
        if intent["amount_received"]:
            status = ProviderStatus.CAPTURED
        elif intent["last_payment_error"]:
            status = ProviderStatus.DECLINED
        else:
            status = ProviderStatus.VOIDED
    if status in (ProviderStatus.OPEN, ProviderStatus.ACTION_REQUIRED):
        return None
    return ProviderNews(
        id=event["id"],
        kind=NewsKind.CHARGE,
        reference=intent["metadata"].get(REFERENCE),
        charge_id=intent["id"],
        movement_id=None,
        key=None,
        amount=money(intent["amount_received"], intent["currency"]),
        state=status,
        occurred_at=datetime.fromtimestamp(event["created"], UTC),
        reason=intent["cancellation_reason"],
    )


def _news_of_refund(event: Object, refund: Object) -> ProviderNews:
    return ProviderNews(
        id=event["id"],
        kind=NewsKind.REFUND,
        reference=None,
        charge_id=refund["payment_intent"] or refund["charge"],
        movement_id=refund["id"],
        key=refund["metadata"].get(KEY),
        amount=money(refund["amount"], refund["currency"]),
        state=_REFUND_STATE[refund["status"]],
        occurred_at=datetime.fromtimestamp(event["created"], UTC),
        reason=refund.get("failure_reason"),
    )


def _news_of_dispute(event: Object, dispute: Object) -> ProviderNews | None:
    state = _DISPUTE_STATE.get(dispute["status"])
    if state is None:
        return None
    return ProviderNews(
        id=event["id"],
        kind=NewsKind.DISPUTE,
        reference=None,
        charge_id=dispute["payment_intent"] or dispute["charge"],
        movement_id=dispute["id"],
        key=None,
        amount=money(dispute["amount"], dispute["currency"]),
        state=state,
        occurred_at=datetime.fromtimestamp(event["created"], UTC),
        reason=dispute["reason"],
    )

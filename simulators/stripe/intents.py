"""Payment intents and their charges: what may happen to them, and what it does to the books."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.stripe import shapes
from simulators.stripe.books import Books, Row, encoded, new_id
from simulators.stripe.cards import UNAUTHENTICATED, Card, Decline, card_of
from simulators.stripe.errors import StripeError, doc_url, refused, unavailable
from simulators.stripe.methods import Methods, why_not

MOST_CAPTURES = 50
CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action", "processing")
NOT_CONFIRMED = (
    "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod to attempt"
    " to fulfill this PaymentIntent again."
)
NO_METHOD = (
    "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the PaymentIntent with a"
    " payment method and then confirm it again, or confirm it again directly with a payment method."
)
HELD = {"reason": None, "risk_level": "normal", "risk_score": 12, "seller_message": "Payment complete.", "type": "authorized"}
IN_REVIEW = {
    "reason": "elevated_risk_level",
    "risk_level": "elevated",
    "risk_score": 68,
    "seller_message": "Stripe evaluated this payment as having elevated risk, and placed it in your manual review queue.",
    "type": "manual_review",
}
NO_ADVICE = {"advice_code": None, "network_advice_code": None, "network_decline_code": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    payment_method: str | None = None
    capture_method: str | None = None
    setup_future_usage: str | None = None
    return_url: str | None = None
    card_options: Mapping[str, str] | None = None
    details: Mapping[str, Any] | None = None
    off_session: bool = False
    """Nobody is there who could confirm the payment at the bank."""
    may_ask: bool = True
    amount: int | None = None
    page_url: str = ""
    """Where the simulator's own pages are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIntent:
    amount: int
    currency: str
    capture_method: str
    payment_method: str | None
    customer: str | None
    setup_future_usage: str | None
    card_options: Mapping[str, str]
    metadata: Mapping[str, str]
    details: Mapping[str, Any]
    confirmation: Confirmation | None

    @property
    def reference(self) -> str | None:
        return self.metadata.get("reference")


class Intents:
    def __init__(self, books: Books, methods: Methods, *, multi_capture: bool, hold_s: float) -> None:
        self._books, self._methods = books, methods
        self._multi_capture, self._hold_s = multi_capture, hold_s

    def create(self, wanted: NewIntent) -> Row:
        books = self._books
        if wanted.customer is not None:
            books.one("customers", wanted.customer, "customer", status=400)
        method = self._methods.to_use(wanted.payment_method, wanted.customer) if wanted.payment_method else None
        id_ = new_id("pi")
        row = books.insert(
            "payment_intents",
            id_,
            reference=wanted.reference,
            status="requires_confirmation" if method else "requires_payment_method",
            amount=wanted.amount,
            currency=wanted.currency,
            capture_method=wanted.capture_method,
            client_secret=f"{id_}_secret_{secrets.token_urlsafe(16)}",
            customer=wanted.customer,
            payment_method=method["id"] if method else None,
            setup_future_usage=wanted.setup_future_usage,
            card_options=encoded(wanted.card_options),
            metadata=encoded(wanted.metadata),
            details=encoded(wanted.details),
        )
        books.tell("payment_intent.created", shapes.intent(row))
        return self._confirm(row, wanted.confirmation) if wanted.confirmation else row

    def confirm(self, intent_id: str, wanted: Confirmation) -> Row:
        return self._confirm(self._books.one("payment_intents", intent_id, "intent"), wanted)

    def _confirm(self, row: Row, wanted: Confirmation) -> Row:
        if row["status"] not in CONFIRMABLE:
            raise unexpected(row, "confirm", "confirmed", CONFIRMABLE)
        if wanted.amount not in (None, row["amount"]):
            raise refused("The amount to confirm is not the amount of the PaymentIntent.", param="amount_to_confirm")
        method = self._method_to_confirm_with(row, wanted)
        card = card_of(method["card"])
        if card.hangs or self._books.cause.attempt <= card.failures_first:
            raise unavailable(waits=card.hangs)
        self._books.cause.reply = card.reply
        row = self._books.update(
            "payment_intents",
            row["id"],
            payment_method=method["id"],
            capture_method=wanted.capture_method or row["capture_method"],
            setup_future_usage=wanted.setup_future_usage or row["setup_future_usage"],
            return_url=wanted.return_url or row["return_url"],
            card_options=encoded({**shapes.parsed(row["card_options"]), **(wanted.card_options or {})}),
            details=encoded({**shapes.parsed(row["details"]), **(wanted.details or {})}),
            last_payment_error=None,
        )
        if card.asks and wanted.may_ask and not wanted.off_session:
            return self._ask(row, wanted.page_url)
        row, error = self._charge(row, method, card, UNAUTHENTICATED if card.asks else card.decline)
        if error:
            raise error
        return row

    def _method_to_confirm_with(self, row: Row, wanted: Confirmation) -> Row:
        if wanted.payment_method is not None:
            return self._methods.to_use(wanted.payment_method, row["customer"])
        if row["payment_method"] is None:
            raise refused(NO_METHOD, "payment_intent_unexpected_state", payment_intent=shapes.intent(row))
        method = self._books.one("payment_methods", row["payment_method"])
        if error := why_not(method, row["customer"]):
            raise error
        return method

    # ── 3-D Secure ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, row: Row, page_url: str) -> Row:
        key = secrets.token_urlsafe(24)
        url = f"{page_url.rstrip('/')}/3ds/{row['id']}?key={key}"
        row = self._books.update("payment_intents", row["id"], status="requires_action", action_key=key, action_url=url)
        self._books.tell("payment_intent.requires_action", shapes.intent(row))
        return row

    def act(self, row: Row, *, confirmed: bool) -> Row:
        """The customer has confirmed the payment at the bank, or has refused to. Nothing if it does not wait for that."""
        if row["status"] != "requires_action":
            return row
        method = self._books.one("payment_methods", row["payment_method"])
        if confirmed:
            card = card_of(method["card"])
            return self._charge(row, method, card, card.decline, authenticated=True)[0]
        code = "payment_intent_authentication_failure"
        error = {"code": code, "doc_url": doc_url(code), "message": NOT_CONFIRMED, "type": "invalid_request_error"}
        return self._failed(row, method, error, row["latest_charge"])

    # ── The bank is asked ────────────────────────────────────────────────────────────────────────────────────────────────

    def _charge(
        self, row: Row, method: Row, card: Card, decline: Decline | None, *, authenticated: bool = False
    ) -> tuple[Row, StripeError | None]:
        """The intent, and the error that an answer has to be, if the bank said no."""
        self._methods.use(method)
        if decline:
            return self._decline(row, method, decline, authenticated=authenticated)
        books, held = self._books, row["capture_method"] == "manual"
        held_until = books.clock() + self._hold_s if held else None
        multicapture = self._multi_capture and shapes.parsed(row["card_options"]).get("request_multicapture") == "if_available"
        charge = self._new_charge(
            row,
            method,
            authenticated=authenticated,
            status="succeeded",
            held=held,
            multicapture=held and multicapture,
            capture_before=int(held_until) if held_until is not None else None,
            outcome={**NO_ADVICE, "network_status": "approved_by_network", **(IN_REVIEW if card.elevated_risk else HELD)},
        )
        if row["customer"] and row["setup_future_usage"]:
            self._methods.attach(method, row["customer"])
        if not held:
            charge = self._take(charge, row["amount"], captured=True)
        books.tell("charge.succeeded", shapes.charge(charge))
        row = books.update(
            "payment_intents",
            row["id"],
            status="requires_capture" if held else "succeeded",
            amount_capturable=row["amount"] if held else 0,
            amount_received=0 if held else row["amount"],
            latest_charge=charge["id"],
            held_until=held_until,
        )
        books.tell("payment_intent.amount_capturable_updated" if held else "payment_intent.succeeded", shapes.intent(row))
        if held_until is not None:
            books.will_be_due(held_until)
        return row, None

    def _decline(self, row: Row, method: Row, decline: Decline, *, authenticated: bool) -> tuple[Row, StripeError]:
        blocked = decline.blocked
        why = f"The bank returned the decline code `{decline.decline_code}`."
        charge = self._new_charge(
            row,
            method,
            authenticated=authenticated,
            status="failed",
            failure_code=decline.code,
            failure_message=decline.message,
            outcome={
                **NO_ADVICE,
                "network_status": "not_sent_to_network" if blocked else "declined_by_network",
                "reason": "highest_risk_level" if blocked else decline.decline_code,
                "risk_level": "highest" if blocked else "normal",
                "risk_score": 90 if blocked else 12,
                "seller_message": "Stripe blocked this payment as too risky." if blocked else why,
                "type": "blocked" if blocked else "issuer_declined",
            },
        )
        self._books.tell("charge.failed", shapes.charge(charge))
        error = {
            "charge": charge["id"],
            "code": decline.code,
            "decline_code": decline.decline_code,
            "doc_url": doc_url(decline.code),
            "message": decline.message,
            "type": "card_error",
        }
        row = self._failed(row, method, error, charge["id"])
        shown = shapes.intent(row)
        return row, StripeError(
            402,
            "card_error",
            decline.message,
            decline.code,
            decline_code=decline.decline_code,
            charge=charge["id"],
            payment_intent=shown,
            payment_method=shown["last_payment_error"]["payment_method"],
        )

    def _failed(self, row: Row, method: Row, error: Mapping[str, Any], charge_id: str | None) -> Row:
        """It needs another payment method now."""
        row = self._books.update(
            "payment_intents",
            row["id"],
            status="requires_payment_method",
            payment_method=None,
            latest_charge=charge_id,
            last_payment_error=encoded({**error, "payment_method": shapes.payment_method(method)}),
        )
        self._books.tell("payment_intent.payment_failed", shapes.intent(row))
        return row

    def _new_charge(self, row: Row, method: Row, *, outcome: Mapping[str, Any], **values: Any) -> Row:
        return self._books.insert(
            "charges",
            new_id("ch"),
            payment_intent=row["id"],
            payment_method=method["id"],
            customer=row["customer"],
            card=method["card"],
            amount=row["amount"],
            currency=row["currency"],
            outcome=encoded(outcome),
            billing=method["billing"],
            metadata=row["metadata"],
            details=row["details"],
            **values,
        )

    def _take(self, charge: Row, amount: int, *, captured: bool) -> Row:
        """Some of what the bank allowed comes to the balance. `captured`: it was the last."""
        movement = charge["balance_transaction"]
        if amount:
            made = self._books.move("charge", "charge", amount, charge, charge["id"])
            movement = movement or made
        return self._books.update(
            "charges",
            charge["id"],
            amount_captured=charge["amount_captured"] + amount,
            captured=captured,
            balance_transaction=movement,
        )

    # ── What is held ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def capture(self, intent_id: str, amount: int | None, *, final: bool | None, metadata: Mapping[str, str]) -> Row:
        """Take what is held, or some of it. With `final`, or if that is not said, the rest is let go."""
        row = self._expired(self._books.one("payment_intents", intent_id, "intent"), self._books.clock())
        if row["status"] != "requires_capture":
            why = f"This PaymentIntent could not be captured because it has a status of {row['status']}."
            why += " Only a PaymentIntent with one of the following statuses may be captured: requires_capture."
            raise refused(why, "payment_intent_unexpected_state", payment_intent=shapes.intent(row))
        charge = self._books.one("charges", row["latest_charge"])
        wanted = row["amount_capturable"] if amount is None else amount
        if wanted > row["amount_capturable"]:
            why = f"The amount to capture ({wanted}) is greater than the amount that is capturable ({row['amount_capturable']})."
            raise refused(why, "amount_too_large", param="amount_to_capture")
        if not wanted and (not row["captures"] or final is False):
            why = "An amount of 0 releases what is left of a payment that was captured in part: with final_capture=true."
            raise refused(why, "parameter_invalid_integer", param="amount_to_capture")
        if final is False and not charge["multicapture"]:
            why = "This PaymentIntent cannot be captured multiple times: its charge's multicapture status is unavailable."
            raise refused(why, param="final_capture")
        if final is False and row["captures"] + 1 >= MOST_CAPTURES:
            raise refused(f"A PaymentIntent can be captured up to {MOST_CAPTURES} times.", param="final_capture")
        if metadata:
            changed = encoded({**shapes.parsed(row["metadata"]), **metadata})
            row = self._books.update("payment_intents", row["id"], metadata=changed)
        last = final is not False or wanted == row["amount_capturable"]
        return self._captured(row, charge, wanted, last=last)

    def _captured(self, row: Row, charge: Row, amount: int, *, last: bool) -> Row:
        books, before, charge_before = self._books, shapes.intent(row), shapes.charge(charge)
        charge = self._take(charge, amount, captured=last)
        row = books.update(
            "payment_intents",
            row["id"],
            status="succeeded" if last else "requires_capture",
            amount_capturable=0 if last else row["amount_capturable"] - amount,
            amount_received=row["amount_received"] + amount,
            captures=row["captures"] + bool(amount),
            held_until=None if last else row["held_until"],
        )
        books.tell("charge.captured" if last else "charge.updated", shapes.charge(charge), charge_before)
        if last:
            books.tell("payment_intent.succeeded", shapes.intent(row))
        else:
            books.tell("payment_intent.amount_capturable_updated", shapes.intent(row), before)
        return row

    def cancel(self, intent_id: str, reason: str | None) -> Row:
        """Let go of what is held, and of the payment. What was captured of it stays so: then it has succeeded."""
        row = self._expired(self._books.one("payment_intents", intent_id, "intent"), self._books.clock())
        if row["status"] not in CANCELABLE:
            raise unexpected(row, "cancel", "canceled", CANCELABLE)
        return self._let_go(row, reason)

    def _let_go(self, row: Row, reason: str | None) -> Row:
        if row["captures"]:
            return self._captured(row, self._books.one("charges", row["latest_charge"]), 0, last=True)
        row = self._books.update(
            "payment_intents",
            row["id"],
            status="canceled",
            amount_capturable=0,
            held_until=None,
            canceled_at=self._books.now,
            cancellation_reason=reason,
        )
        self._books.tell("payment_intent.canceled", shapes.intent(row))
        return row

    def expire(self, row: Row) -> Row:
        """The hold's time is up now."""
        return self._expired(row, float("inf"))

    def settle(self) -> None:
        """Let go of holds whose time is up."""
        now = self._books.clock()
        due = "SELECT * FROM payment_intents WHERE held_until <= ?"
        for row in self._books.ledger.execute(due, (now,)).fetchall():
            self._expired(row, now)

    def _expired(self, row: Row, now: float) -> Row:
        if row["held_until"] is None or row["held_until"] > now:
            return row
        if not row["captures"]:
            self._books.tell("charge.expired", shapes.charge(self._books.one("charges", row["latest_charge"])))
        return self._let_go(row, "automatic")


def unexpected(row: Row, verb: str, participle: str, statuses: tuple[str, ...]) -> StripeError:
    why = (
        f"You cannot {verb} this PaymentIntent because it has a status of {row['status']}. Only a PaymentIntent with one of the"
        f" following statuses may be {participle}: {', '.join(statuses)}."
    )
    return refused(why, "payment_intent_unexpected_state", payment_intent=shapes.intent(row))

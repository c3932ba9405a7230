"""The rows of the books, as Stripe shows them, and what of them can be expanded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from simulators.stripe.books import Books, Row, Table
from simulators.stripe.cards import card_of, fingerprint
from simulators.stripe.errors import InvalidParameter
from simulators.stripe.params import Page

Shown = dict[str, Any]
DEEPEST = 4
EXPIRY = {"exp_month": 12, "exp_year": 2034}
NO_ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
NO_BILLING = {"address": NO_ADDRESS, "email": None, "name": None, "phone": None, "tax_id": None}
CHECKS = {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"}
AUTHENTICATED = {
    "authentication_flow": "challenge",
    "electronic_commerce_indicator": "05",
    "exemption_indicator": None,
    "result": "authenticated",
    "result_reason": None,
    "transaction_id": None,
    "version": "2.2.0",
}


@lru_cache(maxsize=4_096)
def parsed(text: str) -> Shown:
    """Of a column. The same text gives the same object, so nobody may change it."""
    return cast(Shown, json.loads(text))


def intent(row: Row) -> Shown:
    details = parsed(row["details"])
    action = None
    if row["status"] == "requires_action":
        url = {"return_url": row["return_url"], "url": row["action_url"]}
        action = {"type": "redirect_to_url", "redirect_to_url": url}
    error = row["last_payment_error"]
    return {
        "id": row["id"],
        "object": "payment_intent",
        "amount": row["amount"],
        "amount_capturable": row["amount_capturable"],
        "amount_received": row["amount_received"],
        "automatic_payment_methods": details.get("automatic_payment_methods"),
        "canceled_at": row["canceled_at"],
        "cancellation_reason": row["cancellation_reason"],
        "capture_method": row["capture_method"],
        "client_secret": row["client_secret"],
        "confirmation_method": details.get("confirmation_method", "automatic"),
        "created": row["created"],
        "currency": row["currency"],
        "customer": row["customer"],
        "description": details.get("description"),
        "last_payment_error": json.loads(error) if error else None,
        "latest_charge": row["latest_charge"],
        "livemode": False,
        "metadata": parsed(row["metadata"]),
        "next_action": action,
        "payment_method": row["payment_method"],
        "payment_method_options": {"card": card_options(row)},
        "payment_method_types": details.get("payment_method_types", ["card"]),
        "processing": None,
        "receipt_email": details.get("receipt_email"),
        "setup_future_usage": row["setup_future_usage"],
        "shipping": details.get("shipping"),
        "statement_descriptor": details.get("statement_descriptor"),
        "statement_descriptor_suffix": details.get("statement_descriptor_suffix"),
        "status": row["status"],
        "transfer_group": details.get("transfer_group"),
    }


def card_options(row: Row) -> Shown:
    return {"network": None, "request_three_d_secure": "automatic", **parsed(row["card_options"])}


def charge(row: Row) -> Shown:
    details = parsed(row["details"])
    card = card_of(row["card"])
    shown_card = {
        "amount_authorized": row["amount"] if row["status"] == "succeeded" else None,
        "authorization_code": None,
        "brand": card.brand,
        "checks": CHECKS,
        "country": "US",
        **EXPIRY,
        "extended_authorization": {"status": "disabled"},
        "fingerprint": fingerprint(row["card"]),
        "funding": "credit",
        "incremental_authorization": {"status": "unavailable"},
        "last4": card.last4,
        "multicapture": {"status": "available" if row["multicapture"] else "unavailable"},
        "network": card.brand,
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": row["amount"], "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": AUTHENTICATED if row["authenticated"] else None,
    }
    if row["capture_before"] is not None:
        shown_card["capture_before"] = row["capture_before"]
    return {
        "id": row["id"],
        "object": "charge",
        "amount": row["amount"],
        "amount_captured": row["amount_captured"],
        "amount_refunded": row["amount_refunded"],
        "balance_transaction": row["balance_transaction"],
        "billing_details": parsed(row["billing"]),
        "calculated_statement_descriptor": None,
        "captured": bool(row["captured"]),
        "created": row["created"],
        "currency": row["currency"],
        "customer": row["customer"],
        "description": details.get("description"),
        "disputed": bool(row["disputed"]),
        "failure_balance_transaction": None,
        "failure_code": row["failure_code"],
        "failure_message": row["failure_message"],
        "livemode": False,
        "metadata": parsed(row["metadata"]),
        "outcome": parsed(row["outcome"]),
        "paid": row["status"] == "succeeded",
        "payment_intent": row["payment_intent"],
        "payment_method": row["payment_method"],
        "payment_method_details": {"card": shown_card, "type": "card"},
        "receipt_email": details.get("receipt_email"),
        "receipt_number": None,
        "receipt_url": None,
        "refunded": bool(row["captured"]) and row["amount_refunded"] == row["amount_captured"],
        "shipping": details.get("shipping"),
        "statement_descriptor": details.get("statement_descriptor"),
        "statement_descriptor_suffix": details.get("statement_descriptor_suffix"),
        "status": row["status"],
        "transfer_group": details.get("transfer_group"),
    }


def refund(row: Row) -> Shown:
    shown = {
        "id": row["id"],
        "object": "refund",
        "amount": row["amount"],
        "balance_transaction": row["balance_transaction"],
        "charge": row["charge"],
        "created": row["created"],
        "currency": row["currency"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": parsed(row["metadata"]),
        "payment_intent": row["payment_intent"],
        "reason": row["reason"],
        "receipt_number": None,
        "status": row["status"],
    }
    if row["status"] == "pending":
        shown["pending_reason"] = "processing"
    # Unlike the others, these are not there at all unless there is something to say.
    more = {name: row[name] for name in ("failure_reason", "failure_balance_transaction") if row[name] is not None}
    return shown | more


def dispute(row: Row, movements: Iterable[Row] = ()) -> Shown:
    return {
        "id": row["id"],
        "object": "dispute",
        "amount": row["amount"],
        "balance_transactions": [balance_transaction(movement) for movement in movements],
        "charge": row["charge"],
        "created": row["created"],
        "currency": row["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {"enhanced_evidence": {}},
        "evidence_details": {
            "due_by": row["created"] + 7 * 86_400,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": row["payment_intent"],
        "reason": row["reason"],
        "status": row["status"],
    }


def payment_method(row: Row) -> Shown:
    card = card_of(row["card"])
    return {
        "id": row["id"],
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": parsed(row["billing"]),
        "card": {
            "brand": card.brand,
            "checks": CHECKS,
            "country": "US",
            "display_brand": card.brand,
            **EXPIRY,
            "fingerprint": fingerprint(row["card"]),
            "funding": "credit",
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
        },
        "created": row["created"],
        "customer": row["customer"],
        "livemode": False,
        "metadata": parsed(row["metadata"]),
        "type": "card",
    }


def customer(row: Row) -> Shown:
    return {
        "id": row["id"],
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": row["created"],
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": row["description"],
        "email": row["email"],
        "invoice_prefix": row["id"][-8:].upper(),
        "livemode": False,
        "metadata": parsed(row["metadata"]),
        "name": row["name"],
        "phone": row["phone"],
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
    }


def balance_transaction(row: Row) -> Shown:
    return {
        "id": row["id"],
        "object": "balance_transaction",
        "amount": row["amount"],
        "available_on": row["created"],
        "balance_type": "payments",
        "created": row["created"],
        "currency": row["currency"],
        "description": None,
        "exchange_rate": None,
        "fee": 0,
        "fee_details": [],
        "net": row["amount"],
        "reporting_category": row["reporting_category"],
        "source": row["source"],
        "status": "available",
        "type": row["type"],
    }


def event(row: Row) -> Shown:
    return cast(Shown, json.loads(row["body"]))


SHAPES: Mapping[Table, Callable[[Row], Shown]] = {
    "payment_intents": intent,
    "charges": charge,
    "refunds": refund,
    "payment_methods": payment_method,
    "customers": customer,
    "balance_transactions": balance_transaction,
    "events": event,
}
EXPANDABLE: Mapping[tuple[str, str], Table] = {
    ("payment_intent", "latest_charge"): "charges",
    ("payment_intent", "payment_method"): "payment_methods",
    ("charge", "balance_transaction"): "balance_transactions",
    ("charge", "payment_intent"): "payment_intents",
    ("charge", "refunds"): "refunds",
    ("refund", "balance_transaction"): "balance_transactions",
    ("refund", "charge"): "charges",
    ("refund", "payment_intent"): "payment_intents",
    ("dispute", "charge"): "charges",
    ("dispute", "payment_intent"): "payment_intents",
}


class Shapes:
    """Shows rows, and puts whole objects in the place of ids where that is asked for."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def shown(self, table: Table, row: Row, expand: Sequence[str] = ()) -> Shown:
        if table == "disputes":
            of_it, _ = self._books.listed("balance_transactions", Page(100, None, None), source=row["id"])
            shown = dispute(row, reversed(of_it))
        else:
            shown = SHAPES[table](row)
        for path in expand:
            names = path.split(".")
            if len(names) > DEEPEST:
                raise InvalidParameter(f"You cannot expand more than {DEEPEST} levels of a property.", param="expand")
            self._expand(shown, names, path)
        return shown

    def page(self, table: Table, found: tuple[list[Row], bool], url: str, expand: Sequence[str] = ()) -> Shown:
        """A list; what is to be expanded in it is named from `data` on."""
        within = []
        for path in expand:
            if not path.startswith("data."):
                raise cannot_expand(path)
            within.append(path.removeprefix("data."))
        rows, more = found
        return {"object": "list", "data": [self.shown(table, row, within) for row in rows], "has_more": more, "url": url}

    def _expand(self, shown: Shown, names: Sequence[str], path: str) -> None:
        name, *below = names
        table = EXPANDABLE.get((shown["object"], name))
        if table is None:
            raise cannot_expand(path)
        if name == "refunds" and "refunds" not in shown:
            of_it = self._books.listed("refunds", Page(10, None, None), charge=shown["id"])
            shown["refunds"] = self.page("refunds", of_it, f"/v1/charges/{shown['id']}/refunds")
        value = shown.get(name)
        if isinstance(value, str):
            value = shown[name] = self.shown(table, self._books.one(table, value))
        if below and value is not None:
            if value["object"] == "list":
                if below[0] != "data":
                    raise cannot_expand(path)
                for each in value["data"]:
                    if below[1:]:
                        self._expand(each, below[1:], path)
            else:
                self._expand(value, below, path)


def cannot_expand(path: str) -> InvalidParameter:
    return InvalidParameter(f"This property cannot be expanded ({path[:200]}).", param="expand")

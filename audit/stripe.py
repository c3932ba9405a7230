"""The payment provider's own books, by Stripe's API: its charges, refunds and disputes as the audit compares them."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from audit.books import ChargeRow, DisputeRow, RefundRow

PAGE = "100"
"""Objects of one answer; Stripe gives no more."""
Intent = Mapping[str, Any]
_CHANGES = ("refund.updated", "refund.failed", "charge.dispute.updated", "charge.dispute.closed")
"""Events of what may change long after it began."""
RECENTLY = timedelta(minutes=10)
_DISPUTES = {"needs_response": "open", "under_review": "open", "won": "won", "lost": "lost"}
"""Inquiries (`warning_…`) move no money."""
_REFUNDS = {"requires_action": "pending", "canceled": "failed"}


class StripeBooks:
    """Reads them, page after page."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self._http, self._url, self._headers = http, url.rstrip("/"), {"Authorization": f"Bearer {key}"}
        self._references: dict[str, str] = {}
        self._changed: dict[str, float] = {}
        """When refunds and disputes changed that did so a short while ago."""

    async def charges(self) -> list[ChargeRow]:
        """All charges, without those of which no bank was ever asked: nothing can come of them."""
        intents = [intent async for intent in self._listed("payment_intents", {"expand[]": "data.latest_charge"})]
        self._references = {intent["id"]: reference_of(intent) for intent in intents}
        since = str(int((datetime.now(UTC) - RECENTLY).timestamp()))
        events = [event async for event in self._listed("events", {"created[gte]": since, "types[]": _CHANGES})]
        self._changed = {event["data"]["object"]["id"]: event["created"] for event in reversed(events)}
        return [charge_row(intent) for intent in intents if was_asked(intent)]

    async def refunds(self) -> list[RefundRow]:
        """All refunds, also those made in its dashboard. `charges` must have been read before."""
        return [
            RefundRow(
                self._reference(row),
                row["id"],
                _REFUNDS.get(row["status"], row["status"]),
                row["amount"],
                row["currency"].upper(),
                self._changed_at(row),
            )
            async for row in self._listed("refunds", {})
        ]

    async def disputes(self) -> list[DisputeRow]:
        """All disputes. `charges` must have been read before."""
        return [
            DisputeRow(
                self._reference(row),
                row["id"],
                _DISPUTES[row["status"]],
                row["amount"],
                row["currency"].upper(),
                self._changed_at(row),
            )
            async for row in self._listed("disputes", {})
            if row["status"] in _DISPUTES
        ]

    def _reference(self, row: Mapping[str, Any]) -> str:
        name: str = row["payment_intent"] or row["charge"]
        return self._references.get(name, name)

    def _changed_at(self, row: Mapping[str, Any]) -> datetime:
        return _time(max(row["created"], self._changed.get(row["id"], 0)))

    async def _listed(self, what: str, params: Mapping[str, str | Sequence[str]]) -> AsyncIterator[Mapping[str, Any]]:
        after: list[tuple[str, str]] = []
        while True:
            asked = [("limit", PAGE), *after]
            for name, value in params.items():
                asked += [(name, each) for each in ([value] if isinstance(value, str) else value)]
            async with self._http.get(f"{self._url}/v1/{what}", params=asked, headers=self._headers) as response:
                response.raise_for_status()
                page = json.loads(await response.read())
            for item in page["data"]:
                yield item
            if not page["has_more"]:
                return
            after = [("starting_after", page["data"][-1]["id"])]


def was_asked(intent: Intent) -> bool:
    """Whether a bank was asked, or the charge was forbidden."""
    return bool(intent["status"] != "requires_confirmation")


def reference_of(intent: Intent) -> str:
    """Ours of a charge; its own name, if it is none of ours."""
    return str(intent["metadata"].get("reference", intent["id"]))


def charge_row(intent: Intent) -> ChargeRow:
    """A PaymentIntent, whose latest charge is shown in full, in the audit's words. Pure."""
    charge, received = intent["latest_charge"], intent["amount_received"]
    refunded = charge["amount_refunded"] if charge else 0
    return ChargeRow(
        reference_of(intent),
        intent["id"],
        _status(intent, received, refunded),
        intent["currency"].upper(),
        intent["amount"],
        received,
        refunded,
        _time(intent["created"]),
    )


def _status(intent: Intent, received: int, refunded: int) -> str:
    if intent["status"] == "requires_capture":
        return "authorized"
    if intent["status"] == "requires_action":
        return "action_required"
    if received:
        return "refunded" if refunded == received else "captured"
    if intent["last_payment_error"]:
        return "declined"
    return "voided" if intent["latest_charge"] else "reversed"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

"""What release 0.9.0 left behind: its card processor had a protocol of its own, and took and gave back charges whole.

A charge keeps its id, `ch_…`; its payment intent is called the same, `pi_…`. A reference that was only reversed has no payment.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from simulators.stripe.books import Books, Row, encoded, new_id
from simulators.stripe.intents import HELD, IN_REVIEW, NO_ADVICE
from simulators.stripe.shapes import NO_BILLING

STATUS = {
    "authorized": "requires_capture",
    "captured": "succeeded",
    "refunded": "succeeded",
    "voided": "canceled",
    "declined": "requires_payment_method",
}


def carry_on(books: Books, directory: Path, *, hold_s: float) -> None:
    """Take over the charges of the old books, once."""
    old = directory / "payment_provider.sqlite"
    if not old.exists() or books.ledger.execute("SELECT 1 FROM payment_intents LIMIT 1").fetchone():
        return
    with closing(sqlite3.connect(f"{old.as_uri()}?mode=ro", uri=True)) as ledger, books.changed_by():
        ledger.row_factory = sqlite3.Row
        for row in ledger.execute("SELECT * FROM charges WHERE id IS NOT NULL AND currency IS NOT NULL ORDER BY seq"):
            _take_over(books, row, hold_s)


def _take_over(books: Books, row: Row, hold_s: float) -> None:
    created = int(datetime.fromisoformat(row["created_at"]).timestamp())
    status, currency, declined = STATUS[row["status"]], row["currency"].lower(), row["status"] == "declined"
    held, taken = status == "requires_capture", row["captured_amount"]
    shared = {"created": created, "amount": row["amount"], "currency": currency}
    metadata, details = encoded({"reference": row["reference"]}), encoded({"description": row["description"] or None})
    intent_id = f"pi_{row['id'].removeprefix('ch_')}"
    charge = books.insert(
        "charges",
        row["id"],
        **shared,
        payment_intent=intent_id,
        card="pm_card_visa",
        status="failed" if declined else "succeeded",
        amount_captured=taken,
        captured=bool(taken),
        held=status in ("requires_capture", "canceled"),
        capture_before=created + int(hold_s) if held else None,
        failure_code=row["decline_code"],
        failure_message=row["decline_message"],
        outcome=encoded({**NO_ADVICE, "network_status": None, **(IN_REVIEW if row["risk"] == "elevated" else HELD)}),
        billing=encoded(NO_BILLING),
        metadata=metadata,
        details=details,
    )
    books.insert(
        "payment_intents",
        intent_id,
        **shared,
        reference=row["reference"],
        status=status,
        amount_capturable=row["amount"] if held else 0,
        amount_received=taken,
        capture_method="manual" if held else "automatic",
        client_secret=f"{intent_id}_secret_{new_id('old')}",
        latest_charge=row["id"],
        held_until=created + hold_s if held else None,
        canceled_at=created if status == "canceled" else None,
        cancellation_reason="requested_by_customer" if status == "canceled" else None,
        card_options="{}",
        metadata=metadata,
        details=details,
    )
    if taken:
        books.update("charges", row["id"], balance_transaction=books.move("charge", "charge", taken, charge, row["id"]))
    if back := row["refunded_amount"]:
        refund_id = new_id("re")
        books.update("charges", row["id"], amount_refunded=back)
        books.insert(
            "refunds",
            refund_id,
            created=created,
            charge=row["id"],
            payment_intent=intent_id,
            amount=back,
            currency=currency,
            status="succeeded",
            balance_transaction=books.move("refund", "refund", -back, charge, refund_id),
            metadata="{}",
        )

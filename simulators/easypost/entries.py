"""Our own books: what happened to each label, one entry after the other, none ever changed."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

from simulators.easypost.clock import event_stamp
from simulators.easypost.tariff import CURRENCY
from simulators.easypost.wire import money

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    shipment_id TEXT NOT NULL,
    reference TEXT,
    tracking_code TEXT NOT NULL,
    amount INTEGER NOT NULL
);
CREATE TRIGGER IF NOT EXISTS entries_are_not_changed BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are not changed'); END;
CREATE TRIGGER IF NOT EXISTS entries_are_not_removed BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are not removed'); END;
"""


def write(ledger: sqlite3.Connection, at: datetime, kind: str, label: sqlite3.Row, amount: int = 0) -> None:
    """Joins the transaction that did it. `kind`: label_bought, refund_submitted, label_refunded, refund_rejected, scanned, or the
    stage that the parcel came to. `amount`: cents that are charged; negative, given back."""
    ledger.execute(
        "INSERT INTO entries (at, kind, shipment_id, reference, tracking_code, amount) VALUES (?, ?, ?, ?, ?, ?)",
        (event_stamp(at), kind, label["shipment_id"], label["reference"], label["tracking_code"], amount),
    )


def listed(ledger: sqlite3.Connection, limit: int, after: int) -> list[dict[str, Any]]:
    rows = ledger.execute("SELECT * FROM entries WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
    return [{**dict(row), "amount": money_of(row["amount"])} for row in rows]


def money_of(cents: int) -> dict[str, str]:
    sign = "-" if cents < 0 else ""
    return {"amount": f"{sign}{money(abs(cents))}", "currency": CURRENCY}


def totals(ledger: sqlite3.Connection) -> dict[str, Any]:
    """What there is by now; `by_status` counts labels by where their parcels are."""
    shipments = ledger.execute("SELECT COUNT(*) FROM shipments").fetchone()[0]
    found = ledger.execute(
        "SELECT COUNT(*) AS bought, COUNT(*) FILTER (WHERE refund = 'submitted') AS submitted,"
        " COUNT(*) FILTER (WHERE refund = 'refunded') AS refunded, COUNT(*) FILTER (WHERE refund = 'rejected') AS rejected,"
        " COUNT(scanned) AS scanned, COUNT(*) FILTER (WHERE refund = 'refunded' AND scanned IS NOT NULL) AS carried_refunded"
        " FROM labels"
    ).fetchone()
    stages = dict(ledger.execute("SELECT stage, COUNT(*) FROM labels GROUP BY stage").fetchall())
    spent = ledger.execute("SELECT COALESCE(SUM(amount), 0) FROM entries").fetchone()[0]
    ended = {stage: stages.get(stage, 0) for stage in ("delivered", "lost", "returned")}
    attempts = ledger.execute("SELECT COALESCE(SUM(received), 0) FROM purchases").fetchone()[0]
    return {
        "shipments": shipments,
        **dict(found),
        **ended,
        "by_status": stages,
        "attempts": attempts,
        "postage": money_of(spent),
    }

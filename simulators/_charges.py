"""The card processor's books. Rules here, HTTP in `payment_provider`."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from simulators._cards import Card, card_of
from simulators._ledger import now_text, transaction
from simulators._refusals import Refused, Unavailable

SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL UNIQUE,
    id TEXT,
    status TEXT NOT NULL,
    amount INTEGER NOT NULL DEFAULT 0,
    currency TEXT,
    captured_amount INTEGER NOT NULL DEFAULT 0,
    refunded_amount INTEGER NOT NULL DEFAULT 0,
    risk TEXT NOT NULL DEFAULT 'normal',
    decline_code TEXT,
    decline_message TEXT,
    description TEXT,
    metadata TEXT NOT NULL DEFAULT '{}',
    reversal_reason TEXT,
    created_at TEXT NOT NULL
);
-- Append-only, and one row per kind: the database itself refuses to move the same money twice.
CREATE TABLE IF NOT EXISTS movements (
    reference TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('authorize', 'capture', 'void', 'refund')),
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    moved_at TEXT NOT NULL,
    PRIMARY KEY (reference, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    reference TEXT PRIMARY KEY,
    received INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS idempotency_keys (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    content TEXT NOT NULL
) WITHOUT ROWID;
"""

ROWS = "SELECT c.*, COALESCE(a.received, 0) AS attempts FROM charges c LEFT JOIN attempts a USING (reference)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRequest:
    reference: str
    amount: int
    currency: str
    card_token: str
    capture: bool
    description: str
    metadata: dict[str, Any]

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content: dict[str, Any]
    fresh: bool
    """Whether this very request made the decision, rather than repeating an earlier one."""


class Charges:
    def __init__(self, ledger: sqlite3.Connection) -> None:
        self._ledger = ledger

    def charge(self, key: str, request: ChargeRequest) -> Reply:
        """Decide once per reference; every repetition hears the first decision again."""
        fingerprint = request.fingerprint()
        with transaction(self._ledger) as ledger:
            attempt: int = ledger.execute(
                "INSERT INTO attempts VALUES (?, 1) ON CONFLICT DO UPDATE SET received = received + 1 RETURNING received",
                (request.reference,),
            ).fetchone()[0]
            stored = ledger.execute("SELECT * FROM idempotency_keys WHERE key = ?", (key,)).fetchone()
            if stored is not None:
                return _repeated(stored, fingerprint)
            row = self._find(request.reference)
            card = card_of(request.card_token)
            fresh = row is None
            if row is None:
                if card.hangs or attempt <= card.failures_first:
                    return Reply(503, Unavailable().content(), fresh=True)
                row = self._decide(request, card)
            status, content = _answer(row)
            ledger.execute(
                "INSERT INTO idempotency_keys VALUES (?, ?, ?, ?)",
                (key, fingerprint, status, json.dumps(content)),
            )
        return Reply(status, content, fresh)

    def _decide(self, request: ChargeRequest, card: Card) -> sqlite3.Row:
        captured = request.capture and card.risk == "normal"
        status = "declined" if card.refusal else "captured" if captured else "authorized"
        code, message = card.refusal or (None, None)
        self._ledger.execute(
            "INSERT INTO charges (reference, id, status, amount, currency, captured_amount, risk,"
            " decline_code, decline_message, description, metadata, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                request.reference,
                f"ch_{secrets.token_hex(12)}",
                status,
                request.amount,
                request.currency,
                request.amount if status == "captured" else 0,
                card.risk,
                code,
                message,
                request.description,
                json.dumps(request.metadata),
                now_text(),
            ),
        )
        row = self.get(request.reference)
        if status != "declined":
            self._move(row, "capture" if captured else "authorize")
        return row

    def capture(self, reference: str) -> sqlite3.Row:
        with transaction(self._ledger) as ledger:
            row = self.get(reference)
            if row["status"] == "captured":
                return row
            if row["status"] != "authorized":
                raise Refused(409, "not_capturable", f"The charge is {row['status']}.")
            ledger.execute(
                "UPDATE charges SET status = 'captured', captured_amount = amount WHERE reference = ?",
                (reference,),
            )
            self._move(row, "capture")
            return self.get(reference)

    def reverse(self, reference: str, reason: str) -> sqlite3.Row:
        """Give back whatever was taken; remember an unknown reference, to refuse a late charge."""
        with transaction(self._ledger) as ledger:
            row = self._find(reference)
            if row is None:
                ledger.execute(
                    "INSERT INTO charges (reference, status, reversal_reason, created_at) VALUES (?, 'reversed', ?, ?)",
                    (reference, reason, now_text()),
                )
            elif row["status"] == "captured":
                ledger.execute(
                    "UPDATE charges SET status = 'refunded', refunded_amount = captured_amount,"
                    " reversal_reason = ? WHERE reference = ?",
                    (reason, reference),
                )
                self._move(row, "refund")
            elif row["status"] == "authorized":
                ledger.execute(
                    "UPDATE charges SET status = 'voided', reversal_reason = ? WHERE reference = ?",
                    (reason, reference),
                )
                self._move(row, "void")
            return self.get(reference)

    def get(self, reference: str) -> sqlite3.Row:
        row = self._find(reference)
        if row is None:
            raise Refused(404, "not_found", "There is no charge with that reference.")
        return row

    def _find(self, reference: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._ledger.execute(f"{ROWS} WHERE c.reference = ?", (reference,)).fetchone()
        return row

    def listed(self, limit: int, after: int) -> list[sqlite3.Row]:
        return self._ledger.execute(f"{ROWS} WHERE c.seq > ? ORDER BY c.seq LIMIT ?", (after, limit)).fetchall()

    def totals(self) -> dict[str, Any]:
        counted = dict(self._ledger.execute("SELECT status, COUNT(*) FROM charges GROUP BY status").fetchall())
        moved: dict[str, dict[str, int]] = {}
        for currency, kind, amount in self._ledger.execute(
            "SELECT currency, kind, SUM(amount) FROM movements GROUP BY currency, kind"
        ):
            moved.setdefault(currency, {"authorize": 0, "capture": 0, "void": 0, "refund": 0})[kind] = amount
        attempts = self._ledger.execute("SELECT COALESCE(SUM(received), 0) FROM attempts").fetchone()[0]
        return {
            "references": sum(counted.values()),
            "by_status": counted,
            "attempts": attempts,
            "currencies": {
                currency: {
                    "authorized": by_kind["authorize"],
                    "captured": by_kind["capture"],
                    "voided": by_kind["void"],
                    "refunded": by_kind["refund"],
                    "net": by_kind["capture"] - by_kind["refund"],
                }
                for currency, by_kind in sorted(moved.items())
            },
        }

    def _move(self, row: sqlite3.Row, kind: str) -> None:
        self._ledger.execute(
            "INSERT INTO movements VALUES (?, ?, ?, ?, ?)",
            (row["reference"], kind, row["amount"], row["currency"], now_text()),
        )


def shown(row: sqlite3.Row) -> dict[str, Any]:
    names = ("id", "reference", "status", "amount", "currency", "captured_amount", "refunded_amount", "risk")
    return {name: row[name] for name in names}


def shown_in_full(row: sqlite3.Row) -> dict[str, Any]:
    names = ("decline_code", "reversal_reason", "description", "created_at", "attempts")
    return {**shown(row), **{name: row[name] for name in names}, "metadata": json.loads(row["metadata"])}


def _answer(row: sqlite3.Row) -> tuple[int, dict[str, Any]]:
    if row["status"] == "declined":
        return 402, Refused(402, row["decline_code"], row["decline_message"]).content()
    if row["status"] == "reversed":
        refusal = Refused(409, "reference_reversed", "The reference was reversed before this charge arrived.")
        return 409, refusal.content()
    return 200, shown(row)


def _repeated(stored: sqlite3.Row, fingerprint: str) -> Reply:
    if stored["fingerprint"] != fingerprint:
        refusal = Refused(422, "idempotency_error", "The key was used before, with another request.")
        return Reply(422, refusal.content(), fresh=False)
    return Reply(stored["status"], json.loads(stored["content"]), fresh=False)

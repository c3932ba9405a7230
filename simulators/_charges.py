"""The card processor's books. Rules here, HTTP in `payment_provider`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulators._cards import Card, card_of
from simulators._ledger import now_text, open_ledger, transaction
from simulators._refusals import Refused, Unavailable

SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL UNIQUE,
    id TEXT,
    status TEXT NOT NULL,
    amount INTEGER NOT NULL DEFAULT 0,
    currency TEXT,
    held_amount INTEGER NOT NULL DEFAULT 0 CHECK (held_amount >= 0),
    held_until REAL,
    captured_amount INTEGER NOT NULL DEFAULT 0 CHECK (captured_amount + held_amount <= amount),
    refunded_amount INTEGER NOT NULL DEFAULT 0 CHECK (refunded_amount >= 0),
    disputed_amount INTEGER NOT NULL DEFAULT 0 CHECK (disputed_amount >= 0),
    refund_course TEXT NOT NULL DEFAULT 'succeeded',
    risk TEXT NOT NULL DEFAULT 'normal',
    decline_code TEXT,
    decline_message TEXT,
    description TEXT,
    metadata TEXT NOT NULL DEFAULT '{}',
    reversal_reason TEXT,
    created_at TEXT NOT NULL,
    CHECK (refunded_amount + disputed_amount <= captured_amount)
);
CREATE INDEX IF NOT EXISTS charges_held ON charges (held_until) WHERE held_amount > 0;
-- Append-only, and one row per kind and key: the database itself refuses to move the same money twice.
CREATE TABLE IF NOT EXISTS moves (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL,
    kind TEXT NOT NULL
        CHECK (kind IN ('authorize', 'capture', 'void', 'refund', 'refund_failed', 'dispute', 'dispute_won')),
    key TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    moved_at TEXT NOT NULL,
    UNIQUE (reference, kind, key)
);
CREATE TRIGGER IF NOT EXISTS moves_stay BEFORE UPDATE ON moves BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS moves_are_kept BEFORE DELETE ON moves BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TABLE IF NOT EXISTS refunds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL,
    key TEXT NOT NULL,
    made_by TEXT NOT NULL CHECK (made_by IN ('api', 'dashboard')),
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed')),
    failure TEXT,
    reason TEXT NOT NULL,
    next_state TEXT,
    due_at REAL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (reference, key)
);
CREATE INDEX IF NOT EXISTS refunds_due ON refunds (due_at) WHERE next_state IS NOT NULL;
CREATE TABLE IF NOT EXISTS disputes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL,
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'won', 'lost')),
    reason TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
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

FROM_0_9 = """
ALTER TABLE charges ADD COLUMN held_amount INTEGER NOT NULL DEFAULT 0;
ALTER TABLE charges ADD COLUMN held_until REAL;
ALTER TABLE charges ADD COLUMN disputed_amount INTEGER NOT NULL DEFAULT 0;
ALTER TABLE charges ADD COLUMN refund_course TEXT NOT NULL DEFAULT 'succeeded';
UPDATE charges SET held_amount = amount, held_until = unixepoch('now', '+7 days') WHERE status = 'authorized';
"""
MOVES_FROM_0_9 = """
INSERT INTO moves (id, reference, kind, key, amount, currency, moved_at)
    SELECT 'mv_' || lower(hex(randomblob(12))), reference, kind, CASE WHEN kind IN ('void', 'refund') THEN 'reversal'
        WHEN kind = 'authorize' OR NOT EXISTS (
            SELECT 1 FROM movements AS held WHERE held.reference = movements.reference AND held.kind = 'authorize'
        ) THEN 'charge' ELSE 'capture' END, amount, currency, moved_at
    FROM movements ORDER BY moved_at;
INSERT INTO refunds (id, reference, key, made_by, amount, currency, state, reason, created_at, updated_at)
    SELECT 're_' || lower(hex(randomblob(12))), reference, key, 'api', amount, currency, 'succeeded', '', moved_at, moved_at
    FROM moves WHERE kind = 'refund';
DROP TABLE movements;
"""

ROWS = "SELECT c.*, COALESCE(a.received, 0) AS attempts FROM charges c LEFT JOIN attempts a USING (reference)"
REVERSAL = "reversal"
EXPIRED_CARD = "expired_or_canceled_card"


def open_charges(directory: Path) -> sqlite3.Connection:
    """The books, also where release 0.9.0 left them, whose charges were captured and refunded whole."""

    def columns(table: str) -> set[str]:
        return {row["name"] for row in ledger.execute(f"PRAGMA table_info({table})")}

    ledger = open_ledger(directory, "payment_provider", "")
    if columns("charges") and "held_amount" not in columns("charges"):
        ledger.executescript(FROM_0_9)
    ledger.executescript(SCHEMA)
    if columns("movements"):
        ledger.executescript(MOVES_FROM_0_9)
    return ledger


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


@dataclass(frozen=True, slots=True)
class News:
    """What the shop may be told of."""

    reference: str
    content: dict[str, Any]
    answered: bool
    """Whether the answer to the shop's own request tells it, too."""


Announce = Callable[[News], None]


class Charges:
    def __init__(
        self,
        ledger: sqlite3.Connection,
        *,
        multi_capture: bool = True,
        hold_s: float = 7 * 86_400,
        refund_s: Callable[[], float] = lambda: 0.0,
        announce: Announce = lambda news: None,
    ) -> None:
        """`hold_s`: how long money is held; `refund_s`: how long a refund takes that does not succeed at once."""
        self._ledger = ledger
        self._multi_capture, self._hold_s, self._refund_s = multi_capture, hold_s, refund_s
        self._announce = announce
        """Queues news, in the transaction that made it."""
        self.more = asyncio.Event()
        """There is something new that will be due."""

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
        held = status == "authorized"
        self._ledger.execute(
            "INSERT INTO charges (reference, id, status, amount, currency, held_amount, held_until, captured_amount,"
            " refund_course, risk, decline_code, decline_message, description, metadata, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                request.reference,
                f"ch_{secrets.token_hex(12)}",
                status,
                request.amount,
                request.currency,
                request.amount if held else 0,
                time.time() + self._hold_s if held else None,
                request.amount if status == "captured" else 0,
                card.refunds,
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
            self._move(row, "capture" if captured else "authorize", "charge", request.amount)
        self._tell_of_charge(row, answered=True)
        if held:
            self.more.set()
        return row

    def capture(self, reference: str, amount: int | None, key: str, *, is_last: bool) -> tuple[sqlite3.Row, sqlite3.Row]:
        """Take what is held, or some of it, once under a key. The charge, and the movement."""
        with transaction(self._ledger) as ledger:
            row = self._expire(self.get(reference), time.time())
            if moved := self._moved(reference, "capture", key):
                _require_same(moved, amount)
                return row, moved
            wanted = row["held_amount"] if amount is None else amount
            refusal = self._why_not_captured(row, wanted, is_last=is_last)
            if refusal is None:
                rest = row["held_amount"] - wanted
                ledger.execute(
                    "UPDATE charges SET held_amount = ?, captured_amount = captured_amount + ? WHERE reference = ?",
                    (0 if is_last else rest, wanted, reference),
                )
                moved = self._move(row, "capture", key, wanted)
                if is_last and rest:
                    self._move(row, "void", key, rest)
                row = self._restated(reference)
                self._tell_of_charge(row, answered=True)
        if refusal is not None:  # only out here: that a hold has expired is committed
            raise refusal
        assert moved is not None
        return row, moved

    def _why_not_captured(self, row: sqlite3.Row, wanted: int, *, is_last: bool) -> Refused | None:
        if not row["held_amount"]:
            return Refused(409, "not_capturable", f"The charge is {row['status']}; nothing is held.")
        if wanted > row["held_amount"]:
            return Refused(422, "capture_too_large", "More than is held.")
        if not is_last and not self._multi_capture:
            return Refused(422, "multi_capture_unavailable", "This account's first capture is the last.")
        return None

    def refund(self, reference: str, amount: int | None, key: str, reason: str, *, made_by: str = "api") -> sqlite3.Row:
        """Give back some of what was taken, or all, once under a key. A refund that is refused stays refused."""
        with transaction(self._ledger) as ledger:
            row = self.get(reference)
            known = ledger.execute("SELECT * FROM refunds WHERE reference = ? AND key = ?", (reference, key)).fetchone()
            if known is not None:
                _require_same(known, amount)
                refund: sqlite3.Row = known
                return refund
            return self._refund(
                row, row["captured_amount"] - row["refunded_amount"] if amount is None else amount, key, reason, made_by
            )

    def _refund(self, row: sqlite3.Row, amount: int, key: str, reason: str, made_by: str) -> sqlite3.Row:
        left = row["captured_amount"] - row["refunded_amount"]
        failure = None
        if amount > left or not amount:
            failure = "refund_too_large"
        elif amount > left - row["disputed_amount"]:
            failure = "charge_disputed"
        elif row["refund_course"] == "refused":
            failure = EXPIRED_CARD
        first, _, then = row["refund_course"].partition(",")
        state = "failed" if failure else first
        refund: sqlite3.Row = self._ledger.execute(
            "INSERT INTO refunds (id, reference, key, made_by, amount, currency, state, failure, reason, next_state, due_at,"
            " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
            (
                f"re_{secrets.token_hex(12)}",
                row["reference"],
                key,
                made_by,
                amount,
                row["currency"] or "USD",
                state,
                failure,
                reason,
                then if then and not failure else None,
                time.time() + self._refund_s() if then and not failure else None,
                now_text(),
                now_text(),
            ),
        ).fetchone()
        if not failure:
            self._ledger.execute(
                "UPDATE charges SET refunded_amount = refunded_amount + ? WHERE reference = ?", (amount, row["reference"])
            )
            self._move(row, "refund", key, amount)
            self._restated(row["reference"])
        self._tell_of_refund(refund, answered=made_by == "api")
        if refund["next_state"]:
            self.more.set()
        return refund

    def reverse(self, reference: str, reason: str) -> tuple[sqlite3.Row, sqlite3.Row | None]:
        """Give back whatever was taken and let go of what is held; remember an unknown reference, to refuse a late charge. The
        charge, and its last reversing refund, if there is one."""
        with transaction(self._ledger) as ledger:
            row = self._find(reference)
            if row is None:
                ledger.execute(
                    "INSERT INTO charges (reference, status, reversal_reason, created_at) VALUES (?, 'reversed', ?, ?)",
                    (reference, reason, now_text()),
                )
                return self.get(reference), None
            refunds = "SELECT * FROM refunds WHERE reference = ? AND key LIKE 'reversal%' ORDER BY seq DESC"
            earlier = ledger.execute(refunds, (reference,)).fetchall()
            last = earlier[0] if earlier else None
            left = row["captured_amount"] - row["refunded_amount"]
            if row["held_amount"]:
                self._let_go(row, REVERSAL)
            if left:
                last = self._refund(row, left, f"{REVERSAL}-{len(earlier) + 1}" if earlier else REVERSAL, reason, "api")
            if left or row["held_amount"]:
                ledger.execute("UPDATE charges SET reversal_reason = ? WHERE reference = ?", (reason, reference))
            row = self._restated(reference)
            if left or row["held_amount"]:
                self._tell_of_charge(row, answered=True)
            return row, last

    def release(self, reference: str) -> sqlite3.Row:
        """Let go of what is held; what was taken stays. The charge."""
        with transaction(self._ledger):
            row = self._expire(self.get(reference), time.time())
            if row["held_amount"]:
                self._let_go(row, "release")
                row = self._restated(reference)
                self._tell_of_charge(row, answered=True)
            return row

    # ── What nobody of the shop asked for ────────────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """Let go of holds whose time is up, and carry on with refunds that are under way."""
        now = time.time()
        with transaction(self._ledger) as ledger:
            for row in ledger.execute("SELECT * FROM charges WHERE held_amount > 0 AND held_until <= ?", (now,)).fetchall():
                self._expire(row, now)
            for refund in ledger.execute("SELECT * FROM refunds WHERE next_state IS NOT NULL AND due_at <= ?", (now,)).fetchall():
                self._end_refund(refund, refund["next_state"])

    def next_due_at(self) -> float | None:
        found: float | None = self._ledger.execute(
            "SELECT MIN(at) FROM (SELECT MIN(held_until) AS at FROM charges WHERE held_amount > 0"
            " UNION ALL SELECT MIN(due_at) FROM refunds WHERE next_state IS NOT NULL)"
        ).fetchone()[0]
        return found

    def expire(self, reference: str) -> sqlite3.Row:
        """The hold's time is up now."""
        with transaction(self._ledger):
            return self._expire(self.get(reference), float("inf"))

    def end_refund(self, refund_id: str, state: str) -> sqlite3.Row:
        """A refund arrives, or fails, also one that had arrived."""
        with transaction(self._ledger):
            refund = self._one("refunds", refund_id)
            if refund["state"] == "failed" and state != "failed":
                raise Refused(409, "refund_failed", "The refund has failed.")
            return refund if refund["state"] == state else self._end_refund(refund, state)

    def dispute(self, reference: str, amount: int | None, reason: str) -> sqlite3.Row:
        """The customer's bank takes the money, until it is decided whose it is."""
        with transaction(self._ledger) as ledger:
            row = self.get(reference)
            left = row["captured_amount"] - row["refunded_amount"] - row["disputed_amount"]
            wanted = left if amount is None else amount
            if not 0 < wanted <= left:
                raise Refused(422, "dispute_too_large", "More than was taken and did not go back.")
            dispute: sqlite3.Row = ledger.execute(
                "INSERT INTO disputes (id, reference, amount, currency, state, reason, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, 'open', ?, ?, ?) RETURNING *",
                (f"dp_{secrets.token_hex(12)}", reference, wanted, row["currency"], reason, now_text(), now_text()),
            ).fetchone()
            ledger.execute("UPDATE charges SET disputed_amount = disputed_amount + ? WHERE reference = ?", (wanted, reference))
            self._move(row, "dispute", dispute["id"], wanted)
            self._tell_of_dispute(dispute)
            return dispute

    def decide(self, dispute_id: str, state: str) -> sqlite3.Row:
        """The bank has decided: `won` or `lost`, by the shop."""
        with transaction(self._ledger) as ledger:
            dispute = self._one("disputes", dispute_id)
            if dispute["state"] == state:
                return dispute
            if dispute["state"] != "open":
                raise Refused(409, "dispute_closed", f"The dispute is {dispute['state']}.")
            ledger.execute("UPDATE disputes SET state = ?, updated_at = ? WHERE id = ?", (state, now_text(), dispute_id))
            if state == "won":
                row = self.get(dispute["reference"])
                ledger.execute(
                    "UPDATE charges SET disputed_amount = disputed_amount - ? WHERE reference = ?",
                    (dispute["amount"], dispute["reference"]),
                )
                self._move(row, "dispute_won", dispute_id, dispute["amount"])
            dispute = self._one("disputes", dispute_id)
            self._tell_of_dispute(dispute)
            return dispute

    def _expire(self, row: sqlite3.Row, now: float) -> sqlite3.Row:
        if not row["held_amount"] or row["held_until"] > now:
            return row
        self._let_go(row, "expired")
        row = self._restated(row["reference"])
        self._tell_of_charge(row, answered=False, reason="expired")
        return row

    def _let_go(self, row: sqlite3.Row, key: str) -> None:
        self._ledger.execute("UPDATE charges SET held_amount = 0 WHERE reference = ?", (row["reference"],))
        self._move(row, "void", key, row["held_amount"])

    def _end_refund(self, refund: sqlite3.Row, state: str) -> sqlite3.Row:
        failure = EXPIRED_CARD if state == "failed" else None
        self._ledger.execute(
            "UPDATE refunds SET state = ?, failure = ?, next_state = NULL, updated_at = ? WHERE id = ?",
            (state, failure, now_text(), refund["id"]),
        )
        if state == "failed":
            row = self.get(refund["reference"])
            self._ledger.execute(
                "UPDATE charges SET refunded_amount = refunded_amount - ? WHERE reference = ?",
                (refund["amount"], refund["reference"]),
            )
            self._move(row, "refund_failed", refund["key"], refund["amount"])
            self._restated(refund["reference"])
        refund = self._one("refunds", refund["id"])
        self._tell_of_refund(refund, answered=False)
        return refund

    def _restated(self, reference: str) -> sqlite3.Row:
        """The charge, its status made to fit its amounts."""
        self._ledger.execute(
            "UPDATE charges SET held_until = CASE WHEN held_amount > 0 THEN held_until END, status = CASE"
            " WHEN status IN ('declined', 'reversed') THEN status WHEN held_amount > 0 THEN 'authorized'"
            " WHEN captured_amount = 0 THEN 'voided' WHEN refunded_amount = captured_amount THEN 'refunded'"
            " ELSE 'captured' END WHERE reference = ?",
            (reference,),
        )
        return self.get(reference)

    # ── News ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell_of_charge(self, row: sqlite3.Row, *, answered: bool, reason: str | None = None) -> None:
        self._tell("charge", row, row["captured_amount"], row["status"], reason, answered=answered)

    def _tell_of_refund(self, refund: sqlite3.Row, *, answered: bool) -> None:
        key = refund["key"] if refund["made_by"] == "api" else None
        row = self.get(refund["reference"])
        reason = refund["failure"]
        self._tell("refund", row, refund["amount"], refund["state"], reason, refund["id"], key, answered=answered)

    def _tell_of_dispute(self, dispute: sqlite3.Row) -> None:
        row = self.get(dispute["reference"])
        self._tell("dispute", row, dispute["amount"], dispute["state"], dispute["reason"], dispute["id"], answered=False)

    def _tell(
        self,
        kind: str,
        row: sqlite3.Row,
        amount: int,
        state: str,
        reason: str | None,
        movement_id: str | None = None,
        key: str | None = None,
        *,
        answered: bool,
    ) -> None:
        content = {
            "type": kind,
            "reference": row["reference"],
            "charge_id": row["id"],
            "movement_id": movement_id,
            "key": key,
            "amount": amount,
            "currency": row["currency"],
            "state": state,
            "reason": reason,
        }
        self._announce(News(row["reference"], content, answered))

    # ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, reference: str) -> sqlite3.Row:
        row = self._find(reference)
        if row is None:
            raise Refused(404, "not_found", "There is no charge with that reference.")
        return row

    def _find(self, reference: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._ledger.execute(f"{ROWS} WHERE c.reference = ?", (reference,)).fetchone()
        return row

    def _one(self, table: str, id_: str) -> sqlite3.Row:
        query = f"SELECT * FROM {table} WHERE id = ?"  # noqa: S608 - the table's name is our own
        row: sqlite3.Row | None = self._ledger.execute(query, (id_,)).fetchone()
        if row is None:
            raise Refused(404, "not_found", f"There is no {id_} among the {table}.")
        return row

    def listed(self, limit: int, after: int) -> list[sqlite3.Row]:
        return self._ledger.execute(f"{ROWS} WHERE c.seq > ? ORDER BY c.seq LIMIT ?", (after, limit)).fetchall()

    def listed_of(self, table: str, limit: int, after: int) -> list[sqlite3.Row]:
        query = f"SELECT * FROM {table} WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 - the table's name is our own
        return self._ledger.execute(query, (after, limit)).fetchall()

    def totals(self) -> dict[str, Any]:
        counted = dict(self._ledger.execute("SELECT status, COUNT(*) FROM charges GROUP BY status").fetchall())
        moved: dict[str, dict[str, int]] = {}
        for currency, kind, amount in self._ledger.execute(
            "SELECT currency, kind, SUM(amount) FROM moves GROUP BY currency, kind"
        ):
            moved.setdefault(currency, {})[kind] = amount
        attempts = self._ledger.execute("SELECT COALESCE(SUM(received), 0) FROM attempts").fetchone()[0]
        return {
            "references": sum(counted.values()),
            "by_status": counted,
            "attempts": attempts,
            "currencies": {currency: _summed(by_kind) for currency, by_kind in sorted(moved.items())},
        }

    def _move(self, row: sqlite3.Row, kind: str, key: str, amount: int) -> sqlite3.Row:
        moved: sqlite3.Row = self._ledger.execute(
            "INSERT INTO moves (id, reference, kind, key, amount, currency, moved_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *",
            (f"mv_{secrets.token_hex(12)}", row["reference"], kind, key, amount, row["currency"], now_text()),
        ).fetchone()
        return moved

    def _moved(self, reference: str, kind: str, key: str) -> sqlite3.Row | None:
        moved: sqlite3.Row | None = self._ledger.execute(
            "SELECT * FROM moves WHERE reference = ? AND kind = ? AND key = ?", (reference, kind, key)
        ).fetchone()
        return moved


def shown(row: sqlite3.Row) -> dict[str, Any]:
    names = ("id", "reference", "status", "amount", "currency", "held_amount", "captured_amount", "refunded_amount", "risk")
    until = row["held_until"]
    held_until = datetime.fromtimestamp(until, UTC).isoformat(timespec="milliseconds") if until is not None else None
    return {**{name: row[name] for name in names}, "disputed_amount": row["disputed_amount"], "held_until": held_until}


def shown_in_full(row: sqlite3.Row) -> dict[str, Any]:
    names = ("decline_code", "reversal_reason", "description", "created_at", "attempts")
    return {**shown(row), **{name: row[name] for name in names}, "metadata": json.loads(row["metadata"])}


def shown_refund(row: sqlite3.Row) -> dict[str, Any]:
    names = ("id", "reference", "key", "made_by", "amount", "currency", "state", "failure", "reason", "created_at", "updated_at")
    return {name: row[name] for name in names}


def shown_dispute(row: sqlite3.Row) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "reference", "amount", "currency", "state", "reason", "created_at", "updated_at")}


def shown_move(row: sqlite3.Row) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "reference", "kind", "key", "amount", "currency", "moved_at")}


def _summed(by_kind: dict[str, int]) -> dict[str, int]:
    captured, refunded = by_kind.get("capture", 0), by_kind.get("refund", 0) - by_kind.get("refund_failed", 0)
    return {
        "authorized": by_kind.get("authorize", 0),
        "captured": captured,
        "voided": by_kind.get("void", 0),
        "refunded": refunded,
        "disputed": by_kind.get("dispute", 0) - by_kind.get("dispute_won", 0),
        "net": captured - refunded,
    }


def _require_same(row: sqlite3.Row, amount: int | None) -> None:
    if amount is not None and amount != row["amount"]:
        raise Refused(422, "idempotency_error", "The key was used before, with another amount.")


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

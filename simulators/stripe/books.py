"""The card processor's books: one SQLite file, its tables, and what every change does to them."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from simulators import _webhooks
from simulators._ledger import open_ledger, transaction
from simulators.stripe.errors import missing
from simulators.stripe.params import Created, Page

API_VERSION = "2026-08-26.dahlia"
EVENTS_KEPT_S = 30 * 86_400
Row = sqlite3.Row
Table = Literal[
    "payment_intents", "charges", "refunds", "disputes", "payment_methods", "customers", "balance_transactions", "events"
]
WHAT = {
    "payment_intents": "payment_intent",
    "charges": "charge",
    "refunds": "refund",
    "disputes": "dispute",
    "payment_methods": "PaymentMethod",
    "customers": "customer",
    "balance_transactions": "balance transaction",
    "events": "event",
}

SCHEMA = """
CREATE TABLE IF NOT EXISTS customers (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    email TEXT,
    name TEXT,
    phone TEXT,
    description TEXT,
    metadata TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS payment_methods (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    card TEXT NOT NULL,
    customer TEXT,
    used INTEGER NOT NULL DEFAULT 0,
    billing TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS payment_methods_of ON payment_methods (customer) WHERE customer IS NOT NULL;
CREATE TABLE IF NOT EXISTS payment_intents (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    reference TEXT,
    status TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    amount_capturable INTEGER NOT NULL DEFAULT 0 CHECK (amount_capturable >= 0),
    amount_received INTEGER NOT NULL DEFAULT 0 CHECK (amount_received >= 0),
    capture_method TEXT NOT NULL,
    client_secret TEXT NOT NULL,
    customer TEXT,
    payment_method TEXT,
    setup_future_usage TEXT,
    return_url TEXT,
    action_url TEXT,
    action_key TEXT,
    latest_charge TEXT,
    captures INTEGER NOT NULL DEFAULT 0,
    held_until REAL,
    last_payment_error TEXT,
    canceled_at INTEGER,
    cancellation_reason TEXT,
    card_options TEXT NOT NULL,
    metadata TEXT NOT NULL,
    details TEXT NOT NULL,
    CHECK (amount_received + amount_capturable <= amount)
);
CREATE INDEX IF NOT EXISTS payment_intents_by_reference ON payment_intents (reference, seq);
CREATE INDEX IF NOT EXISTS payment_intents_of ON payment_intents (customer, seq) WHERE customer IS NOT NULL;
CREATE INDEX IF NOT EXISTS payment_intents_held ON payment_intents (held_until) WHERE held_until IS NOT NULL;
CREATE TABLE IF NOT EXISTS charges (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    payment_intent TEXT NOT NULL,
    payment_method TEXT,
    customer TEXT,
    card TEXT NOT NULL,
    status TEXT NOT NULL,
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    amount_captured INTEGER NOT NULL DEFAULT 0 CHECK (amount_captured BETWEEN 0 AND amount),
    amount_refunded INTEGER NOT NULL DEFAULT 0 CHECK (amount_refunded >= 0),
    amount_disputed INTEGER NOT NULL DEFAULT 0 CHECK (amount_disputed >= 0),
    captured INTEGER NOT NULL DEFAULT 0,
    disputed INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    multicapture INTEGER NOT NULL DEFAULT 0,
    authenticated INTEGER NOT NULL DEFAULT 0,
    capture_before INTEGER,
    balance_transaction TEXT,
    failure_code TEXT,
    failure_message TEXT,
    outcome TEXT NOT NULL,
    billing TEXT NOT NULL,
    metadata TEXT NOT NULL,
    details TEXT NOT NULL,
    CHECK (amount_refunded + amount_disputed <= amount_captured)
);
CREATE INDEX IF NOT EXISTS charges_of ON charges (payment_intent, seq);
CREATE TABLE IF NOT EXISTS refunds (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    charge TEXT NOT NULL,
    payment_intent TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed', 'canceled')),
    reason TEXT,
    failure_reason TEXT,
    balance_transaction TEXT,
    failure_balance_transaction TEXT,
    next_status TEXT,
    due_at REAL,
    metadata TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS refunds_of ON refunds (charge, seq);
CREATE INDEX IF NOT EXISTS refunds_of_intent ON refunds (payment_intent, seq);
CREATE INDEX IF NOT EXISTS refunds_due ON refunds (due_at) WHERE next_status IS NOT NULL;
CREATE TABLE IF NOT EXISTS disputes (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    charge TEXT NOT NULL,
    payment_intent TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('needs_response', 'won', 'lost')),
    reason TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS disputes_of ON disputes (charge, seq);
-- What moved the account's balance. Append-only: the database itself refuses to change what was said.
CREATE TABLE IF NOT EXISTS balance_transactions (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('charge', 'refund', 'refund_failure', 'adjustment')),
    reporting_category TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount <> 0),
    currency TEXT NOT NULL,
    source TEXT NOT NULL,
    charge TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS balance_transactions_of ON balance_transactions (source, seq);
CREATE TRIGGER IF NOT EXISTS balance_stays BEFORE UPDATE ON balance_transactions
    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS balance_is_kept BEFORE DELETE ON balance_transactions
    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    type TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS attempts (
    reference TEXT PRIMARY KEY,
    received INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS idempotency_keys (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    status INTEGER NOT NULL,
    content TEXT NOT NULL,
    created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS idempotency_keys_by_age ON idempotency_keys (created);
"""

Announce = Callable[[str, str], None]
"""Queues an event's webhook, in the transaction that made the event: its id, and its body."""


@dataclass(slots=True)
class Cause:
    """The request that a change was made for; none of it if nobody asked."""

    request_id: str | None = None
    key: str | None = None
    attempt: int = 0
    """How often the payment was asked for, with this time."""
    reply: Literal["sent", "slow", "lost"] = "sent"
    """How the answer has to go, if the card says so."""


class Books:
    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.time,
        sent_types: frozenset[str] = frozenset(),
    ) -> None:
        """`sent_types`: of the events that have a webhook."""
        self.ledger = open_ledger(directory, "stripe", SCHEMA + _webhooks.SCHEMA)
        self.ledger.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: events are large, and a checkpoint waits for the disk
        self.clock = clock
        self.announce: Announce = lambda event_id, body: None
        self._sent_types = sent_types
        self._cause = Cause()
        self.next_due = float("inf")
        """When the next hold ends, or the next refund goes on, as far as whoever waits for it knows."""
        self.sooner = asyncio.Event()
        """There is something that is due before that."""

    @property
    def now(self) -> int:
        return int(self.clock())

    @property
    def cause(self) -> Cause:
        return self._cause

    @contextmanager
    def changed_by(self, cause: Cause | None = None) -> Iterator[None]:
        """One change, whole or not at all; its events name the request that caused it."""
        with transaction(self.ledger):
            self._cause = cause or Cause()
            try:
                yield
            finally:
                self._cause = Cause()

    # ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def insert(self, table: Table, id_: str, **values: Any) -> Row:
        row = {"id": id_, "created": self.now, **values}
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        query = f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING *"  # noqa: S608 - the names are our own
        inserted: Row = self.ledger.execute(query, tuple(row.values())).fetchone()
        return inserted

    def update(self, table: Table, id_: str, **values: Any) -> Row:
        changes = ", ".join(f"{name} = ?" for name in values)
        query = f"UPDATE {table} SET {changes} WHERE id = ? RETURNING *"  # noqa: S608 - the names are our own
        updated: Row = self.ledger.execute(query, (*values.values(), id_)).fetchone()
        return updated

    def find(self, table: Table, id_: str) -> Row | None:
        query = f"SELECT * FROM {table} WHERE id = ?"  # noqa: S608 - the table's name is our own
        found: Row | None = self.ledger.execute(query, (id_,)).fetchone()
        return found

    def one(self, table: Table, id_: str, param: str = "id", *, status: int = 404) -> Row:
        row = self.find(table, id_)
        if row is None:
            raise missing(WHAT[table], id_, param, status=status)
        return row

    def listed(self, table: Table, page: Page, created: Created = Created(), **equal: Any) -> tuple[list[Row], bool]:
        """The newest first, and whether there are more. `equal`: columns and what they have to be, None: whatever."""
        conditions, values = ["created BETWEEN ? AND ?"], [created.first, created.last]
        for name, value in equal.items():
            if isinstance(value, tuple):
                conditions.append(f"{name} IN ({', '.join('?' * len(value))})")
                values += value
            elif value is not None:
                conditions.append(f"{name} = ?")
                values.append(value)
        backwards = page.ending_before is not None
        if last := page.starting_after or page.ending_before:
            param = "ending_before" if backwards else "starting_after"
            conditions.append("seq > ?" if backwards else "seq < ?")
            values.append(self.one(table, last, param, status=400)["seq"])
        query = f"SELECT * FROM {table} WHERE {' AND '.join(conditions)}"  # noqa: S608 - the names are our own
        order = f" ORDER BY seq {'ASC' if backwards else 'DESC'} LIMIT {page.limit + 1}"
        rows = self.ledger.execute(query + order, values).fetchall()
        more, rows = len(rows) > page.limit, rows[: page.limit]
        return (rows[::-1] if backwards else rows), more

    def intent_of(self, name: str) -> Row:
        """By our reference in its metadata, the newest of them, or by its own id or that of its charge."""
        row: Row | None = self.ledger.execute(
            "SELECT * FROM payment_intents WHERE reference = ? ORDER BY seq DESC LIMIT 1", (name,)
        ).fetchone()
        if row is None and (charge := self.find("charges", name)) is not None:
            row = self.find("payment_intents", charge["payment_intent"])
        return row if row is not None else self.one("payment_intents", name, "reference")

    # ── What happens with every change ───────────────────────────────────────────────────────────────────────────────────

    def move(self, kind: str, category: str, amount: int, charge: Row, source: str) -> str:
        """Money comes to the balance, or leaves it if `amount` is below zero. The movement's id."""
        id_ = new_id("txn")
        self.insert(
            "balance_transactions",
            id_,
            type=kind,
            reporting_category=category,
            amount=amount,
            currency=charge["currency"],
            source=source,
            charge=charge["id"],
        )
        return id_

    def tell(self, kind: str, shown: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> None:
        """Note an event, and queue its webhook. `before`: the same object as it was."""
        data: dict[str, Any] = {"object": shown}
        if before is not None:
            data["previous_attributes"] = {name: old for name, old in before.items() if shown.get(name) != old} | {
                name: None for name in shown if name not in before
            }
        id_, now, is_sent = new_id("evt"), self.now, kind in self._sent_types
        body = encoded(
            {
                "id": id_,
                "object": "event",
                "api_version": API_VERSION,
                "created": now,
                "data": data,
                "livemode": False,
                "pending_webhooks": int(is_sent),
                "request": {"id": self._cause.request_id, "idempotency_key": self._cause.key},
                "type": kind,
            }
        )
        self.ledger.execute("INSERT INTO events (id, created, type, body) VALUES (?, ?, ?, ?)", (id_, now, kind, body))
        if is_sent:
            self.announce(id_, body)

    def count_attempt(self, reference: str) -> int:
        """Somebody asked for the payment of a reference. How often that was so far."""
        counted: int = self.ledger.execute(
            "INSERT INTO attempts VALUES (?, 1) ON CONFLICT DO UPDATE SET received = received + 1 RETURNING received",
            (reference,),
        ).fetchone()[0]
        return counted

    def attempts(self, reference: str) -> int:
        found = self.ledger.execute("SELECT received FROM attempts WHERE reference = ?", (reference,)).fetchone()
        return found[0] if found else 0

    def look_when_due(self) -> None:
        found: float | None = self.ledger.execute(
            "SELECT MIN(at) FROM (SELECT MIN(held_until) AS at FROM payment_intents WHERE held_until IS NOT NULL"
            " UNION ALL SELECT MIN(due_at) FROM refunds WHERE next_status IS NOT NULL)"
        ).fetchone()[0]
        self.sooner.clear()
        self.next_due = float("inf") if found is None else found

    def will_be_due(self, at: float) -> None:
        if at < self.next_due:
            self.sooner.set()

    def forget(self, keys_kept_s: float) -> None:
        """What is kept for a while only: keys, events, and webhooks that have arrived."""
        with transaction(self.ledger):
            self.ledger.execute("DELETE FROM idempotency_keys WHERE created <= ?", (self.clock() - keys_kept_s,))
            self.ledger.execute("DELETE FROM events WHERE created <= ?", (self.now - EVENTS_KEPT_S,))
            before = datetime.fromtimestamp(self.now - EVENTS_KEPT_S, UTC).isoformat()
            self.ledger.execute("DELETE FROM webhooks WHERE delivered_at <= ?", (before,))

    def totals(self) -> dict[str, Any]:
        """What has moved altogether; what is authorized or voided is no movement of the balance."""
        rows = self.ledger.execute
        counted = dict(rows("SELECT status, COUNT(*) FROM payment_intents GROUP BY status").fetchall())
        moved: dict[str, dict[str, int]] = {}
        for currency, kind, amount in rows("SELECT currency, type, SUM(amount) FROM balance_transactions GROUP BY 1, 2"):
            moved.setdefault(currency, {})[kind] = amount
        for currency, authorized, voided in rows(
            "SELECT c.currency, SUM(c.amount), SUM(c.amount - c.amount_captured - p.amount_capturable) FROM charges c"
            " JOIN payment_intents p ON p.id = c.payment_intent WHERE c.held AND c.status = 'succeeded' GROUP BY 1"
        ):
            moved.setdefault(currency, {}).update(authorized=authorized, voided=voided)
        return {
            "references": sum(counted.values()),
            "by_status": counted,
            "attempts": rows("SELECT COALESCE(SUM(received), 0) FROM attempts").fetchone()[0],
            "currencies": {currency.upper(): _summed(kinds) for currency, kinds in sorted(moved.items())},
        }


def _summed(moved: Mapping[str, int]) -> dict[str, int]:
    captured, refunded = moved.get("charge", 0), -(moved.get("refund", 0) + moved.get("refund_failure", 0))
    return {
        "authorized": moved.get("authorized", 0),
        "captured": captured,
        "voided": moved.get("voided", 0),
        "refunded": refunded,
        "disputed": -moved.get("adjustment", 0),
        "net": captured - refunded,
    }


def new_id(prefix: str) -> str:
    """Begins with the time, so that a new one comes last in its index: a random one would touch a page of its own."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def encoded(content: Mapping[str, Any]) -> str:
    return _ENCODER.encode(content)

"""The bank's books: one SQLite file. Entries are only ever added; of each transfer there is one on each of the two accounts."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from simulators._ledger import now_text, open_ledger, transaction

CLOSED = "AC04"
"""ISO 20022's code for an account that is closed."""
OPEN, REFUSES, RETURNS = "open", "closed", "returns"
"""What an account of a customer does with money that comes back: take it; it is closed, which the bank knows at once; or it is at
another bank, which sends the money back later."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    iban TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    behaves TEXT NOT NULL CHECK (behaves IN ('open', 'closed', 'returns'))
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    transfer TEXT NOT NULL,
    iban TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('CRDT', 'DBIT')),
    amount TEXT NOT NULL,
    currency TEXT NOT NULL,
    other_iban TEXT NOT NULL,
    other_name TEXT NOT NULL,
    reference TEXT,
    words TEXT,
    end_to_end_id TEXT,
    came_back TEXT,
    booked_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_of ON entries (iban, seq);
CREATE TRIGGER IF NOT EXISTS entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_are_kept BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TABLE IF NOT EXISTS orders (
    seq INTEGER PRIMARY KEY,
    end_to_end_id TEXT NOT NULL UNIQUE,
    message_id TEXT NOT NULL,
    amount TEXT NOT NULL,
    currency TEXT NOT NULL,
    iban TEXT NOT NULL,
    name TEXT NOT NULL,
    words TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ACCP', 'ACSC', 'RJCT')),
    reason TEXT,
    received INTEGER NOT NULL DEFAULT 1,
    back_at REAL
);
CREATE INDEX IF NOT EXISTS orders_open ON orders (seq) WHERE state = 'ACCP';
CREATE INDEX IF NOT EXISTS orders_coming_back ON orders (back_at) WHERE back_at IS NOT NULL;
-- Documents that wait to be fetched: of an entry, or of what became of an order.
CREATE TABLE IF NOT EXISTS documents (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('notifications', 'reports')),
    about TEXT NOT NULL,
    state TEXT,
    reason TEXT,
    due_at REAL NOT NULL,
    acknowledged_at TEXT,
    again INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS documents_waiting ON documents (kind, seq) WHERE acknowledged_at IS NULL;
"""
Row = sqlite3.Row


class Order(NamedTuple):
    """What the shop asks for, in a pain.001."""

    end_to_end_id: str
    amount: str
    currency: str
    iban: str
    name: str
    words: str


class Books:
    """`late_s`: how long news waits; `twice`: whether it comes again; `back_s`: after how long money comes back; `fate`: what
    becomes of the next order, whatever its account does."""

    def __init__(
        self,
        data_dir: Path,
        iban: str,
        *,
        late_s: Callable[[], float],
        twice: Callable[[], bool],
        back_s: Callable[[], float],
        fate: Callable[[], str | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = open_ledger(data_dir, "bank", SCHEMA)
        self.iban, self._clock = iban, clock
        self._late_s, self._twice, self._back_s, self._fate = late_s, twice, back_s, fate
        self.ledger.execute("INSERT OR IGNORE INTO accounts VALUES (?, 'The shop', 'open')", (iban,))

    # ── A customer pays ──────────────────────────────────────────────────────────────────────────────────────────────────

    def pay(
        self, amount: str, currency: str, reference: str | None, words: str | None, payer: tuple[str, str], behaves: str
    ) -> Row:
        """A customer transfers money to the shop; returns the shop's entry. `payer`: IBAN and name."""
        with transaction(self.ledger):
            self.ledger.execute(
                "INSERT INTO accounts VALUES (?, ?, ?)"
                " ON CONFLICT (iban) DO UPDATE SET name = excluded.name, behaves = excluded.behaves",
                (*payer, behaves),
            )
            return self._move(amount, currency, payer, reference=reference, words=words, to_shop=True)

    # ── The shop pays ────────────────────────────────────────────────────────────────────────────────────────────────────

    def order(self, message_id: str, orders: list[Order]) -> None:
        """Take orders on. One whose EndToEndId is known is the same one, and is not paid again."""
        with transaction(self.ledger):
            for order in orders:
                known = self.ledger.execute(
                    "UPDATE orders SET received = received + 1 WHERE end_to_end_id = ?", (order.end_to_end_id,)
                )
                if known.rowcount:
                    continue
                account = self.ledger.execute("SELECT behaves FROM accounts WHERE iban = ?", (order.iban,)).fetchone()
                behaves = self._fate() or (account["behaves"] if account else REFUSES)
                refused = behaves == REFUSES
                self.ledger.execute(
                    "INSERT INTO orders (end_to_end_id, message_id, amount, currency, iban, name, words, state, reason, back_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        order.end_to_end_id, message_id, order.amount, order.currency, order.iban, order.name, order.words,
                        "RJCT" if refused else "ACCP", CLOSED if refused else None,
                        self._clock() + self._back_s() if behaves == RETURNS else None,
                    ),
                )  # fmt: skip
                self._tell("reports", order.end_to_end_id, "RJCT" if refused else "ACCP", CLOSED if refused else None)

    def settle(self) -> None:
        """Pay what was taken on, and take back what comes back, by the recorded times. Done whenever somebody asks for news."""
        with transaction(self.ledger):
            for row in self.ledger.execute("SELECT * FROM orders WHERE state = 'ACCP' ORDER BY seq").fetchall():
                self._move(
                    row["amount"], row["currency"], (row["iban"], row["name"]), words=row["words"], order=row["end_to_end_id"]
                )
                self.ledger.execute("UPDATE orders SET state = 'ACSC' WHERE seq = ?", (row["seq"],))
                self._tell("reports", row["end_to_end_id"], "ACSC", None)
            returning = "SELECT * FROM orders WHERE state = 'ACSC' AND back_at <= ?"
            for row in self.ledger.execute(returning, (self._clock(),)).fetchall():
                self._move(
                    row["amount"], row["currency"], (row["iban"], row["name"]), words=row["words"], order=row["end_to_end_id"],
                    came_back=CLOSED, to_shop=True,
                )  # fmt: skip
                self.ledger.execute("UPDATE orders SET back_at = NULL WHERE seq = ?", (row["seq"],))

    # ── What is told ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def next_document(self, kind: str) -> Row | None:
        """The oldest that waits."""
        query = "SELECT * FROM documents WHERE kind = ? AND acknowledged_at IS NULL AND due_at <= ? ORDER BY seq LIMIT 1"
        found: Row | None = self.ledger.execute(query, (kind, self._clock())).fetchone()
        return found

    def acknowledge(self, kind: str, name: str) -> bool:
        """Whether there was one that waited. With `twice` it comes once more, as another document."""
        with transaction(self.ledger):
            row = self.ledger.execute(
                "UPDATE documents SET acknowledged_at = ? WHERE id = ? AND kind = ? AND acknowledged_at IS NULL RETURNING *",
                (now_text(), name, kind),
            ).fetchone()
            if row is not None and self._twice() and not row["again"]:
                self._tell(kind, row["about"], row["state"], row["reason"], again=True)
        return row is not None

    def entry(self, name: str) -> Row:
        row: Row = self.ledger.execute("SELECT * FROM entries WHERE id = ?", (name,)).fetchone()
        return row

    def entries(self, after: int, limit: int) -> list[Row]:
        """Of the shop's account, the oldest first."""
        query = "SELECT * FROM entries WHERE iban = ? AND seq > ? ORDER BY seq LIMIT ?"
        return self.ledger.execute(query, (self.iban, after, limit)).fetchall()

    def order_of(self, end_to_end_id: str) -> Row | None:
        row: Row | None = self.ledger.execute("SELECT * FROM orders WHERE end_to_end_id = ?", (end_to_end_id,)).fetchone()
        return row

    def waiting(self) -> dict[str, int]:
        """How many documents are still to be fetched, by kind."""
        rows = self.ledger.execute("SELECT kind, count(*) AS n FROM documents WHERE acknowledged_at IS NULL GROUP BY kind")
        return {row["kind"]: row["n"] for row in rows}

    def _move(
        self, amount: str, currency: str, other: tuple[str, str], *, reference: str | None = None, words: str | None = None,
        order: str | None = None, came_back: str | None = None, to_shop: bool = False,
    ) -> Row:  # fmt: skip
        """Book it on both accounts, and tell the shop."""
        transfer, (iban, name) = secrets.token_hex(8), other
        sides = ("DBIT", "CRDT") if to_shop else ("CRDT", "DBIT")
        mine = f"{transfer}-2"
        for entry, side, account, counter in (
            (f"{transfer}-1", sides[0], iban, (self.iban, "The shop")),
            (mine, sides[1], self.iban, (iban, name)),
        ):
            self.ledger.execute(
                "INSERT INTO entries (id, transfer, iban, side, amount, currency, other_iban, other_name, reference, words,"
                " end_to_end_id, came_back, booked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (entry, transfer, account, side, amount, currency, *counter, reference, words, order, came_back, now_text()),
            )
        self._tell("notifications", mine)
        return self.entry(mine)

    def _tell(self, kind: str, about: str, state: str | None = None, reason: str | None = None, *, again: bool = False) -> None:
        self.ledger.execute(
            "INSERT INTO documents (id, kind, about, state, reason, due_at, again) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (secrets.token_hex(8), kind, about, state, reason, self._clock() + self._late_s(), again),
        )

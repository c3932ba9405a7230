"""The carrier's books. Rules here, HTTP in `carrier`."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from simulators._ledger import now_text, transaction
from simulators._refusals import Refused, Unavailable

SCHEMA = """
CREATE TABLE IF NOT EXISTS shipments (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL UNIQUE,
    id TEXT,
    tracking_number TEXT UNIQUE,
    status TEXT NOT NULL,
    service TEXT,
    label TEXT,
    weight_grams INTEGER,
    cost_amount INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    picked_up_at TEXT
);
CREATE INDEX IF NOT EXISTS shipments_under_way ON shipments (picked_up_at)
    WHERE status IN ('picked_up', 'in_transit');
CREATE TABLE IF NOT EXISTS returns (
    reference TEXT PRIMARY KEY,
    depot TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    reference TEXT PRIMARY KEY,
    received INTEGER NOT NULL
) WITHOUT ROWID;
"""

ROWS = (
    "SELECT s.*, COALESCE(a.received, 0) AS attempts, r.depot FROM shipments s"
    " LEFT JOIN attempts a USING (reference) LEFT JOIN returns r USING (reference)"
)

UNDER_WAY = frozenset({"picked_up", "in_transit"})
COMES_FROM = {
    "in_transit": frozenset({"picked_up", "lost"}),
    "delivered": UNDER_WAY | {"lost"},
    "lost": UNDER_WAY,
    "returned": UNDER_WAY | {"lost"},
}
"""Where a parcel must be to get to each status that the carrier reports. A lost one may turn up."""
HANDED_IN = "picked_up"
"""What a parcel that comes back is when its customer has handed it in. All others we are asked to pick up."""

HEAVIEST_GRAMS = 150_000
PRICES = {"economy": 390, "standard": 490, "express": 1_290}
PRICE_PER_KILOGRAM = 80

Announce = Callable[[sqlite3.Row], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    reference: str
    service: str
    label: str
    postal_code: str
    city: str
    weight_grams: int
    depot: str | None = None
    """Where it comes back to; None: it goes to the address."""

    def cost(self) -> int:
        return PRICES.get(self.service, PRICES["standard"]) + PRICE_PER_KILOGRAM * (self.weight_grams // 1000)


class Shipments:
    def __init__(self, ledger: sqlite3.Connection, announce: Announce) -> None:
        self._ledger = ledger
        self._announce = announce
        """Queues the webhook about a row, in the transaction that changed it."""

    def book(self, booking: Booking, failures_first: int) -> tuple[sqlite3.Row, bool]:
        """The shipment of that reference, and whether this request booked it."""
        with transaction(self._ledger) as ledger:
            attempt: int = ledger.execute(
                "INSERT INTO attempts VALUES (?, 1) ON CONFLICT DO UPDATE SET received = received + 1 RETURNING received",
                (booking.reference,),
            ).fetchone()[0]
            row = self._find(booking.reference)
            booked = row is None and attempt > failures_first and refusal_of(booking) is None
            if booked:
                row = self._insert(booking)
        # Refuse only out here, where the attempt is committed.
        if row is None:
            raise refusal_of(booking) or Unavailable()
        if row["status"] == "cancelled":
            raise reference_cancelled()
        return row, booked

    def _insert(self, booking: Booking) -> sqlite3.Row:
        self._ledger.execute(
            "INSERT INTO shipments (reference, id, tracking_number, status, service, label, weight_grams,"
            " cost_amount, created_at) VALUES (?, ?, ?, 'booked', ?, ?, ?, ?, ?)",
            (
                booking.reference,
                f"shp_{secrets.token_hex(12)}",
                f"TRK{secrets.token_hex(8).upper()}",
                booking.service,
                booking.label,
                booking.weight_grams,
                booking.cost(),
                now_text(),
            ),
        )
        if booking.depot is not None:
            self._ledger.execute("INSERT INTO returns VALUES (?, ?)", (booking.reference, booking.depot))
        return self.get(booking.reference)

    def cancel(self, reference: str) -> sqlite3.Row:
        """Stop a parcel that has not left; remember an unknown reference, to refuse a late booking."""
        with transaction(self._ledger) as ledger:
            row = self._find(reference)
            if row is None:
                ledger.execute(
                    "INSERT INTO shipments (reference, status, created_at) VALUES (?, 'cancelled', ?)",
                    (reference, now_text()),
                )
            elif row["status"] == "booked":
                ledger.execute("UPDATE shipments SET status = 'cancelled' WHERE reference = ?", (reference,))
            elif row["status"] != "cancelled":
                raise Refused(409, "already_dispatched", f"The parcel is {row['status']}.")
            return self.get(reference)

    def pick_up(self, reference: str) -> sqlite3.Row:
        with transaction(self._ledger) as ledger:
            row = self.get(reference)
            if row["status"] == "cancelled":
                raise reference_cancelled()
            if row["status"] == "booked":
                ledger.execute(
                    "UPDATE shipments SET status = 'picked_up', picked_up_at = ? WHERE reference = ?",
                    (now_text(), reference),
                )
            return self.get(reference)

    def advance(self, references: Sequence[str], to: str) -> tuple[list[str], dict[str, str]]:
        """Move parcels on, each with its webhook; the others are told apart by the status that kept them."""
        moved: list[str] = []
        kept: dict[str, str] = {}
        with transaction(self._ledger) as ledger:
            for reference in references:
                row = self._find(reference)
                if row is None or not _may_become(row, to):
                    kept[reference] = row["status"] if row else "unknown"
                    continue
                ledger.execute(
                    "UPDATE shipments SET status = ?, picked_up_at = COALESCE(picked_up_at, ?) WHERE reference = ?",
                    (to, now_text(), reference),
                )
                self._announce(self.get(reference))
                moved.append(reference)
        return moved, kept

    def under_way(self, to: str) -> list[str]:
        """Parcels that may get to a status. Lost ones are not under way: each turns up only if it is named, as each that comes
        back is handed in only if it is."""
        found = self._ledger.execute(
            "SELECT reference FROM shipments WHERE status IN (SELECT value FROM json_each(?)) ORDER BY seq",
            (json.dumps(sorted(COMES_FROM.get(to, frozenset()) & UNDER_WAY)),),
        )
        return [row["reference"] for row in found]

    def due_for_delivery(self, after: timedelta, limit: int = 500) -> list[str]:
        latest = (datetime.now(UTC) - after).isoformat(timespec="milliseconds")
        found = self._ledger.execute(
            "SELECT reference FROM shipments WHERE status IN ('picked_up', 'in_transit')"
            " AND picked_up_at <= ? ORDER BY picked_up_at LIMIT ?",
            (latest, limit),
        )
        return [row["reference"] for row in found]

    def get(self, reference: str) -> sqlite3.Row:
        row = self._find(reference)
        if row is None:
            raise Refused(404, "not_found", "There is no shipment with that reference.")
        return row

    def label(self, tracking_number: str) -> str:
        row = self._ledger.execute("SELECT label FROM shipments WHERE tracking_number = ?", (tracking_number,)).fetchone()
        if row is None:
            raise Refused(404, "not_found", "There is no such label.")
        label: str = row["label"]
        return label

    def _find(self, reference: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._ledger.execute(f"{ROWS} WHERE s.reference = ?", (reference,)).fetchone()
        return row

    def listed(self, limit: int, after: int) -> list[sqlite3.Row]:
        return self._ledger.execute(f"{ROWS} WHERE s.seq > ? ORDER BY s.seq LIMIT ?", (after, limit)).fetchall()

    def totals(self) -> dict[str, Any]:
        counted = dict(self._ledger.execute("SELECT status, COUNT(*) FROM shipments GROUP BY status").fetchall())
        attempts = self._ledger.execute("SELECT COALESCE(SUM(received), 0) FROM attempts").fetchone()[0]
        return {"references": sum(counted.values()), "by_status": counted, "attempts": attempts}


def _may_become(row: sqlite3.Row, to: str) -> bool:
    if to == HANDED_IN:
        return row["status"] == "booked" and row["depot"] is not None
    return row["status"] in COMES_FROM[to]


def refusal_of(booking: Booking) -> Refused | None:
    if booking.postal_code.startswith("00000") or booking.city.casefold() == "nowhere":
        return Refused(422, "address_undeliverable", "No parcel gets to that address.")
    if booking.depot is not None and booking.depot.casefold() == "nowhere":
        return Refused(422, "depot_unknown", "There is no such depot.")
    if booking.weight_grams > HEAVIEST_GRAMS:
        return Refused(422, "parcel_too_heavy", f"At most {HEAVIEST_GRAMS} grams.")
    return None


def reference_cancelled() -> Refused:
    return Refused(409, "reference_cancelled", "The reference was cancelled.")

"""What happens to parcels: scans, ways and ends. It is no part of the API: a label knows nothing of it but its tracker."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json

from simulators._ledger import transaction
from simulators.easypost.clock import Clock, event_stamp
from simulators.easypost.entries import money_of, write
from simulators.easypost.shipments import way_of
from simulators.easypost.trackers import Trackers

UNDER_WAY = frozenset({"picked_up", "in_transit", "out_for_delivery"})
COMES_FROM = {
    "picked_up": frozenset({"pre_transit"}),
    "in_transit": frozenset({"picked_up", "lost"}),
    "out_for_delivery": frozenset({"picked_up", "in_transit", "lost"}),
    "delivered": UNDER_WAY | {"lost"},
    "lost": UNDER_WAY,
    "returned": UNDER_WAY | {"lost"},
}
"""Where a parcel must be to get to each stage. A lost one may turn up."""
AT_ITS_END = frozenset({"out_for_delivery", "delivered"})
# Of several labels with one reference, the one that is on the parcel: that was scanned, or else that is not given back.
NAMED = """
SELECT * FROM labels WHERE tracking_code = ?1 OR shipment_id = ?1 OR reference = ?1
ORDER BY scanned IS NULL, COALESCE(refund, 'rejected') != 'rejected', seq LIMIT 1
"""
TO_SCAN = """
SELECT tracking_code FROM labels
WHERE stage = 'pre_transit' AND NOT is_return AND COALESCE(refund, 'rejected') = 'rejected' AND bought <= ?
ORDER BY bought, seq LIMIT ?
"""


class World:
    def __init__(self, ledger: sqlite3.Connection, clock: Clock, trackers: Trackers) -> None:
        self._ledger, self._clock, self._trackers = ledger, clock, trackers

    def advance(self, names: Sequence[str], to: str) -> tuple[list[str], dict[str, str]]:
        """Move parcels on, each with its news; the others are told apart by the stage that kept them. Names are references,
        tracking codes or ids of shipments."""
        moved: list[str] = []
        kept: dict[str, str] = {}
        with transaction(self._ledger):
            for name in names:
                label = self._ledger.execute(NAMED, (name,)).fetchone()
                if label is None or label["stage"] not in COMES_FROM[to]:
                    kept[name] = label["stage"] if label else self._unbought(name)
                    continue
                self._move(label, to)
                moved.append(name)
        return moved, kept

    def _move(self, label: sqlite3.Row, to: str) -> None:
        now = self._clock.now()
        self._ledger.execute(
            "UPDATE labels SET stage = ?, scanned = COALESCE(scanned, ?) WHERE seq = ?", (to, now.timestamp(), label["seq"])
        )
        write(self._ledger, now, "scanned" if to == "picked_up" else to, label)
        row = self._ledger.execute("SELECT body FROM shipments WHERE id = ?", (label["shipment_id"],)).fetchone()
        shipment = from_json(row["body"])
        origin, destination = way_of(shipment)
        place = destination if to in AT_ITS_END else origin
        self._trackers.tell(label["tracking_code"], to, place, weight=shipment["parcel"]["weight"])

    def _unbought(self, name: str) -> str:
        found = self._ledger.execute("SELECT 1 FROM shipments WHERE id = ?1 OR reference = ?1 LIMIT 1", (name,)).fetchone()
        return "not_bought" if found else "unknown"

    def under_way(self, to: str) -> list[str]:
        """Tracking codes of parcels that may get to a stage. Lost ones are not under way: each turns up only if it is named, as
        each that comes back is handed in only if it is."""
        if to == "picked_up":
            return self.due_for_scan(timedelta(), limit=-1)
        found = self._ledger.execute(
            "SELECT tracking_code FROM labels WHERE stage IN (SELECT value FROM json_each(?)) ORDER BY seq",
            (json.dumps(sorted(COMES_FROM[to] & UNDER_WAY)),),
        )
        return [row["tracking_code"] for row in found]

    def due_for_scan(self, after: timedelta, limit: int = 500) -> list[str]:
        found = self._ledger.execute(TO_SCAN, ((self._clock.now() - after).timestamp(), limit))
        return [row["tracking_code"] for row in found]

    def due_for_delivery(self, after: timedelta, limit: int = 500) -> list[str]:
        """Counted from the recorded scan, so that a restart forgets no parcel."""
        found = self._ledger.execute(
            "SELECT tracking_code FROM labels WHERE stage IN ('picked_up', 'in_transit', 'out_for_delivery')"
            " AND scanned <= ? ORDER BY scanned LIMIT ?",
            ((self._clock.now() - after).timestamp(), limit),
        )
        return [row["tracking_code"] for row in found]

    def parcels(self, limit: int, after: int) -> list[dict[str, Any]]:
        """Each label, and where its parcel is."""
        rows = self._ledger.execute("SELECT * FROM labels WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
        return [
            {
                "seq": row["seq"],
                "reference": row["reference"],
                "shipment_id": row["shipment_id"],
                "tracking_code": row["tracking_code"],
                "carrier": row["carrier"],
                "is_return": bool(row["is_return"]),
                "status": row["stage"],
                "refund_status": row["refund"],
                "postage": money_of(row["postage"]),
                "bought_at": _written(row["bought"]),
                "scanned_at": _written(row["scanned"]),
            }
            for row in rows
        ]


def _written(at: float | None) -> str | None:
    return None if at is None else event_stamp(datetime.fromtimestamp(at, UTC))

"""Trackers: what is told of a parcel."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic_core import from_json, to_json

from simulators.easypost.addresses import Address
from simulators.easypost.clock import Clock, stamp
from simulators.easypost.news import News
from simulators.easypost.refusals import Refusal, not_found
from simulators.easypost.wire import Object, carrier_detail_of, detail_of, tracker_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS trackers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tracking_code TEXT NOT NULL,
    carrier TEXT NOT NULL,
    body TEXT NOT NULL,
    created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS trackers_of_code ON trackers (tracking_code, seq);
"""
SAME_FOR = timedelta(days=90)
"""For so long another tracker of the same parcel is the first one."""
TOLD = {
    "pre_transit": ("pre_transit", "label_created", "Shipping Label Created"),
    "picked_up": ("in_transit", "arrived_at_facility", "Picked up"),
    "in_transit": ("in_transit", "departed_facility", "Departed carrier facility"),
    "out_for_delivery": ("out_for_delivery", "out_for_delivery", "Out for delivery"),
    "delivered": ("delivered", "arrived_at_destination", "Delivered"),
    "lost": ("failure", "lost", "The parcel cannot be found"),
    "returned": ("return_to_sender", "return", "Returned to the sender"),
}
"""Status, its detail and the carrier's words for each stage of a parcel."""
TEST_CODES = {
    "EZ1000000001": "pre_transit",
    "EZ2000000002": "in_transit",
    "EZ3000000003": "out_for_delivery",
    "EZ4000000004": "delivered",
    "EZ5000000005": "return_to_sender",
    "EZ6000000006": "failure",
    "EZ7000000007": "unknown",
}
_WAYS = {
    "pre_transit": ("pre_transit",),
    "in_transit": ("pre_transit", "picked_up"),
    "out_for_delivery": ("pre_transit", "picked_up", "out_for_delivery"),
    "delivered": ("pre_transit", "picked_up", "out_for_delivery", "delivered"),
    "return_to_sender": ("pre_transit", "picked_up", "returned"),
    "failure": ("pre_transit", "picked_up", "lost"),
    "unknown": (),
}
_HOUSTON = {"city": "HOUSTON", "state": "TX", "country": None, "zip": "77063"}
_CHARLESTON = {"city": "CHARLESTON", "state": "SC", "country": None, "zip": "29401"}


class Trackers:
    """Each method joins the transaction that it is called in."""

    def __init__(self, ledger: sqlite3.Connection, clock: Clock, news: News) -> None:
        self._ledger, self._clock, self._news = ledger, clock, news

    def of_label(self, code: str, carrier: str, shipment_id: str, *, is_return: bool, first: Object) -> Object:
        """The tracker of a label that was just bought, as the purchase shows it: before the carrier has told anything. `first` is
        what it adds right after."""
        tracker = tracker_of(code, carrier, self._clock.now(), shipment_id=shipment_id, is_return=is_return)
        confirmed = {**tracker, **first}
        self._add(confirmed, "pre_transit", None)
        self._keep(confirmed)
        self._news.tell("tracker.created", confirmed, {}, code)
        return tracker

    def create(self, code: str, carrier: str | None) -> tuple[Object, bool]:
        """The tracker, and whether it is new. Refusal: TRACKER.INVALID_TEST_CODE, if there is no such parcel."""
        latest = (self._clock.now() - SAME_FOR).timestamp()
        row = self._ledger.execute(
            "SELECT body FROM trackers WHERE tracking_code = ?1 AND carrier = COALESCE(?2, carrier) AND created > ?3"
            " ORDER BY seq LIMIT 1",
            (code, carrier, latest),
        ).fetchone()
        if row is not None:
            found: Object = from_json(row["body"])
            return found, False
        if code not in TEST_CODES:
            raise Refusal(422, "TRACKER.INVALID_TEST_CODE", "In test mode, only test tracking numbers are valid.")
        tracker = self._test_tracker(code, carrier or "USPS")
        self._keep(tracker)
        self._news.tell("tracker.created", tracker, {}, tracker["id"])
        return tracker, True

    def tell(self, code: str, stage: str, place: Address, *, weight: float) -> Object:
        """The carrier reports where a parcel of ours is."""
        row = self._ledger.execute("SELECT body FROM trackers WHERE tracking_code = ? ORDER BY seq LIMIT 1", (code,)).fetchone()
        tracker: Object = from_json(row["body"])
        before = tracker["status"]
        tracker["weight"] = weight
        tracker["finalized"] = stage in {"delivered", "returned"}
        self._add(tracker, stage, place)
        self._ledger.execute("UPDATE trackers SET body = ? WHERE id = ?", (to_json(tracker).decode(), tracker["id"]))
        self._news.tell("tracker.updated", tracker, {} if tracker["status"] == before else {"status": before}, code)
        return tracker

    def take_over(self, tracker: Object, way: Sequence[str], at: str) -> Object:
        """One that was told of before, by stages on its way."""
        for stage in way:
            self._add(tracker, stage, None)
        tracker["created_at"] = at
        self._keep(tracker)
        return tracker

    def get(self, name: str) -> Object:
        """By its id."""
        row = self._ledger.execute("SELECT body FROM trackers WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise not_found()
        found: Object = from_json(row["body"])
        return found

    def of_shipment(self, code: str) -> Object:
        row = self._ledger.execute("SELECT body FROM trackers WHERE tracking_code = ? ORDER BY seq LIMIT 1", (code,)).fetchone()
        found: Object = from_json(row["body"])
        return found

    def _add(self, tracker: Object, stage: str, place: Address | None) -> None:
        status, detail, message = TOLD[stage]
        at = self._clock.now()
        if tracker["tracking_details"]:
            # A second apart at least, which is how exactly times are told: so their order can be read off them.
            at = max(at, datetime.fromisoformat(tracker["tracking_details"][-1]["datetime"]) + timedelta(seconds=1))
        tracker["tracking_details"].append(detail_of(tracker, status, detail, message, place, at))
        tracker.update(status=status, status_detail=detail, updated_at=stamp(at))

    def _keep(self, tracker: Object) -> None:
        self._ledger.execute(
            "INSERT INTO trackers (id, tracking_code, carrier, body, created) VALUES (?, ?, ?, ?, ?)",
            (
                tracker["id"],
                tracker["tracking_code"],
                tracker["carrier"],
                to_json(tracker).decode(),
                self._clock.now().timestamp(),
            ),
        )

    def _test_tracker(self, code: str, carrier: str) -> Object:
        now, status = self._clock.now(), TEST_CODES[code]
        tracker = tracker_of(code, carrier, now, shipment_id=None, is_return=False)
        for number, stage in enumerate(_WAYS[status]):
            told, detail, message = TOLD[stage]
            place = _CHARLESTON if stage in {"out_for_delivery", "delivered"} else _HOUSTON
            at = now - timedelta(days=30) + timedelta(hours=13 * number)
            tracker["tracking_details"].append(detail_of(tracker, told, detail, message, place, at))
            tracker.update(status=told, status_detail=detail)
        if tracker["tracking_details"]:
            tracker["est_delivery_date"] = stamp(now)
            tracker["carrier_detail"] = carrier_detail_of("First-Class Package Service", _HOUSTON, _CHARLESTON, now)
        if status == "delivered":
            tracker["signed_by"] = "John Tester"
        tracker["finalized"] = True
        return tracker

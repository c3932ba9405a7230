"""What release 0.9.0 left behind: its carrier had a protocol of its own, and knew a parcel by its reference for ever.

A parcel keeps its id, its reference and its tracking number. One that was cancelled is a label that was refunded; a reference
that was only cancelled has no shipment.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from simulators._ledger import transaction
from simulators.easypost.asked import AskedAddress, AskedParcel
from simulators.easypost.clock import stamp
from simulators.easypost.entries import write
from simulators.easypost.news import News
from simulators.easypost.shipments import FILES, blank
from simulators.easypost.tariff import USPS, Quote
from simulators.easypost.trackers import Trackers
from simulators.easypost.wire import Object, address_of, fees_of, label_of, parcel_of, rate_of, tracker_of

GRAMS_PER_OUNCE = 28.349523125
SERVICES = {"express": ("Express", 1)}
USUAL = ("GroundAdvantage", 3)


def carry_on(ledger: sqlite3.Connection, directory: Path, trackers: Trackers, news: News) -> None:
    """Take over the parcels of the old books, once, and tell what they had not told yet."""
    old = directory / "carrier.sqlite"
    if not old.exists() or ledger.execute("SELECT 1 FROM shipments LIMIT 1").fetchone():
        return
    with closing(sqlite3.connect(f"{old.as_uri()}?mode=ro", uri=True)) as books, transaction(ledger):
        books.row_factory = sqlite3.Row
        untold = {row[0] for row in books.execute("SELECT reference FROM webhooks WHERE delivered_at IS NULL")}
        rows = "SELECT s.*, r.depot FROM shipments s LEFT JOIN returns r USING (reference) WHERE s.id IS NOT NULL ORDER BY s.seq"
        for row in books.execute(rows):
            tracker = _take_over(ledger, row, trackers)
            if row["reference"] in untold:
                news.tell("tracker.updated", tracker, {}, tracker["tracking_code"])


def _take_over(ledger: sqlite3.Connection, row: sqlite3.Row, trackers: Trackers) -> Object:
    bought, code = datetime.fromisoformat(row["created_at"]).astimezone(UTC), row["tracking_number"]
    scanned = datetime.fromisoformat(row["picked_up_at"]) if row["picked_up_at"] else None
    stage = row["status"] if scanned else "pre_transit"
    service, days = SERVICES.get(row["service"], USUAL)
    rate = rate_of(Quote(USPS, service, row["cost_amount"], days), row["id"], bought)
    shipment = {**blank(row["id"], row["reference"], bought), **_ends(row, bought)}
    shipment |= {
        "is_return": row["depot"] is not None,
        "parcel": parcel_of(AskedParcel(weight=round(row["weight_grams"] / GRAMS_PER_OUNCE, 1)), bought),
        "rates": [rate],
        "selected_rate": rate,
        "tracking_code": code,
        "postage_label": label_of("PNG", f"{FILES}/{bought:%Y%m%d}/{row['id']}", bought),
        "fees": fees_of(rate["rate"]),
    }
    ledger.execute(
        "INSERT INTO shipments (id, reference, body, tracking_code, created) VALUES (?, ?, ?, ?, ?)",
        (row["id"], row["reference"], to_json(shipment).decode(), code, bought.timestamp()),
    )
    refund = (f"rfnd_{row['id'].removeprefix('shp_')}", "refunded", bought.timestamp()) if row["status"] == "cancelled" else ()
    label = ledger.execute(
        "INSERT INTO labels (tracking_code, shipment_id, reference, carrier, is_return, postage, file, stage, bought, scanned,"
        " refund_id, refund, refund_asked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
        (
            code,
            row["id"],
            row["reference"],
            USPS.name,
            shipment["is_return"],
            row["cost_amount"],
            row["id"],
            stage,
            bought.timestamp(),
            scanned.timestamp() if scanned else None,
            *(refund or (None, None, None)),
        ),
    ).fetchone()
    write(ledger, bought, "label_bought", label, label["postage"])
    if refund:
        write(ledger, bought, "refund_submitted", label)
        write(ledger, bought, "label_refunded", label, -label["postage"])
    if scanned:
        write(ledger, scanned, "scanned", label)
    if stage not in ("pre_transit", "picked_up"):
        write(ledger, scanned or bought, stage, label)
    tracker = tracker_of(code, USPS.name, bought, shipment_id=row["id"], is_return=shipment["is_return"])
    way = ["pre_transit", *(["picked_up"] if scanned else []), *([stage] if stage not in ("pre_transit", "picked_up") else [])]
    return trackers.take_over(tracker, way, stamp(bought))


def _ends(row: sqlite3.Row, at: datetime) -> dict[str, Any]:
    """Its two addresses: what was written on the old label, and a warehouse that the old carrier knew nothing more of."""
    lines = row["label"].splitlines()[1 if row["depot"] else 0 :]
    place, _, country = lines[-1].rpartition(" ")
    written = {"name": lines[0], "street1": lines[1], "street2": lines[2] if len(lines) > 3 else None}
    customer = address_of(AskedAddress(**written, city=place, country=country), at)
    warehouse = address_of(AskedAddress(company=row["depot"] or "The shop"), at)
    ends = {"to_address": customer, "from_address": warehouse}
    return {**ends, "return_address": warehouse, "buyer_address": customer}

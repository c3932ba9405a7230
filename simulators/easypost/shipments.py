"""Shipments, their rates and labels: what is bought here, and given back."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json, to_json

from simulators._ledger import transaction
from simulators._refusals import Unavailable
from simulators.easypost.addresses import Address, is_undeliverable, verified
from simulators.easypost.asked import FORMATS, AskedShipment
from simulators.easypost.clock import Clock, stamp
from simulators.easypost.entries import write
from simulators.easypost.news import CarrierFaults, News
from simulators.easypost.objects import Objects
from simulators.easypost.refusals import Refusal, not_found
from simulators.easypost.tariff import CARRIERS, NEIGHBOUR, quotes, unavailable, zone_between
from simulators.easypost.trackers import Trackers
from simulators.easypost.wire import (
    MODE,
    Object,
    carrier_detail_of,
    cents_of,
    delivery_due,
    fees_of,
    label_of,
    new_id,
    rate_of,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS shipments (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    reference TEXT,
    body TEXT NOT NULL,
    tracking_code TEXT,
    created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS shipments_of_reference ON shipments (reference, seq);
CREATE TABLE IF NOT EXISTS labels (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tracking_code TEXT NOT NULL UNIQUE,
    shipment_id TEXT NOT NULL UNIQUE,
    reference TEXT,
    carrier TEXT NOT NULL,
    is_return INTEGER NOT NULL,
    postage INTEGER NOT NULL,
    file TEXT NOT NULL UNIQUE,
    stage TEXT NOT NULL DEFAULT 'pre_transit',
    bought REAL NOT NULL,
    scanned REAL,
    refund_id TEXT UNIQUE,
    refund TEXT,
    refund_asked REAL,
    refund_due REAL
);
CREATE INDEX IF NOT EXISTS labels_of_reference ON labels (reference, seq);
CREATE INDEX IF NOT EXISTS labels_to_refund ON labels (refund_due) WHERE refund = 'submitted';
CREATE INDEX IF NOT EXISTS labels_under_way ON labels (scanned)
    WHERE stage IN ('picked_up', 'in_transit', 'out_for_delivery');
CREATE INDEX IF NOT EXISTS labels_to_scan ON labels (bought) WHERE stage = 'pre_transit';
CREATE TABLE IF NOT EXISTS purchases (
    name TEXT PRIMARY KEY,
    received INTEGER NOT NULL,
    bought INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
REFUNDED_FOR = {"USPS": timedelta(days=30)}
"""How old a label may be that is given back; of all others `LONGEST_REFUND`."""
LONGEST_REFUND = timedelta(days=90)
FILES = "/files/postage_label"


@dataclass(frozen=True, slots=True)
class Bought:
    shipment: Object
    town: str
    """A city of either address that does something by magic."""
    is_first: bool
    """Of all purchases with this reference."""


class Shipments:
    def __init__(
        self, ledger: sqlite3.Connection, clock: Clock, faults: CarrierFaults, objects: Objects, trackers: Trackers, news: News
    ) -> None:
        self._ledger, self._clock, self._faults = ledger, clock, faults
        self._objects, self._trackers, self._news = objects, trackers, news
        self.more = asyncio.Event()
        """Something is due at another time than was known."""

    def create(self, asked: AskedShipment) -> Object:
        options = asked.options
        if options.get("label_format", "PNG") not in FORMATS:
            raise Refusal(422, "SHIPMENT.POSTAGE.INVALID_FORMAT", f"label_format must be one of {', '.join(FORMATS)}.")
        with transaction(self._ledger):
            to, origin, back, buyer = (
                self._objects.address(each, field=name) if (each := getattr(asked, name)) else None
                for name in ("to_address", "from_address", "return_address", "buyer_address")
            )
            parcel = self._objects.parcel(asked.parcel) if asked.parcel else None
            customs = self._objects.customs(asked.customs_info) if asked.customs_info else None
            now = self._clock.now()
            shipment = blank(new_id("shp"), asked.reference, now)
            shipment.update(
                is_return=asked.is_return,
                options={**options, **shipment["options"]},
                customs_info=customs,
                from_address=origin,
                parcel=parcel,
                to_address=to,
                usps_zone=self._zone(origin, to),
                return_address=back or origin,
                buyer_address=buyer or to,
            )
            self._rate(shipment)
            self._ledger.execute(
                "INSERT INTO shipments (id, reference, body, created) VALUES (?, ?, ?, ?)",
                (shipment["id"], asked.reference, to_json(shipment).decode(), now.timestamp()),
            )
        return shipment

    def rerate(self, name: str) -> Object:
        """New rates, instead of those from before. Refusal: SHIPMENT.POSTAGE.EXISTS."""
        with transaction(self._ledger):
            shipment = self._unbought(self._row(name))
            self._rate(shipment)
            self._rewrite(shipment)
        return shipment

    def buy(self, name: str, rate_id: str) -> Bought:
        """Pay for a label. Refusals: SHIPMENT.POSTAGE.EXISTS, SHIPMENT.MISSING_RATE, SHIPMENT.POSTAGE.FAILURE; 402."""
        with transaction(self._ledger) as ledger:
            row = self._row(name)
            shipment = self._unbought(row)
            attempt, bought_before = ledger.execute(
                "INSERT INTO purchases (name, received) VALUES (?, 1) ON CONFLICT DO UPDATE SET received = received + 1"
                " RETURNING received, bought",
                (row["reference"] or row["id"],),
            ).fetchone()
            town = magic_town(shipment)
            refusal = self._refusal_of(shipment, rate_id, flaky=town == "flakytown" and attempt <= 3)
            if refusal is None:
                shipment = self._buy(shipment, rate_id)
                ledger.execute("UPDATE purchases SET bought = bought + 1 WHERE name = ?", (row["reference"] or row["id"],))
        # Refuse only out here, where the attempt is committed.
        if refusal is not None:
            raise refusal
        return Bought(shipment, town, bought_before == 0)

    def _refusal_of(self, shipment: Object, rate_id: str, *, flaky: bool) -> Refusal | Unavailable | None:
        rate = next((rate for rate in shipment["rates"] if rate["id"] == rate_id), None)
        if rate is None:
            return Refusal(422, "SHIPMENT.MISSING_RATE", "The shipment has no such rate.")
        if self._faults.no_credit:
            return Refusal(402, "PAYMENT_REQUIRED", "The balance does not cover this purchase.")
        if rate["carrier"] in self._faults.down_carriers():
            return Refusal(422, "SHIPMENT.POSTAGE.FAILURE", f"Unable to buy postage: {rate['carrier']} did not respond.")
        return Unavailable() if flaky else None

    def _buy(self, shipment: Object, rate_id: str) -> Object:
        now = self._clock.now()
        rate = next(rate for rate in shipment["rates"] if rate["id"] == rate_id)
        code, file = new_code(rate["carrier"]), f"{time.time_ns():016x}{secrets.token_hex(16)}"
        path = f"{FILES}/{now:%Y%m%d}/{file}"
        to = self._objects.rewritten(verified(shipment["to_address"]))
        if shipment["buyer_address"]["id"] == to["id"]:
            shipment["buyer_address"] = to
        shipment.update(
            to_address=to,
            tracking_code=code,
            updated_at=stamp(now),
            selected_rate=rate,
            postage_label=label_of(shipment["options"].get("label_format", "PNG"), path, now),
            fees=fees_of(rate["rate"]),
        )
        origin, destination = way_of(shipment)
        due = delivery_due(now, rate["delivery_days"])
        first = {
            "est_delivery_date": stamp(due),
            "carrier_detail": carrier_detail_of(rate["service"], origin, destination, due),
            "tracking_details": [],
        }
        self._rewrite(shipment)
        label = self._ledger.execute(
            "INSERT INTO labels (tracking_code, shipment_id, reference, carrier, is_return, postage, file, bought)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
            (
                code,
                shipment["id"],
                shipment["reference"],
                rate["carrier"],
                shipment["is_return"],
                cents_of(rate["rate"]),
                file,
                now.timestamp(),
            ),
        ).fetchone()
        write(self._ledger, now, "label_bought", label, label["postage"])
        tracker = self._trackers.of_label(code, rate["carrier"], shipment["id"], is_return=shipment["is_return"], first=first)
        return {**shipment, "tracker": tracker}

    def refund(self, name: str) -> Object:
        """Give a label back. Refusals: SHIPMENT.POSTAGE.REQUIRED, SHIPMENT.REFUND.UNAVAILABLE."""
        with transaction(self._ledger) as ledger:
            row, now = self._row(name), self._clock.now()
            label = self._label(row["id"])
            if label is None:
                raise Refusal(422, "SHIPMENT.POSTAGE.REQUIRED", "The shipment has no postage to refund.")
            if label["refund"] in (None, "rejected"):
                if label["scanned"] is not None:
                    message = "Unable to request refund. The parcel has been shipped."
                    raise Refusal(422, "SHIPMENT.REFUND.UNAVAILABLE", message)
                due = now.timestamp() + self._faults.refund_ms / 1000
                ledger.execute(
                    "UPDATE labels SET refund = 'submitted', refund_id = COALESCE(refund_id, ?), refund_asked = ?, refund_due = ?"
                    " WHERE seq = ?",
                    (new_id("rfnd"), now.timestamp(), due, label["seq"]),
                )
                write(ledger, now, "refund_submitted", label)
                self.more.set()
        return self.get(name)

    def decide_refunds(self) -> float | None:
        """Of those whose time has come; tells in how many seconds the next one's will."""
        now = self._clock.now()
        due = self._ledger.execute(
            "SELECT * FROM labels WHERE refund = 'submitted' AND refund_due <= ? ORDER BY refund_due", (now.timestamp(),)
        ).fetchall()
        for label in due:
            with transaction(self._ledger) as ledger:
                age = timedelta(seconds=label["refund_asked"] - label["bought"])
                is_old = age > REFUNDED_FOR.get(label["carrier"], LONGEST_REFUND)
                status = "rejected" if label["scanned"] is not None or is_old or self._faults.reject_refunds else "refunded"
                ledger.execute("UPDATE labels SET refund = ? WHERE seq = ?", (status, label["seq"]))
                if status == "rejected":
                    write(ledger, now, "refund_rejected", label)
                    continue
                write(ledger, now, "label_refunded", label, -label["postage"])
                shipment: Object = from_json(self._row(label["shipment_id"])["body"])
                shipment["fees"] = [{**fee, "refunded": True} for fee in shipment["fees"]]
                self._rewrite(shipment)
                refund = shown_refund(self._label(label["shipment_id"]))
                self._news.tell("refund.successful", refund, {}, label["tracking_code"])
        next_due = self._ledger.execute("SELECT MIN(refund_due) FROM labels WHERE refund = 'submitted'").fetchone()[0]
        return None if next_due is None else max(0.0, float(next_due) - self._clock.now().timestamp())

    def convert(self, name: str, file_format: str) -> Object:
        """The label as another kind of file, beside the first. Refusals: SHIPMENT.POSTAGE.REQUIRED, …INVALID_FORMAT."""
        file_format = file_format.upper()
        if file_format not in FORMATS:
            raise Refusal(422, "SHIPMENT.POSTAGE.INVALID_FORMAT", f"file_format must be one of {', '.join(FORMATS)}.")
        with transaction(self._ledger):
            row = self._row(name)
            shipment: Object = from_json(row["body"])
            label = shipment["postage_label"]
            if label is None:
                raise Refusal(422, "SHIPMENT.POSTAGE.REQUIRED", "The shipment has no label.")
            url = f"{label['label_url'].rpartition('.')[0]}.{file_format.lower()}"
            if file_format != "PNG":
                label[f"label_{file_format.lower()}_url"] = url
                label["updated_at"] = stamp(self._clock.now())
            self._rewrite(shipment)
        return self.get(name)

    def get(self, name: str) -> Object:
        """By its id, or by the reference that it was the first to have."""
        return self.shown(self._row(name))

    def shown(self, row: sqlite3.Row) -> Object:
        shipment: Object = from_json(row["body"])
        if row["tracking_code"] is None:
            return shipment
        tracker = self._trackers.of_shipment(row["tracking_code"])
        label = self._label(row["id"])
        return {**shipment, "status": tracker["status"], "tracker": tracker, "refund_status": label["refund"]}

    def of_file(self, file: str) -> Object:
        row = self._ledger.execute("SELECT shipment_id FROM labels WHERE file = ?", (file,)).fetchone()
        if row is None:
            raise not_found()
        shipment: Object = from_json(self._row(row["shipment_id"])["body"])
        return shipment

    def refund_named(self, name: str) -> Object:
        row = self._ledger.execute("SELECT * FROM labels WHERE refund_id = ?", (name,)).fetchone()
        if row is None:
            raise not_found()
        return shown_refund(row)

    def _rate(self, shipment: Object) -> None:
        offered, messages = quotes(
            shipment["from_address"],
            shipment["to_address"],
            shipment["parcel"],
            has_customs=shipment["customs_info"] is not None,
            down=self._faults.down_carriers(),
        )
        if self._faults.fail_rates and offered:
            offered, messages = [], [unavailable(carrier) for carrier in CARRIERS]
        now = self._clock.now()
        shipment["messages"] = messages
        shipment["rates"] = [rate_of(quote, shipment["id"], now) for quote in offered]
        shipment["updated_at"] = stamp(now)

    def _zone(self, origin: Address | None, to: Address | None) -> int | None:
        if origin is None or to is None or is_undeliverable(origin) or is_undeliverable(to):
            return None
        zone = zone_between(origin, to)
        return zone if zone < NEIGHBOUR else None

    def _row(self, name: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self._ledger.execute("SELECT * FROM shipments WHERE id = ?", (name,)).fetchone()
        if row is None:
            row = self._ledger.execute("SELECT * FROM shipments WHERE reference = ? ORDER BY seq LIMIT 1", (name,)).fetchone()
        if row is None:
            raise not_found()
        return row

    def _label(self, shipment_id: str) -> Any:
        return self._ledger.execute("SELECT * FROM labels WHERE shipment_id = ?", (shipment_id,)).fetchone()

    def _unbought(self, row: sqlite3.Row) -> Object:
        if row["tracking_code"] is not None:
            raise Refusal(422, "SHIPMENT.POSTAGE.EXISTS", "Postage already exists for this shipment.")
        shipment: Object = from_json(row["body"])
        return shipment

    def _rewrite(self, shipment: Object) -> None:
        self._ledger.execute(
            "UPDATE shipments SET body = ?, tracking_code = ? WHERE id = ?",
            (to_json({**shipment, "tracker": None}).decode(), shipment["tracking_code"], shipment["id"]),
        )


def blank(name: str, reference: str | None, at: datetime) -> Object:
    """A shipment of which nothing is known."""
    return {
        "id": name,
        "created_at": stamp(at),
        "is_return": False,
        "messages": [],
        "mode": MODE,
        "options": {"currency": "USD", "payment": {"type": "SENDER"}, "date_advance": 0},
        "reference": reference,
        "status": "unknown",
        "tracking_code": None,
        "updated_at": stamp(at),
        "batch_id": None,
        "batch_status": None,
        "batch_message": None,
        "customs_info": None,
        "from_address": None,
        "insurance": None,
        "order_id": None,
        "parcel": None,
        "postage_label": None,
        "rates": [],
        "refund_status": None,
        "scan_form": None,
        "selected_rate": None,
        "tracker": None,
        "to_address": None,
        "usps_zone": None,
        "return_address": None,
        "buyer_address": None,
        "forms": [],
        "fees": [],
        "object": "Shipment",
    }


def way_of(shipment: Object) -> tuple[Address, Address]:
    """From where to where its parcel goes: of a return, the other way round."""
    ends = shipment["from_address"], shipment["to_address"]
    return (ends[1], ends[0]) if shipment["is_return"] else ends


def magic_town(shipment: Object) -> str:
    ends = [shipment[name] for name in ("to_address", "from_address") if shipment[name]]
    towns = {(end["city"] or "").casefold() for end in ends}
    return next(iter(towns & {"flakytown", "lostville", "slowville"}), "")


def new_code(carrier: str) -> str:
    """A tracking code as each carrier writes it. They rise with time, as ids do."""
    now = time.time_ns()
    if carrier == "USPS":
        return f"94001{now // 100:017d}"
    return f"1Z{now:016X}" if carrier == "UPSDAP" else f"{now // 10_000:015d}"


def shown_refund(label: sqlite3.Row) -> Object:
    asked = stamp(datetime.fromtimestamp(label["refund_asked"], UTC))
    return {
        "id": label["refund_id"],
        "object": "Refund",
        "created_at": asked,
        "updated_at": asked,
        "tracking_code": label["tracking_code"],
        "confirmation_number": None,
        "status": label["refund"],
        "carrier": label["carrier"],
        "shipment_id": label["shipment_id"],
    }

"""The carriers go on with the parcels that the carrier of release 0.9.0 had."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from simulators.easypost.app import Settings, create_app
from tests.simulators.easypost import KEY, Connect, Shop, advance, drained, every, hand_over, ledger, refund, refusal, seen

Until = Callable[..., Awaitable[Any]]
BOOKS = """
CREATE TABLE shipments (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, reference TEXT NOT NULL UNIQUE, id TEXT, tracking_number TEXT UNIQUE,
    status TEXT NOT NULL, service TEXT, label TEXT, weight_grams INTEGER, cost_amount INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL, picked_up_at TEXT
);
CREATE TABLE returns (reference TEXT PRIMARY KEY, depot TEXT NOT NULL);
CREATE TABLE webhooks (seq INTEGER PRIMARY KEY, reference TEXT NOT NULL, delivered_at TEXT);
"""
"""As release 0.9.0 made them, as far as they are read."""
LABEL = "A. Customer\n1 Long Street\n1100-001 Lisbon PT"
AT, LATER = "2026-11-01T10:00:00.000+00:00", "2026-11-02T10:00:00.000+00:00"


def old_books(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "carrier.sqlite")) as books, books:
        books.executescript(BOOKS)
        for number, status in enumerate(("booked", "picked_up", "in_transit", "delivered", "lost", "returned", "cancelled")):
            scanned = None if status in ("booked", "cancelled") else LATER
            books.execute(
                "INSERT INTO shipments (reference, id, tracking_number, status, service, label, weight_grams, cost_amount,"
                " created_at, picked_up_at) VALUES (?, ?, ?, ?, 'standard', ?, 2500, 650, ?, ?)",
                (status, f"shp_{number:024x}", f"TRK{number:016X}", status, LABEL, AT, scanned),
            )
        books.execute(
            "INSERT INTO shipments (reference, id, tracking_number, status, service, label, weight_grams, cost_amount,"
            " created_at) VALUES ('back', 'shp_back', 'TRKBACK', 'booked', 'express', ?, 900, 1290, ?)",
            (f"RETURN to nyc, from\n{LABEL}", AT),
        )
        books.execute("INSERT INTO returns VALUES ('back', 'nyc')")
        books.execute("INSERT INTO shipments (reference, status, created_at) VALUES ('never', 'cancelled', ?)", (AT,))
        books.execute("INSERT INTO webhooks VALUES (1, 'in_transit', ?), (2, 'delivered', NULL)", (AT,))


async def test_goes_on_with_the_old_parcels(tmp_path: Path, connect: Connect, shop: Shop, until: Until) -> None:
    old_books(tmp_path)
    for start in range(2):
        app = create_app(Settings(data_dir=tmp_path, api_key=KEY, webhook=shop.target()))
        async with app.running(), connect(app) as carriers:
            await until(lambda: drained(carriers))
            if start:
                continue
            parcels = {parcel["reference"]: parcel for parcel in await every(carriers, "/_control/parcels")}
            assert {name: parcel["status"] for name, parcel in parcels.items()} == {
                **{name: name for name in ("picked_up", "in_transit", "delivered", "lost", "returned")},
                **dict.fromkeys(("booked", "cancelled", "back"), "pre_transit"),
            }
            assert parcels["booked"]["tracking_code"] == f"TRK{0:016X}"
            assert parcels["cancelled"]["refund_status"] == "refunded"
            assert (await ledger(carriers))["postage"]["amount"] == f"{6 * 6.5 + 12.9:.2f}"
            assert refusal(await refund(carriers, parcels["picked_up"]["shipment_id"])) == (422, "SHIPMENT.REFUND.UNAVAILABLE")
            back = await seen(carriers, "back")
            assert (back["is_return"], back["to_address"]["name"], back["from_address"]["company"]) == (
                True,
                "A. Customer",
                "nyc",
            )
            assert (await carriers.get(back["postage_label"]["label_url"])).content.startswith(b"\x89PNG")
            assert (await hand_over(carriers, "booked"))["handed_over"] == 1
            assert (await advance(carriers, "delivered", references=["booked", "in_transit"]))["advanced"] == 2
            await until(lambda: drained(carriers))
    # What the old carrier had not told, and what is new; once, although it was started twice.
    told = [(event["result"]["tracking_code"][-1], event["result"]["status"]) for event in shop.accepted]
    assert sorted(told) == [("0", "delivered"), ("0", "in_transit"), ("2", "delivered"), ("3", "delivered")]

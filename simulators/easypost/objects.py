"""Addresses, parcels and customs forms: as they were sent, and found again by their id."""

from __future__ import annotations

import sqlite3

from pydantic_core import from_json, to_json

from simulators.easypost.addresses import Address, problems_of, unverifiable, verified
from simulators.easypost.asked import AskedAddress, AskedCustoms, AskedItem, AskedParcel
from simulators.easypost.clock import Clock, address_stamp
from simulators.easypost.refusals import invalid, not_found, required
from simulators.easypost.wire import Object, address_of, customs_of, item_of, parcel_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_of_kind ON objects (kind, seq);
"""


class Objects:
    """Each method joins the transaction that it is called in."""

    def __init__(self, ledger: sqlite3.Connection, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock

    def address(self, asked: AskedAddress, *, verify: object = False, strict: object = False, field: str = "address") -> Address:
        """A new one, or the one that is named. Refusal: ADDRESS.VERIFY.FAILURE, if it had to be verified strictly."""
        if asked.id is not None:
            return self._named(asked.id, "adr", field)
        address = address_of(asked, self._clock.now())
        if strict or asked.verify_strict:
            if errors := problems_of(address):
                raise unverifiable(errors)
            address = verified(address)
        elif verify or asked.verify:
            address = verified(address)
        return self._kept(address)

    def verified(self, name: str) -> Address:
        """Refusal: ADDRESS.VERIFY.FAILURE."""
        address = self.get(name, "adr")
        if errors := problems_of(address):
            raise unverifiable(errors)
        return self.rewritten(verified(address))

    def rewritten(self, address: Address) -> Address:
        address = {**address, "updated_at": address_stamp(self._clock.now())}
        self._ledger.execute("UPDATE objects SET body = ? WHERE id = ?", (to_json(address).decode(), address["id"]))
        return address

    def parcel(self, asked: AskedParcel) -> Object:
        if asked.id is not None:
            return self._named(asked.id, "prcl", "parcel")
        if asked.weight is None:
            raise required("weight")
        return self._kept(parcel_of(asked, self._clock.now()))

    def customs(self, asked: AskedCustoms) -> Object:
        if asked.id is not None:
            return self._named(asked.id, "cstinfo", "customs_info")
        if not asked.customs_items:
            raise required("customs_items")
        items = [self.item(item) for item in asked.customs_items]
        return self._kept(customs_of(asked, items, self._clock.now()))

    def item(self, asked: AskedItem) -> Object:
        if asked.id is not None:
            return self._named(asked.id, "cstitem", "customs_items")
        missing = [name for name in ("description", "quantity", "value", "weight") if getattr(asked, name) is None]
        if missing:
            raise required(*missing)
        return self._kept(item_of(asked, self._clock.now()))

    def get(self, name: str, kind: str) -> Object:
        found = self._found(name, kind)
        if found is None:
            raise not_found()
        return found

    def _named(self, name: str, kind: str, field: str) -> Object:
        found = self._found(name, kind)
        if found is None:
            raise invalid(field, "does not exist")
        return found

    def _found(self, name: str, kind: str) -> Object | None:
        row = self._ledger.execute("SELECT body FROM objects WHERE id = ? AND kind = ?", (name, kind)).fetchone()
        return from_json(row["body"]) if row else None

    def _kept(self, made: Object) -> Object:
        self._ledger.execute(
            "INSERT INTO objects (id, kind, body, created) VALUES (?, ?, ?, ?)",
            (made["id"], made["id"].partition("_")[0], to_json(made).decode(), self._clock.now().timestamp()),
        )
        return made

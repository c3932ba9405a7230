"""Inventory's state and rules: stock (stock.py), what of it is promised (reservation.py), from where an order is sent
(planning.py), who waits for goods (waiting.py), and what came back by returns (returned.py)."""

from services.inventory.model.reservation import (
    HAS_LEFT,
    PROMISED_UNITS,
    Reservation,
    require_within_limit,
    unknown_reservation,
)
from services.inventory.model.returned import ReceivedReturn, require_still_out, units_of
from services.inventory.model.stock import (
    Cause,
    Moved,
    Movement,
    Stock,
    Warehouse,
    idempotency,
    metadata,
    missing_lines,
    no_such_warehouse,
    out_of_stock,
    outbox,
    place_of,
    require_unpromised,
    unknown_warehouse,
)
from services.inventory.model.waiting import ExpectedReceipt, ExpectedStatus, unknown_receipt

__all__ = [
    "HAS_LEFT",
    "PROMISED_UNITS",
    "Cause",
    "ExpectedReceipt",
    "ExpectedStatus",
    "Moved",
    "Movement",
    "ReceivedReturn",
    "Reservation",
    "Stock",
    "Warehouse",
    "idempotency",
    "metadata",
    "missing_lines",
    "no_such_warehouse",
    "out_of_stock",
    "outbox",
    "place_of",
    "require_still_out",
    "require_unpromised",
    "require_within_limit",
    "units_of",
    "unknown_receipt",
    "unknown_reservation",
    "unknown_warehouse",
]

"""Parcels that wait for goods: they are filled as goods arrive, and told when to expect them.

Who makes goods available holds their stock, and fills with it those who wait for them, in the same transaction: nobody who comes
later can take it from them. It passes over parcels and stock that others hold at that moment, since it never waits for them; and
what it passed over, the job `look_after_waiting` finds a little later."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, String, any_, bindparam, text
from sqlmodel import col

from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import locked, sql
from chassis.store import UnitOfWork, transaction
from contracts.inventory import ReservationStatus, StockLine
from services.inventory.commands.choosing import Shelves, available, by_warehouse, stock_at
from services.inventory.model import (
    Reservation,
    Stock,
    missing_lines,
    outbox,
)
from services.inventory.model.planning import Available
from services.inventory.model.waiting import Announced, Awaiting, ParcelKey, by_day, expected_days, filled

AT_ONCE = 100
"""So many of those who wait are looked at by whoever brings goods; the job looks at all."""
_NEW: ParcelKey = (UUID(int=0), 0)
"""Of an order that has no parcel in the queue yet."""
_OLDEST_FIRST = "created_at, order_id, parcel"
_WANTS = """exists (
    select from jsonb_to_recordset(lines) as line (product_id text) where line.product_id = any(cast(:products as text[]))
)"""
_WHO_WAITS = locked(
    Reservation,
    text(f"status = 'AWAITED' and {_WANTS} and (warehouse_id is null or warehouse_id = any(cast(:warehouses as text[])))"),
    order_by=[text(_OLDEST_FIRST)],
    limit=AT_ONCE,
    skip_locked=True,
)
_NOT_HELD = locked(
    Stock,
    (col(Stock.warehouse_id) == any_(bindparam("warehouses", type_=ARRAY(String))))
    & (col(Stock.product_id) == any_(bindparam("products", type_=ARRAY(String)))),
    skip_locked=True,
)
_WAITING = "select order_id, parcel, warehouse_id, lines, expected_on from reservations where status = 'AWAITED'"
_QUEUE = sql(f"{_WAITING} order by {_OLDEST_FIRST}")
_QUEUE_FOR = sql(f"{_WAITING} and {_WANTS} order by {_OLDEST_FIRST}")
_SOMEBODY_WAITS = sql("select from reservations where status = 'AWAITED' limit 1")
_FREE = sql("""
    select warehouse_id, product_id, on_hand - reserved as units from stock
    where product_id = any(:products) and on_hand > reserved
""")
_ANNOUNCED = sql("""
    select warehouse_id, product_id, quantity, expected_on from expected_receipts
    where status = 'EXPECTED' and product_id = any(:products) order by receipt_id
""")


async def who_waits(work: UnitOfWork, stock: Shelves) -> list[Reservation]:
    """The parcels that wait for products of this stock, which is locked: the first of them, locked, the oldest first."""
    products = sorted({product for shelf in stock.values() for product in shelf})
    return await work.all(_WHO_WAITS, products=products, warehouses=sorted(stock))


async def fill_parts(work: UnitOfWork, parts: Sequence[Reservation]) -> None:
    """Promise to these, into which a parcel was split that waited, what there is: each of them needs less than all of it did."""
    waiting = [parcel for parcel in parts if parcel.status == ReservationStatus.AWAITED]
    if waiting:
        free = await _free(work, sorted({line.product_id for parcel in waiting for line in parcel.stock_lines}))
        await fill(work, free, sorted(waiting, key=lambda parcel: parcel.parcel))


async def fill(work: UnitOfWork, stock: Collection[str], waiting: Sequence[Reservation]) -> None:
    """Promise to those who wait, and wait still, what has become available. `stock`: at which warehouses."""
    waiting = [parcel for parcel in waiting if parcel.status == ReservationStatus.AWAITED]
    if not waiting:
        return
    products = sorted({line.product_id for parcel in waiting for line in parcel.stock_lines})
    held = by_warehouse(await work.all(_NOT_HELD, warehouses=sorted(stock), products=products))
    by_key = {(parcel.order_id, parcel.parcel): parcel for parcel in waiting}
    queue = [Awaiting(key, parcel.stock_lines, parcel.warehouse_id) for key, parcel in by_key.items()]
    for found, warehouse_id in filled(queue, available(held)):
        _promise(work, by_key[found.key], warehouse_id, held[warehouse_id])


def _promise(work: UnitOfWork, parcel: Reservation, warehouse_id: str, shelf: Mapping[str, Stock]) -> None:
    event = parcel.fill(warehouse_id)
    if event is not None:
        alerts = [shelf[line.product_id].reserve(line.quantity) for line in event.lines]
        outbox.add(work, *(alert for alert in alerts if alert), event)


async def parcels_to_wait(
    work: UnitOfWork, warehouse_id: str | None, lines: Sequence[StockLine], most: int
) -> list[tuple[Sequence[StockLine], date | None]]:
    """In which parcels the lines should come that begin to wait now, `most` at most, and when each should be filled."""
    queue = _queue(await work.rows(_QUEUE_FOR, products=[line.product_id for line in lines]))
    supply = await _supply(work, [*queue, Awaiting(_NEW, lines)])
    today = utc_now().date()
    parcels = by_day(lines, queue, *supply, today, warehouse_id=warehouse_id, most=most) if most > 1 else [lines]
    new = [Awaiting((_NEW[0], number), parcel, warehouse_id) for number, parcel in enumerate(parcels)]
    days = expected_days([*queue, *new], *supply, today)
    return [(parcel.lines, days[parcel.key]) for parcel in new]


async def look_after_waiting(database: Database) -> None:
    """Fill those who wait and were passed over, and tell all others when to expect their goods."""
    fillable = await _that_can_be_filled(database)
    if fillable is None:
        return
    for key, warehouse_id in fillable:
        await _fill_one(database, key, warehouse_id)
    await _tell_days(database)


@transaction
async def _that_can_be_filled(work: UnitOfWork) -> list[tuple[ParcelKey, str]] | None:
    """And from where; None if nobody waits."""
    if not await work.rows(_SOMEBODY_WAITS):
        return None
    queue = _queue(await work.rows(_QUEUE))
    free = await _free(work, _products(queue))
    return [(parcel.key, warehouse_id) for parcel, warehouse_id in filled(queue, free)]


@transaction
async def _fill_one(work: UnitOfWork, key: ParcelKey, warehouse_id: str) -> None:
    """Fill it, if it still waits and everything is still there."""
    parcel = await work.get(Reservation, *key)
    if parcel is None:
        return
    shelf = await stock_at(work, warehouse_id, parcel.stock_lines)
    if not missing_lines(parcel.stock_lines, shelf):
        _promise(work, parcel, warehouse_id, shelf)


@transaction
async def _tell_days(work: UnitOfWork) -> None:
    """One process at a time, so that each change of a day is told once."""
    await work.lock("days of what is awaited")
    rows = await work.rows(_QUEUE)
    known = {(row["order_id"], row["parcel"]): row["expected_on"] for row in rows}
    days = await _days(work, _queue(rows))
    for key in sorted(key for key, day in days.items() if day != known[key]):
        parcel = await work.get(Reservation, *key)
        event = parcel.expect(days[key]) if parcel else None
        if event is not None:
            outbox.add(work, event)


async def _days(work: UnitOfWork, queue: Sequence[Awaiting]) -> Mapping[ParcelKey, date | None]:
    return expected_days(queue, *await _supply(work, queue), utc_now().date())


async def _supply(work: UnitOfWork, queue: Sequence[Awaiting]) -> tuple[Available, list[Announced]]:
    """What there is, and what is announced, of what they wait for."""
    products = _products(queue)
    announced = [Announced(**dict(row)) for row in await work.rows(_ANNOUNCED, products=products)]
    return await _free(work, products), announced


async def _free(work: UnitOfWork, products: Collection[str]) -> dict[str, dict[str, int]]:
    free: dict[str, dict[str, int]] = {}
    for row in await work.rows(_FREE, products=list(products)):
        free.setdefault(row["warehouse_id"], {})[row["product_id"]] = row["units"]
    return free


def _queue(rows: Sequence[Mapping[str, Any]]) -> list[Awaiting]:
    return [
        Awaiting((row["order_id"], row["parcel"]), list(map(StockLine.model_validate, row["lines"])), row["warehouse_id"])
        for row in rows
    ]


def _products(queue: Sequence[Awaiting]) -> list[str]:
    return sorted({line.product_id for parcel in queue for line in parcel.lines})

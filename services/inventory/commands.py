"""What changes inventory. Each function is one transaction; each is idempotent.

Every command about a reservation locks its row first, then its stock, then (to reserve) the customer: they never wait for each
other in a circle, and what one of them reads of the row stays true until it commits.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.access import Grant
from chassis.database import Database, lock
from chassis.idempotency import IdempotencyKey
from contracts import inventory as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import StockLevelChanged
from contracts.inventory import ReleaseInventory, ReserveInventory, RestockInventory, ShipInventory, StockLine
from services.inventory.model import (
    PROMISED_UNITS,
    Movement,
    Reservation,
    Stock,
    Warehouse,
    idempotency,
    missing_lines,
    out_of_stock,
    outbox,
    require_within_limit,
    unknown_reservation,
)

_ADD = insert(Reservation).on_conflict_do_nothing().returning(Reservation)
_PROMISED = text("""
    select line.product_id, sum(line.quantity) as units
    from reservations, jsonb_to_recordset(lines) as line (product_id text, quantity int)
    where customer_id = :customer and status = 'RESERVED' and line.product_id = any(:products)
      and (order_id, parcel) <> (:order, :parcel)
    group by line.product_id
""")
"""What other reservations keep for a customer."""


async def reserve_inventory(
    database: Database, command: ReserveInventory, *, limit: int = PROMISED_UNITS
) -> contract.Reservation:
    """Promise every line at one warehouse, or nothing. `limit`: units of one product that a customer may be promised at a time.

    Refusals: out_of_stock, warehouse_unknown, purchase_limit, reservation_released.
    """
    async with database.transaction() as session:
        reservation, is_new = await _existing_or(session, Reservation.asked(command))
        reservation.require_not_released()
        if is_new:
            reservation.warehouse_id = command.warehouse_id or await _warehouse_with(session, command.lines)
            await _promise(session, reservation.warehouse_id, command.lines)
            if command.parcel == 1:  # what is sent again has been paid for, and is not refused
                await _require_within_limit(session, command, limit)
            await outbox.add(session, reservation.reserved())
        return reservation.reply()


async def release_inventory(database: Database, command: ReleaseInventory) -> contract.Reservation:
    """Undo of reserve, also of one that has not arrived yet. Refusal: reservation_shipped."""
    async with database.transaction() as session:
        reservation, _ = await _existing_or(session, Reservation.tombstone(command))
        event = reservation.release(command.reason)
        if event is not None:
            stock = await _stock_of(session, reservation)
            for line in event.lines:
                stock[line.product_id].release(line.quantity)
            await outbox.add(session, event)
        return reservation.reply()


async def ship_inventory(database: Database, command: ShipInventory) -> contract.Reservation:
    """Take what was promised off the shelf. Refusals: reservation_released, not_found."""
    async with database.transaction() as session:
        reservation = await _existing(session, command.order_id, command.parcel)
        if reservation.ship():
            stock = await _stock_of(session, reservation)
            changes = [stock[line.product_id].ship(line.quantity) for line in reservation.stock_lines]
            await _record(session, changes, reservation.reference)
        return reservation.reply()


async def restock_inventory(database: Database, command: RestockInventory) -> contract.Reservation:
    """Put what was shipped, and has come back, on the shelf again. Refusals: conflict, not_found."""
    async with database.transaction() as session:
        reservation = await _existing(session, command.order_id, command.parcel)
        event = reservation.restock(command.reason)
        if event is not None:
            stock = await _stock_of(session, reservation)
            changes = [stock[line.product_id].receive(line.quantity) for line in event.lines]
            await _record(session, changes, f"return of {reservation.reference}")
            await outbox.add(session, event)
        return reservation.reply()


async def put_warehouse(database: Database, caller: Grant, warehouse_id: str, name: str) -> Warehouse:
    """Add a warehouse, or rename it. Refusal: not_found, out of the caller's reach."""
    if not caller.reaches(warehouse=warehouse_id):
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such warehouse.")
    async with database.transaction() as session:
        return await session.merge(Warehouse(warehouse_id=warehouse_id, name=name))


async def receive_stock(
    database: Database,
    caller: Grant,
    warehouse_id: str,
    lines: Sequence[StockLine],
    key: IdempotencyKey,
    *,
    reference: str,
    low_stock_threshold: int | None = None,
) -> list[Stock]:
    """Put goods on the shelf, each product on one line; returns the levels after, in the order of the lines.

    `reference`: of the delivery note. Refusals: warehouse_unknown, conflict, idempotency_key_reused."""
    if not caller.reaches(warehouse=warehouse_id):
        raise unknown_warehouse(warehouse_id)
    async with database.transaction() as session:
        earlier = await idempotency.earlier_reply(session, key)
        if earlier is not None:
            return [Stock.model_validate(level) for level in earlier]
        if await session.get(Warehouse, warehouse_id) is None:
            raise unknown_warehouse(warehouse_id)
        # In the order in which they are locked below: two receipts of the same new products must not wait for each other.
        products = sorted(line.product_id for line in lines)
        rows = [{"warehouse_id": warehouse_id, "product_id": product} for product in products]
        blank = {"on_hand": 0, "reserved": 0, "low_stock_threshold": 0}
        await session.exec(insert(Stock).values([row | blank for row in rows]).on_conflict_do_nothing())
        stock = await _locked_stock(session, warehouse_id, lines)
        changes = [stock[line.product_id].receive(line.quantity) for line in lines]
        if low_stock_threshold is not None:
            for item in stock.values():
                item.low_stock_threshold = low_stock_threshold
        await _record(session, changes, reference)
        levels = [stock[line.product_id] for line in lines]
        await idempotency.remember(session, key, [level.model_dump() for level in levels])
        return levels


async def _promise(session: AsyncSession, warehouse_id: str, lines: Sequence[StockLine]) -> None:
    stock = await _locked_stock(session, warehouse_id, lines)
    short = missing_lines(lines, stock)
    if short:
        if not stock and await session.get(Warehouse, warehouse_id) is None:
            raise unknown_warehouse(warehouse_id)
        raise out_of_stock(short)
    alerts = [stock[line.product_id].reserve(line.quantity) for line in lines]
    await outbox.add(session, *[alert for alert in alerts if alert])


async def _require_within_limit(session: AsyncSession, command: ReserveInventory, limit: int) -> None:
    """Refusal: purchase_limit. Of a customer's orders at once, each waits here for the commit of the one before."""
    await lock(session, f"customer {command.customer_id}")
    which = {
        "customer": command.customer_id,
        "order": command.order_id,
        "parcel": command.parcel,
        "products": [line.product_id for line in command.lines],
    }
    promised = (await session.execute(_PROMISED, which)).all()
    require_within_limit(command.lines, {row.product_id: row.units for row in promised}, limit)


async def _record(session: AsyncSession, changes: Sequence[StockLevelChanged], reference: str) -> None:
    """Add changes of stock to the ledger, and tell of them."""
    session.add_all(
        Movement(warehouse_id=change.warehouse_id, product_id=change.product_id, change=change.change, reference=reference)
        for change in changes
    )
    await outbox.add(session, *changes)


async def _existing_or(session: AsyncSession, new: Reservation) -> tuple[Reservation, bool]:
    """The reservation of an order's parcel, locked: `new` is added if there was none. Returns whether it was. A concurrent maker
    of one is waited for."""
    added = (await session.scalars(_ADD, new.model_dump())).one_or_none()
    if added is not None:
        return added, True
    return await session.get_one(Reservation, (new.order_id, new.parcel), with_for_update=True), False


async def _existing(session: AsyncSession, order_id: UUID, parcel: int) -> Reservation:
    """The reservation of an order's parcel, locked. Refusal: not_found."""
    reservation = await session.get(Reservation, (order_id, parcel), with_for_update=True)
    if reservation is None:
        raise unknown_reservation()
    return reservation


async def _stock_of(session: AsyncSession, reservation: Reservation) -> dict[str, Stock]:
    return await _locked_stock(session, reservation.warehouse_id or "", reservation.stock_lines)


async def _locked_stock(session: AsyncSession, warehouse_id: str, lines: Sequence[StockLine]) -> dict[str, Stock]:
    """The stock of these lines, locked in one fixed order, so that two orders can never wait for each other."""
    products = [line.product_id for line in lines]
    query = (
        select(Stock)
        .where(Stock.warehouse_id == warehouse_id, col(Stock.product_id).in_(products))
        .order_by(Stock.product_id)
        .with_for_update()
    )
    return {stock.product_id: stock for stock in (await session.exec(query)).all()}


async def _warehouse_with(session: AsyncSession, lines: Sequence[StockLine]) -> str:
    """A warehouse that had every line when we looked. Refusal: out_of_stock, measured at the warehouse that has most lines."""
    wanted = {line.product_id: line.quantity for line in lines}
    query = select(Stock).where(col(Stock.product_id).in_(wanted)).order_by(Stock.warehouse_id)
    by_warehouse: dict[str, dict[str, Stock]] = {}
    for stock in (await session.exec(query)).all():
        by_warehouse.setdefault(stock.warehouse_id, {})[stock.product_id] = stock
        session.expunge(stock)  # read without a lock; `_promise` reads it again with one
    shortest = min(
        ((missing_lines(lines, stock), warehouse_id) for warehouse_id, stock in by_warehouse.items()),
        key=lambda option: (len(option[0]), option[1]),
        default=(missing_lines(lines, {}), ""),
    )
    if shortest[0]:
        raise out_of_stock(shortest[0])
    return shortest[1]


def unknown_warehouse(warehouse_id: str) -> Refusal:
    return Refusal(ErrorCode.WAREHOUSE_UNKNOWN, f"There is no warehouse {warehouse_id}.")

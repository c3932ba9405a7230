"""Reads of inventory."""

from uuid import UUID

from sqlalchemy import tuple_
from sqlmodel import col, select

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts import inventory as contract
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import MovementKind
from contracts.paging import Page
from services.inventory.model import Movement, Reservation, Stock, Warehouse, no_such_warehouse, unknown_reservation
from services.inventory.schemas import MovementView, StockView, WarehouseView


@may_lag
async def list_warehouses(database: Reader, caller: Grant, cursor: str | None, limit: int) -> Page[WarehouseView]:
    """Warehouses within the caller's reach, by id."""
    within_reach = caller.rows(warehouse=col(Warehouse.warehouse_id))
    query = select(Warehouse).where(within_reach).order_by(Warehouse.warehouse_id).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TEXT)
    if after:
        query = query.where(col(Warehouse.warehouse_id) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, WarehouseView.of, lambda row: (row.warehouse_id,))


@may_lag
async def list_stock(
    database: Reader,
    caller: Grant,
    *,
    warehouse_id: str | None,
    product_id: str | None,
    low: bool,
    cursor: str | None,
    limit: int,
) -> Page[StockView]:
    """Stock within the caller's reach, by warehouse and product; `low`: only what is at or under its alert threshold."""
    place = tuple_(col(Stock.warehouse_id), col(Stock.product_id))
    query = select(Stock).where(caller.rows(warehouse=col(Stock.warehouse_id))).order_by(place).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TEXT, KeyPart.TEXT)
    if after:
        query = query.where(place > after)
    if warehouse_id:
        query = query.where(Stock.warehouse_id == warehouse_id)
    if product_id:
        query = query.where(Stock.product_id == product_id)
    if low:
        query = query.where(col(Stock.on_hand) - col(Stock.reserved) <= col(Stock.low_stock_threshold))
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, StockView.of, lambda row: (row.warehouse_id, row.product_id))


async def get_warehouse(database: Database, caller: Grant, warehouse_id: str) -> WarehouseView:
    """Refusal: not_found."""
    async with database.reading() as session:
        warehouse = await session.get(Warehouse, warehouse_id) if caller.reaches(warehouse=warehouse_id) else None
    if warehouse is None:
        raise no_such_warehouse()
    return WarehouseView.of(warehouse)


async def get_stock(database: Database, caller: Grant, warehouse_id: str, product_id: str) -> StockView:
    """Refusal: not_found."""
    async with database.reading() as session:
        stock = await session.get(Stock, (warehouse_id, product_id)) if caller.reaches(warehouse=warehouse_id) else None
    if stock is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There has never been any of this product at this warehouse.")
    return StockView.of(stock)


async def list_movements(
    database: Database,
    caller: Grant,
    *,
    warehouse_id: str | None,
    product_id: str | None,
    kind: MovementKind | None,
    cursor: str | None,
    limit: int,
) -> Page[MovementView]:
    """The ledger within the caller's reach, newest first."""
    number = col(Movement.movement_id)
    query = select(Movement).where(caller.rows(warehouse=col(Movement.warehouse_id))).order_by(number.desc()).limit(limit + 1)
    before = decode_cursor(cursor, KeyPart.NUMBER)
    if before:
        query = query.where(number < before[0])
    if warehouse_id:
        query = query.where(Movement.warehouse_id == warehouse_id)
    if product_id:
        query = query.where(Movement.product_id == product_id)
    if kind:
        query = query.where(Movement.kind == kind)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, MovementView.of, lambda row: (row.movement_id,))


async def get_reservation(database: Database, order_id: UUID, parcel: int = 1) -> contract.Reservation:
    """What a parcel of an order has been promised. Refusal: not_found."""
    async with database.reading() as session:
        reservation = await session.get(Reservation, (order_id, parcel))
    if reservation is None:
        raise unknown_reservation()
    return reservation.reply()
